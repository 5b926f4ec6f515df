"""A survey's table: a row per galaxy, with its id, what its image is called, its place and its votes.

Only wanted columns are read, as numbers or as text, and ids always as text: an 18-digit id never passes through a
floating-point column, which would change its last digits. Rows are counted from 1, the header not counted; where
several files make one table, through all of them in the order of their names.
"""

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from shared.data.columns import read_columns
from shared.data.cutouts import SUFFIXES
from shared.data.ids import check_ids, check_twice
from shared.data.places import as_degrees, check_scale, say_units, scale_of
from shared.data.rows import Column, Rows, as_pandas, few_of, is_among, say_absent
from shared.data.votes import votes_of
from shared.run.keys import galaxy_hash
from shared.run.spec import DatasetSpec


def read_catalogue(dataset: DatasetSpec) -> pd.DataFrame:
    """The galaxies of dataset.table, indexed by their row in it.

    Columns: id; file, what the table calls the image (the id where it has no such column, empty where it does not
    say); ra and dec in degrees, converted where the file gives another unit (NaN: unknown); scale in arcseconds per
    pixel, if dataset.images is an address that asks for it; votes_from (counted, fractions, assumed or class) and the
    int32 votes QUESTION_ANSWER and QUESTION_total of every question, if the table has votes. dataset.select keeps some
    rows, then dataset.galaxies some of those (see `fewer`), in the order of the table.

    A question whose columns are all empty was asked of nobody: 0 votes. Shares become votes by `_rebuilt`.

    Raises FileNotFoundError if a table is not there, and ValueError, naming the row and a fix, for anything in
    one that cannot be meant.
    """
    columns = read_columns(dataset)
    ids = columns["id"].values
    rows = Rows(dataset.table, ids, np.arange(1, len(ids) + 1))
    check_ids(rows)
    if dataset.select:
        taken = _selected(dataset, columns)
        columns = {key: Column(c.name, c.values.filter(taken)) for key, c in columns.items()}
        rows = Rows(dataset.table, columns["id"].values, rows.numbers[taken.to_numpy()])
    check_twice(rows)
    galaxies = {
        "id": as_pandas(rows.ids),
        "file": as_pandas(columns["file"].values if "file" in columns else rows.ids),
        "ra": as_degrees(columns.get("ra"), -180, 360, rows),
        "dec": as_degrees(columns.get("dec"), -90, 90, rows),
        **scale_of(dataset, columns, rows),
        **votes_of(dataset, columns, rows),
    }
    say_units(columns, galaxies["ra"], galaxies["dec"], rows)
    galaxies = pd.DataFrame(galaxies, index=rows.numbers)
    if "label" in columns:  # galaxies of other classes have no vote
        galaxies = galaxies[galaxies[f"{next(iter(dataset.questions))}_total"] > 0]
    galaxies = fewer(galaxies, dataset.galaxies)
    check_scale(dataset, galaxies)
    return galaxies


def list_catalogue(names: Sequence[str]) -> pd.DataFrame:
    """The galaxies of the images called `names`, where there is no table: id (from the name), file (the name), ra, dec.

    Raises ValueError if two names would be one galaxy.
    """
    named = {}
    for name in names:
        last = PurePosixPath(name).name
        suffix = next((end for end in SUFFIXES if last.lower().endswith(end)), "")
        other = named.setdefault(last[: len(last) - len(suffix)], name)
        if other != name:
            raise ValueError(f"{other} and {name} would be one galaxy; rename one")
    index = range(1, len(named) + 1)
    galaxies = pd.DataFrame({"id": list(named), "file": list(named.values())}, index, dtype=str)
    return galaxies.assign(ra=np.nan, dec=np.nan)


def fewer(galaxies: pd.DataFrame, count: int | None) -> pd.DataFrame:
    """`count` of `galaxies`, in their order; None: all. Those of the smallest hash of their id, which is not the
    split's: every part keeps its share, and fewer galaxies are some of more.
    """
    if count is None:
        return galaxies
    chosen = np.argsort(galaxy_hash(galaxies["id"], "fewer"), kind="stable")[:count]
    return galaxies.iloc[np.sort(chosen)]


def _selected(dataset: DatasetSpec, columns: dict[str, Column]) -> pa.ChunkedArray:
    """Which rows (row,) of bool have the values that dataset.select asks for."""
    taken = None
    for name, values in dataset.select.items():
        column = columns[f"select {name}"]
        here = is_among(column.values, values)
        taken = here if taken is None else pc.and_(taken, here)
        if not pc.any(taken).as_py():
            there = sorted(pc.unique(column.values).to_pylist())
            raise ValueError(
                f"dataset.select.{name} is {list(values)}, which keeps no galaxy of {dataset.table}; {column.name} "
                f"holds {few_of(there)}"
            )
        say_absent(f"dataset.select.{name}", values, column)
    return taken
