"""Samples of the posterior: the convolutions once per galaxy, the head once per dropout sample."""

import numpy as np

from shared.method.batches import chunks
from shared.method.views import Views
from shared.network.model import model_of

from .device import settings, to_device, to_numpy
from .network import answer_logits, masks


def seen(state, images, views: Views) -> np.ndarray:
    """What the network is shown, (galaxy, y, x, channel), of uint8 images (galaxy, y, x, channel) under `views`."""
    return to_numpy(state.calls["seen"](to_device(images), *(to_device(array) for array in views)))


def features(state, images, views: Views):
    """The units (galaxy, unit) of uint8 images (galaxy, y, x, channel) under `views`, on the device."""
    arrays = (to_device(array) for array in (images, *views))
    return state.calls["features"](state.weights, state.moments, *arrays)


def logits(state, units, kept: dict[str, np.ndarray]) -> np.ndarray:
    """Logits (galaxy, sample, answer) of units (galaxy, unit); `kept` has a mask (galaxy, sample, unit) per dropout."""
    masks = {name: to_device(mask) for name, mask in kept.items()}
    return to_numpy(sampled_logits(state.run, state.weights, units, masks))


def sample(state, images, views: Views, keys: np.ndarray, first: int, samples: int) -> np.ndarray:
    """Logits (galaxy, sample, answer) under the masks of samples `first` to `first` + `samples`; keys (galaxy, 2)."""
    numbers = np.arange(first, first + samples, dtype=np.uint32)
    parts = [np.zeros((0, samples, state.run.model.answers), np.float32)]
    for chunk in chunks(images, views, keys, settings().chunk):
        arrays = [to_device(array) for array in (chunk.images, *chunk.views, chunk.keys, numbers)]
        found = state.calls["sample"](state.weights, state.moments, *arrays)
        parts.append(to_numpy(found)[: chunk.count])
    return np.concatenate(parts)


def embed(state, images, views: Views) -> np.ndarray:
    """The encoder's units (galaxy, unit) of any number of galaxies, chunk by chunk: `features` as `sample` calls it."""
    parts, no_keys = (
        [np.zeros((0, model_of(state.run.model).units), np.float32)],
        np.zeros((len(images), 2), np.uint32),
    )
    for chunk in chunks(images, views, no_keys, settings().chunk):
        parts.append(to_numpy(features(state, chunk.images, chunk.views))[: chunk.count])
    return np.concatenate(parts)


def sample_chunk(run, units, weights, moments, images, affine, crop, contrast, keys, numbers):
    """Logits (galaxy, sample, answer) of one chunk of galaxies, `units` being the call that gives their units."""
    model = model_of(run.model)
    found = units(weights, moments, images, affine, crop, contrast)
    kept = masks(model, model.head, keys[:, None], numbers)
    return sampled_logits(run, weights, found, kept)


def sampled_logits(run, weights, units, kept):
    """Logits (galaxy, sample, answer) of units (galaxy, unit) under the masks `kept` (galaxy, sample, unit)."""
    return answer_logits(model_of(run.model), weights, units[:, None], kept)
