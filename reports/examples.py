"""The picture on the README: four synthetic galaxies, and what each framework's network says about them.

    for name in tf torch jax; do
        trizoo fit experiment=demo backend=$name dataset.galaxies=2000 model.image_size=32 training.steps=400 \\
            training.schedule=cosine posterior.samples=30 outputs=outputs/picture
    done
    python -m reports.examples outputs/picture    # their record, then the picture

The galaxies are of the test set, at fixed quantiles of the predicted vote fraction (mean over the frameworks), so that
their votes are fair draws; nobody picked them.
"""

import hashlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from reports.charts import PLAIN
from reports.runs import TITLES, read_runs
from shared.data.synthetic import draw_galaxies, render
from shared.run.records import write_json

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "reports" / "records" / "examples.json"
PICTURE = ROOT / "docs" / "galaxies.png"
QUANTILES = (
    0.95,
    0.65,
    0.35,
    0.05,
)  # of the predicted vote fraction of test galaxies: smoothest first
PREFIX, YES, TOTAL = (
    "smooth_or_featured_smooth",
    "smooth-or-featured_smooth",
    "smooth-or-featured_total",
)
INK, GRID, PAPER = "#1c2024", "#dfe3e8", "#ffffff"
WIDTH, ROW, TOP, BELOW, IMAGE = 880, 196, 48, 72, 180  # pixels
LEFT, RIGHT = 250, 850  # of the axis, from 0 to 1
FINER = 2  # drawn so many times larger, then made smaller


def publish(outputs: Path) -> None:
    """Write the record of the fits below `outputs`, one of each framework; ValueError if one is missing."""
    runs = {run.backend: run for run in read_runs(outputs) if run.task == "fit"}
    if runs.keys() != TITLES.keys():
        raise ValueError(f"{outputs} has fits of {sorted(runs)}; it needs one of {sorted(TITLES)}")
    folders = {name: outputs / run.place for name, run in runs.items()}
    tables = {
        name: pd.read_parquet(folder / "posterior.parquet").set_index("id")
        for name, folder in folders.items()
    }
    split = pd.read_parquet(folders["torch"] / "split.parquet").set_index("id")["part"]
    drawn = draw_galaxies(runs["torch"].at("run.dataset.galaxies"), 0).set_index("id")
    test = drawn.loc[split.index[split == "test"]]
    columns = {name: f"{PREFIX}_{name}" for name in ("mean", "votes_low", "votes_high")}
    means = [table.loc[test.index, columns["mean"]] for table in tables.values()]
    order = np.argsort(np.mean(means, axis=0), kind="stable")
    places = [round(quantile * (len(test) - 1)) for quantile in QUANTILES]
    chosen = test.iloc[order[places]]
    galaxies = [
        {
            "id": name,
            "number": int(row["number"]),
            "votes": [int(row[YES]), int(row[TOTAL])],
            "truth": float(row[f"true_{YES}"]),
            "posterior": {
                backend: {key: float(table.loc[name, column]) for key, column in columns.items()}
                for backend, table in tables.items()
            },
        }
        for name, row in chosen.iterrows()
    ]
    record = {
        "host": runs["torch"].at("host"),
        "fits": {name: run.data["command"] for name, run in runs.items()},
        "rmse": {name: run.at("results.test.rmse") for name, run in runs.items()},
        "test_galaxies": len(test),
        "expected_votes": runs["torch"].at("run.posterior.expected_votes"),
        "galaxies": galaxies,
    }
    write_json(RECORD, record)


def picture() -> bytes:
    """The picture as PNG; its metadata names the record by its SHA-256."""
    record = json.loads(RECORD.read_text())
    size = (WIDTH, TOP + ROW * len(record["galaxies"]) + BELOW)
    canvas = Image.new("RGB", [FINER * side for side in size], PAPER)
    pen = Pen(ImageDraw.Draw(canvas))
    place = LEFT - 210
    for name, colour in {
        **{TITLES[key]: colour for key, colour in PLAIN.items()},
        "votes": INK,
    }.items():
        pen.line((place, 25, place + 28, 25), colour, 7 if name != "votes" else 3)
        pen.text(place + 38, 24, name, "lm")
        place += 205
    for number, galaxy in enumerate(record["galaxies"]):
        y = TOP + ROW * number
        canvas.paste(image(galaxy["number"]), (FINER * 20, FINER * (y + 8)))
        draw_predictions(pen, y, galaxy, record["expected_votes"])
    for tick in np.linspace(0, 1, 5):
        pen.text(across(tick), size[1] - 56, f"{tick:.2f}", "mm")
    pen.text(across(0.5), size[1] - 24, "share of volunteers who answer \u201csmooth\u201d", "mm")
    told, file = PngInfo(), io.BytesIO()
    told.add_text("Source", fingerprint())
    canvas.resize(size, Image.Resampling.LANCZOS).save(file, "PNG", pnginfo=told, optimize=True)
    return file.getvalue()


class Pen:
    """Lines, dots and words on a canvas, in pixels of the picture."""

    def __init__(self, draw: ImageDraw.ImageDraw):
        self.draw, self.font = draw, ImageFont.load_default(FINER * 24)

    def line(self, ends: tuple, colour: str, width: float) -> None:
        """A straight line."""
        self.draw.line([FINER * end for end in ends], colour, round(FINER * width))

    def dot(self, x: float, y: float, colour: str) -> None:
        """A dot with a white rim."""
        box = [FINER * side for side in (x - 8, y - 8, x + 8, y + 8)]
        self.draw.ellipse(box, colour, PAPER, FINER)

    def text(self, x: float, y: float, text: str, anchor: str) -> None:
        """Words, where `anchor` of them is at a place."""
        self.draw.text((FINER * x, FINER * y), text, INK, self.font, anchor)


def across(share: float) -> float:
    """Where a share of the votes is."""
    return LEFT + (RIGHT - LEFT) * share


def image(number: int) -> Image.Image:
    """The middle of a galaxy's image."""
    pixels = render(draw_galaxies(number + 1, 0).iloc[number])[56:200, 56:200, 0]
    return Image.fromarray(pixels).resize([FINER * IMAGE] * 2, Image.Resampling.LANCZOS)


def draw_predictions(pen: Pen, y: float, galaxy: dict, expected: int) -> None:
    """A bar over the central 90 % of votes for each framework, a dot at the mean, a line at the volunteers' votes."""
    yes, total = galaxy["votes"]
    pen.text(LEFT, y + 20, f"{yes} of {total} volunteers: smooth", "lm")
    for tick in np.linspace(0, 1, 5):
        pen.line((across(tick), y + 44, across(tick), y + ROW - 8), GRID, 1)
    pen.line((across(yes / total), y + 44, across(yes / total), y + ROW - 8), INK, 3)
    for place, (name, colour) in enumerate(PLAIN.items()):
        one, at = galaxy["posterior"][name], y + 72 + 42 * place
        low, high = (across(one[end] / expected) for end in ("votes_low", "votes_high"))
        pen.line((low, at, high, at), lighter(colour), 10)
        pen.dot(across(one["mean"]), at, colour)


def lighter(colour: str) -> str:
    """`colour`, six tenths of it on white."""
    parts = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return "#" + "".join(f"{round(255 - 0.6 * (255 - part)):02x}" for part in parts)


def fingerprint() -> str:
    """The SHA-256 of the record that the picture is drawn from."""
    return hashlib.sha256(RECORD.read_bytes()).hexdigest()


if __name__ == "__main__":
    publish(Path(sys.argv[1]))
    PICTURE.write_bytes(picture())
