"""What a round asked about: which galaxies they are, and whether their scores foretold their losses."""

import numpy as np
from scipy.stats import rankdata

from shared.method.metrics import pieces

ALIKE = 0.999  # cosine similarity, which few galaxies drawn at random reach (1 to 5 % of 16 beside 32 labelled ones)


def composition(
    fractions: np.ndarray | None,
    votes: tuple[np.ndarray, np.ndarray],
    artifacts: np.ndarray | None,
    duplicates: int,
    foretold: dict | None,
) -> dict:
    """What a record says of the galaxies that a round asked about.

    `fractions` (galaxy,) are their true rho and `artifacts` (galaxy,) whether they are none, where these are known;
    without the first, the fractions of their `votes`, yes and total, are summarised. `duplicates` is the number that
    `near_duplicates` gives, and `foretold` what `foretelling` does.
    """
    of, (yes, total) = "truth", votes
    if fractions is None:
        of, fractions = "votes", yes[total > 0] / total[total > 0]
    return {
        "galaxies": len(total),
        "fractions": {"of": of, **_summary(fractions)} if len(fractions) else None,
        "artifacts": None if artifacts is None else int(np.sum(artifacts)),
        "near_duplicates": duplicates,
        "foretold": foretold,
    }


def foretelling(over: str, scores: np.ndarray, losses: np.ndarray, errors: np.ndarray) -> dict:
    """Spearman's rank correlation of `scores` (galaxy,), `over` the galaxies called so, with what they should foretell.

    "log_score" is that with `losses`, the votes' log scores, and "error" that with `errors`, how far the mean rho was
    off. The first are larger where volunteers disagree, which no label mends; the second are not.
    """
    return {
        "over": over,
        "galaxies": len(scores),
        "spearman": {"log_score": _ranked(scores, losses), "error": _ranked(scores, errors)},
    }


def _ranked(one: np.ndarray, other: np.ndarray) -> float | None:
    """None where there is none: of fewer than three, or where all of either are equal."""
    ranks = np.array([rankdata(one), rankdata(other)])
    if len(one) < 3 or (ranks.max(1) == ranks.min(1)).any():
        return None
    return float(np.corrcoef(ranks)[0, 1])


def near_duplicates(asked: np.ndarray, labelled: np.ndarray) -> int:
    """How many of those `asked` about are nearly another of them, or one of those `labelled`, by features (., unit).

    Nearly is a cosine similarity of ALIKE or more, of features less the mean of all these galaxies. It is for comparing
    acquisitions: the features of a network of few labels are alike for many.
    """
    everyone = np.concatenate([asked, labelled]).astype(np.float64)
    if len(everyone) < 2:
        return 0
    everyone -= everyone.mean(0)
    lengths = np.linalg.norm(everyone, axis=1, keepdims=True)
    everyone /= np.where(lengths > 0, lengths, 1)
    count = 0
    for piece in pieces(len(asked), len(everyone)):
        own = np.arange(len(asked))[piece]
        likeness = everyone[own] @ everyone.T
        likeness[np.arange(len(own)), own] = -np.inf
        count += int((likeness.max(1) >= ALIKE).sum())
    return count


def _summary(values: np.ndarray) -> dict:
    return {
        "mean": float(np.mean(values)),
        "quartiles": np.quantile(values, (0.25, 0.5, 0.75)).tolist(),
    }
