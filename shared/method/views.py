"""How each galaxy is seen: drawn here, once, for every framework; each framework only applies it.

A view is a map from the network's pixels to the store's, and a change of light. Pixel centres have whole coordinates,
(row, column) from 0. An output pixel p goes through two steps:

    q = window[:2] + (p * window[2]) // size       whole numbers: a nearest-neighbour zoom, or nothing (0, 0, size)
    source = turn[:, :2] @ q + turn[:, 2]          the bilinear sampling

So W+20's own two resamplings (bilinear rotation, then nearest-neighbour zoom) and our single one are one program.
Light is (brightness, contrast): x -> (x - mean) * contrast + mean + brightness.
"""

from typing import NamedTuple

import numpy as np

from shared.run import keys
from shared.run.spec import RunSpec

STEPS_PER_CALL = 15  # W+20 build their graph, and draw its zoom, once per 15 batches


class Views(NamedTuple):
    """How images are seen; the leading axes are those of the images, (galaxy,) or (step, galaxy)."""

    affine: np.ndarray  # float32 (..., 2, 3)
    crop: np.ndarray  # int32 (..., 3): top, left, width
    contrast: np.ndarray  # float32 (..., 2): brightness, contrast


def reduction(run: RunSpec, stored: int) -> int:
    """By which power of two stored images (`stored` pixels wide) are box-averaged before they are sampled.

    Bilinear sampling with a stride above two would skip pixels. W+20's own resampling does skip them.
    """
    factor, stride = 1, run.dataset.crop * stored / run.augmentation.zoom[1] / run.model.image_size
    while (
        run.augmentation.resampling == "bilinear"
        and stride >= 2 * factor
        and stored % (2 * factor) == 0
    ):
        factor *= 2
    return factor


def draw_views(
    run: RunSpec, size: int, view_keys: np.ndarray, index: np.ndarray, zoom_index: np.ndarray
) -> Views:
    """Random views of images `size` pixels wide, for keys (..., 2) at each step or sample (...)."""
    spec = run.augmentation
    u = np.moveaxis(keys.uniforms(view_keys, index, 8), -1, 0)
    if spec.zoom_per == "call":
        u[0] = keys.uniforms(keys.purpose_key(run.seed, "zoom"), zoom_index, 1)[..., 0]
    zoom = _between(u[0], spec.zoom)
    angle = u[1] * {"full": 2 * np.pi, "half": np.pi, "none": 0.0}[spec.rotation]
    flips = np.where(u[2:4] < 0.5, -1.0, 1.0) if spec.rotation != "none" else np.ones_like(u[2:4])
    shift = u[4:6] if spec.shift == "anywhere" else np.full_like(u[4:6], 0.5)
    contrast = np.stack([(2 * u[6] - 1) * spec.brightness, _between(u[7], spec.contrast)], -1)
    affine, crop = _maps(run, size, zoom, angle, flips, shift)
    return Views(affine, crop, contrast.astype(np.float32))


def still_views(run: RunSpec, size: int, galaxies: int) -> Views:
    """The one view (galaxy,) of each image at prediction: centred, at the middle of the zooms, not turned or relit."""
    flat = np.full(galaxies, np.mean(run.augmentation.zoom))
    affine, crop = _maps(
        run, size, flat, 0 * flat, np.ones((2, galaxies)), np.full((2, galaxies), 0.5)
    )
    return Views(affine, crop, np.tile(np.float32([0, 1]), (galaxies, 1)))


def _between(u: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    return bounds[0] + (bounds[1] - bounds[0]) * u


def _maps(run: RunSpec, size, zoom, angle, flips, shift):
    """The turn float32 (..., 2, 3) and the window int32 (..., 3); `shift` (2, ...) is the window's place, 0 to 1."""
    out, field = run.model.image_size, run.dataset.crop * size
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = (
        np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
        * np.moveaxis(flips, 0, -1)[..., None, :]
    )
    centre = (size - 1) / 2
    if run.augmentation.resampling == "nearest":
        field = round(field)
        width = (field / zoom).astype(np.int32)
        corner = np.minimum(np.floor(shift * (field - width + 1)), field - width)
        crop = np.stack([*corner, width], -1)
        start = np.full((*zoom.shape, 2), -(field - 1) / 2)
    else:
        width = field / zoom
        crop = np.broadcast_to([0, 0, out], (*zoom.shape, 3))
        start = (
            np.moveaxis((shift - 0.5) * (field - width), 0, -1)
            - ((out - 1) / 2 * width / out)[..., None]
        )
        matrix_per_pixel = matrix * (width / out)[..., None, None]
    offset = centre + np.einsum("...ij,...j->...i", matrix, start)
    steps = matrix if run.augmentation.resampling == "nearest" else matrix_per_pixel
    return np.concatenate([steps, offset[..., None]], -1).astype(np.float32), crop.astype(np.int32)
