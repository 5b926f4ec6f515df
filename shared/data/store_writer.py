"""A store in the making: a folder that can be left at any moment and taken up again.

Images lie in the shards that the store will have, each at its galaxy's row; a line in a journal says
that one is there, and is written after the pixels have reached the disk. So what the journal has is
whole, whatever happened, and nothing that it has is made twice. The finished store is put together
in a folder inside and leaves it by one renaming.
"""

import io
import json
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from shared.data.cutouts import SIZE
from shared.data.store import FORMAT, GALAXIES, MANIFEST, sha256, shard_name, shard_rows
from shared.run.progress import in_order, track
from shared.run.records import flush, parse_json, sync, write_json

JOURNAL, WHOLE = "journal.jsonl", "whole"
COMMIT = 2.0  # seconds between writings of the journal
LINE = {"row": int, "pixels_crc32": int, "image?": str, "image_sha256?": str}  # of the journal


class StoreWriter:
    """Room for `galaxies` images of `channels` in `folder`, and what has been put there before."""

    def __init__(self, folder: Path, galaxies: int, channels: int):
        self.folder, self.channels = folder, channels
        self.bytes = SIZE * SIZE * channels
        self.rows = shard_rows(channels)
        shutil.rmtree(folder / WHOLE, ignore_errors=True)
        self.files = write_shards(folder, galaxies, channels)
        noted, length = _read_journal(folder / JOURNAL, galaxies)
        self.done = self._whole(noted)
        self.journal = (folder / JOURNAL).open("ab")
        self.journal.truncate(length)
        sync(folder)  # the names of the shards and of the journal, before it says anything
        self.waiting: list[dict] = []
        self.last = time.monotonic()

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, *_) -> None:
        try:
            self.commit()
        finally:
            for file in [*self.files, self.journal]:
                file.close()

    def put(self, row: int, pixels: np.ndarray) -> int:
        """Write `pixels` uint8 (y, x, channel) at `row`, from any thread; their CRC-32."""
        file, place = self.files[row // self.rows], row % self.rows
        data = pixels.tobytes()
        write_at(file, data, len(images_header(0, self.channels)) + place * self.bytes)
        return zlib.crc32(data)

    def pixels(self, row: int) -> bytes:
        """The pixels at `row`."""
        start = len(images_header(0, self.channels)) + row % self.rows * self.bytes
        return os.pread(self.files[row // self.rows].fileno(), self.bytes, start)

    def note(self, row: int, facts: dict) -> None:
        """Say that `row` is there, with what will stand in its line of galaxies.parquet."""
        self.done[row] = facts
        self.waiting.append({"row": row, **facts})
        if time.monotonic() - self.last > COMMIT:
            self.commit()

    def commit(self) -> None:
        """Have everything noted outlive this process, and a failure of power."""
        if self.waiting:
            for number in {line["row"] // self.rows for line in self.waiting}:
                flush(self.files[number].fileno())
            self.journal.write(b"".join(json.dumps(line).encode() + b"\n" for line in self.waiting))
            self.journal.flush()
            flush(self.journal.fileno())
            self.waiting.clear()
        self.last = time.monotonic()

    def finish(self, galaxies: pd.DataFrame, manifest: dict) -> Path:
        """The folder of the finished store of `galaxies` less those not put there, inside this one."""
        self.commit()
        whole = self.folder / WHOLE
        shutil.rmtree(whole, ignore_errors=True)
        whole.mkdir()
        kept = np.array(sorted(self.done), np.int64)
        if len(kept) == len(galaxies):
            for number in range(len(self.files)):
                _same_file(self.folder / shard_name(number), whole / shard_name(number))
        else:
            self._copy(kept, whole)
        facts = pd.DataFrame([self.done[row] for row in kept], galaxies.index[kept])
        table = pd.concat([galaxies.iloc[kept], facts], axis=1)
        table.to_parquet(whole / GALAXIES, index=False)
        own = {
            "format": FORMAT,
            "galaxies": len(kept),
            "channels": self.channels,
            "shards": sorted(path.name for path in whole.glob("*.npy")),
            "sha256": {GALAXIES: sha256(whole / GALAXIES)},
        }
        write_json(whole / MANIFEST, own | manifest)
        return whole

    def _whole(self, noted: dict[int, dict]) -> dict[int, dict]:
        """Those of the `noted` rows whose pixels are as they were written."""
        if not noted:
            return {}
        start = len(images_header(0, self.channels))

        def there(row: int) -> bool:
            file, place = self.files[row // self.rows], row % self.rows
            data = os.pread(file.fileno(), self.bytes, start + place * self.bytes)
            return zlib.crc32(data) == noted[row]["pixels_crc32"]

        found = track(in_order(there, noted), "checking what is here already", len(noted))
        return {row: noted[row] for row, whole in zip(noted, found, strict=True) if whole}

    def _copy(self, kept: np.ndarray, whole: Path) -> None:
        files, start = (
            write_shards(whole, len(kept), self.channels),
            len(images_header(0, self.channels)),
        )
        try:
            for place, row in enumerate(kept.tolist()):
                file = files[place // self.rows]
                write_at(file, self.pixels(row), start + place % self.rows * self.bytes)
        finally:
            for file in files:
                file.close()


def write_shards(folder: Path, galaxies: int, channels: int) -> list:
    """Open shards in `folder` with room for `galaxies` images; those already there keep what they hold."""
    files, rows = [], shard_rows(channels)
    for number in range(max(1, -(-galaxies // rows))):
        count = min(rows, galaxies - number * rows)
        head = images_header(count, channels)
        path = folder / shard_name(number)
        path.touch()
        file = path.open("r+b", buffering=0)
        write_at(file, head, 0)
        file.truncate(len(head) + count * SIZE * SIZE * channels)
        files.append(file)
    return files


def write_at(file, data: bytes, place: int) -> None:
    """Write all of `data` into an unbuffered `file` from `place` on; one call may take a part, as on a disk almost
    full.
    """
    left = memoryview(data)
    while left:
        written = os.pwrite(file.fileno(), left, place)
        left, place = left[written:], place + written


def images_header(galaxies: int, channels: int) -> bytes:
    """The start of a .npy file of images, of one length: numpy leaves room for the first axis to grow."""
    return npy_header("|u1", (galaxies, SIZE, SIZE, channels))


def npy_header(kind: str, shape: tuple[int, ...]) -> bytes:
    """The start of a .npy file of numbers of a `kind`, as numpy.dtype.str has it."""
    file = io.BytesIO()
    facts = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, facts)
    return file.getvalue()


def journal_lines(path: Path, data: bytes, shape: dict) -> Iterator[tuple[dict, int]]:
    """Each line of a journal's `data`, and its length in bytes; none from the first on that is damaged."""
    for line in data.splitlines(keepends=True):
        try:
            facts = parse_json(line, shape, str(path), "delete it")
        except ValueError:
            return
        if not line.endswith(b"\n"):
            return
        yield facts, len(line)


def _read_journal(path: Path, galaxies: int) -> tuple[dict[int, dict], int]:
    """What the journal has of so many `galaxies`, by row, and the length of its whole lines in bytes.

    Nothing is believed from the first line on that is damaged: its galaxies are read again.
    """
    data, done, length = path.read_bytes() if path.exists() else b"", {}, 0
    for facts, size in journal_lines(path, data, LINE):
        row = facts.pop("row")
        if not 0 <= row < galaxies:
            break
        done[row], length = facts, length + size
    return done, length


def _same_file(there: Path, here: Path) -> None:
    try:
        os.link(there, here)
    except OSError:  # a file system without links
        shutil.copyfile(there, here)
