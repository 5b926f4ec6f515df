"""The Beta and the beta-binomial of an answer: their parameters and logarithms that stay right for any of these."""

import numpy as np
from scipy.special import gammaln

LARGEST = 1e15  # concentrations are cut here, where a Beta is as good as a point
TINY = 1e-280  # stands for a parameter 0, of a point at an end
SERIES = 25.0  # from here on the rest of Stirling's series below is right to 1e-15


def parameters(fractions: np.ndarray, concentrations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two parameters of the Beta of an answer's fraction, float64, above 0 and finite."""
    f = np.asarray(fractions, np.float64)
    own = np.minimum(np.asarray(concentrations, np.float64), LARGEST)
    return np.maximum(f * own, TINY), np.maximum((1 - f) * own, TINY)


def log_rising(a: np.ndarray, k: np.ndarray) -> np.ndarray:
    """ln[a (a + 1) ... (a + k - 1)], for a > 0 and whole k >= 0.

    The difference of two ln gamma of large `a` would have lost its digits: Stirling's series is subtracted by terms.
    """
    a, k = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(k, np.float64))
    large = a >= SERIES
    small = np.where(large, 1.0, a)
    base = np.where(large, a, SERIES)
    series = (base - 0.5) * np.log1p(k / base) + k * (np.log(base + k) - 1)
    series += _stirling(base + k) - _stirling(base)
    return np.where(large, series, gammaln(small + k) - gammaln(small))


def log_ways(n: np.ndarray, k: np.ndarray) -> np.ndarray:
    """ln of the number of ways to choose `k` of `n`."""
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def _stirling(x: np.ndarray) -> np.ndarray:
    """ln gamma(x) less (x - 1/2) ln x - x + ln(2 pi) / 2, for large x."""
    square = x * x
    return (1 / 12 - (1 / 360 - (1 / 1260 - 1 / 1680 / square) / square) / square) / x
