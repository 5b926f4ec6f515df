"""The votes of other galaxies that may come in, and what the posterior is then: of batches and of targets."""

import numpy as np
from scipy.special import logsumexp, xlog1py, xlogy

from shared.method.beta import log_ways
from shared.method.scoring import States


def independent_votes(votes: np.ndarray, concentrations: np.ndarray | None) -> np.ndarray:
    """How many independent votes int64 (galaxy,) tell as much as `votes` whose samples have `concentrations`.

    N beta-binomial votes of concentration c have the mean and the variance of N (c + 1) / (c + N) binomial ones, which
    tell as much within 10 % in the mean of trials (40 votes, c from 10 on). Joint votes are scored so.
    """
    if concentrations is None:
        return votes
    own = np.mean(concentrations, 1, dtype=np.float64)
    alike = np.rint(votes * (own + 1) / (own + np.maximum(votes, 1)))
    return np.where(votes > 0, np.maximum(alike, 1), 0).astype(np.int64)


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
