"""Every drawing, as SVG whose colours are names: pages put in those of their paper, light or dark.

Most are written out by charts; those of many panels or odd axes are drawn by matplotlib. The same data give the same
bytes: no date, ids made from the figure's name, text left as text.
"""

import io
import re
from collections.abc import Callable, Sequence
from html import escape

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from reports.blocks import Figure
from reports.charts import (
    BACKENDS,
    FAINT,
    INK,
    OTHER,
    PAPER,
    Line,
    Row,
    bars_svg,
    dots_svg,
    lines_svg,
    log_lines_svg,
)

__all__ = ("BACKENDS", "OTHER", "Line", "Row")

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


def line_figure(
    name: str,
    caption: str,
    lines: list[Line],
    axes: tuple[str, str],
    records: Sequence[int],
    equal: bool = False,
) -> Figure:
    """`lines` over `axes`, the titles of x and y; `equal` also draws where both are the same."""
    return _figure(name, caption, lines_svg(caption, lines, axes, equal), records)


def log_figure(
    name: str, caption: str, lines: list[Line], axes: tuple[str, str], records: Sequence[int]
) -> Figure:
    """`lines` over logarithmic `axes`."""
    return _figure(name, caption, log_lines_svg(caption, lines, axes), records)


def dot_figure(
    name: str, caption: str, rows: list[Row], axis: str, records: Sequence[int]
) -> Figure:
    """The values of `rows` as dots along `axis`, their mean as a stroke."""
    return _figure(name, caption, dots_svg(caption, rows, axis), records)


def bar_figure(
    name: str, caption: str, rows: list[Row], axis: str, records: Sequence[int]
) -> Figure:
    """The first value of `rows` as bars along `axis`, its range as a whisker."""
    return _figure(name, caption, bars_svg(caption, rows, axis), records)


def _figure(name: str, caption: str, svg: str, records: Sequence[int]) -> Figure:
    return Figure(name, caption, svg, tuple(sorted(set(records))))


def drawn_figure(
    name: str,
    caption: str,
    size: tuple[float, float],
    draw: Callable[[Axes], None],
    records: Sequence[int],
) -> Figure:
    """What `draw` draws by matplotlib, `size` inches wide and high; the same bytes each time."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        canvas = Canvas(figsize=size, layout="constrained")
        draw(canvas.subplots())
        text = io.StringIO()
        canvas.savefig(text, format="svg")
    return _figure(name, caption, _own(text.getvalue(), name, caption), records)


def _own(svg: str, name: str, caption: str) -> str:
    """`svg` without a prologue, with a label, and with ids that no other figure of the page has."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    svg = re.sub(r"'?DejaVu Sans'?, sans-serif", "system-ui, sans-serif", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(caption)}" ', 1)


def on_page(svg: str) -> str:
    """`svg` for a page that has the colours as variables of its style sheet."""
    names = {INK: "currentColor", FAINT: "var(--faint)", PAPER: "none"}
    names |= {colour: f"var(--{backend})" for backend, colour in BACKENDS.items()}
    return _coloured(svg, names)


def in_file(svg: str) -> str:
    """`svg` as a file of its own: dark on white."""
    return _coloured(svg, {INK: "#1c2024", FAINT: "#dfe3e8", PAPER: "#ffffff"})


def _coloured(svg: str, names: dict[str, str]) -> str:
    for stand_in, name in names.items():
        svg = svg.replace(stand_in, name)
    return svg
