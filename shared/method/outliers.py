"""How far out galaxies lie among all of a pool, by their features: no votes are needed."""

from collections.abc import Iterator

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from shared.method.metrics import pieces

LEAST = 1e-6  # of shrinkage, so that the covariance of few galaxies, or of units that go together, can be inverted


def distances(features: np.ndarray) -> np.ndarray:
    """The squared Mahalanobis distance float64 (galaxy,) of `features` (galaxy, unit) from their mean.

    Every unit is in its standard deviations; a unit that is the same for all is left out. The correlations are shrunk
    towards none (Ledoit and Wolf 2004, "A well-conditioned estimator", equation 14), the more the fewer galaxies.
    """
    features = np.asarray(features)
    features = features[:, features.min(0, initial=np.inf) < features.max(0, initial=-np.inf)]
    count, units = features.shape
    if not units:
        return np.zeros(count)
    mean, spread = features.mean(0, np.float64), features.std(0, np.float64)

    def standard() -> Iterator[tuple[slice, np.ndarray]]:
        for piece in pieces(count, units):
            yield piece, (features[piece] - mean) / spread

    correlations, fourth = np.zeros((units, units)), 0.0
    for _, some in standard():
        correlations += some.T @ some / count
        fourth += ((some**2).sum(1) ** 2).sum() / count
    # as the paper: how far estimates scatter, and how far they lie from the identity, which is their mean's multiple
    scatter = (fourth - (correlations**2).sum()) / count
    away = ((correlations - np.eye(units)) ** 2).sum()
    shrink = np.clip(scatter / away, LEAST, 1) if away > 0 else LEAST
    correlations += shrink * (np.eye(units) - correlations)
    root, found = cholesky(correlations, lower=True), np.empty(count)
    for piece, some in standard():
        found[piece] = (solve_triangular(root, some.T, lower=True) ** 2).sum(0)
    return found
