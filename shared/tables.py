"""Files of tables, CSV, Parquet and FITS: their columns' names at once, and later those columns that are wanted."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

MOST_FIELDS = 999  # columns of a table in FITS, by its standard


class Table(NamedTuple):
    """An open table."""

    path: str
    names: Sequence[str]
    read: Callable[[Sequence[str], Sequence[str]], pa.Table]  # columns of text, columns of numbers


def open_table(path: str, key: str) -> Table:
    """The table at PATH, which may be a pattern (*) of several files: one table, in the order of their names."""
    place = Path(path)
    files = [place] if "*" not in place.name else sorted(place.parent.glob(place.name))
    if not files or not all(file.is_file() for file in files):
        raise FileNotFoundError(
            f"{key} is {path}, which is not a file; name a CSV, Parquet or FITS table"
        )
    opened = [_open_file(file, key) for file in files]
    if len(opened) == 1:
        return opened[0]

    def read(text: Sequence[str], numbers: Sequence[str]) -> pa.Table:
        wanted = [*text, *numbers]
        for table in opened:
            if lacking := [name for name in wanted if name not in table.names]:
                raise ValueError(f"{table.path} has no column {lacking[0]!r}, unlike {files[0]}")
        tables = [table.read(text, numbers) for table in opened]
        return pa.table({name: _in_turn([table[name] for table in tables]) for name in wanted})

    return Table(path, opened[0].names, read)


def _in_turn(columns: list[pa.ChunkedArray]) -> pa.ChunkedArray:
    """The columns one after the other; as text where they are of different types."""
    if len({column.type for column in columns}) > 1:
        columns = [as_text(column) for column in columns]
    return pa.chunked_array(
        [chunk for column in columns for chunk in column.chunks], columns[0].type
    )


def _open_file(path: Path, key: str) -> Table:
    for suffix, kind in _KINDS.items():
        if path.name.lower().endswith(suffix):
            with reading(path):
                return kind(path)
    raise ValueError(f"{key} is {path}; its name must end in one of {', '.join(_KINDS)}")


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Raise ValueError, naming the file at PATH, for whatever a library raises about its contents."""
    try:
        yield
    except Exception as problem:
        told = str(problem) or type(problem).__name__
        raise ValueError(
            f"{path} cannot be read ({told}); if it is damaged or cut short, fetch it again"
        ) from problem


def _open_csv(path: Path) -> Table:
    with pyarrow.csv.open_csv(path) as reader:
        names = reader.schema.names

    def read_as(types: dict[str, pa.DataType]) -> pa.Table:
        options = pyarrow.csv.ConvertOptions(include_columns=list(types), column_types=types)
        return pyarrow.csv.read_csv(path, convert_options=options)

    def read(text: Sequence[str], numbers: Sequence[str]) -> pa.Table:
        types = dict.fromkeys(text, pa.string())
        try:
            return read_as(types | dict.fromkeys(numbers, pa.float64()))
        except pa.ArrowInvalid:  # what is no number is found, and named, in the text
            return read_as(types | dict.fromkeys(numbers, pa.string()))

    return Table(str(path), names, read)


def _open_parquet(path: Path) -> Table:
    with pyarrow.parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names

    def read(text: Sequence[str], numbers: Sequence[str]) -> pa.Table:
        with pyarrow.parquet.ParquetFile(path) as file:
            table = file.read(columns=[*text, *numbers])
        return pa.table({name: _plain(name, table[name]) for name in (*text, *numbers)})

    return Table(str(path), names, read)


def _plain(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of single values, its bytes read as text."""
    if pa.types.is_nested(column.type):
        raise ValueError(f"column {name!r} holds {column.type} in each row, not one value")
    return column.cast(pa.string()) if pa.types.is_binary(column.type) else column


def _open_fits(path: Path) -> Table:
    from astropy.io import fits  # slow to import, and only FITS needs it

    # astropy leaves open what it cannot read
    with path.open("rb") as file, fits.open(file) as units:
        is_table = [isinstance(unit, fits.BinTableHDU | fits.TableHDU) for unit in units]
        if not any(is_table):
            raise ValueError("it holds no table")
        number = is_table.index(True)
        if not 0 < (count := units[number].header["TFIELDS"]) <= MOST_FIELDS:
            raise ValueError(f"its header tells of {count} columns; FITS has {MOST_FIELDS} at most")
        names = [name or "" for name in units[number].columns.names]

    def read(text: Sequence[str], numbers: Sequence[str]) -> pa.Table:
        with path.open("rb") as file, fits.open(file) as units:
            unit = units[number]
            table = pa.table({name: _from_fits(unit, name) for name in (*text, *numbers)})
            for column in unit.data.columns:
                del column.array  # or astropy copies every column of the file when it lets go of it
            return table

    return Table(str(path), names, read)


def _from_fits(unit, name: str) -> pa.ChunkedArray:
    """One column of a table in FITS; missing where it holds the value that the header says is none."""
    values, null = np.asarray(unit.data[name]), unit.columns[name].null
    if values.ndim != 1:
        raise ValueError(f"column {name!r} holds {values.shape[1:]} values in each row, not one")
    if values.dtype.kind in "US":
        return _plain(name, pa.chunked_array([pa.array(values.astype(object))]))
    values = values.astype(values.dtype.newbyteorder("="))
    mask = None if null in (None, "") else values == null
    return pa.chunked_array([pa.array(values, mask=mask)])


_KINDS = {
    ".csv": _open_csv,
    ".csv.gz": _open_csv,
    ".parquet": _open_parquet,
    ".fits": _open_fits,
    ".fits.gz": _open_fits,
}


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Every value as text, stripped; a missing one is empty, and a 4.0 that was a number is 4."""
    truth = pa.types.is_boolean(column.type)
    text = pc.if_else(column, "True", "False") if truth else column.cast(pa.string())
    return pc.utf8_trim_whitespace(text).fill_null("")
