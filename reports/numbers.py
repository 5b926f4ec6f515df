"""Numbers as a page tells them: with what they range over, to few digits."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

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


def measure(values: Iterable[Any]) -> Measure | None:
    """The mean and spread of `values`; None if there are none, or if one of them is no number."""
    numbers = list(values)
    if not numbers or not all(map(number, numbers)):
        return None
    spread = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None
    return Measure(float(np.mean(numbers)), spread)


def number(value: Any) -> bool:
    """Whether `value` is a finite number."""
    known = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return known and math.isfinite(value)


def cell(value: Any, form: str | None = None) -> str:
    """`value` as text: a number by `form`, else whole if it is, else to three significant digits."""
    if isinstance(value, str):
        return value or NOTHING
    if isinstance(value, Measure):
        form = form or f",.{_decimals(value.mean)}f"
        spread = "" if value.spread is None else f" ± {format(value.spread, form)}"
        return format(value.mean, form) + spread
    if isinstance(value, Range):
        middle, low, high = (cell(end, form) for end in value)
        return middle if low == middle == high else f"{middle} ({low} to {high})"
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
