"""Parquet tables that hold their images: a column of bytes, or of {bytes, path} as dataset hubs write them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from shared.data.sources.images import (
    Loaded,
    any_changed,
    check_length,
    inventory,
    match,
    one_each,
    stamps,
)
from shared.data.tables import as_text, read_parquet, reading

ROWS = 4  # read at a time, so that as many of the largest images still fit the memory
BUFFER = 2**20  # bytes of a column read ahead, or a whole row group would be
MOST_PACKED, PACKED_FROM = (
    50,
    2**28,
)  # a column of so many bytes that shrank so many times holds no images
MOST_ROWS = 2**20  # of a group, if it has fewer bytes


class Place(NamedTuple):
    """Where an image is."""

    file: int  # its number among the files
    group: int  # of rows
    row: int  # of that group


@dataclass(frozen=True)
class Tables:
    """The images in the Parquet files at `paths`; an image's name is its galaxy's id, from the column `id` (a|b:
    either).

    The column of images is the first of {bytes, ...}, else the column of bytes called `image`.
    """

    where: str
    paths: list[Path]
    id: str

    @cached_property
    def _places(self) -> dict[str, Place]:
        found = (
            (name, Place(number, group, row))
            for number, path in enumerate(self.paths)
            for group, ids in _ids(path, self.id)
            for row, name in enumerate(ids)
        )

        def describe(one: Place, other: Place) -> str:
            return f"in {self.paths[one.file]} and again in {self.paths[other.file]}"

        return one_each(found, describe, f"{self.where} has no rows")

    def identity(self) -> Any:
        return stamps(self.paths)

    def changed_since(self, moment: int) -> list[str]:
        return self.names() if any_changed(self.paths, moment) else []

    def about(self) -> dict[str, Any]:
        return inventory("parquet", self.where, self.paths, len(self._places))

    def table(self) -> str:
        return self.where

    def names(self) -> list[str]:
        return list(self._places)

    def find(self, galaxies: pd.DataFrame) -> list[str | None]:
        return match(list(self._places), galaxies)

    def load(self, names: Sequence[str]) -> Iterator[Loaded]:
        # file -> group -> row -> numbers of names
        wanted: dict[int, dict[int, dict[int, list[int]]]] = {}
        for number, name in enumerate(names):
            file, group, row = self._places[name]
            rows = wanted.setdefault(file, {}).setdefault(group, {})
            rows.setdefault(row, []).append(number)
        for file, groups in sorted(wanted.items()):
            for numbers, image in _images(self.paths[file], groups):
                for number in numbers:
                    what = f"the image of galaxy {names[number]} in {self.paths[file]}"
                    yield number, partial(_bytes, image, what)


@contextmanager
def _open(path: Path) -> Iterator[tuple[pq.ParquetFile, str]]:
    """The Parquet file at `path`, and its column of images."""
    with reading(path):
        file = pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False)
        schema = file.schema_arrow
    with file:
        yield file, _image_column(path, schema)


def _ids(path: Path, column: str) -> Iterator[tuple[int, list[str]]]:
    """The ids of each group of rows, after its number, as text."""
    with _open(path) as (file, _):
        names = file.schema_arrow.names
        there = [name for name in column.split("|") if name in names]
        if not there:
            raise ValueError(
                f"{path} has no column {column}; it has {', '.join(names)}. Say what it calls the "
                "galaxy's id in dataset.columns.id"
            )
        if pa.types.is_floating(file.schema_arrow.field(names.index(there[0])).type):
            raise ValueError(
                f"the ids of {path} are floating-point numbers, which cannot hold 18 digits; write "
                "that column as text or 64-bit integers, from the original table"
            )
        groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
        for group in groups:
            _check_packing(path, group, there[0])
        with reading(path):
            ids = as_text(read_parquet(path, there[:1])[0])
        end = 0
        for group, group_metadata in enumerate(groups):
            start, end = end, end + group_metadata.num_rows
            texts = ids[start:end].to_pylist()
            if "" in texts:
                row = texts.index("") + 1
                raise ValueError(
                    f"row {row} of row group {group} of {path} has no id; give it one or remove the row"
                )
            yield group, texts


def _image_column(path: Path, schema: pa.Schema) -> str:
    for field in schema:
        if (
            pa.types.is_struct(field.type)
            and "bytes" in field.type.names
            and _is_bytes(field.type.field("bytes").type)
        ):
            return field.name
    for field in schema:
        if field.name == "image" and _is_bytes(field.type):
            return field.name
    raise ValueError(
        f"{path} has no column of images, {{bytes, path}} or bytes called image; it has "
        f"{', '.join(schema.names)}. Name the place of the images in dataset.images, and this table in dataset.table"
    )


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _images(path: Path, groups: dict[int, dict[int, Any]]) -> Iterator[tuple[Any, Any]]:
    """The entry of `groups` for each row of each group of rows, and that row's image."""
    with _open(path) as (file, column):
        for group, rows in sorted(groups.items()):
            _check_packing(path, file.metadata.row_group(group), column)
            first, last = 0, max(rows)
            with reading(path):
                for batch in file.iter_batches(ROWS, row_groups=[group], columns=[column]):
                    for row in range(first, min(first + len(batch), last + 1)):
                        if row in rows:
                            yield rows[row], batch[0][row - first].as_py()
                    first += len(batch)
                    if first > last:
                        break


def _check_packing(path: Path, group: Any, column: str) -> None:
    """Raise ValueError if a column would unpack to far more than it is in the file, or to more rows than fit it."""
    if group.num_rows > max(MOST_ROWS, group.total_byte_size):
        raise ValueError(
            f"{path} says that it has {group.num_rows} rows in {group.total_byte_size} bytes, and none with images "
            "does; name another file in dataset.images"
        )
    for number in range(group.num_columns):
        chunk = group.column(number)
        packed, unpacked = chunk.total_compressed_size, chunk.total_uncompressed_size
        if chunk.path_in_schema.split(".")[0] == column and unpacked > max(
            MOST_PACKED * packed, PACKED_FROM
        ):
            raise ValueError(
                f"{packed} bytes of {chunk.path_in_schema} in {path} unpack to {unpacked}, and no images do; "
                "name another file in dataset.images"
            )


def _bytes(image: Any, what: str) -> bytes:
    data = image["bytes"] if isinstance(image, dict) else image
    if data is None:
        path = image.get("path") if isinstance(image, dict) else None
        raise FileNotFoundError(
            f"{what} has no bytes, only the path {path!r}; put the images in a folder and name it in dataset.images"
        )
    check_length(what, len(data))
    return data
