"""The arrays of a kit: those that a port is given, and those that it must write, with how near they must be."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from shared.method.views import Views
from shared.network.network import Model
from shared.network.operations import MaxPool, Relu
from shared.network.weights import Weights
from shared.run.spec import ModelSpec


class Array(NamedTuple):
    """An array of the kit; `rule` is one of `shared.proof.kit.rules`, None where the array is given."""

    values: np.ndarray
    axes: str
    what: str
    rule: str | None
    tolerances: dict[str, float]  # by the precision of the answer


Arrays = dict[str, Array]

ONE = "one number"
IMAGE = "galaxy, y, x, channel"
WEIGHT_AXES = {
    "conv/kernel": "row, column, input, output",
    "conv/bias": "output",
    "hidden/kernel": "input, output",
    "hidden/bias": "output",
    "answer/kernel": "input, output",
    "answer/bias": "output",
}


def given(values, axes: str, what: str) -> Array:
    """An array that a port reads."""
    return Array(np.asarray(values), axes, what, None, {})


def exact(values, axes: str, what: str) -> Array:
    """An array that a port must write with the same numbers."""
    return Array(np.asarray(values), axes, what, "exact", {})


def close(values, axes: str, what: str, double: float = 1e-12, single: float = 1e-5) -> Array:
    """An array whose largest difference may be this share of its largest number."""
    return Array(np.asarray(values), axes, what, "largest", {"float64": double, "float32": single})


def close_in_double(values, axes: str, what: str) -> Array:
    """An array after many steps of Adam: only double precision can be compared."""
    return Array(np.asarray(values), axes, what, "largest", {"float64": 1e-10})


def weight_axes(name: str) -> str:
    """The axes of the weight of that `name`."""
    layer, part = name.split("/")
    return WEIGHT_AXES[f"{layer.rstrip('0123456789')}/{part}"]


def by_weight(prefix: str, weights: Weights, what: str, kind) -> Arrays:
    """An array under `prefix` for each weight; `kind` is `given`, `exact`, `close` or `close_in_double`."""
    return {f"{prefix}/{name}": kind(w, weight_axes(name), what) for name, w in weights.items()}


def given_images(images: np.ndarray) -> Array:
    """Stored images uint8 (galaxy, y, x, 1), without their channel."""
    return given(images[..., 0], "galaxy, y, x", "images as stored")


def given_views(views: Views) -> Arrays:
    """What `views` are made of."""
    return {
        "turn": given(views.affine, "galaxy, to row and column, of row and column and 1", "turns"),
        "window": given(views.crop, "galaxy, top and left and width", "windows"),
        "light": given(views.contrast, "galaxy, brightness and contrast", "light"),
    }


def given_masks(kept: np.ndarray) -> Array:
    """Dropout's masks bool (galaxy, unit)."""
    return given(kept.astype(np.uint8), "galaxy, unit", "masks, 1: the unit is kept")


def given_size(spec: ModelSpec) -> Array:
    """The width of the network's image."""
    return given([spec.image_size], ONE, "n, pixels across the network's image")


def given_rate(spec: ModelSpec) -> Array:
    """The dropout rate."""
    return given([spec.dropout], ONE, "the dropout rate")


def given_pools(model: Model) -> Array:
    """After which convolutions a max-pool comes."""
    kinds = [type(layer.operation) for layer in model.encoder]
    after = [following is MaxPool for kind, following in pairwise(kinds) if kind is Relu]
    return given(np.array(after, np.uint8), "convolution", "1: a max-pool comes after it")
