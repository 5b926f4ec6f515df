"""A FITS binary table, its columns described on the header by TUNITn, TUCDn and TCOMMn, as TOPCAT reads them.

Text is UTF-8, as astropy writes it; the standard knows ASCII alone. A logical value that is not known is the byte 0,
a missing whole number is TNULLn, a missing float NaN.
"""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
from astropy.io import fits

from shared.output.columns import Column
from shared.output.formats.rows import blocks, kind, least, missing
from shared.run.records import write_whole

ENCODING = "utf-8"
BLOCK = 2880  # bytes: a FITS file is a whole number of these
FACTS = "TRIZOO"  # the keyword of the run's facts, as JSON


def check(galaxies: pd.DataFrame) -> None:
    """Raise ValueError for an id that FITS cannot give back: one that ends in a blank, or holds a zero byte."""
    ids = galaxies["id"].astype(str)
    if (bad := ids[(ids.str.rstrip() != ids) | ids.str.contains("\0", regex=False)]).size:
        raise ValueError(
            f"the id {bad.iloc[0]!r} ends in a blank or holds a zero byte, which FITS drops; choose another "
            "posterior.format, or name the galaxy otherwise"
        )


def write(path: Path, table: pa.Table, columns: dict[str, Column], facts: dict) -> None:
    """`table` as the first extension, POSTERIOR, of a FITS file."""
    kinds = [kind(column, ENCODING) for column in table.columns]
    head = header(table, kinds, columns, facts)

    def fill(beside: Path) -> None:
        with beside.open("wb") as file:
            file.write(fits.PrimaryHDU().header.tostring().encode("ascii"))
            file.write(head.tostring().encode("ascii"))
            size = 0
            for rows, _ in blocks(table, kinds, ENCODING, b"\0"):
                file.write(rows.tobytes())
                size += rows.nbytes
            file.write(bytes(-size % BLOCK))

    write_whole(path, fill)


def header(table: pa.Table, kinds: list, columns: dict[str, Column], facts: dict) -> fits.Header:
    """The header of the table, all but its rows."""
    made = []
    for name, column, one in zip(table.column_names, table.columns, kinds, strict=True):
        whole = one.fits in ("I", "J", "K") and missing(column).any()
        null = least(one.dtype) if whole else None
        made.append(fits.Column(_plain(name), one.fits, columns[name].unit or None, null=null))
    head = fits.BinTableHDU.from_columns(made, nrows=0, name="POSTERIOR").header
    head["NAXIS2"] = table.num_rows
    for number, name in enumerate(table.column_names, 1):
        head[f"TUCD{number}"] = columns[name].ucd
        head[f"TCOMM{number}"] = _plain(columns[name].description)
    if "trizoo" in facts:
        head["CREATOR"] = f"trizoo {facts['trizoo']}"
    if "doi" in facts:
        head["REFERENC"] = f"doi:{facts['doi']}"
    head[FACTS] = json.dumps(facts, sort_keys=True)
    return head


def _plain(text: str) -> str:
    """`text` as a header can hold it: letters beyond ASCII, and breaks of lines, as Python escapes them."""
    return text.encode("unicode_escape").decode()
