"""What went wrong, in one line: what it means and what to do."""

import errno
import io
import os
import re
import select
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from shared.run.launch import GOES_ON
from shared.run.progress import printable

REFUSED, FAULT = 2, 70  # exit statuses: something to put right, said in one line; a fault of trizoo
TRACEBACK = "traceback.txt"  # in a run's folder
OUT_OF_MEMORY = re.compile(
    r"out of memory|RESOURCE_EXHAUSTED|OOM when allocating|bad_alloc|(can't|cannot|failed to) allocate",
    re.I,
)


class Error(ValueError):
    """What trizoo refuses, or what failed for a reason that can be put right: the line that the command line prints."""

    __module__ = "trizoo"


def open_streams() -> None:
    """Have something open as standard input, output and error: else the next file opened, a lock, would take the place.

    What a stream's encoding has not is printed as an escape.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            stream = open(descriptor, "r" if name == "stdin" else "w", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
        if name != "stdin" and isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def complain(error: Exception, folder: Path | None = None) -> int:
    """Print `error` as one line, or as a traceback where TRIZOO_TRACEBACK=1; the exit status.

    The traceback of an unexpected error is kept in `folder`, where there is one. Nothing is said if whoever
    read what is printed has gone, as in `trizoo ... | head`.
    """
    if isinstance(error, BrokenPipeError) and printed_in_vain():
        return 128 + signal.SIGPIPE
    known, trace = explain(error), "".join(traceback.format_exception(error))
    message = (
        known or f"a fault of trizoo ({type(error).__name__}: {error}); {keep_trace(trace, folder)}"
    )
    traced = os.environ.get("TRIZOO_TRACEBACK") == "1"
    message = printable(trace if traced else f"trizoo: {' '.join(message.split())}\n")
    with suppress(OSError):
        print(message, end="", file=sys.stderr, flush=True)
    return REFUSED if known else FAULT


def printed_in_vain() -> bool:
    """Whether standard output has lost its reader; from then on it is discarded, so that no error is printed."""
    there = select.poll()
    there.register(1, 0)
    if gone := any(event & (select.POLLERR | select.POLLHUP) for _, event in there.poll(0)):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return gone


def keep_trace(trace: str, folder: Path | None) -> str:
    """Keep `trace` in `folder`; what to do with it."""
    if folder is not None:
        try:
            (folder / TRACEBACK).write_text(trace, encoding="utf-8", errors="backslashreplace")
            return f"please report it with {folder / TRACEBACK}"
        except OSError:
            pass
    return "please report it with what the same command prints under TRIZOO_TRACEBACK=1"


def explain(error: BaseException) -> str | None:
    """What `error` means and what to do; None for one that should not have come this far."""
    message, kind = str(error) or type(error).__name__, type(error)
    number = error.errno if isinstance(error, OSError) else None
    if (
        isinstance(error, MemoryError)
        or number == errno.ENOMEM
        or kind.__name__ in ("OutOfMemoryError", "ResourceExhaustedError")
        or (isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(message))
    ):
        return (
            f"out of memory ({short(message)}); lower backend.chunk and training.batch_size (or bench.batch_size), or "
            "run it where there is more"
        )
    if number in (errno.ENOSPC, errno.EDQUOT) or (
        kind.__name__ == "SafetensorError" and "os error 28" in message
    ):
        return f"the disk is full, or your share of it ({short(message)}); free some space, then {GOES_ON}"
    if isinstance(error, ValueError | OSError):
        return message
    if isinstance(error, RecursionError):
        return "something that was read, a file or a key's value, is nested too deeply; make it flatter"
    if kind.__module__.startswith("pyarrow"):
        return f"a Parquet file cannot be read or written ({short(message)}); make it anew"
    if kind.__name__ == "SafetensorError":
        return f"a safetensors file cannot be read or written ({short(message)}); make it anew"
    if isinstance(error, ImportError):
        return (
            f"{sys.executable} cannot import what this needs ({short(message)}); install trizoo there, or set "
            "backend.python to an interpreter that has it"
        )
    return None


def short(text: str) -> str:
    """`text` in one line of at most 300 letters."""
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:300]}..."
