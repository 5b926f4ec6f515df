"""A local stand-in for the cutout services, which misbehaves on purpose and counts what it is asked.

It speaks the addresses of the SDSS service (JPEG), the Legacy Surveys' (JPEG, FITS of three bands)
and of a plain server of PNG files, and draws each galaxy from its address alone. As a program it
prints its address and serves until it is stopped:

    python tests/server.py --seed 1 --trouble 500=0.1 --trouble cut=0.1

There GET /log gives what `Sky.log` gives, as JSON.
"""

import argparse
import gzip
import hashlib
import io
import json
import socket
import struct
import threading
import time
from contextlib import contextmanager, suppress
from email.utils import formatdate
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image

SDSS = "/dr17/SkyServerWS/ImgCutout/getjpeg?ra={ra}&dec={dec}&scale={scale}&width={width}&height={width}"
LEGACY = "/viewer/jpeg-cutout?ra={ra}&dec={dec}&size={width}&layer=ls-dr9&pixscale={scale}"
FITS = "/viewer/fits-cutout?ra={ra}&dec={dec}&size={width}&layer=ls-dr9&pixscale={scale}&bands=grz"
PNG = "/images/{id}.png"
PNG_WIDTH = 256
PAUSE = 1  # seconds that a 429 asks for
SLOW = 0.3  # seconds
DRIP = 0.05  # seconds between the bytes of a body that never ends
PAGE = b"<!DOCTYPE html><html><body><h1>The service is busy</h1></body></html>"


class Request(NamedTuple):
    """One request, as the server saw it."""

    galaxy: str  # "ra,dec", or the id
    time: float  # monotonic
    did: str  # "ok", or the trouble that was made
    agent: str
    authorization: str | None = None


class Sky:
    """The server, in threads of this process, for the time of a `with`.

    `trouble` gives each kind of misbehaviour its share of requests, chosen by `seed`, the galaxy and
    how often it was asked for; after `most` troubles a galaxy is served. `script` says instead what
    happens to each request of a galaxy in turn ("*": of every galaxy), then it is served.
    """

    def __init__(self, trouble=None, seed=0, most=3, script=None, port=0):
        self.trouble, self.seed, self.most = dict(trouble or {}), seed, most
        self.script = script or {}
        self.mutex, self.log = threading.Lock(), []
        self.under_way = self.peak = 0
        self.closing = threading.Event()
        self.server = Server(("127.0.0.1", port), Answer)
        self.server.sky = self
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()
        return self

    def __exit__(self, *problem):
        self.closing.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def times(self):
        """When the requests came, in seconds, in order."""
        return sorted(request.time for request in self.log)

    def asked(self, *did):
        """How often each galaxy was asked for, where the answer was one of `did` (none: any)."""
        counts = {}
        for request in list(self.log):
            if not did or request.did in did:
                counts[request.galaxy] = counts.get(request.galaxy, 0) + 1
        return counts

    def choose(self, galaxy, agent, authorization=None):
        """What is done to this request; it is noted."""
        with self.mutex:
            before = sum(request.galaxy == galaxy for request in self.log)
            did = self.decide(galaxy, before)
            self.log.append(Request(galaxy, time.monotonic(), did, agent, authorization))
        return did

    def decide(self, galaxy, before):
        script = self.script.get(galaxy, self.script.get("*"))
        if script is not None:
            return script[before] if before < len(script) else "ok"
        if before >= self.most:
            return "ok"
        chance = unit(f"{self.seed} {galaxy} {before}")
        for kind, share in self.trouble.items():
            chance -= share
            if chance < 0:
                return kind
        return "ok"

    @contextmanager
    def counted(self):
        with self.mutex:
            self.under_way += 1
            self.peak = max(self.peak, self.under_way)
        ended = []

        def end():
            if not ended:
                ended.append(True)
                with self.mutex:
                    self.under_way -= 1

        try:
            yield end
        finally:
            end()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    sky: Sky

    def handle_error(self, request, client_address):
        pass  # clients that are killed leave in the middle


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format, *arguments):
        pass

    def do_GET(self):
        sky = self.server.sky
        if self.path == "/log":
            return self.send(200, json.dumps([r._asdict() for r in sky.log]).encode(), "text/json")
        if (found := galaxy_at(self.path)) is None:
            return self.send(404, b"no such page", "text/plain")
        galaxy, kind, width = found
        identity = self.headers.get("User-Agent", ""), self.headers.get("Authorization")
        did = sky.choose(galaxy, *identity)
        with sky.counted() as self.end:
            self.misbehave(did, galaxy, kind, width)

    def misbehave(self, did, galaxy, kind, width):
        body = render(galaxy, kind, width)
        match did:
            case "ok":
                self.send(200, body, TYPES[kind])
            case "slow":
                self.server.sky.closing.wait(SLOW)
                self.send(200, body, TYPES[kind])
            case "close":  # no length: the end of the connection is the end of the body
                self.end_with(200, {"Connection": "close"}, body)
            case "chunked":
                halves = body[: len(body) // 2], body[len(body) // 2 :], b""
                chunks = b"".join(b"%x\r\n%b\r\n" % (len(half), half) for half in halves)
                self.end_with(200, {"Transfer-Encoding": "chunked"}, chunks)
            case "429":
                self.send(429, PAGE, "text/html", {"Retry-After": str(PAUSE)})
            case "429date":
                when = formatdate(time.time() + PAUSE + 1, usegmt=True)
                self.send(429, PAGE, "text/html", {"Retry-After": when})
            case "429day":
                self.send(429, PAGE, "text/html", {"Retry-After": "86400"})
            case "cut":  # as long as it says, but not the whole image
                self.send(200, body[: len(body) // 2], TYPES[kind])
            case "short":  # less than it says
                self.end_with(200, {"Content-Length": len(body)}, body[: len(body) // 2])
            case "html":
                self.send(200, PAGE, "text/html")
            case "size":
                self.send(200, render(galaxy, kind, width + 8), TYPES[kind])
            case "reset":
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
                self.connection.close()
            case "silent":
                self.server.sky.closing.wait(30)
                self.close_connection = True
            case "drip":
                self.endless(b"x", DRIP)
            case "endless":
                self.endless(b"x" * 65536, 0)
            case "drip-status":
                self.endless(b"x", DRIP, b"HTTP/1.1 200 ")
            case "drip-header":
                self.endless(b"x", DRIP, b"HTTP/1.1 200 OK\r\nX-Never-Ends: ")
            case "drip-continue":
                self.endless(b"HTTP/1.1 100 Continue\r\n\r\n", DRIP, b"")
            case "continue":
                self.endless(b"HTTP/1.1 100 Continue\r\n\r\n", 0, b"")
            case "headers":
                self.endless(b"X-Another: one\r\n", 0, b"HTTP/1.1 200 OK\r\n")
            case "long-header":
                self.endless(b"x" * 4096, 0, b"HTTP/1.1 200 OK\r\nX-Long: ")
            case "drip-chunk":
                self.endless(b"0", DRIP, CHUNKED)
            case "drip-trailer":
                whole = b"%x\r\n%b\r\n0\r\n" % (len(body), body)
                self.endless(b"X-Trailer: one\r\n", DRIP, CHUNKED + whole)
            case "gzip":
                self.send(200, gzip.compress(body), TYPES[kind], {"Content-Encoding": "gzip"})
            case "huge":
                self.end_with(200, {"Content-Length": 1 << 40}, b"")
            case "moved":
                self.send(302, b"", "text/plain", {"Location": f"/images/{galaxy}-moved.png"})
            case "circle":
                self.send(302, b"", "text/plain", {"Location": self.path})
            case "leave":
                self.send(302, b"", "text/plain", {"Location": "file:///etc/passwd"})
            case _ if did.startswith("to "):
                self.send(302, b"", "text/plain", {"Location": did[3:]})
            case _:
                self.send(int(did), PAGE, "text/html")

    def send(self, status, body, kind, headers=None):
        self.send_response(status)
        for name, value in (
            {"Content-Type": kind, "Content-Length": len(body)} | (headers or {})
        ).items():
            self.send_header(name, str(value))
        self.end_headers()
        # It no longer counts before its last bytes leave, so that the client's next one cannot overlap.
        getattr(self, "end", lambda: None)()
        self.wfile.write(body)

    def end_with(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def endless(self, piece, pause, start=b"HTTP/1.1 200 OK\r\n\r\n"):
        self.close_connection = True
        with suppress(OSError):
            self.wfile.write(start)
            while not self.server.sky.closing.wait(pause):
                self.wfile.write(piece)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TYPES = {"jpeg": "image/jpeg", "png": "image/png", "fits": "image/fits"}


def galaxy_at(path):
    """The galaxy that `path` asks for, the kind of its image and its width; None: no such page."""
    parts = urlsplit(path)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    if parts.path.startswith("/images/") and parts.path.endswith(".png"):
        return parts.path[8:-4], "png", PNG_WIDTH
    if parts.path.endswith("/ImgCutout/getjpeg") and query["width"] == query["height"]:
        return f"{query['ra']},{query['dec']}", "jpeg", int(query["width"])
    if parts.path == "/viewer/jpeg-cutout":
        return f"{query['ra']},{query['dec']}", "jpeg", int(query["size"])
    if parts.path == "/viewer/fits-cutout" and query["bands"] == "grz":
        return f"{query['ra']},{query['dec']}", "fits", int(query["size"])
    return None


def unit(text):
    """A number from 0 to 1 that is a function of `text`."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48


@lru_cache(maxsize=512)
def render(galaxy, kind, width):
    """The bytes of `galaxy`'s image: an ellipse of its own shape, size and colours."""
    turn, flat, size, *tint = (unit(f"{galaxy} {n}") for n in range(6))
    y, x = np.mgrid[:width, :width] - (width - 1) / 2
    along, across = (
        np.cos(3 * turn) * x + np.sin(3 * turn) * y,
        np.cos(3 * turn) * y - np.sin(3 * turn) * x,
    )
    radius = np.hypot(along, across / (0.3 + 0.7 * flat)) / (width * (0.05 + 0.1 * size))
    planes = np.exp(-radius) * (0.5 + 0.5 * np.array(tint))[:, None, None]
    if kind == "fits":
        return fits_of(planes + 0.01)
    file = io.BytesIO()
    pixels = np.moveaxis(np.rint(250 * planes), 0, -1).astype(np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def fits_of(planes):
    from astropy.io import fits

    file = io.BytesIO()
    fits.PrimaryHDU(planes.astype(np.float32)).writeto(file)
    return file.getvalue()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", nargs="?", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=3)
    parser.add_argument("--trouble", action="append", default=[], metavar="KIND=SHARE")
    options = parser.parse_args()
    shares = {kind: float(share) for kind, share in (pair.split("=") for pair in options.trouble)}
    with Sky(shares, options.seed, options.most, port=options.port) as sky:
        print(sky.address, flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
