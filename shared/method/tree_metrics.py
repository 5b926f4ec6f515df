"""How good the posterior of a whole tree is, question by question, told by votes it has not seen.

Everywhere: `fractions` (galaxy, sample, answer) and `concentrations` (galaxy, sample, question) or None, as in
shared/method/mixture.py; `votes` int (galaxy, answer), 0 on a question that nobody was asked. In functions of one
question all arrays are of its answers alone, and concentrations are (galaxy, sample). Galaxies with no answer to a
question tell nothing of it and are left out; a measure of no galaxies at all is NaN.
"""

from collections.abc import Iterator

import numpy as np
from scipy.special import gammaln, logsumexp, xlogy

from shared.data.schema import chance_asked, slices
from shared.method.beta import LARGEST, TINY, log_rising, log_ways
from shared.method.calibration import BINS, between_samples, pit_test
from shared.method.metrics import mean, pieces
from shared.method.mixture import count_chances, mean_asked, quantiles
from shared.run.keys import galaxy_keys, uniforms
from shared.run.questions import Leads, Questions

VOLUNTEERS = 34  # on the first question, of the galaxies whose accuracy W+22's table 1 tells
ASKED = 0.5  # share of them that answered the question
CONFIDENT = 0.8  # fraction above which volunteers are sure
MANY = 40  # answers, of the galaxies on which volunteers are compared with the network
LEVEL = 0.9  # of central intervals


def evaluate_tree(
    questions: Questions,
    leads: Leads,
    fractions: np.ndarray,
    concentrations: np.ndarray | None,
    votes: np.ndarray,
    uniforms: np.ndarray,
    true_fractions: np.ndarray | None = None,
) -> dict:
    """Every measure of this module, as a record keeps them: of all, and of each question by its name.

    `uniforms` (galaxy, answer) are `pit_uniforms`; `true_fractions` (galaxy, answer) are known of synthetic galaxies
    alone, without them "truth" is None. Raises ValueError for arrays that do not belong together.
    """
    _check(questions, fractions, concentrations, votes)
    places = slices(questions)
    first = votes[:, places[_first(questions, leads)]].sum(1)
    asked = mean_asked(questions, leads, fractions)
    told, nll = {}, np.zeros(len(votes))
    for number, (question, place) in enumerate(places.items()):
        own = None if concentrations is None else concentrations[..., number]
        some, given = fractions[..., place], votes[:, place]
        nll += question_nll(some, own, given)
        measured = evaluate_question(some, own, given, first, uniforms[:, place])
        measured["answers"] = dict(zip(questions[question], measured["answers"], strict=True))
        measured["asked"] = {"predicted": mean(asked[:, number]), "observed": _share(given, first)}
        if true_fractions is None:
            measured["truth"] = None
        else:
            measured["truth"] = fractions_coverage(
                some, own, true_fractions[:, place], asked[:, number] >= ASKED
            )
        told[question] = measured
    return {"galaxies": len(votes), "votes": int(votes.sum()), "nll": mean(nll), "questions": told}


def evaluate_question(
    fractions: np.ndarray,
    concentrations: np.ndarray | None,
    votes: np.ndarray,
    first: np.ndarray,
    uniforms: np.ndarray,
) -> dict:
    """The measures of one question that need no more than its own arrays and `first` (galaxy,), the number of answers
    to the first question; those of its answers are a list.
    """
    total = votes.sum(1)
    middle = np.asarray(fractions).mean(1, dtype=np.float64)
    errors, theirs = fraction_errors(middle, votes), volunteers_errors(votes)
    counted = counts_summary(fractions, concentrations, votes, uniforms)
    return {
        "galaxies": int((total > 0).sum()),
        "votes": int(total.sum()),
        "nll": mean(question_nll(fractions, concentrations, votes)[total > 0]),
        **accuracies(middle, votes, first),
        "mae": mean(errors),
        "volunteers_mae": mean(theirs),
        "equal_volunteers": equal_volunteers(middle, votes),
        "answers": [
            {"mae": float(error), "volunteers_mae": float(their), **summary}
            for error, their, summary in zip(errors, theirs, counted, strict=True)
        ],
    }


def asked_by_votes(questions: Questions, leads: Leads, votes: np.ndarray) -> np.ndarray:
    """The chance asked (galaxy, question) by the fractions of `votes`: what a perfect network would predict."""
    fractions = np.empty(votes.shape)
    for place in slices(questions).values():
        total = votes[:, place].sum(1, keepdims=True)
        with np.errstate(invalid="ignore"):
            fractions[:, place] = votes[:, place] / total
    return chance_asked(questions, leads, fractions)


def question_nll(
    fractions: np.ndarray, concentrations: np.ndarray | None, votes: np.ndarray
) -> np.ndarray:
    """-ln of the mixture's chance of a galaxy's `votes` on one question, (galaxy,) in nats; 0 of none.

    Of Dirichlet-multinomials, or of multinomials where there are no concentrations; with the multinomial coefficient.
    """
    total = votes.sum(1)
    scores = np.empty(len(votes))
    for piece in pieces(len(votes), 8 * fractions.shape[1] * fractions.shape[2]):
        f = np.asarray(fractions[piece], np.float64)
        k = np.asarray(votes[piece], np.float64)[:, None]
        if concentrations is None:
            logs = xlogy(k, f).sum(2)
        else:
            own = np.minimum(np.asarray(concentrations[piece], np.float64), LARGEST)
            rising = log_rising(np.maximum(f * own[..., None], TINY), k).sum(2)
            logs = rising - log_rising(own, total[piece, None])
        scores[piece] = np.log(f.shape[1]) - logsumexp(logs, axis=1)
    return scores - gammaln(total + 1) + gammaln(votes + 1).sum(1)


def accuracies(middle: np.ndarray, votes: np.ndarray, first: np.ndarray) -> dict:
    """W+22's table 1: how often the answer of the largest mean fraction, `middle` (galaxy, answer), is the most voted.

    Of galaxies where VOLUNTEERS or more answered the `first` question and ASKED of them this one; "confident" of those
    of them where an answer has more than CONFIDENT of the votes. Those with two most voted answers are left out.
    """
    total, most = votes.sum(1), votes.max(1)
    among = (first >= VOLUNTEERS) & (total >= ASKED * first) & (total > 0)
    among &= (votes == most[:, None]).sum(1) == 1
    right = middle.argmax(1) == votes.argmax(1)
    told = {}
    for name, some in (("all", among), ("confident", among & (most > CONFIDENT * total))):
        told[name] = {"galaxies": int(some.sum()), "accuracy": mean(right[some])}
    return {"accuracy": told}


def fraction_errors(middle: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """The mean absolute difference (answer,) of the mean fractions `middle` (galaxy, answer) and those of the votes."""
    total = votes.sum(1)
    some = total > 0
    differences = np.abs(middle[some] - votes[some] / total[some, None])
    return differences.mean(0) if len(differences) else np.full(votes.shape[1], np.nan)


def volunteers_errors(votes: np.ndarray) -> np.ndarray:
    """The mean absolute difference (answer,) to be expected between two groups of as many volunteers as voted.

    The voters of a galaxy are cut in two halves in every way; the halves' differences, which are of groups half as
    large, are divided by the square root of 2. Of galaxies with two votes or more.
    """
    some = votes[votes.sum(1) >= 2]
    if not len(some):
        return np.full(votes.shape[1], np.nan)
    half = some.sum(1) // 2
    errors = np.zeros(votes.shape[1])
    for piece in pieces(len(some), 8 * votes.shape[1] * (int(half.max()) + 1)):
        chances, theirs, rest = _groups(some[piece], half[piece])
        errors += (chances * np.abs(theirs - rest)).sum((0, 2))
    return errors / len(some) / 2**0.5


def equal_volunteers(middle: np.ndarray, votes: np.ndarray, many: int = MANY) -> dict | None:
    """How many volunteers have fractions as good as the mean ones, `middle` (galaxy, answer), as in W+22's figure 16.

    Of galaxies with `many` votes or more: n of a galaxy's voters are drawn in every way, and their fractions and the
    network's are both compared with those of all its other voters, so that no vote is on both sides. "volunteers" is
    the n, interpolated, where the two mean absolute errors are equal: 1 if the network is no better than one, and half
    of `many`, the most that are tried, if it is better. "mae" is the network's there. None without such galaxies.
    """
    some = votes.sum(1) >= many
    if not some.any():
        return None

    def errors(count: int) -> np.ndarray:
        """The mean absolute errors of `count` volunteers and of the network."""
        found = np.zeros(2)
        chosen, predicted = votes[some], middle[some]
        for piece in pieces(len(chosen), 8 * votes.shape[1] * (count + 1)):
            chances, theirs, rest = _groups(chosen[piece], np.full(len(chosen[piece]), count))
            for number, guess in enumerate((theirs, predicted[piece, :, None])):
                found[number] += (chances * np.abs(guess - rest)).sum()
        return found / chosen.size

    low, high = 1, many // 2
    ends = {low: errors(low), high: errors(high)}
    worse = {count: theirs - network for count, (theirs, network) in ends.items()}
    if worse[low] <= 0 or worse[high] >= 0:
        at = low if worse[low] <= 0 else high
        return _equal(some, float(at), ends[at][1], many)
    while high - low > 1:
        middle_count = (low + high) // 2
        ends[middle_count] = errors(middle_count)
        worse[middle_count] = ends[middle_count][0] - ends[middle_count][1]
        low, high = (middle_count, high) if worse[middle_count] > 0 else (low, middle_count)
    share = worse[low] / (worse[low] - worse[high])
    network = ends[low][1] + share * (ends[high][1] - ends[low][1])
    return _equal(some, low + share, network, many)


def counts_summary(
    fractions: np.ndarray,
    concentrations: np.ndarray | None,
    votes: np.ndarray,
    uniforms: np.ndarray,
) -> list[dict]:
    """Of each answer, whether its votes fall as the posterior says: the randomised PIT (see `calibration.pit`), and how
    often they lie in the central interval of 90 % against the chance of it, which is more, for counts are whole.
    """
    told = []
    for answer in range(votes.shape[1]):
        values, inside, chance = counts_calibration(
            fractions[..., answer],
            concentrations,
            votes[:, answer],
            votes.sum(1),
            uniforms[:, answer],
        )
        histogram = np.histogram(values, BINS, (0, 1))[0].tolist()
        told.append(
            {
                "pit": {"histogram": histogram, **pit_test(values)._asdict()},
                "votes_coverage": {"expected": mean(chance), "observed": mean(inside)},
            }
        )
    return told


def counts_calibration(
    fractions: np.ndarray,
    concentrations: np.ndarray | None,
    yes: np.ndarray,
    total: np.ndarray,
    uniforms: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of one answer's `yes` (galaxy,) of `total` votes, of the galaxies with any: the randomised PIT; whether they lie
    in the central interval of LEVEL; and that interval's chance.

    `fractions` and `concentrations` are (galaxy, sample), `uniforms` (galaxy,).
    """
    values, inside, chance = np.full((3, len(yes)), np.nan)
    for rows in alike(total, fractions.shape[1]):
        own = None if concentrations is None else concentrations[rows]
        each = count_chances(fractions[rows], int(total[rows[0]]), own)
        at, k = np.arange(len(rows)), yes[rows]
        values[rows] = _fewer(each)[at, k] + uniforms[rows] * each[at, k]
        inside[rows], chance[rows] = central(each, k, LEVEL)
    some = np.asarray(total) > 0
    return values[some], inside[some], chance[some]


def central(chances: np.ndarray, counts: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Whether `counts` (galaxy,), of which `chances` (galaxy, count) are the posterior's, lie in its central interval
    of a `level`, and that interval's chance: both (galaxy,).
    """
    reached, at, tail = _fewer(chances), np.arange(len(counts)), (1 - level) / 2
    low, high = (np.sum(reached[:, 1:] < edge, 1) for edge in (tail, 1 - tail))
    high = np.minimum(high, chances.shape[1] - 1)
    return (low <= counts) & (counts <= high), reached[at, high + 1] - reached[at, low]


def held(chances: np.ndarray, counts: np.ndarray, level: float) -> np.ndarray:
    """In what part `counts` (galaxy,) lie in the central interval of a `level`, (galaxy,); `coverage` says more.

    Of a perfect posterior the mean is the level itself, though counts are whole.
    """
    reached, at = _fewer(chances), np.arange(len(counts))
    low, high = reached[at, counts], reached[at, counts + 1]
    tail = (1 - level) / 2
    part = np.minimum(high, 1 - tail) - np.maximum(low, tail)
    return np.clip(part / np.maximum(high - low, TINY), 0, 1)


def _fewer(chances: np.ndarray) -> np.ndarray:
    """The chance of fewer than each count, of the `chances` (galaxy, count) of counts."""
    return np.pad(chances.cumsum(1), ((0, 0), (1, 0)))


def fractions_coverage(
    fractions: np.ndarray,
    concentrations: np.ndarray | None,
    true_fractions: np.ndarray,
    asked: np.ndarray,
) -> dict:
    """How often the `true_fractions` (galaxy, answer) lie in the posterior's central interval of 90 %: "observed" of
    all galaxies and answers, "asked" of the galaxies that are likely `asked` (galaxy,), "answers" of each answer.

    Without concentrations the interval is between samples, and "expected" its own chance, as in `truth_coverage`.
    """
    expected, inside = LEVEL, np.empty(true_fractions.shape)
    for answer in range(true_fractions.shape[1]):
        some, true = fractions[..., answer], true_fractions[:, answer]
        if concentrations is None:
            inside[:, answer], expected = between_samples(some, true, LEVEL)
        else:
            tail = (1 - LEVEL) / 2
            low, high = quantiles(some, concentrations, (tail, 1 - tail)).T
            inside[:, answer] = (low <= true) & (true <= high)
    return {
        "expected": expected,
        "observed": mean(inside.mean(1)),
        "asked": mean(inside[asked].mean(1)),
        "answers": [mean(column) for column in inside.T],
    }


def pit_uniforms(seed: int, hashes: np.ndarray, answers: int) -> np.ndarray:
    """The numbers (galaxy, answer) in [0, 1) of a randomised PIT for ids of `hashes`: of seed, galaxy, answer alone."""
    return uniforms(galaxy_keys(seed, "calibration", hashes), 0, answers)


def _first(questions: Questions, leads: Leads) -> str:
    """The question that everybody is asked first."""
    return next(question for question in questions if question not in leads)


def _share(votes: np.ndarray, first: np.ndarray) -> float:
    """The mean share of those who answered the `first` question that answered this one."""
    some = first > 0
    return mean(votes[some].sum(1) / first[some])


def _groups(votes: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All ways to draw `count` (galaxy,) of a galaxy's voters: the chance, and the fractions of those drawn and of the
    rest, each (galaxy, answer, votes among those drawn).
    """
    k, total, n = votes[..., None], votes.sum(1)[:, None, None], count[:, None, None]
    drawn = np.arange(int(count.max()) + 1)
    possible = (drawn <= np.minimum(k, n)) & (n - drawn <= total - k)
    least = np.where(possible, drawn, np.maximum(n - total + k, 0))
    logs = log_ways(k, least) + log_ways(total - k, n - least) - log_ways(total, n)
    return np.where(possible, np.exp(logs), 0), least / n, (k - least) / (total - n)


def _equal(some: np.ndarray, volunteers: float, error: float, many: int) -> dict:
    return {
        "galaxies": int(some.sum()),
        "mae": float(error),
        "volunteers": float(volunteers),
        "most": many // 2,
    }


def alike(total: np.ndarray, samples: int) -> Iterator[np.ndarray]:
    """Galaxies of the same number of votes, above 0, some at a time."""
    total = np.asarray(total)
    for count in np.unique(total[total > 0]):
        rows = np.flatnonzero(total == count)
        for piece in pieces(len(rows), 8 * samples * (int(count) + 1)):
            yield rows[piece]


def _check(
    questions: Questions,
    fractions: np.ndarray,
    concentrations: np.ndarray | None,
    votes: np.ndarray,
) -> None:
    answers = sum(map(len, questions.values()))
    galaxies, samples, *_ = np.shape(fractions)
    for name, array, wanted in (
        ("fractions", fractions, (galaxies, samples, answers)),
        ("concentrations", concentrations, (galaxies, samples, len(questions))),
        ("votes", votes, (galaxies, answers)),
    ):
        if array is not None and np.shape(array) != wanted:
            raise ValueError(f"{name} are {np.shape(array)}; they must be {wanted}")
    for galaxy in np.flatnonzero((np.asarray(votes) < 0).any(1))[:1]:
        raise ValueError(f"galaxy {galaxy} has a number of votes below 0")
