"""The specification of a network: its layers one after the other, and its gradient by going through them backwards."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from shared.network.network import Network, momenta, nested, source
from shared.network.operations import BatchNorm, function
from shared.proof import operations
from shared.proof.operations import Given, Weights, batch_moments


class Pass(NamedTuple):
    """What going through a network has left behind."""

    values: Weights  # each layer's activation, and what went in
    pullbacks: dict[str, Callable]
    moments: Weights  # those of the batch, for each batch norm that was given none

    @property
    def output(self) -> np.ndarray:
        """The last layer's activation."""
        return list(self.values.values())[-1]


def forward(
    network: Network,
    weights: Weights,
    x: np.ndarray,
    moments: Weights | None = None,
    kept: dict[str, np.ndarray] | None = None,
    kinks: Weights | None = None,
) -> Pass:
    """Go through a network.

    `moments` None: batch norms divide by those of the batch. `kept` says what each layer that drops something keeps;
    one that is not in it keeps all. `kinks` are another program's activations, by which ReLU and max-pool choose.
    """
    parts, running = nested(weights), nested(moments or {})
    values, pullbacks, found = {source(network): x}, {}, {}
    for name, operation, inputs in network:
        own = None if moments is None else running.get(name)
        given = Given(own, (kept or {}).get(name), (kinks or {}).get(inputs[0]))
        arrays = [values[each] for each in inputs]
        compute = getattr(operations, function(operation))
        values[name], pullbacks[name] = compute(operation, parts.get(name, {}), given, *arrays)
        if isinstance(operation, BatchNorm) and own is None:
            found |= {f"{name}/{part}": value for part, value in batch_moments(*arrays).items()}
    return Pass(values, pullbacks, found)


def gradients(network: Network, done: Pass, d: np.ndarray) -> tuple[Weights, np.ndarray]:
    """A loss' gradient with respect to every weight, and to what went in, from that with respect to the last layer."""
    gradients, found = {network[-1].name: d}, {}
    for name, _, inputs in reversed(network):
        for_inputs, for_weights = done.pullbacks[name](gradients.pop(name))
        found |= {f"{name}/{part}": value for part, value in for_weights.items()}
        for each, value in zip(inputs, for_inputs, strict=True):
            gradients[each] = gradients[each] + value if each in gradients else value
    return found, gradients[source(network)]


def blended(network: Network, running: Weights, found: Weights) -> Weights:
    """The running moments after a batch that had the moments `found`, of all batch norms that found some."""
    return {
        name: running[name] + share * (found[name] - running[name])
        for name, share in momenta(network, found).items()
    }
