"""The galaxies whose mean vote fraction is nearest to one half."""

import numpy as np

from shared.method.acquisition import Needs
from shared.method.acquisition.ranking import largest
from shared.method.scoring import check_samples

NEEDS = Needs(samples=True)


def scores(backend, pool):
    """How near (galaxy,) the mean rho is to one half: 1 there, 0 at 0 and 1."""
    return 1 - np.abs(2 * np.mean(check_samples(pool.samples), 1, dtype=np.float64) - 1)


def choose(backend, spec, draws, pool, context, count):
    """The largest scores."""
    return largest(scores(backend, pool), pool, spec.guard, count)
