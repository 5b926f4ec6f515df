"""The galaxies about whose network one volunteer's answers to the whole schema of questions would tell most."""

from shared.method.acquisition import Needs
from shared.method.acquisition.ranking import largest

NEEDS = Needs(samples=True)


def scores(backend, pool):
    """In nats, (galaxy,)."""
    return backend.walk_information(pool.fractions, pool.walks)


def choose(backend, spec, draws, pool, context, count):
    """The largest scores."""
    return largest(scores(backend, pool), pool, spec.guard, count)
