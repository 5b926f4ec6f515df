"""Check 5: the gradient of the loss with respect to every weight, without ties and with."""

import numpy as np

from shared.network.model import model_of
from shared.network.operations import MaxPool, Relu
from shared.network.weights import Weights, init_weights
from shared.proof import reference
from shared.proof.kit.arrays import (
    IMAGE,
    ONE,
    Arrays,
    by_weight,
    close,
    given,
    given_masks,
    given_pools,
    given_rate,
)
from shared.proof.kit.fixtures import NARROW, WIDE, Fixtures, double
from shared.proof.network import forward
from shared.run.spec import ModelSpec

COUNT = 8
PARTS = 4  # so many batches of galaxies are looked at for kinks, for memory


def gradients(fixtures: Fixtures) -> Arrays:
    """Those of a batch in the wide network, and of the same in a narrow one that is full of ties."""
    parts = np.array_split(fixtures.viewed, PARTS)
    away = np.concatenate([_from_kinks(WIDE, fixtures.wide, part) for part in parts])
    clear = np.sort(np.argsort(-away)[:COUNT])
    votes = fixtures.labelled.take(clear)
    x = fixtures.viewed[clear]
    tied = _tied(fixtures)
    kept, kept_tied = (fixtures.masks(spec.dense, COUNT) for spec in (WIDE, NARROW))
    found, found_tied = (
        reference.gradients(
            spec, double(weights), x.astype(np.float64), {"dropout": masks}, votes.votes
        )
        for spec, weights, masks in ((WIDE, fixtures.wide, kept), (NARROW, tied, kept_tied))
    )
    return {
        "in/x": given(x, IMAGE, "images as shown"),
        "in/pooled": given_pools(model_of(WIDE)),
        "in/keep": given_masks(kept),
        "in/rate": given_rate(WIDE),
        "in/yes": given(votes.yes.astype(np.float64), "galaxy", "k, yes votes"),
        "in/total": given(votes.total.astype(np.float64), "galaxy", "N, votes"),
        "out/loss": close([found.loss], ONE, "the mean loss"),
        **by_weight("out/slope", found.gradients, "a gradient", close),
        **by_weight("in/tied/weights", tied, "a weight of the narrow network", given),
        "in/tied/keep": given_masks(kept_tied),
        **by_weight(
            "out/tied",
            found_tied.gradients,
            "a gradient, every square of the first pool tied",
            close,
        ),
    }


def _tied(fixtures: Fixtures) -> Weights:
    """Weights of the narrow network with which all that enters its first max-pool is equal, and above 0."""
    weights = fixtures.with_biases(init_weights(NARROW, fixtures.seed))
    weights["conv1/kernel"] = np.zeros_like(weights["conv1/kernel"])
    weights["conv1/bias"] = np.abs(weights["conv1/bias"]) + np.float32(0.25)
    return weights


def _from_kinks(spec: ModelSpec, weights: Weights, x: np.ndarray) -> np.ndarray:
    """How far each galaxy is from a kink of ReLU or max-pool, as a share of the layer's largest input."""
    network = model_of(spec).encoder
    values = forward(network, double(weights), x.astype(np.float64)).values
    made_of = {layer.name: layer.inputs[0] for layer in network}
    distance = np.full(len(x), np.inf)
    for _, operation, (before,) in network:
        if isinstance(operation, Relu):
            gap, size = np.abs(values[before]), values[made_of[before]]
        elif isinstance(operation, MaxPool):
            gap, size = _lead(values[before]), values[before]
        else:
            continue
        gap = gap.reshape(len(x), -1).min(1) / np.abs(size).max()
        distance = np.minimum(distance, gap)
    return distance


def _lead(x: np.ndarray) -> np.ndarray:
    """By how much the largest of each 2 x 2 square exceeds the second; infinite where all are 0, which ReLU decided."""
    galaxies, y, x_, channels = x.shape
    squares = x.reshape(galaxies, y // 2, 2, x_ // 2, 2, channels).swapaxes(2, 3)
    ordered = np.sort(squares.reshape(galaxies, y // 2, x_ // 2, 4, channels), 3)
    largest, second = ordered[..., 3, :], ordered[..., 2, :]
    return np.where(largest > 0, largest - second, np.inf)
