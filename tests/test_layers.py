"""Every operation in every framework against the specification, and this against finite differences."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared.network.operations import OPERATIONS, RANDOM, BatchNorm, Dropout, function
from shared.proof import operations as specification
from shared.run.launch import child_environment
from shared.run.spec import BACKENDS
from tests.network_checks import CASES, random_moments

TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
# XLA's compiler is asked to hurry: a check runs once
QUICK = {"threads": 1, "environment": {"XLA_FLAGS": "--xla_backend_optimization_level=0"}}


def measured(*words: str, module: str = "tests.network_checks") -> dict:
    """What a process of `module` finds."""
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=Path(__file__).parent.parent,
        env={**child_environment(QUICK), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def worst(found: dict[str, dict[str, float]], tolerance: float) -> dict:
    """What lies beyond the tolerance."""
    return {
        (case, what): error
        for case, errors in found.items()
        for what, error in errors.items()
        if not error <= tolerance
    }


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("name", BACKENDS)
def test_operations_are_those_of_the_specification(name, precision):
    found = measured(name, precision, "operations")
    assert {case.removesuffix(", ties") for case in found} == CASES.keys()
    assert not worst(found, TOLERANCE[precision])


@pytest.mark.parametrize("name", BACKENDS)
def test_a_mistake_in_any_operation_of_any_framework_is_seen(name):
    found = measured(name, "float64", "harmed")
    assert found.keys() >= CASES.keys()
    missed = {
        (case, what): error
        for case, errors in found.items()
        for what, error in errors.items()
        if what != "moments" and error < 100 * TOLERANCE["float64"]
    }
    assert not missed


def test_every_operation_is_checked():
    assert {type(operation) for operation, *_ in CASES.values()} == set(OPERATIONS.values())


def difference(f, h=1e-6):
    """f'(0), to the fourth order of `h`."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


@pytest.mark.parametrize("title", CASES)
def test_gradients_are_finite_differences(title):
    operation, *inputs = CASES[title]
    random, shape = np.random.default_rng(1), inputs[0][1:]
    weights = {part: random.normal(size=size) for part, size in operation.weights(shape).items()}
    xs = [random.normal(size=size) for size in inputs]
    kept = None
    if isinstance(operation, RANDOM):
        kept = random.random(inputs[0][: None if isinstance(operation, Dropout) else 1]) > 0.3
    moments = random_moments(operation.moments(shape)) if "running" in title else None
    compute, given = (
        getattr(specification, function(operation)),
        specification.Given(moments, kept),
    )
    y, pullback = compute(operation, weights, given, *xs)
    d = random.normal(size=y.shape)
    for_xs, for_weights = pullback(d)

    def along(place, v):
        def loss(t):
            moved = [x + t * v if n == place else x for n, x in enumerate(xs)]
            own = {part: w + t * v if part == place else w for part, w in weights.items()}
            return (compute(operation, own, given, *moved)[0] * d).sum()

        return difference(loss)

    for place, gradient in [*enumerate(for_xs), *for_weights.items()]:
        v = random.normal(size=gradient.shape)
        size = np.linalg.norm(gradient) * np.linalg.norm(v)
        assert abs(along(place, v) - (gradient * v).sum()) <= 1e-8 * size


def test_moments_of_a_batch_are_those_of_a_sample():
    x = np.random.default_rng(0).normal(size=(4, 3, 3, 2))
    found = specification.batch_moments(x)
    np.testing.assert_allclose(found["variance"], x.reshape(-1, 2).var(0, ddof=1))
    unit, _ = specification.batch_norm(
        BatchNorm(epsilon=0), {"scale": 1, "bias": 0}, specification.Given(), x
    )
    np.testing.assert_allclose((unit**2).mean((0, 1, 2)), 1)
