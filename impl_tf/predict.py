"""Samples of the posterior: the convolutions once per galaxy, the head once per dropout sample."""

import numpy as np
import tensorflow as tf

from shared.method.batches import chunks
from shared.method.views import Views

from .device import fetch, put, settings
from .dropout import dropout, keep
from .views import see
from .weights import values


def seen(state, images, views: Views) -> np.ndarray:
    """What the network is shown, (galaxy, y, x, 1), of uint8 images (galaxy, y, x, 1) under VIEWS."""
    shown = state.calls["seen"](values(state.model), put(images), *(put(array) for array in views))
    return fetch(shown)


def features(state, images, views: Views):
    """The dense layer's units (galaxy, unit) of uint8 images (galaxy, y, x, 1) under VIEWS, on the device."""
    return state.calls["features"](
        values(state.model), put(images), *(put(array) for array in views)
    )


def layers(state, images, views: Views) -> list[np.ndarray]:
    """Every layer's activation (galaxy, y, x, channel), and at last what `features` gives, of the same."""
    found = state.calls["layers"](
        values(state.model), put(images), *(put(array) for array in views)
    )
    return [fetch(layer) for layer in found]


def answers(state, units, kept: np.ndarray) -> np.ndarray:
    """rho (galaxy, sample) of units (galaxy, unit) when dropout keeps those of KEPT bool (galaxy, sample, unit)."""
    return fetch(chances(state.run, state.model, units, put(kept)))


def sample(state, images, views: Views, keys: np.ndarray, first: int, samples: int) -> np.ndarray:
    """rho (galaxy, sample) under the masks of samples FIRST to FIRST + SAMPLES, for keys uint32 (galaxy, 2)."""
    numbers, parts = (
        np.arange(first, first + samples, dtype=np.uint32),
        [np.zeros((0, samples), np.float32)],
    )
    weights = values(state.model)
    for chunk in chunks(images, views, keys, settings().chunk):
        arrays = [put(array) for array in (chunk.images, *chunk.views, chunk.keys, numbers)]
        rho = state.calls["sample"](weights, *arrays)
        parts.append(fetch(rho)[: chunk.count])
    return np.concatenate(parts)


def embed(state, images, views: Views) -> np.ndarray:
    """What `features` gives (galaxy, unit) of any number of galaxies, chunk by chunk, as `sample` goes through them."""
    parts, no_keys = (
        [np.zeros((0, state.run.model.dense), np.float32)],
        np.zeros((len(images), 2), np.uint32),
    )
    for chunk in chunks(images, views, no_keys, settings().chunk):
        parts.append(fetch(features(state, chunk.images, chunk.views))[: chunk.count])
    return np.concatenate(parts)


def every_layer(model, x) -> list:
    """What `layers` gives, on the device."""
    trace: list = []
    units = model.features(x, trace)
    return [*trace, units]


def sample_chunk(run, model, images, turn, window, light, keys, numbers):
    """rho (galaxy, sample) of one chunk of galaxies."""
    units = model.features(see(run, images, (turn, window, light)))
    kept = keep(keys[:, None], numbers, run.model.dense, run.model.dropout)
    return chances(run, model, units, kept)


def chances(run, model, units, kept):
    """rho (galaxy, sample) of units (galaxy, unit) under masks (galaxy, sample, unit)."""
    return tf.sigmoid(model.answers(dropout(units[:, None], kept, run.model.dropout)))
