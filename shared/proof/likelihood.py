"""The likelihoods of volunteers' votes as their formulas say them, in float64: what every framework must agree with.

Logits and votes are (galaxy, answer); multinomial coefficients are left out.
"""

import numpy as np
from scipy.special import expit, log_softmax, softmax

from shared.method.likelihood import MOST, Likelihood

QUESTIONS = {"a": ("first", "second", "third"), "b": ("no", "yes")}  # on which they are compared
TWO = Likelihood(
    "dirichlet_multinomial",
    "exp",
    tuple((name, tuple((answer,) for answer in some)) for name, some in QUESTIONS.items()),
)
FORMS = {
    "multinomial": TWO._replace(name="multinomial"),
    "dirichlet_multinomial/exp": TWO,
    "dirichlet_multinomial/sigmoid": TWO._replace(concentrations="sigmoid"),
}


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
    """[a / A + ... + a / (A + N - 1)] - [a / a + ... + a / (a + k - 1)], times da / dlogit / a.

    Digamma functions say it in one line, but their differences lose digits where a is large.
    """
    alpha = np.exp(log_concentrations(likelihood, logits))
    whole, total = alpha.sum(-1, keepdims=True), votes.sum(-1, keepdims=True)
    upward = _shares(alpha, whole, total) - _shares(alpha, alpha, votes)
    if likelihood.concentrations == "sigmoid":
        upward = upward * MOST * expit(logits) * expit(-logits) / alpha
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


def _shares(alpha: np.ndarray, start: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """alpha / start + alpha / (start + 1) + ... + alpha / (start + counts - 1)."""
    found = np.zeros(alpha.shape)
    for rank in range(int(np.max(counts, initial=0))):
        found += np.where(rank < counts, alpha / (start + rank), 0)
    return found
