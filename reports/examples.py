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

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.charts import BACKENDS
from reports.figures import STYLE
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
)  # of the predicted vote fraction, among test galaxies: smoothest first
PREFIX, YES, TOTAL = (
    "smooth_or_featured_smooth",
    "smooth-or-featured_smooth",
    "smooth-or-featured_total",
)
INK, GRID = "#1c2024", "#dfe3e8"
COLOURS = {  # of a picture that stands by itself
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "axes.edgecolor"), INK),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "white"),
    "grid.color": GRID,
}


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
    rows = len(record["galaxies"])
    with matplotlib.rc_context({**STYLE, **COLOURS, "font.size": 18}):
        canvas = Figure(figsize=(8, 1.8 * rows + 1.1), dpi=110, layout="constrained")
        grid = canvas.subplots(rows, 2, gridspec_kw={"width_ratios": (1, 2.9)})
        for (image, plot), galaxy in zip(grid, record["galaxies"], strict=True):
            draw_image(image, galaxy["number"])
            draw_predictions(plot, galaxy, record["expected_votes"])
            plot.tick_params(labelbottom=galaxy is record["galaxies"][-1], length=0, labelsize=17)
        plot.set_xlabel("share of volunteers who answer “smooth”", fontsize=18)
        marks = [Line2D([], [], color=BACKENDS[name], marker="o", linewidth=7) for name in TITLES]
        marks += [Line2D([], [], color=INK, linewidth=3)]
        canvas.legend(
            marks,
            [*TITLES.values(), "votes"],
            loc="outside upper center",
            ncols=4,
            fontsize=18,
            handlelength=1.4,
            columnspacing=1.2,
        )
        file = io.BytesIO()
        canvas.savefig(file, format="png", metadata={"Software": None, "Source": fingerprint()})
    return file.getvalue()


def draw_image(axes, number: int) -> None:
    """The middle of a galaxy's image."""
    image = render(draw_galaxies(number + 1, 0).iloc[number])[56:200, 56:200, 0]
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    axes.set_axis_off()


def draw_predictions(axes, galaxy: dict, expected: int) -> None:
    """A bar over the central 90 % of votes for each framework, a dot at the mean, a line at the volunteers' votes."""
    yes, total = galaxy["votes"]
    axes.axvline(yes / total, color=INK, linewidth=3, zorder=1)
    for place, name in enumerate(TITLES):
        one, colour = galaxy["posterior"][name], BACKENDS[name]
        ends = [one["votes_low"] / expected, one["votes_high"] / expected]
        axes.plot(ends, [-place] * 2, color=colour, linewidth=9, solid_capstyle="butt", alpha=0.6)
        axes.plot(one["mean"], -place, "o", color=colour, markersize=12, markeredgecolor="white")
    axes.set(xlim=(-0.02, 1.02), ylim=(-2.7, 0.7), xticks=np.linspace(0, 1, 5), yticks=[])
    axes.grid(True, axis="x")
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.set_title(f"{yes} of {total} volunteers: smooth", loc="left", fontsize=18)


def fingerprint() -> str:
    """The SHA-256 of the record that the picture is drawn from."""
    return hashlib.sha256(RECORD.read_bytes()).hexdigest()


if __name__ == "__main__":
    publish(Path(sys.argv[1]))
    PICTURE.write_bytes(picture())
