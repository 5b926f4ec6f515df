"""Parquet, with a unit, a UCD and a description of each column, and the head of a VOTable that says the same.

The latter is IVOA's VOParquet: TOPCAT, STILTS and astropy (format="parquet.votable") read it.
"""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.output.columns import Column
from shared.output.formats.rows import ANY_TEXT, is_text, number_kind
from shared.output.formats.votable import head
from shared.run.records import write_whole

RUN = b"trizoo"  # the key of the run's facts in the file's metadata
VOTABLE = b"IVOA.VOTable-Parquet"


def check(galaxies: pd.DataFrame) -> None:
    """Every galaxy can be written."""


def described(table: pa.Table, columns: dict[str, Column], facts: dict) -> pa.Table:
    """`table` with what its `columns` mean and the `facts` as metadata."""
    longest = {
        name: str(pc.max(pc.utf8_length(table[name])).as_py() or 1)
        for name, dtype in zip(table.column_names, table.schema.types, strict=True)
        if is_text(dtype)
    }
    kinds = [
        ANY_TEXT._replace(arraysize=longest[name]) if name in longest else number_kind(dtype)
        for name, dtype in zip(table.column_names, table.schema.types, strict=True)
    ]
    fields = [field.with_metadata(columns[field.name]._asdict()) for field in table.schema]
    metadata = {
        RUN: json.dumps(facts, sort_keys=True),
        **{f"table::len::{name}": length for name, length in longest.items()},  # astropy's
        VOTABLE + b".version": "1.0",
        VOTABLE + b".content": head(table.column_names, kinds, columns, facts),
    }
    return table.cast(pa.schema(fields, metadata))


def write(path: Path, table: pa.Table, columns: dict[str, Column], facts: dict) -> None:
    """`table` as one Parquet file."""
    whole = described(table, columns, facts)
    write_whole(path, lambda beside: pq.write_table(whole, beside, compression="zstd"))


def facts_of(schema: pa.Schema) -> dict:
    """The facts about the run that a file of this `schema` keeps."""
    return json.loads((schema.metadata or {}).get(RUN, b"{}"))
