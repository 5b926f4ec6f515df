"""Intervals of vote counts that hold as often as they say, whatever the posterior: split conformal prediction.

A posterior says that a galaxy's count k has the chances p(0) ... p(N). The score of k is twice the chance of its lesser
tail, F(k - 1) + u p(k) or 1 - F(k) + (1 - u) p(k), with a number u in [0, 1] of the galaxy: 1 in the middle, near 0 far
out. Of n calibration galaxies, that nothing was fitted to, the threshold is the floor((n + 1) (1 - level))-th smallest
score, and the interval of another galaxy all counts whose score is not below it: where the posterior is honest the
threshold is about 1 - level and the interval the central one; where it is too sure, less, and all are wider.

**The guarantee** (Vovk, Gammerman and Shafer 2005; Lei et al. 2018, theorem 2.2): if the other galaxy and those of
calibration are exchangeable, the interval holds its count with a chance of at least `level`, over the draw of all of
them, for any n and any posterior; and of at most level + 1 / (n + 1) where no two scores are equal, as with uniform u.
u = 1/2 everywhere gives intervals without chance: the guarantee stands, and where galaxies differ in N and chances
the excess is small too. It is of the galaxy's own N.

**Where it fails.** It is marginal, over all galaxies alike. Among galaxies of some true fraction it may hold less often
and elsewhere more (with a binomial: 91 % of all, 76 % of those of a fraction between .4 and .6): one threshold widens
the intervals of all by one measure. Nothing without assumptions mends that for what is not known beforehand (Barber et
al. 2021); for groups that are known, as of the expected fraction, take a threshold in each. It is of counts, never of
the true fraction, which nobody observes. And it fails with exchangeability: of galaxies from another survey, of those
that an acquisition chose, of galaxies that the network was trained or its scale fitted with.
"""

import numpy as np


def scores(chances: np.ndarray, counts: np.ndarray, uniforms: np.ndarray | float) -> np.ndarray:
    """The score of each galaxy's of `counts` (galaxy,), float64 (galaxy,).

    `chances` (galaxy, count) of 0, 1, ... votes are the posterior's, 0 beyond the galaxy's own N, as of
    `metrics.vote_chances` or `mixture.count_chances`; `uniforms` (galaxy,) as of `calibration.pit_uniforms`, or one.
    """
    return np.take_along_axis(_scores(chances, uniforms), np.asarray(counts)[:, None], 1)[:, 0]


def threshold(calibration: np.ndarray, level: float) -> float:
    """The score from which on counts are inside, of the scores of the `calibration` galaxies (galaxy,).

    It is 0, and intervals hold every count, where there are fewer than level / (1 - level) of them. ValueError if
    `level` is not between 0 and 1, or if a score is not a number.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level is {level}; it must lie between 0 and 1")
    if np.isnan(calibration).any():
        raise ValueError("a score is not a number; leave out galaxies without votes")
    rank = int((len(calibration) + 1) * (1 - level) + 1e-9)
    return float(np.sort(calibration)[rank - 1]) if rank else 0.0


def intervals(
    chances: np.ndarray, total: np.ndarray, uniforms: np.ndarray | float, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last count, both int64 (galaxy,), of up to `total` (galaxy,), whose scores are not below
    `least`; where there is none (as can be with low levels) the one of the highest score.
    """
    found = _scores(chances, uniforms)
    found[np.arange(found.shape[1]) > np.asarray(total)[:, None]] = -1
    inside = found >= np.minimum(least, found.max(1, keepdims=True))
    return inside.argmax(1), inside.shape[1] - 1 - inside[:, ::-1].argmax(1)


def _scores(chances: np.ndarray, uniforms: np.ndarray | float) -> np.ndarray:
    """The scores (galaxy, count) of all counts, which rise to one and fall from it, so that intervals have no gaps.

    Each tail is summed from its own end, or all that are far out would be as far.
    """
    chances = np.asarray(chances, np.float64)
    u = np.broadcast_to(uniforms, len(chances))[:, None]
    below = np.pad(chances.cumsum(1), ((0, 0), (1, 0)))[:, :-1]
    above = np.pad(chances[:, ::-1].cumsum(1)[:, ::-1], ((0, 0), (0, 1)))[:, 1:]
    return 2 * np.minimum(below + u * chances, above + (1 - u) * chances)
