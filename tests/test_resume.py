"""Runs that SIGKILL ends at random moments end, once they have gone on, as if nothing had happened."""

import numpy as np
import pytest

from benchmarks.kills import compare
from shared.spec import BACKENDS

FEW = (
    "dataset.galaxies=100",
    "model.image_size=16",
    "model.blocks=[[4],[4],[4],[4]]",
    "model.dense=16",
    "training.batch_size=16",
    "training.steps=80",
    "training.validate_every=12",
    "posterior.samples=50",
    "acquisition.initial=16",
    "acquisition.rounds=4",
)


def compared(place, task, backend):
    """What two kills of a run change."""
    pytest.importorskip({"tf": "tensorflow"}.get(backend, backend))
    random = np.random.default_rng()
    found = compare(place, task, [f"backend={backend}", *FEW], 2, random)
    assert found["kills"] >= 1, found
    return found


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fit_that_was_killed_ends_as_one_that_was_not(tmp_path, backend):
    found = compared(tmp_path, "fit", backend)
    assert not found["differing"], found
    assert "going on from step" in (tmp_path / "killed.log").read_text()


def test_active_learning_that_was_killed_ends_as_if_it_was_not(tmp_path):
    found = compared(tmp_path, "active", "torch")
    assert not found["differing"], found
    assert "going on after round" in (tmp_path / "killed.log").read_text()
