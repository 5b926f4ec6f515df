"""How good, and how honest, different posteriors of the same networks are, by the number of labels.

`python -m reports.posteriors OUTPUTS RECORD` reads the fits below OUTPUTS, such as those of experiment=posteriors, and
writes what they came to on test galaxies to RECORD.
"""

import sys
from pathlib import Path

import numpy as np

from reports.label_curves import mean_and_interval
from reports.runs import read_runs
from shared.run.records import read_json, write_json

KEYS = {  # of a run's settings
    "labels": "split.labels",
    "members": "training.members",
    "method": "posterior.method",
    "backend": "backend.name",
    "question": "question",
    "concentrations": "likelihood.concentrations",
    "rate": "training.learning_rate",
    "seed": "seed",
}
HEADS = ["seeds", "test NLL", "constant's", "RMSE", "votes in 90 % intervals"]
HEADS += ["true fractions in 90 % intervals", "verdicts"]


def gathered(outputs: Path) -> dict:
    """What every fit below `outputs` came to, and the machine, as RECORD keeps it."""
    records = [run for run in read_runs(outputs) if run.at("results.test.tree")]
    if not records:
        raise ValueError(
            f"there is no finished fit below {outputs}; do experiment=posteriors first"
        )
    return {
        "runs": [one(run) for run in records],
        "host": records[-1].at("host"),
        "where": records[-1].at("where"),
    }


def one(run) -> dict:
    """What a record keeps of a fit."""
    asked = next(iter(run.at("results.test.tree.questions").values()))
    votes = [*asked["answers"].values()][-1]["votes_coverage"]
    return {key: run.at(f"run.{name}") for key, name in KEYS.items()} | {
        "nll": run.at("results.test.log_score"),
        "rmse": run.at("results.test.rmse"),
        "constant": run.at("results.honesty.gain.constant"),
        "verdict": run.at("results.honesty.verdict"),
        "votes": votes["observed"],
        "votes_expected": votes["expected"],
        "truth": (asked.get("truth") or {}).get("observed"),  # of synthetic galaxies
        "auc": run.at("results.test.auc"),
        "accuracy": run.at("results.test.accuracy"),
        "train_seconds": run.at("results.train_seconds"),
        "sample_seconds": run.at("results.sample_seconds"),
        "laplace_seconds": run.at("results.laplace.seconds"),
    }


def by_kind(path: Path, *keys: str) -> list[tuple[tuple, list[dict]]]:
    """The runs of the record at `path` that have the same values of `keys`, in the order of these."""
    found: dict[tuple, list] = {}
    held = read_json(path, {"runs": [dict]}, "gather the fits of experiment=posteriors anew")
    for run in held["runs"]:
        found.setdefault(tuple(run[key] for key in keys), []).append(run)
    return sorted(found.items())


def cells(runs: list[dict]) -> list[str]:
    """The cells of HEADS, of runs that differ in their seed alone."""
    mean = {
        key: np.mean([run[key] for run in runs])
        for key in ("constant", "votes", "votes_expected", "truth")
    }
    verdicts = [run["verdict"] for run in runs]
    return [
        str(len(runs)),
        mean_and_interval([run["nll"] for run in runs]),
        f"{mean['constant']:.2f}",
        mean_and_interval([run["rmse"] for run in runs]),
        f"{100 * mean['votes']:.1f} %, {100 * mean['votes_expected']:.1f} % expected",
        f"{100 * mean['truth']:.1f} %",
        ", ".join(f"{verdicts.count(name)} {name}" for name in dict.fromkeys(verdicts)),
    ]


if __name__ == "__main__":
    write_json(Path(sys.argv[2]), gathered(Path(sys.argv[1])))
