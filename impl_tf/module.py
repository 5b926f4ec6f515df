"""The network as a module of the framework's own layers, for programs that know nothing of this one."""

import math
import tempfile
from pathlib import Path

import keras
import numpy as np
from keras import ops as k

from shared.network import operations as ops
from shared.network.network import Model, moment_shapes, shapes, source, weight_shapes
from shared.network.pixels import places, taps

NORMS = (keras.layers.BatchNormalization, keras.layers.LayerNormalization)
NORM = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "variance": "moving_variance"}

LEAST = -3e38  # below all pixels that a max-pool sees


def as_module(model: Model, weights: dict, moments: dict):
    """A native module with these weights and running moments, arrays under shared names, in their precision.

    Images in, as its users expect them (galaxy, y, x, channel), and the answers' logits (galaxy, answer) out. Layers
    have the names that they have here, with dots. It is a functional model of Keras' own layers and operations.
    """
    found, kind = shapes(model.whole, model.image), next(iter(weights.values())).dtype.name
    values = {source(model.whole): keras.Input(model.image, dtype=kind)}
    (image,) = values.values()
    for name, operation, inputs in model.whole:
        layer = _layer(operation, found[inputs[0]], {"name": name.replace("/", "."), "dtype": kind})
        values[name] = _apply(
            operation, found[inputs[0]], layer, *(values[each] for each in inputs)
        )
    module = keras.Model(image, values[model.whole[-1].name])
    _fill(module, model, weights, moments)
    return module


def weights_of(module) -> tuple[dict, dict]:
    """The weights and the running moments of a native module, arrays under shared names: what `as_module` was given."""
    weights, moments = {}, {}
    for layer in module.layers:
        name = layer.name.replace(".", "/")
        for part in ("kernel", "scale", "bias", "mean", "variance"):
            if (value := _value(layer, part)) is not None:
                array = np.array(k.convert_to_numpy(value))
                named = moments if part in ("mean", "variance") else weights
                named[f"{name}/{part}"] = array.swapaxes(2, 3) if _turned(layer, part) else array
    return weights, moments


def to_bytes(module, model: Model) -> bytes:
    """A native module as a file that the framework reads by itself: images in, logits out, without dropout."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.keras"
        module.save(path)
        return path.read_bytes()


def _fill(module, model: Model, weights: dict, moments: dict) -> None:
    """Give a module its weights and running moments; KeyError for one that is missing."""
    names = (weight_shapes, moment_shapes)
    for named, wanted in zip((weights, moments), names, strict=True):
        for name in wanted(model.whole, model.image):
            layer, _, part = name.rpartition("/")
            own = module.get_layer(layer.replace("/", "."))
            array = np.asarray(named[name])
            _value(own, part).assign(array.swapaxes(2, 3) if _turned(own, part) else array)


def _turned(layer, part: str) -> bool:
    """Whether the last two axes of an array are the other way round in Keras."""
    return part == "kernel" and isinstance(layer, keras.layers.DepthwiseConv2D)


def _value(layer, part: str):
    """The variable of a layer that is its kernel, scale, bias, mean or variance; None if it has none."""
    if isinstance(layer, keras.layers.EinsumDense):  # times a factor for each channel
        part = {"scale": "kernel"}.get(part, "none")
    elif isinstance(layer, NORMS):
        part = NORM.get(part, "none")
    value = getattr(layer, part, None)
    return value if isinstance(value, keras.Variable) else None


def _layer(operation, shape, common: dict):
    """The framework's layer for an operation on activations of a shape; None if functions are enough."""
    layers = keras.layers
    match operation:
        case ops.Conv(filters, kernel, stride, padding, groups, bias):
            same = stride == 1 and 2 * padding == kernel - 1
            common |= {"padding": "same" if same else "valid", "use_bias": bias}
            if groups == filters == shape[-1]:  # others have no gradient on a CPU
                return layers.DepthwiseConv2D(kernel, stride, **common)
            return layers.Conv2D(filters, kernel, stride, groups=groups, **common)
        case ops.Dense(units):
            return layers.Dense(units, **common)
        case ops.BatchNorm(epsilon, momentum):
            return layers.BatchNormalization(momentum=1 - momentum, epsilon=epsilon, **common)
        case ops.Standardise():
            plain = {"epsilon": 0.0, "center": False, "scale": False, "trainable": False}
            return layers.BatchNormalization(**plain, **common)
        case ops.LayerNorm(epsilon):
            return layers.LayerNormalization(epsilon=epsilon, **common)
        case ops.Scale():
            return layers.EinsumDense("abcd,d->abcd", (None, None, shape[-1]), **common)
        case ops.Relu() | ops.Silu() | ops.Sigmoid():
            return layers.Activation(ops.function(operation), **common)
        case ops.MaxPool(kernel, stride):
            return layers.MaxPooling2D(kernel, stride, **common)
        case ops.Mean():
            return layers.GlobalAveragePooling2D(**common)
        case ops.Add():
            return layers.Add(**common)
        case ops.Multiply():
            return layers.Multiply(**common)
        case ops.Flatten():
            return layers.Flatten(**common)
        case ops.Dropout(rate):
            return layers.Dropout(rate, **common)
        case ops.StochasticDepth(rate):
            return layers.Dropout(rate, noise_shape=(None, 1, 1, 1), **common)
    return None


def _apply(operation, shape, layer, x, *others):
    """An operation's output for activations (galaxy, y, x, channel), or units; `layer` is its own, if it has one."""
    match operation:
        case ops.Conv(_, _, _, padding) if layer.padding == "valid" and padding:
            return layer(keras.layers.ZeroPadding2D(padding, dtype=layer.dtype)(x))
        case ops.MaxPool(_, _, padding) if padding:
            edges = ((0, 0), (padding, padding), (padding, padding), (0, 0))
            return layer(k.pad(x, edges, constant_values=LEAST))
        case ops.Gelu():  # Keras' own has a root in float32
            return x * (0.5 + 0.5 * k.erf(x * math.sqrt(0.5)))
        case ops.Multiply():
            return layer([x, k.reshape(others[0], (-1, 1, 1, shape[-1]))])
        case ops.Maxout(pieces):
            return k.max(k.reshape(x, (-1, shape[-1] // pieces, pieces)), -1)
        case ops.Turned(degrees):
            index, share = taps(shape[0], degrees)
            pixels = k.take(k.reshape(x, (-1, shape[0] ** 2, shape[2])), index.reshape(-1), axis=1)
            pixels = k.reshape(pixels, (-1, *index.shape, shape[2])) * share[..., None].astype(
                x.dtype
            )
            return k.concatenate([x, k.reshape(k.sum(pixels, 1), (-1, *shape))], -1)
        case ops.Views(size):
            index, half = places(shape[0], size).reshape(-1), shape[2] // 2
            pixels = k.transpose(k.reshape(x, (-1, shape[0] ** 2, 2, half)), (0, 2, 1, 3))
            views = k.take(k.reshape(pixels, (-1, 2 * shape[0] ** 2, half)), index, axis=1)
            return k.reshape(views, (-1, size, size, half))
        case ops.Gather(views):
            return k.reshape(x, (-1, views * shape[-1]))
    return layer([x, *others] if others else x)
