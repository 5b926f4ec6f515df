"""The conformance part of the report says what the records say, and what was not tested is never said to be right."""

import json
from pathlib import Path

import pytest

from reports.conformance import conformance, equality, verdict
from reports.runs import index, read_runs
from shared.proof.conformance import CHECKS, DOUBLE, EXACT
from tests.test_report import Page

RECORDS = Path(__file__).parent.parent / "reports" / "records" / "conformance"
STEPS = (1, 10, 100)
OWN = {"ulp": 1e-4, "permuted": 1e-6, "control": 0.1}


def entry(check, error=None, tolerance=1e-5, verdict="ok", seconds=0.5) -> dict:
    if check in EXACT:
        tolerance = 0
    if error is None:
        error = 0 if check in EXACT else 1.26e-6
    return {
        "check": check,
        "error": error,
        "tolerance": tolerance,
        "verdict": verdict,
        "seconds": seconds,
    }


def run_checks(
    backend="torch", precision="float32", started="2020-01-01", checks=None, **more
) -> dict:
    names = [check for check in CHECKS if precision == "float64" or check not in DOUBLE]
    entries = {name: entry(name) for name in names} | (checks or {})
    return {
        "run": {
            "task": {"name": "conform"},
            "backend": {"name": backend, "precision": precision},
            "model": {"image_size": more.get("size", 32)},
            "seed": 0,
        },
        "where": {backend: "1.2.3", "device": more.get("device", "cpu"), "precision": precision},
        "host": {"processor": "A processor", "commit": more.get("commit", "abc123")},
        "command": f"trizoo conform backend={backend} backend.precision={precision}",
        "started": started,
        "seconds": 12.0,
        "results": {"checks": [one for one in entries.values() if one], "seconds": 9.5},
    }


def trajectories() -> dict:
    names = ("jax", "torch")
    own = {f"{name} {kind}": value for name in names for kind, value in OWN.items()}
    median = {
        name: {str(step): value * step for step in STEPS if "control" not in name or step < 100}
        for name, value in (own | {"jax-torch": 2e-4}).items()
    }
    return {
        "steps": STEPS,
        "median": median,
        "ratio": {"jax-torch": {"1": 2.0, "10": 2.0, "100": 2.0}},
        "factor": 3,
        "seeds": 5,
        "where": {name: {name: "1.2.3", "device": "cpu"} for name in names},
        "hosts": {name: {"processor": "A processor", "commit": "abc123"} for name in names},
        "seconds": dict.fromkeys(names, 61.0),
    }


def keep(folder: Path, *records: dict, **files) -> Path:
    for number, record in enumerate(records):
        place = folder / f"{number:02}"
        place.mkdir(parents=True)
        (place / "record.json").write_text(json.dumps(record))
    for name, found in files.items():
        (folder / f"{name}.json").write_text(json.dumps(found))
    return folder


def rows(folder: Path, caption: str) -> dict[str, dict[str, str]]:
    """The rows of the table whose caption begins so, by their first cell."""
    page = Page("".join(map(str, conformance(index(read_runs(folder))))))
    (found,) = [rows for name, rows in page.tables.items() if name.startswith(caption)]
    return {row[0]: dict(zip(found[0], row, strict=True)) for row in found[1:]}


def test_a_suite_has_every_error_and_who_was_not_tested(tmp_path):
    bad = {"loss": entry("loss", 0.5, verdict="over"), "masks": entry("masks", 3, verdict="over")}
    made = rows(keep(tmp_path, run_checks(checks=bad), run_checks("jax")), "Within tolerance")
    assert made["loss"]["verdict"] == "OVER: PyTorch, float32"
    assert made["loss"]["TensorFlow, float32"] == "not tested"
    assert made["masks"]["PyTorch, float32"] == "3 differ"
    assert made["samples"]["verdict"] == "ok, but not tested: TensorFlow, float32"
    assert made["random bits"]["JAX, float32"] == "equal"
    assert len(made) == len(CHECKS)


def test_a_verdict_is_ok_only_of_what_was_tested():
    assert verdict([], [], 6) == "ok"
    assert verdict([], [], 0) == verdict([], ["JAX"], 0) == "not tested"


def test_the_sentence_names_who_was_not_tested(tmp_path):
    text = equality(index(read_runs(keep(tmp_path, run_checks(), run_checks("jax", "float64")))))
    assert "in float32 (TensorFlow and JAX not tested)" in text
    assert "in float64 (TensorFlow and PyTorch not tested)" in text


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_published_suites_have_every_check_and_none_is_over(precision):
    made = rows(RECORDS, "Within tolerance")
    for check in CHECKS:
        if precision == "float64" or check not in DOUBLE:
            row = made[check.replace("_", " ")]
            assert row["verdict"] == "ok"
            assert "not tested" not in [
                row[f"{n}, {precision}"] for n in ("TensorFlow", "PyTorch", "JAX")
            ]


def test_the_record_that_started_last_is_shown(tmp_path):
    late = run_checks(started="2021-01-01", checks={"loss": entry("loss", 2e-6)})
    made = rows(keep(tmp_path, late, run_checks(started="2020-12-31")), "Within tolerance")
    assert made["loss"]["PyTorch, float32"] == "2.0e-06"


def test_what_was_measured_apart_is_told(tmp_path):
    pair = {"mean": 0.001, "interval": [-0.002, 0.004], "equivalent": True}
    far = trajectories() | {"ratio": {"jax-torch": {"1": 2.0, "10": 5.0}}}
    planted = [
        {"mutant": "no bias", "check": "loss", "error": 0.5},
        {"mutant": "nothing", "check": "masks", "error": 0},
    ]
    files = {
        "equivalence": {"pairs": {"jax-tf": pair}, "margin": 0.01},
        "trajectories": far,
        "mutants": planted,
    }
    keep(tmp_path, run_checks(), **files)
    assert rows(tmp_path, "A paired")["JAX and TensorFlow"]["90 % interval"] == "-0.0020 to +0.0040"
    assert (
        rows(tmp_path, "Divergence of two frameworks over")["JAX and PyTorch"]["verdict"] == "OVER"
    )
    made = rows(tmp_path, "1 of 2 are seen")
    assert [row["verdict"] for row in made.values()] == ["seen", "NOT SEEN"]


def test_answers_to_the_kit_are_told_by_their_worst_array(tmp_path):
    arrays = [
        {"check": "loss", "array": name, "error": error, "tolerance": 1e-6, "verdict": verdict}
        for name, error, verdict in (("a", 1e-9, "ok"), ("b", 0.5, "over"))
    ]
    record = run_checks() | {"results": {"arrays": arrays}}
    (row,) = rows(keep(tmp_path, record), "The kit").values()
    assert (row["arrays within tolerance"], row["worst array"], row["error"]) == (
        "1 of 2",
        "b",
        "5.0e-01",
    )
