"""A run in a process of its own: its environment, its start, how it ends with the process that began it."""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from shared.run.locks import temporary_folder, try_lock

ROOT = Path(__file__).resolve().parents[2]

# glibc returns large blocks to the kernel and faults them in again at every step; kept, training on
# a CPU is up to twice as fast.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(8 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
}
_allowed: list[int] = []  # this process's cores before `bind_cores`
GOES_ON = "the same command (without again=true) goes on where it stopped"


@contextmanager
def child_process(
    words: list[str], command: str, environment: dict[str, str], lock: int, **streams
) -> Iterator[subprocess.Popen]:
    """Start the process of `words`, which does the run of `command`, with these `streams` in place of this process's.

    It holds `lock` too, and the other end of a pipe: when this process ends, however it does, or leaves the context,
    the pipe is closed and the run ends.
    """
    reading, writing = os.pipe()
    try:
        words = [*words, f"--parent={reading}", *shlex.split(command)]
        yield subprocess.Popen(words, env=environment, pass_fds=[lock, reading], **streams)
    finally:
        os.close(reading)
        os.close(writing)


def parse_child(words: list[str]) -> tuple[str, int | None]:
    """The command and the pipe, if there is one, that a run's process was told of in `words`."""
    if words and (pipe := re.fullmatch(r"--parent=(\d+)", words[0])):
        return shlex.join(words[1:]), int(pipe[1])
    return shlex.join(words), None


def end_with_parent(pipe: int) -> None:
    """End this process as soon as the one that holds the other end of `pipe` has ended."""

    def watch() -> None:
        os.read(pipe, 1)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def in_checkout() -> bool:
    """Whether this file lies in the project itself, not among installed packages."""
    return (ROOT / "pyproject.toml").exists()


def program() -> list[str]:
    """What an interpreter is told to run: this very trizoo, whether it has one of its own or none.

    By its path, so that it is found wherever it lies; -P, so that what lies beside it (of an installed one all other
    packages) does not come before the standard library.
    """
    return ["-P", str(ROOT / "trizoo.py")]


def child_environment(backend: dict) -> dict[str, str]:
    """The environment of a run's process; raises ValueError if it asks for more cores than there are."""
    environment = ALLOCATOR | dict(os.environ) | settings(backend)
    if in_checkout():
        environment["PYTHONPATH"] = found_from_anywhere(environment)
    return environment


def found_from_anywhere(environment: Mapping[str, str]) -> str:
    """The PYTHONPATH with which trizoo is found in whatever folder an interpreter starts."""
    paths = [str(ROOT), environment.get("PYTHONPATH", "")]
    return os.pathsep.join(path for path in paths if path)


def settings(backend: dict) -> dict[str, str]:
    """The variables that bind each framework to `backend`'s threads, and those that `backend` names itself."""
    names = (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "NPROC",
        "PJRT_NPROC",
    )
    threads = dict.fromkeys(names, str(thread_count(backend)))
    return threads | {"TF_NUM_INTEROP_THREADS": "1"} | backend["environment"]


def thread_count(backend: dict) -> int:
    """How many threads a worker has: as said, or its part of this machine's cores; ValueError for more than these."""
    there = len(allowed_cores())
    if backend["threads"] > there:
        raise ValueError(
            f"backend.threads is {backend['threads']}, but there are {there} cores; 0 takes them all"
        )
    here = 1 if backend.get("address") else backend.get("workers", 1)
    return backend["threads"] or max(1, there // here)


def allowed_cores() -> list[int]:
    """The cores that this process was given when it started."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    return _allowed or sorted(os.sched_getaffinity(0))


def bind_cores(backend: dict) -> None:
    """Keep this process to cores of its own, where `backend` says how many threads it has, or is of several workers."""
    global _allowed
    if hasattr(os, "sched_setaffinity") and (backend["threads"] or backend["workers"] > 1):
        count, _allowed = thread_count(backend), allowed_cores()
        os.sched_setaffinity(0, cores(count))


def start_worker(address: str, number: int, secret: dict[str, str]) -> subprocess.Popen:
    """Start worker `number`, from 1, of this run, which waits for it at `address`; `secret` is added to its variables.

    It has this process's environment, all cores that this one was given to choose from, and a GPU of its own, if any.
    A terminal's Ctrl-C does not reach it: it ends with this process.
    """
    cards = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    card = cards[number] if number < len(cards) else str(number) if cards == [""] else "none"
    environment = {**os.environ, **secret, "CUDA_VISIBLE_DEVICES": card}
    words = [sys.executable, *program(), f"--worker={address}"]
    own = os.sched_getaffinity(0) if _allowed else set()
    try:
        if own:
            os.sched_setaffinity(0, _allowed)
        return subprocess.Popen(
            words, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
        )
    finally:
        if own:
            os.sched_setaffinity(0, own)


def wait(child: subprocess.Popen) -> int:
    """The exit status of `child`, -n where signal n killed it; never leaves it behind.

    A first Ctrl-C interrupts `child` and waits for it; a second ends it; either way it then raises KeyboardInterrupt.
    """
    stopped = 0
    while True:
        try:
            status = child.wait()
            break
        except KeyboardInterrupt:
            stopped += 1
            child.send_signal(signal.SIGINT if stopped == 1 else signal.SIGTERM)
        except BaseException:
            end(child, signal.SIGTERM)
            raise
    if stopped:
        print(f"\ntrizoo: stopped; {GOES_ON}", file=sys.stderr)
        raise KeyboardInterrupt
    return status


def end(child: subprocess.Popen, number: int) -> None:
    """Send signal `number` to `child` and wait until it has ended, which it is made to after 10 seconds."""
    child.send_signal(number)
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def killed(number: int) -> str:
    """What a run that signal `number` killed is said to have come to."""
    starved = number in (signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS)
    hint = " (was there enough memory, and room on the disk?)" if starved else ""
    return f"the run was killed by {signal.Signals(number).name}{hint}"


def interrupt_once(*_) -> None:
    """Raise KeyboardInterrupt, and be deaf from then on: a terminal's Ctrl-C comes from the parent process as well."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def cores(count: int) -> list[int]:
    """`count` cores for this process, as long as it lives: the first that no other run of the user holds.

    Runs of a parallel sweep are so kept apart. Where too few are free, the first ones, held or not.
    """
    there, free = sorted(os.sched_getaffinity(0)), []
    try:
        place = temporary_folder()
        for core in there:
            lock = os.open(place / f"core-{core}", os.O_RDWR | os.O_CREAT, 0o600)
            if not try_lock(lock):
                os.close(lock)
                continue
            free.append(core)  # the lock stays open, and goes with the process
            if len(free) == count:
                return free
    except OSError:
        pass  # no place for locks, or none there
    return there[:count]
