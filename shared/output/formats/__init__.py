"""The files that a posterior table is written to: one module per format, each with the same two functions.

`check(galaxies)` raises ValueError where a table of these galaxies cannot be written, so that a run that would fail at
its end fails at its start. `write(path, table, columns, facts)` writes the Arrow `table` at `path`, whole or not at
all: `columns` says what each column means, `facts` are plain data about the run. The same input gives the same bytes.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pandas as pd
import pyarrow.parquet as pq

from shared.output.columns import describe_columns, friendly
from shared.run.spec import TABLE_COLUMNS, TABLE_FORMATS


def module(name: str) -> ModuleType:
    """The module of a format."""
    return import_module(f"shared.output.formats.{name}")


def check_formats(formats: tuple[str, ...], galaxies: pd.DataFrame) -> None:
    """Raise ValueError if a table of `galaxies` (id, ra, dec) cannot be written in one of `formats`, saying why."""
    for name in formats:
        module(name).check(galaxies)


def convert(posterior: Path, folder: Path, formats: tuple[str, ...], columns: str) -> list[Path]:
    """Write the table of the file `posterior` into `folder`, once in each of `formats`, and give where.

    `columns` is full or friendly: full ones are called posterior.*, friendly ones friendly.*. A file that is
    `posterior` itself is left as it is. Raises ValueError or OSError where one cannot be written.
    """
    table = pq.read_table(posterior)
    facts = module("parquet").facts_of(table.schema)
    if columns == "friendly":
        table = table.select(friendly(table.column_names))
    described, written = describe_columns(table.column_names), []
    for name in formats:
        path = folder / f"{TABLE_COLUMNS[columns]}{TABLE_FORMATS[name]}"
        if path != posterior:
            module(name).write(path, table, described, facts)
        written.append(path)
    return written
