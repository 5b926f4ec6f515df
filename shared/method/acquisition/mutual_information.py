"""The galaxies whose votes would tell most about the network (BALD; Walmsley et al. 2020, equation 9)."""

from shared.method.acquisition import Needs
from shared.method.acquisition.ranking import largest

NEEDS = Needs(samples=True)


def scores(backend, pool):
    """In nats, (galaxy,)."""
    return backend.acquire("mutual_information", pool.samples, pool.votes)


def choose(backend, spec, draws, pool, context, count):
    """The largest scores."""
    return largest(scores(backend, pool), pool, spec.guard, count)
