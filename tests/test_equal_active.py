"""Active learning in float64: every framework asks about the same galaxies, in the same order, round after round."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
from session_files import made_once

import trizoo
from shared.run.launch import ROOT
from shared.run.spec import BACKENDS

WORDS = (
    "task=active",
    "acquisition=mutual_information",
    "backend.precision=float64",
    "backend.threads=1",
    "dataset.galaxies=200",
    "model.image_size=32",
    "model.blocks=[[8,8],[16,16],[32],[32]]",
    "model.dense=32",
    "training.batch_size=16",
    "acquisition.initial=16",
    "acquisition.per_round=8",
    "acquisition.rounds=5",
    "acquisition.first_steps=20",
    "acquisition.round_steps=10",
)
SCORES = 1e-9  # nats by which the scores of a galaxy may differ
RUNS = {name: (f"backend={name}",) for name in BACKENDS} | {
    "other seed": ("backend=torch", "seed=1"),
}


def start(place, name):
    """The process of one of RUNS, in a folder of its own."""
    folder = place / name
    folder.mkdir()
    config = trizoo.compose([*WORDS, f"dataset.stores={place}/stores", *RUNS[name]])
    (folder / "run.json").write_text(json.dumps(config))
    with (place / f"{name}.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, ROOT / "trizoo.py", "--run", folder],
            env=trizoo.child_environment(config["backend"]),
            stdout=log,
            stderr=log,
        )


def finish(place):
    """Every one of RUNS, all at once."""
    children = {name: start(place, name) for name in RUNS}
    try:
        for name, child in children.items():
            assert child.wait() == 0, (place / f"{name}.log").read_text()[-3000:]
    finally:
        for child in children.values():
            child.kill()


@pytest.fixture(scope="session")
def found(tmp_path_factory):
    """The rounds of each of RUNS."""
    place = made_once(tmp_path_factory, "equal active", finish)
    records = {name: json.loads((place / name / "record.json").read_text()) for name in RUNS}
    return {name: record["results"]["rounds"] for name, record in records.items()}


def differences(one, other):
    """In what two runs' rounds differ: (round, what)."""
    pairs = list(enumerate(zip(one, other, strict=True)))
    asked = [
        (number, "acquired")
        for number, (here, there) in pairs
        if here["acquired"] != there["acquired"] or here["labelled"] != there["labelled"]
    ]
    return asked + [
        (number, "scores") for number, (here, there) in pairs if not apart(here, there) <= SCORES
    ]


def apart(one, other):
    """By how many nats the scores of two rounds differ."""
    return np.abs(np.subtract(one["scores"], other["scores"])).max()


@pytest.mark.parametrize("name", BACKENDS[1:])
def test_the_same_galaxies_in_the_same_order(found, name):
    first = found[BACKENDS[0]]
    print(name, "scores", max(map(apart, first, found[name])))
    assert differences(found[name], first) == []
    losses = [[entry["loss"] for entry in rounds] for rounds in (found[name], first)]
    np.testing.assert_allclose(*losses, rtol=1e-9)
    logs = [[entry["test"]["log_score"] for entry in rounds] for rounds in (found[name], first)]
    np.testing.assert_allclose(*logs, rtol=1e-9)


def test_the_rounds_are_what_was_asked_for(found):
    rounds = found[BACKENDS[0]]
    assert [entry["labelled"] for entry in rounds] == [16, 24, 32, 40, 48, 56]
    asked = [galaxy for entry in rounds[:-1] for galaxy in entry["acquired"]]
    assert len(asked) == len(set(asked)) == 40
    scores = np.array([entry["scores"] for entry in rounds])
    assert (np.diff(scores) < 0).all()
    # the order is no accident of rounding: neighbours are further apart than frameworks may be
    assert -np.diff(scores).max() > 100 * SCORES
    assert len({tuple(np.argsort(entry["acquired"])) for entry in rounds}) > 1


def test_another_seed_is_seen(found):
    seen = differences(found["other seed"], found["torch"])
    assert {(number, what) for number in range(6) for what in ("acquired", "scores")} == set(seen)


def test_one_swap_and_one_score_are_seen(found):
    rounds = found["torch"]
    for change, what in ((swap, "acquired"), (lift, "scores")):
        other = copy.deepcopy(rounds)
        change(other[3])
        assert differences(other, rounds) == [(3, what)]


def swap(entry):
    entry["acquired"][4:6] = entry["acquired"][5:3:-1]


def lift(entry):
    entry["scores"][2] += 2 * SCORES
