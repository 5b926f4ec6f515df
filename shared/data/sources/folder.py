"""A folder of image files, and the folders in it."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd

from shared.data.cutouts import SUFFIXES
from shared.data.sources.images import Loaded, check_length, is_image, is_text, match


@dataclass(frozen=True)
class Folder:
    """The images in the folder at `path`; an image's name is its path from there."""

    path: Path

    @cached_property
    def _found(self) -> dict[str, os.stat_result]:
        return list_images(self.path)

    def identity(self) -> Any:
        self.__dict__["_found"] = found = list_images(self.path)
        return [[name, file.st_size, file.st_mtime_ns] for name, file in found.items()]

    def changed_since(self, moment: int) -> list[str]:
        return [name for name, file in self._found.items() if file.st_ctime_ns >= moment]

    def about(self) -> dict[str, Any]:
        return {"kind": "folder", "where": str(self.path), "images": len(self._found)}

    def table(self) -> None:
        return None

    def names(self) -> list[str]:
        return list(self._found)

    def find(self, galaxies: pd.DataFrame) -> list[str | None]:
        return match(list(self._found), galaxies)

    def load(self, names: Sequence[str]) -> Iterator[Loaded]:
        for number, name in enumerate(names):
            yield number, partial(_read, self.path / name)


def list_images(folder: Path | str) -> dict[str, os.stat_result]:
    """The images in `folder` and the folders in it, by their path from there (with /), sorted.

    Hidden files, of which some systems leave one beside every image, are not seen. Links are followed: to a regular
    file; and to a folder, unless it was seen already or `folder` is in it.

    Raises FileNotFoundError if there is no such folder, ValueError if there is no image in it, or one whose name is
    no text.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"dataset.images is {folder}, which is not a folder; name the one that holds the images"
        )
    found = {}
    for parent, names in _folders(folder):
        for name in names:
            file = _regular(f"{folder}/{parent}{name}")
            if file is not None:
                found[parent + name] = file
    if not found:
        raise ValueError(
            f"no image is in {folder}; put files there that end in {', '.join(SUFFIXES)}"
        )
    for name in found:
        if not is_text(name):
            raise ValueError(f"the name of {name!a} in {folder} is not text in UTF-8; rename it")
    return dict(sorted(found.items()))


def _folders(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """`folder` and every folder in it, as "" or "its/path/", and the names of images in each."""
    seen = {_number(parent) for parent in folder.resolve().parents}
    waiting = [""]
    for start in waiting:  # which grows
        for place, inner, names in os.walk(folder / start):
            number = _number(place)
            if number in seen:
                inner.clear()
                continue
            seen.add(number)
            parent = os.path.relpath(place, folder) + "/"
            parent = "" if parent == "./" else parent
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            waiting += [parent + name for name in inner if Path(place, name).is_symlink()]
            yield parent, [name for name in names if is_image(parent + name)]


def _number(folder: Path | str) -> tuple[int, int]:
    """What tells a folder from any other, however it is reached."""
    found = Path(folder).stat()
    return found.st_dev, found.st_ino


def _regular(path: str) -> os.stat_result | None:
    try:
        found = os.stat(path)  # noqa: PTH116 (of 300,000 images a Path would take seconds)
    except OSError:  # a link to nothing
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _read(path: Path) -> bytes:
    try:
        check_length(f"image {path}", path.stat().st_size)
        return path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no image {path}; put it there") from None
    except OSError as problem:
        raise ValueError(f"image {path} cannot be read ({problem}); mend or remove it") from problem
