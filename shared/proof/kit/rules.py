"""How an answer is compared with the expected array: the error of each rule that an array of the kit may have."""

import numpy as np


def unequal(got: np.ndarray, expected: np.ndarray) -> float:
    """How many numbers differ."""
    return float((got != expected).sum())


def of_largest(got: np.ndarray, expected: np.ndarray) -> float:
    """max |difference| / max |expected|."""
    difference = np.abs(got.astype(np.float64) - expected)
    return _largest(difference / (np.abs(expected).max() or 1))


def of_each(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest |difference| / |expected|, which counts as 1e-30 where it is smaller."""
    difference = np.abs(got.astype(np.float64) - expected)
    return _largest(difference / np.maximum(np.abs(expected), 1e-30))


def _largest(errors: np.ndarray) -> float:
    return float(errors.max()) if np.isfinite(errors).all() else float("inf")


RULES = {"exact": unequal, "largest": of_largest, "each": of_each}
