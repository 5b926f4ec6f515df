"""The page on which people label, served to this machine alone unless label.host says otherwise.

Whoever may ask: a request's Host must be an address, localhost or a name of this machine, so that no web site can have
its own name point here (DNS rebinding); one that writes must come from a page of this server (Origin); and where
label.host is given, all need the token of the link that is printed, which a cookie then keeps. A request names a
galaxy by its number, and files by names that are known beforehand, never by a path.
"""

import hmac
import io
import ipaddress
import json
import os
import re
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from shared.data.store import Images
from shared.output.labelling import Room
from shared.run.spec import LabelSpec

PAGE = Path(__file__).parent / "label_page"
FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
}
LARGEST = 4096  # bytes of a request's body
TOKEN, COOKIE = ".label-token", "trizoo_label"  # a file of the run's folder; a cookie
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
NAME = re.compile(r"\S(.{0,58}\S)?")  # of a person
KEY = re.compile(r"[0-9a-f]{16,64}")  # of an event
TEXTS = ("event", "key", "question", "answer", "of")


def page(room: Room, images: Images, token: str | None, host: str | None) -> Any:
    """The ASGI application that serves `room`, in which people label `images`; `token` is needed, if there is one."""
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, RedirectResponse, Response
    from starlette.routing import Route

    def refused(status: int, why: str) -> Response:
        return JSONResponse({"error": why}, status)

    async def body(request: Request) -> dict:
        """What a request that writes says; ValueError for what is none of ours, or too long."""
        content = b""
        async for chunk in request.stream():
            content += chunk
            if len(content) > LARGEST:
                raise ValueError(f"more than {LARGEST} bytes")
        found = json.loads(content)
        if not isinstance(found, dict):
            raise ValueError("no object")
        return found

    async def do(function: Callable, *given) -> Response:
        try:
            return JSONResponse(await run_in_threadpool(function, *given))
        except ValueError as error:
            return refused(400, str(error))
        except OSError as error:
            return refused(503, f"not written: {error}")

    async def file(request: Request) -> Response:
        name = request.url.path.removeprefix("/")
        if token is not None and name == "" and same(request.query_params.get("token", ""), token):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(COOKIE, token, path="/", httponly=True, samesite="strict")
            return answer
        where, kind = FILES[name]
        return Response((PAGE / where).read_bytes(), media_type=kind)

    async def image(request: Request) -> Response:
        row = request.path_params["row"]
        if row >= len(images):
            return refused(404, "no such galaxy")
        data = await run_in_threadpool(png, np.asarray(images[row]))
        return Response(data, media_type="image/png")

    async def arrive(request: Request) -> Response:
        return await do(room.arrive, person(await body(request)))

    async def state(request: Request) -> Response:
        return await do(room.state, person(await body(request)))

    async def label(request: Request) -> Response:
        given = await body(request)
        row, event = given.get("row"), {name: given[name] for name in TEXTS if name in given}
        if type(row) is not int or not all(isinstance(value, str) for value in event.values()):
            raise ValueError("an event has a row and texts")
        if not KEY.fullmatch(event.get("key", "")):
            raise ValueError("an event has a key of 16 to 64 hexadecimal digits")
        return await do(room.enter, person(given), row, event)

    async def finish(request: Request) -> Response:
        await body(request)
        if room.kind != "random":
            return refused(409, "this run waits for all these labels; stop it with Ctrl-C")
        room.finish()
        return JSONResponse({"finished": True})

    def forbidden(request: Request) -> Response | None:
        asked = request.headers.get("host", "")
        if not known_host(asked, host):
            return refused(421, f"this server is not called {asked!r}")
        if request.method == "POST":
            if urlsplit(request.headers.get("origin", "")).netloc != asked:
                return refused(403, "only a page of this server may write")
            if request.headers.get("content-type", "").split(";")[0] != "application/json":
                return refused(415, "only JSON is read")
        given = request.cookies.get(COOKIE, "")
        opens = request.query_params.get("token", "") if request.url.path == "/" else ""
        if token is not None and not (same(given, token) or same(opens, token)):
            return refused(401, "open the link that trizoo label printed, with its token")
        return None

    def guarded(endpoint: Callable) -> Callable:
        async def checked(request: Request) -> Response:
            try:
                answer = forbidden(request) or await endpoint(request)
            except (ValueError, RecursionError, ClientDisconnect) as error:
                answer = refused(400, str(error))
            answer.headers.update(HEADERS)
            return answer

        return checked

    async def nothing(request: Request, problem: Exception) -> Response:
        status = getattr(problem, "status_code", 500)
        return JSONResponse({"error": "there is nothing here"}, status, HEADERS)

    routes = [
        Route("/image/{row:int}", guarded(image)),
        *(Route(f"/{name}", guarded(file)) for name in FILES),
        *(
            Route(f"/{one.__name__}", guarded(one), methods=["POST"])
            for one in (arrive, state, label, finish)
        ),
    ]
    return Starlette(routes=routes, exception_handlers={404: nothing, 405: nothing})


def same(one: str, other: str) -> bool:
    """Whether two secrets are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())


def person(given: dict) -> str:
    """Who a request is of; ValueError for a name that is none."""
    who = given.get("who")
    if not isinstance(who, str) or not NAME.fullmatch(who) or not who.isprintable():
        raise ValueError("a name has 1 to 60 characters, no control characters among them")
    return who


def known_host(asked: str, host: str | None) -> bool:
    """Whether `asked`, a request's Host, is an address, localhost, `host` or a name of this machine."""
    try:
        name = urlsplit(f"//{asked}").hostname or ""
    except ValueError:
        return False
    own = socket.gethostname().lower()
    if name in ("localhost", own, f"{own}.local", (host or "localhost").lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def png(pixels: np.ndarray) -> bytes:
    """The PNG file of an image uint8 (y, x, channel)."""
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(
        file, "PNG", compress_level=0
    )
    return file.getvalue()


def check_installed() -> None:
    """Raise ValueError unless what serves the page is installed."""
    try:
        for name in ("starlette.applications", "uvicorn"):
            import_module(name)
    except ImportError as problem:
        raise ValueError(
            f"the page needs Starlette and uvicorn, which are not there ({problem}); pip install 'trizoo[label]'"
        ) from problem


@contextmanager
def serving(room: Room, images: Images, spec: LabelSpec, folder: Path) -> Iterator[str]:
    """Serve `room` from a thread; gives the link to open.

    Raises ValueError if the port is taken or the address is not this machine's.
    """
    import uvicorn

    token = None if spec.host is None else kept_token(folder / TOKEN)
    listener = listen(spec.host or "127.0.0.1", spec.port)
    address, port = listener.getsockname()[:2]
    name = spec.host or address
    if name in ("0.0.0.0", "::"):
        name = socket.gethostname()
    link = f"http://{f'[{name}]' if ':' in name else name}:{port}/"
    config = uvicorn.Config(
        page(room, images, token, spec.host),
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        limit_concurrency=256,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield link if token is None else f"{link}?token={token}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at `host` and `port`; ValueError, saying what to do, where that is not possible."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(
            f"label.host is {host}, which is no address ({error}); give one of this machine, such as 0.0.0.0"
        ) from error
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(128)
    except OSError as error:
        found.close()
        raise ValueError(
            f"the page cannot be served at {host}, port {port} ({error.strerror}); end what is there, or give another "
            "label.port (0: any that is free), or a label.host of this machine"
        ) from error
    return found


def kept_token(path: Path) -> str:
    """The token in the file at `path`, which only its owner may read; made where there is none."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if re.fullmatch(r"[\w-]{32,64}", found := path.read_text()):
            return found
        path.unlink()
        return kept_token(path)
    os.write(file, (found := secrets.token_urlsafe(24)).encode())
    os.close(file)
    return found
