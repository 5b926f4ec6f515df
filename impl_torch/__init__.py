"""The PyTorch implementation."""

from .acquisition import acquire, dirichlet_information, nearest
from .device import configure, describe, out_of_memory, peak_memory
from .predict import embed, features, logits, sample, seen
from .train import gradients, init, train_steps
from .walks import walk_information
from .weights import export_checkpoint, export_weights

__all__ = [
    "acquire",
    "configure",
    "describe",
    "dirichlet_information",
    "embed",
    "export_checkpoint",
    "export_weights",
    "features",
    "gradients",
    "init",
    "logits",
    "nearest",
    "out_of_memory",
    "peak_memory",
    "sample",
    "seen",
    "train_steps",
    "walk_information",
]
