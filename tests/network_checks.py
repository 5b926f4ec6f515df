"""How far a framework's operations and networks are from the specification; a process of its own for each framework.

`python -m tests.network_checks BACKEND PRECISION operations|harmed|networks` prints the errors as JSON.
"""

import json
import sys
from functools import partial
from importlib import import_module

import numpy as np

from shared.method.backend import load_backend
from shared.network import operations as ops
from shared.network.architectures.convnext import convnext
from shared.network.architectures.dieleman import dieleman
from shared.network.architectures.efficientnet import efficientnet
from shared.network.architectures.heads import dropout_head, maxout_head
from shared.network.architectures.resnet import resnet18, resnet50
from shared.network.architectures.w20 import w20
from shared.network.model import standardised
from shared.network.network import (
    Model,
    moment_shapes,
    shapes,
    source,
    weight_shapes,
)
from shared.proof import network as proof
from shared.proof import operations as specification
from shared.proof import reference
from shared.proof.case import by_layer, doubled, relative_error
from shared.run import keys

IMAGE, UNITS, SMALL = (3, 9, 8, 6), (3, 6), (3, 8, 8, 6)
CASES = {  # an operation, and the shapes of its inputs
    "conv": (ops.Conv(4, 3, 1, 1), IMAGE),
    "conv 5x5": (ops.Conv(4, 5, 1, 2), IMAGE),
    "conv 6x6, no padding": (ops.Conv(4, 6), IMAGE),
    "conv, stride": (ops.Conv(4, 3, 2, 1, bias=False), IMAGE),
    "conv 7x7, stride": (ops.Conv(4, 7, 2, 3, bias=False), IMAGE),
    "conv, few pixels": (ops.Conv(5, 3, 1, 1), (3, 2, 2, 6)),
    "conv of squares": (ops.Conv(4, 4, 4), SMALL),
    "depthwise": (ops.Conv(6, 5, 1, 2, groups=6), IMAGE),
    "depthwise, stride": (ops.Conv(6, 5, 2, 2, groups=6, bias=False), IMAGE),
    "pointwise": (ops.Conv(5, 1), IMAGE),
    "pointwise, stride": (ops.Conv(5, 1, 2, bias=False), IMAGE),
    "dense": (ops.Dense(5), UNITS),
    "dense of samples": (ops.Dense(5), (3, 2, 6)),
    "batch norm": (ops.BatchNorm(), IMAGE),
    "batch norm, running": (ops.BatchNorm(), IMAGE),
    "standardise": (ops.Standardise(), IMAGE),
    "standardise, running": (ops.Standardise(), IMAGE),
    "layer norm": (ops.LayerNorm(), IMAGE),
    "layer norm of units": (ops.LayerNorm(), UNITS),
    "scale": (ops.Scale(1.0), IMAGE),
    "relu": (ops.Relu(), IMAGE),
    "gelu": (ops.Gelu(), IMAGE),
    "silu": (ops.Silu(), IMAGE),
    "sigmoid": (ops.Sigmoid(), IMAGE),
    "max pool": (ops.MaxPool(2, 2), SMALL),
    "max pool, odd": (ops.MaxPool(2, 2), IMAGE),
    "max pool, padded": (ops.MaxPool(3, 2, 1), IMAGE),
    "mean": (ops.Mean(), IMAGE),
    "add": (ops.Add(), IMAGE, IMAGE),
    "multiply": (ops.Multiply(), IMAGE, UNITS),
    "flatten": (ops.Flatten(), IMAGE),
    "maxout": (ops.Maxout(2), (3, 4, 6)),
    "dropout": (ops.Dropout(0.3), (3, 4, 6)),
    "stochastic depth": (ops.StochasticDepth(0.3), IMAGE),
    "turned": (ops.Turned(45.0), (3, 9, 9, 3)),
    "views": (ops.Views(5), (3, 9, 9, 4)),
    "gather": (ops.Gather(3), (6, 4)),
}
TIED = ("relu", "max pool", "max pool, odd", "max pool, padded", "maxout")  # also of few values


def networks(drop: float = 0.3) -> dict[str, Model]:
    """Every architecture, narrow and on small images."""
    one, three, head = (32, 32, 1), (32, 32, 3), dropout_head(0.5)
    wide = (8, 8, 8, 8, 8, 8, 8, 8, 12)
    return {
        "w20": Model(one, w20(((4, 4), (6,), (6,)), 8), head),
        "standardised": Model(one, standardised(w20(((4,),), 4)), head),
        "resnet18": Model(one, resnet18((4, 6), (1, 2)), head),
        "resnet50": Model(one, resnet50((4, 4), (2, 1)), head),
        "efficientnet_b0": Model(one, efficientnet(wide, (1, 1, 1, 0, 2, 0, 1), drop), head),
        "convnext": Model(three, convnext((4, 6), (1, 2), drop), head),
        "dieleman": Model((69, 69, 3), dieleman((3, 4, 4, 4)), maxout_head(0.5, 4, units=5)),
    }


def random_weights(model: Model, seed: int = 1) -> dict[str, np.ndarray]:
    """Weights float32 of the size that the first ones have, none of them 0, so that no gradient vanishes."""
    random, found = np.random.default_rng(seed), {}
    for name, shape in weight_shapes(model.whole, model.image).items():
        if name.endswith("kernel"):
            value = random.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
        else:
            value = random.normal(0.7 if name.endswith("scale") else 0, 0.2, shape)
        found[name] = value.astype(np.float32)
    return found


def random_moments(shapes: dict, seed: int = 2) -> dict[str, np.ndarray]:
    """Running moments float32, unlike any batch's."""
    random = np.random.default_rng(seed)
    return {
        name: (
            random.uniform(0.5, 1.5, shape)
            if name.endswith("variance")
            else random.normal(0, 0.2, shape)
        ).astype(np.float32)
        for name, shape in shapes.items()
    }


def masks(model: Model, galaxies: int, step: int = 3) -> dict[str, np.ndarray]:
    """What every layer keeps of some galaxies."""
    galaxy_keys = keys.galaxy_keys(0, "dropout", [f"galaxy {n}" for n in range(galaxies)])
    return reference.masks(model, model.whole, galaxy_keys, step)


class Framework:
    """One framework, with its way to a gradient."""

    def __init__(self, name: str, precision: str):
        self.name, self.precision = name, precision
        self.backend = load_backend(name, precision)
        self.layers, self.network = self.module("layers"), self.module("network")
        device, weights = self.module("device"), self.module("weights")
        self.put, self.fetch = device.to_device, device.to_numpy
        self.to_layout, self.from_layout = weights.to_layout, weights.from_layout

    def module(self, name: str):
        """A module of the package."""
        return import_module(f"impl_{self.name}.{name}")

    def weights(self, named: dict) -> dict:
        """Arrays in the framework's layout, on the device."""
        return {
            name: self.to_layout(self.put(np.asarray(w, self.precision)))
            for name, w in named.items()
        }

    def arrays(self, named: dict) -> dict:
        """Arrays on the device."""
        return {
            name: self.put(np.asarray(a, self.precision) if a.dtype.kind == "f" else a)
            for name, a in named.items()
        }

    def pull(self, call, weights: dict, arrays: dict, d):
        """call(weights, arrays) -> (output, found): both, and the gradients of (output x d) for weights and arrays."""
        return getattr(self, f"_{self.name}")(call, weights, arrays, d)

    def _torch(self, call, weights, arrays, d):
        import torch

        for value in (*weights.values(), *arrays.values()):
            value.requires_grad_()
        y, found = call(weights, arrays)
        gradients = torch.autograd.grad(y, [*weights.values(), *arrays.values()], d)
        return y, found, dict(zip([*weights, *arrays], gradients, strict=True))

    def _jax(self, call, weights, arrays, d):
        import jax

        def pulled(weights, arrays, d):
            y, pullback, found = jax.vjp(call, weights, arrays, has_aux=True)
            for_weights, for_arrays = pullback(d)
            return y, found, for_weights | for_arrays

        return self.module("device").maybe_compile(pulled)(weights, arrays, d)

    def _tf(self, call, weights, arrays, d):
        import tensorflow as tf

        @tf.function
        def pulled(weights, arrays, d):
            with tf.GradientTape() as tape:
                tape.watch((weights, arrays))
                y, found = call(weights, arrays)
            gradients = tape.gradient(y, weights | arrays, d)
            return (
                y,
                found,
                {name: tf.convert_to_tensor(gradient) for name, gradient in gradients.items()},
            )

        return pulled(weights, arrays, d)


def operation_errors(framework: Framework) -> dict[str, dict[str, float]]:
    """The error of every operation's output and gradients."""
    found = {}
    for title, (operation, *inputs) in CASES.items():
        for tied in (False, True) if title in TIED else (False,):
            found[title + (", ties" if tied else "")] = _operation(
                framework, title, operation, inputs, tied
            )
    return found


def _operation(framework, title, operation, inputs, tied):
    random, kind = np.random.default_rng(len(title)), framework.precision
    draw = (lambda shape: random.integers(-1, 2, shape)) if tied else partial(random.normal, 0, 1)
    draw_array = lambda shape: draw(size=shape) if not tied else draw(shape)  # noqa: E731
    arrays = {f"x{n}": draw_array(shape).astype(kind) for n, shape in enumerate(inputs)}
    shape = inputs[0][1:]
    weights = {
        part: random.normal(0.2, 1, size).astype(kind)
        for part, size in operation.weights(shape).items()
    }
    moments = random_moments(operation.moments(shape)) if "running" in title else None
    kept = None
    if isinstance(operation, ops.RANDOM):
        kept = (
            random.random(inputs[0] if isinstance(operation, ops.Dropout) else inputs[0][:1]) > 0.3
        )
    name = ops.function(operation)
    given = specification.Given(moments and doubled(moments), kept)
    exact = doubled(weights)
    y, pullback = getattr(specification, name)(
        operation, exact, given, *(x.astype(float) for x in arrays.values())
    )
    d = random.normal(0, 1, y.shape).astype(kind)
    for_arrays, for_weights = pullback(d.astype(float))
    their_moments = None if moments is None else framework.arrays(moments)
    their_kept = None if kept is None else framework.put(kept)

    def call(weights, arrays):
        given = framework.layers.Given(their_moments, their_kept)
        result = getattr(framework.layers, name)(operation, weights, given, *arrays.values())
        return result if isinstance(operation, ops.BatchNorm) else (result, {})

    got, batch, gradients = framework.pull(
        call, framework.weights(weights), framework.arrays(arrays), framework.put(d)
    )
    errors = {"output": relative_error(framework.fetch(got), y)}
    errors["input"] = max(
        relative_error(framework.fetch(gradients[name]), gradient)
        for name, gradient in zip(arrays, for_arrays, strict=True)
    )
    if weights:
        errors["weights"] = by_layer(
            {f"l/{part}": framework.from_layout(gradients[part]) for part in weights},
            {f"l/{part}": gradient for part, gradient in for_weights.items()},
        )
    if batch:
        oracle = specification.batch_moments(arrays["x0"].astype(float))
        errors["moments"] = max(
            relative_error(framework.fetch(batch[part]), oracle[part]) for part in oracle
        )
    return errors


def network_errors(framework: Framework) -> dict[str, dict[str, float]]:
    """The error of every network's activations, moments and gradients, by the batch's moments and by running ones."""
    found = {}
    for title, model in networks().items():
        for way in ("batch", "running"):
            if way == "batch" or title == "resnet18":
                found[f"{title}, {way}"] = _network(framework, model, way)
    return found


def _network(framework: Framework, model: Model, way: str) -> dict[str, float]:
    network, galaxies = model.whole, 4 if len(model.encoder) > 20 else 2
    weights, kept = random_weights(model), masks(model, galaxies)
    moments = random_moments(moment_shapes(network, model.image)) if way == "running" else None
    random = np.random.default_rng(5)
    x = random.random((galaxies, *model.image)).astype(np.float32)
    d = random.normal(size=(galaxies, *shapes(network, model.image)[network[-1].name])).astype(
        np.float32
    )
    given = (None if moments is None else framework.arrays(moments), framework.arrays(kept))

    def call(weights, arrays):
        return framework.network.forward(network, weights, arrays["x"], *given)

    ours = (framework.weights(weights), framework.arrays({"x": x}), framework.arrays({"d": d})["d"])
    every = framework.module("device").maybe_compile(
        lambda weights, x: framework.network.activations(network, weights, x, *given)
    )
    values = every(framework.weights(weights), framework.arrays({"x": x})["x"])
    values = {name: framework.fetch(value) for name, value in values.items()}
    got, batch, gradients = framework.pull(call, *ours)
    kinks = doubled(values) | {source(network): x}
    running = None if moments is None else doubled(moments)
    done = proof.forward(network, doubled(weights), x.astype(float), running, kept, kinks)
    oracle, for_x = proof.gradients(network, done, d.astype(float))
    names = {
        name: framework.from_layout(gradient) for name, gradient in gradients.items() if name != "x"
    }
    errors = {
        "layers": max(
            relative_error(values[layer.name], done.values[layer.name]) for layer in network
        ),
        "output": relative_error(framework.fetch(got), done.output),
        "gradients": by_layer(names, oracle),
        "input": relative_error(framework.fetch(gradients["x"]), for_x),
    }
    if done.moments:
        errors["moments"] = max(
            relative_error(framework.fetch(batch[name]), value)
            for name, value in done.moments.items()
        )
    return errors


def harmed_errors(framework: Framework) -> dict[str, dict[str, float]]:
    """`operation_errors` of a framework whose every operation gives a billionth too much."""
    for name in {ops.function(operation) for operation, *_ in CASES.values()}:
        setattr(framework.layers, name, _harmed(getattr(framework.layers, name)))
    return operation_errors(framework)


def _harmed(compute):
    def wrong(*given):
        result = compute(*given)
        if isinstance(result, tuple):
            return result[0] * (1 + 1e-9), result[1]
        return result * (1 + 1e-9)

    return wrong


def main() -> None:
    """Print the errors of one framework."""
    name, precision, what = sys.argv[1:]
    measure = {
        "operations": operation_errors,
        "harmed": harmed_errors,
        "networks": network_errors,
    }[what]
    print(json.dumps(measure(Framework(name, precision))))


if __name__ == "__main__":
    main()
