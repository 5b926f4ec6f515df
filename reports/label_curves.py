"""How good a network is after so many labels: from scratch, or with an encoder that others trained, tuned or as it is.

`python -m reports.label_curves OUTPUTS RECORD` reads the fits below OUTPUTS (and, at 0 labels, predictions), and writes
what they came to to RECORD. Fits of one seed learn from the same galaxies, and from those of more labels too, so that
ways to start are paired: their difference is taken seed by seed.
"""

import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import t

from reports.runs import Record, read_runs
from shared.run.records import read_json, write_json

SCRATCH, HEAD, TUNED, AS_IT_IS = "from scratch", "head alone", "fine-tuned", "as it is"
MEASURES = {
    "log_score": "NLL (nats)",
    "rmse": "RMSE of the vote fraction",
    "auc": "AUC",
}
SHAPE = {
    "host?": dict,
    "where?": dict,
    "runs": [
        {
            "problem": str,
            "start": str,
            "labels": int,
            "seed": int,
            "seconds": (float, None),
            "measures": {str: (float, None)},
        }
    ],
}


class Point(NamedTuple):
    """A measure after so many labels: its mean over seeds, and half of its interval (Student's t), usually of 90 %."""

    mean: float
    half: float
    seeds: int


def start_of(record: Record) -> str:
    """How a run's network began, and what of it was trained."""
    if record.task == "predict":
        return AS_IT_IS
    if record.at("run.model.encoder") is None and record.at("run.weights") is None:
        return SCRATCH
    return HEAD if record.at("run.training.trainable") == "head" else TUNED


def gathered(outputs: Path) -> dict:
    """What every fit and prediction below `outputs` came to on test galaxies, and the machine, as RECORD keeps it."""
    records = [run for run in read_runs(outputs) if run.at("results.test.galaxies")]
    runs = [
        {
            "problem": f"{run.at('run.dataset.name')}: {run.at('run.question')}",
            "start": start_of(run),
            "labels": run.at("results.galaxies.train") if run.task == "fit" else 0,
            "seed": run.at("run.seed"),
            "seconds": run.at("results.train_seconds"),
            "measures": {name: run.at(f"results.test.{name}") for name in MEASURES},
        }
        for run in records
        if run.task == "predict" or run.at("run.split.labels")
    ]
    if not runs:
        raise ValueError(
            f"there is no finished fit with split.labels below {outputs}; do experiment=transfer first"
        )
    return {"runs": runs, "host": records[-1].at("host"), "where": records[-1].at("where")}


def curves(runs: list[dict], problem: str, measure: str) -> dict[str, dict[int, Point]]:
    """Of each start, the points by labels."""
    found: dict = defaultdict(lambda: defaultdict(list))
    for run in runs:
        value = run["measures"].get(measure)
        if run["problem"] == problem and value is not None:
            found[run["start"]][run["labels"]].append(value)
    return {
        start: {labels: point(some[labels]) for labels in sorted(some)}
        for start, some in found.items()
    }


def point(values: list[float], confidence: float = 0.9) -> Point:
    """The mean of `values` and half of its interval, NaN of a single one."""
    count = len(values)
    half = np.nan
    if count > 1:
        half = t.ppf((1 + confidence) / 2, count - 1) * np.std(values, ddof=1) / count**0.5
    return Point(float(np.mean(values)), float(half), count)


def curve_rows(path: Path, problem: str, measure: str) -> list[list[str]]:
    """The rows of a problem in the record at `path`."""
    held = read_json(path, SHAPE, "publish the runs of experiment=transfer anew")
    return rows(held["runs"], problem, measure)


def rows(runs: list[dict], problem: str, measure: str, form: str = ".3f") -> list[list[str]]:
    """A table of a problem's curves: a row for each number of labels, a column for each start."""
    found = curves(runs, problem, measure)
    starts = [start for start in (SCRATCH, HEAD, TUNED, AS_IT_IS) if start in found]
    table = [["labels", *starts, "seeds"]]
    for labels in sorted({labels for some in found.values() for labels in some}):
        points = [found[start].get(labels) for start in starts]
        cells = ["" if one is None else interval_text(one, form) for one in points]
        seeds = sorted({one.seeds for one in points if one is not None})
        table.append([f"{labels:,}", *cells, " to ".join(map(str, {seeds[0], seeds[-1]}))])
    return table


def interval_text(one: Point, form: str) -> str:
    """A point as text."""
    return f"{one.mean:{form}}" + ("" if np.isnan(one.half) else f" ± {one.half:{form}}")


def mean_and_interval(values: list[float]) -> str:
    """The mean of `values` and its 95 % interval (Student's t), as text."""
    return interval_text(point(values, 0.95), ".3f")


if __name__ == "__main__":
    made = gathered(Path(sys.argv[1]))
    write_json(Path(sys.argv[2]), made)
    for name in dict.fromkeys(run["problem"] for run in made["runs"]):
        for measure, title in MEASURES.items():
            print(f"\n{name}, {title}")
            for line in rows(made["runs"], name, measure):
                print("  ".join(f"{cell:16}" for cell in line))
