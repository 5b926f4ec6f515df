"""The memory of this process: how much it holds, the most it has held, and whether freed blocks are given back."""

import ctypes
import re
import resource
import sys
from contextlib import suppress
from pathlib import Path

STATUS = Path("/proc/self/status")  # of Linux
CLEAR = Path("/proc/self/clear_refs")
MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD = -3, -1, -2  # of mallopt in glibc's malloc.h


def held() -> int:
    """The bytes that this process holds now; where the system does not say, the most it has held."""
    return _status("VmRSS") or most_held()


def most_held() -> int:
    """The most bytes that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return _status("VmHWM") or (peak if sys.platform == "darwin" else 1024 * peak)


_after_import: list[int] = []


def note_import() -> None:
    """Note what the process holds now, its framework just imported; later peaks are counted from here."""
    with suppress(OSError):
        CLEAR.write_text("5")  # forget an earlier peak, of the import itself
    _after_import[:] = [held()]


def since_import() -> int | None:
    """The most bytes that were held since `note_import`, beyond those held then; None where it was not called."""
    return most_held() - _after_import[0] if _after_import else None


def give_back() -> None:
    """Have the allocator return what is freed to the system, now and from now on: less memory, and slower on a CPU.

    It undoes `shared.run.launch.ALLOCATOR`; nothing happens without glibc.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        for setting, size in ((MMAP_THRESHOLD, 1 << 20), (TRIM_THRESHOLD, 1 << 20), (TOP_PAD, 0)):
            library.mallopt(setting, size)
        library.malloc_trim(0)


def _status(name: str) -> int | None:
    found = STATUS.exists() and re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.M)
    return 1024 * int(found[1]) if found else None
