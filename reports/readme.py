"""The README's numbers, from the committed records: `python -m reports.readme` writes them where they belong.

Each table stands between <!-- table NAME --> and <!-- end -->; a test sees to it that they are as made here.
"""

import json
import re
from pathlib import Path

import numpy as np
from scipy.stats import t

from reports.runs import TITLES, read_runs
from shared.spec import BACKENDS

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "reports" / "records"
BIT_FOR_BIT = ("words", "masks", "batches", "batch_invariance", "random_scores")


def real() -> list[list[str]]:
    """How well each framework tells smooth from featured on real galaxies it has not seen."""
    rows = [
        ["", "seeds", "area under the ROC curve", "log loss (nat)", "accuracy", "training images/s"]
    ]
    for name in BACKENDS:
        runs = [run for run in read_runs(RECORDS / "sdss_gz1") if run.backend == name]
        tests = [run.at("results.test") for run in runs]
        measures = [
            mean_and_interval([test[key] for test in tests])
            for key in ("auc", "log_score", "accuracy")
        ]
        speed = np.median([run.at("results.images_per_second") for run in runs])
        rows.append([TITLES[name], str(len(runs)), *measures, f"{speed:.0f}"])
    return rows


def agreement() -> list[list[str]]:
    """How far apart the posteriors of two frameworks are, trained apart from the same seed."""
    pairs = json.loads((RECORDS / "sdss_gz1" / "agreement.json").read_text())["pairs"]
    rows = [["", "median difference", "largest", "rank correlation", "same majority"]]
    for names in sorted({tuple(pair["backends"]) for pair in pairs}):
        some = [pair for pair in pairs if tuple(pair["backends"]) == names]
        rows.append(
            [
                " and ".join(TITLES[name] for name in names),
                f"{np.mean([pair['mean: median |difference|'] for pair in some]):.3f}",
                f"{np.max([pair['mean: largest |difference|'] for pair in some]):.2f}",
                f"{np.mean([pair['rank correlation'] for pair in some]):.3f}",
                f"{np.mean([pair['same majority (%)'] for pair in some]):.1f} %",
            ]
        )
    return rows


def conformance() -> list[list[str]]:
    """Each rung's error in each framework and precision, against the specification."""
    found = {
        (name, precision): json.loads(
            (RECORDS / "conformance" / f"{name}-{precision}.json").read_text()
        )
        for precision in ("float64", "float32")
        for name in BACKENDS
    }
    rows = [["", *(f"{TITLES[name]}, {precision}" for name, precision in found)]]
    for rung in next(iter(found.values())):
        exact = rung in BIT_FOR_BIT
        cells = [
            f"{errors[rung]} differ" if exact else f"{errors[rung]:.0e}"
            for errors in found.values()
        ]
        rows.append(
            [rung.replace("_", " "), *(cell.replace("0 differ", "equal") for cell in cells)]
        )
    return rows


def speed() -> list[list[str]]:
    """What was timed, in images a second, and what many samples cost against one."""
    rows = [["", "size", "batch", "training", "one sample", "30 samples", "30 against 1"]]
    for run in sorted(read_runs(RECORDS / "bench"), key=lambda run: BACKENDS.index(run.backend)):
        by_task = {row["task"]: row for row in run.at("results.rows")}
        ratio = by_task["posterior"]["median_seconds"] / by_task["predict"]["median_seconds"]
        speeds = [
            f"{by_task[task]['images_per_second']:.0f}/s"
            for task in ("train", "predict", "posterior")
        ]
        first = by_task["predict"]
        rows.append(
            [
                TITLES[run.backend],
                f"{first['image_size']} px",
                str(first["batch_size"]),
                *speeds,
                f"{ratio:.2f} x",
            ]
        )
    return rows


def kills() -> list[list[str]]:
    """What was left of runs that were killed."""
    rows = [["", "SIGKILLs", "final bytes"]]
    for name in BACKENDS:
        found = json.loads((RECORDS / "kills" / f"{name}.json").read_text())
        rows.append(
            [TITLES[name], str(found["kills"]), "the same" if found["identical"] else "different"]
        )
    return rows


def mean_and_interval(values: list[float]) -> str:
    """The mean of VALUES and its 95 % interval (Student's t)."""
    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{np.mean(values):.3f} ± {half:.3f}"


def markdown(rows: list[list[str]]) -> str:
    """A table whose first row is its heading."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


TABLES = {table.__name__: table for table in (real, agreement, conformance, speed, kills)}


def filled(text: str) -> str:
    """TEXT with every table as the records have it."""

    def table(match: re.Match) -> str:
        return f"{match[1]}\n{markdown(TABLES[match[2]]())}\n{match[3]}"

    return re.sub(r"(<!-- table (\w+) -->)\n.*?(<!-- end -->)", table, text, flags=re.DOTALL)


if __name__ == "__main__":
    file = ROOT / "README.md"
    file.write_text(filled(file.read_text()))
