"""A network as data: a tuple of layers, each with a name, an operation, and the names of the layers it is made of.

From it follow the shapes of activations and weights, the work, the order in which activations can be forgotten, and the
first weights; an interpreter in each program computes it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, fields
from math import prod
from typing import Any, NamedTuple

from shared.network.operations import (
    OPERATIONS,
    RANDOM,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Gather,
    MaxPool,
    Operation,
    Relu,
    Shape,
    Shapes,
    Start,
    Views,
)

IMAGE, UNITS = "image", "units"  # what goes into an encoder, and from there into a head


class Layer(NamedTuple):
    """One step of a network."""

    name: str  # parts separated by slashes; its weights are name/kernel, name/bias and so on
    operation: Operation
    inputs: tuple[str, ...]


Network = tuple[Layer, ...]


class Model(NamedTuple):
    """A network in two parts, which meet at a layer called units."""

    image: Shape  # (y, x, channel) of what goes in
    encoder: Network  # from the image to the units: once per galaxy
    head: Network  # from the units to the answers: once per sample of the posterior

    @property
    def whole(self) -> Network:
        """Both parts as one network."""
        return self.encoder + self.head

    @property
    def units(self) -> int:
        """How many units the encoder gives."""
        return shapes(self.encoder, self.image)[UNITS][0]


def chain(start: str, *steps: tuple[str, Operation]) -> Network:
    """Layers of which each follows the one before, the first of them `start`."""
    names = [start, *(name for name, _ in steps)]
    return tuple(
        Layer(name, operation, (before,))
        for (name, operation), before in zip(steps, names, strict=False)
    )


def source(network: Network) -> str:
    """The name of what goes into a network."""
    return network[0].inputs[0]


def shapes(network: Network, start: Shape) -> Shapes:
    """The shape of every layer's activation for one galaxy, and of what goes in, which is `start`."""
    found = {source(network): start}
    for name, operation, inputs in network:
        found[name] = operation.output(*(found[each] for each in inputs))
    return found


def weight_shapes(network: Network, start: Shape) -> Shapes:
    """The shape of every weight, in the order in which an image meets them."""
    found = shapes(network, start)
    return {
        f"{name}/{part}": shape
        for name, operation, inputs in network
        for part, shape in operation.weights(found[inputs[0]]).items()
    }


def moment_shapes(network: Network, start: Shape) -> Shapes:
    """The shape of every running moment."""
    found = shapes(network, start)
    return {
        f"{name}/{part}": shape
        for name, operation, inputs in network
        for part, shape in operation.moments(found[inputs[0]]).items()
    }


def starts(network: Network, start: Shape) -> dict[str, Start]:
    """How the first values of every weight are drawn."""
    operations = {layer.name: layer.operation for layer in network}
    return {
        name: operations[name.rpartition("/")[0]].start(name.rpartition("/")[2], shape)
        for name, shape in weight_shapes(network, start).items()
    }


def dropped(network: Network) -> dict[str, float]:
    """The rate of every layer that drops something at random."""
    return {
        layer.name: layer.operation.rate for layer in network if isinstance(layer.operation, RANDOM)
    }


def kept_shapes(network: Network, start: Shape) -> Shapes:
    """For each layer that drops something, the shape of its mask for a galaxy: (unit,), or () for all at once."""
    found = shapes(network, start)
    return {
        layer.name: found[layer.name] if isinstance(layer.operation, Dropout) else ()
        for layer in network
        if isinstance(layer.operation, RANDOM)
    }


def layer_numbers(model: Model) -> dict[str, int]:
    """The number of each layer that drops something, which makes its random bits its own: the head's come first."""
    return {name: number for number, name in enumerate(dropped(model.head + model.encoder))}


def copies(network: Network) -> dict[str, int]:
    """How many of each layer's activations there are for one galaxy: several between Views and Gather."""
    views = {layer.name: 1 for layer in network} | {source(network): 1}
    for name, operation, inputs in network:
        views[name] = {Views: 16, Gather: 1}.get(type(operation), views[inputs[0]])
    return views


def momenta(network: Network, names) -> dict[str, float]:
    """How far each running moment of those `names` moves towards a batch's, as a share of the way."""
    shares = {
        layer.name: layer.operation.momentum
        for layer in network
        if isinstance(layer.operation, BatchNorm)
    }
    return {name: shares[name.rpartition("/")[0]] for name in names}


def work(network: Network, start: Shape) -> dict[str, int]:
    """Multiplications and additions of each layer with a kernel, for one galaxy."""
    found, many = shapes(network, start), copies(network)
    return {
        name: 2
        * many[name]
        * prod(operation.weights(found[inputs[0]])["kernel"])
        * prod(found[name][:-1])
        for name, operation, inputs in network
        if isinstance(operation, Conv | Dense)
    }


def activations(network: Network, start: Shape) -> dict[str, int]:
    """How many numbers each layer's activation has for one galaxy, and what goes in."""
    many = copies(network)
    return {name: many[name] * prod(shape) for name, shape in shapes(network, start).items()}


def uses(network: Network) -> Counter:
    """How many layers are made of each activation."""
    return Counter(each for layer in network for each in layer.inputs)


Steps = Iterator[tuple[Network, list[str]]]


def schedule(network: Network) -> Steps:
    """Each layer, as a network of one, and the activations that are not needed after it."""
    return _ordered(network, [(layer,) for layer in network])


def fused_schedule(network: Network) -> Steps:
    """`schedule`, but convolution, ReLU and perhaps max-pool are one step where no other layer needs those."""
    used, steps, rest = uses(network), [], list(network)
    while rest:
        block = [rest.pop(0)]
        for kind in (Relu, MaxPool):
            if (
                rest
                and isinstance(block[0].operation, Conv)
                and isinstance(rest[0].operation, kind)
                and rest[0].inputs == (block[-1].name,)
                and used[block[-1].name] == 1
            ):
                block.append(rest.pop(0))
            else:
                break
        steps.append(tuple(block))
    return _ordered(network, steps)


def _ordered(network: Network, steps: list[Network]) -> Steps:
    last = {
        each: place
        for place, step in enumerate(steps)
        for layer in step
        for each in layer.inputs
        if each != layer.name
    }
    made = {layer.name for step in steps for layer in step[:-1]}
    for place, step in enumerate(steps):
        inputs = dict.fromkeys(each for layer in step for each in layer.inputs)
        yield step, [each for each in inputs if last[each] == place and each not in made]


def nested(named: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Arrays called layer/part as a dict of parts for each layer."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in named.items():
        layer, _, part = name.rpartition("/")
        found.setdefault(layer, {})[part] = value
    return found


def flat(parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What `nested` was made of."""
    return {f"{layer}/{part}": value for layer, own in parts.items() for part, value in own.items()}


def to_json(network: Network) -> list[dict]:
    """A network as plain data."""
    return [
        {
            "name": name,
            "operation": type(operation).__name__,
            **asdict(operation),
            "inputs": list(inputs),
        }
        for name, operation, inputs in network
    ]


def from_json(data: list[dict]) -> Network:
    """The network that `to_json` made `data` of; ValueError if it is none."""
    found: list[Layer] = []
    for entry in data:
        settings = dict(entry)
        name, kind, inputs = (settings.pop(key, None) for key in ("name", "operation", "inputs"))
        if kind not in OPERATIONS:
            raise ValueError(
                f"layer {name} has the operation {kind!r}; there are {', '.join(OPERATIONS)}"
            )
        wanted = {field.name for field in fields(OPERATIONS[kind])}
        if settings.keys() != wanted:
            raise ValueError(
                f"layer {name} has the settings {', '.join(settings)}; {kind} has {', '.join(sorted(wanted))}"
            )
        known = {layer.name for layer in found} | (
            {source(tuple(found))} if found else set(inputs or ())
        )
        if not inputs or not set(inputs) <= known or name in known:
            raise ValueError(
                f"layer {name} is made of {inputs}; it must be made of layers before it, under a name of its own"
            )
        found.append(Layer(name, OPERATIONS[kind](**settings), tuple(inputs)))
    return tuple(found)
