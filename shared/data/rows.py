"""A column of a survey's tables, and the rows that are galaxies."""

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from shared.data.tables import as_text
from shared.run.progress import say

SHOWN = 30  # columns or values named in an error
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")


COMMA = r"^[+-]?\d*,\d+([eE][+-]?\d{1,3})?$"  # a number with a comma before its decimals
THOUSANDS = r"^[+-]?[1-9]\d{0,2}(,\d{3})+$"  # or with one between its thousands
PLACEHOLDERS = ("-9", "-99", "-999", "-9999", "-99999", "-1", "99", "999", "9999")


class Column(NamedTuple):
    """A wanted column: what its table calls it, and its values (galaxy,)."""

    name: str
    values: pa.ChunkedArray
    unit: str | None = None


class Rows(NamedTuple):
    """The rows of a table that are galaxies."""

    path: str
    ids: pa.ChunkedArray
    numbers: np.ndarray  # from 1

    def galaxy(self, i: int) -> str:
        """The galaxy in place I, for an error."""
        return f"galaxy {self.ids[int(i)]} (row {self.numbers[i]} of {self.path})"


def few_of(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more


def as_numbers(column: pa.ChunkedArray) -> np.ndarray:
    """Every value as float64; NaN where there is none, infinity where it is no number."""
    kind = column.type
    if pa.types.is_null(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column.cast(pa.float64(), safe=False).to_numpy()
    texts = as_text(column)
    values = pd.to_numeric(pd.Series(texts.to_pylist(), dtype=object), errors="coerce")
    none = pc.is_in(texts, pa.array(pyarrow.csv.ConvertOptions().null_values)).to_numpy()
    return np.where(values.isna() & ~none, np.inf, values.to_numpy(np.float64))


def without_commas(path: str, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """`column`, called `name` in the table at `path`, with points for the commas before decimals, told.

    As it was where commas can mean anything else: 1,000 is one, or a thousand.
    """
    if not pa.types.is_string(column.type):
        return column
    texts = pc.utf8_trim_whitespace(column)
    commas = texts.filter(pc.match_substring(texts, ","))
    if not len(commas) or not pc.all(pc.match_substring_regex(commas, COMMA)).as_py():
        return column
    thousands = pc.match_substring_regex(commas, THOUSANDS)
    if pc.all(thousands).as_py() or pc.any(pc.match_substring(texts, ".")).as_py():
        return column
    say(f"{path} has commas before the decimals of {name}: {commas[0]} is read as a number")
    return pc.replace_substring(texts, ",", ".")


def as_pandas(column: pa.ChunkedArray):
    """A column as the array that pandas keeps of it."""
    return column.to_pandas().array


def cell_text(column: Column, i: int) -> str:
    """A value, for an error."""
    value = column.values[int(i)].as_py()
    hint = ""
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[\d .]*\d,\d[\d,. ]*", value):
        hint = " (a number is written with a point, and nothing between its thousands)"
    if str(value).removesuffix(".0") in PLACEHOLDERS:
        hint = " (where it stands for a missing value, leave the cell empty)"
    return f"{column.name} = {'(empty)' if value is None or value == '' else value}{hint}"


def as_value(text: str) -> Decimal | str:
    """What `text` is compared as: numbers as numbers, exactly, however they are written."""
    return Decimal(text) if NUMBER.fullmatch(text) else text


def is_among(values: pa.ChunkedArray, wanted: Iterable[str]) -> pa.ChunkedArray:
    """Which `values`, of text, are among those `wanted`, bool (row,)."""
    keys = {as_value(text) for text in wanted}
    alike = [text for text in pc.unique(values).to_pylist() if as_value(text) in keys]
    return pc.is_in(values, pa.array(alike, pa.string()))


def say_absent(name: str, wanted: Iterable[str], column: Column) -> None:
    """Say which of the values `wanted` by the key `name` no row has."""
    there = {as_value(text) for text in pc.unique(column.values).to_pylist()}
    if absent := [text for text in wanted if as_value(text) not in there]:
        say(f"no row has {few_of(absent)} in the column {column.name}, which {name} names")
