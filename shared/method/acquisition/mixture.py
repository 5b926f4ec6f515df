"""A share of the galaxies at random, the others by the best score, as the live Galaxy Zoo loop chooses them."""

import numpy as np

from shared.method.acquisition import Choice, Needs, acquisition
from shared.method.acquisition.ranking import best_first

NEEDS = Needs(score=True)


def reweightable(spec):
    """Unless none is drawn at random. The guard does not apply to those that are."""
    return spec.share > 0


def choose(backend, spec, draws, pool, context, count):
    """For each place, with probability `spec.share` any galaxy that is left, all alike, else the best that is left.

    A galaxy's probability is share / left, and 1 - share more if it has the best score.
    """
    scores = acquisition(spec.of).scores(backend, pool)
    order = np.lexsort((pool.hashes, draws.of_galaxies("draw", pool.hashes)[:, 0]))
    best = best_first(scores, pool, spec.guard)
    left, first, top = np.ones(len(scores), bool), 0, 0
    places, probabilities = np.zeros(count, np.int64), np.zeros(count)
    for turn, coin in enumerate(draws.of_round("draw", count)):
        while not left[order[first]]:
            first += 1
        while not left[best[top]]:
            top += 1
        place = order[first] if coin < spec.share else best[top]
        places[turn], left[place] = place, False
        greedy = (1 - spec.share) * (place == best[top])
        probabilities[turn] = spec.share / (len(scores) - turn) + greedy
    return Choice(places, scores[places], probabilities, scores)
