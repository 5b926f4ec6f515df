"""Check 3: the network, layer by layer."""

import numpy as np

from shared.network.model import model_of
from shared.network.operations import Conv, MaxPool
from shared.proof import reference
from shared.proof.kit.arrays import (
    IMAGE,
    Arrays,
    close,
    given,
    given_masks,
    given_pools,
    given_rate,
)
from shared.proof.kit.fixtures import WIDE, Fixtures, double
from shared.proof.network import forward

COUNT = 3
UNIT = "galaxy, unit"
DENSE = {
    "hidden": "the dense layer, before its ReLU",
    "units": "the dense layer, after its ReLU",
}


def layers(fixtures: Fixtures) -> Arrays:
    """The activations of the wide network, then dropout and the answer."""
    model, weights = model_of(WIDE), double(fixtures.wide)
    x, kept = fixtures.viewed[:COUNT], fixtures.masks(model.units, COUNT)
    values = forward(model.encoder, weights, x.astype(np.float64)).values
    result = {
        "in/x": given(x, IMAGE, "images as shown"),
        "in/pooled": given_pools(model),
        "in/keep": given_masks(kept),
        "in/rate": given_rate(WIDE),
    }
    for name, operation, _ in model.encoder:
        if isinstance(operation, Conv):
            result[f"out/{name}"] = close(values[name], IMAGE, "a convolution, before its ReLU")
        elif isinstance(operation, MaxPool):
            result[f"out/{name}"] = close(values[name], IMAGE, "a max-pool")
        elif name in DENSE:
            result[f"out/{name}"] = close(values[name], UNIT, DENSE[name])
    logits = reference.logits(WIDE, weights, values["units"], {"dropout": kept})
    logit = logits[..., 1] - logits[..., 0]
    result["out/logits"] = close(logit, "galaxy", "logits, after dropout")
    return result
