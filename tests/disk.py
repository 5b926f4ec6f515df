"""A disk that the power fails: what a folder would hold if nothing had reached it but what was synced."""

import os
from contextlib import contextmanager
from pathlib import Path


class Disk:
    """What was on the disk when each file and folder was last synced, by its number there."""

    def __init__(self):
        self.files: dict[int, bytes] = {}
        self.folders: dict[int, dict[str, int]] = {}

    def note(self, file: int) -> None:
        """Keep what the open `file`, or folder, holds now."""
        number = os.fstat(file).st_ino
        path = Path(f"/proc/self/fd/{file}")
        if path.is_dir():
            self.folders[number] = {inner.name: inner.lstat().st_ino for inner in path.iterdir()}
        else:
            self.files[number] = path.read_bytes()

    def lost(self, folder: Path) -> set[str]:
        """The paths of the files below `folder`, the unfinished left out, that would not be there, or not whole.

        `folder` itself is taken to be there, with what its name is entered in.
        """
        return {
            str(path.relative_to(folder))
            for path in folder.rglob("*")
            if path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
            and not self._has(folder, path)
        }

    def _has(self, top: Path, path: Path) -> bool:
        place = top
        for name in path.relative_to(top).parts:
            entered = self.folders.get(place.stat().st_ino, {}).get(name)
            place = place / name
            if entered != place.stat().st_ino:
                return False
        return self.files.get(path.stat().st_ino) == path.read_bytes()


@contextmanager
def unsafe_disk():
    """A Disk that hears of all that this process syncs."""
    disk, kept = Disk(), {name: getattr(os, name) for name in ("fsync", "fdatasync")}
    try:
        for name, sync in kept.items():

            def synced(file, sync=sync):
                sync(file)
                disk.note(file if isinstance(file, int) else file.fileno())

            setattr(os, name, synced)
        yield disk
    finally:
        for name, sync in kept.items():
            setattr(os, name, sync)
