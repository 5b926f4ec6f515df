"""The JAX implementation."""

from .acquisition import acquire
from .device import configure, describe, peak_memory
from .predict import answers, features, sample
from .train import gradients, init, train_steps
from .weights import export_checkpoint, export_weights

__all__ = [
    "acquire",
    "answers",
    "configure",
    "describe",
    "export_checkpoint",
    "export_weights",
    "features",
    "gradients",
    "init",
    "peak_memory",
    "sample",
    "train_steps",
]
