"""Messages between the processes of one run: a word, facts and arrays. Nothing that is sent is ever executed."""

import fcntl
import hmac
import json
import math
import os
import queue
import socket
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import numpy as np

TOKEN = "TRIZOO_TOKEN"  # the variable that holds what a run and its workers know each other by
LOCAL = "127.0.0.1"
PATIENCE = 10  # seconds for a stranger to say who it is, and for a silent connection to be given up
NONCE, PROOF = 32, 32  # bytes
LONGEST = 1 << 28  # bytes of a message's facts


class Message(NamedTuple):
    """What one process tells another."""

    what: str
    facts: dict
    arrays: dict[str, np.ndarray]


class Channel:
    """A connection to another process of the run, which has shown that it knows the run's token.

    A thread reads. When the other side has ended, or cannot be reached any more, `lost` is called there.
    """

    def __init__(self, connection: socket.socket):
        connection.settimeout(None)
        keep_alive(connection)
        self.connection = connection
        self.host = connection.getsockname()[0]  # this machine, as the other side knows it
        self.messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self.closed = False

    def watch(self, heard: Callable[[Message], bool], lost: Callable[[], None]) -> None:
        """Read from now on. A message that `heard` says True of is dealt with; others wait for `receive`."""

        def read() -> None:
            with suppress(OSError, ValueError):
                while True:
                    message = self._read()
                    if not heard(message):
                        self.messages.put(message)
            if not self.closed:
                lost()
            self.messages.put(None)

        threading.Thread(target=read, daemon=True).start()

    def send(self, what: str, facts: dict | None = None, arrays: dict | None = None) -> None:
        """Tell the other side; OSError if it cannot be reached."""
        arrays = {
            name: np.ascontiguousarray(array).reshape(np.shape(array))
            for name, array in (arrays or {}).items()
        }
        shapes = [[name, array.dtype.str, array.shape] for name, array in arrays.items()]
        head = json.dumps([what, facts or {}, shapes]).encode()
        self.connection.sendall(struct.pack("<Q", len(head)) + head)
        for array in arrays.values():
            if array.size:
                self.connection.sendall(memoryview(array.reshape(-1)).cast("B"))

    def receive(self) -> Message:
        """The next message; ConnectionError once the other side has ended."""
        message = self.messages.get()
        if message is None:
            self.messages.put(None)
            raise ConnectionError("the other side has ended")
        return message

    def close(self) -> None:
        """End the connection; nobody is told."""
        self.closed = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    def _read(self) -> Message:
        (length,) = struct.unpack("<Q", read_exactly(self.connection, 8))
        if length > LONGEST:
            raise ValueError(f"a message has facts of {length} bytes; at most {LONGEST} are read")
        what, facts, shapes = json.loads(read_exactly(self.connection, length))
        arrays = {}
        for name, kind, shape in shapes:
            if (dtype := np.dtype(kind)).kind not in "biuf":
                raise ValueError(f"a message has an array of {kind}; numbers are wanted")
            data = read_exactly(self.connection, dtype.itemsize * math.prod(shape))
            arrays[name] = np.frombuffer(data, dtype).reshape(shape)
        return Message(what, facts, arrays)


def listen(address: str | None) -> socket.socket:
    """A door for workers at `address`, HOST:PORT; None: a free one of this machine alone.

    Raises ValueError for what is no such address, OSError if it cannot be had.
    """
    host, port = split_address(address) if address else (LOCAL, 0)
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise OSError(
            f"no worker can be waited for at {host}:{port} ({error.strerror or error}); set backend.address to "
            "HOST:PORT, a name or number of this machine and a port that is free"
        ) from error


def accept(door: socket.socket, token: str, seconds: float) -> Channel | None:
    """The next worker at the `door`, if one comes within `seconds`; None for nobody, or one without the token."""
    door.settimeout(seconds)
    try:
        connection, _ = door.accept()
    except TimeoutError:
        return None
    try:
        connection.settimeout(PATIENCE)
        prove(connection, token, b"run", b"worker")
    except (OSError, PermissionError):
        connection.close()
        return None
    return Channel(connection)


def connect(address: str, token: str) -> Channel:
    """The run that waits for workers at `address`, HOST:PORT; OSError if there is none, or it has another token."""
    host, port = split_address(address)
    try:
        connection = socket.create_connection((host, port), PATIENCE)
    except OSError as error:
        raise OSError(
            f"no run waits for workers at {address} ({error.strerror or error}); start it first, with "
            f"backend.address={address}"
        ) from error
    connection.settimeout(60 * PATIENCE)  # it may still be importing its framework
    try:
        prove(connection, token, b"worker", b"run")
    except OSError as error:
        connection.close()
        raise OSError(
            f"the run at {address} does not take this worker; give both the same {TOKEN}, and start no more workers "
            "than backend.workers says"
        ) from error
    return Channel(connection)


def prove(connection: socket.socket, token: str, own: bytes, other: bytes) -> None:
    """Show that this side knows `token`, and see that the other does; PermissionError or OSError if not.

    The token itself is not sent: each side sends its HMAC of the random words of both.
    """

    def proof(role: bytes, *words: bytes) -> bytes:
        return hmac.digest(token.encode(), b"|".join([role, *words]), "sha256")

    mine = os.urandom(NONCE)
    connection.sendall(mine)
    theirs = read_exactly(connection, NONCE)
    connection.sendall(proof(own, mine, theirs))
    if not hmac.compare_digest(read_exactly(connection, PROOF), proof(other, theirs, mine)):
        raise PermissionError("the other side has another token")


def read_exactly(connection: socket.socket, length: int) -> bytearray:
    """So many bytes; ConnectionError if the connection ends before."""
    data = bytearray(length)
    view = memoryview(data)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise ConnectionError("the connection has ended")
        view = view[count:]
    return data


def keep_alive(connection: socket.socket) -> None:
    """Have the system find out within about `PATIENCE` seconds that the other machine is out of reach."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = "TCP_KEEPALIVE" if sys.platform == "darwin" else "TCP_KEEPIDLE"
    for name, value in ((idle, 4), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * PATIENCE)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT; ValueError for anything else."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 <= int(port) < 65536:
        raise ValueError(f"{address} is no address; give HOST:PORT, such as node7:29400")
    return host.strip("[]"), int(port)


def interface_of(address: str) -> str | None:
    """The network interface of this machine that has the host of `address`, HOST:PORT; None if none is found."""
    asked = 0xC0206921 if sys.platform == "darwin" else 0x8915  # SIOCGIFADDR
    host = address.rpartition(":")[0]
    for _, name in socket.if_nameindex():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as some, suppress(OSError):
            found = fcntl.ioctl(some.fileno(), asked, struct.pack("256s", name.encode()))
            if socket.inet_ntoa(found[20:24]) == host:
                return name
    return None


def free_port(host: str) -> int:
    """A port of this machine that is free now."""
    with socket.create_server((host, 0)) as door:
        return door.getsockname()[1]
