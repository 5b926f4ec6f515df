"""What a report is made of, before it is a page: sections of prose, tables, figures, galleries."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

NOTHING = "—"


class Measure(NamedTuple):
    """A mean, and the standard deviation (n - 1) of what it is of; the spread of one is None."""

    mean: float
    spread: float | None


class Range(NamedTuple):
    """A number, and the ends of what it ranges over."""

    middle: float
    low: float
    high: float


class NumberText(str):
    """Text that is about a number, as "< 5 %": `value`, and perhaps what it ranges over."""

    value: float | None
    low: float | None
    high: float | None

    def __new__(
        cls, text: str, value: float | None, low: float | None = None, high: float | None = None
    ):
        """`text`, and the numbers it is about."""
        made = super().__new__(cls, text)
        made.value, made.low, made.high = value, low, high
        return made


@dataclass(frozen=True)
class Prose:
    """A paragraph of plain text, or, if there is more than one line, a list of them; `page` beside this
    one is linked.
    """

    lines: tuple[str, ...]
    page: str = ""
    kind = "prose"


def prose(*lines: str) -> Prose:
    """A paragraph, or a list of `lines`."""
    return Prose(lines)


@dataclass(frozen=True)
class Table:
    """A frame of numbers (units in the headings) and how they are written.

    `formats`: heading -> a format of its numbers; three significant digits where there is none. `records`: the numbers
    of the records behind it. `code`: headings whose text is to be copied. `files`: files beside the records that it was
    made from. `facets`: what a reader may choose it by; `faceted`: headings by which its rows may be chosen.
    `anchored`: the heading whose values links lead to.
    """

    caption: str
    frame: pd.DataFrame
    records: tuple[int, ...]
    formats: dict[str, str] = field(default_factory=dict)
    code: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    facets: dict[str, str] = field(default_factory=dict)
    faceted: tuple[str, ...] = ()
    anchored: str = ""
    kind = "table"

    @cached_property
    def headings(self) -> list[str]:
        """The name of each column."""
        return list(self.frame.columns)

    @cached_property
    def rows(self) -> list[list[str]]:
        """Every cell as text, row by row."""
        forms = [self.formats.get(heading) for heading in self.headings]
        return [
            [cell(value, form) for value, form in zip(row, forms, strict=True)]
            for row in self.frame.itertuples(index=False, name=None)
        ]

    @cached_property
    def marks(self) -> list[dict[str, str]]:
        """What the rows may be chosen by: heading -> value, only where there is one."""
        found = self.frame[list(self.faceted)].to_dict("records")
        return [
            {name: str(value) for name, value in row.items() if not absent(value)} for row in found
        ]

    @cached_property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers, and so are aligned at the right."""
        return [
            not any(isinstance(value, str) for value in self.frame[heading])
            and bool(self.frame[heading].notna().any())
            for heading in self.headings
        ]

    @cached_property
    def spread(self) -> list[bool]:
        """Which columns hold a mean with a spread."""
        return [any(" ± " in text for text in column) for column in zip(*self.rows, strict=True)]


@dataclass(frozen=True)
class Figure:
    """A drawing, `svg` with its colours still by name; `name` is its file name, `files` and `facets` are
    as of Table.
    """

    name: str
    caption: str
    svg: str
    records: tuple[int, ...]
    files: tuple[str, ...] = ()
    facets: dict[str, str] = field(default_factory=dict)
    kind = "figure"


class Picture(NamedTuple):
    """One galaxy: its id, the lines below it, and a `png` with its file name."""

    id: str
    lines: tuple[str, ...]
    name: str
    png: bytes


@dataclass(frozen=True)
class Gallery:
    """Galaxies side by side."""

    caption: str
    pictures: tuple[Picture, ...]
    records: tuple[int, ...]
    files: tuple[str, ...] = ()
    kind = "gallery"


@dataclass(frozen=True)
class Section:
    """A heading and what is below it; `chosen` is what its controls choose at first, of the facets of its blocks."""

    title: str
    blocks: tuple[Any, ...]
    chosen: dict[str, str] = field(default_factory=dict)

    @property
    def controls(self) -> dict[str, list[str]]:
        """The facets that there is a choice of, and the values of each, numbers in their order."""
        found: dict[str, set[str]] = {}
        for block in self.blocks:
            for name, value in getattr(block, "facets", {}).items():
                found.setdefault(name, set()).add(value)
            for name in getattr(block, "faceted", ()):
                values = (str(value) for value in block.frame[name] if not absent(value))
                found.setdefault(name, set()).update(values)
        return {name: sorted(values - {NOTHING}, key=natural) for name, values in found.items()}

    @property
    def anchor(self) -> str:
        """Its name in a link."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())


def natural(text: str) -> list[tuple[int, float, str]]:
    """A key that sorts `text` as people do: 64 px before 128 px."""
    parts = re.findall(r"\d+(?:\.\d+)?|\D+", text)
    return [(0, float(part), "") if part[0].isdigit() else (1, 0.0, part) for part in parts]


def bare(title: str, why: str) -> Section:
    """A section that has nothing to show, and says `why`."""
    return Section(title, (prose(why),))


def table(
    caption: str,
    rows: list[dict],
    records: Iterable[int],
    formats: dict[str, str] | None = None,
    code: tuple[str, ...] = (),
) -> Table:
    """A table of `rows`, one dict each with the same keys; the rest as for Table."""
    frame = pd.DataFrame(rows, dtype=object)
    return Table(caption, frame, tuple(sorted(set(records))), formats or {}, code)


def from_files(block: Any, *files: str) -> Any:
    """`block`, made from `files` below the folder of records; prose is as it was."""
    return block if isinstance(block, Prose) else replace(block, files=files)


def absent(value: Any) -> bool:
    """Whether `value` stands for nothing."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def measure(values: Iterable[Any]) -> Measure | None:
    """The mean and spread of `values`; None if there are none, or if one of them is no number."""
    numbers = list(values)
    if not numbers or not all(map(number, numbers)):
        return None
    return Measure(
        float(np.mean(numbers)), float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None
    )


def number(value: Any) -> bool:
    """Whether `value` is a finite number."""
    return (
        isinstance(value, int | float | np.number)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def cell(value: Any, form: str | None) -> str:
    """`value` as text: a number by `form`, else whole if it is, else to three significant digits."""
    if isinstance(value, str):
        return value or NOTHING
    if isinstance(value, Measure):
        form = form or f",.{_decimals(value.mean)}f"
        return format(value.mean, form) + (
            "" if value.spread is None else f" ± {format(value.spread, form)}"
        )
    if isinstance(value, Range):
        middle, low, high = (cell(end, form) for end in value)
        return f"{middle} ({low} to {high})"
    if not number(value):
        return NOTHING
    if form:
        return format(value, form)
    return f"{value:,}" if isinstance(value, int | np.integer) else significant(value)


def significant(value: float) -> str:
    """`value` to three significant digits; below 1/10000, as a power of ten."""
    return f"{value:.1e}" if 0 < abs(value) < 1e-4 else f"{value:,.{_decimals(value)}f}"


def _decimals(value: float) -> int:
    return max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers in a few words: 1-3, 7."""
    runs: list[list[int]] = []
    for value in sorted(set(numbers)):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
