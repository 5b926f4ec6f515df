"""Galaxies drawn with probability by the exponential of their score (Kirsch et al. 2021)."""

from shared.method.acquisition import Needs, acquisition
from shared.method.acquisition.ranking import draw

NEEDS = Needs(score=True)


def reweightable(spec):
    """Unless the guard keeps some from being drawn."""
    return spec.guard == 0


def choose(backend, spec, draws, pool, context, count):
    """Draws by the weight exp(coldness x score)."""
    scores = acquisition(spec.of).scores(backend, pool)
    return draw(spec.coldness * scores, scores, pool, spec.guard, draws, count)
