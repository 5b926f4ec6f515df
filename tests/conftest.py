"""Tests share two cores: threads that wait for each other must not spin there."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's threads spin whatever they are told


@pytest.fixture
def w20():
    """W+20's own posteriors of the smooth question: samples, and their coverage table."""
    import numpy as np  # after the setting above

    beside = Path(__file__).parents[2] / "shared/data"
    folder = Path(os.environ.get("TRIZOO_REAL_DATA", beside)) / "w20_posteriors"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not there; set TRIZOO_REAL_DATA")
    table = np.loadtxt(folder / "smooth_coverage.csv", delimiter=",", skiprows=1)
    return np.load(folder / "smooth.npz")["samples"], table
