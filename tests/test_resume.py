"""Runs that SIGKILL ends, once they have gone on, end as if nothing had happened; benchmarks.kills does many more."""

import crash_recovery
import pytest
from quick import ONE_FRAMEWORK


@pytest.fixture
def place(tmp_path_factory, tmp_path):
    return crash_recovery.begin(tmp_path_factory, tmp_path)


@pytest.mark.parametrize("backend", ONE_FRAMEWORK)
def test_a_fit_that_was_killed_ends_as_one_that_was_not(place, backend):
    crash_recovery.campaign(place, f"fit-{backend}", ("kill", "kill", 0.8), ("kill", "cut", 0.2))
    assert "going on from step" in last_words(place)


def test_active_learning_that_was_killed_ends_as_if_it_was_not(place):
    crash_recovery.campaign(place, "active-torch", ("kill", "kill", 0.9), ("kill", "cut", 0.05))
    assert "going on after round" in last_words(place)


def last_words(place) -> str:
    """What the last run printed."""
    logs = place.folder.glob("*-0.log")
    return next(logs).read_text()
