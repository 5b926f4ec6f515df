"""Workbooks of spreadsheets, XLSX: a sheet as a table, its first row that is not empty with the columns' names."""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from shared.data.table import (
    TEXT,
    Table,
    Unusable,
    choose_part,
    most_bytes,
    say_parts,
    too_large,
)

CELL = 64  # bytes that a cell takes in memory
DIGITS = 1e15  # numbers from here on have more digits than a spreadsheet keeps


def open_workbook(path: Path, sheet: str | None) -> Table:
    """The table in the `sheet` of the workbook at `path`, its name or its number from 1; None: the first."""
    with zipfile.ZipFile(path) as packed:
        if sum(one.file_size for one in packed.infolist()) > most_bytes(path) // TEXT:
            raise too_large(path)
    with _opened(path) as book:
        tables = {place: one.title for place, one in enumerate(book.worksheets, 1)}
        number = choose_part(tables, sheet, "sheet")
        names = _names(_rows(path, book.worksheets[number - 1]))

    def read(text: Sequence[str], numbers: Sequence[str]) -> pa.Table:
        places = [names.index(name) for name in (*text, *numbers)]
        columns: list[list] = [[] for _ in places]
        with _opened(path) as book:
            rows = _rows(path, book.worksheets[number - 1])
            _names(rows)
            for row in rows:
                for place, column in zip(places, columns, strict=True):
                    column.append(row[place] if place < len(row) else None)
        found = zip((*text, *numbers), columns, strict=True)
        return pa.table({name: _column(values, name in text) for name, values in found})

    note = say_parts(path, tables, sheet, "sheet")
    return Table(str(path), names, read, note=note, kind=f"XLSX, sheet {tables[number]}")


@contextmanager
def _opened(path: Path) -> Iterator:
    try:
        from openpyxl import load_workbook
    except ImportError as missing:
        raise Unusable(
            "workbooks are read by openpyxl, which is not here",
            "pip install 'trizoo[xlsx]', or save it as CSV in UTF-8",
        ) from missing
    book = load_workbook(path, read_only=True, data_only=True, keep_links=False)
    try:
        yield book
    finally:
        book.close()


def _rows(path: Path, sheet) -> Iterator[tuple]:
    """The rows of a sheet that hold something, as far as they may go: one cell at its end asks for millions."""
    left = most_bytes(path) // CELL
    for row in sheet.iter_rows(values_only=True):
        left -= 1 + len(row)
        if left < 0:
            raise too_large(path)
        if any(value is not None for value in row):
            yield row


def _names(rows: Iterator[tuple]) -> list[str]:
    """The columns' names: the first of `rows`."""
    for row in rows:
        return ["" if value is None else str(value) for value in row]
    raise Unusable("its sheet is empty", "name another in dataset.table_hdu")


def _column(values: list, as_text: bool) -> pa.ChunkedArray:
    if not as_text and all(value is None or isinstance(value, int | float) for value in values):
        return pa.chunked_array([pa.array([None if v is None else float(v) for v in values])])
    return pa.chunked_array([pa.array([_text(value) for value in values], pa.string())])


def _text(value) -> str | None:
    """A cell as text: a number that has lost digits with its exponent, by which it is seen to have lost them."""
    if isinstance(value, float):
        if abs(value) >= DIGITS:
            return f"{value:.14E}"
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return None if value is None or value == "" else str(value)
