"""The galaxies whose votes are least predictable, whatever the reason."""

import numpy as np
from scipy.special import entr

from shared.method.acquisition import Needs
from shared.method.acquisition.ranking import largest
from shared.method.metrics import pieces
from shared.method.mixture import count_chances

NEEDS = Needs(samples=True)


def scores(backend, pool):
    """In nats, (galaxy,); where samples have concentrations, of beta-binomial votes."""
    if pool.concentrations is None:
        return backend.acquire("entropy", pool.samples, pool.votes)
    found = np.zeros(len(pool.votes))
    for count in np.unique(pool.votes):
        places = np.flatnonzero(pool.votes == count)
        for piece in pieces(len(places), 4 * pool.samples.shape[1]):
            rows = places[piece]
            chances = count_chances(pool.samples[rows], int(count), pool.concentrations[rows])
            found[rows] = entr(chances).sum(1)
    return found


def choose(backend, spec, draws, pool, context, count):
    """The largest scores."""
    return largest(scores(backend, pool), pool, spec.guard, count)
