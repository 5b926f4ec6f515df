"""How much memory a network takes in training and in prediction, by its layers; where its activations can be forgotten.

Numbers are counted for one galaxy, of activations as they are: what a framework makes of them, in bytes, is in
`shared.method.memory`.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from shared.network.model import model_of
from shared.network.network import Network, activations, fused_schedule, source
from shared.network.operations import (
    BatchNorm,
    Conv,
    Dense,
    Gelu,
    LayerNorm,
    MaxPool,
    Multiply,
    Relu,
    Scale,
    Shape,
    Sigmoid,
    Silu,
)
from shared.run.spec import RunSpec

BY_INPUT = (Conv, Dense, BatchNorm, LayerNorm, Scale, Gelu, Silu, MaxPool, Multiply)
BY_OUTPUT = (Relu, Sigmoid, MaxPool)


class Part(NamedTuple):
    """Layers from one place to the next where a single activation leads on."""

    layers: Network
    kept: int  # numbers that the backward pass through them needs, without what goes in
    moving: int  # numbers of the most that it works on at once, the gradients of a layer's output and input


def recomputed_parts(run: RunSpec) -> tuple[Network, ...]:
    """The parts of a run's encoder whose activations the backward pass computes anew; () where it keeps all."""
    model = model_of(run.model)
    return segments(model.encoder, model.image) if run.backend.recompute else ()


def kept_layers(network: Network) -> set[str]:
    """The activations that the gradients of a network's layers are made of, by name."""
    by_input = {
        each for layer in network if isinstance(layer.operation, BY_INPUT) for each in layer.inputs
    }
    return by_input | {layer.name for layer in network if isinstance(layer.operation, BY_OUTPUT)}


@cache
def parts_of(network: Network, start: Shape) -> tuple[Part, ...]:
    """A network cut wherever a single activation leads on."""
    sizes, kept, inside = activations(network, start), kept_layers(network), source(network)
    found: list[Part] = []
    layers, alive = [], {inside}
    for step, over in fused_schedule(network):
        layers += step
        alive = (alive | {step[-1].name}) - set(over)
        if len(alive) == 1:
            found.append(_part(tuple(layers), sizes, kept))
            layers = []
    return tuple(found)


def _part(layers: Network, sizes: dict[str, int], kept: set[str]) -> Part:
    inside = sum(sizes[layer.name] for layer in layers if layer.name in kept)
    moving = max(sizes[name] + sizes[inputs[0]] for name, _, inputs in layers)
    return Part(layers, inside, moving)


def joined(parts: tuple[Part, ...]) -> Part:
    """Neighbouring parts as one."""
    layers = sum((part.layers for part in parts), ())
    return Part(layers, sum(part.kept for part in parts), max(part.moving for part in parts))


def peak(parts: tuple[Part, ...], sizes: dict[str, int]) -> int:
    """The most numbers that are in memory during a backward pass which computes each of `parts` anew."""
    waiting, most = 0, 0
    for part in parts:
        waiting += sizes[source(part.layers)]
        most = max(most, waiting + part.kept + part.moving)
    return most


def plain_peak(network: Network, start: Shape) -> int:
    """The most numbers that are in memory during a backward pass which has kept all that it needs."""
    waiting, most = activations(network, start)[source(network)], 0
    for part in parts_of(network, start):
        waiting += part.kept
        most = max(most, waiting + part.moving)
    return most


def peak_of(network: Network, start: Shape) -> int:
    """The most numbers that are in memory during a backward pass which computes each of its `segments` anew."""
    parts, sizes = parts_of(network, start), activations(network, start)
    ends = {segment[-1].name for segment in segments(network, start)}
    groups: list[list[Part]] = [[]]
    for part in parts:
        groups[-1].append(part)
        if part.layers[-1].name in ends:
            groups.append([])
    return peak(tuple(joined(tuple(group)) for group in groups if group), sizes)


@cache
def segments(network: Network, start: Shape) -> tuple[Network, ...]:
    """The parts to compute anew in the backward pass, so cut that it takes the least memory."""
    parts, sizes = parts_of(network, start), activations(network, start)
    found = [_within(parts, most) for most in sorted({sum(kept) for kept in _runs(parts)})]
    best = min(found, key=lambda some: (peak(some, sizes), len(some)))
    return tuple(part.layers for part in best)


def _runs(parts: tuple[Part, ...]) -> Iterator[list[int]]:
    """What is kept in each run of neighbouring parts."""
    kept = [part.kept for part in parts]
    for first in range(len(kept)):
        for last in range(first + 1, len(kept) + 1):
            yield kept[first:last]


def _within(parts: tuple[Part, ...], most: int) -> tuple[Part, ...]:
    """`parts` joined as long as no more than so many numbers are kept in one."""
    found: list[list[Part]] = []
    for part in parts:
        if found and sum(one.kept for one in found[-1]) + part.kept <= most:
            found[-1].append(part)
        else:
            found.append([part])
    return tuple(joined(tuple(group)) for group in found)


def forward_peak(network: Network, start: Shape) -> int:
    """The most numbers that are in memory during a pass of prediction."""
    sizes, alive = activations(network, start), {source(network)}
    most = 0
    for step, over in fused_schedule(network):
        made = [layer.name for layer in step]
        most = max(most, sum(sizes[name] for name in {*alive, *made}))
        alive = (alive | {made[-1]}) - set(over)
    return most
