"""Volunteers of synthetic galaxies: what they would answer to a survey's questions, and their walks through its tree.

Questions that synthetic galaxies know something about have fractions of it (`KNOWN`); those of any other question are
made up: smooth functions of what can be seen, through fixed random weights of the question's and the answer's names, so
that they mean nothing but can be learnt from images.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from scipy.special import ndtri, softmax
from scipy.stats import poisson

from shared.data import synthetic
from shared.data.schema import slices
from shared.run.keys import galaxy_hash, threefry2x32, uniforms, words
from shared.run.questions import Leads, Questions, layers

VOLUNTEERS = 40  # mean number of a galaxy, and the fewest
FEWEST = 5
ELSEWHERE = 0.04  # the share of volunteers who click on any answer at all
# what made-up questions look at: its middle and half width, about, over many galaxies
LOOKED_AT = {
    "arms": (0.2, 0.2),
    "bar": (0.1, 0.15),
    "edge": (0.15, 0.25),
    "flat": (0.35, 0.25),
    "bulge": (0.6, 0.35),
    "loose": (0.5, 0.2),
    "flocculent": (0.1, 0.12),
    "tails": (0.2, 0.25),
    "companion": (0.15, 0.25),
}
STEEPNESS = 1.2  # of made-up answers: the standard deviation of a logit's weights

Seen = Mapping[str, np.ndarray]
Weights = Mapping[str, np.ndarray]


def fractions(questions: Questions, seen: Seen) -> np.ndarray:
    """The share of each answer (galaxy, answer) among those who are asked, of what is `seen` (`synthetic_tree`)."""
    shares = []
    for question, answers in questions.items():
        known = KNOWN[question](seen) if question in KNOWN else {}
        if set(answers) <= set(known):
            weights = np.stack([known[answer] for answer in answers], -1)
            share = weights / weights.sum(1, keepdims=True)
        else:
            share = made_up(question, answers, seen)
        shares.append((1 - ELSEWHERE) * share + ELSEWHERE / len(answers))
    return np.hstack(shares)


def made_up(question: str, answers: Sequence[str], seen: Seen) -> np.ndarray:
    """The share of each answer (galaxy, answer) to a `question` that synthetic galaxies know nothing about."""
    looks = np.stack([np.tanh((seen[name] - at) / by) for name, (at, by) in LOOKED_AT.items()], -1)
    names = [f"{question}/{answer}/{name}" for answer in answers for name in (*LOOKED_AT, "always")]
    luck = (galaxy_hash(names, "made-up answer") >> np.uint64(11)).astype(np.float64) + 0.5
    weights = STEEPNESS * ndtri(luck * 2.0**-53).reshape(len(answers), -1)
    return softmax(looks @ weights[:, :-1].T + 0.5 * weights[:, -1], axis=1)


def vote(
    questions: Questions, leads: Leads, true: np.ndarray, overdispersion: float, ids: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """How many volunteers (galaxy,) each of `ids` has, and their votes int32 (galaxy, answer), whose expected
    fractions are `true` (galaxy, answer).

    Every volunteer walks through the whole tree: a question is asked of those who gave an answer that leads to it. Two
    who are asked the same question about the same galaxy agree by more than chance: their answers have the correlation
    `overdispersion`, in [0, 1). Volunteers answer as balls are drawn from Polya's urn, in which every answer given
    counts for the next volunteer. So the votes of a question are Dirichlet-multinomial with concentrations
    `true` x (1 / `overdispersion` - 1), or multinomial where it is 0; of N votes, those for an answer of the fraction p
    have the variance N p (1 - p) (1 + (N - 1) x `overdispersion`).
    """
    keys = words(galaxy_hash(ids, "volunteers"))
    cumulative = poisson.cdf(np.arange(8 * VOLUNTEERS), VOLUNTEERS)
    luck = uniforms(keys, 0, 1)[:, 0]
    volunteers = np.maximum(FEWEST, np.searchsorted(cumulative, luck, side="right"))
    where, depth = slices(questions), layers(questions, leads)
    own = {question: question_keys(keys, question) for question in questions}
    votes = np.zeros(true.shape, np.int32)
    for number in range(volunteers.max(initial=0)):
        given = np.zeros(true.shape, bool)
        for question in sorted(questions, key=depth.__getitem__):
            part = where[question]
            asked = volunteers > number
            if question in leads:
                asked = asked & _led_to(leads[question], questions, where, given)
            rows = np.flatnonzero(asked)
            urn = (1 - overdispersion) * true[rows, part] + overdispersion * votes[rows, part]
            edges = urn.cumsum(1)
            ball = uniforms(own[question][rows], number, 1) * edges[:, -1:]
            given[rows, part.start + (ball >= edges[:, :-1]).sum(1)] = True
        votes += given
    return volunteers, votes


def question_keys(keys: np.ndarray, question: str) -> np.ndarray:
    """The keys uint32 (galaxy, 2) of each galaxy for one `question`, by its name: other questions leave it alone."""
    return threefry2x32(keys, words(galaxy_hash([question], "question")))


def _led_to(froms, questions: Questions, where, given: np.ndarray) -> np.ndarray:
    places = [
        where[earlier].start + questions[earlier].index(answer)
        for earlier, some in froms.items()
        for answer in some
    ]
    return given[:, places].any(1)


# What is known of each answer, in weights (galaxy,) that are made shares among the answers that a survey offers


def _of_synthetic(question: str, seen: Seen) -> Weights:
    shares = synthetic.chances(seen)[question]
    return dict(zip(synthetic.QUESTIONS[question], shares.T, strict=True))


def _bar(seen: Seen) -> Weights:
    known = _of_synthetic("bar", seen)
    return known | {"yes": known["strong"] + known["weak"]}


def _bulge(seen: Seen) -> Weights:
    places = {"none": 0.0, "small": 0.3, "moderate": 0.55, "large": 0.8, "dominant": 1.0}
    places |= {"just-noticeable": 0.3, "obvious": 0.6}
    return _near(seen["bulge"], places, 0.18)


def _rounded(seen: Seen) -> Weights:
    return _near(1 - seen["flat"], {"round": 1.0, "in-between": 0.65, "cigar-shaped": 0.3}, 0.2)


def _edge_on_bulge(seen: Seen) -> Weights:
    none = np.exp(-((seen["bulge"] / 0.25) ** 2))
    boxy = (1 - none) / (1 + np.exp(3 - 8 * seen["boxy"]))
    return {"none": none, "boxy": boxy, "rounded": 1 - none - boxy}


def _winding(seen: Seen) -> Weights:
    places = {"tight": 0.0, "medium": 0.5, "loose": 1.0}
    return _near(seen["loose"], places, 0.28 + 0.4 * (1 - seen["distinct"]))


def _arm_count(seen: Seen) -> Weights:
    count, sure = seen["arm_count"], 6 * seen["distinct"]
    weights = {
        name: np.exp(sure * np.exp(-np.abs(np.minimum(count, 5) - number)))
        for number, name in enumerate(("1", "2", "3", "4", "more-than-4"), 1)
    }
    return weights | {"cant-tell": np.exp(2.3 + 4 * seen["flocculent"] - 0.2 * sure)}


def _merging(seen: Seen) -> Weights:
    tails, beside = seen["tails"], np.exp(9 * seen["companion"] - 4.5)
    minor, major = np.exp(-3 + 12 * tails - 8 * tails**2), np.exp(9 * tails - 5)
    return {
        "none": np.ones_like(tails),
        "neither": np.ones_like(tails),
        "minor-disturbance": minor,
        "major-disturbance": major,
        "tidal-debris": minor + major,
        "merger": beside,
        "both": beside * (minor + major) / 2,
    }


def _odd(seen: Seen) -> Weights:
    known = _merging(seen)
    return {"yes": known["tidal-debris"] + known["merger"], "no": 2 * known["none"]}


def _near(place: np.ndarray, places: Mapping[str, float], width) -> Weights:
    """Weights of answers that lie on a scale, by how near their `places` are to a galaxy's `place` (galaxy,)."""
    return {answer: np.exp(-(((place - at) / width) ** 2)) for answer, at in places.items()}


KNOWN: dict[str, Callable[[Seen], Weights]] = {
    "smooth-or-featured": partial(_of_synthetic, "smooth-or-featured"),
    "disk-edge-on": partial(_of_synthetic, "disk-edge-on"),
    "has-spiral-arms": partial(_of_synthetic, "has-spiral-arms"),
    "bar": _bar,
    "bulge-size": _bulge,
    "how-rounded": _rounded,
    "edge-on-bulge": _edge_on_bulge,
    "spiral-winding": _winding,
    "spiral-arm-count": _arm_count,
    "merging": _merging,
    "something-odd": _odd,
}
