"""The pages of the same sections: HTML that needs no other file, Markdown with figures, and the numbers alone."""

import base64
import re
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from reports.blocks import Figure, Gallery, Section, ranges
from reports.charts import slug
from reports.figures import in_file, on_page
from reports.numbers import numbers_csv, tables_csv
from shared.run.records import write_whole

TEMPLATES = Path(__file__).parent / "templates"


def write_html(sections: list[Section], title: str, path: Path) -> None:
    """`sections` as one page at `path`: all text escaped, figures, pictures, style and script within.

    The page forbids the browser everything from elsewhere, and every script but its own.
    """
    style, script = ((TEMPLATES / f"report.{kind}").read_text() for kind in ("css", "js"))
    script = f"\n{script}"
    known = base64.b64encode(sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{known}'"
    )
    values = {"title": title, "style": style, "script": script, "policy": policy}
    text = filled("report.html", sections=sections, **values)
    write_whole(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def write_markdown(sections: list[Section], title: str, path: Path) -> None:
    """`sections` as Markdown at `path`, with figures and pictures in the folder figures beside it."""
    text = filled("report.md", sections=sections, title=title)
    for block in (block for section in sections for block in section.blocks):
        _write_figures(block, path.parent / "figures")
    text = re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
    write_whole(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def write_numbers(sections: list[Section], path: Path) -> None:
    """Every number of `sections` at `path`, as CSV, and what its tables are in tables.csv beside it."""
    for file, text in (
        (path, numbers_csv(sections)),
        (path.with_name("tables.csv"), tables_csv(sections)),
    ):
        write_whole(file, lambda beside, text=text: beside.write_text(text, encoding="utf-8"))


def clear_figures(page: Path) -> None:
    """Remove the drawings that an earlier report shows in its Markdown `page`, and nothing else."""
    shown = page.read_text(encoding="utf-8") if page.exists() else ""
    for name in re.findall(r"[\"(]figures/([\w.-]+\.(?:svg|png))[\")]", shown):
        (page.parent / "figures" / name).unlink(missing_ok=True)


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
    """`text` so that Markdown shows it as it is, on one line, within a table too."""
    return " ".join(text.translate(MARKED).split())


MARKED = str.maketrans(
    {letter: f"\\{letter}" for letter in "\\`*_[]~#!"}
    | {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}
)


def linked(numbers: tuple[int, ...]) -> list[tuple[str, int]]:
    """The ranges of record `numbers`, each with its first, which it leads to."""
    words = ranges(numbers).split(", ") if numbers else []
    return [(text, int(text.partition("-")[0])) for text in words]


def filled(template: str, **values) -> str:
    """The file `template` of TEMPLATES with `values` in it, which are escaped if it is HTML."""
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
        "linked": linked,
        "slug": slug,
        "on_page": on_page,
        "data": lambda png: base64.b64encode(png).decode(),
    }
    return made.get_template(template).render(values)
