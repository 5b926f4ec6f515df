"""What tests of hurt runs share: a place where they begin, and campaigns of a few blows."""

import shutil
from pathlib import Path

import pytest
from installed import needs
from session_files import made_once

from benchmarks import kills
from benchmarks.faults import library


def begin(factory: pytest.TempPathFactory, folder: Path, fitted: bool = False) -> kills.Place:
    """`folder` as a place for cases that begin with photographs or, if `fitted`, with a fit of them."""
    name = "hurt-fitted" if fitted else "hurt"
    made = made_once(factory, name, lambda folder: kills.ready(folder / "made", fitted)) / "made"
    for part in ("base", "fitted") if fitted else ("base",):
        shutil.copytree(made / part, folder / part)
    (folder / "temporary").mkdir()
    return kills.Place(folder, library(folder))


def campaign(place: kills.Place, name: str, *blows: tuple[str, str, float]) -> dict:
    """What became of the case called `name` after `blows`, all of which must have landed."""
    case = kills.CASES[name]
    if case.backend:
        needs(case.backend)
    found = kills.campaign(place, name, case, [kills.Blow(*blow) for blow in blows])
    assert found["right"], found
    assert found["kills"] + found["errors"] + found["cuts"] == len(blows)
    return found
