"""The folder that keeps every image as it came from a service: XX/DIGEST.jpg, where DIGEST is of the address and XX its
first digits; manifest.jsonl has a line for each, missing.jsonl one for each that could not be had.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from shared.locks import file_lock
from shared.records import make_folder, parse_json

MANIFEST, MISSING, LOCK = "manifest.jsonl", "missing.jsonl", ".lock"


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
    """The images that are in FOLDER and in its manifest, by the stems of their files.

    What a killed process left half written is removed.
    """
    parts = [part for part in folder.iterdir() if part.is_dir() and len(part.name) == 2]
    there = {f"{part.name}/{file.name}" for part in parts for file in os.scandir(part)}
    for file in [file for file in there if file[3] == "."]:
        (folder / file).unlink()
    for file in folder.glob(".*.*"):
        file.unlink()
    kept = read_lines(folder / MANIFEST, {"file": str, "sha256": str})
    entries = (entry for entry in kept if entry["file"] in there)
    return {
        entry["file"][3:].split(".")[0]: Download(entry["file"], entry["sha256"])
        for entry in entries
    }


def read_lines(path: Path, shape: dict) -> Iterator[dict]:
    """The objects of that SHAPE in a file of one per line; a line torn by a kill, or damaged, is left out."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                yield parse_json(line, shape, str(path), "fetch again")
            except ValueError:
                continue


def append_line(path: Path, entry: dict) -> None:
    """Add a line to PATH in one write, and end a line that a kill has torn."""
    with path.open("ab+") as file:
        torn = file.tell() > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
        file.write(b"\n" * torn + json.dumps(entry).encode() + b"\n")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
