"""The galaxies whose votes would tell most about the network (BALD; Walmsley et al. 2020, equation 9)."""

import numpy as np

from shared.method.acquisition import Needs
from shared.method.acquisition.ranking import largest
from shared.method.beta import parameters
from shared.method.likelihood import LEAST

NEEDS = Needs(samples=True)


def scores(backend, pool):
    """In nats, (galaxy,)."""
    return information(backend, pool.samples, pool.concentrations, pool.votes)


def information(backend, samples, concentrations, votes):
    """What `votes` int (galaxy,) would tell about the network (galaxy,), in nats, by `samples` (galaxy, sample) of rho.

    Where these have `concentrations` votes are beta-binomial: they tell less, as crowds scatter.
    """
    if concentrations is None:
        return backend.acquire("mutual_information", samples, votes)
    found = np.zeros(len(votes))
    for count in np.unique(votes):
        some = votes == count
        both = np.stack(parameters(samples[some], concentrations[some]), -1)
        found[some] = backend.dirichlet_information(np.maximum(both, LEAST), int(count))
    return found


def choose(backend, spec, draws, pool, context, count):
    """The largest scores."""
    return largest(scores(backend, pool), pool, spec.guard, count)
