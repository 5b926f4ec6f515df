"""Galaxies at random: the baseline."""

import numpy as np

from shared.method.acquisition import Choice, Needs
from shared.run import keys

NEEDS = Needs()


def reweightable(spec):
    """Always: all are alike."""
    return True


def choose(backend, spec, draws, pool, context, count):
    """Those of the largest random numbers, which are their scores."""
    galaxy_keys = keys.galaxy_keys(draws.seed, "acquisition", pool.hashes)
    scores = keys.uniforms(galaxy_keys, draws.number, 1)[:, 0]
    places = np.lexsort((pool.hashes, -scores))[:count]
    return Choice(places, scores[places], 1 / (len(scores) - np.arange(count)))
