"""A network's layers, one after the other; weights and moments have shared names, and this framework's layout."""

import tensorflow as tf

from shared.network.network import (
    Model,
    Network,
    dropped,
    fused_schedule,
    kept_shapes,
    layer_numbers,
    nested,
    schedule,
    source,
)
from shared.network.operations import BatchNorm, function

from . import layers
from .device import compute_type, number_type
from .keys import keep
from .layers import Given


def encode(model: Model, weights: dict, x, moments: dict | None, kept: dict):
    """The units (galaxy, unit) of what the network is shown, and the moments that batch norms found, by name."""
    units, found = forward(model.encoder, weights, tf.cast(x, compute_type()), moments, kept)
    return tf.cast(units, number_type()), found


def answer_logits(model: Model, weights: dict, units, kept: dict):
    """The logit ln(rho / (1 - rho)) (...) of units (..., unit)."""
    two, _ = forward(model.head, weights, units, None, kept)
    return two[..., 1] - two[..., 0]


def masks(model: Model, network: Network, keys, index) -> dict:
    """What each layer of a part of the model keeps, by name, for keys (..., 2) at each index (...)."""
    rates, numbers = dropped(model.whole), layer_numbers(model)
    start = model.image if network is model.encoder else (model.units,)
    found = {}
    for name, shape in kept_shapes(network, start).items():
        found[name] = keep(keys, index, *(shape or (1,)), rates[name], numbers[name])
        if not shape:
            found[name] = found[name][..., 0]
    return found


def forward(network: Network, weights: dict, x, moments: dict | None, kept: dict):
    """The last layer's activation, and the moments that batch norms found in this batch, by name.

    `moments` None: batch norms divide by those of the batch. `kept` says what each layer that drops something keeps;
    one that is not in it keeps all.
    """
    weights, moments = nested(weights), None if moments is None else nested(moments)
    values, found = {source(network): x}, {}
    for step, over in fused_schedule(network):
        values[step[-1].name], own = compute(step, weights, values, moments, kept)
        found |= {f"{step[0].name}/{part}": value for part, value in own.items()}
        for each in over:
            del values[each]
    return values[network[-1].name], found


def activations(network: Network, weights: dict, x, moments: dict | None, kept: dict) -> dict:
    """Every layer's activation, by name, of what `forward` is given."""
    weights, moments = nested(weights), None if moments is None else nested(moments)
    values = {source(network): x}
    for step, _ in schedule(network):
        values[step[0].name], _ = compute(step, weights, values, moments, kept)
    return {layer.name: values[layer.name] for layer in network}


def encoder_activations(model: Model, weights: dict, x, moments: dict | None, kept: dict) -> dict:
    """Every activation of the encoder, by name, of what `encode` is given."""
    return activations(model.encoder, weights, tf.cast(x, compute_type()), moments, kept)


def compute(step: Network, weights: dict, values: dict, moments: dict | None, kept: dict):
    """What a layer, or several in one, gives of the `values` before it, and the moments it found."""
    name, operation, inputs = step[0]
    own, arrays = weights.get(name, {}), [values[each] for each in inputs]
    if len(step) > 1:
        pool = step[2].operation if len(step) > 2 else None
        return layers.conv_relu_pool(operation, pool, own, *arrays), {}
    given = Given(None if moments is None else moments.get(name), kept.get(name))
    result = getattr(layers, function(operation))(operation, own, given, *arrays)
    return result if isinstance(operation, BatchNorm) else (result, {})
