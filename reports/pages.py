"""The two pages of the same sections: HTML that needs no other file, Markdown with figures."""

import base64
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from reports.blocks import Figure, Gallery, Section, ranges
from reports.figures import in_file, on_page
from shared.records import write_whole

TEMPLATES = Path(__file__).parent / "templates"


def write_html(sections: list[Section], title: str, path: Path) -> None:
    """SECTIONS as one page at PATH: all text escaped, figures and pictures within."""
    style = (TEMPLATES / "report.css").read_text()
    text = filled("report.html", sections=sections, title=title, style=style)
    write_whole(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def write_markdown(sections: list[Section], title: str, path: Path) -> None:
    """SECTIONS as Markdown at PATH, with figures and pictures in the folder figures beside it."""
    text = filled("report.md", sections=sections, title=title)
    for block in (block for section in sections for block in section.blocks):
        _write_figures(block, path.parent / "figures")
    text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    write_whole(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def _write_figures(block, folder: Path) -> None:
    if isinstance(block, Figure):
        svg = '<?xml version="1.0" encoding="UTF-8"?>\n' + in_file(block.svg)
        write_whole(
            folder / f"{block.name}.svg", lambda beside: beside.write_text(svg, encoding="utf-8")
        )
    if isinstance(block, Gallery):
        for picture in block.pictures:
            write_whole(
                folder / picture.name, lambda beside, png=picture.png: beside.write_bytes(png)
            )


def markdown(text: str) -> str:
    """TEXT so that Markdown shows it as it is, on one line, within a table too."""
    entities = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}
    marked = "".join(
        entities.get(letter, f"\\{letter}" if letter in "\\`*_[]~#!" else letter) for letter in text
    )
    return " ".join(marked.split())


def filled(template: str, **values) -> str:
    """The file TEMPLATE of TEMPLATES with VALUES in it, which are escaped if it is HTML."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "markdown": markdown,
        "ranges": ranges,
        "on_page": on_page,
        "data": lambda png: base64.b64encode(png).decode(),
    }
    return made.get_template(template).render(values)
