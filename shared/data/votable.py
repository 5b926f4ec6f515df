"""VOTables: their tables are found by one pass through the file, then astropy reads the wanted columns of one.

Nothing is fetched from elsewhere, and what a file claims of its size is compared with what is there.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

import numpy as np
import pyarrow as pa

from shared.data.table import (
    Table,
    Unusable,
    choose_part,
    most_bytes,
    not_one,
    say_parts,
    too_large,
)

READ = ("TABLEDATA", "BINARY", "BINARY2")  # how rows may be written
TEXT = ("char", "unicodeChar")
BYTES = {"short": 2, "int": 4, "long": 8, "float": 4, "double": 8}
BYTES |= {"unicodeChar": 4, "floatComplex": 8, "doubleComplex": 16}


@dataclass
class Part:
    """A table of the file."""

    name: str
    rows: int  # as it claims
    fields: list[dict] = field(default_factory=list)
    written: str = ""
    found: int = 0  # rows that are there, as TABLEDATA


def open_votable(path: Path, number: str | None) -> Table:
    """The table in the VOTable at `path` that `number`, or its name, says; None: the first that has rows or columns."""
    parts = dict(enumerate(_parts(path), 1))
    tables = {place: part.name for place, part in parts.items() if part.fields}
    place = choose_part(tables, number, "table")
    part = parts[place]
    if part.written not in ("", *READ):
        raise Unusable(
            f"its rows are written as {part.written}", f"save it as one of {', '.join(READ)}"
        )
    names = [one.get("name") or one.get("ID", "") for one in part.fields]
    units = {
        name: one["unit"] for name, one in zip(names, part.fields, strict=True) if one.get("unit")
    }

    def read(text: Sequence[str], numbers: Sequence[str]) -> pa.Table:
        places = {name: names.index(name) for name in (*text, *numbers)}
        for name, one in places.items():
            _check_single(name, part.fields[one])
        # astropy would look for these columns in every table
        wanted = sorted(places.values()) if len(parts) == 1 else list(range(len(names)))
        values = _values(path, place - 1, None if len(parts) > 1 else wanted)
        keys = dict(zip(wanted, values.dtype.names, strict=True))
        return pa.table({name: _column(values[keys[one]]) for name, one in places.items()})

    return Table(str(path), names, read, units, say_parts(path, tables, number, "table"), "VOTable")


def _parts(path: Path) -> list[Part]:
    """The tables of the file, whose claims are true; Unusable where one would need more memory than it may."""
    parts: list[Part] = []

    def start(name: str, attributes: dict) -> None:
        name = name.rpartition(":")[2]
        if name == "TABLE":
            claimed = attributes.get("nrows", "0").strip()
            if attributes.get("ref"):
                raise Unusable("a table takes its columns from another (ref)", "save it anew")
            parts.append(Part(attributes.get("name", ""), int(claimed) if claimed.isdigit() else 0))
        elif name == "STREAM" and "href" in attributes:
            raise Unusable(
                f"its rows are elsewhere ({attributes['href'][:80]})", "fetch a whole file"
            )
        elif not parts:
            return
        elif name == "FIELD":
            parts[-1].fields.append(attributes)
        elif name in (*READ, "FITS", "PARQUET"):
            parts[-1].written = name
        elif name == "TR":
            parts[-1].found += 1

    def refuse(*_) -> None:
        raise Unusable("it declares entities", "save it anew")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EntityDeclHandler = refuse
    with path.open("rb") as file:
        parser.ParseFile(file)
    _check_sizes(path, parts)
    return parts


def _check_sizes(path: Path, parts: list[Part]) -> None:
    length, needed = path.stat().st_size, 0
    for part in parts:
        if part.rows > length or (part.written == "TABLEDATA" and part.rows > part.found):
            raise ValueError(f"it tells of {part.rows} rows, which are not there")
        needed += max(part.rows, part.found, 512) * sum(8 + _width(one) for one in part.fields)
    if needed > most_bytes(path):
        raise too_large(path)


def _width(one: dict) -> int:
    """The bytes of a cell of a field, as far as they are fixed."""
    size = BYTES.get(one.get("datatype", ""), 1)
    for length in one.get("arraysize", "1").split("x"):
        size *= int(length) if length.strip().isdigit() else 1
    return size


def _check_single(name: str, one: dict) -> None:
    kind, size = one.get("datatype", ""), one.get("arraysize", "1").strip()
    if "Complex" in kind or (kind == "bit" and size != "1"):
        raise not_one(name, f"values of the type {kind}")
    if (kind not in TEXT and size not in ("", "1")) or "x" in size:
        raise not_one(name, f"{size} values")


def _values(path: Path, number: int, places: list[int] | None) -> np.ma.MaskedArray:
    """The columns at `places`, or all, of the table of that `number`, from 0, as astropy reads them."""
    from astropy.io import votable  # slow to import, and only this needs it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = votable.parse(path, columns=places, table_number=number, verify="ignore")
        return whole.get_table_by_index(number).array


def _column(values: np.ma.MaskedArray) -> pa.ChunkedArray:
    mask = np.ma.getmaskarray(values).astype(bool)
    data = np.ma.getdata(values)
    if data.dtype.kind not in "OSU":
        return pa.chunked_array([pa.array(data.astype(data.dtype.newbyteorder("=")), mask=mask)])
    text = [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in data]
    return pa.chunked_array([pa.array(text, pa.string(), mask=mask | (np.array(text) == ""))])
