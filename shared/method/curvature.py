"""How votes on one question pull at its logits: the slope and the curvature of their negative log-likelihood.

Everything is of one question, float64: logits and votes are (galaxy, answer) of its answers alone. Of concentrations a,
their sum A and N votes in all, of which k are an answer's, the negative log-likelihood of a Dirichlet-multinomial is
the sum of ln(A + j) over j < N, less that of ln(a + j) over j < k and all answers. With a' and a" the derivatives of a
by its logit z, and s(a, k) and t(a, k) the sums of 1 / (a + j) and of 1 / (a + j)^2 over j < k (differences of digamma
and trigamma functions, which lose their digits where a is large; hence sums):

    slope    a' [s(A, N) - s(a, k)]
    Hessian  - a' b' t(A, N) for two answers; for one with itself + a" [s(A, N) - s(a, k)] + a'^2 t(a, k) beside it
    Fisher   the Hessian's mean over votes that the model itself draws: that of s(a, k) is s(A, N), so a" drops out and
             only the mean of t(a, k) is left, the sum of p(k > j) / (a + j)^2 over j < N

The Hessian may have negative eigenvalues; the Fisher information cannot, for it is also the mean of slope x slope.
Of independent votes both are N [diag(p) - p p^T].
"""

import numpy as np
from scipy.special import expit, log_softmax, softmax

from shared.method.beta import log_rising
from shared.method.likelihood import MOST, Likelihood
from shared.method.metrics import pieces

AT_ONCE = 2**15  # terms of `rising` that are summed at once: they stay in a processor's cache
FARTHEST = 300.0  # from 0, of logits whose exp is a concentration: squares are still finite, and beyond nothing changes


def nll(likelihood: Likelihood, logits: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Minus the log-likelihood of the votes (galaxy,), in nats, without the multinomial coefficient."""
    if likelihood.name != "dirichlet_multinomial":
        return -(votes * log_softmax(logits, -1)).sum(-1)
    alpha, _, _ = concentration(likelihood, logits)
    return log_rising(alpha.sum(-1), votes.sum(-1)) - log_rising(alpha, votes).sum(-1)


def slope(likelihood: Likelihood, logits: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """The derivative (galaxy, answer) of `nll` by each logit."""
    total = votes.sum(-1, keepdims=True)
    if likelihood.name != "dirichlet_multinomial":
        return total * softmax(logits, -1) - votes
    alpha, first, _ = concentration(likelihood, logits)
    whole = alpha.sum(-1, keepdims=True)
    return first * (rising(whole, total, 1) - rising(alpha, votes, 1))


def hessian(likelihood: Likelihood, logits: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """The second derivatives (galaxy, answer, answer) of `nll`, as they are: not always positive semidefinite."""
    total = votes.sum(-1, keepdims=True)
    if likelihood.name != "dirichlet_multinomial":
        return _independent(logits, total)
    alpha, first, second = concentration(likelihood, logits)
    whole = alpha.sum(-1, keepdims=True)
    bent = second * (rising(whole, total, 1) - rising(alpha, votes, 1))
    return _matrix(first, rising(whole, total, 2), bent + first**2 * rising(alpha, votes, 2))


def fisher(likelihood: Likelihood, logits: np.ndarray, total: np.ndarray) -> np.ndarray:
    """The Fisher information (galaxy, answer, answer) of so many votes in `total` (galaxy,): positive semidefinite."""
    total = np.asarray(total, np.float64)[:, None]
    if likelihood.name != "dirichlet_multinomial":
        return _independent(logits, total)
    alpha, first, _ = concentration(likelihood, logits)
    whole = alpha.sum(-1, keepdims=True)
    own = first**2 * _expected(alpha, whole - alpha, total)
    return _matrix(first, rising(whole, total, 2), own)


def concentration(
    likelihood: Likelihood, logits: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The concentrations (galaxy, answer) of logits, and their first and second derivatives."""
    if likelihood.concentrations == "exp":
        alpha = np.exp(np.clip(logits, -FARTHEST, FARTHEST))
        return alpha, alpha, alpha
    up, down = expit(logits), expit(-logits)
    first = MOST * up * down
    return 1 + MOST * up, first, first * (down - up)


def rising(start: np.ndarray, counts: np.ndarray, power: int) -> np.ndarray:
    """The sum of 1 / (start + j)^`power` over j < `counts`."""
    found = np.zeros(np.broadcast_shapes(start.shape, counts.shape))
    ranks = np.arange(int(np.max(counts, initial=0)))[:, None, None]
    for piece in pieces(len(found), max(1, found.shape[-1] * len(ranks)), AT_ONCE):
        terms = (1 / (start[piece] + ranks)) ** power
        found[piece] = np.where(ranks < counts[piece], terms, 0).sum(0)
    return found


def _independent(logits: np.ndarray, total: np.ndarray) -> np.ndarray:
    p = softmax(logits, -1)
    return _matrix(p, total, total * p)


def _matrix(first: np.ndarray, common: np.ndarray, own: np.ndarray) -> np.ndarray:
    """diag(own) - common first first^T, of each galaxy."""
    found = -common[..., None] * first[..., :, None] * first[..., None, :]
    places = np.arange(first.shape[-1])
    found[..., places, places] += own
    return found


def _expected(alpha: np.ndarray, others: np.ndarray, total: np.ndarray) -> np.ndarray:
    """The mean of `rising`(alpha, k, 2) over the beta-binomial k of so many votes: of each j, p(k > j) times its term.

    p(k + 1) is gone to from p(k), in logarithms, as p(0) may be too small a number.
    """
    others = np.maximum(others, np.exp(-FARTHEST))
    log = log_rising(others, total) - log_rising(alpha + others, total)  # ln p(0)
    found, above = np.zeros(alpha.shape), 1 - np.exp(log)
    for k in range(int(np.max(total, initial=0))):
        found += np.where(k < total, above * (1 / (alpha + k)) ** 2, 0)
        left = np.maximum(total - k, 1)
        log += np.log((alpha + k) * (left / (k + 1)) / (others + (left - 1)))
        above = np.maximum(above - np.exp(np.minimum(log, 0)), 0)
    return found
