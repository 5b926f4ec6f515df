"""What is learned from labels as they come: a last layer on features, what it expects, whom to ask about next."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy.special import entr

from shared.data.schema import chance_asked
from shared.method.backend import Backend
from shared.method.batches import Labelled
from shared.method.features import Features
from shared.method.laplace import draw, laplace, sample
from shared.method.laplace_sampling import LastLayers, with_posterior
from shared.method.last_layer import LastLayer, refit
from shared.method.likelihood import fractions, learned_questions, likelihood_of
from shared.method.metrics import pieces
from shared.method.pool import Galaxies, choose
from shared.network.weights import Checkpoint
from shared.run.spec import RunSpec

SPREAD = 2.0, 5.0  # of an output before any label, its standard deviation, at least and at most


class Place(NamedTuple):
    """What is learned on."""

    backend: Backend
    run: RunSpec
    state: Any  # the network, of which nothing below the last layer is trained
    start: Checkpoint  # of that network
    features: Features
    kernel: np.ndarray  # (unit, answer), where the search for a last layer begins
    bias: np.ndarray


class Fit(NamedTuple):
    """A last layer, and what follows from it."""

    layer: LastLayer
    rows: frozenset[int]  # that it was fitted to
    expected: np.ndarray  # float32 (row, answer): fractions
    information: float  # nats, the mean over galaxies without labels of what one label would tell
    ranking: list[int]  # rows to ask about next, the best first


def last_layer(place: Place, labelled: Labelled) -> LastLayer:
    """The last layer at the mode of its posterior, by the votes of those `labelled`.

    The likeliest precision of the prior is a bad guess of few labels: there seems to be nothing to learn. So outputs
    have a standard deviation within SPREAD by it. With 20, 50, 100 and 200 labels of synthetic galaxies the mean error
    (RMSE) is then .204, .195, .170 and .160, and else .238, .211, .178 and .161 (means of 12 seeds).
    """
    likelihood, units = likelihood_of(place.run), place.features[labelled.rows]
    given = likelihood, units, labelled.votes, place.kernel, place.bias
    square = 1 + float((np.asarray(units, np.float64) ** 2).sum(1).mean())
    high, low = (square / spread**2 for spread in SPREAD)
    found = refit(*given)
    priors = tuple(float(np.clip(prior, low, high)) for prior in found.priors)
    return found if priors == found.priors else refit(*given, priors)


def sampled_layers(place: Place, labelled: Labelled, layer: LastLayer, samples: int) -> LastLayers:
    """`samples` last layers, drawn from the posterior about `layer`, which was fitted to those `labelled`."""
    likelihood, units = likelihood_of(place.run), place.features[labelled.rows]
    posterior = laplace(likelihood, units, labelled.votes, *layer)
    drawn = draw(posterior, samples, place.run.seed).astype(np.float32)
    names = [name for name, _ in likelihood.questions]
    about = {
        name: {"refit": True, "scale": 1.0, "priors": [float(prior)]}
        for name, prior in zip(names, layer.priors, strict=True)
    }
    return LastLayers((drawn,), about)


def learn(place: Place, labelled: Labelled, pool: Labelled, number: int, count: int) -> Fit:
    """What follows from those `labelled`; `count` galaxies of the `pool` are chosen, in the round `number`."""
    run, likelihood = place.run, likelihood_of(place.run)
    layer = last_layer(place, labelled)
    layers = sampled_layers(place, labelled, layer, run.acquisition.samples)
    (drawn,) = layers.drawn
    everyone = np.arange(len(place.features))
    expected = np.zeros((len(everyone), run.model.answers), np.float32)
    told = np.zeros(len(everyone))
    for piece in pieces(len(everyone), drawn[:, 0].size):
        shares = fractions(likelihood, sample(drawn, place.features[everyone[piece]]))
        expected[piece], told[piece] = shares.mean(1), label_information(run, shares)
    spec = replace(run.acquisition, per_round=min(count, len(pool.rows)), expected_votes=1)
    sampler = with_posterior(place.backend, run, place.state, layers)
    nobody = pool.take(np.arange(0))
    galaxies = Galaxies(labelled, pool, nobody, nobody)
    of_round = replace(run, acquisition=spec)
    chosen = choose(sampler, of_round, place.state, place.features, galaxies, number)
    mean = float(told[pool.rows].mean()) if len(pool.rows) else 0.0
    rows = frozenset(labelled.rows.tolist())
    return Fit(layer, rows, expected, mean, chosen.galaxies.rows.tolist())


def label_information(run: RunSpec, shares: np.ndarray) -> np.ndarray:
    """What one person's answers would tell (galaxy,), in nats, of fractions `shares` (galaxy, sample, answer).

    It is summed over questions, each by the chance that it is asked. One vote is drawn by the fractions alone: how much
    crowds scatter does not matter.
    """
    questions, leads = learned_questions(run)
    asked = chance_asked(questions, leads, shares.mean(1))
    told = entr(shares.mean(1)) - entr(shares).mean(1)
    each = [told[:, at].sum(1) for at in likelihood_of(run).slices]
    return (asked * np.maximum(np.stack(each, -1), 0)).sum(1)


def agreement(answers: Sequence[tuple[float, bool]]) -> dict[str, float | None] | None:
    """How labels agreed with what was expected, by the log loss (nats) of each of `answers` and whether it was the
    likeliest.

    "share" that was, with Wilson's interval of 90 %, and the mean "loss" with its standard error; None of no answers.
    """
    if not answers:
        return None
    loss, hit = np.array(answers, float).T
    count, share, z = len(loss), hit.mean(), 1.645
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = (
        z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    )
    return {
        "answers": count,
        "share": float(share),
        "low": float(middle - half),
        "high": float(middle + half),
        "loss": float(loss.mean()),
        "error": float(loss.std(ddof=1) / np.sqrt(count)) if count > 1 else None,
    }
