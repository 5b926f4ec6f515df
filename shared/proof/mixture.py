"""What a galaxy's posterior mixture must say, in plain loops over samples and counts: slow, float64, with SciPy's laws.

One galaxy at a time: `fractions` (sample, answer) of all answers and `concentrations` (sample, question), or None. In
functions of one answer both are (sample,).
"""

from math import log

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaln
from scipy.stats import beta, betabinom, binom

from shared.data.schema import answers
from shared.run.questions import Leads, Questions


def moments(fractions: np.ndarray, concentrations: np.ndarray | None) -> tuple[float, float]:
    """Mean and standard deviation, by the mean of the square."""
    mean = square = 0.0
    for sample, f in enumerate(fractions):
        spread = 0.0
        if concentrations is not None:
            spread = beta.var(f * concentrations[sample], (1 - f) * concentrations[sample])
        mean += f / len(fractions)
        square += (spread + f**2) / len(fractions)
    return mean, (square - mean**2) ** 0.5


def distribution(fractions: np.ndarray, concentrations: np.ndarray, at: float) -> float:
    """The chance of a fraction of at most `at`; a fraction of 0 or 1 is itself."""
    total = 0.0
    for f, own in zip(fractions, concentrations, strict=True):
        if 0 < f < 1:
            total += beta.cdf(at, f * own, (1 - f) * own)
        else:
            total += at >= f
    return total / len(fractions)


def quantile(fractions: np.ndarray, concentrations: np.ndarray | None, level: float) -> float:
    """The least fraction up to which the chance is `level`; between samples, if there are no concentrations."""
    if concentrations is None:
        ordered = np.sort(fractions)
        place = level * (len(ordered) - 1)
        before = min(int(place), len(ordered) - 2) if len(ordered) > 1 else 0
        after = min(before + 1, len(ordered) - 1)
        return float(ordered[before] + (place - before) * (ordered[after] - ordered[before]))
    if np.mean(fractions == 0) >= level:
        return 0.0
    if distribution(fractions, concentrations, np.nextafter(1, 0)) < level:
        return 1.0
    return brentq(
        lambda x: distribution(fractions, concentrations, x) - level, 0, 1, xtol=1e-16, rtol=1e-15
    )


def count_chance(
    fractions: np.ndarray, concentrations: np.ndarray | None, total: int, count: int
) -> float:
    """The chance of `count` votes of `total`."""
    chance = 0.0
    for sample, f in enumerate(fractions):
        if concentrations is None or f in (0, 1):
            chance += binom.pmf(count, total, f)
        else:
            own = concentrations[sample]
            chance += betabinom.pmf(count, total, f * own, (1 - f) * own)
    return chance / len(fractions)


def votes_interval(
    fractions: np.ndarray, concentrations: np.ndarray | None, total: int
) -> tuple[int, int]:
    """The least counts whose chance of not being exceeded reaches 5 % and 95 %."""
    reached, ends = 0.0, []
    for count in range(total + 1):
        reached += count_chance(fractions, concentrations, total, count)
        while len(ends) < 2 and reached >= (0.05, 0.95)[len(ends)]:
            ends.append(count)
    low, high = ends + [total] * (2 - len(ends))
    return low, high


def asked(questions: Questions, leads: Leads, fractions: np.ndarray, question: str) -> float:
    """The chance that `question` is asked: over samples the mean, over paths the sum, along a path the product."""
    return sum(
        float(np.prod([sample[place] for place in path]))
        for sample in fractions
        for path in _paths(questions, leads, question)
    ) / len(fractions)


def information(fractions: np.ndarray) -> float:
    """Of `fractions` (sample, answer) of one question, the mutual information of one answer and the sample, in nats:
    the mean over samples of the divergence from the mean.
    """
    mean = fractions.mean(0)
    divergences = [
        sum(p * log(p / q) for p, q in zip(sample, mean, strict=True) if p > 0)
        for sample in fractions
    ]
    return sum(divergences) / len(divergences)


def question_nll(
    fractions: np.ndarray, concentrations: np.ndarray | None, votes: np.ndarray
) -> float:
    """-ln of the chance of `votes` (answer,) on one question, drawn one after the other from an urn, times the ways to
    order them; `fractions` are (sample, answer), `concentrations` (sample,).
    """
    chance = 0.0
    for sample, f in enumerate(fractions):
        drawn, each = 0, 1.0
        for answer, count in enumerate(votes):
            for earlier in range(count):
                if concentrations is None:
                    each *= f[answer]
                else:
                    own = concentrations[sample]
                    each *= (f[answer] * own + earlier) / (own + drawn)
                drawn += 1
        chance += each / len(fractions)
    ways = gammaln(sum(votes) + 1) - sum(gammaln(count + 1) for count in votes)
    return float(-ways - np.log(chance))


def _paths(questions: Questions, leads: Leads, question: str) -> list[list[int]]:
    """Places, on the axis of answers, of the answers of every way to get to `question`."""
    axis = {pair: number for number, pair in enumerate(answers(questions))}
    if question not in leads:
        return [[]]
    return [
        [*path, axis[earlier, answer]]
        for earlier, some in leads[question].items()
        for answer in some
        for path in _paths(questions, leads, earlier)
    ]
