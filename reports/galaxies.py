"""Galaxies themselves: of each answer those the network is surest and least sure of, with votes and posterior drawn."""

import base64
import io
from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup
from PIL import Image

from reports.agreement import answers, held_out, positive
from reports.charts import BACKENDS, FAINT, INK, OTHER
from reports.html import slug, tag
from reports.numbers import number
from reports.runs import Record, RecordSet, gathered
from shared.data.store import Store, open_store
from shared.output.posterior import column_prefix

EACH = 4  # galaxies of each kind and answer
SIZE = 128  # pixels on a side
MOST = 96  # pictures on a page, so that it stays small
NINETY = 1.645  # standard deviations to either side that hold 90 % of a normal law
WIDE = 120.0  # of the drawing below a picture


def galaxies(record_set: RecordSet) -> list[Markup]:
    """Held-out galaxies, of one fit per dataset and question: that of lowest test RMSE."""
    stored = [record for record in record_set.of("fit", "predict") if record.at("results.store")]
    alike = gathered(stored, lambda r: (r.text("run.dataset.name"), positive(r))).values()
    blocks, left = [], MOST
    for records in alike:
        for record in sorted(records, key=_error):
            posterior, store = held_out(record), _opened(record)
            if posterior is not None and store is not None and left > 0:
                made, count = _of(record, record_set.name(record), posterior, store, left)
                blocks.append(made)
                left -= count
                break
    if not blocks:
        return []
    key = tag(
        "p",
        "None of these was trained on. Below each: the 90 % interval of the vote share (bar), its mean (dot), and "
        "what volunteers said (line).",
    )
    return [key, *blocks]


def _error(record: Record) -> tuple[float, int]:
    rmse = record.at("results.test.rmse")
    return (rmse if number(rmse) else float("inf")), record.number


def _opened(record: Record) -> Store | None:
    try:
        return open_store(Path(record.text("results.store")))
    except (OSError, ValueError):
        return None


def _of(
    record: Record, name: str, posterior: pd.DataFrame, store: Store, left: int
) -> tuple[Markup, int]:
    """The galleries of one fit, and how many pictures they have."""
    places = {str(key): place for place, key in enumerate(store.galaxies["id"])}
    known = posterior[posterior["id"].isin(set(places))]
    prefixes = answers(known, record)
    each = min(EACH, left // max(1, 2 * len(prefixes))) or 1
    blocks, count = [], 0
    for prefix, leading in by_answer(known, prefixes).items():
        rows = []
        for what, chosen in (
            ("surest", surest(leading, prefix)),
            ("least sure", unsure(leading, prefix)),
        ):
            chosen = chosen.head(min(each, len(leading) // 2 or 1))
            items = [
                _galaxy(row, places[row["id"]], prefix, record, store)
                for _, row in chosen.iterrows()
            ]
            count += len(items)
            rows.append(tag("div", tag("h4", what), tag("ul", *items), class_="row"))
        if len(leading):
            head = tag(
                "h3", f"{spoken(prefix, record)}: ", tag("small", f"{len(leading):,} galaxies")
            )
            blocks.append(tag("div", head, *rows, class_="gallery item"))
    return tag("div", tag("p", tag("strong", name)), *blocks, id=slug(f"galaxies {name}")), count


def by_answer(posterior: pd.DataFrame, prefixes: list[str]) -> dict[str, pd.DataFrame]:
    """The galaxies of each answer: those of which it has the largest mean share; of two sides, yes and no."""
    means = posterior[[f"{prefix}_mean" for prefix in prefixes]].to_numpy(float)
    if len(prefixes) == 1:
        return {prefixes[0]: posterior[means[:, 0] > 0.5]}
    lead = means.argmax(1) if len(posterior) else np.zeros(0, int)
    return {prefix: posterior[lead == place] for place, prefix in enumerate(prefixes)}


def interval(row: pd.Series, prefix: str) -> tuple[float, float]:
    """The ends of the 90 % interval of the share."""
    if f"{prefix}_p05" in row and f"{prefix}_p95" in row:
        return float(row[f"{prefix}_p05"]), float(row[f"{prefix}_p95"])
    mean, std = float(row[f"{prefix}_mean"]), float(row[f"{prefix}_std"])
    return max(0.0, mean - NINETY * std), min(1.0, mean + NINETY * std)


def surest(leading: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """The galaxies, those first whose interval begins highest."""
    low = leading.get(f"{prefix}_p05")
    if low is None:
        low = leading[f"{prefix}_mean"] - NINETY * leading[f"{prefix}_std"]
    return leading.loc[low.sort_values(ascending=False, kind="stable").index]


def unsure(leading: pd.DataFrame, prefix: str) -> pd.DataFrame:
    """The galaxies, those first whose share is spread most."""
    return leading.sort_values(f"{prefix}_std", ascending=False, kind="stable")


def spoken(prefix: str, record: Record) -> str:
    """What `prefix`, of columns of the posterior, is about, in words."""
    return " or ".join(_answered(prefix, record)).replace("-", " ") or prefix.replace("_", " ")


def _answered(prefix: str, record: Record) -> tuple[str, ...]:
    question = record.text("run.question")
    each = tuple((record.at("run.dataset.questions") or {}).get(question) or ())
    yes = tuple(record.at("run.positive") or ())
    no = tuple(answer for answer in each if answer not in yes)
    sides = (yes, no, *((answer,) for answer in each))
    return next((side for side in sides if side and column_prefix(question, side) == prefix), ())


def _galaxy(row: pd.Series, place: int, prefix: str, record: Record, store: Store) -> Markup:
    low, high = interval(row, prefix)
    mean, votes, words = float(row[f"{prefix}_mean"]), None, ""
    question = record.text("run.question")
    columns = [f"{question}_{answer}" for answer in _answered(prefix, record)]
    if columns and {*columns, f"{question}_total"} <= set(store.galaxies):
        galaxy = store.galaxies.iloc[place]
        yes, total = int(galaxy[columns].sum()), int(galaxy[f"{question}_total"])
        votes = yes / total if total else None
        words = f"{yes} of {total} votes" if total else "no votes"
    name = str(row["id"])
    data = base64.b64encode(
        jpeg(store.images[place], record.at("run.dataset.crop") or 1.0)
    ).decode()
    image = tag(
        "img", src=f"data:image/jpeg;base64,{data}", alt=f"galaxy {name}", width=SIZE, height=SIZE
    )
    told = f"{mean:.2f} ({low:.2f} to {high:.2f})"
    drawn = strip(mean, low, high, votes, BACKENDS.get(record.backend, OTHER), f"{told}; {words}")
    return tag("li", image, drawn, tag("span", told), tag("span", words), tag("b", name))


def strip(
    mean: float, low: float, high: float, votes: float | None, colour: str, told: str
) -> Markup:
    """A share from 0 to 1: its interval as a bar, its mean as a dot, the votes as a line."""
    x = {"low": 4 + 112 * low, "high": 4 + 112 * high, "mean": 4 + 112 * mean}
    line = {"stroke_width": 1, "stroke": FAINT}
    parts = [
        tag("path", d="M4 9H116M4 5v8M60 5v8M116 5v8", **line),
        tag(
            "path",
            d=f"M{x['low']:.1f} 9H{x['high']:.1f}",
            stroke=colour,
            stroke_width=6,
            stroke_opacity=0.55,
        ),
        tag("circle", cx=f"{x['mean']:.1f}", cy=9, r=4, fill=colour),
    ]
    if votes is not None:
        parts.append(tag("path", d=f"M{4 + 112 * votes:.1f} 0v18", stroke=INK, stroke_width=2))
    return tag("svg", *parts, viewBox=f"0 0 {WIDE:.0f} 18", role="img", aria_label=told)


def jpeg(image: np.ndarray, crop: float) -> bytes:
    """The middle `crop` of `image` (y, x, channel), grey or in colour, SIZE pixels on a side."""
    width = image.shape[0]
    edge = round(width * (1 - crop) / 2)
    middle = np.asarray(image)[edge : width - edge, edge : width - edge]
    picture = Image.fromarray(middle if middle.shape[2] == 3 else middle[..., 0])
    file = io.BytesIO()
    picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS).save(file, "JPEG", quality=80)
    return file.getvalue()
