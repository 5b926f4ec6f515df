"""The last layer brought to the mode of its posterior, given the features below it.

Training leaves it elsewhere: its loss is of units dropped at random and has no prior, and it ends after so many steps.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular
from scipy.sparse.linalg import LinearOperator, cg

from shared.method.curvature import fisher, hessian, nll, slope
from shared.method.laplace import (
    check,
    information,
    inputs_of,
    likeliest_prior,
    precision_roots,
    weights_of,
)
from shared.method.likelihood import Likelihood

CLOSE = 1e-8  # of a mode: the largest derivative of the log-posterior
ROUNDING = 1e-13  # or so much of the sum of what it is made of
STEPS = 100  # of Newton's, at most
ROUNDS = 20  # of mode and prior, each given the other
SETTLED = 0.01  # ln of the prior, from round to round


class LastLayer(NamedTuple):
    """A last layer at its mode."""

    kernel: np.ndarray  # float64 (unit, answer)
    bias: np.ndarray  # float64 (answer,)
    priors: tuple[float, ...]  # the precision of each question's


def refit(
    likelihood: Likelihood,
    features: np.ndarray,
    votes: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray,
    priors: Sequence[float] | None = None,
) -> LastLayer:
    """The last layer at the mode of its posterior, and the priors, each given or the likeliest at that mode.

    Arguments are as of `laplace`; the weights are where the search begins. Every derivative of the log-posterior is
    CLOSE to 0 there, or as close as its rounding allows.
    """
    check(likelihood, features, votes, kernel, bias)
    inputs, weights, found = inputs_of(features), weights_of(kernel, bias), []
    for number, at in enumerate(likelihood.slices):
        some, own, given = np.asarray(votes[:, at], np.float64), weights[at], priors is not None
        prior = priors[number] if given else None
        for _ in range(ROUNDS):
            blocks = information(likelihood, inputs, some.sum(1), own)
            before, prior = prior, priors[number] if given else likeliest_prior(blocks, own)
            own = _mode(likelihood, inputs, some, own, prior, precision_roots(blocks, prior))
            if before is not None and abs(np.log(prior / before)) < SETTLED:
                break
        weights[at] = own
        found.append(float(prior))
    return LastLayer(weights[:, :-1].T, weights[:, -1], tuple(found))


def _mode(
    likelihood: Likelihood,
    inputs: np.ndarray,
    votes: np.ndarray,
    weights: np.ndarray,
    prior: float,
    roots: np.ndarray,
) -> np.ndarray:
    """The weights (answer, unit + 1) of the largest posterior, by Newton's steps from `weights`."""

    def objective(weights: np.ndarray) -> float:
        each = nll(likelihood, inputs @ weights.T, votes)
        return float(each.sum() + prior / 2 * (weights**2).sum())

    value = objective(weights)
    for _ in range(STEPS):
        each = slope(likelihood, inputs @ weights.T, votes)
        gradient = each.T @ inputs + prior * weights
        terms = np.abs(each).T @ np.abs(inputs)
        if (np.abs(gradient) <= np.maximum(CLOSE, ROUNDING * terms)).all():
            return weights
        step = _newton_step(likelihood, inputs, votes, weights, prior, roots, gradient)
        for halvings in range(40):
            new = weights + 0.5**halvings * step
            reached = objective(new)
            enough = value + 1e-4 * 0.5**halvings * (step * gradient).sum()
            if reached <= enough + 1e-12 * abs(value):
                break
        weights, value = new, reached
    raise ValueError(
        f"no mode of the last layer is found in {STEPS} steps (a derivative is {np.abs(gradient).max():.1g}); give "
        "prior precisions that are larger"
    )


def _newton_step(
    likelihood: Likelihood,
    inputs: np.ndarray,
    votes: np.ndarray,
    weights: np.ndarray,
    prior: float,
    roots: np.ndarray,
    gradient: np.ndarray,
) -> np.ndarray:
    """Newton's step, by conjugate gradients that precisions of Cholesky factors `roots` precondition.

    It is by the Hessian, or where that leads uphill by the Fisher information, which never does.
    """
    logits, shape = inputs @ weights.T, weights.shape

    def downhill(each: np.ndarray) -> np.ndarray:
        def product(v: np.ndarray) -> np.ndarray:
            moved = np.einsum("gab,gb->ga", each, inputs @ v.reshape(shape).T)
            return (moved.T @ inputs).ravel() + prior * v.ravel()

        def solved(v: np.ndarray) -> np.ndarray:
            parts = v.reshape(len(roots), -1)
            return np.concatenate(
                [_solve(root, part) for root, part in zip(roots, parts, strict=True)]
            )

        size = (weights.size, weights.size)
        operators = (LinearOperator(size, matvec=of, dtype=np.float64) for of in (product, solved))
        matrix, inverse = operators
        return cg(matrix, -gradient.ravel(), rtol=1e-4, maxiter=200, M=inverse)[0].reshape(shape)

    step = downhill(hessian(likelihood, logits, votes))
    if np.isfinite(step).all() and (step * gradient).sum() < 0:
        return step
    return downhill(fisher(likelihood, logits, votes.sum(1)))


def _solve(root: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """x of root root^T x = vector."""
    return solve_triangular(root, solve_triangular(root, vector, lower=True), trans="T", lower=True)
