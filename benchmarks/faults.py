"""A disk that fails at one change of a file, or forgets what was not synced: for runs that must not mind (Linux).

A library made of faults.c is loaded into the run's processes before everything else. There it counts each call that
changes a file or a folder under one root, lets the one asked for go wrong, and keeps what a power cut would leave.
"""

import errno
import mmap
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
HOWS = {  # how a change goes wrong, as faults.c numbers it
    "none": 0,
    "ENOSPC": 1,  # this one fails, as on a full disk
    "EIO": 1,  # this one fails, as on a damaged disk
    "broken": 2,  # it and all later ones fail with EIO
    "full": 3,  # it is written in part, and whatever later needs room fails with ENOSPC
    "short": 4,  # it is written in part, which is no error
    "kill": 5,  # SIGKILL to the process that makes it
    "cut": 6,  # SIGKILL to its process group: to be started as a session of its own
}
ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "broken": errno.EIO, "full": errno.ENOSPC}
LAYOUT = struct.Struct("=QQQQii1024s1024s1024s")  # struct control of faults.c


def library(folder: Path) -> Path | None:
    """The library, made in `folder`; None where it cannot be: not on Linux, or without a C compiler."""
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if sys.platform != "linux" or compiler is None:
        return None
    made = folder / "faults.so"
    words = ["-shared", "-fPIC", "-O1", "-o", str(made), str(SOURCE), "-ldl"]
    subprocess.run([compiler, *words], check=True, capture_output=True)
    return made


class Disk:
    """What befalls the files under `root` in processes that are started with `environment`.

    `place`, a folder outside `root`, is for the disk's own files. If `forgets`, all that is under `root` now has been
    synced.
    """

    def __init__(self, library: Path, root: Path, place: Path, forgets: bool = False):
        self.root, self.durable = root.resolve(), place.resolve() / "durable"
        place.mkdir(parents=True, exist_ok=True)
        control = place / "control"
        control.write_bytes(bytes(LAYOUT.size))
        with control.open("r+b") as file:
            self.control = mmap.mmap(file.fileno(), LAYOUT.size)
        self.forgets = forgets
        if forgets:
            self.durable.mkdir()
            self._sync(self.root)
        preload = f"{library} {os.environ.get('LD_PRELOAD', '')}".strip()
        self.environment = {"LD_PRELOAD": preload, "FAULTS": str(control)}
        self.arm()

    def arm(self, how: str = "none", at: int = 0) -> None:
        """Count from 0 again, and let the change numbered `at`, from 1, go wrong `how`."""
        durable = str(self.durable) if self.forgets else ""
        made = LAYOUT.unpack(self.control[:])[2]
        words = (str(self.root).encode(), durable.encode(), b"")
        numbers = (0, 0, made, at, HOWS[how], ERRORS.get(how, 0))
        self.control[:] = LAYOUT.pack(*numbers, *words)

    @property
    def changes(self) -> int:
        """How many changes there were."""
        return LAYOUT.unpack(self.control[:])[0]

    @property
    def struck(self) -> str:
        """The first change that went wrong, in words; empty if none did."""
        return LAYOUT.unpack(self.control[:])[-1].rstrip(b"\0").decode(errors="replace")

    def after_power_cut(self, place: Path) -> None:
        """Write what a power cut would leave of `root` into `place`, which is not there yet."""
        self._restore(f"{self.root.stat().st_ino}.0", place)

    def _sync(self, folder: Path) -> None:
        lines = []
        for path in folder.iterdir():
            key = f"{path.lstat().st_ino}.0"
            lines.append(f"{key} {'folder' if path.is_dir() else 'file'} {path.name}\n")
            if path.is_dir():
                self._sync(path)
            else:
                shutil.copy2(path, self.durable / key)
        (self.durable / f"{folder.stat().st_ino}.0").write_text("".join(lines))

    def _restore(self, key: str, place: Path) -> None:
        place.mkdir()
        listing = self.durable / key
        for line in listing.read_text().splitlines() if listing.exists() else ():
            inner, kind, name = line.split(" ", 2)
            if kind == "folder":
                self._restore(inner, place / name)
            elif (self.durable / inner).exists():
                shutil.copy2(self.durable / inner, place / name)
            else:
                (place / name).touch()
