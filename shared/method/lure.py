"""The risk of a pool, estimated without bias from the galaxies drawn from it."""

import numpy as np


def lure(losses: np.ndarray, probabilities: np.ndarray, pool_size: int) -> float:
    """The mean loss of a pool, without bias, from `losses` (galaxy,) of those drawn from it, in the order of drawing.

    The mean of v_m x loss_m with v_m = 1 + (N - M) / (N - m) (1 / ((N - m + 1) q_m) - 1), of M drawn from N, where
    `probabilities` (galaxy,) are q_m: of being drawn at its turn (R_LURE of Farquhar, Gal and Rainforth 2021). A
    galaxy that could not be drawn is not accounted for, whatever its loss.

    Raises ValueError where nothing was drawn: no galaxy, more than there are, or one that was certain to be taken.
    """
    losses, probabilities = np.asarray(losses, np.float64), np.asarray(probabilities, np.float64)
    count, left = len(losses), pool_size - np.arange(len(losses))
    if not 1 <= count <= pool_size or probabilities.shape != losses.shape:
        raise ValueError(
            f"{count} losses and {len(probabilities)} probabilities of a pool of {pool_size}; give one loss and one "
            "probability for each galaxy drawn, at least one and no more than the pool has"
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
    return float(np.mean(lure_weights(probabilities, pool_size) * losses))


def lure_weights(probabilities: np.ndarray, pool_size: int) -> np.ndarray:
    """The weights v (galaxy,) of `lure`, of galaxies drawn from so many, which are 1 of those drawn alike.

    By them a loss of galaxies that were drawn by score is that of the pool (Farquhar et al. 2021, section 4).
    """
    left = pool_size - np.arange(len(probabilities))
    rest = pool_size - len(probabilities)
    return 1 + rest / np.maximum(left - 1, 1) * (1 / (left * probabilities) - 1)
