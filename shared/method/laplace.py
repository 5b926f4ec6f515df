"""A Laplace approximation of the last layer: its weights' posterior as a Gaussian, given the features below it.

The weights of a question are its answers' rows of (unit + 1) numbers, the bias last. Given features, votes on different
questions share no weight, so each question has a Gaussian of its own: about the weights that it is given, of the
precision

    prior x identity + the sum over galaxies of Fisher information (answer, answer) (x) input input^T

(the generalised Gauss-Newton matrix; Daxberger et al. 2021, "Laplace redux"), `Fisher` being that of the galaxy's votes
at its logits (`shared.method.curvature`), and input its features and a 1. The prior is Gaussian about 0, alike in all
weights of a question; its precision, unless given, is that of the largest evidence (MacKay 1992). Weights should be at
their mode, where training by dropout does not leave them: `shared.method.last_layer` brings them there.

A question of more than LARGEST weights has a Gaussian for each answer, given the others' weights: how those of several
answers go together is left out. Fractions scatter more then, as answers no longer rise and fall as one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import root_scalar
from scipy.special import ndtri

from shared.method.curvature import fisher
from shared.method.likelihood import Likelihood
from shared.method.metrics import pieces
from shared.run.keys import galaxy_hash, galaxy_keys, uniforms

LARGEST = 2048  # weights with one Cholesky factor: 34 MB, and seconds for its eigenvalues
PRIORS = 1e-3, 1e6  # precisions of the prior, at least and at most


class Gaussian(NamedTuple):
    """The posterior of a question's weights."""

    mean: np.ndarray  # float64 (answer, unit + 1)
    prior: float  # its precision
    roots: np.ndarray  # float64 (block, weight, weight): the precision's lower Cholesky factors, of all answers or each


class Laplace(NamedTuple):
    """The posterior of a last layer."""

    likelihood: Likelihood
    questions: tuple[Gaussian, ...]


def laplace(
    likelihood: Likelihood,
    features: np.ndarray,
    votes: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray,
    priors: Sequence[float] | None = None,
    importance: np.ndarray | None = None,
) -> Laplace:
    """The posterior about the weights `kernel` (unit, answer) and `bias` (answer,), from the `features` (galaxy, unit)
    and `votes` (galaxy, answer) of training galaxies, given or else with the likeliest precision of each prior.

    Each galaxy counts `importance` (galaxy,) times, or once.
    """
    check(likelihood, features, votes, kernel, bias)
    inputs, weights = inputs_of(features), weights_of(kernel, bias)
    found = []
    for number, at in enumerate(likelihood.slices):
        own = weights[at]
        blocks = information(likelihood, inputs, votes[:, at].sum(1), own, importance)
        prior = likeliest_prior(blocks, own) if priors is None else priors[number]
        found.append(Gaussian(own, prior, precision_roots(blocks, prior)))
    return Laplace(likelihood, tuple(found))


def draw(posterior: Laplace, samples: int, seed: int) -> np.ndarray:
    """`samples` last layers drawn from the posterior, float64 (sample, unit + 1, answer), the bias last.

    Sample t of a question is a function of seed, question and t alone. All galaxies meet the same samples, so theirs
    are coherent: what is drawn for one tells of another, as a joint information needs it.
    """
    drawn = []
    for (name, _), (mean, _, roots) in zip(
        posterior.likelihood.questions, posterior.questions, strict=True
    ):
        key = galaxy_keys(seed, "posterior", galaxy_hash([name], "last layer"))
        uniform = uniforms(key, np.arange(samples), mean.size)
        normal = ndtri(uniform + 2.0**-25).reshape(samples, len(roots), -1)
        moved = [
            solve_triangular(root, normal[:, block].T, trans=1, lower=True).T
            for block, root in enumerate(roots)
        ]
        drawn.append(mean + np.stack(moved, 1).reshape(samples, *mean.shape))
    return np.concatenate(drawn, 1).transpose(0, 2, 1)


def sample(drawn: np.ndarray, features: np.ndarray) -> np.ndarray:
    """The logits float32 (galaxy, sample, answer) of `features` (galaxy, unit) under last layers of `draw`."""
    samples, width, answers = drawn.shape
    layers = drawn.transpose(1, 0, 2).reshape(width, -1)
    found = np.asarray(features, np.float64) @ layers[:-1] + layers[-1]
    return found.astype(np.float32).reshape(len(features), samples, answers)


def information(
    likelihood: Likelihood,
    inputs: np.ndarray,
    total: np.ndarray,
    weights: np.ndarray,
    importance: np.ndarray | None = None,
) -> np.ndarray:
    """The Fisher information of a question's `weights` (answer, unit + 1) in `total` (galaxy,) votes: one block of all
    answers (1, weight, weight), or one of each (answer, weight, weight). Each galaxy counts `importance` times.
    """
    answers, width = weights.shape
    each = fisher(likelihood, inputs @ weights.T, total)
    if importance is not None:
        each = importance[:, None, None] * each
    if weights.size > LARGEST:
        return np.stack([_gram(inputs, each[:, a, a]) for a in range(answers)])
    whole = np.empty((answers, width, answers, width))
    for a in range(answers):
        for b in range(a + 1):
            whole[a, :, b] = whole[b, :, a] = _gram(inputs, each[:, a, b])
    return whole.reshape(1, weights.size, weights.size)


def likeliest_prior(blocks: np.ndarray, weights: np.ndarray) -> float:
    """The precision of the prior that makes the evidence of the votes largest, by information `blocks` at `weights`.

    The evidence is exp(-nll) x prior density / sqrt(det precision); there precision x |weights|^2 is the number of
    weights that the votes determine, the sum of e / (e + precision) over eigenvalues e of the information (MacKay
    1992, equation 4.9). One side rises and the other falls, so it is at one place, or at an end of PRIORS.
    """
    eigenvalues = np.maximum(np.linalg.eigvalsh(blocks), 0).ravel()
    square = float((weights**2).sum())

    def excess(log: float) -> float:
        return np.exp(log) * square - (eigenvalues / (eigenvalues + np.exp(log))).sum()

    low, high = np.log(PRIORS)
    if excess(low) >= 0:
        return PRIORS[0]
    if excess(high) <= 0:
        return PRIORS[1]
    return float(np.exp(root_scalar(excess, bracket=(low, high), xtol=1e-9).root))


def check(
    likelihood: Likelihood,
    features: np.ndarray,
    votes: np.ndarray,
    kernel: np.ndarray,
    bias: np.ndarray,
) -> None:
    """ValueError for arrays that do not belong together, or that hold no numbers."""
    (galaxies, units), answers = np.shape(features), likelihood.slices[-1].stop
    for name, array, wanted in (
        ("votes", votes, (galaxies, answers)),
        ("kernel", kernel, (units, answers)),
        ("bias", bias, (answers,)),
    ):
        if np.shape(array) != wanted:
            raise ValueError(f"{name} is {np.shape(array)}; it must be {wanted}")
    for name, array in (("features", features), ("kernel", kernel), ("bias", bias)):
        if not np.isfinite(array).all():
            raise ValueError(
                f"{name} hold numbers that are not finite, as of a network whose training diverged"
            )


def precision_roots(blocks: np.ndarray, prior: float) -> np.ndarray:
    return np.linalg.cholesky(blocks + prior * np.eye(blocks.shape[-1]))


def _gram(inputs: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The sum over galaxies of shares x input input^T, exactly symmetric."""
    found = np.zeros((inputs.shape[1],) * 2)
    for piece in pieces(len(inputs), inputs.shape[1]):
        found += inputs[piece].T @ (inputs[piece] * shares[piece, None])
    return (found + found.T) / 2


def inputs_of(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, np.float64)
    return np.concatenate([features, np.ones((len(features), 1))], 1)


def weights_of(kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return np.concatenate([np.asarray(kernel, np.float64).T, np.asarray(bias)[:, None]], 1)
