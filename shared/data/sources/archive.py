"""Zip and tar archives, read where they are: nothing is ever unpacked, so no name in one can do harm.

A zip ends with a directory, and a tar is walked from header to header, so both say quickly where their members are,
and any member is then read by itself, in any thread. A packed tar (.tar.gz, .tar.bz2, .tar.xz) has to be unpacked in
memory from its start: once to list it, and once more, in the archive's order, for its images.
"""

import bz2
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import count, groupby
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, NamedTuple

import pandas as pd

from shared.data.cutouts import LARGEST_FILE, SUFFIXES
from shared.data.sources.images import (
    Loaded,
    any_changed,
    check_length,
    inventory,
    is_image,
    is_text,
    match,
    stamps,
)
from shared.data.tables import reading

PACKED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
ENCRYPTED = 0x1 | 0x40  # of a zip member's flags
LOCAL_HEADER = struct.Struct(
    "<4s22xHH"
)  # of a zip member: its mark, the lengths of its name and of what follows
EXTENSIONS = b"xgXLK"  # types of tar headers that only say more about the next one
LONGEST_EXTENSION = 2**20  # bytes
PADDING = 2**20  # bytes that may follow the last member of a packed tar and are checked too
# A packed tar that unpacks to more of its own length, or holds more members for it, holds no images.
MOST_PACKED, PACKED_FROM = 50, 2**28  # times, and bytes from which that is looked at
LEAST_MEMBER, MEMBERS_FROM = (
    32,
    10_000,
)  # packed bytes each, and members from which that is looked at


class Zipped(NamedTuple):
    """Where a member of a zip is."""

    start: int  # of its local header
    packed: int  # bytes
    length: int  # bytes, unpacked
    checksum: int
    method: int
    flags: int


class Span(NamedTuple):
    """Where a member of a tar is, once that is unpacked."""

    start: int
    length: int


@dataclass(frozen=True)
class Archives:
    """The images in the archives at `paths`, all zip or all tar.

    An image's name is its path in the archive; where two archives have one of the same path, the archive's own path
    and a / come before it. If one archive holds a path twice, the later one counts, as it would when unpacked. Links,
    devices, and names that lead out of the archive are left out.
    """

    kind: str  # zip | tar
    where: str
    paths: list[Path]

    @cached_property
    def _listed(self) -> tuple[dict[str, tuple[Path, Zipped | Span]], int]:
        """Every image, sorted, and how many things called as images are were left out."""
        scan = _scan_zip if self.kind == "zip" else _scan_tar
        inside, refused = {}, 0
        for path in self.paths:
            inside[path] = {}
            for stored_name, place in scan(path):
                outside = (
                    stored_name.startswith("/")
                    or ".." in stored_name.split("/")
                    or not is_text(stored_name)
                )
                name = "/".join(
                    part for part in stored_name.split("/") if part not in ("", ".", "..")
                )
                if is_image(name) and (outside or place is None):
                    refused += 1
                elif is_image(name):
                    inside[path][name] = place
        times = Counter(name for members in inside.values() for name in members)
        found = {
            name if times[name] == 1 else f"{path.as_posix()}/{name}": (path, place)
            for path, members in inside.items()
            for name, place in members.items()
        }
        if not found:
            but = f", but {refused} links or names that lead out of it" if refused else ""
            raise ValueError(
                f"no image is in {self.where}{but}; put files in it that end in {', '.join(SUFFIXES)}"
            )
        return dict(sorted(found.items())), refused

    @property
    def packed(self) -> bool:
        """Whether an archive has to be unpacked from its start for any of its images."""
        return self.kind == "tar" and any(_packing(path) for path in self.paths)

    def identity(self) -> Any:
        return stamps(self.paths)

    def changed_since(self, moment: int) -> list[str]:
        return self.names() if any_changed(self.paths, moment) else []

    def about(self) -> dict[str, Any]:
        images, refused = self._listed
        about = inventory(self.kind, self.where, self.paths, len(images))
        return about | {"refused": refused}

    def table(self) -> None:
        return None

    def names(self) -> list[str]:
        return list(self._listed[0])

    def find(self, galaxies: pd.DataFrame) -> list[str | None]:
        return match(list(self._listed[0]), galaxies)

    def load(self, names: Sequence[str]) -> Iterator[Loaded]:
        wanted = sorted((*self._listed[0][name], number) for number, name in enumerate(names))
        for path, places in groupby(wanted, key=itemgetter(0)):
            packing = _packing(path) if self.kind == "tar" else None
            if packing is not None:
                yield from _unpack(
                    path, packing, [(place, number) for _, place, number in places], names
                )
                continue
            read = _read_zipped if self.kind == "zip" else _read_span
            for _, place, number in places:
                yield number, partial(read, path, place, f"image {names[number]} in {path}")


# Zip


def _scan_zip(path: Path) -> Iterator[tuple[str, Zipped | None]]:
    """The name of every member, and where it is; None: it is no regular file."""
    with reading(path), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            regular = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
            sizes = info.header_offset, info.compress_size, info.file_size
            place = Zipped(*sizes, info.CRC, info.compress_type, info.flag_bits)
            yield info.filename.replace("\\", "/"), place if regular else None


def _read_zipped(path: Path, place: Zipped, what: str) -> bytes:
    if place.flags & ENCRYPTED:
        raise ValueError(f"{what} is encrypted; make a zip without a password")
    if place.method not in (STORED, DEFLATED):
        raise ValueError(
            f"{what} is packed by the method {place.method}, and only 0 (not at all) and 8 (deflate) are "
            "read; make the zip anew"
        )
    check_length(what, max(place.packed, place.length))
    with reading(path), path.open("rb", buffering=0) as file:
        file.seek(place.start)
        mark, *lengths = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
        file.seek(sum(lengths), 1)
        data = file.read(place.packed)
    if mark != b"PK\3\4":
        raise ValueError(f"{what} does not begin as its directory says; fetch the zip again")
    if place.method == DEFLATED:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, place.length + 1)
        except zlib.error as problem:
            raise ValueError(f"{what} is damaged ({problem}); fetch the zip again") from problem
    if len(data) != place.length or zlib.crc32(data) != place.checksum:
        raise ValueError(
            f"{what} is damaged: its length or its checksum is wrong; fetch the zip again"
        )
    return data


# Tar


class Header(tarfile.TarInfo):
    """A tar header, which must be whole: tarfile alone takes a damaged one for the end, and believes any size."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # the mark of the end
            raise
        except tarfile.HeaderError as problem:
            raise tarfile.ReadError(f"a header or the end is missing: {problem}") from problem
        if header.size < 0 or (header.type in EXTENSIONS and header.size > LONGEST_EXTENSION):
            raise tarfile.ReadError(f"a header says that {header.size} bytes follow")
        return header


def _packing(path: Path) -> Callable[..., IO[bytes]] | None:
    """What opens the packed tar at `path`, by its first bytes; None: it is not packed."""
    with reading(path), path.open("rb") as file:
        start = file.read(6)
    return next((unpack for mark, unpack in PACKED.items() if start.startswith(mark)), None)


def _scan_tar(path: Path) -> Iterator[tuple[str, Span | None]]:
    """The name of every member, and where it is; None: it is no regular file."""
    unpack, length = _packing(path) or open, path.stat().st_size
    with reading(path), unpack(path, "rb") as file:
        with tarfile.open(fileobj=file, mode="r:", tarinfo=Header) as archive:
            for number in count(1):
                if (member := archive.next()) is None:
                    break
                archive.members.clear()  # of which tarfile would keep each
                end = member.offset_data + member.size
                if member.size < 0:
                    raise tarfile.ReadError(f"a header says that {member.size} bytes follow")
                if end > max(MOST_PACKED * length, PACKED_FROM):
                    raise tarfile.ReadError(f"its {length} bytes unpack to {end}, as no images do")
                if number > max(length // LEAST_MEMBER, MEMBERS_FROM):
                    raise tarfile.ReadError(
                        f"its {length} bytes hold {number} members or more, as no images do"
                    )
                regular = member.isreg() and not member.issparse()
                yield member.name, Span(member.offset_data, member.size) if regular else None
        file.read(PADDING)


def _read_span(path: Path, place: Span, what: str) -> bytes:
    check_length(what, place.length)
    with reading(path), path.open("rb", buffering=0) as file:
        file.seek(place.start)
        data = file.read(place.length)
    return _whole(data, place, what)


def _unpack(
    path: Path, packing: Callable, wanted: list[tuple[Span, int]], names: Sequence[str]
) -> Iterator[Loaded]:
    """`wanted`, in the order of the packed tar at `path`."""
    with reading(path), packing(path, "rb") as file:
        for place, same in groupby(wanted, key=itemgetter(0)):
            data = b""
            if place.length <= LARGEST_FILE:
                file.seek(place.start)
                data = file.read(place.length)
            for _, number in same:
                yield number, partial(_whole, data, place, f"image {names[number]} in {path}")


def _whole(data: bytes, place: Span, what: str) -> bytes:
    check_length(what, place.length)
    if len(data) != place.length:
        raise ValueError(f"{what} is cut short; fetch the archive again")
    return data
