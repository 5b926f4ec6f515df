"""Rows of a table as FITS and VOTable hold them: one after the other, each number with its highest byte first."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ROWS = 65536  # in memory at a time


class Kind(NamedTuple):
    """How a column is stored."""

    dtype: str  # numpy's
    fits: str  # its TFORM
    votable: str  # its datatype
    arraysize: str | None = None  # its length, if it is text


KINDS = {
    pa.bool_(): Kind("S1", "L", "boolean"),
    pa.int16(): Kind(">i2", "I", "short"),
    pa.int32(): Kind(">i4", "J", "int"),
    pa.int64(): Kind(">i8", "K", "long"),
    pa.float32(): Kind(">f4", "E", "float"),
    pa.float64(): Kind(">f8", "D", "double"),
}
ANY_TEXT = Kind("S1", "A", "unicodeChar", "*")


def is_text(dtype: pa.DataType) -> bool:
    """Whether a column of `dtype` holds text."""
    return pa.types.is_string(dtype) or pa.types.is_large_string(dtype)


def kind(column: pa.ChunkedArray, encoding: str) -> Kind:
    """How `column` is stored, text in `encoding` and as wide as the longest; ValueError for what cannot be."""
    if is_text(column.type):
        width = max((len(text.encode(encoding)) for text in column.to_pylist() if text), default=2)
        if encoding == "utf-16-be":
            return Kind(f"S{width}", f"{width}A", "unicodeChar", str(width // 2))
        return Kind(f"S{width}", f"{width}A", "char", str(width))
    return number_kind(column.type)


def number_kind(dtype: pa.DataType) -> Kind:
    """How numbers, or true and false, of `dtype` are stored; ValueError for what cannot be."""
    if dtype not in KINDS:
        raise ValueError(
            f"a column of {dtype} cannot be written; there are {', '.join(map(str, KINDS))} and text"
        )
    return KINDS[dtype]


def least(dtype: str) -> int:
    """The whole number that stands for a missing one."""
    return int(np.iinfo(dtype).min)


def missing(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Which values of `column` are missing: there is none, or it is not a number."""
    return column.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)


def blocks(
    table: pa.Table, kinds: list[Kind], encoding: str, unknown: bytes
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows of `table`, some thousands at a time: an array of records, and which values are missing (row, column).

    A missing number is NaN, or the `least` whole number; a missing text is empty; of true and false, T and F, the
    missing one is `unknown`.
    """
    record = np.dtype([(str(number), one.dtype) for number, one in enumerate(kinds)])
    for start in range(0, table.num_rows, ROWS):
        some = table.slice(start, ROWS)
        rows = np.empty(some.num_rows, record)
        empty = np.empty((some.num_rows, len(kinds)), bool)
        for number, (column, one) in enumerate(zip(some.columns, kinds, strict=True)):
            empty[:, number] = missing(column)
            rows[str(number)] = _values(column, one, encoding, unknown)
        yield rows, empty


def _values(column: pa.ChunkedArray, one: Kind, encoding: str, unknown: bytes) -> np.ndarray:
    if is_text(column.type):
        return np.array([(text or "").encode(encoding) for text in column.to_pylist()], one.dtype)
    if column.type == pa.bool_():
        says = {True: b"T", False: b"F", None: unknown}
        return np.array([says[value] for value in column.to_pylist()], one.dtype)
    filled = float("nan") if pa.types.is_floating(column.type) else least(one.dtype)
    return pc.fill_null(column, filled).to_numpy()
