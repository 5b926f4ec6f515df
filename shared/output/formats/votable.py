"""A VOTable (version 1.4, BINARY2), its fields described by unit, UCD and description, the run's facts as INFO.

astropy writes its head. Its rows are written here, for astropy takes a millisecond for each.
"""

import base64
import json
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from astropy.io.votable.tree import Field, Info, Resource, TableElement, VOTableFile

from shared.output.columns import Column
from shared.output.formats.rows import Kind, blocks, is_text, kind
from shared.run.records import write_whole

DATA = '<DATA><BINARY2><STREAM encoding="base64">\n', "</STREAM></BINARY2></DATA>\n"
END = "</TABLE>"
LINE = 57  # bytes in a line of base64, which is 76 signs then


def check(galaxies: pd.DataFrame) -> None:
    """Every galaxy can be written."""


def write(path: Path, table: pa.Table, columns: dict[str, Column], facts: dict) -> None:
    """`table` as the only table of a VOTable."""
    texts = [column for column in table.columns if is_text(column.type)]
    encoding = "ascii" if all(map(_ascii, texts)) else "utf-16-be"
    kinds = [kind(column, encoding) for column in table.columns]
    before, after = head(table.column_names, kinds, columns, facts).split(END)

    def fill(beside: Path) -> None:
        with beside.open("wb") as file:
            file.write((before + DATA[0]).encode())
            for lines in _lines(table, kinds, encoding):
                file.write(lines)
            file.write((DATA[1] + END + after).encode())

    write_whole(path, fill)


def head(names: list[str], kinds: list[Kind], columns: dict[str, Column], facts: dict) -> str:
    """A VOTable of the columns `names`, as it is before its rows are written."""
    file = VOTableFile(version="1.4")
    part = Resource(type="results")
    table = TableElement(file, name="posterior")
    file.resources.append(part)
    part.tables.append(table)
    for name, value in sorted(facts.items()):
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        part.infos.append(Info(ID=f"info_{name}", name=name, value=text))
    for number, (name, one) in enumerate(zip(names, kinds, strict=True)):
        unit, ucd, description = columns[name]
        field = Field(
            file,
            name=name,
            ID=_xml_id(name, number),
            datatype=one.votable,
            arraysize=one.arraysize,
            unit=unit or None,
            ucd=ucd,
        )
        field.description = description
        table.fields.append(field)
    written = BytesIO()
    file.to_xml(written)
    return re.sub(  # astropy breaks their lines
        r"<DESCRIPTION>(.*?)</DESCRIPTION>",
        lambda found: f"<DESCRIPTION>{' '.join(found[1].split())}</DESCRIPTION>",
        written.getvalue().decode(),
        flags=re.DOTALL,
    )


def _xml_id(name: str, number: int) -> str:
    """`name`, by which astropy calls the column, if XML takes it; else, with its `number`, what XML takes of it."""
    return name if re.fullmatch(r"[A-Za-z_][\w.-]*", name, re.ASCII) else f"column_{number}"


def _lines(table: pa.Table, kinds: list[Kind], encoding: str) -> Iterator[bytes]:
    """The rows in base64, each behind a bit per column that says whether its value is missing."""
    left = b""
    for rows, empty in blocks(table, kinds, encoding, b"?"):
        numbers = rows.view(np.uint8).reshape(len(rows), -1)
        data = left + np.hstack([np.packbits(empty, axis=1), numbers]).tobytes()
        whole = len(data) - len(data) % LINE
        left = data[whole:]
        yield base64.encodebytes(data[:whole])
    yield base64.encodebytes(left)


def _ascii(column: pa.ChunkedArray) -> bool:
    return all(text is None or text.isascii() for text in column.to_pylist())
