"""Plots as SVG, written out: axes, lines, dots, bars. Colours are names that a page replaces, as in figures.

Every mark says what it is in a <title>, which a browser shows, and the page's script at once. No id is used, so that
any number of them may stand on one page.
"""

import math
from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

from reports.runs import TITLES

# Stand-ins that a page replaces; the backends' are of the palette of Okabe and Ito (https://jfly.uni-koeln.de/color/).
INK, FAINT, PAPER = "#010203", "#010204", "#010205"
BACKENDS = {"tf": "#d55e00", "torch": "#0072b2", "jax": "#009e73"}
OTHER = "#777777"
WIDTHS = {
    "tf": 2.6,
    "torch": 1.7,
    "jax": 0.9,
}  # lines often lie on each other: those drawn first are wider
DASHES = {"-": "", ":": "1.5 2.5", "--": "6 3", "-.": "7 2.5 1.5 2.5"}
WIDTH, HEIGHT = 400.0, 270.0
LETTER = 6.2  # the mean width of a letter of 11.5 px, generously
LONGEST = 34  # letters of a row's label; the tables have all of it
TOLD = 24  # points of an unmarked line that say their value


class Line(NamedTuple):
    """One line of a plot: points (x, y), perhaps a band (low, high), dashes and what they mean."""

    backend: str
    x: Sequence[float]
    y: Sequence[float]
    band: tuple[Sequence[float], Sequence[float]] | None = None
    dashes: str = "-"
    meaning: str = ""
    marked: bool = False
    of: str = ""  # what its points are of, where they are told, if not backend and meaning

    @property
    def name(self) -> str:
        """What it is called where its points are told."""
        if self.of:
            return self.of
        title = TITLES.get(self.backend, self.backend)
        return f"{title}, {self.meaning}" if self.meaning and self.meaning != title else title


class Row(NamedTuple):
    """One row of a dot or bar plot: its label, the backend's colour, its values, perhaps their range.

    `faint` rows are hollow; `facets`: a name and a value that the page's controls choose among.
    """

    label: str
    backend: str
    values: Sequence[float]
    range: tuple[float, float] | None = None
    faint: bool = False
    facets: tuple[tuple[str, str], ...] = ()


class Scale(NamedTuple):
    """Values to places: `low` is at `start`, `high` at `end`; `ticks` are marked."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Where `value` is."""
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)

    def text(self, tick: float) -> str:
        """`tick` in words, to as many digits as tell it from its neighbour."""
        gap = min((b - a for a, b in pairwise(self.ticks)), default=abs(tick) or 1.0)
        digits = max(0, -math.floor(math.log10(gap) + 1e-9))
        return f"{tick:,.{digits}f}".replace("-", "−")


class LogScale(Scale):
    """A logarithmic scale."""

    def at(self, value: float) -> float:
        """Where `value` is; it must be positive."""
        part = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + (self.end - self.start) * part

    def text(self, tick: float) -> str:
        """`tick` as it is."""
        return f"{tick:,.10g}"


def linear(values: Iterable[float], start: float, end: float) -> Scale:
    """A scale that holds `values` with a margin, and has round ticks."""
    low, high = _ends(values)
    gap = (high - low) or abs(high) or 1.0
    low, high = low - 0.04 * gap, high + 0.04 * gap
    return Scale(low, high, start, end, round_ticks(low, high))


def from_zero(values: Iterable[float], start: float, end: float) -> Scale:
    """A scale from 0 to a little beyond `values`."""
    high = _ends([0.0, *values])[1] * 1.06 or 1.0
    return Scale(0.0, high, start, end, round_ticks(0.0, high))


def logarithmic(values: Iterable[float], start: float, end: float) -> LogScale:
    """A scale by logarithms that holds `values`, all positive; few values are its ticks, else 1, 2, 5, 10."""
    there = sorted(set(values)) or [1.0]
    low, high = there[0] / 1.15, there[-1] * 1.15
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**power for power in decades for digit in (1, 2, 5)]
    inside = [tick for tick in ticks if low <= tick <= high]
    if len(inside) > 7:
        inside = [tick for tick in inside if f"{tick:e}".startswith("1")]
    few = there if len(there) <= 7 and all(value == int(value) for value in there) else inside
    return LogScale(low, high, start, end, tuple(few or there))


def _ends(values: Iterable[float]) -> tuple[float, float]:
    there = [float(value) for value in values if math.isfinite(value)] or [0.0, 1.0]
    return min(there), max(there)


def round_ticks(low: float, high: float) -> tuple[float, ...]:
    """Three to seven round numbers from `low` to `high`."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (5, 2, 1) if (high - low) / (factor * step) >= 2.9)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(round(place * step, 12) for place in range(first, last + 1))


# The plots


def lines_svg(caption: str, lines: list[Line], axes: tuple[str, str], equal: bool = False) -> str:
    """`lines` over `axes`, the titles of x and y; `equal` also draws where both are the same."""
    return _lines(caption, lines, axes, (linear, linear), equal)


def log_lines_svg(caption: str, lines: list[Line], axes: tuple[str, str]) -> str:
    """`lines` over logarithmic `axes`, of what is positive only."""
    return _lines(caption, lines, axes, (logarithmic, logarithmic), False)


def _lines(caption: str, lines: list[Line], axes: tuple, scales: tuple, equal: bool) -> str:
    lines = [_finite(line) for line in lines]
    bands = [value for line in lines for side in line.band or () for value in side]
    ys = [*(value for line in lines for value in line.y), *bands]
    left, bottom = 58.0, HEIGHT - 46.0
    across = scales[0]([value for line in lines for value in line.x], left, WIDTH - 14)
    up = scales[1](ys, bottom, 12.0)
    body = [*_grid(across, up, axes, left, bottom)]
    if equal:
        low, high = max(across.low, up.low), min(across.high, up.high)
        ends = [(across.at(value), up.at(value)) for value in (low, high)]
        body.append(_path(ends, f'stroke="{INK}" stroke-width="0.8" stroke-dasharray="4 3"'))
    body += [part for line in lines for part in _line(line, across, up)]
    keys, height = _legend(lines, HEIGHT)
    return svg(caption, [*body, *keys], height)


def _finite(line: Line) -> Line:
    """`line` without the points that are not numbers, as of a training that diverged."""
    there = [
        n
        for n, pair in enumerate(zip(line.x, line.y, strict=True))
        if all(map(math.isfinite, pair))
    ]
    x, y = ([float(side[n]) for n in there] for side in map(list, (line.x, line.y)))
    band = line.band and tuple([float(side[n]) for n in there] for side in map(list, line.band))
    return line._replace(x=x, y=y, band=band)


def _line(line: Line, across: Scale, up: Scale) -> list[str]:
    colour, width = BACKENDS.get(line.backend, OTHER), WIDTHS.get(line.backend, 1.0)
    xs = [across.at(x) for x in line.x]
    points = list(zip(xs, map(up.at, line.y), strict=True))
    parts = []
    if line.band:
        low, high = ([*zip(xs, map(up.at, side), strict=True)] for side in line.band)
        ends = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*low, *reversed(high)])
        parts.append(f'<polygon points="{ends}" fill="{colour}" fill-opacity="0.15"/>')
    dashes = f' stroke-dasharray="{DASHES[line.dashes]}"' if DASHES.get(line.dashes) else ""
    parts.append(
        _path(points, f'stroke="{colour}" stroke-width="{width}" stroke-opacity="0.9"{dashes}')
    )
    every = 1 if line.marked else -(-len(points) // TOLD) or 1
    look = f'fill="{colour}"' if line.marked else 'fill-opacity="0"'
    for (x, y), value, height in list(zip(points, line.x, line.y, strict=True))[::every]:
        text = f"{line.name}: {plain(height)} at {plain(value)}"
        parts.append(
            f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="{3 if line.marked else 5}" {look}>'
            f"<title>{escape(text)}</title></circle>"
        )
    return parts


def dots_svg(caption: str, rows: list[Row], axis: str) -> str:
    """The values of `rows` as dots along `axis`, their mean as a stroke."""
    across, step, places = _across(rows, linear)
    body = [*_columns(across, rows, axis, step)]
    for row, y in zip(rows, places, strict=True):
        colour, mean = BACKENDS.get(row.backend, OTHER), sum(row.values) / len(row.values)
        stroke = f'stroke="{INK}" stroke-width="1.4"'
        body.append(_path([(across.at(mean), y - 8), (across.at(mean), y + 8)], stroke))
        body += [
            f'<circle class="mark" cx="{across.at(value):.1f}" cy="{y:.1f}" r="4" fill="{colour}" fill-opacity="0.85">'
            f"<title>{escape(f'{row.label}: {plain(value)}')}</title></circle>"
            for value in row.values
        ]
    return svg(caption, body, _height(rows, step))


def bars_svg(caption: str, rows: list[Row], axis: str) -> str:
    """The first value of `rows` as bars along `axis`, and its range as a whisker."""
    across, step, places = _across(rows, from_zero)
    body = [*_columns(across, rows, axis, step)]
    for row, y in zip(rows, places, strict=True):
        colour, end = BACKENDS.get(row.backend, OTHER), across.at(row.values[0])
        look = f'fill="{colour}" stroke="{colour}" fill-opacity="{0.25 if row.faint else 0.9}"'
        title = f"{row.label}: {plain(row.values[0])}"
        whisker = ""
        if row.range:
            low, high = row.range
            title += f" ({plain(low)} to {plain(high)})"
            ends = [(across.at(low), y), (across.at(high), y)]
            whisker = _path(ends, f'stroke="{INK}" stroke-width="1.6"')
        tags = "".join(f' data-{slug(name)}="{escape(value)}"' for name, value in row.facets)
        start = across.start
        body.append(
            f'<g class="mark"{tags}><title>{escape(title)}</title>'
            f'<rect x="{start:.1f}" y="{y - 7:.1f}" width="{max(0, end - start):.1f}" height="14" {look}/>{whisker}</g>'
        )
    return svg(caption, body, _height(rows, step))


# Their parts


def svg(caption: str, body: Iterable[str], height: float) -> str:
    """`body` as an SVG of WIDTH x `height` that `caption` describes."""
    return (
        f'<svg role="img" aria-label="{escape(caption)}" class="chart" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {WIDTH:.0f} {height:.0f}" width="{WIDTH:.0f}" height="{height:.0f}" fill="none" '
        f'font-family="system-ui, sans-serif" font-size="11.5" style="background: {PAPER}">\n'
        + "\n".join(body)
        + "\n</svg>"
    )


def slug(name: str) -> str:
    """`name` as part of an attribute: small letters, digits and hyphens."""
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def plain(value: float) -> str:
    """`value` to four significant digits, whole numbers in full."""
    if value == int(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    if not 1e-4 <= abs(value) < 1e15:
        return f"{value:.3e}"
    return f"{value:,.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"


def _path(points: Iterable[tuple[float, float]], look: str) -> str:
    return f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" {look}/>'


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{INK}"{more}>{escape(text, quote=False)}</text>'


def _grid(across: Scale, up: Scale, axes: tuple, left: float, bottom: float) -> Iterable[str]:
    line = f'stroke="{FAINT}" stroke-width="0.8"'
    for tick in up.ticks:
        y = up.at(tick)
        yield _path([(left, y), (across.end, y)], line)
        yield _text(left - 6, y + 4, up.text(tick), ' text-anchor="end"')
    for tick in across.ticks:
        x = across.at(tick)
        yield _path([(x, up.end), (x, bottom)], line)
        yield _text(x, bottom + 16, across.text(tick), ' text-anchor="middle"')
    yield _path([(left, up.end), (left, bottom), (across.end, bottom)], f'stroke="{INK}"')
    yield _text((left + across.end) / 2, bottom + 36, axes[0], ' text-anchor="middle"')
    middle = (up.end + bottom) / 2
    turned = f' text-anchor="middle" transform="rotate(-90 12 {middle:.1f})"'
    yield _text(12, middle, axes[1], turned)


def _across(rows: list[Row], scale) -> tuple[Scale, float, list[float]]:
    left = 10 + LETTER * max(len(short(row.label)) for row in rows)
    values = [value for row in rows for value in (*row.values, *(row.range or ()))]
    step = 22.0
    return (
        scale(values, left, WIDTH - 16),
        step,
        [10 + step * (n + 0.5) for n in range(len(rows))],
    )


def _columns(across: Scale, rows: list[Row], axis: str, step: float) -> Iterable[str]:
    bottom = 10 + step * len(rows)
    for tick in across.ticks:
        x = across.at(tick)
        yield _path([(x, 6), (x, bottom)], f'stroke="{FAINT}" stroke-width="0.8"')
        yield _text(x, bottom + 16, across.text(tick), ' text-anchor="middle"')
    yield _path([(across.start, bottom), (across.end, bottom)], f'stroke="{INK}"')
    yield _text((across.start + across.end) / 2, bottom + 34, axis, ' text-anchor="middle"')
    for place, row in enumerate(rows):
        y = 10 + step * (place + 0.5) + 4
        yield _text(across.start - 6, y, short(row.label), ' text-anchor="end"')


def _height(rows: list[Row], step: float) -> float:
    return 10 + step * len(rows) + 42


def short(label: str) -> str:
    """`label`, cut where it is too long for a figure."""
    return label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…"


def _legend(lines: list[Line], top: float) -> tuple[list[str], float]:
    """The keys of `lines` below `top`, and where they end."""
    keys = [
        (TITLES.get(name, name), BACKENDS.get(name, OTHER), "-")
        for name in dict.fromkeys(line.backend for line in lines)
    ]
    meanings = dict.fromkeys((line.meaning, line.dashes) for line in lines if line.meaning)
    keys += [(text, INK, dashes) for text, dashes in meanings]
    parts, x, y = [], 58.0, top + 4
    for text, colour, dashes in keys:
        wide = 34 + LETTER * len(text)
        if x > 58 and x + wide > WIDTH:
            x, y = 58.0, y + 18
        look = f' stroke-dasharray="{DASHES[dashes]}"' if DASHES.get(dashes) else ""
        parts.append(_path([(x, y), (x + 20, y)], f'stroke="{colour}" stroke-width="2"{look}'))
        parts.append(_text(x + 26, y + 4, text))
        x += wide
    return parts, y + 12
