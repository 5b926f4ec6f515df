"""What NLL is reached without looking at an image, and by whoever knows all that an image can tell: the ends of the
scale on which a network's is read.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from shared.method.honesty import constant
from shared.method.metrics import mean
from shared.method.tree_metrics import question_nll
from shared.run.questions import Questions


class Baselines(NamedTuple):
    """Mean NLL of a galaxy's votes on one question, in nats."""

    galaxies: int
    uniform: float  # every outcome as likely as any other
    constant: float  # the likeliest Dirichlet-multinomial that is alike for all galaxies
    oracle: float  # that of a galaxy's expected fractions, with the scatter of crowds about them


def baselines(
    galaxies: pd.DataFrame,
    questions: Questions,
    question: str,
    positive: tuple[str, ...] | None = None,
    minimum_votes: int = 1,
) -> Baselines:
    """Those of synthetic `galaxies` on a `question` out of `questions`: of whether its answer is one of `positive`, or
    of all its answers where that is None.

    The constant is fitted to the same galaxies, so it is the best there can be.
    """
    answers = questions[question]
    outputs = [[answer] for answer in answers]
    if positive is not None:
        outputs = [[answer for answer in answers if answer not in positive], list(positive)]
    enough = galaxies[galaxies[f"{question}_total"] >= minimum_votes]
    crowds = "concentration" in enough
    votes = _summed(enough, f"{question}_", outputs)
    expected = _summed(enough, f"{'expected' if crowds else 'true'}_{question}_", outputs)
    own = enough["concentration"].to_numpy()[:, None] if crowds else None
    return Baselines(
        len(enough),
        uniform_nll(votes),
        constant_nll(votes),
        mean(question_nll(expected[:, None], own, votes)),
    )


def uniform_nll(votes: np.ndarray) -> float:
    """The mean NLL of `votes` (galaxy, answer) where every outcome is as likely as any other."""
    return _alike(np.ones(votes.shape[1]), votes)


def constant_nll(votes: np.ndarray) -> float:
    """The least mean NLL of `votes` (galaxy, answer) that a Dirichlet-multinomial, alike for all galaxies, can have."""
    return _alike(constant(votes), votes)


def _alike(alpha: np.ndarray, votes: np.ndarray) -> float:
    """The mean NLL of `votes` (galaxy, answer) under the concentrations `alpha` (answer,), alike for all."""
    shares = np.broadcast_to(alpha / alpha.sum(), (len(votes), 1, len(alpha)))
    return mean(question_nll(shares, np.full((len(votes), 1), alpha.sum()), votes))


def _summed(galaxies: pd.DataFrame, prefix: str, outputs: list[list[str]]) -> np.ndarray:
    """The columns (galaxy, output) of answers, those of one output added."""
    return np.stack(
        [
            galaxies[[prefix + answer for answer in answers]].to_numpy().sum(1)
            for answers in outputs
        ],
        -1,
    )
