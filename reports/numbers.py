"""Every number of the report to compute with: numbers.csv, tidy, and tables.csv, which says what its tables are."""

import csv
import io
import re
from collections.abc import Iterable, Iterator

import numpy as np

from reports.blocks import Measure, NumberText, Range, Section, Table, number, ranges
from shared.run.spreadsheet import to_cell

NUMBERS = (
    "table",  # as tables.csv counts them, from 1
    "row",  # of that table, from 1; the numbers of one row belong together
    "key",  # the words of the row
    "column",
    "value",
    "spread",  # standard deviation, of a mean
    "low",
    "high",
    "unit",
)
DIGITS = 12
TABLES = ("table", "section", "caption", "records", "files")
BARE_UNITS = ("images/s", "megapixels/s", "seconds", "joules", "money")


def numbers_csv(sections: Iterable[Section]) -> str:
    """Each number of each table of `sections`, to DIGITS digits, as CSV under NUMBERS."""
    counted = enumerate(tables(sections), 1)
    return _csv(NUMBERS, ([place, *row] for place, (_, made) in counted for row in _of(made)))


def tables_csv(sections: Iterable[Section]) -> str:
    """Each table of `sections`, as CSV under TABLES."""
    rows = (
        [place, section, made.caption, ranges(made.records), "; ".join(made.files)]
        for place, (section, made) in enumerate(tables(sections), 1)
    )
    return _csv(TABLES, rows)


def tables(sections: Iterable[Section]) -> list[tuple[str, Table]]:
    """(title of the section, table) of every table, in the order of the page."""
    return [
        (section.title, block)
        for section in sections
        for block in section.blocks
        if block.kind == "table"
    ]


def _csv(head: Iterable[str], rows: Iterable[list]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(map(to_cell, row) for row in rows)
    return text.getvalue()


def _of(made: Table) -> Iterator[list]:
    units = [unit(heading) for heading in made.headings]
    kept = [heading not in made.code for heading in made.headings]
    for place, row in enumerate(made.frame.itertuples(index=False, name=None), 1):
        found = [numbers(value) for value in row]
        words = [
            value
            for value, measured, key in zip(row, found, kept, strict=True)
            if key and measured is None and isinstance(value, str)
        ]
        key = "; ".join(filter(None, words))
        for heading, measured, its_unit in zip(made.headings, found, units, strict=True):
            if measured:
                yield [place, key, heading, *map(exact, measured), its_unit]


def numbers(value) -> tuple | None:
    """(value, spread, low, high) of a cell, with "" for what it has not; None if it is no number."""
    if isinstance(value, Measure):
        return value.mean, _or_empty(value.spread), "", ""
    if isinstance(value, Range):
        return value.middle, "", value.low, value.high
    if isinstance(value, NumberText):
        found = (value.value, "", _or_empty(value.low), _or_empty(value.high))
        return found if number(value.value) else None
    return (value, "", "", "") if number(value) else None


def exact(value) -> str:
    """`value` to DIGITS digits, whoever made it: the last of a float are another processor's otherwise."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | np.integer):
        return repr(int(value))
    return repr(float(f"{value:.{DIGITS}g}"))


def _or_empty(value) -> float | str:
    return value if number(value) else ""


def unit(heading: str) -> str:
    """The unit that `heading` ends with in brackets, or is; "" for a bare number."""
    found = re.search(r"\(([^()]+)\)$", heading)
    return found[1] if found else heading if heading in BARE_UNITS else ""
