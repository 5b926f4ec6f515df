"""Parquet, with a unit, a UCD and a description of each column, and the head of a VOTable that says the same.

The latter is IVOA's VOParquet: TOPCAT, STILTS and astropy (format="parquet.votable") read it.
"""

import json
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from shared.output.columns import Column, describe_columns
from shared.output.formats.rows import ANY_TEXT, is_text, number_kind
from shared.output.formats.votable import head
from shared.run.records import write_whole

RUN = b"trizoo"  # the key of the run's facts in the file's metadata
VOTABLE = b"IVOA.VOTable-Parquet"


def check(galaxies: pd.DataFrame) -> None:
    """Every galaxy can be written."""


def described(table: pa.Table, columns: dict[str, Column], facts: dict) -> pa.Table:
    """`table` with what its `columns` mean and the `facts` as metadata."""
    return table.cast(described_schema(table.schema, columns, facts, longest_texts(table)))


def write(path: Path, table: pa.Table, columns: dict[str, Column], facts: dict) -> None:
    """`table` as one Parquet file."""
    whole = described(table, columns, facts)
    write_whole(path, lambda beside: pq.write_table(whole, beside, compression="zstd"))


def write_blocks(
    path: Path, blocks: Iterable[pa.Table], facts: dict, longest: dict[str, int]
) -> None:
    """Tables of a posterior, one after the other, as one Parquet file: no more than one need exist at once.

    `longest` says how long the texts of a column may be, over all tables. Each is a row group. Raises ValueError for no
    tables, and for one whose columns are others than the first's.
    """

    def write_all(beside: Path) -> None:
        rest = iter(blocks)
        first = next(rest, None)
        if first is None:
            raise ValueError(f"there are no tables to write to {path}; give one, if of no galaxies")
        schema = described_schema(
            first.schema, describe_columns(first.column_names), facts, longest
        )
        with pq.ParquetWriter(beside, schema, compression="zstd") as writer:
            for table in chain([first], rest):
                if table.column_names != schema.names:
                    other = sorted(set(table.column_names) ^ set(schema.names)) or "their order"
                    raise ValueError(
                        f"a table for {path} has other columns than the first ({other}); all must have the same"
                    )
                writer.write_table(table.cast(schema))

    write_whole(path, write_all)


def longest_texts(table: pa.Table) -> dict[str, int]:
    """How long the longest text of each column of texts is, at least 1."""
    names = [field.name for field in table.schema if is_text(field.type)]
    return {name: pc.max(pc.utf8_length(table[name])).as_py() or 1 for name in names}


def described_schema(
    schema: pa.Schema, columns: dict[str, Column], facts: dict, longest: dict[str, int]
) -> pa.Schema:
    """`schema` with what its `columns` mean and the `facts`; `longest` are the widths of columns of text."""
    kinds = [
        ANY_TEXT._replace(arraysize=str(longest[field.name]))
        if field.name in longest
        else number_kind(field.type)
        for field in schema
    ]
    fields = [field.with_metadata(columns[field.name]._asdict()) for field in schema]
    metadata = {
        RUN: json.dumps(facts, sort_keys=True),
        **{f"table::len::{name}": str(length) for name, length in longest.items()},  # astropy's
        VOTABLE + b".version": "1.0",
        VOTABLE + b".content": head(schema.names, kinds, columns, facts),
    }
    return pa.schema(fields, metadata)


def facts_of(schema: pa.Schema) -> dict:
    """The facts about the run that a file of this `schema` keeps."""
    return json.loads((schema.metadata or {}).get(RUN, b"{}"))
