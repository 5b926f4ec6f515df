"""What is timed, how, and what kills a run: the numbers themselves are for the report."""

import importlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fake import Fake, run_of

import benchmarks
from benchmarks import acquisition, features, kills, material, networks
from shared.method.backend import open_backend
from shared.network.weights import Checkpoint, first_checkpoint, save_checkpoint
from shared.proof import reference
from shared.run.records import write_json
from shared.run.spec import BACKENDS

FOLDER = Path(benchmarks.__file__).parent
WORDS = ("bench.batch_size=6", "bench.warmup=1", "bench.repeats=3")


def test_the_material_is_the_same_each_time():
    run = run_of(*WORDS)
    (images, one), (again, other) = material.labelled(run), material.labelled(run)
    rows = np.arange(6)
    np.testing.assert_array_equal(images[rows], again[rows])
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert (one.total == 40).all()
    shown, views, keys = material.shown(run)
    assert shown.shape == (6, images.size, images.size, 1)
    assert len(views.affine) == len(keys) == 6
    assert len(np.unique(keys, axis=0)) == 6


def test_a_gpu_keeps_what_is_sampled(monkeypatch):
    device = importlib.import_module("impl_torch.device")
    run = run_of("backend=torch", *WORDS)
    backend, images = open_backend(run.backend), material.shown(run)[0]
    assert material.resident(backend, images) is images
    assert material.resident(Fake(), images) is images
    monkeypatch.setattr(device, "on_gpu", lambda: True)
    monkeypatch.setattr(device, "device", lambda: "cpu")
    kept = material.resident(backend, images)
    np.testing.assert_array_equal(kept[np.array([2, 2, 5])].numpy(), images[[2, 2, 5]])
    assert len(kept) == 6


def test_the_small_pieces_run_and_leave_what_the_report_reads(tmp_path):
    kept = tmp_path / "pieces.json"
    quick = ("--benchmark-min-rounds=1", "--benchmark-max-time=0.01", f"--benchmark-json={kept}")
    command = [sys.executable, "-m", "pytest", "-q", *quick, "-p", "no:cacheprovider"]
    alone = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
    done = subprocess.run(
        [*command, FOLDER / "test_pieces.py"],
        cwd=FOLDER.parent,
        env=alone,  # among workers, pytest-benchmark would time nothing
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    record = json.loads(kept.read_text())
    assert record["commit"] == record["commit_info"]["id"]
    assert len(record["benchmarks"]) == 4
    for one in record["benchmarks"]:
        assert one["stats"]["rounds"] >= 1
        assert "data" not in one["stats"]


def test_interruptions_are_shared_out_and_of_every_kind():
    assert kills.shared_out(200, [16, 8, 6]) == [107, 53, 40]
    assert sum(kills.shared_out(7, [1] * 14)) == 7
    counts = {"kill": 10, "error": 10, "cut": 3}
    plan = kills.planned(counts, np.random.default_rng(0))
    assert Counter(event.kind for event in plan) == counts
    for kind, hows in {"kill": kills.KILLS, "error": kills.ERRORS}.items():
        planned_hows = Counter(event.how for event in plan if event.kind == kind)
        assert planned_hows == dict.fromkeys(hows, 2)
    assert all(0 <= event.when < 1 for event in plan)


def test_every_task_that_writes_and_every_framework_is_interrupted():
    tasks = {case.words[0] for case in kills.CASES.values()}
    assert tasks >= {"prepare", "fit", "predict", "active", "calibrate", "export", "report"}
    for task in ("fit", "predict", "active"):
        found = {case.backend for case in kills.CASES.values() if case.words[0] == task}
        assert found == set(BACKENDS)


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        (None, []),
        ("weights.safetensors", ["run/weights.safetensors"]),
        ("second", [f"run/{kills.CHECKPOINT}"]),
        ("loss", [f"run/{kills.CHECKPOINT}"]),
        ("seconds", []),
        ("chances", ["run/record.json"]),
        ("peak_memory_bytes", []),
        ("litter", ["run/.trizoo-0-a"]),
        ("missing", ["run/weights.safetensors"]),
        ("empty record", ["run/record.json"]),
    ],
)
def test_a_difference_anywhere_but_in_seconds_is_found(tmp_path, changed, found):
    run = run_of()
    for name in ("one", "other"):
        start, other = first_checkpoint(run.model, 0), name == "other"
        folder = tmp_path / name / "run"
        folder.mkdir(parents=True)
        if not (other and changed == "missing"):
            text = "x" * (1 + (other and changed == "weights.safetensors"))
            (folder / "weights.safetensors").write_text(text)
        second = {
            key: array + (other and changed == "second") for key, array in start.second.items()
        }
        about = {
            "losses": [1.0 + 1e-9 * (other and changed == "loss")],
            "seconds": [[4, 0.1 + (other and changed == "seconds")]],
        }
        results = {
            "peak_memory_bytes": 5 + (other and changed == "peak_memory_bytes"),
            "rounds": [{"chances": [0.5 + 1e-12 * (other and changed == "chances")]}],
            "train_seconds": 0.1 + (other and changed == "seconds"),
        }
        write_json(folder / "record.json", {"results": results})
        if other and changed == "empty record":
            (folder / "record.json").write_text("")
        if other and changed == "litter":
            (folder / ".trizoo-0-a").touch()
        checkpoint = Checkpoint(start.weights, start.first, second, 4)
        save_checkpoint(folder / kills.CHECKPOINT, checkpoint, about)
    both = [kills.contents(tmp_path / name) for name in ("one", "other")]
    assert kills.differences(*both) == found


def test_kills_writes_its_record_and_fails_where_runs_differ(tmp_path, monkeypatch, capsys):
    asked = {}

    def campaign(place, name, case, plan):
        asked[name] = Counter(event.kind for event in plan)
        right = name != "fit-jax"
        counts = {"kills": asked[name]["kill"], "errors": asked[name]["error"], "cuts": 0}
        return {"case": name, "task": "fit", "right": right, "interruptions": [], **counts}

    monkeypatch.setattr(kills, "campaign", campaign)
    monkeypatch.setattr(kills, "ready", lambda folder, fitted: folder)
    file = tmp_path / "kills.json"
    few = ["kills=6", "errors=3", "cuts=0", f"record={file}"]
    assert kills.main([*few, "only=fit-tf,export"]) == 0
    record = json.loads(file.read_text())
    assert [one["case"] for one in record["runs"]] == ["fit-tf", "export"]
    assert sum(one["kills"] for one in record["runs"]) == 6
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last == {"kills": 6, "errors": 3, "cuts": 0, "wrong": []}
    assert kills.main([*few, "only=fit"]) == 1
    with pytest.raises(SystemExit, match="no such word: backend"):
        kills.main(["backend=tf"])


def test_a_run_that_cannot_end_is_told_with_its_last_words(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "temporary").mkdir()
    place = kills.Place(tmp_path, None)
    case = kills.Case(("fit", "dataset=folder", "dataset.images=nowhere"), 1)
    with pytest.raises(RuntimeError, match=r"(?s)fit ended with status 2:\n.*nowhere"):
        kills.uninterrupted(place, "fit", case)


# The acquisition


def test_plain_python_is_the_formula():
    rho = np.random.default_rng(0).random((5, 4))
    rho[0] = 0, 1, 1, 0
    found = acquisition.information(rho.tolist(), 9)
    np.testing.assert_allclose(found, reference.mutual_information(rho, 9), rtol=1e-12)


def test_every_part_of_the_acquisition_is_timed(monkeypatch):
    for name, count in (
        ("GALAXIES", 60),
        ("DIRECT", 3),
        ("POOL", 4),
        ("STATES", 5),
        ("TARGETS", 2),
    ):
        monkeypatch.setattr(acquisition, name, count)
    monkeypatch.setattr(acquisition, "NETWORK", {16: 4})
    now = iter(range(1000))
    monkeypatch.setattr(acquisition.time, "perf_counter", lambda: next(now))  # each call takes 1 s
    backend, rho = Fake(), np.random.default_rng(0).random((60, 15), np.float32)
    assert acquisition.first(backend, rho)["seconds"] == 1
    assert acquisition.direct(rho)["seconds"] == 60 / 3
    assert acquisition.difference(backend, rho)["nats"] < 1e-12
    monkeypatch.setattr("shared.method.sampling.track", lambda blocks, *_, **__: blocks)
    assert acquisition.network(backend, run_of()) == {16: 60 / 4}
    assert backend.sampled == [4, 4]
    assert acquisition.batch(backend, rho[:4])["seconds"] == 1
    assert acquisition.epig(backend, rho)["seconds"] == 1


def test_what_targets_votes_would_say_adds_up():
    rho = np.random.default_rng(0).random((3, 15))
    states = acquisition.target_states(rho)
    assert states.posterior.shape == (3 * 41, 15)
    assert states.probabilities.sum() == pytest.approx(1, rel=1e-12)
    np.testing.assert_allclose(states.posterior.sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(states.probabilities @ states.posterior, 1 / 15, rtol=1e-12)


def answering(path, answers):
    """A program that answers each line of its input with the next of `answers`, and then ends."""
    lines = "".join(f"read part; echo '{json.dumps(answer)}'\n" for answer in answers)
    path.write_text(f"#!/bin/sh\n{lines}")
    path.chmod(0o755)
    return {"backend": {"python": str(path), "threads": 0, "environment": {}}}


@pytest.mark.parametrize(("slow", "status"), [(1, 0), (30, 1)])
def test_frameworks_take_turns_and_are_told_apart(tmp_path, monkeypatch, capsys, slow, status):
    rest = [
        {"nats": 1e-7},
        {"64": 500.0, "128": 2000.0},
        {"seconds": 0.2},
        {"seconds": 6.0},
        {"seconds": {"15": 8.0, "100": 50.0}, "bytes": 2**21},
        {"where": {"device": "cpu"}},
    ]
    parts = {
        "tf": [
            {"seconds": 9.0, "bytes": 2**20},
            *({"seconds": s} for s in (5, 900, 1, 990, 2, 90)),
            *rest,
        ],
        "jax": [
            {"seconds": 9.0, "bytes": 2**20},
            *[{"seconds": slow}, {"seconds": 900}] * 3,
            *rest,
        ],
    }

    def compose(words):
        name = words[0].removeprefix("backend=")
        assert words[1:] == ["seed=4"]
        return answering(tmp_path / name, parts[name])

    monkeypatch.setattr(acquisition, "compose", compose)
    file = tmp_path / "acquisition.json"
    words = ["backend=tf,jax", "rounds=3", f"record={file}", "seed=4"]
    assert acquisition.main(words) == status
    found = json.loads(file.read_text())["frameworks"]
    assert found["tf"]["acquisition_turns"] == [5, 1, 2]
    assert found["tf"]["direct_turns"] == [900, 990, 90]
    assert found["tf"]["acquisition_seconds"] == 2
    assert found["tf"]["direct_over_acquisition"] == 450
    assert found["jax"]["acquisition_over_network"] == {"64": slow / 500, "128": slow / 2000}
    assert found["tf"]["epig_seconds"] == 6
    assert found["tf"]["walks_over_network"] == {"64": 8 / 500, "128": 8 / 2000}
    assert found["tf"]["where"] == {"device": "cpu"}
    output = capsys.readouterr().out
    assert "tf     2.00 s, 1 MB; plain Python 900 s, 450 times as long; 1/250 of the net" in output
    assert output.endswith("NOT met\n" if status else "1/20: met\n")


def test_a_framework_that_ends_early_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(acquisition, "compose", lambda _: answering(tmp_path / "tf", []))
    assert acquisition.main(["backend=tf"]) == 2
    assert "tf ended before it had timed first" in capsys.readouterr().err


def test_networks_take_turns_and_who_is_missing_is_named(tmp_path, capsys):
    pytest.importorskip("torch")
    record = tmp_path / "networks.json"
    tiny = ("model.widths=[8,8,8,8]", "model.depths=[1,1,1,1]", "model.image_size=32")
    words = ["networks=resnet18", "programs=torch,zoobot", "rounds=2", f"record={record}"]
    assert networks.main([*words, *tiny, "bench.batch_size=4"]) == 0
    printed = capsys.readouterr().out
    assert "resnet18         torch" in printed
    found = json.loads(record.read_text())
    assert set(found) == {"networks", "host"}
    part = found["networks"]["resnet18"]
    assert [one["program"] for one in part["missing"]] == ["zoobot"]
    (row,) = part["rows"]
    assert (row["program"], row["images"], row["times"]) == ("torch", 4, {})
    assert len(row["processor_seconds"]) == len(row["seconds"]) == 2
    assert min(row["processor_seconds"]) > 0
    assert row["where"]["threads"] == "1"


def test_features_of_a_frozen_encoder_are_timed_beside_images(tmp_path, capsys):
    pytest.importorskip("torch")
    record = tmp_path / "features.json"
    tiny = ["dataset.galaxies=24", "model.image_size=16", "model.blocks=[[2],[2]]", "model.dense=4"]
    words = [f"record={record}", f"dataset.stores={tmp_path}", "on_features=4", "on_images=2"]
    assert features.main([*words, *tiny, "training.batch_size=8"]) == 0
    found = json.loads(record.read_text())
    names = ("features", "head on features", "head on images", "all on images")
    assert found["seconds"].keys() == {*names}
    assert all(spent["clock"] > 0 for spent in found["seconds"].values())
    assert found["steps_timed"] == {"head on features": 4, "others": 2}
    assert all(name in capsys.readouterr().out for name in names[:1])
    assert features.main(["training.batch_size=0"]) == 2


def test_the_networks_table_says_how_many_times_as_fast_ours_are():
    turns = {"torch": [1.0, 4.0, 2.0], "timm": [2.0, 4.0, 5.0], "jax": [4.0, 8.0, 8.0]}
    about = {"images": 8, "peak_memory_bytes": 1, "where": {}}
    rows = [
        networks.row(name, 9, [{"processor_seconds": one, "seconds": 7} for one in spent], about)
        for name, spent in turns.items()
    ]
    networks.compare(rows)
    assert rows[0]["times"] == {"timm": 2, "jax": 4}
    found = {
        "networks": {"resnet18": {"rows": rows, "missing": [{"program": "kimm", "reason": "no"}]}}
    }
    lines = [" ".join(line.split()) for line in networks.table(found).splitlines()]
    assert lines == [
        "resnet18 torch 4.0/s",
        "resnet18 timm 2.0/s, torch 2.00 times as fast",
        "resnet18 jax 1.0/s",
        "resnet18 kimm missing: no",
    ]


def test_a_program_that_is_not_there_is_refused(capsys):
    assert networks.main(["programs=torch,theano"]) == 2
    assert "theano" in capsys.readouterr().err
