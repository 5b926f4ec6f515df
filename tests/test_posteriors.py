"""The table of posteriors: fits that differ in their seed alone are one row, with its interval."""

import json

import numpy as np
import pytest
from scipy.stats import t

from reports.posteriors import HEADS, by_kind, cells, gathered
from shared.run.records import write_json


def run_of(seed, nll, labels=64, **more):
    return {
        "labels": labels,
        "seed": seed,
        "nll": nll,
        "rmse": 0.2,
        "constant": 3.6,
        "votes": 0.9,
        "votes_expected": 0.94,
        "truth": 0.88 + 0.02 * seed,
        "verdict": "honest" if seed else "too sure",
        **more,
    }


def test_seeds_are_pooled_and_kinds_kept_apart(tmp_path):
    runs = [run_of(0, 3.0), run_of(0, 2.0, 512), run_of(1, 3.4), run_of(2, 3.2)]
    write_json(tmp_path / "record.json", {"runs": runs})
    found = by_kind(tmp_path / "record.json", "labels")
    assert [(kind, len(some)) for kind, some in found] == [((64,), 3), ((512,), 1)]
    few = dict(zip(HEADS, cells(found[0][1]), strict=True))
    half = t.ppf(0.975, 2) * np.std([3.0, 3.4, 3.2], ddof=1) / 3**0.5
    assert few["test NLL"] == f"3.200 ± {half:.3f}"
    assert few["true fractions in 90 % intervals"] == "90.0 %"
    assert few["votes in 90 % intervals"] == "90.0 %, 94.0 % expected"
    assert few["verdicts"] == "1 too sure, 2 honest"
    assert dict(zip(HEADS, cells(found[1][1]), strict=True))["test NLL"] == "2.000"


def test_without_a_finished_fit_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("reports.posteriors.read_runs", lambda outputs: [])
    with pytest.raises(ValueError, match="do experiment=posteriors first"):
        gathered(tmp_path)


def test_the_committed_record_holds_what_its_table_needs():
    from reports.readme import OTHERS, POSTERIORS

    for path in (POSTERIORS, OTHERS):
        held = json.loads(path.read_text())
        assert {"runs", "host", "where"} <= held.keys()
        assert all(len(cells([run])) == len(HEADS) for run in held["runs"])
