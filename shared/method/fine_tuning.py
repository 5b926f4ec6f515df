"""What of a network is trained, and how fast: the head alone, its last blocks too, or all, later blocks faster."""

import re
from functools import cache
from typing import NamedTuple

from shared.network.model import model_of
from shared.network.network import UNITS, Model, weight_shapes
from shared.network.operations import Standardise
from shared.run.spec import ModelSpec, TrainingSpec

BLOCK = re.compile(r"(stage\d+)/(?:(block\d+)|down)")


class Tuning(NamedTuple):
    """What training changes; weights and layers by their names."""

    rates: dict[str, float]  # of every weight that is trained: its rate, in that of the head
    decays: dict[
        str, float
    ]  # of those that AdamW shrinks: by which share of themselves, at a rate of 1
    # the encoder's layers before the first that is trained: they are as at prediction; a head's dropouts always drop.
    # And those whose moments never change
    still: frozenset[str]


@cache
def tuning_of(network: ModelSpec, spec: TrainingSpec) -> Tuning:
    """What of a network is trained; ValueError if it is nothing."""
    model = model_of(network)
    shapes, depth = weight_shapes(model.whole, model.image), blocks(model)
    head = {layer.name for layer in model.head}
    trained = [name for name in shapes if chosen(spec.trainable, name, depth, head)]
    if not trained:
        raise ValueError(
            f"training.trainable is {spec.trainable!r}, which no name of a weight matches; give all, head, last:N or "
            f"a regular expression of names such as {', '.join([*shapes][:2])} and {[*shapes][-2]}"
        )
    top = max(depth.values())
    layers = [layer.name for layer in model.whole]
    fixed = {layer.name for layer in model.whole if isinstance(layer.operation, Standardise)}
    first = min(layers.index(layer_of(name)) for name in trained)
    return Tuning(
        {name: spec.layer_decay ** (top - depth[layer_of(name)]) for name in trained},
        {
            name: spec.weight_decay
            for name in trained
            if len(shapes[name]) > 1 and spec.weight_decay
        },
        frozenset(layers[:first]) - head | fixed,
    )


def frozen(network: ModelSpec, spec: TrainingSpec) -> bool:
    """Whether the encoder stays as it is, all of it: then its units can be computed once."""
    return {layer.name for layer in model_of(network).encoder} <= tuning_of(network, spec).still


def chosen(trainable: str, name: str, depth: dict[str, int], head: set[str]) -> bool:
    """Whether the weight called `name` is trained, of layers at `depth`, of which some are the `head`."""
    if trainable == "all":
        return True
    if trainable == "head":
        return layer_of(name) in head
    last = re.fullmatch(r"last:(\d+)", trainable)
    if last is None:
        return re.search(trainable, name) is not None
    return depth[layer_of(name)] >= max(depth.values()) - int(last[1])


def blocks(model: Model) -> dict[str, int]:
    """The number of the block of each layer with weights, from 0; the head, with its units' norm, is the last.

    A stage's downsampling is of the stage's first block, and what follows the last stage is of the last block, as timm
    counts. In networks without stages each layer is a block.
    """
    found, numbers = {}, {}
    for layer in map(layer_of, weight_shapes(model.encoder, model.image)):
        block = BLOCK.match(layer)
        key = f"{block[1]}/{block[2] or 'block0'}" if block else layer.partition("/")[0]
        key = next(reversed(numbers)) if key == "top" else key
        if layer != UNITS:
            found[layer] = numbers.setdefault(key, len(numbers))
    return found | {layer.name: len(numbers) for layer in model.head} | {UNITS: len(numbers)}


def layer_of(weight: str) -> str:
    """The layer that a weight or a running moment belongs to."""
    return weight.rpartition("/")[0]
