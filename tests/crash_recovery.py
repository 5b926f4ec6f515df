"""Helpers of the crash-recovery tests: a folder to begin in, and campaigns of a few interruptions."""

import shutil
from pathlib import Path

import pytest
from installed import needs
from session_files import made_once

from benchmarks import kills
from benchmarks.faults import library


def begin(factory: pytest.TempPathFactory, folder: Path, fitted: bool = False) -> kills.Place:
    """`folder` as a place for cases that begin with photographs or, if `fitted`, with a fit of them."""
    name = "interrupted-fitted" if fitted else "interrupted"
    made = made_once(factory, name, lambda folder: kills.ready(folder / "made", fitted)) / "made"
    for part in ("base", "fitted") if fitted else ("base",):
        shutil.copytree(made / part, folder / part)
    (folder / "temporary").mkdir()
    return kills.Place(folder, library(folder))


def campaign(place: kills.Place, name: str, *interruptions: tuple[str, str, float]) -> dict:
    """What became of the case called `name` after `interruptions`, all of which must have happened in time."""
    case = kills.CASES[name]
    if case.backend:
        needs(case.backend)
    found = kills.campaign(
        place, name, case, [kills.Interruption(*event) for event in interruptions]
    )
    assert found["right"], found
    assert found["kills"] + found["errors"] + found["cuts"] == len(interruptions)
    return found
