"""HTML and SVG from Python: every text is escaped unless it is markup that was made here."""

import base64
import math
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from reports.numbers import NOTHING, Measure, Range, cell, number
from shared.run.records import write_whole

TEMPLATES = Path(__file__).parent / "templates"


def tag(name: str, /, *inside: Any, **attributes: Any) -> Markup:
    """An element; `attributes` of True have no value, those of None or False are left out.

    A trailing underscore of a name is dropped, others are hyphens: class_, data_value, stroke_width.
    """
    words = [name]
    for key, value in attributes.items():
        if value is not None and value is not False:
            key = key.rstrip("_").replace("_", "-")
            words.append(key if value is True else f'{key}="{escape(value)}"')
    if not inside and name in VOID:
        return Markup(f"<{' '.join(words)}>")
    return Markup(f"<{' '.join(words)}>{escape_all(inside)}</{name}>")


VOID = ("img", "input", "meta", "br")


def escape_all(parts: Iterable[Any]) -> Markup:
    """`parts` one after the other; None is nothing."""
    return Markup("").join(escape(part) for part in parts if part is not None)


def section(title: str, *blocks: Any) -> Markup:
    """A heading with `blocks` below; nothing at all if there are none."""
    there = [block for block in blocks if block]
    if not there:
        return Markup("")
    return tag("section", tag("h2", title), *there, id=slug(title))


def details(summary: Any, *blocks: Any, opened: bool = False, of: str = "") -> Markup:
    """`blocks` behind `summary`, which links name by what it is `of`, else by that; nothing if there are none."""
    there = [block for block in blocks if block]
    if not there:
        return Markup("")
    head = tag("summary", summary)
    return tag("details", head, *there, id=slug(of or Markup(summary).striptags()), open=opened)


def slug(text: str) -> str:
    """`text` as part of a link: small letters, digits and hyphens."""
    return "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def table(
    caption: Any, rows: list[dict], forms: dict[str, str] | None = None, against: str = ""
) -> Markup:
    """A table of `rows`, one dict each with the same keys; columns that hold nothing are left out.

    `forms`: heading -> a format of its numbers. `against`: the heading of the names that a reader may compare with;
    a row may say in "ratios" how many times as much as others it is, by their names.
    """
    if not rows:
        return Markup("")
    forms = forms or {}
    names = [
        name
        for name in rows[0]
        if name != "ratios" and any(row[name] not in (None, "") for row in rows)
    ]
    numeric = {
        name: all(row[name] is None or value_of(row[name]) is not None for row in rows)
        for name in names
    }
    heads = [tag("th", name, scope="col", class_=numeric[name] and "number") for name in names]
    body = []
    for row in rows:
        cells = [
            tag(
                "td",
                row[name] if isinstance(row[name], Markup) else cell(row[name], forms.get(name)),
                class_=numeric[name] and "number",
                data_v=plain_number(value_of(row[name])),
            )
            for name in names
        ]
        known = row.get("ratios")
        ratios = known is not None and compact({k: [*v] for k, v in known.items()})
        name = str(Markup(row[against]).striptags()) if against else None
        body.append(tag("tr", *cells, data_name=name, data_ratios=ratios))
    head = tag("thead", tag("tr", *heads))
    inner = tag("table", tag("caption", caption), head, tag("tbody", *body))
    label = Markup(caption).striptags()
    return tag("div", inner, class_="table", tabindex="0", role="region", aria_label=label)


def value_of(value: Any) -> float | None:
    """The number that a cell is sorted and compared by."""
    if isinstance(value, Measure | Range):
        return value[0]
    return value if number(value) else None


def plain_number(value: float | None) -> str | None:
    """`value` to six digits, for the script."""
    return None if value is None else f"{value:.6g}"


def compact(ratios: dict[str, list[float]]) -> str:
    """Ratios as JSON, to four digits."""
    each = (f'"{name}":[{",".join(f"{v:.4g}" for v in ends)}]' for name, ends in ratios.items())
    return "{" + ",".join(each) + "}"


def figure(drawing: Markup, caption: Any) -> Markup:
    """A drawing with what it says below."""
    return tag("figure", drawing, tag("figcaption", caption))


def bar(value: float | None, most: float, text: str, colour: str) -> Markup:
    """A number with a bar of its share of `most`; `colour` is a class of the style sheet."""
    if value is None:
        return tag("span", NOTHING, class_="none")
    width = 0.0 if not most or not math.isfinite(value) else 100 * value / most
    return tag("b", text) + tag("i", class_=f"bar {colour}", style=f"width:{width:.1f}%")


@cache
def asset(name: str) -> str:
    """A file of TEMPLATES."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def write_page(path: Path, title: str, *body: Any, styles: tuple[str, ...] = ("report.css",)):
    """A page that needs no other file, and forbids the browser everything from elsewhere and every other script."""
    script = "\n" + asset("report.js")
    known = base64.b64encode(sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{known}'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Markup("\n".join(map(asset, styles)))),
    )
    text = tag("html", head, tag("body", *body, tag("script", Markup(script))), lang="en-GB")
    page = f"<!doctype html>\n{text}\n"
    write_whole(path, lambda beside: beside.write_text(page, encoding="utf-8"))


def filter_box(names: Iterable[str] = ()) -> Markup:
    """A box whose words choose what is shown, and, where there are `names`, what rows are compared with."""
    words = tag("input", type="search", id="filter", placeholder="words that must all be there")
    controls = [tag("label", "Show only ", words)]
    options = [tag("option", name) for name in dict.fromkeys(names)]
    if len(options) > 1:
        none = tag("option", "nothing", value="")
        controls.append(tag("label", "Compare with ", tag("select", none, *options, id="base")))
    hits = tag("output", id="hits", aria_live="polite")
    return tag("form", *controls, hits, id="controls", role="search", hidden=True)
