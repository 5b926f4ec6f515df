"""TFRecord files of galaxies, as Walmsley et al. 2020 wrote theirs, read without TensorFlow.

A file is records, one after the other: the length of the data (8 bytes), a checksum of the length (4), the data, a
checksum of the data (4), all little endian. A checksum is CRC-32C, turned right by 15 bits, plus a constant. The data
are a tf.train.Example: for each name a list of bytes, of float32 or of int64. A galaxy is id_str, matrix (uint8 pixels
(y, x, channel), in that order), height, width, channels, and a vote count for each answer.
"""

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import pandas as pd
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from PIL import Image

from shared.data.cutouts import LARGEST_FILE
from shared.data.sources.images import (
    Loaded,
    any_changed,
    files,
    inventory,
    match,
    one_each,
    stamps,
)

LENGTH = struct.Struct("<QI")
CHECKSUM = struct.Struct("<I")
PIXELS = ("matrix", "height", "width", "channels")
LISTS = {"bytes_list": "BytesList", "float_list": "FloatList", "int64_list": "Int64List"}
MOST_VALUES = 100_000  # of one feature; one is what a galaxy has
MODES = {1: "L", 3: "RGB"}  # Pillow's names, by channels


class Place(NamedTuple):
    """Where a record is."""

    path: Path
    number: int  # in the file, from 1
    start: int  # bytes from the start of the file


@dataclass(frozen=True)
class TFRecords:
    """The images in the TFRecord files at `paths`, each given as a PNG of the same pixels.

    An image's name is its galaxy's id, from the feature `id` (a|b: whichever of the two is there).
    """

    where: str
    paths: list[Path]
    id: str

    @cached_property
    def _places(self) -> dict[str, Place]:
        found = (
            (_id(_parse(data, place), self.id, place), place)
            for path in self.paths
            for place, data in _records(path)
        )

        def describe(one: Place, other: Place) -> str:
            return f"{_record(one)} and {_record(other)}"

        return one_each(found, describe, f"{self.where} holds no record")

    def identity(self) -> Any:
        return stamps(self.paths)

    def changed_since(self, moment: int) -> list[str]:
        return self.names() if any_changed(self.paths, moment) else []

    def about(self) -> dict[str, Any]:
        return inventory("tfrecord", self.where, self.paths, len(self._places))

    def table(self) -> None:
        return None

    def names(self) -> list[str]:
        return list(self._places)

    def find(self, galaxies: pd.DataFrame) -> list[str | None]:
        return match(list(self._places), galaxies)

    def load(self, names: Sequence[str]) -> Iterator[Loaded]:
        for place, number in sorted(
            (self._places[name], number) for number, name in enumerate(names)
        ):
            yield number, partial(_png, place)


def examples(path: Path | str) -> Iterator[dict[str, list]]:
    """The examples in the TFRecord file at `path`: by name, a list of bytes, float or int.

    Raises ValueError, naming the file, the record and its first byte, for whatever is damaged.
    """
    for place, data in _records(Path(path)):
        yield _parse(data, place)


def read_examples(pattern: str) -> pd.DataFrame:
    """The ids and votes, all but the pixels, of the examples in the file `pattern`, or in those that it (*) matches.

    Raises FileNotFoundError if there is no such file, ValueError for one that is damaged, or a feature that has not
    one value.
    """
    rows = []
    for path in files(pattern):
        for place, data in _records(path):
            features = {
                name: values for name, values in _parse(data, place).items() if name not in PIXELS
            }
            rows.append({name: _only(values, name, place) for name, values in features.items()})
    return pd.DataFrame(rows)


def _records(path: Path) -> Iterator[tuple[Place, bytes]]:
    """The data of every record, whose checksums are right."""
    with path.open("rb") as file:
        place = Place(path, 1, 0)
        while file.peek(1):
            yield place, _data(file, place)
            place = Place(path, place.number + 1, file.tell())


def _data(file: io.BufferedReader, place: Place) -> bytes:
    """The data of the record where `file` stands, which is `place`."""
    head = file.read(LENGTH.size)
    if len(head) < LENGTH.size:
        raise ValueError(f"{_record(place)} is cut short; fetch the file again")
    length, checksum = LENGTH.unpack(head)
    if _masked(head[:8]) != checksum:
        raise ValueError(
            f"{_record(place)} has a wrong checksum of its length: it is damaged or no TFRecord"
        )
    if length > LARGEST_FILE:
        raise ValueError(
            f"{_record(place)} has {length} bytes, and may have {LARGEST_FILE}; write smaller images"
        )
    data, tail = file.read(length), file.read(CHECKSUM.size)
    if len(tail) < CHECKSUM.size:
        raise ValueError(f"{_record(place)} is cut short; fetch the file again")
    if CHECKSUM.unpack(tail) != (_masked(data),):
        raise ValueError(
            f"{_record(place)} has a wrong checksum: it is damaged; fetch the file again"
        )
    return data


def _masked(data: bytes) -> int:
    checksum = google_crc32c.value(data)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _record(place: Place) -> str:
    return f"record {place.number} of {place.path} (from byte {place.start})"


def _parse(data: bytes, place: Place) -> dict[str, list]:
    example = EXAMPLE()
    try:
        example.ParseFromString(data)
    except DecodeError as problem:
        raise ValueError(
            f"{_record(place)} is no tf.train.Example ({problem}); write it anew"
        ) from problem
    found = {}
    for feature in example.features.feature:
        kinds = [getattr(feature.value, kind).value for kind in LISTS]
        if (most := max(map(len, kinds))) > MOST_VALUES:
            raise ValueError(
                f"{_record(place)} has {most} values of {feature.key!r}, and may have {MOST_VALUES}; "
                "write pixels as bytes"
            )
        found[feature.key] = list(next(filter(len, kinds), []))
    return found


def _only(values: list, name: str, place: Place) -> Any:
    """The one value of the feature `name`, bytes as text."""
    if len(values) != 1:
        raise ValueError(f"{_record(place)} has {len(values)} values of {name!r}; it must have one")
    try:
        return values[0].decode() if isinstance(values[0], bytes) else values[0]
    except UnicodeDecodeError:
        raise ValueError(
            f"{_record(place)} has a {name!r} that is not text in UTF-8; write it anew"
        ) from None


def _id(example: dict[str, list], column: str, place: Place) -> str:
    there = [name for name in column.split("|") if name in example]
    if not there:
        raise ValueError(
            f"{_record(place)} has no {column}; it has {', '.join(sorted(example))}. Say what it calls the "
            "galaxy's id in dataset.columns.id"
        )
    value = _only(example[there[0]], there[0], place)
    if isinstance(value, float) or not str(value).strip():
        raise ValueError(
            f"{_record(place)} has the id {value!r}; it must be text or a whole number, or it loses digits"
        )
    return str(value).strip()


def _png(place: Place) -> bytes:
    with place.path.open("rb") as file:
        file.seek(place.start)
        example = _parse(_data(file, place), place)
    matrix, *shape = (_value(example, name) for name in PIXELS)
    height, width, channels = shape
    if not (
        isinstance(matrix, bytes)
        and all(isinstance(side, int) and side > 0 for side in shape)
        and channels in MODES
        and len(matrix) == height * width * channels
    ):
        size = len(matrix) if isinstance(matrix, bytes) else "no"
        raise ValueError(
            f"{_record(place)} holds {size} bytes of matrix, with height {height}, width {width} and channels "
            f"{channels}; it must hold height x width x channels bytes, of 1 or 3 channels"
        )
    file = io.BytesIO()
    Image.frombytes(MODES[channels], (width, height), matrix).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _value(example: dict[str, list], name: str) -> Any:
    """The one value of the feature `name`; None: it has none, or more."""
    values = example.get(name, [])
    return values[0] if len(values) == 1 else None


def _example_type() -> Any:
    """The class of tf.train.Example, in a pool of its own, or it would clash with TensorFlow's."""
    field = descriptor_pb2.FieldDescriptorProto
    one, many, inner = field.LABEL_OPTIONAL, field.LABEL_REPEATED, field.TYPE_MESSAGE
    messages = {
        "BytesList": [("value", many, field.TYPE_BYTES, None)],
        "FloatList": [("value", many, field.TYPE_FLOAT, None)],
        "Int64List": [("value", many, field.TYPE_INT64, None)],
        "Feature": [(name, one, inner, of) for name, of in LISTS.items()],
        "Entry": [("key", one, field.TYPE_STRING, None), ("value", one, inner, "Feature")],
        "Features": [("feature", many, inner, "Entry")],  # a map is written as its pairs
        "Example": [("features", one, inner, "Features")],
    }
    file = descriptor_pb2.FileDescriptorProto(name="galaxy", package="galaxy", syntax="proto3")
    for message, fields in messages.items():
        added = file.message_type.add(name=message)
        for number, (name, label, kind, of) in enumerate(fields, 1):
            of = of and f".galaxy.{of}"
            added.field.add(name=name, number=number, label=label, type=kind, type_name=of)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("galaxy.Example"))


EXAMPLE = _example_type()
