"""The model's weights under shared names."""

import numpy as np

from shared.network.weights import Checkpoint, Weights

from .device import fetch, put


def import_weights(model, weights: Weights) -> None:
    """Set the model's weights from arrays under shared names."""
    for name, parameter in named_parameters(model).items():
        parameter[...] = to_layout(put(weights[name]))


def export_weights(state) -> Weights:
    """The state's weights, as arrays under shared names."""
    return {name: from_layout(value[...]) for name, value in named_parameters(state.model).items()}


def export_checkpoint(state) -> Checkpoint:
    """All that training changes, as arrays under shared names."""
    moments = [
        {name: from_layout(value) for name, value in part.items()}
        for part in (state.first, state.second)
    ]
    return Checkpoint(export_weights(state), *moments, state.step)


def named_parameters(model) -> dict:
    """Each parameter under its shared name."""
    layers = [(f"conv{i}", conv) for i, conv in enumerate(model.convs)]
    layers += [("hidden", model.hidden), ("answer", model.answer)]
    pairs = [
        ((f"{name}/kernel", layer.kernel), (f"{name}/bias", layer.bias)) for name, layer in layers
    ]
    return dict(pair for both in pairs for pair in both)


def values(model):
    """The weights as a compiled call takes them."""
    return {name: value[...] for name, value in named_parameters(model).items()}


def to_layout(value):
    """A shared array in this framework's order of axes."""
    return value


def from_layout(value) -> np.ndarray:
    """A framework's array in the shared order of axes."""
    return np.array(fetch(value))
