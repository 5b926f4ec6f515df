"""The votes of other galaxies that may come in, and what the posterior is then: of batches and of targets."""

import numpy as np
from scipy.special import logsumexp, xlog1py, xlogy

from shared.method.beta import log_ways
from shared.method.scoring import States


def log_votes(samples: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """ln Binomial(k | N, rho) (galaxy, k, sample) of samples (galaxy, sample); -inf for k above the galaxy's N."""
    rho, k = samples.astype(np.float64)[:, None], np.arange(votes.max() + 1)[:, None]
    n = votes[:, None, None]
    no, ways = n - k, log_ways(n, np.minimum(k, n))
    return np.where(no < 0, -np.inf, ways + xlogy(k, rho) + xlog1py(np.maximum(no, 0), -rho))


def all_states(log_joint: np.ndarray) -> States:
    """The states of ln p(counts | sample) (state, sample), all that there are, without the impossible ones."""
    probabilities = np.exp(logsumexp(log_joint, 1)) / log_joint.shape[1]
    return states(probabilities[probabilities > 0], log_joint[probabilities > 0])


def states(probabilities: np.ndarray, log_joint: np.ndarray) -> States:
    """States with `probabilities` (state,) and the posterior of ln p(counts | sample) (state, sample)."""
    return States(probabilities, np.exp(log_joint - logsumexp(log_joint, 1, keepdims=True)))
