"""The galaxies whose vote fraction the samples disagree about most."""

import numpy as np

from shared.method.acquisition import Needs
from shared.method.acquisition.ranking import largest
from shared.method.scoring import check_samples

NEEDS = Needs(samples=True)


def scores(backend, pool):
    """The variance (galaxy,) of rho over samples."""
    return np.var(check_samples(pool.samples), 1, dtype=np.float64)


def choose(backend, spec, draws, pool, context, count):
    """The largest scores."""
    return largest(scores(backend, pool), pool, spec.guard, count)
