"""What acquisition functions share in choosing: the guard against outliers, the largest scores, draws by weight."""

import numpy as np

from shared.method.acquisition import Choice, Draws, Pool
from shared.method.outliers import distances


def outliers(pool: Pool, share: float) -> np.ndarray:
    """`share` of the pool, rounded, bool (galaxy,): those whose features lie farthest out."""
    found = np.zeros(len(pool.hashes), bool)
    if share:
        far = np.lexsort((pool.hashes, -distances(pool.features)))
        found[far[: round(share * len(found))]] = True
    return found


def best_first(scores: np.ndarray, pool: Pool, guard: float) -> np.ndarray:
    """The places int64 (galaxy,) of all the pool, by falling `scores`, outliers last."""
    return np.lexsort((pool.hashes, -scores, outliers(pool, guard)))


def largest(scores: np.ndarray, pool: Pool, guard: float, count: int) -> Choice:
    """The `count` galaxies of the largest `scores` (galaxy,)."""
    places = best_first(scores, pool, guard)[:count]
    return Choice(places, scores[places], np.ones(count), scores)


class Greedy:
    """Galaxies chosen one after the other, by scores that depend on those chosen before."""

    def __init__(self, pool: Pool, guard: float):
        self.hashes, self.outliers = pool.hashes, outliers(pool, guard)
        self.left = np.ones(len(pool.hashes), bool)
        self.places, self.scores, self.first = [], [], None

    def take(self, scores: np.ndarray) -> int:
        """The place of the largest of `scores` (galaxy,) that is left, an outlier only if nothing else is."""
        self.first = scores if self.first is None else self.first
        free = self.left & ~self.outliers
        places = np.flatnonzero(free if free.any() else self.left)
        places = places[scores[places] == scores[places].max()]
        place = int(places[self.hashes[places].argmin()])
        self.left[place] = False
        self.places.append(place)
        self.scores.append(scores[place])
        return place

    def choice(self) -> Choice:
        """All that were taken."""
        scores = np.array(self.scores, np.float64)
        return Choice(np.array(self.places), scores, np.ones(len(scores)), self.first)


def draw(
    log_weights: np.ndarray, scores: np.ndarray, pool: Pool, guard: float, draws: Draws, count: int
) -> Choice:
    """Galaxies drawn one after the other, each by its weight among those left (Kirsch et al. 2021, section 3).

    The largest sums of `log_weights` (galaxy,) and Gumbel noise are such draws. A galaxy of weight 0 is drawn only when
    nothing else is left, and then all such are alike.
    """
    never = np.isneginf(log_weights)
    tiers = 2 * outliers(pool, guard) + never  # nobody of a tier is drawn before those below
    weights = np.where(never, 0, log_weights)
    uniform = draws.of_galaxies("draw", pool.hashes)[:, 0]
    order = np.lexsort((pool.hashes, -(weights - np.log(-np.log(uniform))), tiers))
    probabilities = []
    for tier in np.unique(tiers):
        some = weights[order[tiers[order] == tier]]
        left = np.logaddexp.accumulate(some[::-1])[::-1]  # ln of the sum from each turn on
        probabilities.append(np.exp(some - left))
    places = order[:count]
    return Choice(places, scores[places], np.concatenate(probabilities)[:count], scores)
