"""The network as a module of the framework's own layers, for programs that know nothing of this one."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import export

from shared.network import operations as ops
from shared.network.network import Model, Network, moment_shapes, shapes, source, weight_shapes
from shared.network.pixels import places, taps

from .weights import from_layout


def as_module(model: Model, weights: dict, moments: dict):
    """A native module with these weights and running moments, arrays under shared names, in their precision.

    Images in, as its users expect them (galaxy, y, x, channel), and the answers' logits (galaxy, answer) out. Layers
    have the names that they have here, with dots. It is a module with Flax' own layers in its attribute `layers`.
    """
    found, kind = shapes(model.whole, model.image), next(iter(weights.values())).dtype
    rngs, layers = nnx.Rngs(0), {}
    for name, operation, inputs in model.whole:
        layer = _layer(operation, found[inputs[0]], {"dtype": kind, "param_dtype": kind}, rngs)
        if layer is not None:
            layers[name.replace("/", ".")] = layer
    module = _Module(model.whole, nnx.Dict(layers))
    _fill(module, model, weights, moments)
    return module


def weights_of(module) -> tuple[dict, dict]:
    """The weights and the running moments of a native module, arrays under shared names: what `as_module` was given."""
    weights, moments = {}, {}
    for target, layer in module.layers.items():
        for part in ("kernel", "scale", "bias", "mean", "variance"):
            if (value := _value(layer, part)) is not None:
                named = moments if part in ("mean", "variance") else weights
                named[f"{target.replace('.', '/')}/{part}"] = from_layout(value[...])
    return weights, moments


def to_bytes(module, model: Model) -> bytes:
    """A native module as a file that the framework reads by itself: images in, logits out, without dropout."""
    module.eval()
    graph, state = nnx.split(module)
    kind = next(iter(jax.tree.leaves(nnx.state(module, nnx.Param)))).dtype
    shape = export.symbolic_shape(f"galaxy, {', '.join(map(str, model.image))}")
    call = jax.jit(lambda x: nnx.merge(graph, state)(x))
    done = export.export(call, platforms=("cpu", "cuda"))(jax.ShapeDtypeStruct(shape, kind))
    return bytes(done.serialize())


def _fill(module, model: Model, weights: dict, moments: dict) -> None:
    """Give a module its weights and running moments; KeyError for one that is missing."""
    names = (weight_shapes, moment_shapes)
    for named, wanted in zip((weights, moments), names, strict=True):
        for name in wanted(model.whole, model.image):
            layer, _, part = name.rpartition("/")
            _value(module.layers[layer.replace("/", ".")], part).set_value(jnp.asarray(named[name]))


def _value(layer, part: str):
    """The variable of a layer that is its kernel, scale, bias, mean or variance; None if it has none."""
    if isinstance(layer, nnx.Param):  # times a factor for each channel
        return layer if part == "scale" else None
    value = getattr(layer, {"variance": "var"}.get(part, part), None)
    return value if isinstance(value, nnx.Variable) else None


class _Module(nnx.Module):
    """Layers in the order of a network's data."""

    def __init__(self, network: Network, layers: nnx.Dict):
        self.network, self.layers = network, layers

    def __call__(self, x):
        values = {source(self.network): x}
        for name, operation, inputs in self.network:
            layer = self.layers.get(name.replace("/", "."))
            values[name] = _apply(operation, layer, *(values[each] for each in inputs))
        return values[self.network[-1].name]


def _layer(operation, shape, kinds: dict, rngs):
    """The framework's layer for an operation on activations of a shape; None if functions are enough."""
    common = {**kinds, "rngs": rngs}
    empty = {"kernel_init": nnx.initializers.zeros}  # quicker than numbers that nobody sees
    match operation:
        case ops.Conv(filters, kernel, stride, padding, groups, bias):
            sizes = {"padding": padding, "feature_group_count": groups, "use_bias": bias}
            return nnx.Conv(
                shape[-1], filters, (kernel, kernel), stride, **sizes, **empty, **common
            )
        case ops.Dense(units):
            return nnx.Linear(shape[-1], units, **empty, **common)
        case ops.BatchNorm(epsilon, momentum):
            how = {"epsilon": epsilon, "momentum": 1 - momentum, "use_fast_variance": False}
            return nnx.BatchNorm(shape[-1], **how, **common)
        case ops.Standardise():
            plain = {"epsilon": 0.0, "use_bias": False, "use_scale": False}
            return nnx.BatchNorm(shape[-1], use_running_average=True, **plain, **common)
        case ops.LayerNorm(epsilon):
            return nnx.LayerNorm(shape[-1], epsilon=epsilon, use_fast_variance=False, **common)
        case ops.Scale():
            return nnx.Param(jnp.ones(shape[-1], kinds["param_dtype"]))
        case ops.Dropout(rate):
            return nnx.Dropout(rate, rngs=rngs)
        case ops.StochasticDepth(rate):
            return nnx.Dropout(rate, broadcast_dims=(1, 2, 3), rngs=rngs)
    return None


def _apply(operation, layer, x, *others):
    """An operation's output for activations (galaxy, y, x, channel), or units; `layer` is its own, if it has one."""
    match operation:
        case ops.Scale():
            return x * layer[...]
        case ops.Relu() | ops.Silu() | ops.Sigmoid():
            return getattr(nnx, ops.function(operation))(x)
        case ops.Gelu():
            return nnx.gelu(x, approximate=False)
        case ops.MaxPool(kernel, stride, padding):
            sizes = {"strides": (stride, stride), "padding": ((padding, padding),) * 2}
            return nnx.max_pool(x, (kernel, kernel), **sizes)
        case ops.Mean():
            return x.mean((1, 2))
        case ops.Add():
            return x + others[0]
        case ops.Multiply():
            return x * others[0][:, None, None]
        case ops.Flatten():
            return x.reshape(x.shape[0], -1)
        case ops.Maxout(pieces):
            return x.reshape(x.shape[0], -1, pieces).max(-1)
        case ops.Turned(degrees):
            index, share = taps(x.shape[1], degrees)
            pixels = x.reshape(x.shape[0], -1, x.shape[3])[:, index] * share[..., None].astype(
                x.dtype
            )
            return jnp.concatenate([x, pixels.sum(1).reshape(x.shape)], -1)
        case ops.Views(size):
            side, half = x.shape[1], x.shape[3] // 2
            pixels = (
                x.reshape(x.shape[0], side**2, 2, half).swapaxes(1, 2).reshape(x.shape[0], -1, half)
            )
            views = pixels[:, places(side, size).reshape(-1)]
            return views.reshape(-1, size, size, half)
        case ops.Gather(views):
            return x.reshape(-1, views * x.shape[-1])
    return layer(x)
