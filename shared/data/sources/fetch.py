"""Fetching politely: a few requests at once, so many in a second, again after what may pass, never what is there."""

import hashlib
import http.client
import io
import json
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, suppress
from email.utils import parsedate_to_datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, metadata
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from PIL import Image as Pillow

from shared.data import cutouts
from shared.data.sources.downloads import (
    MANIFEST,
    MISSING,
    Download,
    append_line,
    file_name,
    now,
    read_lines,
    stem,
)
from shared.run import credentials
from shared.run.progress import say
from shared.run.records import write_json, write_whole
from shared.run.spec import DatasetSpec, ServiceSpec

BACK_OFF = 1.0  # seconds before the second attempt; before each further one, twice as long
LONGEST_BACK_OFF = 60.0  # seconds
LONGEST_PAUSE = 3600.0  # seconds; a service that asks for more is left alone
SAID_PAUSE = 10.0  # seconds; a longer pause is reported
WHOLE_ANSWER = 10.0  # timeouts that an answer may take from its first line to its last byte
REDIRECTS = 3
LONGEST_REASON = 300  # characters
HOPELESS = 20  # requests without any answer, or images in a row lost to trouble, that end it all
JOINING = 2.0  # seconds that an interrupted load waits for its threads


class _Lost(Exception):
    """An image that cannot be had, and why; what a server says of it is shown as text and without secrets."""

    def __init__(self, reason: str):
        text = credentials.redacted(reason)[:LONGEST_REASON]
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in text))


class _Trouble(_Lost):
    """What may pass. `token` names an answer that is final when it comes a second time."""

    def __init__(self, reason: str, token: str | None = None):
        super().__init__(reason)
        self.token = token


class _Unusable(_Trouble):
    """An image that is refused; if the same comes again it is meant, and the service is well."""


class _Busy(_Trouble):
    """The service wants to be left alone by all, for `seconds` if it says how long."""

    def __init__(self, reason: str, seconds: float):
        super().__init__(reason)
        self.seconds = seconds


class _Stopped(Exception):
    """The load was closed."""


class _Pace:
    """When the next request may begin: so many in a second, and none while the service rests."""

    def __init__(self, per_second: float, stop: threading.Event):
        self.gap, self.stop = 1 / per_second, stop
        self.turn, self.mutex = threading.Lock(), threading.Lock()
        self.next = self.until = 0.0

    def wait(self) -> None:
        """Return when a request may begin; raises _Stopped."""
        with self.turn:
            while (left := max(self.next, self.until) - time.monotonic()) > 0:
                if self.stop.wait(left):
                    break
            if self.stop.is_set():
                raise _Stopped
            self.next = time.monotonic() + self.gap

    def rest(self, seconds: float, why: str) -> None:
        """Let no request begin for `seconds`."""
        if seconds > LONGEST_PAUSE:
            raise ConnectionError(
                f"{why}, for {seconds:.0f} seconds; what was fetched is kept: go on after that"
            )
        with self.mutex:
            until = time.monotonic() + seconds
            if seconds > SAID_PAUSE and until > self.until + SAID_PAUSE:
                say(f"{why}; pausing for {seconds:.0f} s")
            self.until = max(self.until, until)


class _Timed(io.RawIOBase):
    """What comes through `sock`, for WHOLE_ANSWER of its timeouts: http.client waits so long for each byte.

    So it would for ever, where bytes keep coming: a status line or headers that drip, one `100 Continue` after
    another, a chunk's length or a trailer without end.
    """

    def __init__(self, sock: socket.socket):
        self.sock, self.bytes = sock, sock.makefile("rb", buffering=0)
        self.patience = sock.gettimeout()
        self.end = time.monotonic() + WHOLE_ANSWER * self.patience

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int | None:
        left = self.end - time.monotonic()
        if left <= 0:
            raise ConnectionError(f"it was not whole after {WHOLE_ANSWER * self.patience:.0f} s")
        self.sock.settimeout(min(left, self.patience))
        return self.bytes.readinto(buffer)

    def close(self) -> None:
        self.bytes.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock, *arguments, **settings):
        super().__init__(sock, *arguments, **settings)
        self.fp.close()
        self.fp = io.BufferedReader(_Timed(sock))


class _Connection(urllib3.connection.HTTPConnection):
    response_class = _Answer


class _SecureConnection(urllib3.connection.HTTPSConnection):
    response_class = _Answer


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class Fetch:
    """The threads of one load, and what they share."""

    def __init__(self, dataset: DatasetSpec, folder: Path, addresses: list[str]):
        self.dataset, self.service, self.folder = dataset, dataset.service, folder
        self.jobs, self.todo = deque(addresses), len(addresses)
        self.done: SimpleQueue = SimpleQueue()  # small: the images themselves are on the disk
        self.stop, self.mutex = threading.Event(), threading.Lock()
        self.problem: BaseException | None = None
        self.pace = _Pace(self.service.per_second, self.stop)
        self.answered, self.unanswered, self.lost = False, 0, 0
        self.headers = {
            "User-Agent": _user_agent(self.service.contact),
            "Accept-Encoding": "identity",
        }
        self.authorization = credentials.authorization(urlsplit(str(dataset.images)).hostname or "")
        self.pool = _pool(str(dataset.images), self.service, self.headers)
        # Daemons: a program that is told to end does not wait for a silent service.
        self.threads = [
            threading.Thread(target=self._work, name="fetch", daemon=True)
            for _ in range(min(self.service.at_once, self.todo))
        ]

    def start(self, wanted: dict[str, list[int]]) -> None:
        """Begin; what was missing among `wanted` is no longer, for it is asked for again."""
        source = {
            "where": self.dataset.images,
            "licence": self.dataset.licence,
            "user_agent": self.headers["User-Agent"],
        }
        write_json(self.folder / "source.json", source)
        if (self.folder / MISSING).exists():
            lost = read_lines(self.folder / MISSING, {"address": str})
            lines = [line for line in lost if line["address"] not in wanted]
            text = "".join(json.dumps(line) + "\n" for line in lines)
            write_whole(self.folder / MISSING, lambda beside: beside.write_text(text))
        for thread in self.threads:
            thread.start()

    def check(self) -> None:
        """Raise what ended the fetching, if anything did."""
        if self.problem is not None:
            raise self.problem

    def outcomes(self) -> Iterator[tuple[str, Download | str]]:
        """Each address, when it is done, and its download or why there is none."""
        for _ in range(self.todo):
            done = self.done.get()
            self.check()
            yield done

    def close(self) -> None:
        """Let nothing more be kept, and the threads end; one that waits for an answer ends later."""
        with self.mutex:
            self.stop.set()
        end = time.monotonic() + JOINING
        for thread in self.threads:
            if thread.ident is not None:
                thread.join(max(0, end - time.monotonic()))
        self.pool.clear()

    def _work(self) -> None:
        try:
            while not self.stop.is_set() and self.jobs:
                address = self.jobs.popleft()
                self.done.put((address, self._outcome(address)))
        except (_Stopped, IndexError):  # another thread took the last
            pass
        except BaseException as problem:  # goes on in the thread that loads
            self.problem = self.problem or problem
            self.stop.set()
            self.done.put(None)

    def _outcome(self, address: str) -> Download | str:
        try:
            return self._adopted(address) or self._fetched(address)
        except _Lost as problem:
            entry = {"address": address, "reason": str(problem), "time": now()}
            with self.mutex:
                if self.stop.is_set():
                    raise _Stopped from None
                append_line(self.folder / MISSING, entry)
            if isinstance(problem, _Trouble):
                self._count_lost(str(problem))
            return str(problem)

    def _adopted(self, address: str) -> Download | None:
        """The image of `address` that a killed process kept but did not note; None: there is none."""
        for suffix in cutouts.SUFFIXES:
            path = self.folder / file_name(stem(address), suffix)
            if path.is_file():
                data = path.read_bytes()
                with suppress(_Lost):  # then it is fetched again
                    self._suffix(data)
                    return self._note(address, data, suffix, attempts=None)
        return None

    def _fetched(self, address: str) -> Download:
        seen: set[str | None] = set()
        for attempt in count(1):
            try:
                data = self._ask(address)
                return self._keep(address, data, self._suffix(data), attempt)
            except _Trouble as trouble:
                longest = min(LONGEST_BACK_OFF, BACK_OFF * 2 ** (attempt - 1))
                wait = longest * random.uniform(0.5, 1.5)
                if isinstance(trouble, _Busy):
                    host = urlsplit(address).hostname
                    self.pace.rest(max(wait, trouble.seconds), f"{host}: {trouble}")
                    wait = 0
                if attempt >= self.service.attempts or trouble.token in seen:
                    kind = _Lost if isinstance(trouble, _Unusable) else _Trouble
                    raise kind(f"{trouble} (the last of {attempt} attempts)") from trouble
                seen |= {trouble.token} - {None}
                self.stop.wait(wait)
        raise AssertionError("count does not end")

    def _ask(self, address: str) -> bytes:
        """The body that `address` gives now; raises _Trouble or _Lost."""
        url = address
        for _ in range(REDIRECTS + 1):
            self.pace.wait()
            try:
                answer = self._open(url, address)
                self.answered = True
                with closing(answer):
                    location = answer.get_redirect_location()
                    if not location:
                        _check_status(answer)
                        return self._body(answer)
            except urllib3.exceptions.HTTPError as problem:
                self._count_unanswered(problem)
                raise _Trouble(f"no whole answer ({problem})") from problem
            url = _redirected(url, location)
        raise _Lost(f"it is redirected more than {REDIRECTS} times")

    def _open(self, url: str, address: str) -> urllib3.BaseHTTPResponse:
        """The answer to `url` so far; only the host of `address` gets the authorization."""
        headers = self.headers
        if self.authorization and _origin(url) == _origin(address):
            headers = headers | {"Authorization": self.authorization}
        return self.pool.request(
            "GET", url, headers=headers, redirect=False, preload_content=False, decode_content=False
        )

    def _body(self, answer: urllib3.BaseHTTPResponse) -> bytes:
        body = bytearray()
        while piece := answer.read1(1 << 16):
            body += piece
            if len(body) > cutouts.LARGEST_FILE:
                raise _Trouble(f"over {cutouts.LARGEST_FILE} bytes", "large")
            if self.stop.is_set():
                raise _Stopped
        return bytes(body)

    def _suffix(self, data: bytes) -> str:
        """The suffix of an image that is whole and of the right size; raises _Trouble otherwise."""
        suffix = _kind(data)
        if suffix is None:  # the page of a busy service, perhaps
            raise _Trouble(f"no JPEG, PNG or FITS: it begins with {data[:40]!r}")
        try:
            cutouts.cutout(data, self.dataset.channels, self.dataset.stretch, self.dataset.hdu)
        except ValueError as problem:  # if the same comes again, it is meant
            raise _Unusable(str(problem), hashlib.sha256(data).hexdigest()) from problem
        width, height = _size(data, suffix)
        if not width == height == self.service.width:
            wanted = self.service.width
            reason = f"{width} x {height} pixels instead of {wanted} x {wanted}"
            raise _Trouble(f"{reason}; set dataset.service.width if that is right", "size")
        return suffix

    def _keep(self, address: str, data: bytes, suffix: str, attempts: int) -> Download:
        path = self.folder / file_name(stem(address), suffix)
        with self.mutex:
            if self.stop.is_set():
                raise _Stopped
            write_whole(path, lambda beside: beside.write_bytes(data))
        return self._note(address, data, suffix, attempts)

    def _note(self, address: str, data: bytes, suffix: str, attempts: int | None) -> Download:
        image = Download(file_name(stem(address), suffix), hashlib.sha256(data).hexdigest())
        entry = {
            "address": address,
            "file": image.file,
            "bytes": len(data),
            "sha256": image.sha256,
            "time": now(),
            "attempts": attempts,
        }
        with self.mutex:
            if self.stop.is_set():
                raise _Stopped
            append_line(self.folder / MANIFEST, entry)
            self.lost = 0
        return image

    def _count_unanswered(self, problem: Exception) -> None:
        with self.mutex:
            self.unanswered += 1
            hopeless = not self.answered and self.unanswered >= HOPELESS
        if hopeless:
            host = urlsplit(str(self.dataset.images)).netloc
            raise ConnectionError(
                f"{host} did not answer any of {self.unanswered} requests ({problem}); check "
                "dataset.images and the network"
            ) from problem

    def _count_lost(self, reason: str) -> None:
        with self.mutex:
            self.lost += 1
            hopeless = self.lost >= HOPELESS
        if hopeless:
            raise ConnectionError(
                f"the last {self.lost} images could not be had ({reason}); what was fetched is "
                f"kept in {self.folder}: go on when the service is well"
            )


def _pool(address: str, service: ServiceSpec, headers: dict[str, str]) -> urllib3.PoolManager:
    """Connections to the host of `address`, by the proxy that the environment names, if any."""
    parts = urlsplit(address)
    proxy = None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
    kind = urllib3.PoolManager if proxy is None else partial(urllib3.ProxyManager, proxy)
    timeout = urllib3.Timeout(connect=service.timeout, read=service.timeout)
    # Its own retries are off: they know no pause that all threads keep, no answer that counts as bad by its image, and
    # no end but their own.
    pool = kind(maxsize=service.at_once, timeout=timeout, headers=headers, retries=False)
    pool.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
    return pool


def _origin(url: str) -> tuple:
    parts = urllib3.util.parse_url(url)
    return parts.scheme, parts.host, parts.port


def _redirected(url: str, location: str) -> str:
    """Where `location`, which the answer to `url` gave, leads; raises _Lost where that is nowhere to go."""
    try:
        target = urljoin(url, location)
        parts = urllib3.util.parse_url(target)
    except ValueError as problem:
        raise _Lost(f"it is redirected to {location}, which is no address") from problem
    allowed = ("https",) if url.startswith("https:") else ("http", "https")
    if parts.scheme not in allowed:
        raise _Lost(f"it is redirected to {target}, which is not {' or '.join(allowed)}")
    if parts.auth is not None or not parts.host:
        raise _Lost(f"it is redirected to {target}, which has no host, or a user name before it")
    return parts.url


def _user_agent(contact: str | None) -> str:
    """Who asks: this program, its version, its page if it has one, and whom to write to."""
    try:
        package = metadata("trizoo")
        pages = [page.partition(", ")[2] for page in package.get_all("Project-URL") or []]
        name = f"trizoo/{package['Version']}"
    except PackageNotFoundError:
        name, pages = "trizoo", []
    who = [f"+{page}" for page in pages[:1]] + ([contact] if contact else [])
    return f"{name} ({'; '.join(who)})" if who else name


def _check_status(answer: urllib3.BaseHTTPResponse) -> None:
    status = f"HTTP status {answer.status} {answer.reason or ''}".strip()
    if answer.status == 200:
        return
    if answer.status == 429 or (answer.status >= 500 and "Retry-After" in answer.headers):
        raise _Busy(status, _retry_after(answer.headers.get("Retry-After", "")))
    if answer.status == 408 or answer.status >= 500:
        raise _Trouble(status)
    raise _Lost(status)


def _retry_after(value: str) -> float:
    """The seconds that a Retry-After header asks for, in seconds or by a date; 0 if it does not."""
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def _kind(data: bytes) -> str | None:
    starts: dict[bytes, str] = {b"\xff\xd8": ".jpg", b"\x89PNG": ".png", b"SIMPLE": ".fits"}
    return next((suffix for start, suffix in starts.items() if data.startswith(start)), None)


def _size(data: bytes, suffix: str) -> tuple[int, int]:
    """Width and height of an image that has been decoded already."""
    if suffix != ".fits":
        with Pillow.open(io.BytesIO(data)) as picture:
            return picture.size
    from astropy.io import fits  # slow to import

    with fits.open(io.BytesIO(data), memmap=False) as units:
        shape = next(unit.shape for unit in units if unit.is_image and unit.shape)
    return shape[-1], shape[-2]
