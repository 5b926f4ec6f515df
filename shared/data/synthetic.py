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

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter, zoom
from scipy.special import expit, gamma, gammaincinv, ndtri

from shared.data.cutouts import SIZE

QUESTIONS = {
    "smooth-or-featured": ("smooth", "featured-or-disk", "artifact"),
    "disk-edge-on": ("yes", "no"),
    "bar": ("strong", "weak", "no"),
    "has-spiral-arms": ("yes", "no"),
}
PLACES = np.arange(SIZE, dtype=np.float32)
DRAWS = 32  # uniform numbers that make a galaxy; not all are used
DRAWN, VOTED, PIXELS = range(3)  # purposes of the random numbers
VOTES = 40  # mean number of votes on the first question
FEWEST = 5
BLACK = 14.0  # grey level of the sky
SOFT, WHITE = 3.0, 260.0  # asinh's knee, and what is white, in sky noises


def draw_galaxies(count: int, seed: int) -> pd.DataFrame:
    """`count` galaxies: id, seed, number, the drawn parameters, and for every question of QUESTIONS
    the true chance of each answer given that the question is asked (true_QUESTION_ANSWER), the
    votes for each answer (QUESTION_ANSWER) and in all (QUESTION_total), int32.

    Whoever says featured is asked whether the disc is edge-on; whoever says it is not is asked
    about the bar and the arms. Raises ValueError for a seed that is not one.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"the seed of galaxies is {seed}; it must be at least 0 and below 2^64")
    uniforms = np.array([_generator(seed, i, DRAWN).random(DRAWS) for i in range(count)])
    parameters = _parameters(uniforms.reshape(count, DRAWS))
    true = chances(visible(parameters))
    columns = {
        "id": [f"synthetic-{seed}-{number}" for number in range(count)],
        "seed": np.full(count, seed, np.uint64),
        "number": np.arange(count),
        **parameters,
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
        "flat": seen * (1 - bulge * p["bulge_axis"] - disc * _axis(p)),
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
    x, y = _frame(galaxy["x"], galaxy["y"], galaxy["angle"])
    light = np.zeros((SIZE, SIZE), np.float32)
    if galaxy["star"] == 0:
        light += _bulge(galaxy, x, y)
        if galaxy["bulge_share"] < 1:
            light += _disc(galaxy, x, y, rng)
    _add_field(light, rng)
    light = _blur(light, galaxy)
    if galaxy["star"] > 0:
        light += _star(galaxy)
    if galaxy["trail"] > 0:
        light += _trail(galaxy)
    noise = rng.standard_normal((SIZE, SIZE), np.float32)
    light += noise * np.sqrt(1 + light / 30)  # the sky's, and the light's own
    return _stretch(light)[:, :, None]


def _generator(seed: int, number: int, purpose: int) -> np.random.Generator:
    key = np.array([seed, number], np.uint64)
    return np.random.Generator(np.random.Philox(counter=[0, 0, 0, purpose], key=key))


def _likely(x: np.ndarray) -> np.ndarray:
    return 0.02 + 0.96 * expit(x)


def _parameters(uniforms: np.ndarray) -> dict[str, np.ndarray]:
    """What makes each galaxy, (galaxy,), of `uniforms` (galaxy, draw); one draw for each parameter,
    so that a change to one leaves the others alone.
    """
    u = iter(uniforms.T)
    disc = next(u) < 0.7
    rare = next(u)
    spoiling = next(u)
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
        "star": np.where(rare < 0.025, 200 * np.exp(2.5 * spoiling), 0.0),
        "trail": np.where((rare >= 0.025) & (rare < 0.05), 10 + 60 * spoiling, 0.0),
    }


def _axis(p: Mapping):
    """Apparent height over width of a disc that is as thick as it is."""
    cos = p["cos_inclination"]
    return np.hypot(cos, p["thickness"] * np.sqrt(1 - cos**2))


def _vote(rng: np.random.Generator, true: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    first = rng.multinomial(max(FEWEST, rng.poisson(VOTES)), true["smooth-or-featured"])
    edge = rng.multinomial(first[1], true["disk-edge-on"])
    return {
        "smooth-or-featured": first,
        "disk-edge-on": edge,
        "bar": rng.multinomial(edge[1], true["bar"]),
        "has-spiral-arms": rng.multinomial(edge[1], true["has-spiral-arms"]),
    }


def _frame(x: float, y: float, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (y, x) of every pixel, about the point (X, Y) and along axes turned by `angle`."""
    across, down = PLACES - np.float32(x), PLACES[:, None] - np.float32(y)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * across + sin * down, cos * down - sin * across


def _flux(galaxy: Mapping[str, float]) -> float:
    """All light: that of a round patch of two sizes' radius and of the brightness `signal`."""
    return galaxy["signal"] * np.pi * (2 * galaxy["size"]) ** 2


def _bulge(galaxy: Mapping[str, float], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    n, axis = galaxy["sersic"], galaxy["bulge_axis"]
    half = galaxy["size"] * (galaxy["bulge_size"] * 2 if galaxy["bulge_share"] < 1 else 1.0)
    b = gammaincinv(2 * n, 0.5)
    whole = 2 * np.pi * n * np.exp(b) * b ** (-2 * n) * gamma(2 * n) * half**2 * axis
    middle = galaxy["bulge_share"] * _flux(galaxy) / whole
    square = (x * x + (y / np.float32(axis)) ** 2 + np.float32(0.5)) / np.float32(half**2)
    return np.float32(middle) * np.exp(np.float32(-b) * (square ** np.float32(0.5 / n) - 1))


def _disc(galaxy: Mapping[str, float], x: np.ndarray, y: np.ndarray, rng) -> np.ndarray:
    size, cos = np.float32(galaxy["size"]), galaxy["cos_inclination"]
    axis = np.float32(_axis(galaxy))
    edge = np.float32(expit((0.2 - cos) / 0.04))
    u, v = x / size, y / (axis * size)
    radius = np.sqrt(u * u + v * v + np.float32(1e-4))
    isophote = radius + edge * (np.abs(u) + np.abs(v) - radius) * np.float32(0.6)  # a lens edge-on
    light = np.exp(-isophote)
    if edge < 0.5:
        light = _structure(galaxy, light, u, v, radius, rng)
    else:
        lane = np.exp(-((v / 0.5) ** 2) - (u / 3) ** 4)
        light *= 1 - np.float32(0.6 * galaxy["dust"]) * edge * lane
    dimmed = np.sqrt(axis)  # by dust in a disc that is seen through more of itself
    middle = (1 - galaxy["bulge_share"]) * _flux(galaxy) / (2 * np.pi * size**2 * axis) * dimmed
    return np.float32(middle) * light


def _structure(galaxy, light, u, v, radius, rng) -> np.ndarray:
    """`light` of a disc with its arms, clumps and bar, at (U, V) in its plane, in scale lengths.

    The arms begin at the ends of the bar, which has swept its surroundings.
    """
    length, strength = np.float32(galaxy["bar_length"]), np.float32(galaxy["bar_strength"])
    start = np.float32(galaxy["arm_phase"])
    winding = np.log(radius / length) / np.float32(np.tan(galaxy["pitch"]))
    turned = np.float32(galaxy["turn"]) * np.arctan2(v, u)
    phase = np.float32(galaxy["arm_count"]) * (turned - winding - start)
    arms = np.exp(np.float32(2.0) * (np.cos(phase) - 1)) * np.float32(1 / 0.3085)  # of mean 1
    texture = np.asarray(zoom(rng.standard_normal((34, 34), np.float32), SIZE / 34, order=1))
    arms *= np.exp(np.float32(0.5 * galaxy["clumps"]) * texture)
    inner = np.float32(0.7) + np.float32(0.6) * strength * (length - np.float32(0.7))
    outside = 1 / (1 + np.exp((inner - radius) * 7))
    along = start * np.float32(galaxy["turn"])
    cos, sin = np.cos(along), np.sin(along)
    a = (cos * u + sin * v) / length
    b = (cos * v - sin * u) / (length * np.float32(galaxy["bar_axis"]))
    bar = np.exp(-((a * a) ** 2) - b * b)
    share = np.float32(galaxy["arm_contrast"]) * outside
    swept = 1 - np.float32(0.6) * strength * np.exp(-((radius / length) ** 4))
    return light * swept * (1 + share * (arms - 1)) + strength * bar


def _add_field(light: np.ndarray, rng: np.random.Generator) -> None:
    """A few stars and faint galaxies in the field."""
    for x, y, bright in rng.random((rng.poisson(4), 3)):
        light[int(y * SIZE), int(x * SIZE)] += 60 * np.exp(4 * bright)
    for x, y, bright, size, axis, angle in rng.random((rng.poisson(2), 6)):
        column, row = int(24 + x * (SIZE - 48)), int(24 + y * (SIZE - 48))
        at = (slice(row - 24, row + 24), slice(column - 24, column + 24))
        across, down = _frame(column, row, np.pi * angle)
        squeezed = np.hypot(across[at], down[at] / (0.3 + 0.7 * axis)) / (1.5 + 2 * size)
        light[at] += 3 * np.exp(2.5 * bright) * np.exp(-squeezed)


def _blur(light: np.ndarray, galaxy: Mapping[str, float]) -> np.ndarray:
    """`light` through the air: a Gaussian core, and some of the light in wings three times as wide."""
    core = gaussian_filter(light, galaxy["psf"], mode="nearest", truncate=3.5)
    wings = gaussian_filter(light, 3 * galaxy["psf"], mode="nearest", truncate=2.5)
    return core + np.float32(galaxy["wings"]) * (wings - core)


def _star(galaxy: Mapping[str, float]) -> np.ndarray:
    """A star too bright for the camera, with a halo and the spikes of the mirror's holder."""
    x, y = _frame(galaxy["x"], galaxy["y"], galaxy["angle"])
    square = (x * x + y * y) / np.float32(galaxy["psf"] ** 2)
    bright = np.float32(galaxy["star"])
    core = 20 * bright * (1 + square / 8) ** np.float32(-2.2)
    spikes = np.exp(-np.abs(y) / 1.2 - np.abs(x) / 40) + np.exp(-np.abs(x) / 1.2 - np.abs(y) / 40)
    return core + np.float32(0.5) * bright * spikes


def _trail(galaxy: Mapping[str, float]) -> np.ndarray:
    """A straight line across the image, near the galaxy."""
    beside = 30 * np.sin(3 * galaxy["arm_phase"])
    _, y = _frame(galaxy["x"], galaxy["y"] + beside, galaxy["arm_phase"])
    return np.float32(galaxy["trail"]) * np.exp(-0.5 * (y / np.float32(1.4 * galaxy["psf"])) ** 2)


def _stretch(light: np.ndarray) -> np.ndarray:
    """`light` as uint8: linear in faint light, logarithmic in bright (asinh, Lupton et al. 2004)."""
    grey = np.arcsinh(light / np.float32(SOFT)) * np.float32(
        (255 - BLACK) / np.arcsinh(WHITE / SOFT)
    )
    return np.clip(np.rint(grey + np.float32(BLACK)), 0, 255).astype(np.uint8)
