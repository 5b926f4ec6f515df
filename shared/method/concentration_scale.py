"""One number per question that makes a posterior's votes scatter more, or less, than it says: a scale found afterwards.

A sample says that N votes of a question are Dirichlet-multinomial, of the concentrations a; with a scale s they are of
s a. The expected fractions stay; a vote fraction's variance, f (1 - f) (1 + (N - 1) / (1 + A)) / N with the sum A of
concentrations, has s A in place of A. Samples of independent votes (of a binomial rho) have no concentrations, as if A
were without end: theirs becomes s itself, so that k is beta-binomial of s rho and s (1 - rho).

s is that of the least negative log-likelihood of validation galaxies, which is a proper score. It mends how far votes
scatter about what is expected, in all galaxies alike; it cannot mend what is expected, nor where it is off.
"""

import numpy as np
from scipy.optimize import minimize_scalar

from shared.method.tree_metrics import question_nll

SCALES = 1e-3, 1e6  # at least and at most
GRID = 13  # scales that are tried first, as there may be several least ones
CLOSE = 0.01  # to which ln s is found
ROUNDING = 1e-9  # nats by which a scale must be better than none


def best_scale(
    fractions: np.ndarray, concentrations: np.ndarray | None, votes: np.ndarray
) -> float:
    """The scale of a question's `concentrations` (galaxy, sample), or in place of None their sum, by `votes` (galaxy,
    answer) of validation galaxies and samples of their `fractions` (galaxy, sample, answer).

    Where no other is better than to leave things as they are it is 1, or infinite where there are no concentrations;
    so too where there are no votes.
    """
    asked = np.asarray(votes).sum(1) > 0
    f, given = np.asarray(fractions)[asked], np.asarray(votes)[asked]
    own = None if concentrations is None else np.asarray(concentrations)[asked]
    none = np.inf if own is None else 1.0
    if not len(given):
        return none

    def nll(scale: float) -> float:
        return float(question_nll(f, scaled(f, own, scale), given).mean())

    logs = np.linspace(np.log(SCALES[0]), np.log(SCALES[1]), GRID)
    best = int(np.argmin([nll(np.exp(log)) for log in logs]))
    bounds = logs[max(best - 1, 0)], logs[min(best + 1, GRID - 1)]
    found = minimize_scalar(
        lambda log: nll(np.exp(log)), bounds=bounds, method="bounded", options={"xatol": CLOSE}
    )
    return float(np.exp(found.x)) if found.fun < nll(none) - ROUNDING else none


def scaled(
    fractions: np.ndarray, concentrations: np.ndarray | None, scale: float
) -> np.ndarray | None:
    """The concentrations (galaxy, sample) that votes have with a `scale`; None, of independent votes, if infinite."""
    if concentrations is not None:
        return np.asarray(concentrations) * scale
    return None if np.isinf(scale) else np.full(np.shape(fractions)[:2], float(scale))
