"""Line charts as SVG, the one way in which this project draws: on pages, in docs/, beside a run.

Colours are variables of a page's style sheet with what they are elsewhere behind: `in_file` puts that in. Every mark
says what it is in a <title>. No id is used, so that any number of charts may stand on one page.
"""

import math
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from markupsafe import Markup

from reports.html import tag
from reports.runs import TITLES

INK, FAINT, PAPER = "var(--ink, #1c2024)", "var(--faint, #dfe3e8)", "var(--paper, #ffffff)"
# Of the palette of Okabe and Ito (https://jfly.uni-koeln.de/color/).
PLAIN = {"tf": "#d55e00", "torch": "#0072b2", "jax": "#009e73"}
BACKENDS = {name: f"var(--{name}, {colour})" for name, colour in PLAIN.items()}
OTHER = "var(--other, #777777)"
WIDTHS = {"tf": 2.6, "torch": 1.7, "jax": 0.9}  # lines often lie on each other: the first are wider
DASHES = {"-": None, ":": "1.5 2.5", "--": "6 3", "-.": "7 2.5 1.5 2.5"}
WIDTH, HEIGHT = 400.0, 250.0
LETTER = 6.2  # the mean width of a letter of 11.5 px, generously
TOLD = 24  # points of an unmarked line that say their value


class Line(NamedTuple):
    """One line: points (x, y), perhaps a band (low, high), dashes and what they mean."""

    backend: str
    x: Sequence[float]
    y: Sequence[float]
    band: tuple[Sequence[float], Sequence[float]] | None = None
    dashes: str = "-"
    meaning: str = ""
    marked: bool = False

    @property
    def name(self) -> str:
        """What it is called where its points are told."""
        title = TITLES.get(self.backend, self.backend)
        return ", ".join(filter(None, (title, self.meaning)))


class Scale(NamedTuple):
    """Values to places: `low` is at `start`, `high` at `end`; `ticks` are marked; `log`: by logarithms."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    log: bool = False

    def at(self, value: float) -> float:
        """Where `value` is."""
        if self.log:
            part = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + (self.end - self.start) * min(max(part, -9.0), 9.0)

    def text(self, tick: float) -> str:
        """`tick` in words, to as many digits as tell it from its neighbour."""
        if self.log:
            return f"{tick:,.10g}"
        gap = min((b - a for a, b in pairwise(self.ticks)), default=abs(tick) or 1.0)
        digits = max(0, -math.floor(math.log10(gap) + 1e-9))
        return f"{tick:,.{digits}f}".replace("-", "−")


def linear(values: Iterable[float], start: float, end: float) -> Scale:
    """A scale that holds `values` with a margin, and has round ticks."""
    there = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(there), max(there)
    gap = (high - low) or abs(high) or 1.0
    low, high = low - 0.04 * gap, high + 0.04 * gap
    return Scale(low, high, start, end, round_ticks(low, high))


def logarithmic(values: Iterable[float], start: float, end: float) -> Scale:
    """A scale by logarithms that holds `values`, all positive; few values are its ticks, else 1, 2, 5, 10."""
    there = sorted(set(values)) or [1.0]
    low, high = there[0] / 1.15, there[-1] * 1.15
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    inside = [
        tick for power in decades for d in (1, 2, 5) if low <= (tick := d * 10.0**power) <= high
    ]
    if len(inside) > 7:
        inside = [tick for tick in inside if f"{tick:e}".startswith("1")]
    few = len(there) <= 7 and all(value == int(value) for value in there)
    return Scale(low, high, start, end, tuple(there if few else inside), True)


def round_ticks(low: float, high: float) -> tuple[float, ...]:
    """Three to seven round numbers from `low` to `high`."""
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (5, 2, 1) if (high - low) / (factor * step) >= 2.9)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(round(place * step, 12) for place in range(first, last + 1))


def chart(
    caption: str,
    lines: list[Line],
    axes: tuple[str, str],
    *,
    equal: bool = False,
    log: bool = False,
    top: float | None = None,
    width: float = WIDTH,
) -> Markup:
    """`lines` over `axes`, the titles of x and y; `equal` also draws where both are the same.

    `log`: both axes are logarithmic, and what is not positive is left out. `top`: y goes from -top to top.
    """
    lines = [finite(line, log) for line in lines]
    left, bottom = 58.0, HEIGHT - 46.0
    make = logarithmic if log else linear
    across = make([value for line in lines for value in line.x], left, width - 14)
    bands = [value for line in lines for side in line.band or () for value in side]
    ys = [*(value for line in lines for value in line.y), *bands]
    up = make(ys if top is None else (-top, top), bottom, 12.0)
    body = [*_grid(across, up, axes)]
    if equal:
        low, high = max(across.low, up.low), min(across.high, up.high)
        ends = [(across.at(value), up.at(value)) for value in (low, high)]
        body.append(_path(ends, stroke=INK, stroke_width=0.8, stroke_dasharray="4 3"))
    body += [part for line in lines for part in _line(line, across, up)]
    keys, height = _legend(lines, width)
    return svg(caption, [*body, *keys], width, height)


def grid(caption: str, rows: list[list[tuple[str, Markup]]]) -> Markup:
    """Charts of one width in rows, each below its title, as one drawing."""
    inner, y, width = [], 0.0, 0.0
    for row in rows:
        sizes = [re.search(r'width="(\d+)" height="(\d+)"', one) for _, one in row]
        width = max(float(size[1]) for size in sizes if size)
        for place, (title, one) in enumerate(row):
            inner.append(_text(place * width + 58, y + 14, title, font_weight="600"))
            at = f'<svg x="{place * width:.0f}" y="{y + 20:.0f}" '
            inner.append(Markup(str(one).replace("<svg ", at, 1)))
        y += max(float(size[2]) for size in sizes if size) + 32
    return svg(caption, inner, width * max(map(len, rows)), y)


def svg(caption: str, body: Iterable[Markup], width: float, height: float) -> Markup:
    """`body` as an SVG that `caption` describes."""
    size = {"width": f"{width:.0f}", "height": f"{height:.0f}"}
    return tag(
        "svg",
        *body,
        **size,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        role="img",
        aria_label=caption,
        class_="chart",
        xmlns="http://www.w3.org/2000/svg",
        fill="none",
        font_family="system-ui, sans-serif",
        font_size="11.5",
        style=f"background: {PAPER}",
    )


def in_file(drawing: str) -> str:
    """`drawing` as a file of its own: dark on white."""
    return re.sub(r"var\(--[\w-]+, (#\w+)\)", r"\1", drawing)


def plain(value: float) -> str:
    """`value` to four significant digits, whole numbers in full."""
    if value == int(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    if not 1e-4 <= abs(value) < 1e15:
        return f"{value:.3e}"
    return f"{value:,.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"


def finite(line: Line, positive: bool = False) -> Line:
    """`line` without the points that are not numbers, as of a training that diverged."""
    low, high = line.band or (line.y, line.y)
    rows = [tuple(map(float, row)) for row in zip(line.x, line.y, low, high, strict=True)]
    rows = [row for row in rows if all(map(math.isfinite, row)) and (not positive or min(row) > 0)]
    x, y, low, high = map(list, zip(*rows, strict=True)) if rows else ([], [], [], [])
    return line._replace(x=x, y=y, band=line.band and (low, high))


def _line(line: Line, across: Scale, up: Scale) -> Iterable[Markup]:
    colour = BACKENDS.get(line.backend, OTHER)
    xs = [across.at(x) for x in line.x]
    points = list(zip(xs, map(up.at, line.y), strict=True))
    if line.band:
        low, high = (list(zip(xs, map(up.at, side), strict=True)) for side in line.band)
        ends = _points([*low, *reversed(high)])
        yield tag("polygon", points=ends, fill=colour, fill_opacity=0.15)
    dashes, width = DASHES[line.dashes], WIDTHS.get(line.backend, 1.0)
    yield _path(points, stroke=colour, stroke_width=width, stroke_dasharray=dashes)
    every = 1 if line.marked else -(-len(points) // TOLD) or 1
    look = {"fill": colour, "r": 3} if line.marked else {"fill_opacity": 0, "fill": colour, "r": 5}
    for (x, y), value, height in list(zip(points, line.x, line.y, strict=True))[::every]:
        title = tag("title", f"{line.name}: {plain(height)} at {plain(value)}")
        yield tag("circle", title, class_="mark", cx=f"{x:.1f}", cy=f"{y:.1f}", **look)


def _points(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _path(points: Iterable[tuple[float, float]], **look) -> Markup:
    return tag("polyline", points=_points(points), **look)


def _text(x: float, y: float, text: str, **more) -> Markup:
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", fill=INK, **more)


def _grid(across: Scale, up: Scale, axes: tuple[str, str]) -> Iterable[Markup]:
    line, left, bottom = {"stroke": FAINT, "stroke_width": 0.8}, across.start, up.start
    for tick in up.ticks:
        yield _path([(left, up.at(tick)), (across.end, up.at(tick))], **line)
        yield _text(left - 6, up.at(tick) + 4, up.text(tick), text_anchor="end")
    for tick in across.ticks:
        yield _path([(across.at(tick), up.end), (across.at(tick), bottom)], **line)
        yield _text(across.at(tick), bottom + 16, across.text(tick), text_anchor="middle")
    yield _path([(left, up.end), (left, bottom), (across.end, bottom)], stroke=INK)
    yield _text((left + across.end) / 2, bottom + 36, axes[0], text_anchor="middle")
    middle = (up.end + bottom) / 2
    turned = {"text_anchor": "middle", "transform": f"rotate(-90 12 {middle:.1f})"}
    yield _text(12, middle, axes[1], **turned)


def _legend(lines: list[Line], width: float) -> tuple[list[Markup], float]:
    """The keys of `lines` below the plot, and where they end."""
    named = dict.fromkeys(line.backend for line in lines)
    keys = [(TITLES.get(name, name), BACKENDS.get(name, OTHER), "-") for name in named if name]
    meanings = dict.fromkeys((line.meaning, line.dashes) for line in lines if line.meaning)
    keys += [(text, INK, dashes) for text, dashes in meanings]
    parts, x, y = [], 58.0, HEIGHT + 4
    for text, colour, dashes in keys:
        wide = 42 + LETTER * len(text)
        if x > 58 and x + wide > width:
            x, y = 58.0, y + 18
        look = {"stroke": colour, "stroke_width": 2, "stroke_dasharray": DASHES[dashes]}
        parts.append(_path([(x, y), (x + 20, y)], **look))
        parts.append(_text(x + 26, y + 4, text))
        x += wide
    return parts, y + 12
