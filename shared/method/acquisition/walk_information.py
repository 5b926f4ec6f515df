"""The galaxies of which one volunteer's answers to all questions that are asked would tell most about the network."""

from shared.method.acquisition import Needs
from shared.method.acquisition.ranking import largest

NEEDS = Needs(samples=True, walks=True)


def scores(backend, pool):
    """In nats, (galaxy,)."""
    return pool.walk_information


def choose(backend, spec, draws, pool, context, count):
    """The largest scores."""
    return largest(scores(backend, pool), pool, spec.guard, count)
