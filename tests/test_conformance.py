"""Every framework agrees with the specification: each rung of `shared.conformance`, in float64 and float32.

One framework and precision is one process. Budgets are max |difference| / max |oracle|, in one place; 0 is bit for bit.
"""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from shared.conformance import RUNGS
from shared.spec import BACKENDS
from trizoo import child_environment, compose

ROOT = Path(__file__).parent.parent
EXACT = {"words", "masks", "batches", "batch_invariance", "random_scores"}
BUDGETS = {
    "float64": dict.fromkeys(RUNGS, 1e-12) | {"training": 1e-10},
    # Adam divides by the size of the slope itself, so in float32 a rounding error of a slope near zero moves its
    # weight by a whole step: float64 shows that the algorithm is the same, and float32 has no budget for `training`.
    "float32": dict.fromkeys(RUNGS, 1e-5) | {"training": float("inf")},
}
PAIRS = [(name, precision) for name in BACKENDS for precision in BUDGETS]


@cache
def folder_of(name, precision, size, place):
    folder = Path(place) / f"{name}-{precision}"
    folder.mkdir(exist_ok=True)
    settings = [f"backend={name}", f"backend.precision={precision}", f"model.image_size={size}"]
    (folder / "run.json").write_text(json.dumps(compose([*settings, "training.batch_size=8"])))
    return folder


@pytest.fixture(scope="session")
def errors(tmp_path_factory):
    place = str(tmp_path_factory.mktemp("conformance"))

    @cache
    def measured(name, precision):
        folder = folder_of(name, precision, 64, place)
        environment = child_environment(json.loads((folder / "run.json").read_text())["backend"])
        command = [sys.executable, "-m", "shared.conformance", folder]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return measured


@pytest.mark.parametrize(("name", "precision"), PAIRS)
def test_every_rung(errors, name, precision):
    found = errors(name, precision)
    assert found.keys() == RUNGS.keys()
    budgets = {rung: 0 if rung in EXACT else BUDGETS[precision][rung] for rung in RUNGS}
    over = {rung: (error, budgets[rung]) for rung, error in found.items() if error > budgets[rung]}
    assert not over


def test_every_mutant_is_seen(tmp_path):
    """At the tolerance of float32, ten thousand times and more the error of the unharmed program in float64."""
    folder = folder_of("torch", "float64", 32, str(tmp_path))
    command = [sys.executable, ROOT / "tests" / "mutants.py", folder]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**child_environment({"threads": 0, "environment": {}})},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) >= 20
    assert not {name: error for name, error in found.items() if not error > 1e-8}
