"""The likelihoods of volunteers' votes as their formulas say them, in float64: what every framework must agree with.

Logits and votes are (galaxy, answer); multinomial coefficients are left out.
"""

import numpy as np
from scipy.special import expit, log_softmax, psi, softmax

from shared.method.likelihood import MOST, Likelihood


def votes_nll(likelihood: Likelihood, logits: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Minus the log-likelihood of votes in nats (galaxy,), summed over questions."""
    nll = {
        "binomial": binomial,
        "multinomial": multinomial,
        "dirichlet_multinomial": dirichlet_multinomial,
    }[likelihood.name]
    return sum(nll(likelihood, logits[..., at], votes[..., at]) for at in likelihood.slices)


def votes_nll_gradient(likelihood: Likelihood, logits: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """The gradient (galaxy, answer) of `votes_nll` with respect to each logit."""
    gradient = {
        "binomial": binomial_gradient,
        "multinomial": multinomial_gradient,
        "dirichlet_multinomial": dirichlet_multinomial_gradient,
    }[likelihood.name]
    each = [gradient(likelihood, logits[..., at], votes[..., at]) for at in likelihood.slices]
    return np.concatenate(each, -1)


def binomial(_: Likelihood, logits: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """-ln of rho^k (1 - rho)^(N - k), rho being the softmax's second (W+20, equation 2)."""
    logit = logits[..., 1] - logits[..., 0]
    return votes[..., 1] * np.logaddexp(0, -logit) + votes[..., 0] * np.logaddexp(0, logit)


def binomial_gradient(_: Likelihood, logits: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """N rho - k with respect to the second logit, the opposite with respect to the first."""
    rho = expit(logits[..., 1] - logits[..., 0])
    upward = votes.sum(-1) * rho - votes[..., 1]
    return np.stack([-upward, upward], -1)


def multinomial(_: Likelihood, logits: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """-ln of the product of p^k, p being the softmax."""
    return -(votes * log_softmax(logits, -1)).sum(-1)


def multinomial_gradient(_: Likelihood, logits: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """N p - k."""
    return votes.sum(-1, keepdims=True) * softmax(logits, -1) - votes


def dirichlet_multinomial(
    likelihood: Likelihood, logits: np.ndarray, votes: np.ndarray
) -> np.ndarray:
    """-ln of Gamma(A) / Gamma(A + N) x the product of Gamma(a + k) / Gamma(a) (W+22, equation 3).

    Gamma(a + k) / Gamma(a) is a (a + 1) ... (a + k - 1), multiplied out here, in logarithms that no logit overflows.
    """
    logs = log_concentrations(likelihood, logits)
    whole = np.logaddexp.reduce(logs, -1)
    return _log_rising(whole, votes.sum(-1)) - _log_rising(logs, votes).sum(-1)


def dirichlet_multinomial_gradient(
    likelihood: Likelihood, logits: np.ndarray, votes: np.ndarray
) -> np.ndarray:
    """a [psi(A + N) - psi(A) - psi(a + k) + psi(a)] da / dlogit / a, psi being the digamma function."""
    logs = log_concentrations(likelihood, logits)
    alpha = np.exp(logs)
    whole, total = alpha.sum(-1, keepdims=True), votes.sum(-1, keepdims=True)
    upward = alpha * (psi(whole + total) - psi(whole) - psi(alpha + votes) + psi(alpha))
    if likelihood.concentrations == "sigmoid":
        share = expit(logits)
        upward = upward * MOST * share * (1 - share) / alpha
    return upward


def log_concentrations(likelihood: Likelihood, logits: np.ndarray) -> np.ndarray:
    """ln of exp(logits), or of W+22's 1 + 100 sigmoid(logits)."""
    return logits if likelihood.concentrations == "exp" else np.log(1 + MOST * expit(logits))


def _log_rising(logs: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """ln of a (a + 1) ... (a + k - 1), `logs` being ln a and `counts` k."""
    counts = np.asarray(counts)
    found = np.zeros(np.broadcast_shapes(logs.shape, counts.shape))
    for rank in range(int(counts.max(initial=0))):
        with np.errstate(divide="ignore"):
            each = np.logaddexp(logs, np.log(rank))
        found += np.where(rank < counts, each, 0)
    return found
