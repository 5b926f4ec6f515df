"""The galaxies whose votes are least predictable, whatever the reason."""

from shared.method.acquisition import Needs
from shared.method.acquisition.ranking import largest

NEEDS = Needs(samples=True)


def scores(backend, pool):
    """In nats, (galaxy,)."""
    return backend.acquire("entropy", pool.samples, pool.votes)


def choose(backend, spec, draws, pool, context, count):
    """The largest scores."""
    return largest(scores(backend, pool), pool, spec.guard, count)
