"""The conformance part of the report says what the records say, and nothing where there is none."""

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from reports.conformance import conformance
from reports.report import write_report
from reports.runs import bound, read_runs
from shared.proof.conformance import CHECKS, DOUBLE, EXACT

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


def blocks(folder: Path) -> list:
    return list(conformance(bound(read_runs(folder))).blocks)


def tables(folder: Path) -> dict:
    return {block.caption: block for block in blocks(folder) if block.kind == "table"}


def rows(folder: Path, caption: str) -> dict[str, dict[str, str]]:
    """The rows of the table whose caption begins so, by their first cell."""
    (table,) = [one for name, one in tables(folder).items() if name.startswith(caption)]
    return {row[0]: dict(zip(table.headings, row, strict=True)) for row in table.rows}


def said(folder: Path) -> str:
    return " ".join(
        line for block in blocks(folder) if block.kind == "prose" for line in block.lines
    )


def test_a_suite_has_the_error_of_each_framework_the_tolerance_and_the_verdict(tmp_path):
    wrong = {
        "masks": entry("masks", 7, verdict="over"),
        "gradient": entry("gradient", 3.21e-5, verdict="over"),
        "training": entry("training", 0.0286, None),
    }
    keep(tmp_path, run_checks("tf", checks=wrong), run_checks("torch"), run_checks("jax"))
    found = rows(tmp_path, "The suite in float32, 32 x 32 pixels, cpu")
    assert found["random bits"] == {
        "check": "random bits",
        "TensorFlow": "equal",
        "PyTorch": "equal",
        "JAX": "equal",
        "tolerance": "equal",
        "verdict": "ok",
    }
    assert list(found["masks"].values())[1:] == [
        "7 differ",
        "equal",
        "equal",
        "equal",
        "OVER: TensorFlow",
    ]
    assert [*found["gradient"].values()][1:] == [
        "3.2e-05",
        "1.3e-06",
        "1.3e-06",
        "1e-05",
        "OVER: TensorFlow",
    ]
    assert found["training"]["tolerance"] == "TensorFlow none, PyTorch 1e-05, JAX 1e-05"
    assert list(found) == [name.replace("_", " ") for name in CHECKS if name not in DOUBLE]


def test_what_was_not_measured_is_left_empty(tmp_path):
    keep(tmp_path, run_checks("tf"), run_checks("jax", "float64", checks={"loss": None}))
    single, double = (rows(tmp_path, f"The suite in {name}") for name in ("float32", "float64"))
    for row in single.values():
        assert (row["PyTorch"], row["JAX"], row["verdict"]) == ("—", "—", "ok (1 of 3)")
    assert double["long training"]["JAX"] == "1.3e-06"
    assert list(double["loss"].values()) == ["loss", "—", "—", "—", "—", "—"]
    assert all(
        words not in caption
        for caption in tables(tmp_path)
        for words in ("Planted mistakes", "Divergence", "Final test loss", "The kit")
    )


def test_a_precision_that_nobody_measured_in_is_a_table_of_nothing(tmp_path):
    keep(tmp_path, run_checks("jax", "float64"))
    found = rows(tmp_path, "The suite in float32")
    assert list(found) == [name.replace("_", " ") for name in CHECKS if name not in DOUBLE]
    assert {cell for row in found.values() for cell in [*row.values()][1:]} == {"—"}


def test_on_a_gpu_only_what_was_measured_is_a_table_after_those_of_the_cpu(tmp_path):
    gpu = run_checks("jax", "tf32")
    gpu["where"] = gpu["where"] | {"device": "A card"}
    keep(tmp_path, gpu, run_checks("torch"))
    found = [name for name in tables(tmp_path) if name.startswith("The suite in")]
    assert found == [
        "The suite in float64, 32 x 32 pixels, cpu",
        "The suite in float32, 32 x 32 pixels, cpu",
        "The suite in tf32, 32 x 32 pixels, A card",
    ]
    assert "Neither TF32 nor bfloat16 has a tolerance" in said(tmp_path)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_the_published_suites_have_every_check_and_none_is_over(precision):
    found = rows(RECORDS, f"The suite in {precision}, 32 x 32 pixels, cpu")
    suites = [name for name in CHECKS if precision == "float64" or name not in DOUBLE]
    # those that were checks then, too
    assert list(found)[: len(suites)] == [name.replace("_", " ") for name in suites]
    assert {row["verdict"] for row in found.values()} == {"ok"}


def test_the_published_measurements_are_shown():
    assert "epsilon inside" in str(tables(RECORDS))
    assert "first weights moved by one ulp" in str(blocks(RECORDS))


def test_without_records_nothing_is_said_to_be_right(tmp_path):
    other = run_checks()
    other["run"]["task"]["name"] = "fit"
    keep(tmp_path, other)
    (words,) = blocks(tmp_path)
    assert words.kind == "prose"
    assert "trizoo conform" in words.lines[0]


def test_the_record_that_started_last_is_shown(tmp_path):
    keep(
        tmp_path,
        run_checks(started="2020-01-03", commit="new", checks={"loss": entry("loss", 3e-6)}),
        run_checks(started="2020-01-01", commit="old", checks={"loss": entry("loss", 5e-6)}),
        run_checks(started="2020-01-02", commit="older", checks={"loss": entry("loss", 7e-6)}),
    )
    assert rows(tmp_path, "The suite in float32")["loss"]["PyTorch"] == "3.0e-06"
    assert tables(tmp_path)["The suite in float32, 32 x 32 pixels, cpu"].records == (1,)
    found = rows(tmp_path, "Suites")
    assert {row["commit"]: row["shown"] for row in found.values()} == {
        "new": "yes",
        "old": "no, a later one is",
        "older": "no, a later one is",
    }
    assert "started last" in said(tmp_path)


@pytest.mark.parametrize("more", [{"device": "A GPU"}, {"size": 128}, {"precision": "tf32"}])
def test_other_devices_sizes_and_precisions_are_other_tables(tmp_path, more):
    keep(tmp_path, run_checks(started="2020-01-02"), run_checks(**more))
    found = [one for name, one in tables(tmp_path).items() if name.startswith("The suite")]
    assert [one.records for one in found if one.records] == [(1,), (2,)]


def test_an_error_without_end_is_told(tmp_path):
    keep(
        tmp_path,
        run_checks(
            checks={
                "augmented_images": entry("augmented_images", 1, verdict="over") | {"error": None}
            }
        ),
    )
    found = rows(tmp_path, "The suite in float32")["augmented images"]
    assert (found["PyTorch"], found["verdict"]) == ("not finite", "OVER: PyTorch")


def test_every_suite_says_where_it_came_from(tmp_path):
    data = run_checks(commit="c0ffee")
    del data["results"]["seconds"]
    keep(tmp_path, data)
    (row,) = rows(tmp_path, "Suites").values()
    assert row["time (s)"] == f"{0.5 * (len(CHECKS) - len(DOUBLE)):.1f}"
    assert row["command"] == "trizoo conform backend=torch backend.precision=float32"
    assert (row["commit"], row["processor"], row["versions"]) == (
        "c0ffee",
        "A processor",
        "torch 1.2.3",
    )
    assert row["within tolerance"] == f"{len(CHECKS) - len(DOUBLE)} of {len(CHECKS) - len(DOUBLE)}"


def test_each_check_has_its_meaning(tmp_path):
    keep(tmp_path, run_checks(checks={"gone": entry("gone")}))
    found = {name: row["what is compared"] for name, row in rows(tmp_path, "The checks").items()}
    assert found.keys() == {name.replace("_", " ") for name in [*CHECKS, "gone"]}
    assert found["likelihood"] == CHECKS["likelihood"].__doc__
    assert found["tied gradient"] == CHECKS["tied_gradient"].__doc__.splitlines()[0]
    assert found["gone"] == "—"


def test_answers_to_the_kit_are_told_by_their_worst_array(tmp_path):
    data, entries = run_checks(), []
    for name, error, word in (("a", 5e-13, "ok"), ("b", 2e-13, "over"), ("c", 7e-13, "ok")):
        entries.append(
            {"check": "5_loss", "array": name, "error": error, "tolerance": 1e-12, "verdict": word}
        )
    entries.append(
        {"check": "8", "array": "d", "error": None, "tolerance": 0, "verdict": "missing"}
    )
    data["results"] = {"arrays": entries}
    keep(tmp_path, data)
    first, second = rows(tmp_path, "The kit").values()
    assert [*first.values()] == ["5 loss", "2 of 3", "b", "2.0e-13", "1e-12"]
    assert [*second.values()] == ["8", "0 of 1", "d", "missing", "equal"]


def test_trajectories_are_drawn_and_told(tmp_path):
    keep(tmp_path, run_checks(), trajectories=trajectories())
    (figure,) = [block for block in blocks(tmp_path) if block.kind == "figure"]
    assert ElementTree.fromstring(figure.svg).tag.endswith("svg")
    texts = re.findall(r"<text[^>]*>([^<]+)</text>", figure.svg)
    assert {"JAX and PyTorch", "itself: rows of batches permuted", "0.001", "100"} <= set(texts)
    assert not [text for text in texts if "$" in text]
    (table,) = [one for name, one in tables(tmp_path).items() if name.startswith("Divergence in")]
    found = {(row[0], row[1]): row[2:] for row in table.rows}
    assert found["JAX and PyTorch", "the framework"] == ["0.0002", "0.002", "0.02"]
    assert found["PyTorch", "rows of batches permuted"] == ["1e-06", "1e-05", "0.0001"]
    assert found["JAX", "another form of Adam's epsilon"] == ["0.1", "1", "—"]
    ratio = rows(tmp_path, "Divergence of two frameworks")["JAX and PyTorch"]
    assert [*ratio.values()][1:] == ["2.00", "2.00", "2.00", "3", "ok"]


def test_a_divergence_over_the_factor_is_told(tmp_path):
    found = trajectories() | {"ratio": {"jax-torch": {"1": 1.0, "10": 3.5, "100": 1.0}}}
    keep(tmp_path, run_checks(), trajectories=found)
    assert rows(tmp_path, "Divergence of two frameworks")["JAX and PyTorch"]["verdict"] == "OVER"


def test_planted_mistakes_are_listed_with_the_check_that_sees_them(tmp_path):
    found = [
        {"mutant": "ignored key", "check": "masks", "error": 40.0},
        {"mutant": "half a pixel", "check": "augmented_images", "error": 0.31},
        {"mutant": "no end", "check": "likelihood", "error": None},
        {"mutant": "harmless", "check": "loss", "error": 1e-15},
    ]
    keep(tmp_path, run_checks(), mutants=found)
    assert [[*row.values()] for row in rows(tmp_path, "Planted mistakes").values()] == [
        ["ignored key", "masks", "40 differ", "equal", "seen"],
        ["half a pixel", "augmented images", "3.1e-01", "1e-12", "seen"],
        ["no end", "likelihood", "not finite", "1e-12", "seen"],
        ["harmless", "loss", "1.0e-15", "1e-12", "NOT SEEN"],
    ]
    assert "3 of 4 are seen" in said(tmp_path)
    assert "None was planted for random bits, batches, " in said(tmp_path)


def test_equivalence_has_its_margin(tmp_path):
    pair = {"mean": 0.004, "interval": [-0.01, 0.06], "equivalent": False}
    keep(tmp_path, run_checks(), equivalence={"margin": 0.05, "pairs": {"jax-tf": pair}})
    assert [*rows(tmp_path, "Final test loss")["JAX and TensorFlow"].values()][1:] == [
        "+0.0040",
        "-0.0100 to +0.0600",
        "± 0.05",
        "NOT shown",
    ]


def test_a_file_that_is_no_json_is_left_out_and_named(tmp_path):
    keep(tmp_path, run_checks())
    (tmp_path / "mutants.json").write_text("[{")
    page = write_report(tmp_path, tmp_path / "report")
    assert "mutants.json is damaged" in page.read_text()


def test_the_same_records_give_the_same_bytes_elsewhere(tmp_path):
    one = keep(
        tmp_path / "one", run_checks(), run_checks("jax", "float64"), trajectories=trajectories()
    )
    shutil.copytree(one, tmp_path / "two")
    pages = [write_report(tmp_path / name, tmp_path / name / "report") for name in ("one", "two")]
    kept = [{path.name: path.read_bytes() for path in page.parent.rglob("*.*")} for page in pages]
    assert kept[0] == kept[1]
    assert {"report.html", "report.md", "rosetta.html", "divergence-trajectories-json.svg"} <= kept[
        0
    ].keys()
    assert "[rosetta.html](rosetta.html)" in kept[0]["report.md"].decode()
    assert '<a href="rosetta.html">' in kept[0]["report.html"].decode()
