"""Going through a network, layer by layer: one loop for every framework, which brings what computes a layer."""

from collections.abc import Callable, Sequence
from typing import Any

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

Compute = Callable[..., tuple[Any, dict]]  # (step, weights, moments, kept, *inputs) of one layer


def forward(
    compute: Compute, network: Network, weights: dict, x, moments: dict | None, kept: dict
) -> tuple[Any, dict]:
    """The last layer's activation, and the moments that batch norms found in this batch, by name.

    `moments` None: batch norms divide by those of the batch. `kept` says what each layer that drops something keeps;
    one that is not in it keeps all.
    """
    parts, running = nested(weights), None if moments is None else nested(moments)
    values, found = {source(network): x}, {}
    for step, over in fused_schedule(network):
        values[step[-1].name], own = _computed(compute, step, parts, values, running, kept)
        found |= {f"{step[0].name}/{part}": value for part, value in own.items()}
        for each in over:
            del values[each]
    return values[network[-1].name], found


def in_parts(
    again: Callable,
    parts: Sequence[Network],
    weights: dict,
    x,
    moments: dict | None,
    kept: dict,
) -> tuple[Any, dict]:
    """What `forward` gives of the network that consists of `parts`, each of which leads on by one activation alone.

    `again`(part, weights, x, moments, kept) is `forward`, or one that keeps no activation of its part for the backward
    pass, but computes them a second time: from the same inputs and masks, so that they are the same to the last bit.
    """
    found: dict = {}
    for part in parts:
        names = {layer.name for layer in part}
        running = None if moments is None else _of(names, moments)
        own = {name: mask for name, mask in kept.items() if name in names}
        x, new = again(part, _of(names, weights), x, running, own)
        found |= new
    return x, found


def activations(
    compute: Compute, network: Network, weights: dict, x, moments: dict | None, kept: dict
) -> dict:
    """Every layer's activation, by name, of what `forward` is given."""
    parts, running = nested(weights), None if moments is None else nested(moments)
    values = {source(network): x}
    for step, _ in schedule(network):
        values[step[0].name], _ = _computed(compute, step, parts, values, running, kept)
    return {layer.name: values[layer.name] for layer in network}


def masks(keep: Callable, model: Model, network: Network, keys, index) -> dict:
    """What each layer of the model, or of a part of it, keeps, by name, for keys (..., 2) at each index (...).

    `keep` draws for (keys, index, units, rate, layer), as `shared.run.keys.keep`.
    """
    rates, numbers = dropped(model.whole), layer_numbers(model)
    start = (model.units,) if network is model.head else model.image
    found = {}
    for name, shape in kept_shapes(network, start).items():
        kept = keep(keys, index, *(shape or (1,)), rates[name], numbers[name])
        found[name] = kept if shape else kept[..., 0]
    return found


def _of(layers: set[str], named: dict) -> dict:
    """Those of the arrays, called layer/part, that are of `layers`."""
    return {name: value for name, value in named.items() if name.rpartition("/")[0] in layers}


def _computed(compute, step, weights, values, moments, kept):
    name, _, inputs = step[0]
    running = None if moments is None else moments.get(name)
    arrays = (values[each] for each in inputs)
    return compute(step, weights.get(name, {}), running, kept.get(name), *arrays)
