"""Whether a posterior's intervals hold as many galaxies' votes as they say: honest, too sure or too unsure.

Of each answer to a question, central intervals of vote counts are compared with the votes, at two levels. Counts are
whole, and one at the edge of an interval lies in it in part (`tree_metrics.held`), so that the level is what should be
observed. A share is off where it differs by more than a tolerance and so many galaxies would seldom differ as much by
chance (a binomial test, for all questions and levels together). And whether the network knows more than a constant: the
best one, which never looks at an image, is a Dirichlet-multinomial of the training galaxies' votes, alike for all.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.stats import binomtest

from shared.method.batches import Labelled
from shared.method.calibration import gain
from shared.method.curvature import nll, slope
from shared.method.likelihood import Likelihood, likelihood_of
from shared.method.metrics import mean
from shared.method.mixture import count_chances
from shared.method.tree_metrics import alike, held, question_nll
from shared.method.trees import Samples
from shared.run.spec import WITHOUT_LINEAR_HEAD, RunSpec

HONEST, SURE, UNSURE = "honest", "too sure", "too unsure"
LEVELS = {0.5: 0.05, 0.9: 0.02}  # of intervals, and how far off the share that they hold may be
RARE = 0.01  # the chance at which an honest posterior is refused
LIKELY = 2.6  # standard errors between what is off at RARE and what is not
BLIND = 0.05  # a gap at 90 % that few galaxies cannot tell
FEW = 1000  # validation galaxies, at most
LEARNED = 5000  # training galaxies, at most, of the constant
FARTHEST = 12.0  # of a constant's logits from 0


def honesty(run: RunSpec, samples: Samples, part: Labelled, train: Labelled | None) -> dict:
    """The verdict on `samples` of the galaxies of `part`, which were not trained with, as a record keeps it.

    "verdict" is of the question that is off most surely, which "question" names; "90" and "50" hold what its intervals
    hold. "gain" is by how much the NLL is below that of the constant of the galaxies in `train`, None without these.
    """
    likelihood = likelihood_of(run)
    questions = {
        name: intervals(samples.fractions[..., at], _own(samples, number), part.votes[:, at])
        for number, ((name, _), at) in enumerate(
            zip(likelihood.questions, likelihood.slices, strict=True)
        )
    }
    told = worst(questions)
    against = None
    if train is not None:
        before, after = nlls(likelihood, samples, part.votes, train.some(LEARNED, "honesty").votes)
        against = gain(before, after) | {"constant": mean(before), "nll": mean(after)}
    return {"galaxies": len(part.rows), **told, "gain": against, "questions": questions}


def intervals(
    fractions: np.ndarray, concentrations: np.ndarray | None, votes: np.ndarray
) -> dict[str, dict]:
    """Of each of LEVELS, in per cent, the share of galaxies whose votes lie in their intervals, mean over answers.

    "expected" is the level, "p_value" the chance of a share so far from it. Arrays are of one question:
    `fractions` (galaxy, sample, answer), `concentrations` (galaxy, sample) and `votes` (galaxy, answer).
    """
    total, answers = votes.sum(1), range(votes.shape[1])
    if len(answers) == 2:  # the other's intervals are this one's
        answers = (1,)
    inside = np.zeros((len(LEVELS), len(votes)))
    for rows in alike(total, fractions.shape[1]):
        own = None if concentrations is None else concentrations[rows]
        for answer in answers:
            each = count_chances(fractions[rows][..., answer], int(total[rows[0]]), own)
            for place, level in enumerate(LEVELS):
                inside[place, rows] += held(each, votes[rows, answer], level)
    some = total > 0
    shares = inside[:, some].mean(1) / len(answers) if some.any() else np.array([*LEVELS])
    count, found = int(some.sum()), {}
    for level, observed in zip(LEVELS, np.clip(shares, 0, 1).tolist(), strict=True):
        p_value = binomtest(round(observed * count), count, level).pvalue if count else 1.0
        found[f"{100 * level:.0f}"] = {
            "galaxies": count,
            "expected": level,
            "observed": observed,
            "p_value": float(p_value),
        }
    return found


def worst(questions: dict[str, dict[str, dict]]) -> dict:
    """The verdict on all `questions`: that on the one which is off most surely, and its intervals.

    Where none is off it is of the question whose intervals of 90 % are farthest from what is expected.
    """
    off = []
    for name, found in questions.items():
        for level, tolerance in LEVELS.items():
            one = found[f"{100 * level:.0f}"]
            gap = one["observed"] - one["expected"]
            seldom = one["p_value"] < RARE / (len(LEVELS) * len(questions))
            if seldom and abs(gap) > tolerance:
                off.append((one["p_value"], -abs(gap), name, level, SURE if gap < 0 else UNSURE))
    if off:
        _, _, name, level, verdict = min(off)
    else:
        name = max(questions, key=lambda name: abs(_gap(questions[name]["90"])))
        level, verdict = 0.9, HONEST
    return {
        "verdict": verdict,
        "question": name,
        "level": level,
        **questions[name],
        "tells": LIKELY * _noise(questions[name]["90"]),
    }


def nlls(
    likelihood: Likelihood, samples: Samples, votes: np.ndarray, learned: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The NLL (galaxy,) of `votes` (galaxy, answer), summed over questions: of the constant of the votes that were
    `learned`, and of `samples`.
    """
    before, after = np.zeros((2, len(votes)))
    for number, at in enumerate(likelihood.slices):
        alpha = constant(learned[:, at])
        shares = np.broadcast_to(alpha / alpha.sum(), (len(votes), 1, len(alpha)))
        before += question_nll(shares, np.full((len(votes), 1), alpha.sum()), votes[:, at])
        after += question_nll(samples.fractions[..., at], _own(samples, number), votes[:, at])
    return before, after


def constant(votes: np.ndarray) -> np.ndarray:
    """The concentrations (answer,) that make `votes` (galaxy, answer) on one question likeliest, alike for all."""
    likelihood = Likelihood("dirichlet_multinomial", "exp", (("", (("",),) * votes.shape[1]),))
    given = votes[votes.sum(1) > 0].astype(np.float64)
    shares = (given.sum(0) + 0.5) / (given + 0.5 / max(len(given), 1)).sum()
    start = np.log(np.maximum(5 * shares, np.exp(-FARTHEST)))

    def mean_nll(logits: np.ndarray) -> tuple[float, np.ndarray]:
        rows = np.broadcast_to(logits, given.shape)
        return nll(likelihood, rows, given).mean(), slope(likelihood, rows, given).mean(0)

    if not len(given):
        return np.exp(start)
    bounds = [(-FARTHEST, FARTHEST)] * len(start)
    return np.exp(minimize(mean_nll, start, jac=True, bounds=bounds, method="L-BFGS-B").x)


def sentence(run: RunSpec, found: dict | None, what: str = "validation") -> str:
    """The verdict that was `found`, and what to do, in few words."""
    if found is None:
        return f"honesty unknown: no {what} galaxies"
    level = f"{100 * found['level']:.0f}"
    one, verdict, words = found[level], found["verdict"], []
    words.append(f"{level} % intervals of votes hold {percent(one['observed'])}")
    if verdict != HONEST:
        words.append(f"use {advice(run)}")
        verdict += f" of {found['question']}" if len(found["questions"]) > 1 else ""
    elif found["tells"] > BLIND:
        verdict += f" as far as {one['galaxies']} {what} galaxies tell"
        words.append("more would tell more")
    against = found["gain"]
    if against is not None and not against["mean"] > 0:
        words.append("no better than a constant that never looks at the image")
    return f"{verdict} ({'; '.join(words)})"


def advice(run: RunSpec) -> str:
    """What makes a posterior more honest than that of `run`."""
    words = []
    if not run.posterior.by_laplace and run.model.name not in WITHOUT_LINEAR_HEAD:
        words.append("posterior=laplace")
    if likelihood_of(run).name != "dirichlet_multinomial":
        words.append("likelihood=dirichlet_multinomial")
    return " ".join(words) or "more training and validation galaxies"


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _own(samples: Samples, number: int) -> np.ndarray | None:
    return None if samples.concentrations is None else samples.concentrations[..., number]


def _gap(one: dict) -> float:
    return one["observed"] - one["expected"]


def _noise(one: dict) -> float:
    return (one["expected"] * (1 - one["expected"]) / max(one["galaxies"], 1)) ** 0.5
