"""Galaxies themselves: those of each answer, and those the network is most and least sure of."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from reports.agreement import answers, held_out, positive
from reports.blocks import Gallery, Picture, Section, bare, number, prose
from reports.runs import Record, RecordSet, gathered
from shared.data.store import Store, open_store
from shared.output.posterior import (
    column_prefix,
    information_column,
    least_sure,
    most_sure,
    top_galaxies,
)

EACH = 6  # galaxies in a gallery
SIZE = 144  # pixels on a side


def galaxies(record_set: RecordSet) -> Section:
    """Held-out galaxies, from one fit per dataset and question: that of lowest test RMSE."""
    stored = [record for record in record_set.of("fit") if record.at("results.store")]
    fits = [record for record in stored if held_out(record) is not None]
    if not fits:
        return bare("Galaxies", "No fit has both a posterior.parquet and a store.")
    blocks = []
    for alike in gathered(fits, lambda r: (r.text("run.dataset.name"), positive(r))).values():
        blocks += _galleries(record_set, min(alike, key=_error))
    return Section("Galaxies", tuple(blocks))


def _error(record: Record) -> tuple[float, int]:
    rmse = record.at("results.test.rmse")
    return (rmse if number(rmse) else float("inf")), record.number


def _galleries(record_set: RecordSet, record: Record) -> list:
    about = f"{record.text('run.dataset.name')}, {record.text('run.question')}"
    posterior, store = held_out(record), opened(record)
    if isinstance(store, str):
        return [prose(f"{about}: {store}")]
    words = prose(
        f"{about}: galaxies that {record_set.label(record)} was not trained on (record {record.number}, "
        f"{record_set.about(record)}; of the fits of this dataset and question, the one of lowest test "
        "RMSE). Below each: its id, the mean ± standard deviation of the posterior share of votes "
        "for the answer, and the volunteers' votes."
    )
    places = {str(name): place for place, name in enumerate(store.galaxies["id"])}
    known = posterior[posterior["id"].isin(set(places))]
    galleries = []
    for what, chosen, prefix in _rankings(known, record):
        pictures = [
            _picture(row, places[row["id"]], prefix, record, store) for _, row in chosen.iterrows()
        ]
        galleries.append(Gallery(f"{about}: {what}", tuple(pictures), (record.number,)))
    return [words, *(gallery for gallery in galleries if gallery.pictures)]


def _rankings(posterior: pd.DataFrame, record: Record) -> list[tuple[str, pd.DataFrame, str]]:
    """What each gallery shows, its galaxies, and the answer whose share is told."""
    yes = positive(record)
    rankings = [
        (
            f"largest shares of {spoken(prefix, record)}",
            top_galaxies(posterior, prefix, EACH),
            prefix,
        )
        for prefix in answers(posterior, record)
    ]
    information = information_column(posterior)
    if information:
        basis = f"by {information.replace('_', ' ')}; shares of {spoken(yes, record)}"
        rankings.append((f"least sure of, {basis}", least_sure(posterior, EACH), yes))
        rankings.append((f"most sure of, {basis}", most_sure(posterior, EACH), yes))
    return rankings


def answered(prefix: str, record: Record) -> tuple[str, ...]:
    """The answers that `prefix`, of columns of the posterior, is about; () if none are known."""
    question = record.text("run.question")
    each = tuple((record.at("run.dataset.questions") or {}).get(question) or ())
    yes = tuple(record.at("run.positive") or ())
    no = tuple(answer for answer in each if answer not in yes)
    sides = (yes, no, *((answer,) for answer in each))
    return next((side for side in sides if column_prefix(question, side) == prefix), ())


def spoken(prefix: str, record: Record) -> str:
    """What `prefix` is about, in words."""
    return " or ".join(answered(prefix, record)) or prefix


def opened(record: Record) -> Store | str:
    """The store that `record` names, or why its galaxies cannot be shown."""
    try:
        return open_store(Path(record.text("results.store")))
    except (OSError, ValueError) as problem:
        return f"no galaxies can be shown, for {problem}."


def _picture(row: pd.Series, place: int, prefix: str, record: Record, store: Store) -> Picture:
    lines = [f"{row[f'{prefix}_mean']:.2f} ± {row[f'{prefix}_std']:.2f}"]
    question = record.text("run.question")
    columns = [f"{question}_{answer}" for answer in answered(prefix, record)]
    if columns and {*columns, f"{question}_total"} <= set(store.galaxies):
        galaxy = store.galaxies.iloc[place]
        lines.append(f"{int(galaxy[columns].sum())} of {int(galaxy[f'{question}_total'])} votes")
    picture = png(store.images[place], record.at("run.dataset.crop") or 1.0)
    file = f"galaxy-{hashlib.sha256(picture).hexdigest()[:12]}.png"
    return Picture(row["id"], tuple(lines), file, picture)


def png(image: np.ndarray, crop: float) -> bytes:
    """The middle `crop` of `image` (y, x, channel), grey or in colour, SIZE pixels on a side, as PNG."""
    width = image.shape[0]
    edge = round(width * (1 - crop) / 2)
    middle = np.asarray(image)[edge : width - edge, edge : width - edge]
    small = Image.fromarray(middle if middle.shape[2] == 3 else middle[..., 0]).resize(
        (SIZE, SIZE), Image.Resampling.LANCZOS
    )
    file = io.BytesIO()
    small.save(file, "PNG", optimize=True)
    return file.getvalue()
