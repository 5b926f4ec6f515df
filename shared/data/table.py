"""An open table, and what every kind of file of tables needs: the memory it may take, which of its parts is meant."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from shared.run.progress import say

# What a table may need in memory: so many times its file, but that many bytes it always may, and more than the most
# never. The largest catalogue of votes, 8.7 million galaxies of DESI, needs a tenth of the most. Text needs about
# eight times its length: a cell may be a digit and a comma.
UNPACKED, ALWAYS, MOST_BYTES = 500, 64 * 2**20, 32 * 2**30
TEXT = 8


class Table(NamedTuple):
    """An open table."""

    path: str
    names: Sequence[str]
    read: Callable[[Sequence[str], Sequence[str]], pa.Table]  # columns of text, columns of numbers
    units: Mapping[str, str] = {}  # of the columns that the file gives one
    note: str = ""  # what else the file holds, where a column is missing
    kind: str = ""  # the format, in words


class Unusable(ValueError):
    """A file that is whole, but not of use; `advice` is the fix."""

    def __init__(self, what: str, advice: str):
        super().__init__(what)
        self.advice = advice


def most_bytes(path: Path) -> int:
    """How many bytes of memory the table at `path` may need."""
    return min(MOST_BYTES, max(ALWAYS, UNPACKED * path.stat().st_size))


def too_large(path: Path) -> Unusable:
    return Unusable(
        f"its {path.stat().st_size:,} bytes unpack to more than a table of that size may",
        "write it anew with fewer rows or columns, or not packed",
    )


def not_one(name: str, what: object) -> Unusable:
    return Unusable(
        f"column {name!r} holds {what} in each row, not one value",
        "name another column in dataset.columns, or write one value in each row",
    )


def choose_part(tables: Mapping[int, str], hdu: str | None, what: str) -> int:
    """The number of that of the `tables` of a file, each a `what`, that `hdu` names; None: the first."""
    if not tables:
        raise Unusable("it holds no table", "name a file of a table")
    if hdu is None:
        return min(tables)
    alike = [number for number, name in tables.items() if name.lower() == hdu.strip().lower()]
    alike += [number for number in tables if str(number) == hdu.strip()]
    if not alike:
        raise Unusable(
            f"dataset.table_hdu is {hdu}, but its tables are {list_parts(tables, what)}", "name one"
        )
    return alike[0]


def list_parts(tables: Mapping[int, str], what: str) -> str:
    """The tables of a file, each a `what`, by number and name."""
    return ", ".join(
        f"{what} {n} ({name})" if name else f"{what} {n}" for n, name in tables.items()
    )


def say_parts(path: Path, tables: Mapping[int, str], hdu: str | None, what: str) -> str:
    """What to add where a column is missing; says so where a file has several tables and none is chosen by `hdu`."""
    if len(tables) < 2:
        return ""
    if hdu is None:
        say(
            f"{path} has tables in {list_parts(tables, what)}: the first is read, or that of dataset.table_hdu"
        )
    return f"; dataset.table_hdu names another table: {list_parts(tables, what)}"
