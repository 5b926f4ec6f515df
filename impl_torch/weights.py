"""Weights and moments under shared names."""

import numpy as np
import torch

from shared.network.weights import Checkpoint, Weights

from .device import to_device, to_numpy


def import_arrays(named: Weights) -> dict:
    """Arrays under shared names, on the device and in this framework's layout."""
    return {name: to_layout(to_device(array)).clone() for name, array in named.items()}


def export_arrays(named: dict) -> Weights:
    """Arrays on the device as numpy arrays under shared names: the inverse of `import_arrays`."""
    return {name: from_layout(value) for name, value in named.items()}


def export_weights(state) -> Weights:
    """All that prediction needs: the state's weights and running moments, as arrays under shared names."""
    return export_arrays(state.weights) | export_arrays(state.moments)


def export_checkpoint(state) -> Checkpoint:
    """All that training changes, as arrays under shared names."""
    parts = (state.weights, state.first, state.second, state.moments)
    weights, first, second, moments = map(export_arrays, parts)
    return Checkpoint(weights, first, second, state.step, moments)


def to_layout(value):
    """A shared array in this framework's order of axes."""
    if value.ndim == 4:  # channels last in memory, as those of images
        return value.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    return value.T.contiguous() if value.ndim == 2 else value


def from_layout(value) -> np.ndarray:
    """A framework's array in the shared order of axes."""
    return np.array(
        to_numpy(value.permute({1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}[value.ndim])), order="C"
    )
