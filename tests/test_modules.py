"""Native modules give what the specification gives, and train in their frameworks' own hands."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from shared.run.launch import child_environment
from shared.run.spec import BACKENDS
from tests.module_checks import USED
from tests.network_checks import networks

QUICK = {"threads": 1, "environment": {"XLA_FLAGS": "--xla_backend_optimization_level=0"}}


@cache
def measured(backend):
    done = subprocess.run(
        [sys.executable, "-m", "tests.module_checks", backend],
        cwd=Path(__file__).parent.parent,
        env={**child_environment(QUICK), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_outputs_gradients_and_running_moments_are_the_specifications(backend):
    found = measured(backend)["errors"]
    assert {case.split(",")[0] for case in found} == networks().keys()
    beyond = {
        (case, what): error
        for case, errors in found.items()
        for what, error in errors.items()
        if not error <= (1e-10 if "float64" in case else 1e-5)
    }
    assert not beyond


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_modules_train_by_their_frameworks_own_loops_and_come_back(backend):
    for title in USED:
        found = measured(backend)["use"][title]
        assert found["shapes"], title
        assert found["drops"], title  # in training only
        assert found["learns"] < 0.95, title
        assert max(found["back"], found["still"]) < 1e-5, title
