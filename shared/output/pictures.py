"""Galaxies with their votes and what a network believes of them, side by side, as HTML that a notebook shows."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.data.store import Store
from shared.output.posterior import column_prefix
from shared.run.records import write_whole

if TYPE_CHECKING:
    import pandas as pd

FIGURE = (
    "display: inline-block; vertical-align: top; margin: 4px; font-size: 11px; line-height: 1.3"
)


class Pictures:
    """Images of galaxies with captions: a notebook shows them, `save` makes a page of them, `html` is their HTML."""

    __module__ = "trizoo"

    def __init__(self, html: str, count: int):
        self.html = html
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __repr__(self) -> str:
        return f"{self.count} galaxies, shown in a notebook; .save('galaxies.html') makes a page of them"

    def _repr_html_(self) -> str:
        return self.html

    def save(self, path: str | Path) -> None:
        """Write a page of them at `path`, which any browser opens and which needs no other file."""
        page = f'<!doctype html><meta charset="utf-8"><title>Galaxies</title>\n{self.html}\n'
        write_whole(Path(path), lambda beside: beside.write_text(page, encoding="utf-8"))


def pictures(
    store: Store,
    which: Any,
    posterior: "pd.DataFrame | None" = None,
    question: str | None = None,
    size: int = 128,
) -> Pictures:
    """The galaxies of `store` that `which` names (`rows_of`), `size` pixels wide, with votes on `question`.

    `posterior` is a table of some or all of them, whose `attrs["about"]` say which question they are about: that one is
    shown if `question` is None. Raises ValueError for a galaxy or a question that is not there.
    """
    about = {} if posterior is None else posterior.attrs["about"]
    question = question or (about.get("questions") or [about.get("question")])[0]
    question = question or next(iter(store.questions), None)
    if question is not None and question not in store.questions:
        raise ValueError(
            f"no question {question!r} in {store.folder}; it has {', '.join(store.questions) or 'none'}"
        )
    rows = rows_of(store, which)
    believed = {}
    if posterior is not None:
        shown = posterior[posterior["id"].isin(store.galaxies["id"].iloc[rows])]
        believed = _believed(store, shown, about, question)
    figures = [_figure(store, row, question, believed, size) for row in rows]
    return Pictures(f"<div>{''.join(figures)}</div>", len(rows))


def rows_of(store: Store, which: Any) -> list[int]:
    """The rows of `store` that `which` names: ids, row numbers, or a table that has a column of ids.

    Raises ValueError for an id, or a row, that is not there.
    """
    named = which["id"] if hasattr(which, "columns") else [which] if _one(which) else which
    named = np.asarray(list(named))
    if not len(named):
        return []
    if named.dtype.kind in "iu":
        wrong = named[(named < 0) | (named >= len(store.galaxies))]
        if len(wrong):
            raise ValueError(
                f"no row {wrong[0]} in {store.folder}; its {len(store.galaxies)} galaxies are rows 0 to "
                f"{len(store.galaxies) - 1} (ids are texts)"
            )
        return named.tolist()
    place = {name: row for row, name in enumerate(store.galaxies["id"])}
    strange = [name for name in map(str, named) if name not in place]
    if strange:
        raise ValueError(
            f"{store.folder} has no galaxy {', '.join(strange[:5])}{', ...' * (len(strange) > 5)}; give its own ids, "
            f"such as {next(iter(place), None)}"
        )
    return [place[name] for name in map(str, named)]


def _one(which: Any) -> bool:
    return isinstance(which, str | int | np.integer)


def _believed(store: Store, posterior, about: dict, question: str | None) -> dict[str, list[str]]:
    """A line per answer, such as smooth 0.74 (0.61 to 0.85), of each galaxy of the table, by its id."""
    if question is None:
        return {}
    groups: Sequence[Sequence[str]] = [(answer,) for answer in store.questions[question]]
    if about.get("questions") is None and question == about.get("question"):
        groups = [about["positive"], about["negative"]]
    lines: dict[str, list[str]] = {name: [] for name in posterior["id"]}
    for answers in groups:
        prefix = column_prefix(question, tuple(answers))
        columns = [f"{prefix}_{part}" for part in ("mean", "p05", "p95")]
        if not {*columns} <= {*posterior}:
            continue
        for name, mean, low, high in posterior[["id", *columns]].itertuples(index=False):
            lines[name].append(f"{' or '.join(answers)} {mean:.2f} ({low:.2f} to {high:.2f})")
    return lines


def _figure(store: Store, row: int, question: str | None, believed: dict, size: int) -> str:
    galaxy = store.galaxies.iloc[row]
    lines = [f"<b>{escape(str(galaxy['id']))}</b>"]
    if question is not None and f"{question}_total" in galaxy:
        votes = [
            f"{galaxy[f'{question}_{answer}']} {answer}"
            for answer in store.questions[question]
            if galaxy[f"{question}_{answer}"]
        ]
        lines.append(escape(f"votes: {', '.join(votes) or 'none'}"))
    lines += map(escape, believed.get(galaxy["id"], ()))
    source = f"data:image/jpeg;base64,{b64encode(_jpeg(store.images[row], size)).decode()}"
    caption = "<br>".join(lines)
    return (
        f'<figure style="{FIGURE}; width: {max(size, 170)}px"><img src="{source}" width="{size}" height="{size}" '
        f'alt="{escape(str(galaxy["id"]), quote=True)}"><figcaption>{caption}</figcaption></figure>'
    )


def _jpeg(pixels: np.ndarray, size: int) -> bytes:
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image = image.resize((size, size), Image.Resampling.LANCZOS)
    file = BytesIO()
    image.save(file, "JPEG", quality=90)  # a third of a PNG: they are kept in the notebook
    return file.getvalue()
