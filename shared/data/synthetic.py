"""Galaxies that never were, whose true vote chances are known: for the method and for speed.

A galaxy is a Sersic bulge in an exponential disc that has logarithmic spiral arms, a bar, clumps
and dust, seen at some inclination through the air, with field stars and sky noise about it; now
and then a saturated star or the trail of a satellite spoils the image. Volunteers answer by what
can be seen, not by what is there: `visible` says how much of each feature is left by inclination,
noise and blur, and `chances` is smooth and monotone in that and in nothing else.

Everything about a galaxy is a function of (seed, number): never of how many are drawn, of the
order, or of a batch. Lengths are in pixels of the 256 x 256 image, angles in radians, brightnesses
in standard deviations of the sky's noise in one pixel.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, ndtri

from shared.data import drawing
from shared.data.cutouts import SIZE
from shared.data.population import Population

QUESTIONS = {
    "smooth-or-featured": ("smooth", "featured-or-disk", "artifact"),
    "disk-edge-on": ("yes", "no"),
    "bar": ("strong", "weak", "no"),
    "has-spiral-arms": ("yes", "no"),
}
DRAWS = 32  # uniform numbers that make a galaxy; not all are used
DRAWN, VOTED, PIXELS, CROWD = range(4)  # purposes of the random numbers
VOTES = 40  # mean number of votes on the first question
FEWEST = 5
DISCS, ARTIFACTS = 0.7, 0.05  # shares of galaxies that have a disc, and that are spoilt


class Telescope(NamedTuple):
    """What a survey sees galaxies with, in that of `draw_parameters`."""

    seeing: float = 1.0  # its blur
    depth: float = 1.0  # all brightnesses, in noises of its sky

    def through(self, parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`parameters` of galaxies as this telescope sees them."""
        brighter = {name: self.depth * parameters[name] for name in ("signal", "star", "trail")}
        return parameters | brighter | {"psf": self.seeing * parameters["psf"]}


USUAL = Telescope()


def draw_galaxies(
    count: int, seed: int, telescope: Telescope = USUAL, population: Population | None = None
) -> pd.DataFrame:
    """`count` galaxies: id, seed, number, the drawn parameters, and for every question of QUESTIONS
    the true chance of each answer given that the question is asked (true_QUESTION_ANSWER), the
    votes for each answer (QUESTION_ANSWER) and in all (QUESTION_total), int32.

    Whoever says featured is asked whether the disc is edge-on; whoever says it is not is asked
    about the bar and the arms; all by what they see, so that another telescope has other votes.
    Those of a `population` scatter: the true chances are those of a galaxy's own crowd, which lie
    about what its image lets expect (expected_QUESTION_ANSWER) with a Dirichlet's `concentration`;
    `artifact` says whether a star or a trail spoils the image. Raises ValueError for a seed that
    is not one.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"the seed of galaxies is {seed}; it must be at least 0 and below 2^64")
    uniforms = np.array([_generator(seed, i, DRAWN).random(DRAWS) for i in range(count)])
    sky = (DISCS, ARTIFACTS) if population is None else (population.discs, population.artifacts)
    parameters = telescope.through(draw_parameters(uniforms.reshape(count, DRAWS), *sky))
    true = chances(visible(parameters))
    columns = {
        "id": [f"synthetic-{seed}-{number}" for number in range(count)],
        "seed": np.full(count, seed, np.uint64),
        "number": np.arange(count),
        **parameters,
    }
    if population is not None:
        expected, true = _crowds(true, seed, count, population)
        columns |= {
            "artifact": (parameters["star"] > 0) | (parameters["trail"] > 0),
            "concentration": np.full(count, population.concentration),
        }
        columns |= {
            f"expected_{question}_{answer}": share
            for question, answers in QUESTIONS.items()
            for answer, share in zip(answers, expected[question].T, strict=True)
        }
    for question, answers in QUESTIONS.items():
        for answer, chance in zip(answers, true[question].T, strict=True):
            columns[f"true_{question}_{answer}"] = chance
    votes = [
        _vote(_generator(seed, i, VOTED), {q: true[q][i] for q in QUESTIONS}) for i in range(count)
    ]
    for question, answers in QUESTIONS.items():
        counts = np.array([vote[question] for vote in votes], np.int32).reshape(count, len(answers))
        columns |= {f"{question}_{answer}": counts[:, i] for i, answer in enumerate(answers)}
        columns[f"{question}_total"] = counts.sum(1, dtype=np.int32)
    return pd.DataFrame(columns)


def visible(parameters: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """How much can be seen of each feature, (galaxy,) from 0 to 1.

    arms: contrast, of which a little goes far, x root of the disc's share of light x open to view
    x clear of noise x clear of blur; bar: strength x the disc's share of light x the same; edge:
    the disc seen from its edge, less if the bulge is large; flat: how far the whole is from round;
    disc: the disc's share of light where it is clear of noise; artifact: how far a star or a trail
    spoils the image. A star leaves nothing else to be seen.
    """
    p = parameters
    star = p["star"] / (p["star"] + 60)
    trail = p["trail"] / (p["trail"] + 15)
    artifact = 1 - (1 - star) * (1 - trail)
    seen = np.where(p["star"] > 0, 0.0, 1.0)
    bulge = p["bulge_share"]
    disc = 1 - bulge
    clear = seen * p["signal"] / (p["signal"] + 3)
    sharp = p["size"] / (p["size"] + 2 * p["psf"])
    opened = expit((p["cos_inclination"] - 0.28) / 0.06)
    contrast = 1.3 * p["arm_contrast"] / (p["arm_contrast"] + 0.3)
    return {
        "arms": contrast * np.sqrt(disc) * opened * clear * sharp,
        "bar": p["bar_strength"] * disc * opened * clear * sharp,
        "edge": seen * np.sqrt(disc) * expit((0.22 - p["cos_inclination"]) / 0.04),
        "flat": seen * (1 - bulge * p["bulge_axis"] - disc * drawing.axis_ratio(p)),
        "disc": disc * clear,
        "artifact": artifact,
    }


def chances(seen: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The true chance of each answer, (galaxy, answer), given that its question is asked.

    Logistic in what is `visible`, between 0.02 and 0.98: some volunteers always click elsewhere.
    """
    arms, bar, edge = seen["arms"], seen["bar"], seen["edge"]
    artifact = 0.01 + 0.95 * seen["artifact"]
    featured = _likely(-3.4 + 9 * arms + 7 * bar + 3 * edge + 2 * seen["flat"] + seen["disc"])
    edge_on = _likely(-4 + 7 * edge + seen["flat"])
    barred = _likely(-3 + 12 * bar)
    strong = barred * _likely(-3.5 + 9 * bar)
    spiral = _likely(-3.5 + 11 * arms)
    return {
        "smooth-or-featured": np.stack(
            [(1 - artifact) * (1 - featured), (1 - artifact) * featured, artifact], -1
        ),
        "disk-edge-on": np.stack([edge_on, 1 - edge_on], -1),
        "bar": np.stack([strong, barred - strong, 1 - barred], -1),
        "has-spiral-arms": np.stack([spiral, 1 - spiral], -1),
    }


def render(galaxy: Mapping[str, float]) -> np.ndarray:
    """The image of `galaxy`, one row of `draw_galaxies` by column, uint8 (y, x, channel) of 256 x 256
    x 1.
    """
    rng = _generator(int(galaxy["seed"]), int(galaxy["number"]), PIXELS)
    x, y = drawing.frame(galaxy["x"], galaxy["y"], galaxy["angle"])
    light = np.zeros((SIZE, SIZE), np.float32)
    if galaxy["star"] == 0:
        light += drawing.bulge(galaxy, x, y)
        if galaxy["bulge_share"] < 1:
            light += drawing.disc(galaxy, x, y, rng)
    return drawing.photograph(light, galaxy, rng)


def _generator(seed: int, number: int, purpose: int) -> np.random.Generator:
    key = np.array([seed, number], np.uint64)
    return np.random.Generator(np.random.Philox(counter=[0, 0, 0, purpose], key=key))


def _likely(x: np.ndarray) -> np.ndarray:
    return 0.02 + 0.96 * expit(x)


def draw_parameters(
    uniforms: np.ndarray, discs: float = DISCS, artifacts: float = ARTIFACTS
) -> dict[str, np.ndarray]:
    """What makes each galaxy, (galaxy,), of `uniforms` (galaxy, draw); one draw for each parameter,
    so that a change to one leaves the others alone. `discs` and `artifacts` are shares of galaxies.
    """
    u = iter(uniforms.T)
    disc = next(u) < discs
    rare = next(u)
    spoiling = next(u)
    stars = rare < artifacts / 2
    return {
        "bulge_share": np.where(disc, 0.6 * next(u) ** 1.5, 1.0),
        "sersic": np.where(disc, 1.0, 2.0) + 3 * next(u),
        "bulge_size": 0.16 + 0.2 * next(u),  # of a disc's bulge, in scale lengths
        "bulge_axis": np.where(disc, 0.75, 0.5) + np.where(disc, 0.25, 0.5) * next(u),
        # a disc's scale length, or an elliptical's half-light radius
        "size": np.clip(17 * np.exp(0.2 * ndtri(next(u))), 10, 26),
        # mean brightness, see _flux
        "signal": np.clip(np.where(disc, 12, 18) * np.exp(0.6 * ndtri(next(u))), 2, 40),
        "cos_inclination": next(u),
        "thickness": 0.08 + 0.1 * next(u),
        "angle": 2 * np.pi * next(u),
        "x": 127.5 + 3 * (next(u) - 0.5),
        "y": 127.5 + 3 * (next(u) - 0.5),
        "arm_contrast": np.clip(1.5 * next(u) - 0.5, 0, 1),
        "arm_count": np.digitize(next(u), [0.7, 0.85]) + 2,
        "pitch": np.radians(12 + 20 * next(u)),
        "turn": np.where(next(u) < 0.5, -1, 1),
        "arm_phase": 2 * np.pi * next(u),
        "clumps": next(u),
        "bar_strength": np.clip(2.0 * next(u) - 1.0, 0, 1),
        "bar_length": 1.1 + 0.7 * next(u),  # half of it, in scale lengths
        "bar_axis": 0.18 + 0.12 * next(u),
        "dust": next(u),
        "psf": 1.1 + 1.1 * next(u),
        "wings": 0.05 + 0.2 * next(u),
        "star": np.where(stars, 200 * np.exp(2.5 * spoiling), 0.0),
        "trail": np.where((rare < artifacts) & ~stars, 10 + 60 * spoiling, 0.0),
    }


def _crowds(
    chances: dict[str, np.ndarray], seed: int, count: int, population: Population
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The shares of answers (galaxy, answer) that images let expect, and those of galaxies' own crowds."""
    expected = population.expected(chances)
    own = {question: np.empty_like(shares) for question, shares in expected.items()}
    for i in range(count):
        one = {question: shares[i] for question, shares in expected.items()}
        for question, shares in population.crowd(_generator(seed, i, CROWD), one).items():
            own[question][i] = shares
    return expected, own


def _vote(rng: np.random.Generator, true: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    first = rng.multinomial(max(FEWEST, rng.poisson(VOTES)), true["smooth-or-featured"])
    edge = rng.multinomial(first[1], true["disk-edge-on"])
    return {
        "smooth-or-featured": first,
        "disk-edge-on": edge,
        "bar": rng.multinomial(edge[1], true["bar"]),
        "has-spiral-arms": rng.multinomial(edge[1], true["has-spiral-arms"]),
    }
