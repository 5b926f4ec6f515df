"""A network's layers, one after the other; weights and moments have shared names, and this framework's layout."""

import torch

from shared.network import interpreter
from shared.network.network import Model, Network
from shared.network.operations import BatchNorm, function

from . import layers
from .device import compute_type, number_type
from .keys import keep
from .layers import Given


def encode(model: Model, parts: tuple, weights: dict, x, moments: dict | None, kept: dict):
    """The units (galaxy, unit) of what the network is shown, and the moments that batch norms found, by name.

    Units that it is given in place of that are what they are. With `parts` of the encoder, the backward pass computes
    each one's activations anew, instead of keeping them.
    """
    if len(x.shape) == 2:
        return x, {}
    call, parts = (again, parts) if parts else (forward, (model.encoder,))
    mixed = compute_type() != number_type()
    with torch.autocast(x.device.type, compute_type(), enabled=mixed):
        units, found = interpreter.in_parts(call, parts, weights, x, moments, kept)
    return units.to(number_type()), found


def answer_logits(model: Model, weights: dict, units, kept: dict):
    """The network's outputs (..., answer) of units (..., unit)."""
    return forward(model.head, weights, units, None, kept)[0]


def masks(model: Model, network: Network, keys, index) -> dict:
    """What each layer of the model, or of a part of it, keeps, by name, for keys (..., 2) at each index (...)."""
    return interpreter.masks(keep, model, network, keys, index)


def forward(network: Network, weights: dict, x, moments: dict | None, kept: dict):
    """The last layer's activation, and the moments that batch norms found in this batch, by name."""
    return interpreter.forward(compute, network, weights, x, moments, kept)


def again(part: Network, weights: dict, x, moments: dict | None, kept: dict):
    """`forward` of a part of a network, whose activations the backward pass computes anew instead of keeping them."""
    found = {}
    return _Once.apply(part, [*weights], moments, kept, found, x, *weights.values()), found


def activations(network: Network, weights: dict, x, moments: dict | None, kept: dict) -> dict:
    """Every layer's activation, by name, of what `forward` is given."""
    return interpreter.activations(compute, network, weights, x, moments, kept)


def encoder_activations(model: Model, weights: dict, x, moments: dict | None, kept: dict) -> dict:
    """Every activation of the encoder, by name, of what `encode` is given."""
    mixed = compute_type() != number_type()
    with torch.autocast(x.device.type, compute_type(), enabled=mixed):
        return activations(model.encoder, weights, x, moments, kept)


def compute(step: Network, weights: dict, moments: dict | None, kept, *arrays):
    """The output of a layer, or of several in one, for its inputs `arrays`, and the moments it found."""
    operation, given = step[0].operation, Given(moments, kept)
    if len(step) > 1:
        pool = step[2].operation if len(step) > 2 else None
        return layers.conv_relu_pool(operation, pool, weights, *arrays), {}
    result = getattr(layers, function(operation))(operation, weights, given, *arrays)
    return result if isinstance(operation, BatchNorm) else (result, {})


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, part, names, moments, kept, found, x, *values):
        y, new = forward(part, dict(zip(names, values, strict=True)), x, moments, kept)
        found.update(new)
        ctx.save_for_backward(x, *values)
        ctx.rest = part, names, moments, kept, torch.is_autocast_enabled(x.device.type)
        return y

    @staticmethod
    def backward(ctx, d):
        part, names, moments, kept, mixed = ctx.rest
        needed = ctx.needs_input_grad[-1 - len(names) :]
        given = zip(ctx.saved_tensors, needed, strict=True)
        x, *values = (array.detach().requires_grad_(wanted) for array, wanted in given)
        with torch.enable_grad(), torch.autocast(x.device.type, compute_type(), enabled=mixed):
            y, _ = forward(part, dict(zip(names, values, strict=True)), x, moments, kept)
        found = iter(torch.autograd.grad(y, [a for a in (x, *values) if a.requires_grad], d))
        return *[None] * 5, *(next(found) if one else None for one in needed)
