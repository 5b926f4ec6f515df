"""The light of a galaxy and of what lies about it, as drawn by `synthetic` and `synthetic_tree`.

A galaxy is a mapping of its parameters. Lengths are in pixels of the 256 x 256 image, angles in radians, brightnesses
in standard deviations of the sky's noise in one pixel; light is float32 (y, x).
"""

from collections.abc import Mapping

import numpy as np
from scipy.ndimage import gaussian_filter, zoom
from scipy.special import expit, gamma, gammaincinv

from shared.data.cutouts import SIZE

PLACES = np.arange(SIZE, dtype=np.float32)
BLACK = 14.0  # grey level of the sky
SOFT, WHITE = 3.0, 260.0  # asinh's knee, and what is white, in sky noises


def axis_ratio(p: Mapping):
    """Apparent height over width of a disc that is as thick as it is."""
    cos = p["cos_inclination"]
    return np.hypot(cos, p["thickness"] * np.sqrt(1 - cos**2))


def frame(x: float, y: float, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (y, x) of every pixel, about the point (X, Y) and along axes turned by `angle`."""
    across, down = PLACES - np.float32(x), PLACES[:, None] - np.float32(y)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * across + sin * down, cos * down - sin * across


def flux(galaxy: Mapping[str, float]) -> float:
    """All light: that of a round patch of two sizes' radius and of the brightness `signal`."""
    return galaxy["signal"] * np.pi * (2 * galaxy["size"]) ** 2


def bulge(galaxy: Mapping[str, float], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A Sersic bulge, or an elliptical galaxy, at (`x`, `y`) along its axes."""
    n, axis = galaxy["sersic"], galaxy["bulge_axis"]
    half = galaxy["size"] * (galaxy["bulge_size"] * 2 if galaxy["bulge_share"] < 1 else 1.0)
    b = gammaincinv(2 * n, 0.5)
    whole = 2 * np.pi * n * np.exp(b) * b ** (-2 * n) * gamma(2 * n) * half**2 * axis
    middle = galaxy["bulge_share"] * flux(galaxy) / whole
    square = (x * x + (y / np.float32(axis)) ** 2 + np.float32(0.5)) / np.float32(half**2)
    return np.float32(middle) * np.exp(np.float32(-b) * (square ** np.float32(0.5 / n) - 1))


def disc(galaxy: Mapping[str, float], x: np.ndarray, y: np.ndarray, rng) -> np.ndarray:
    """An exponential disc with its arms, clumps, bar and dust, at (`x`, `y`) along its axes."""
    size, cos = np.float32(galaxy["size"]), galaxy["cos_inclination"]
    axis = np.float32(axis_ratio(galaxy))
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
    middle = (1 - galaxy["bulge_share"]) * flux(galaxy) / (2 * np.pi * size**2 * axis) * dimmed
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


def photograph(
    light: np.ndarray, galaxy: Mapping[str, float], rng: np.random.Generator
) -> np.ndarray:
    """The image uint8 (y, x, channel) of a galaxy's `light` (y, x): sources, blur, star, trail and noise added."""
    add_field(light, rng)
    light = blur(light, galaxy)
    if galaxy["star"] > 0:
        light += star(galaxy)
    if galaxy["trail"] > 0:
        light += trail(galaxy)
    noise = rng.standard_normal((SIZE, SIZE), np.float32)
    light += noise * np.sqrt(1 + light / 30)  # the sky's, and the light's own
    return stretch(light)[:, :, None]


def add_field(light: np.ndarray, rng: np.random.Generator) -> None:
    """A few stars and faint galaxies in the field."""
    for x, y, bright in rng.random((rng.poisson(4), 3)):
        light[int(y * SIZE), int(x * SIZE)] += 60 * np.exp(4 * bright)
    for x, y, bright, size, axis, angle in rng.random((rng.poisson(2), 6)):
        column, row = int(24 + x * (SIZE - 48)), int(24 + y * (SIZE - 48))
        at = (slice(row - 24, row + 24), slice(column - 24, column + 24))
        across, down = frame(column, row, np.pi * angle)
        squeezed = np.hypot(across[at], down[at] / (0.3 + 0.7 * axis)) / (1.5 + 2 * size)
        light[at] += 3 * np.exp(2.5 * bright) * np.exp(-squeezed)


def blur(light: np.ndarray, galaxy: Mapping[str, float]) -> np.ndarray:
    """`light` through the air: a Gaussian core, and some of the light in wings three times as wide."""
    core = gaussian_filter(light, galaxy["psf"], mode="nearest", truncate=3.5)
    wings = gaussian_filter(light, 3 * galaxy["psf"], mode="nearest", truncate=2.5)
    return core + np.float32(galaxy["wings"]) * (wings - core)


def star(galaxy: Mapping[str, float]) -> np.ndarray:
    """A star too bright for the camera, with a halo and the spikes of the mirror's holder."""
    x, y = frame(galaxy["x"], galaxy["y"], galaxy["angle"])
    square = (x * x + y * y) / np.float32(galaxy["psf"] ** 2)
    bright = np.float32(galaxy["star"])
    core = 20 * bright * (1 + square / 8) ** np.float32(-2.2)
    spikes = np.exp(-np.abs(y) / 1.2 - np.abs(x) / 40) + np.exp(-np.abs(x) / 1.2 - np.abs(y) / 40)
    return core + np.float32(0.5) * bright * spikes


def trail(galaxy: Mapping[str, float]) -> np.ndarray:
    """A straight line across the image, near the galaxy."""
    beside = 30 * np.sin(3 * galaxy["arm_phase"])
    _, y = frame(galaxy["x"], galaxy["y"] + beside, galaxy["arm_phase"])
    return np.float32(galaxy["trail"]) * np.exp(-0.5 * (y / np.float32(1.4 * galaxy["psf"])) ** 2)


def stretch(light: np.ndarray) -> np.ndarray:
    """`light` as uint8: linear in faint light, logarithmic in bright (asinh, Lupton et al. 2004)."""
    grey = np.arcsinh(light / np.float32(SOFT)) * np.float32(
        (255 - BLACK) / np.arcsinh(WHITE / SOFT)
    )
    return np.clip(np.rint(grey + np.float32(BLACK)), 0, 255).astype(np.uint8)
