"""How often votes and true fractions lie where a posterior says, level by level, of whole questions.

Counts are whole, so that an interval of them holds more than its level, by up to the chance of a count. Here a count
at the edge of an interval lies in it in part: by the share of its own step of the distribution, from F(k - 1) to F(k),
that is between (1 - level) / 2 and (1 + level) / 2, which is what the randomised PIT gives on average over its chance.
The votes of a perfect posterior then lie in its intervals exactly as often as their level says. Each galaxy's
distribution is of its own number of votes.

Arrays are as in `shared.method.tree_metrics`; answers are taken together, each with its own intervals, but of two
answers the second alone, as the other's votes are what is left.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import kstest

from shared.method import conformal
from shared.method.batches import Labelled
from shared.method.calibration import BINS, LEVELS, between_samples
from shared.method.likelihood import Likelihood
from shared.method.metrics import mean, pieces
from shared.method.mixture import distribution
from shared.method.recalibration import MIDDLE, Recalibration, chances_by_total
from shared.method.tree_metrics import central, held, question_nll
from shared.method.trees import Samples

ALL_LEVELS = (*LEVELS, 0.95)
DEVIATIONS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4)  # of the vote fraction from the expected one
THIRDS = ((0.0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1.0))  # of the expected, or true, fraction
LEVEL = 0.9  # of the intervals whose coverage is told by thirds


class Counts(NamedTuple):
    """Of one answer, how its votes lie among those predicted, each (galaxy,) unless it says otherwise."""

    expected: np.ndarray  # the mean fraction
    observed: np.ndarray  # the fraction of the votes
    pit: np.ndarray  # randomised
    inside: np.ndarray  # (level, galaxy): the share of the count's step in the central interval of each of ALL_LEVELS
    whole: (
        np.ndarray
    )  # whether the count lies in the whole central interval of LEVEL, as a catalogue has it
    chance: np.ndarray  # and that interval's own chance
    near: np.ndarray  # (deviation, 2, galaxy): the chance of, and whether, the fraction is within each of DEVIATIONS
    conformal: np.ndarray  # whether it lies in the conformal interval; NaN where there is none


def coverage_of(
    likelihood: Likelihood,
    samples: Samples,
    part: Labelled,
    uniforms: np.ndarray,
    true_fractions: np.ndarray | None,
    mended: Recalibration | None,
) -> dict[str, dict]:
    """By question, what is measured of `samples` on the votes of `part`, as a record keeps it.

    `uniforms` (galaxy, answer) are those of randomised PITs; `true_fractions` (galaxy, answer), of synthetic galaxies.
    With what was `mended`, which the samples have been already, conformal intervals are measured too.
    """
    told = {}
    for number, ((name, _), at) in enumerate(
        zip(likelihood.questions, likelihood.slices, strict=True)
    ):
        asked = part.votes[:, at].sum(1) > 0
        own = None if samples.concentrations is None else samples.concentrations[asked, :, number]
        told[name] = of_question(
            samples.fractions[asked][..., at],
            own,
            part.votes[asked, at],
            uniforms[asked, at],
            None if true_fractions is None else true_fractions[asked, at],
            None if mended is None else mended[name].thresholds,
        )
    return told


def of_question(
    fractions: np.ndarray,
    concentrations: np.ndarray | None,
    votes: np.ndarray,
    uniforms: np.ndarray,
    true_fractions: np.ndarray | None,
    thresholds: tuple[float, ...] | None,
) -> dict:
    """The measures of one question, of galaxies that all have votes on it."""
    each = counts(fractions, concentrations, votes, uniforms, thresholds)
    answers = range(votes.shape[1]) if votes.shape[1] > 2 else (1,)
    told = Counts(
        *(np.concatenate(parts, -1) for parts in zip(*(each[a] for a in answers), strict=True))
    )
    galaxies = len(votes)
    # of several answers the votes of one galaxy are no independent draws, so that a test of all is none
    p_value = kstest(told.pit, "uniform").pvalue if galaxies and len(answers) == 1 else None
    truth = None
    if true_fractions is not None:
        inside = [
            truth_inside(fractions[..., a], concentrations, true_fractions[:, a]) for a in answers
        ]
        shares = np.concatenate([one[0] for one in inside], -1)
        true = np.concatenate([true_fractions[:, a] for a in answers])
        truth = {
            "levels": [
                [level, expected, mean(row)]
                for level, expected, row in zip(ALL_LEVELS, inside[0][1], shares, strict=True)
            ],
            "thirds": by_thirds(true, told),
        }
    return {
        "galaxies": galaxies,
        "nll": mean(question_nll(fractions, concentrations, votes)),
        "pit": {
            "histogram": (np.histogram(told.pit, BINS, (0, 1))[0] / len(answers)).tolist(),
            "statistic": float(kstest(told.pit, "uniform").statistic) if galaxies else None,
            "p_value": None if p_value is None else float(p_value),
        },
        "votes": [[level, mean(row)] for level, row in zip(ALL_LEVELS, told.inside, strict=True)],
        "whole_interval": {
            "level": LEVEL,
            "expected": mean(told.chance),
            "observed": mean(told.whole),
        },
        "fractions": [
            [deviation, mean(predicted), mean(seen)]
            for deviation, (predicted, seen) in zip(DEVIATIONS, told.near, strict=True)
        ],
        "conformal": None if thresholds is None else mean(told.conformal),
        "reliability": reliability(told),
        "thirds": by_thirds(told.expected, told),
        "truth": truth,
    }


def counts(
    fractions: np.ndarray,
    concentrations: np.ndarray | None,
    votes: np.ndarray,
    uniforms: np.ndarray,
    thresholds: tuple[float, ...] | None,
) -> list[Counts]:
    """The `Counts` of each answer."""
    galaxies, answers = votes.shape
    total, middle = votes.sum(1), fractions.mean(1, dtype=np.float64)
    found = [
        Counts(
            middle[:, answer],
            votes[:, answer] / np.maximum(total, 1),
            *np.zeros((1, galaxies)),
            np.zeros((len(ALL_LEVELS), galaxies)),
            *np.zeros((2, galaxies)),
            np.zeros((len(DEVIATIONS), 2, galaxies)),
            np.full(galaxies, np.nan),
        )
        for answer in range(answers)
    ]
    for rows, answer, chances in chances_by_total(fractions, concentrations, total):
        one, k, n = found[answer], votes[rows, answer], int(total[rows[0]])
        reached, at = np.pad(chances.cumsum(1), ((0, 0), (1, 0))), np.arange(len(rows))
        one.pit[rows] = reached[at, k] + uniforms[rows, answer] * chances[at, k]
        for place, level in enumerate(ALL_LEVELS):
            one.inside[place, rows] = held(chances, k, level)
        one.whole[rows], one.chance[rows] = central(chances, k, LEVEL)
        centre = np.floor(n * middle[rows, answer] + 1e-9).astype(np.int64)
        for place, deviation in enumerate(DEVIATIONS):
            width = int(deviation * n + 1e-9)
            low, high = np.maximum(centre - width, 0), np.minimum(centre + width, n)
            one.near[place, 0, rows] = reached[at, high + 1] - reached[at, low]
            one.near[place, 1, rows] = np.abs(k - centre) <= width
        if thresholds is not None:
            low, high = conformal.intervals(chances, total[rows], MIDDLE, thresholds[answer])
            one.conformal[rows] = (low <= k) & (k <= high)
    return found


def truth_inside(
    fractions: np.ndarray, concentrations: np.ndarray | None, true: np.ndarray
) -> tuple[np.ndarray, list[float]]:
    """Whether `true` fractions (galaxy,) lie in the central intervals, (level, galaxy), and the chance of each level.

    Without concentrations intervals are between samples, and their chance is as of `between_samples`.
    """
    if concentrations is None:
        found = [between_samples(fractions, true, level) for level in ALL_LEVELS]
        return np.stack([inside for inside, _ in found]), [expected for _, expected in found]
    reached = np.zeros(len(true))
    for piece in pieces(len(true), 8 * fractions.shape[1]):
        reached[piece] = distribution(fractions[piece], concentrations[piece], true[piece])
    return np.stack([np.abs(reached - 0.5) <= level / 2 for level in ALL_LEVELS]), list(ALL_LEVELS)


def reliability(told: Counts) -> list[list[float]]:
    """[mean expected fraction, mean observed fraction, galaxies] of those expected in each tenth of 0 to 1."""
    tenth = np.minimum((told.expected * BINS).astype(int), BINS - 1)
    return [
        [mean(told.expected[some]), mean(told.observed[some]), int(some.sum())]
        for some in (tenth == number for number in range(BINS))
        if some.any()
    ]


def by_thirds(of: np.ndarray, told: Counts) -> list[list]:
    """[from, to, galaxies, votes in central intervals of LEVEL, votes in conformal ones] of each of THIRDS of `of`."""
    rows = []
    for low, high in THIRDS:
        some = (of >= low) & ((of < high) | (high == 1))
        shares = [
            mean(side[some]) for side in (told.inside[ALL_LEVELS.index(LEVEL)], told.conformal)
        ]
        rows.append([low, high, int(some.sum()), *shares])
    return rows
