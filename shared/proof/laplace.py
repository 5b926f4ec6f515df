"""The posterior of a last layer by its definitions: float64, dense and slow, for the tiny.

All weights are one vector: kernel (unit, answer) and below it the bias, row by row, so that logits are a galaxy's
features and a 1, times the weights. `priors` are the precisions of each question's.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np

from shared.method.likelihood import Likelihood
from shared.proof.likelihood import votes_nll, votes_nll_gradient

STEP = 1e-4  # of differences


def log_posterior(
    likelihood: Likelihood,
    features: np.ndarray,
    votes: np.ndarray,
    weights: np.ndarray,
    priors: Sequence[float],
) -> float:
    """ln of likelihood x prior density at `weights`, without the likelihood's multinomial coefficients."""
    precision = spread(likelihood, features, priors)
    nll = votes_nll(likelihood, logits(features, weights), votes).sum()
    return float(-nll - (precision * weights**2 - np.log(precision / (2 * np.pi))).sum() / 2)


def log_evidence(
    likelihood: Likelihood,
    features: np.ndarray,
    votes: np.ndarray,
    weights: np.ndarray,
    priors: Sequence[float],
) -> float:
    """ln of the integral of likelihood x prior, if about its mode it were Gaussian, of the Fisher information."""
    matrix = precision(likelihood, features, votes, weights, priors) / (2 * np.pi)
    top = log_posterior(likelihood, features, votes, weights, priors)
    return float(top - np.linalg.slogdet(matrix)[1] / 2)


def precision(
    likelihood: Likelihood,
    features: np.ndarray,
    votes: np.ndarray,
    weights: np.ndarray,
    priors: Sequence[float],
) -> np.ndarray:
    """The posterior's precision (weight, weight): the prior's, and each galaxy's Fisher information through the
    derivatives of its logits by the weights.
    """
    found = np.diag(spread(likelihood, features, priors))
    for galaxy, units in enumerate(features):
        moved = np.stack([logits(units, one) for one in np.eye(len(weights))], 1)
        for at in likelihood.slices:
            one = Likelihood(*likelihood[:2], (("", ((),) * (at.stop - at.start)),))
            z = logits(units, weights)[at]
            found += moved[at].T @ fisher(one, z, int(votes[galaxy, at].sum())) @ moved[at]
    return found


def fisher(likelihood: Likelihood, z: np.ndarray, total: int) -> np.ndarray:
    """The Fisher information (answer, answer) of `total` votes on one question of logits `z` (answer,): the mean of
    gradient x gradient over every sequence of answers that volunteers could give, drawn from the model.
    """
    found, whole = np.zeros((len(z),) * 2), 0.0
    for given in product(range(len(z)), repeat=total):
        counts = np.bincount(given, minlength=len(z)).astype(float)
        chance = np.exp(-votes_nll(likelihood, z, counts))
        gradient = votes_nll_gradient(likelihood, z, counts)
        found += chance * np.outer(gradient, gradient)
        whole += chance
    assert abs(whole - 1) < 1e-12
    return found


def numerical_hessian(likelihood: Likelihood, z: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """The second derivatives (answer, answer) of `votes_nll` of one galaxy, by second differences of its value."""
    found = np.empty((len(z),) * 2)
    for a, b in np.ndindex(found.shape):
        total = 0.0
        for i, j, share in STENCIL:
            shift = STEP * 100 * (i * np.eye(len(z))[a] + j * np.eye(len(z))[b])
            total += share * votes_nll(likelihood, z + shift, votes)
        found[a, b] = total / (STEP * 100) ** 2
    return found


# the first derivative to fourth order, in one direction and then in another
FIRST = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))
STENCIL = [(i, j, one * other) for i, one in FIRST for j, other in FIRST]


def gradient(
    likelihood: Likelihood,
    features: np.ndarray,
    votes: np.ndarray,
    weights: np.ndarray,
    priors: Sequence[float],
) -> np.ndarray:
    """The derivatives (weight,) of `log_posterior` by central differences."""
    steps = STEP * np.eye(len(weights))
    up, down = (
        [
            log_posterior(likelihood, features, votes, weights + sign * step, priors)
            for step in steps
        ]
        for sign in (1, -1)
    )
    return (np.array(up) - np.array(down)) / (2 * STEP)


def logits(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(..., answer), of features (..., unit)."""
    layer = weights.reshape(features.shape[-1] + 1, -1)
    return features @ layer[:-1] + layer[-1]


def spread(likelihood: Likelihood, features: np.ndarray, priors: Sequence[float]) -> np.ndarray:
    """The prior's precision of each weight (weight,)."""
    answers = [at.stop - at.start for at in likelihood.slices]
    return np.tile(np.repeat(np.asarray(priors, float), answers), features.shape[-1] + 1)
