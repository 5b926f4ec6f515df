"""CSV files that a spreadsheet shows and never executes, and that read back exactly.

A spreadsheet takes a cell for a formula if it begins with =, +, -, @ or a control character, even one that was quoted
(owasp.org, CSV Injection). An apostrophe in front makes it text. Plain numbers stay as they are.
"""

import csv
import re
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from shared.run.records import write_whole

FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")  # the last four are their wide forms
NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|nan)", re.ASCII | re.IGNORECASE)
MARK = "'"


def to_cell(value):
    """`value` as a cell of a CSV file: text that a spreadsheet would execute begins with an apostrophe."""
    if not isinstance(value, str) or NUMBER.fullmatch(value):
        return value
    risky = value.lstrip().startswith(FORMULA) or value.startswith((MARK, "\t", "\r", "\n"))
    return MARK + value if risky else value


def from_cell(text: str) -> str:
    """The text that `to_cell` made a cell of."""
    return text.removeprefix(MARK)


def as_csv(table: pd.DataFrame) -> bytes:
    """`table`, without its index, as a CSV file, its text as `to_cell` has it."""
    text = [name for name in table if not is_numeric_dtype(table[name])]
    cells = table.assign(**{name: [to_cell(value) for value in table[name]] for name in text})
    # Python's csv leaves a lone carriage return bare, before 3.13, and readers take it for the end of a line
    bare = any("\r" in str(value) for name in text for value in cells[name])
    quoting = csv.QUOTE_NONNUMERIC if bare else csv.QUOTE_MINIMAL
    return cells.to_csv(index=False, lineterminator="\n", quoting=quoting).encode()


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """`table` at `path` as `as_csv` has it, whole or not at all."""
    data = as_csv(table)
    write_whole(path, lambda beside: beside.write_bytes(data))
