"""Galaxies that never were, with more to be seen in them than `synthetic`'s, for a whole tree of questions.

Beside what `synthetic` draws (bulge, disc, arms, bar, clumps, dust, inclination, blur, stars, trails) the images show
how prominent a bulge is and whether it is boxy, how round the whole is down to a cigar, one to six spiral arms wound
tightly or loosely, tidal tails, and a companion. Volunteers vote on them in `synthetic_votes`.

Everything about a galaxy is a function of its id, which holds the seed and its number: never of how many are drawn, nor
of the questions. Units are those of `drawing`.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.special import expit

from shared.data import drawing, synthetic, synthetic_votes
from shared.data.cutouts import SIZE
from shared.data.schema import slices
from shared.run.keys import galaxy_hash, uniforms, words
from shared.run.questions import Leads, Questions

DRAWS = 64  # uniform numbers that make a galaxy; not all are used
# the chance of at most 1, 2, ... arms; there are six at most
ARM_COUNTS = (0.1, 0.5, 0.66, 0.8, 0.9)
WOUND = np.radians([9.0, 38.0])  # the pitch of the tightest and of the loosest arms


def draw_galaxies(
    count: int,
    seed: int,
    questions: Questions,
    leads: Leads,
    overdispersion: float,
    telescope: synthetic.Telescope = synthetic.USUAL,
) -> pd.DataFrame:
    """`count` galaxies and their volunteers' votes: id, seed, number, the drawn parameters, how many `volunteers`; and
    for every question each answer's share among all volunteers there could be who are asked (true_QUESTION_ANSWER),
    the votes for each answer (QUESTION_ANSWER) and in all (QUESTION_total), int32.

    Raises ValueError for a seed that is not one, and for an answer that is called like a parameter.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"the seed of galaxies is {seed}; it must be at least 0 and below 2^64")
    ids = [f"synthetic-tree-{seed}-{number}" for number in range(count)]
    draws = uniforms(words(galaxy_hash(ids, "drawn galaxy")), 0, DRAWS)
    parameters = telescope.through(draw_parameters(draws))
    true = synthetic_votes.fractions(questions, visible(parameters))
    volunteers, votes = synthetic_votes.vote(questions, leads, true, overdispersion, ids)
    made = {
        "id": ids,
        "seed": np.full(count, seed, np.uint64),
        "number": np.arange(count),
        **parameters,
        "volunteers": volunteers,
    }
    voted = {}
    for question, where in slices(questions).items():
        names = [f"{question}_{answer}" for answer in questions[question]]
        voted |= {f"true_{name}": true[:, where][:, i] for i, name in enumerate(names)}
        voted |= {name: votes[:, where][:, i] for i, name in enumerate(names)}
        voted[f"{question}_total"] = votes[:, where].sum(1, dtype=np.int32)
    if twice := sorted(made.keys() & voted.keys()):
        raise ValueError(
            f"dataset.questions makes the column {twice[0]}, which is a property of synthetic galaxies; "
            "give the question or the answer another name"
        )
    return pd.DataFrame(made | voted)


def draw_parameters(draws: np.ndarray) -> dict[str, np.ndarray]:
    """What makes each galaxy, (galaxy,), of `draws` (galaxy, DRAWS): the parameters of `synthetic`, some drawn more
    widely than there, and others.
    """
    plain = synthetic.draw_parameters(draws[:, : synthetic.DRAWS])
    u = iter(draws[:, synthetic.DRAWS :].T)
    disc = plain["bulge_share"] < 1
    boxiness = np.clip(2 * next(u) - 0.7, 0, 1)
    return plain | {
        "size": np.clip(1.3 * plain["size"], 14, 30),
        "bulge_share": np.where(disc, 0.6 * next(u) ** 1.2, 1.0),
        "bulge_size": 0.16 + 0.3 * next(u) + 0.15 * boxiness,  # boxy ones are large and flat
        "bulge_axis": np.where(disc, 0.7, 0.2) + np.where(disc, 0.3, 0.8) * next(u),
        "boxiness": boxiness,
        "sersic": np.maximum(0.5, plain["sersic"] * np.where(disc, 1 - 0.6 * boxiness, 1.0)),
        "arm_count": np.digitize(next(u), ARM_COUNTS) + 1,
        "pitch": WOUND[0] + (WOUND[1] - WOUND[0]) * next(u),
        "tails": np.clip(3 * next(u) - 2, 0, 1),
        "tail_angle": 2 * np.pi * next(u),
        "tail_width": 0.4 + 0.4 * next(u),  # in sizes
        # its light in that of the galaxy; most have none
        "companion": np.where(next(u) < 0.25, 0.08 + 0.6 * next(u), 0.0),
        "companion_distance": 1.5 + 1.8 * next(u),  # in sizes
        "companion_angle": 2 * np.pi * next(u),
        "companion_axis": 0.5 + 0.5 * next(u),
    }


def visible(parameters: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """How much can be seen of each feature, (galaxy,) from 0 to 1: those of `synthetic.visible`, and

    bulge: how prominent it is, 1 where there is no disc; boxy: how far an edge-on bulge is from an ellipse; loose: how
    loosely arms are wound, 0.5 where there is nothing to tell by; distinct: how clearly arms can be followed, less the
    closer they are; arm_count: their number itself; flocculent: clumps along the arms; tails and companion: those of a
    merger, clear of noise.
    """
    p = parameters
    seen = np.where(p["star"] > 0, 0.0, 1.0)
    clear = seen * p["signal"] / (p["signal"] + 3)
    plain = synthetic.visible(p)
    disc = p["bulge_share"] < 1
    apart = 2 * np.pi * 1.5 * p["size"] * np.tan(p["pitch"]) / p["arm_count"]  # pixels between arms
    distinct = np.clip(2 * plain["arms"], 0, 1) * apart / (apart + 4 * p["psf"])
    prominence = np.where(disc, p["bulge_share"] / 0.6, 1.0)
    wound = (p["pitch"] - WOUND[0]) / (WOUND[1] - WOUND[0])
    near = 1 - 0.25 * (p["companion_distance"] - 1.5)
    return plain | {
        "bulge": seen * prominence,
        "boxy": p["boxiness"] * np.sqrt(prominence) * edge_on(p) * clear * disc,
        "loose": 0.5 + (wound - 0.5) * distinct / (distinct + 0.1),
        "distinct": distinct,
        "arm_count": p["arm_count"] * seen,
        "flocculent": p["clumps"] * plain["arms"],
        "tails": p["tails"] * clear,
        "companion": clear * near * np.sqrt(p["companion"] / 0.68),
    }


def edge_on(p: Mapping):
    """From 0 to 1: whether a disc is seen from its edge, so that its bulge stands out of it."""
    return expit((0.25 - p["cos_inclination"]) / 0.04)


def render(galaxy: Mapping[str, float]) -> np.ndarray:
    """The image of `galaxy`, one row of `draw_galaxies` by column, uint8 (y, x, channel) of 256 x 256 x 1."""
    (key,) = galaxy_hash([galaxy["id"]], "drawn pixels")
    rng = np.random.Generator(np.random.Philox(key=np.array([key, 0], np.uint64)))
    x, y = drawing.frame(galaxy["x"], galaxy["y"], galaxy["angle"])
    light = np.zeros((SIZE, SIZE), np.float32)
    if galaxy["star"] == 0:
        light += bulge(galaxy, x, y)
        if galaxy["bulge_share"] < 1:
            light += drawing.disc(galaxy, x, y, rng)
        if galaxy["tails"] > 0:
            light += tails(galaxy)
        if galaxy["companion"] > 0:
            light += companion(galaxy)
    return drawing.photograph(light, galaxy, rng)


def bulge(galaxy: Mapping[str, float], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The light of a bulge, or of an elliptical galaxy, at (`x`, `y`) along its axes.

    A boxy one, where it is seen from the disc's edge, is of two parts side by side, each as near to a box as to an
    ellipse.
    """
    boxiness = galaxy["boxiness"] * edge_on(galaxy)
    if galaxy["bulge_share"] == 1 or boxiness < 0.01:
        return drawing.bulge(galaxy, x, y)
    power, axis = np.float32(2 + 4 * boxiness), np.float32(galaxy["bulge_axis"])
    aside = np.float32(1.3 * boxiness * galaxy["bulge_size"] * galaxy["size"])
    light = np.zeros_like(x)
    for middle in (-aside, aside):
        u, v = np.abs(x - middle), np.abs(y) / axis
        longer = np.maximum(u, v) + np.float32(1e-3)
        ratio = np.minimum(u, v) / longer
        stretched = (1 + ratio**power) ** (1 / power) / np.sqrt(1 + ratio * ratio)
        light += drawing.bulge(galaxy, (x - middle) * stretched, y * stretched)
    return light / 2


def tails(galaxy: Mapping[str, float]) -> np.ndarray:
    """Two tidal tails, that leave the galaxy on opposite sides, nearly straight, one of them long and wide."""
    x, y = drawing.frame(galaxy["x"], galaxy["y"], galaxy["tail_angle"])
    size, width = np.float32(galaxy["size"]), np.float32(galaxy["tail_width"])
    u, v = x / size, y / size
    v = v - np.float32(0.07 * galaxy["turn"]) * u * np.abs(u)
    long = np.where(u > 0, np.float32(4.6), np.float32(2.9))
    across = np.exp(-((v / (width * (np.float32(0.6) + np.float32(0.4) * np.abs(u)))) ** 2))
    along = expit((np.abs(u) - np.float32(1.2)) * 4) * expit((long - np.abs(u)) * 3)
    return np.float32(10 * galaxy["tails"] ** 1.5) * across * along


def companion(galaxy: Mapping[str, float]) -> np.ndarray:
    """The light of a smaller galaxy beside this one."""
    away = galaxy["companion_distance"] * galaxy["size"]
    x, y = drawing.frame(
        galaxy["x"] + away * np.cos(galaxy["companion_angle"]),
        galaxy["y"] + away * np.sin(galaxy["companion_angle"]),
        2 * galaxy["companion_angle"],
    )
    small = dict(
        galaxy,
        size=galaxy["size"] * np.sqrt(galaxy["companion"]) * 0.7,
        bulge_axis=galaxy["companion_axis"],
        bulge_share=1.0,
        sersic=1.5,
    )
    return drawing.bulge(small, x, y)
