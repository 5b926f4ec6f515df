"""The network as a module of the framework's own layers, for programs that know nothing of this one."""

import io
from functools import partial

import numpy as np
import torch
from torch import fx, nn

from shared.network import operations as ops
from shared.network.network import IMAGE, Model, moment_shapes, shapes, weight_shapes
from shared.network.pixels import places, taps

from .weights import from_layout, to_layout

NORM = {"scale": "weight", "mean": "running_mean", "variance": "running_var"}


def as_module(model: Model, weights: dict, moments: dict):
    """A native module with these weights and running moments, arrays under shared names, in their precision.

    Images in, as its users expect them (galaxy, channel, y, x), and the answers' logits (galaxy, answer) out. Layers
    have the names that they have here, with dots. It is a graph of PyTorch's own modules and functions.
    """
    graph, root, found = fx.Graph(), {}, shapes(model.whole, model.image)
    values = {IMAGE: fx.Proxy(graph.placeholder(IMAGE))}
    kind = torch.from_numpy(next(iter(weights.values()))).dtype
    for name, operation, inputs in model.whole:
        target, shape = name.replace("/", "."), found[inputs[0]]
        if (layer := _layer(operation, shape)) is not None:
            root[target] = layer.to(kind)
        for part, array in _arrays(operation, shape, kind).items():
            root[f"{target}.{part}"] = array
        own = (partial(_call, graph, target), partial(_get, graph, target))
        values[name] = _apply(operation, shape, own, *(values[each] for each in inputs))
    graph.output(values[model.whole[-1].name].node)
    module = fx.GraphModule(root, graph)
    _fill(module, model, weights, moments)
    return module


def weights_of(module) -> tuple[dict, dict]:
    """The weights and the running moments of a native module, arrays under shared names: what `as_module` was given."""
    weights, moments = {}, {}
    for target, layer in module.named_modules():
        for part in ("kernel", "scale", "bias", "mean", "variance"):
            if (value := _value(layer, part)) is not None:
                named = moments if part in ("mean", "variance") else weights
                named[f"{target.replace('.', '/')}/{part}"] = from_layout(value)
    return weights, moments


def to_bytes(module, model: Model) -> bytes:
    """A native module as a file that the framework reads by itself: images in, logits out, without dropout."""
    kind = next(module.parameters()).dtype
    images = torch.zeros(2, model.image[2], *model.image[:2], dtype=kind)
    shapes = ({0: torch.export.Dim("galaxy")},)
    done, file = torch.export.export(module.eval(), (images,), dynamic_shapes=shapes), io.BytesIO()
    torch.export.save(done, file)
    return file.getvalue()


def _fill(module, model: Model, weights: dict, moments: dict) -> None:
    """Give a module its weights and running moments; KeyError for one that is missing."""
    names = (weight_shapes, moment_shapes)
    for named, wanted in zip((weights, moments), names, strict=True):
        for name in wanted(model.whole, model.image):
            layer, _, part = name.rpartition("/")
            own = _value(module.get_submodule(layer.replace("/", ".")), part)
            with torch.no_grad():
                own.copy_(to_layout(torch.from_numpy(np.array(named[name]))))


def _value(layer, part: str):
    """The variable of a layer that is its kernel, scale, bias, mean or variance; None if it has none."""
    if isinstance(layer, (nn.BatchNorm2d, nn.LayerNorm)):
        part = NORM.get(part, part)
    elif part == "kernel":
        part = "weight"
    value = getattr(layer, part, None)
    return value if isinstance(value, torch.Tensor) else None


def _layer(operation, shape):
    """The framework's layer for an operation on activations of a shape; None if functions are enough."""
    match operation:
        case ops.Conv(filters, kernel, stride, padding, groups, bias):
            sizes = {"stride": stride, "padding": padding, "groups": groups, "bias": bias}
            return nn.Conv2d(shape[-1], filters, kernel, **sizes)
        case ops.Dense(units):
            return nn.Linear(shape[-1], units)
        case ops.BatchNorm(epsilon, momentum):
            return nn.BatchNorm2d(shape[-1], epsilon, momentum)
        case ops.LayerNorm(epsilon):
            return nn.LayerNorm(shape[-1], epsilon)
        case ops.Relu():
            return nn.ReLU()
        case ops.Gelu():
            return nn.GELU()
        case ops.Silu():
            return nn.SiLU()
        case ops.Sigmoid():
            return nn.Sigmoid()
        case ops.MaxPool(kernel, stride, padding):
            return nn.MaxPool2d(kernel, stride, padding)
        case ops.Dropout(rate) | ops.StochasticDepth(rate):
            return nn.Dropout(rate)
    return None


def _arrays(operation, shape, kind) -> dict:
    """The weights and constants of an operation that the framework has no layer for."""
    match operation:
        case ops.Standardise():
            return {part: torch.ones(shape[-1], dtype=kind) for part in ("mean", "variance")}
        case ops.Scale():
            return {"scale": nn.Parameter(torch.ones(shape[-1], dtype=kind))}
        case ops.Turned(degrees):
            index, share = taps(shape[0], degrees)
            return {"index": torch.from_numpy(index), "share": torch.from_numpy(share).to(kind)}
        case ops.Views(size):
            return {"index": torch.from_numpy(places(shape[0], size).reshape(-1))}
    return {}


def _call(graph, target, x):
    return fx.Proxy(graph.call_module(target, (x.node,)))


def _get(graph, target, part):
    return fx.Proxy(graph.get_attr(f"{target}.{part}"))


def _apply(operation, shape, own, x, *others):
    """An operation's output for (galaxy, channel, y, x), or units; `own` calls its layer, and gets its arrays."""
    call, get = own
    match operation:
        case ops.LayerNorm() if len(shape) == 3:
            return call(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        case ops.StochasticDepth():
            return x * call(torch.ones_like(x[:, :1, :1, :1]))
        case ops.Standardise():
            mean, variance = (get(part)[:, None, None] for part in ("mean", "variance"))
            return (x - mean) * variance.rsqrt()
        case ops.Scale():
            return x * get("scale")[:, None, None]
        case ops.Mean():
            return x.mean((2, 3))
        case ops.Add():
            return x + others[0]
        case ops.Multiply():
            return x * others[0][:, :, None, None]
        case ops.Flatten():
            return x.permute(0, 2, 3, 1).flatten(1)
        case ops.Maxout(pieces):
            return x.unflatten(-1, (-1, pieces)).max(-1).values
        case ops.Turned():
            pixels = x.flatten(2)[:, :, get("index").flatten()]
            pixels = pixels.unflatten(2, (4, -1)) * get("share")
            return torch.cat([x, pixels.sum(2).unflatten(2, shape[:2])], 1)
        case ops.Views(size):
            pixels = x.unflatten(1, (2, -1)).transpose(1, 2).flatten(2)[:, :, get("index")]
            views = pixels.unflatten(2, (16, size, size)).transpose(1, 2)
            return views.flatten(0, 1)
        case ops.Gather(views):
            return x.reshape(-1, views * shape[-1])
    return call(x)
