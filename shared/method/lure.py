"""The risk of a pool, estimated without bias from the galaxies drawn from it."""

import numpy as np


def lure(losses: np.ndarray, probabilities: np.ndarray, pool_size: int) -> float:
    """The mean loss of a pool, without bias, from `losses` (galaxy,) of those drawn from it, in the order of drawing.

    It is the mean of their `lure_weights` times their losses. A galaxy that could not be drawn is not accounted for,
    whatever its loss. Raises ValueError where nothing was drawn.
    """
    losses = np.asarray(losses, np.float64)
    if np.shape(probabilities) != losses.shape:
        raise ValueError(
            f"{len(losses)} losses and {len(probabilities)} probabilities; give one of each for each galaxy drawn"
        )
    return float(np.mean(lure_weights(probabilities, pool_size) * losses))


def lure_weights(probabilities: np.ndarray, pool_size: int) -> np.ndarray:
    """The weights float64 (galaxy,), above 0, by which galaxies drawn one by one stand for the pool of `pool_size`.

    v_m = 1 + (N - M) / (N - m) (1 / ((N - m + 1) q_m) - 1), of M drawn from N, where `probabilities` (galaxy,) are q_m:
    of being drawn at its turn from those left (R_LURE of Farquhar, Gal and Rainforth 2021). All are 1 where all were
    drawn alike, or everybody was.

    Raises ValueError where nothing was drawn: no galaxy, more than there are, or one that was certain to be taken.
    """
    probabilities = np.asarray(probabilities, np.float64)
    count, left = len(probabilities), pool_size - np.arange(len(probabilities))
    if not 1 <= count <= pool_size:
        raise ValueError(
            f"{count} probabilities of a pool of {pool_size}; give one for each galaxy drawn, at least one and no more "
            "than the pool has"
        )
    if not ((probabilities > 0) & (probabilities <= 1)).all():
        raise ValueError(
            f"probabilities are {probabilities.tolist()}; each must be above 0 and at most 1"
        )
    certain = (probabilities == 1) & (left > 1)
    if certain.any():
        turn = int(certain.argmax())
        raise ValueError(
            f"galaxy {turn} was certain to be taken, with {left[turn]} left: a choice that is not drawn says nothing "
            "about those it passes over; use acquisition random, power, gibbs or mixture"
        )
    rest = pool_size - count
    return 1 + rest / np.maximum(left - 1, 1) * (1 / (left * probabilities) - 1)
