"""The galaxies whose features are least like those of any labelled one (Sener and Savarese 2018, algorithm 1)."""

import numpy as np

from shared.method.acquisition import Needs
from shared.method.acquisition.ranking import Greedy

NEEDS = Needs(features=True, labelled=True)


def choose(backend, spec, draws, pool, context, count):
    """Each time the galaxy farthest from all that are labelled or chosen; its score is that distance.

    If none is labelled, the first is the galaxy nearest to the pool's mean, and its score the distance to that.
    """
    features, greedy = pool.features, Greedy(pool, spec.guard)
    if context.labelled is not None and len(context.labelled):
        distance = backend.nearest(features, context.labelled)
    else:
        from_mean = backend.nearest(features, features.mean(0, np.float64, keepdims=True))
        first = greedy.take(-from_mean)
        distance = backend.nearest(features, features[[first]])
    while len(greedy.places) < count:
        place = greedy.take(distance)
        distance = np.minimum(distance, backend.nearest(features, features[[place]]))
    choice = greedy.choice()
    return choice._replace(scores=np.abs(choice.scores))
