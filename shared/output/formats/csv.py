"""CSV that a spreadsheet shows and never executes, and beside it what it has no place for.

The latter is a JSON file as the W3C's CSV on the Web has it: what each column means, and the run's facts.
"""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from shared.output.columns import Column
from shared.output.formats.rows import ROWS, is_text
from shared.run.records import write_json, write_whole
from shared.run.spec import COMPANION
from shared.run.spreadsheet import to_cell

TYPES = {"bool": "boolean", "float": "float", "double": "double", "string": "string"}


def check(galaxies: pd.DataFrame) -> None:
    """Every galaxy can be written."""


def write(path: Path, table: pa.Table, columns: dict[str, Column], facts: dict) -> None:
    """`table` as a CSV file, a missing value as an empty cell, and its companion, PATH-metadata.json."""

    def fill(beside: Path) -> None:
        with pyarrow.csv.CSVWriter(beside, table.schema) as file:
            for start in range(0, table.num_rows, ROWS):
                some = table.slice(start, ROWS)
                file.write(pa.table([_cells(column) for column in some.columns], table.schema))

    write_json(path.with_suffix(COMPANION), companion(path.name, table, columns, facts))
    write_whole(path, fill)


def companion(name: str, table: pa.Table, columns: dict[str, Column], facts: dict) -> dict:
    """What the columns of the CSV file `name` mean, and the `facts`."""
    fields = [
        {
            "name": field.name,
            "datatype": TYPES.get(str(field.type), "integer"),
            "dc:description": columns[field.name].description,
            "unit": columns[field.name].unit,
            "ucd": columns[field.name].ucd,
        }
        for field in table.schema
    ]
    return {
        "@context": "http://www.w3.org/ns/csvw",
        "url": name,
        "tableSchema": {"columns": fields},
        "trizoo": json.loads(json.dumps(facts, sort_keys=True)),
    }


def _cells(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if is_text(column.type):
        cells = [to_cell(text) for text in column.to_pylist()]
        return pa.chunked_array([pa.array(cells, column.type)])
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_nan(column), None, column)
    return column
