"""Galaxies drawn with probability by a power of their score (Kirsch et al. 2021, "Stochastic batch acquisition")."""

import numpy as np
from scipy.special import xlogy

from shared.method.acquisition import Needs, acquisition
from shared.method.acquisition.ranking import draw

NEEDS = Needs(score=True)


def reweightable(spec):
    """Unless the guard keeps some from being drawn."""
    return spec.guard == 0


def choose(backend, spec, draws, pool, context, count):
    """Draws by the weight score^coldness. Scores of 0, or below by rounding, have the weight 0 unless coldness is 0."""
    scores = acquisition(spec.of).scores(backend, pool)
    weights = xlogy(spec.coldness, np.maximum(scores, 0))
    return draw(weights, scores, pool, spec.guard, draws, count)
