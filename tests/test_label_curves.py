"""Curves of labels: which start is which, and means and intervals by hand."""

import numpy as np
import pytest
from scipy.stats import t

from reports.label_curves import HEAD, SCRATCH, TUNED, curve_rows, curves, gathered, point
from reports.runs import read_runs
from shared.run.records import write_json


def fitted(folder, seed=0, labels=50, encoder=None, trainable="all", nll=3.0):
    """A folder with the record of a fit."""
    run = {
        "task": {"name": "fit"},
        "seed": seed,
        "question": "bar",
        "weights": None,
        "dataset": {"name": "synthetic"},
        "model": {"encoder": encoder},
        "training": {"trainable": trainable},
        "split": {"labels": labels},
    }
    test = {"galaxies": 10, "log_score": nll, "rmse": 0.2, "auc": None}
    results = {"galaxies": {"train": labels}, "train_seconds": 1.0, "test": test}
    folder.mkdir()
    write_json(folder / "record.json", {"run": run, "host": {}, "where": {}, "results": results})


STARTS = {
    SCRATCH: {},
    HEAD: {"encoder": "e", "trainable": "head"},
    TUNED: {"encoder": "e", "trainable": "last:2"},
}


def test_points_are_means_over_seeds_with_students_interval(tmp_path):
    values = {SCRATCH: [3.0, 3.3, 3.6], HEAD: [2.8, 2.9, 3.0], TUNED: [2.7, 2.7, 2.8]}
    for start, some in values.items():
        for seed, value in enumerate(some):
            fitted(tmp_path / f"{start}{seed}", seed=seed, nll=value, **STARTS[start])
    made = gathered(tmp_path)
    found = curves(made["runs"], "synthetic: bar", "log_score")
    for start, some in values.items():
        one = found[start][50]
        half = t.ppf(0.95, 2) * np.std(some, ddof=1) / 3**0.5
        assert (one.mean, one.half) == (pytest.approx(np.mean(some)), pytest.approx(half))
        assert one.seeds == 3
    assert curves(made["runs"], "synthetic: bar", "auc") == {}  # none has one
    write_json(tmp_path / "curves.json", made)
    heads, row = curve_rows(tmp_path / "curves.json", "synthetic: bar", "log_score")
    assert heads == ["labels", SCRATCH, HEAD, TUNED, "seeds"]
    assert row[:2] == ["50", "3.300 ± 0.506"]
    assert row[-1] == "3"


def test_a_single_seed_has_no_interval():
    assert np.isnan(point([2.0]).half)


def test_the_head_alone_of_first_weights_is_no_start_of_others(tmp_path):
    fitted(tmp_path / "one", trainable="head")
    assert [run["start"] for run in gathered(tmp_path)["runs"]] == [SCRATCH]
    assert len(read_runs(tmp_path)) == 1


def test_no_curve_without_fits(tmp_path):
    fitted(tmp_path / "one", labels=None)
    with pytest.raises(ValueError, match=r"no finished fit with split\.labels"):
        gathered(tmp_path)
