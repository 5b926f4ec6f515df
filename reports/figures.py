"""Every drawing, as SVG whose colours are names: pages put in those of their paper, light or dark.

The same data give the same bytes: no date, ids made from the figure's name, text left as text.
Lines of the backends often lie on each other, so those drawn first are wider.
"""

import io
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reports.blocks import Figure
from reports.runs import TITLES

# Stand-ins that a page replaces; the backends' are of the palette of Okabe and Ito (https://jfly.uni-koeln.de/color/).
INK, FAINT, PAPER = "#010203", "#010204", "#010205"
BACKENDS = {"tf": "#d55e00", "torch": "#0072b2", "jax": "#009e73"}
OTHER = "#777777"
MARKERS = {"tf": "o", "torch": "s", "jax": "^"}
LONGEST = 32  # letters of a row's label; the tables have all of it
WIDTHS = {"tf": 2.6, "torch": 1.7, "jax": 0.9}
STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "savefig.facecolor": PAPER,
}


class Line(NamedTuple):
    """One line of a plot: points (x, y), perhaps a band (low, high), dashes and what they mean."""

    backend: str
    x: Sequence[float]
    y: Sequence[float]
    band: tuple[Sequence[float], Sequence[float]] | None = None
    dashes: str = "-"
    meaning: str = ""
    marked: bool = False


class Row(NamedTuple):
    """One row of a dot or bar plot: its label, the backend's colour, and its values."""

    label: str
    backend: str
    values: Sequence[float]


def line_figure(
    name: str,
    caption: str,
    lines: list[Line],
    axes: tuple[str, str],
    records: Sequence[int],
    equal: bool = False,
) -> Figure:
    """LINES over AXES, the titles of x and y; EQUAL also draws where both are the same."""

    def draw(plot: Axes) -> None:
        if equal:
            plot.axline((0, 0), slope=1, color=INK, linewidth=0.7, dashes=(4, 3))
        for line in lines:
            colour = BACKENDS.get(line.backend, OTHER)
            marker = MARKERS.get(line.backend, "D") if line.marked else None
            width = WIDTHS.get(line.backend, 1.0)
            if line.band:
                plot.fill_between(line.x, *line.band, color=colour, alpha=0.15, linewidth=0)
            plot.plot(
                line.x,
                line.y,
                line.dashes,
                color=colour,
                linewidth=width,
                marker=marker,
                markersize=3.5,
                alpha=0.9,
            )
        plot.set(xlabel=axes[0], ylabel=axes[1])
        plot.xaxis.set_major_locator(MaxNLocator(7, integer=True))
        _legend(plot, lines)

    return drawn_figure(name, caption, (4.6, 3.1), draw, records)


def dot_figure(
    name: str, caption: str, rows: list[Row], axis: str, records: Sequence[int]
) -> Figure:
    """The values of ROWS as dots along AXIS, their mean as a stroke."""

    def draw(plot: Axes) -> None:
        for place, row in enumerate(rows):
            colour = BACKENDS.get(row.backend, OTHER)
            plot.plot(
                [sum(row.values) / len(row.values)],
                [place],
                "|",
                color=INK,
                markersize=13,
                markeredgewidth=1.2,
            )
            plot.plot(
                row.values,
                [place] * len(row.values),
                MARKERS.get(row.backend, "D"),
                color=colour,
                markersize=5,
                alpha=0.85,
            )
        _rows(plot, rows, axis)

    return drawn_figure(name, caption, (4.6, 0.7 + 0.24 * len(rows)), draw, records)


def bar_figure(
    name: str, caption: str, rows: list[Row], axis: str, records: Sequence[int]
) -> Figure:
    """The first value of ROWS as bars along AXIS."""

    def draw(plot: Axes) -> None:
        for place, row in enumerate(rows):
            plot.barh(place, row.values[0], height=0.66, color=BACKENDS.get(row.backend, OTHER))
        _rows(plot, rows, axis)
        plot.set_xlim(left=0)

    return drawn_figure(name, caption, (4.6, 0.7 + 0.24 * len(rows)), draw, records)


def _rows(plot: Axes, rows: list[Row], axis: str) -> None:
    plot.set_yticks(range(len(rows)), [_short(row.label) for row in rows])
    plot.set_ylim(len(rows) - 0.4, -0.6)
    plot.grid(axis="y", visible=False)
    plot.tick_params(axis="y", length=0)
    plot.spines["left"].set_visible(False)
    plot.xaxis.set_major_locator(MaxNLocator(5))
    plot.set_xlabel(axis)


def _short(label: str) -> str:
    return label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…"


def _legend(plot: Axes, lines: list[Line]) -> None:
    handles = [
        Line2D([], [], color=BACKENDS.get(name, OTHER), linewidth=2, label=TITLES.get(name, name))
        for name in dict.fromkeys(line.backend for line in lines)
    ]
    meanings = dict.fromkeys((line.meaning, line.dashes) for line in lines if line.meaning)
    handles += [
        Line2D([], [], color=INK, linewidth=1.2, linestyle=dashes, label=text)
        for text, dashes in meanings
    ]
    plot.legend(handles=handles, loc="best", handlelength=1.8)


def drawn_figure(
    name: str,
    caption: str,
    size: tuple[float, float],
    draw: Callable[[Axes], None],
    records: Sequence[int],
) -> Figure:
    """What DRAW draws, SIZE inches wide and high; the same bytes each time."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        canvas = Canvas(figsize=size, layout="constrained")
        draw(canvas.subplots())
        text = io.StringIO()
        canvas.savefig(text, format="svg")
    return Figure(name, caption, _own(text.getvalue(), name, caption), tuple(sorted(set(records))))


def _own(svg: str, name: str, caption: str) -> str:
    """SVG without a prologue, with a label, and with ids that no other figure of the page has."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    svg = re.sub(r"'?DejaVu Sans'?, sans-serif", "system-ui, sans-serif", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(caption)}" ', 1)


def on_page(svg: str) -> str:
    """SVG for a page that has the colours as variables of its style sheet."""
    names = {INK: "currentColor", FAINT: "var(--faint)", PAPER: "none"}
    names |= {colour: f"var(--{backend})" for backend, colour in BACKENDS.items()}
    return _coloured(svg, names)


def in_file(svg: str) -> str:
    """SVG as a file of its own: dark on white."""
    return _coloured(svg, {INK: "#1c2024", FAINT: "#dfe3e8", PAPER: "#ffffff"})


def _coloured(svg: str, names: dict[str, str]) -> str:
    for stand_in, name in names.items():
        svg = svg.replace(stand_in, name)
    return svg
