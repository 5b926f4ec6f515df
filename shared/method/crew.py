"""The workers of a run: how they start, know each other, join, and end together."""

import atexit
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from socket import socket

from shared.method.backend import Backend, import_backend, suppress_stderr
from shared.run.channel import (
    PATIENCE,
    TOKEN,
    Channel,
    Message,
    accept,
    connect,
    free_port,
    listen,
)
from shared.run.errors import REFUSED, complain, explain
from shared.run.launch import GOES_ON, bind_cores, settings, start_worker
from shared.run.progress import say
from shared.run.spec import BackendSpec, from_config, to_config


class Crew:
    """The other workers of a run, as its own process has them: connections, and processes that it started."""

    def __init__(self, spec: BackendSpec):
        self.spec = spec
        self.channels: list[Channel] = []
        self.started: list[subprocess.Popen] = []
        self.busy = False  # at a call that all are at
        self.broken = False  # some may be at a call that others have left
        self.trouble, self.lost = "", threading.Event()
        self.joined = False
        self.backend: Backend = import_backend(spec.name)

    def meet(self, door: socket, token: str) -> None:
        """Wait until all have come to the `door`, and have all join one group of the framework's own."""
        while len(self.channels) < self.spec.workers - 1:
            if (channel := accept(door, token, 0.2)) is not None:
                number = len(self.channels) + 1
                self.channels.append(channel)
                channel.watch(partial(self._heard, number), partial(self._gone, number))
                channel.send("welcome", {"backend": to_config(self.spec), "number": number})
            if any(child.poll() is not None for child in self.started):
                self.lost.wait(1)
                raise OSError(self.trouble or "a worker ended before it had joined")
        with self.watched():
            own = f"{self.channels[0].host}:{free_port(self.channels[0].host)}"
            answers = [channel.receive() for channel in self.channels]
            addresses = [own, *(answer.facts["address"] for answer in answers)]
            for channel in self.channels:
                channel.send("join", {"addresses": addresses})
            join(self.spec, 0, addresses)
            about = self.backend.describe()
            for number, channel in enumerate(self.channels, 2):
                check_alike(number, channel.receive().facts["describe"], about)
        self.joined = True
        atexit.register(self.end)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A call that all are at: an error that comes of the loss of one of them says so; OSError."""
        if self.trouble or self.broken:
            raise OSError(
                self.trouble or "the workers have been left at a call; begin the run again"
            )
        self.busy = True
        try:
            yield
        except BaseException as error:
            self.broken = True
            if isinstance(error, Exception):
                self.lost.wait(2)  # the framework's own connections may end before the channel does
                if self.trouble:
                    raise OSError(self.trouble) from error
            raise
        finally:
            self.busy = False

    def end(self) -> None:
        """Let all go. One that waits is told, and leaves the group; any other ends with its connection."""
        atexit.unregister(self.end)
        if self.joined and not self.broken and not self.trouble:
            with suppress(OSError):
                for channel in self.channels:
                    channel.closed = True
                    channel.send("end")
                leave(self.spec)
        for channel in self.channels:
            channel.close()
        for child in self.started:
            try:
                child.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _heard(self, number: int, message: Message) -> bool:
        if message.what == "failed":
            self.trouble = f"worker {number + 1} of {self.spec.workers}: {message.facts['line']}"
        return message.what == "failed"

    def _gone(self, number: int) -> None:
        """Have the run end: by an error where it waits or computes and, should it not hear it, at once."""
        self.trouble = self.trouble or (
            f"worker {number + 1} of {self.spec.workers} has ended, or is out of reach; {GOES_ON}, also with fewer "
            "backend.workers"
        )
        self.lost.set()
        for channel in self.channels:
            channel.messages.put(None)
        time.sleep(PATIENCE / 2)
        if self.busy:
            complain(OSError(self.trouble))
            os._exit(REFUSED)


def open_crew(spec: BackendSpec) -> Crew:
    """The workers of a run: started on this machine or, where `spec` has an address, waited for there.

    Raises ValueError or OSError if one of them cannot join.
    """
    token = secrets.token_hex(32) if spec.address is None else os.environ.get(TOKEN, "")
    if not token:
        raise ValueError(
            f"backend.address is {spec.address}: workers show that they belong to this run by a secret; set the "
            f"variable {TOKEN} to the same long random word here and where they are started"
        )
    with listen(spec.address) as door:
        started, port = [], door.getsockname()[1]
        try:
            if spec.address is None:
                for number in range(1, spec.workers):
                    started.append(start_worker(f"127.0.0.1:{port}", number, {TOKEN: token}))
            else:
                say(
                    f"waiting for {spec.workers - 1} more workers, each with the same {TOKEN}: "
                    f"trizoo --worker {spec.address}"
                )
            crew = Crew(spec)
            crew.started = started
        except BaseException:
            for child in started:
                child.kill()
                child.wait()
            raise
        try:
            crew.meet(door, token)
        except BaseException:
            crew.broken = True
            crew.end()
            raise
    return crew


def work(address: str, follow: Callable[[Channel, Backend], None]) -> int:
    """Be a worker of the run that waits at `address`, HOST:PORT, and `follow` it until it ends; the exit status."""
    if not (token := os.environ.get(TOKEN, "")):
        raise ValueError(
            f"a worker shows by a secret to which run it belongs; set the variable {TOKEN} as it is there"
        )
    channel = connect(address, token)
    channel.watch(lambda message: False, lambda: os._exit(REFUSED))
    try:
        facts = channel.receive().facts
        spec = from_config(BackendSpec, facts["backend"])
        os.environ.update(settings(facts["backend"]))
        bind_cores(facts["backend"])
        backend = import_backend(spec.name)
        channel.send("ready", {"address": f"{channel.host}:{free_port(channel.host)}"})
        join(spec, facts["number"], channel.receive().facts["addresses"])
        channel.send("joined", {"describe": backend.describe()})
        follow(channel, backend)
    except Exception as error:  # the run tells it
        if os.environ.get("TRIZOO_TRACEBACK") == "1":
            complain(error)
        line = explain(error) or f"a fault of trizoo ({type(error).__name__}: {error})"
        with suppress(OSError):
            channel.send("failed", {"line": line})
        os._exit(REFUSED)  # the framework may be at a call with others that never ends
    channel.closed = True
    leave(spec)
    channel.close()
    return 0


def join(spec: BackendSpec, number: int, addresses: list[str]) -> None:
    """Configure the framework as worker `number`, from 0, and have it meet those of the others."""
    with suppress_stderr(), suppress_stdout():
        import_module(f"impl_{spec.name}.workers").join(spec, number, addresses)


def leave(spec: BackendSpec) -> None:
    """Have the framework take leave of those of the others, which do the same."""
    with suppress_stderr():
        import_module(f"impl_{spec.name}.workers").leave()


@contextmanager
def suppress_stdout() -> Iterator[None]:
    """Discard what libraries print: Gloo whom it has met."""
    sys.stdout.flush()
    shown, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(shown, 1)
        os.close(shown)
        os.close(nowhere)


def check_alike(number: int, found: dict[str, str], own: dict[str, str]) -> None:
    """Raise ValueError unless worker `number`'s framework, device and settings are those of the first."""
    if other := [name for name in own if found.get(name) != own[name]]:
        there = ", ".join(f"{name} {found.get(name)} instead of {own[name]}" for name in other)
        raise ValueError(
            f"worker {number} has {there}, so that its results would differ; give all the same environment, "
            "backend.threads and kind of machine"
        )
