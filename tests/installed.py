"""Skips where a framework is not installed, without importing it.

TensorFlow brings a log handler that keeps pytest's standard error and closes it when Hydra sets up logging anew: then
every test after it in the same process fails.
"""

from importlib.util import find_spec

import pytest


def needs(name: str) -> None:
    """Skip the test that calls this where the framework `name` (tf, torch, jax, keras, flax) is not installed."""
    if not find_spec({"tf": "tensorflow"}.get(name, name)):
        pytest.skip(f"{name} is not installed")
