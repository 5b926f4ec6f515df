"""The folder that keeps every image as it came from a service: XX/DIGEST.jpg, where DIGEST is of the address and XX its
first digits; manifest.jsonl has a line for each, missing.jsonl one for each that could not be had.
"""

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from shared.run.locks import file_lock
from shared.run.records import make_folder, parse_json, sweep

MANIFEST, MISSING, LOCK = "manifest.jsonl", "missing.jsonl", ".lock"
LONGEST_NAME, LONGEST_PATH = 200, 500  # bytes that every file system takes, with room for a suffix


class Download(NamedTuple):
    """One image in the folder of downloads."""

    file: str
    sha256: str


def stem(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:32]


def file_name(stem: str, suffix: str) -> str:
    return f"{stem[:2]}/{stem}{suffix}"


@contextmanager
def sole_fetcher(folder: Path) -> Iterator[None]:
    make_folder(folder)
    with file_lock(folder / LOCK) as lock:
        if lock is None:
            raise ValueError(f"another process is fetching into {folder}; wait until it is done")
        yield


def kept_images(folder: Path) -> dict[str, Download]:
    """The images that are in `folder` and in its manifest, by the stems of their files.

    What a killed process left half written is removed, and nothing else.
    """
    sweep(folder)
    parts = [part for part in folder.iterdir() if re.fullmatch("[0-9a-f]{2}", part.name)]
    parts = [part for part in parts if part.is_dir() and not part.is_symlink()]
    there = {
        f"{part.name}/{file.name}"
        for part in parts
        for file in os.scandir(part)
        if file.is_file(follow_symlinks=False) and file.name[0] != "."
    }
    kept = read_lines(folder / MANIFEST, {"file": str, "sha256": str})
    return {
        entry["file"][3:].split(".")[0]: Download(entry["file"], entry["sha256"])
        for entry in kept
        if entry["file"] in there
    }


def inside(folder: Path, names: Sequence[str]) -> list[Path]:
    """Where files of a remote collection, `names` with /, are kept in `folder`.

    Raises ValueError, before anything is touched, for a name that leads out of `folder`, that cannot be a file's on
    every system, or that is another's there.
    """
    paths, known = [], {}
    for name in names:
        parts = name.split("/")
        path = folder.joinpath(*parts)
        same = unicodedata.normalize("NFC", name).casefold()
        if not name.isprintable() or "\\" in name or re.match("[A-Za-z]:", name):
            problem = "is no plain path"
        elif any(part.startswith(".") or not part for part in parts):
            problem = "leads out of the folder, or is hidden in it"
        elif (
            max(len(part.encode()) for part in parts) > LONGEST_NAME
            or len(name.encode()) > LONGEST_PATH
        ):
            problem = "is too long"
        elif known.setdefault(same, name) != name:
            problem = f"is the same file as {known[same]!a} on some systems"
        elif any(here.is_symlink() for here in (path, *path.parents[: len(parts) - 1])):
            problem = f"would be kept behind a link in {folder}; remove that"
        else:
            paths.append(path)
            continue
        raise ValueError(f"the name of the file {name[:LONGEST_NAME]!a} is refused: it {problem}")
    return paths


def read_lines(path: Path, shape: dict) -> Iterator[dict]:
    """The objects of that `shape` in a file of one per line; a line torn by a kill, or damaged, is left out."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                yield parse_json(line, shape, str(path), "fetch again")
            except ValueError:
                continue


def append_line(path: Path, entry: dict) -> None:
    """Add a line to `path` in one write, and end a line that a kill has torn."""
    with path.open("ab+") as file:
        torn = file.tell() > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
        file.write(b"\n" * torn + json.dumps(entry).encode() + b"\n")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
