"""Files of tables: their columns' names at once, and later those columns that are wanted.

CSV, Parquet and FITS are read here; VOTables and workbooks (XLSX) have modules of their own.

What is read is bounded by the file: a small file that asks for much memory is refused before it gets it.
"""

import codecs
import csv
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from shared.data.table import (
    TEXT,
    Table,
    Unusable,
    choose_part,
    most_bytes,
    not_one,
    say_parts,
    too_large,
)
from shared.data.votable import open_votable
from shared.data.workbook import open_workbook
from shared.run.progress import say

MOST_FIELDS = 999  # columns of a table in FITS, by its standard
MOST_UNITS = 200  # HDUs of a FITS file that are looked at

HEAD = 2**20  # bytes of a CSV file by which its layout is told
MARKS = {  # the first bytes of a text, and its encoding; that of UTF-32 begins like one of UTF-16
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}


def open_table(path: str, key: str, hdu: str | None = None) -> Table:
    """The table at `path`, which may be a pattern (*) of several files: one table, in the order of their names.

    `hdu` is the number or the name of what holds it: of an HDU in FITS, a table in VOTable, a sheet in XLSX; None: the
    first. Spaces around the names of columns are no part of them.
    """
    place = Path(path)
    files = [place] if "*" not in place.name else sorted(place.parent.glob(place.name))
    if not files or not all(file.is_file() for file in files):
        raise FileNotFoundError(
            f"{key} is {path}, which is not a file; name a table: a file that ends in one of "
            f"{', '.join(_KINDS)}"
        )
    opened = [_trimmed(_open_file(file, key, hdu)) for file in files]
    if len(opened) == 1:
        return opened[0]

    def read(text: Sequence[str], numbers: Sequence[str]) -> pa.Table:
        wanted = [*text, *numbers]
        for table in opened:
            if lacking := [name for name in wanted if name not in table.names]:
                raise ValueError(f"{table.path} has no column {lacking[0]!r}, unlike {files[0]}")
            for name in wanted:
                if (unit := table.units.get(name)) != opened[0].units.get(name):
                    raise ValueError(
                        f"{table.path} gives the column {name!r} the unit {unit}, unlike {files[0]}; "
                        "give all parts the same"
                    )
        tables = [table.read(text, numbers) for table in opened]
        return pa.table({name: _in_turn([table[name] for table in tables]) for name in wanted})

    return opened[0]._replace(path=path, read=read)


def _trimmed(table: Table) -> Table:
    """`table`, its columns called by their names without the spaces around them."""
    written = {name.strip(): name for name in table.names}
    if all(name == other for name, other in written.items()):
        return table

    def read(text: Sequence[str], numbers: Sequence[str]) -> pa.Table:
        found = table.read([written[name] for name in text], [written[name] for name in numbers])
        return found.rename_columns([name.strip() for name in found.column_names])

    names = [name.strip() for name in table.names]
    units = {name.strip(): unit for name, unit in table.units.items()}
    return table._replace(names=names, read=read, units=units)


def _in_turn(columns: list[pa.ChunkedArray]) -> pa.ChunkedArray:
    """The columns one after the other; as text where they are of different types."""
    if len({column.type for column in columns}) > 1:
        columns = [as_text(column) for column in columns]
    return pa.chunked_array(
        [chunk for column in columns for chunk in column.chunks], columns[0].type
    )


def _open_file(path: Path, key: str, hdu: str | None) -> Table:
    for suffix, kind in _KINDS.items():
        if path.name.lower().endswith(suffix):
            with reading(path):
                if kind not in (_open_csv, _open_parquet):
                    return kind(path, hdu)
                if hdu is not None:
                    raise Unusable(
                        f"dataset.table_hdu is {hdu}, but a file of this kind holds one table",
                        "set it to null",
                    )
                return kind(path)
    raise ValueError(f"{key} is {path}; its name must end in one of {', '.join(_KINDS)}")


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Raise ValueError, naming the file at `path`, for whatever a library raises about its contents."""
    try:
        yield
    except Exception as problem:
        reason = str(problem) or type(problem).__name__
        advice = "if it is damaged or cut short, fetch it again"
        advice = problem.advice if isinstance(problem, Unusable) else advice
        raise ValueError(f"{path} cannot be read ({reason}); {advice}") from problem


def _unpacked(path: Path, most: int) -> Iterator[bytes]:
    """The gzip file at `path` as the bytes in it, in parts; Unusable where they are more than `most`."""
    with pa.input_stream(str(path), compression="gzip") as stream:
        while part := stream.read(HEAD):
            most -= len(part)
            if most < 0:
                raise too_large(path)
            yield part


# CSV


class Layout(NamedTuple):
    """How a CSV file is written."""

    encoding: str
    skipped: int  # lines above the columns' names
    separator: str
    units: Mapping[str, str]
    names: tuple[str, ...] = ()  # of columns, where the file's own line of them is short
    newlines: bool = False  # whether cells may hold some


def _open_csv(path: Path) -> Table:
    layout = _layout(path)
    if path.name.lower().endswith(".gz"):  # Arrow would unpack whatever is there
        for _ in _unpacked(path, most_bytes(path) // TEXT):
            pass
    layout, names = _parse(path, layout, _names)

    def read_as(types: dict[str, pa.DataType]) -> pa.Table:
        options = pyarrow.csv.ConvertOptions(include_columns=list(types), column_types=types)

        def whole(how: dict) -> pa.Table:
            return pyarrow.csv.read_csv(path, convert_options=options, **how)

        return _parse(path, layout, lambda _, how: whole(how))[1]

    def read(text: Sequence[str], numbers: Sequence[str]) -> pa.Table:
        types = dict.fromkeys(text, pa.string())
        try:
            return read_as(types | dict.fromkeys(numbers, pa.float64()))
        except pa.ArrowInvalid:  # what is no number is found, and named, in the text
            return read_as(types | dict.fromkeys(numbers, pa.string()))

    encoding = {"utf-8": "UTF-8", "cp1252": "Windows' letters (cp1252)"}
    kind = f"CSV, {SEPARATORS[layout.separator]} between columns, in "
    kind += encoding.get(layout.encoding, layout.encoding.upper())
    return Table(str(path), names, read, layout.units, kind=kind)


def _names(path: Path, how: dict) -> list[str]:
    with pyarrow.csv.open_csv(path, **how) as reader:
        return reader.schema.names


def _parse(path: Path, layout: Layout, read: Callable) -> tuple[Layout, Any]:
    """What `read` (path, how) makes of the CSV file at `path`, and how it turned out to be written.

    Where Arrow finds it written otherwise than in `layout`, it is read as that; Unusable where it cannot be.
    """
    while True:
        ignored, short = [], []

        def at_odds(row, ignored=ignored, short=short) -> str:
            """What is to be done with a row of more cells or fewer than there are columns."""
            comment = not row.text.strip(" \t,;|\x1a\0") or row.text.lstrip().startswith("#")
            (ignored if comment else short).append(row)
            return "skip" if comment else "error"

        how = {
            "read_options": pyarrow.csv.ReadOptions(
                skip_rows=layout.skipped + bool(layout.names),
                column_names=layout.names or None,
                encoding=layout.encoding,
            ),
            "parse_options": pyarrow.csv.ParseOptions(
                delimiter=layout.separator,
                newlines_in_values=layout.newlines,
                # else it may be a part of a cell, where Arrow divides its work
                invalid_row_handler=at_odds if layout.newlines else None,
            ),
        }
        try:
            found = read(path, how)
        except pa.ArrowInvalid as problem:
            layout = _other_layout(path, layout, problem, short)
        else:
            if ignored and read is not _names:
                say(
                    f"passed over {len(ignored):,} lines of {path} that are comments or empty, "
                    f"{ignored[0].text[:40]!r} for one"
                )
            return layout, found


def _other_layout(path: Path, layout: Layout, problem: pa.ArrowInvalid, short: list) -> Layout:
    """How else than in `layout` the file at `path` may be written, because of `problem`.

    `short` are the rows that had another number of cells. Raises `problem` if it is about a cell, Unusable if nothing
    else is left to be tried.
    """
    reason = str(problem)
    if "UTF8" in reason and layout.encoding == "utf-8":
        say(f"{path} is not in UTF-8: it is read as in Windows' letters (cp1252)")
        return layout._replace(encoding="cp1252")
    if "conversion error" in reason:
        raise problem
    if "Empty CSV" in reason or "cannot infer number" in reason:
        raise Unusable("it holds no rows", "give it one for each galaxy") from problem
    if not layout.newlines:
        return layout._replace(newlines=True)
    if short:
        cells, columns = short[0].actual_columns, short[0].expected_columns
        ends = short[0].text.rstrip("\r\n").endswith(layout.separator)
        if cells == columns + 1 and ends and not layout.names:
            names = tuple(_names(path, _plainly(layout)))
            say(f"the rows of {path} end with a separator, unlike the line of names")
            return layout._replace(names=(*names, ""))
        raise Unusable(
            f"a row has {cells} cells where {columns} columns are named: {short[0].text[:80]!r}",
            "correct it (quote a cell that holds the separator); or if it is damaged or cut short, fetch it again",
        ) from problem
    raise problem


def _plainly(layout: Layout) -> dict:
    """How Arrow reads the line of names alone of a CSV file."""
    return {
        "read_options": pyarrow.csv.ReadOptions(skip_rows=layout.skipped, encoding=layout.encoding),
        "parse_options": pyarrow.csv.ParseOptions(
            delimiter=layout.separator, invalid_row_handler=lambda row: "skip"
        ),
    }


def _encoding(head: bytes) -> str:
    """The encoding of a text that begins with `head`."""
    if found := next((name for mark, name in MARKS.items() if head.startswith(mark)), None):
        return found
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _layout(path: Path) -> Layout:
    """How the CSV file at `path` is written, by its beginning; says so where it is no plain CSV."""
    with pa.input_stream(str(path)) as stream:  # unpacked where its name says that it is packed
        head = stream.read(HEAD)
    encoding = _encoding(head)
    text = head.decode(encoding, "replace").removeprefix("\ufeff")
    lines = re.split(r"\r\n|\r|\n", text)
    named = re.fullmatch('"?sep=(.)"?', lines[0])  # Excel's own
    above = next(
        (i for i, line in enumerate(lines) if line and line[0] != "#" and not (named and i == 0)),
        len(lines),
    )
    ecsv = lines[0].startswith("# %ECSV")
    separator = (
        named[1]
        if named and named[1] in SEPARATORS
        else _separator(lines[above:], " " if ecsv else "")
    )
    if above and not ecsv:
        above = _names_behind_hash(lines, above, separator)
    if "\0" in lines[min(above, len(lines) - 1)]:
        raise Unusable("its first line is no text in UTF-8", "save it as CSV in UTF-8")
    if ecsv:
        return Layout(encoding, above, separator, _ecsv_units(lines[:above]))
    if encoding == "cp1252":
        say(f"{path} is not in UTF-8: it is read as in Windows' letters (cp1252)")
    if separator != "," and ".tsv" not in path.name.lower():
        say(f"{path} has {SEPARATORS[separator]} between its columns")
    if passed := [line for line in lines[:above] if line and not line.startswith("sep=")]:
        say(f"{path} begins with {passed[0][:80]!r}; its columns are named in line {above + 1}")
    return Layout(encoding, above, separator, {})


def _names_behind_hash(lines: list[str], above: int, separator: str) -> int:
    """The line of `lines` that names the columns: `above`, or the last before it, behind a #, if it has as many.

    CasJobs writes #Table1 above the names.
    """
    marked = [i for i in range(above) if lines[i]]
    if not marked or re.fullmatch(r"#Table\d+", lines[marked[-1]].strip()):
        return above
    alike = above >= len(lines) or _width(lines[marked[-1]], separator) == _width(
        lines[above], separator
    )
    return marked[-1] if alike else above


def _width(line: str, separator: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=separator), ()))
    except csv.Error:  # a field of 128 KB
        return 0


def _separator(lines: list[str], more: str) -> str:
    """What is between the columns of `lines`, the first of which names them: a comma, or what divides
    two lines alike.
    """
    lines = [line for line in lines if line][:2]
    widths = {
        separator: [_width(line, separator) for line in lines]
        for separator in SEPARATORS
        if separator in f",;\t|{more}"
    }
    several = {
        separator: found[0]
        for separator, found in widths.items()
        if found and found[0] > 1 and len(set(found)) == 1
    }
    if "," in several or not several:
        return ","
    return max(several, key=several.__getitem__)


def _ecsv_units(lines: list[str]) -> dict[str, str]:
    """The units of columns, by the head of an ECSV file, as astropy writes them into Parquet, too."""
    from astropy.table.meta import get_header_from_yaml

    head = get_header_from_yaml([line.removeprefix("# ") for line in lines if line])
    return {c["name"]: str(c["unit"]) for c in head.get("datatype", ()) if "unit" in c}


# Parquet


def _open_parquet(path: Path) -> Table:
    with pyarrow.parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        meta = (file.schema_arrow.metadata or {}).get(b"table_meta_yaml")
    units = {} if meta is None else _ecsv_units(meta.decode().splitlines())

    def read(text: Sequence[str], numbers: Sequence[str]) -> pa.Table:
        return read_parquet(path, [*text, *numbers])

    return Table(str(path), names, read, units, kind="Parquet")


def read_parquet(path: Path, wanted: Sequence[str]) -> pa.Table:
    """The columns `wanted` of the Parquet file at `path`, each of single values.

    Raises Unusable if there is a nested one, or if they need more than `most_bytes`.
    """
    with pyarrow.parquet.ParquetFile(path) as file:
        _check_parquet(path, file, wanted)
        leaves = [file.schema.column(i) for i in range(len(file.schema))]
    # As dictionaries: a text that is there a million times is then in memory once.
    texts = [
        leaf.path for leaf in leaves if leaf.path in wanted and leaf.physical_type == "BYTE_ARRAY"
    ]
    with pyarrow.parquet.ParquetFile(path, read_dictionary=texts) as file:
        table = file.read(columns=list(wanted))
    return pa.table({name: _plain(path, table[name]) for name in wanted})


def _check_parquet(path: Path, file: pyarrow.parquet.ParquetFile, wanted: Sequence[str]) -> None:
    """Raise Unusable if a column `wanted` of the `file` at `path` is nested, or if they need more than `most_bytes`.

    By what the file says of itself, so that nothing is read yet. A cell counts 8 bytes or more.
    """
    for name in wanted:
        kind = file.schema_arrow.field(name).type
        if pa.types.is_nested(kind):
            raise not_one(name, kind)
    leaves = {file.schema.column(i).path: i for i in range(len(file.schema))}
    widths = {leaves[name]: max(8, file.schema.column(leaves[name]).length) for name in wanted}
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    needed = 0
    for group in groups:
        for leaf, width in widths.items():
            chunk = group.column(leaf)
            cells = max(group.num_rows, chunk.num_values)
            needed += max(width * cells, chunk.total_uncompressed_size)
    if max(needed, sum(widths.values()) * file.metadata.num_rows) > most_bytes(path):
        raise too_large(path)


def _plain(path: Path, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column without a dictionary, its bytes read as text."""
    if pa.types.is_dictionary(column.type):
        kind = column.type.value_type
        if not pa.types.is_primitive(kind):
            chunks = [
                pc.binary_length(c.dictionary.cast(pa.large_binary())).take(c.indices)
                for c in column.chunks
            ]
            if sum(pc.sum(lengths).as_py() or 0 for lengths in chunks) > most_bytes(path):
                raise too_large(path)
        column = column.cast(kind)
    return column.cast(pa.string()) if pa.types.is_binary(column.type) else column


# FITS


def _open_fits(path: Path, hdu: str | None) -> Table:
    from astropy.io import fits  # slow to import, and only FITS needs it
    from astropy.utils.exceptions import AstropyWarning

    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    data = b"".join(_unpacked(path, most_bytes(path))) if packed else None

    @contextmanager
    def opened() -> Iterator[fits.HDUList]:
        # astropy leaves open what it cannot read
        with path.open("rb") if data is None else BytesIO(data) as file, warnings.catch_warnings():
            if file.read(6) != b"SIMPLE":
                raise ValueError("it is no FITS file")
            file.seek(0)
            warnings.simplefilter("ignore", AstropyWarning)
            with fits.open(file) as units:
                yield units

    with opened() as units:
        tables = {
            number: unit.name
            for number, unit in enumerate(islice(units, MOST_UNITS))
            if isinstance(unit, fits.BinTableHDU | fits.TableHDU)
        }
        number = choose_part(tables, hdu, "HDU")
        unit, length = units[number], path.stat().st_size if data is None else len(data)
        _check_fits(unit, length)
        names = [name or "" for name in unit.columns.names]
        header = {key: unit.header[key] for key in unit.header if key[:5] in ("TUNIT", "TNULL")}
    note = say_parts(path, tables, hdu, "HDU")

    def read(text: Sequence[str], numbers: Sequence[str]) -> pa.Table:
        with opened() as units:
            unit, found = units[number], {}
            for name in (*text, *numbers):
                null = header.get(f"TNULL{names.index(name) + 1}")
                found[name] = _from_fits(unit, name, null)
            for column in unit.data.columns:
                del column.array  # or astropy copies every column of the file when it lets go of it
            return pa.table(found)

    units = {name: header.get(f"TUNIT{place}") for place, name in enumerate(names, 1)}
    units = {name: str(unit).strip() for name, unit in units.items() if unit is not None}
    return Table(str(path), names, read, units, note, "FITS")


def _check_fits(unit, length: int) -> None:
    """Raise ValueError if the header of a table in FITS, of a file of `length` bytes, cannot be true."""
    header = unit.header
    if not 0 < (count := header["TFIELDS"]) <= MOST_FIELDS:
        raise ValueError(f"its header tells of {count} columns; FITS has {MOST_FIELDS} at most")
    width, rows = header["NAXIS1"], header["NAXIS2"]
    if rows and not 0 < width * rows <= length - unit.fileinfo()["datLoc"]:
        raise ValueError(f"its header tells of {rows} rows of {width} bytes, which are not there")


def _from_fits(unit, name: str, null: object) -> pa.ChunkedArray:
    """One column of a table in FITS; missing where it holds `null`, the value that the header says is none.

    `null` is of the numbers as they are stored, before they are scaled: 32767 with TZERO = 32768 is 65535. A truth
    value of zero bits is none, and so is a number in a table of text that is blank.
    """
    column = unit.columns[name]
    if re.match(r"\d*[PQ]", str(column.format)):
        raise not_one(name, "values of any number")
    stored = unit.data.view(np.ndarray)[name]
    null = null if isinstance(null, int | float) or stored.dtype.kind == "S" else None
    if stored.ndim != 1 or stored.dtype.kind == "c":
        raise not_one(name, f"{stored.shape[1:]} values")
    if str(column.format) == "L":
        if not np.isin(stored, (0, ord("T"), ord("F"))).all():
            raise ValueError(f"column {name!r} holds truth values other than T, F and none")
        return pa.chunked_array([pa.array(stored == ord("T"), mask=stored == 0)])
    if column.dim and "," in str(column.dim):
        raise not_one(name, f"{column.dim} letters")
    mask = np.zeros(len(stored), bool) if null is None else stored == null
    if stored.dtype.kind == "S":
        text = np.char.strip(stored)
        mask = (text == b"") | (null is not None and text == str(null).strip().encode())
        if str(column.format).strip("0123456789") == "A":
            return pa.chunked_array([pa.array(text, mask=mask).cast(pa.string())])
    values = np.asarray(unit.data[name])
    values = values.astype(values.dtype.newbyteorder("="))
    return pa.chunked_array([pa.array(values, mask=mask)])


_KINDS: dict[str, Callable[..., Table]] = {
    ".csv": _open_csv,
    ".csv.gz": _open_csv,
    ".tsv": _open_csv,
    ".tsv.gz": _open_csv,
    ".txt": _open_csv,
    ".ecsv": _open_csv,
    ".parquet": _open_parquet,
    ".fits": _open_fits,
    ".fits.gz": _open_fits,
    ".vot": open_votable,
    ".votable": open_votable,
    ".xml": open_votable,
    ".xlsx": open_workbook,
}


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Every value as text, stripped; a missing one is empty, and a 4.0 that was a number is 4."""
    truth = pa.types.is_boolean(column.type)
    text = pc.if_else(column, "True", "False") if truth else column.cast(pa.string())
    return pc.utf8_trim_whitespace(text).fill_null("")
