"""The ids of galaxies: whole, none twice, none that a spreadsheet damaged."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from shared.data.rows import Rows, as_pandas
from shared.run.progress import say

EXACT = 2**53  # the integers up to here are floating-point numbers, of those beyond only some
# Ids that are none: a number with an exponent, or with a fraction of zeros, has been through a floating-point column,
# which holds 16 digits; and what programs write where there is no value.
EXPONENT = r"^[+-]?(\d|\d+[.,]\d*|[.,]\d+)[eE][+-]?\d{1,3}$"
ZEROS, FRACTION = r"^\+?\d+[.,]0*$", r"^[+-]?\d+[.,]\d*[1-9]\d*$"
NOTHING = (
    r"^(-\d+([.,]\d*)?|[+-]?(nan|inf(inity)?)|nat|null|none|nil|<na>|n/?a|masked|undefined|-+|\?+"
    r"|#+|#[a-z0/]+[!?]?)$"
)


def check_ids(rows: Rows) -> None:
    """Raise ValueError, naming its row, for an id that stands for none."""
    for i in np.flatnonzero(pc.equal(rows.ids, ""))[:1]:
        raise ValueError(
            f"row {rows.numbers[i]} of {rows.path} has no id; give it one or remove the row"
        )
    nothing = pc.match_substring_regex(rows.ids, NOTHING, ignore_case=True)
    for i in np.flatnonzero(nothing)[:1]:
        raise ValueError(
            f"row {rows.numbers[i]} of {rows.path} has the id {rows.ids[int(i)]}, which names no galaxy: such words "
            "and negative numbers stand for a missing value. Give it one or remove the row"
        )


def check_digits(path: str, ids: pa.ChunkedArray) -> None:
    """Raise ValueError, naming its row, for an id that has lost digits; say so where all of them may have.

    Large integers all of which a floating-point column could hold have most likely been in one. That is no proof:
    SDSS's specobjid are multiples of 1024 by nature. So it is told, and where two became one, that is refused.
    """
    lost = pc.match_substring_regex(ids, EXPONENT)
    zeros = pc.match_substring_regex(ids, ZEROS)
    if pc.any(zeros).as_py() and not pc.any(pc.match_substring_regex(ids, FRACTION)).as_py():
        lost = pc.or_(lost, zeros)  # else a way to number, as 1.0, 1.1, 1.2
    for i in np.flatnonzero(lost)[:1]:
        raise ValueError(
            f"row {i + 1} of {path} has the id {ids[int(i)]}, a floating-point number, which has lost digits, perhaps "
            "in a spreadsheet or in TOPCAT; use the original table"
        )
    long = ids.filter(pc.match_substring_regex(ids, r"^\d{16,19}$"))
    values = long.cast(pa.uint64()).to_numpy()
    values = values[values > EXACT]
    if len(values) > 2 and (values.astype(np.float64).astype(np.uint64) == values).all():
        say(
            f"the {len(values):,} long ids of {path}, {values[0]} for one, are all such as a floating-point column "
            "can hold, which most others are not; if they have been in one, their last digits are wrong: use the "
            "original table"
        )


def check_twice(rows: Rows) -> None:
    """Raise ValueError if an id is there twice."""
    if pc.count_distinct(rows.ids).as_py() == len(rows.ids):
        return
    ids = pd.Series(as_pandas(rows.ids), rows.numbers)
    row = ids.index[ids.duplicated()][0]
    first = ids.index[ids == ids[row]][0]
    raise ValueError(
        f"galaxy {ids[row]} is in {rows.path} twice, as row {first} and row {row}; keep one of them"
    )
