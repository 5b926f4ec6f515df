"""The specification, executable: a slow numpy program in float64 that every framework must agree with.

In the order of a step: apply_views (warp, adjust_contrast), masks, features, logits, votes_nll, gradients, adam. Then
the posterior and what is asked of it: sample, the acquisitions (mutual_information ... nearest). A network's layers are
in `shared.proof.network`; randomness comes from `shared.run.keys`, which is its own oracle.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import entr, gammaln, logsumexp, xlog1py, xlogy

from shared.data.schema import slices
from shared.method.fine_tuning import layer_of, tuning_of
from shared.method.likelihood import YES_OR_NO, Likelihood
from shared.method.scoring import States
from shared.method.views import Views
from shared.network import interpreter
from shared.network.model import model_of
from shared.network.network import Model, Network
from shared.network.weights import Weights
from shared.proof.likelihood import votes_nll, votes_nll_gradient
from shared.proof.network import forward
from shared.proof.network import gradients as backward
from shared.run import keys
from shared.run.questions import Leads, Questions, layers
from shared.run.spec import ModelSpec, RunSpec, TrainingSpec, shard_count


def apply_views(run: RunSpec, images: np.ndarray, views: Views) -> np.ndarray:
    """What the network is shown, (galaxy, y, x, channel), of uint8 images (galaxy, y, x, channel) under `views`."""
    size, border = run.model.image_size, run.augmentation.border
    planes = np.moveaxis(images, -1, 0)  # all channels are warped alike, and have one mean
    x = np.stack([warp(plane, views, size, border) for plane in planes], -1)
    x = x / 255 if run.model.scale == "unit" else x
    contrast = views.contrast.astype(np.float64)
    return adjust_contrast(x.reshape(len(x), size, -1), contrast).reshape(x.shape)


def warp(images: np.ndarray, views: Views, size: int, border: str) -> np.ndarray:
    """Bilinear samples (galaxy, size, size) of images (galaxy, y, x); see `shared.method.views` for the map."""
    affine, crop = views.affine.astype(np.float64), views.crop
    pixel = np.arange(size)
    q = crop[:, :2, None] + pixel * crop[:, 2, None, None] // size
    rows, columns = (
        affine[:, axis, 0, None, None] * q[:, 0, :, None]
        + affine[:, axis, 1, None, None] * q[:, 1, None, :]
        + affine[:, axis, 2, None, None]
        for axis in (0, 1)
    )
    top, left = np.floor(rows), np.floor(columns)
    down, right = rows - top, columns - left
    galaxy = np.arange(len(images))[:, None, None]
    result = 0.0
    for y, x, share in (
        (top, left, (1 - down) * (1 - right)),
        (top, left + 1, (1 - down) * right),
        (top + 1, left, down * (1 - right)),
        (top + 1, left + 1, down * right),
    ):
        last = images.shape[1] - 1
        inside = (y >= 0) & (y <= last) & (x >= 0) & (x <= last)
        value = images[galaxy, np.clip(y, 0, last).astype(int), np.clip(x, 0, last).astype(int)]
        result = result + share * (np.where(inside, value, 0) if border == "zero" else value)
    return result


def adjust_contrast(x: np.ndarray, contrast: np.ndarray) -> np.ndarray:
    """Images (galaxy, y, x) with another contrast about their mean, and another brightness."""
    mean = x.mean((1, 2), keepdims=True)
    return (x - mean) * contrast[:, 1, None, None] + mean + contrast[:, 0, None, None]


def masks(model: Model, network: Network, galaxy_keys: np.ndarray, index) -> dict[str, np.ndarray]:
    """What each layer of the model, or of a part of it, keeps, by name, for keys (..., 2) at each index (...)."""
    each = np.broadcast_to(index, np.broadcast_shapes(np.shape(index), galaxy_keys.shape[:-1]))
    return interpreter.masks(keys.keep, model, network, galaxy_keys, each)


def features(spec: ModelSpec, weights: Weights, x: np.ndarray) -> np.ndarray:
    """The units (galaxy, unit) of what the network is shown; `weights` are those and the running moments."""
    return forward(model_of(spec).encoder, weights, x, weights).output


def logits(spec: ModelSpec, weights: Weights, units: np.ndarray, kept: dict) -> np.ndarray:
    """The network's outputs (..., answer) of units (..., unit)."""
    return forward(model_of(spec).head, weights, units, None, kept).output


def loss(
    spec: ModelSpec,
    weights: Weights,
    x,
    kept: dict,
    votes: np.ndarray,
    likelihood: Likelihood = YES_OR_NO,
    moments: Weights | None = None,
) -> float:
    """The mean over a batch of the votes' negative log-likelihood, in nats, with the moments of the batch.

    Where `moments` has a layer's, it goes by these.
    """
    units = forward(model_of(spec).encoder, weights, x, moments, kept).output
    return float(votes_nll(likelihood, logits(spec, weights, units, kept), votes).mean())


class Gradients(NamedTuple):
    """The loss of a batch, its gradients, and the moments found in it."""

    loss: float
    gradients: Weights  # the loss' gradient with respect to every weight
    moments: Weights  # those of the batch


def gradients(
    spec: ModelSpec,
    weights: Weights,
    x,
    kept: dict,
    votes: np.ndarray,
    kinks: Weights | None = None,
    moments: Weights | None = None,
    likelihood: Likelihood = YES_OR_NO,
) -> Gradients:
    """The loss and its gradient with respect to every weight, of votes (galaxy, answer).

    `kinks` are another program's activations of the layers, by which ReLU and max-pool choose: which units are above 0,
    which of a square is the largest. `moments` are those of frozen batch norms.
    """
    model = model_of(spec)
    body = forward(model.encoder, weights, x, moments, kept, kinks)
    top = forward(model.head, weights, body.output, None, kept, kinks)
    d_logits = votes_nll_gradient(likelihood, top.output, votes) / len(votes)
    of_head, d_units = backward(model.head, top, d_logits)
    gradients = backward(model.encoder, body, d_units)[0] | of_head
    nll = float(votes_nll(likelihood, top.output, votes).mean())
    return Gradients(
        nll, {name: gradients[name] for name in weights if name in gradients}, body.moments
    )


def fixed_moments(run: RunSpec, moments: Weights) -> Weights:
    """Those of the running `moments` that layers go by in training, in place of the batch's."""
    still, frozen = tuning_of(run.model, run.training).still, run.training.moments == "frozen"
    return {name: value for name, value in moments.items() if frozen or layer_of(name) in still}


def step_gradients(
    run: RunSpec,
    weights: Weights,
    x,
    kept: dict,
    votes: np.ndarray,
    moments: Weights,
    kinks: Weights | None = None,
    likelihood: Likelihood = YES_OR_NO,
) -> Gradients:
    """What a step of training goes by: the means over a batch's shards, each with batch norms' moments of its own.

    Layers before the first that is trained are as at prediction: by running `moments`, and all is kept. Only what is
    trained has gradients.
    """
    tuning, count = tuning_of(run.model, run.training), shard_count(run.training, len(votes))
    running = fixed_moments(run, moments)
    kept = {name: mask for name, mask in kept.items() if name not in tuning.still}
    found = []
    for number in range(count):

        def shard(array, number=number):
            return np.split(array, count)[number]

        own = {name: shard(mask) for name, mask in kept.items()}
        choices = None if kinks is None else {name: shard(value) for name, value in kinks.items()}
        found.append(
            gradients(run.model, weights, shard(x), own, shard(votes), choices, running, likelihood)
        )
    means = [
        {name: np.mean([getattr(one, part)[name] for one in found], 0) for name in names}
        for part, names in (("gradients", tuning.rates), ("moments", found[0].moments))
    ]
    return Gradients(float(np.mean([one.loss for one in found])), *means)


def clipped(spec: TrainingSpec, gradients: Weights) -> Weights:
    """Gradients whose norm, of all together, is at most `spec.clip`: longer ones all by the same factor shorter."""
    norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
    factor = 1.0 if spec.clip is None else min(1.0, spec.clip / norm)
    return {name: factor * gradient for name, gradient in gradients.items()}


def adam(
    spec: TrainingSpec, step: int, weight, first, second, gradient, share: float = 1.0, decay=0.0
):
    """Weight and moments after step `step`, counted from 0 (Kingma and Ba 2015, algorithm 1; "hat": its section 2).

    The rate is that of the head times `share`; by `decay` a weight shrinks (Loshchilov and Hutter 2019, algorithm 2).
    """
    first = spec.beta1 * first + (1 - spec.beta1) * gradient
    second = spec.beta2 * second + (1 - spec.beta2) * gradient**2
    bias1, bias2 = 1 - spec.beta1 ** (step + 1), 1 - spec.beta2 ** (step + 1)
    if spec.epsilon_form == "textbook":
        change = (first / bias1) / (np.sqrt(second / bias2) + spec.epsilon)
    else:
        change = np.sqrt(bias2) / bias1 * first / (np.sqrt(second) + spec.epsilon)
    rate = share * spec.learning_rate
    if step < spec.warmup:
        rate *= (step + 1) / (spec.warmup + 1)
    elif spec.schedule == "cosine":
        rate *= np.cos(np.pi * (step - spec.warmup) / (spec.steps - spec.warmup) / 2) ** 2
    return weight - rate * (change + decay * weight), first, second


def sample(
    run: RunSpec,
    weights: Weights,
    images: np.ndarray,
    views: Views,
    galaxy_keys,
    first: int,
    samples: int,
):
    """Logits (galaxy, sample, answer) under the dropout masks of samples `first` to `first` + `samples`."""
    units, model = (
        features(run.model, weights, apply_views(run, images, views)),
        model_of(run.model),
    )
    numbers = np.arange(first, first + samples)
    kept = masks(model, model.head, galaxy_keys[:, None], numbers)
    return logits(run.model, weights, units[:, None], kept)


def log_votes(samples: np.ndarray, votes: int) -> np.ndarray:
    """ln Binomial(k | N, rho) (galaxy, sample, k), for k = 0 ... N."""
    k = np.arange(votes + 1)
    ways = gammaln(votes + 1) - gammaln(k + 1) - gammaln(votes - k + 1)
    rho = np.asarray(samples, np.float64)[..., None]
    return ways + xlogy(k, rho) + xlog1py(votes - k, -rho)


def mutual_information(samples: np.ndarray, votes: int) -> np.ndarray:
    """What N votes would tell about the network (galaxy,), in nats: H[p(k)] - mean H[p(k | rho)] (W+20, equation 9)."""
    each = log_votes(samples, votes)
    mixed = logsumexp(each, axis=1) - np.log(each.shape[1])
    return _entropy(mixed) - _entropy(each).mean(1)


def entropy(samples: np.ndarray, votes: int) -> np.ndarray:
    """The entropy (galaxy,) of the predicted number of yes votes out of N, in nats."""
    each = log_votes(samples, votes)
    return _entropy(logsumexp(each, axis=1) - np.log(each.shape[1]))


def variance(samples: np.ndarray, votes: int) -> np.ndarray:
    """The variance (galaxy,) of rho over samples; `votes` play no part."""
    return np.var(samples, 1, dtype=np.float64)


def margin(samples: np.ndarray, votes: int) -> np.ndarray:
    """How near (galaxy,) the mean rho is to one half: 1 there, 0 at 0 and 1; `votes` play no part."""
    return 1 - np.abs(2 * np.mean(samples, 1, dtype=np.float64) - 1)


def batch_mutual_information(samples: np.ndarray, votes: int, states: States) -> np.ndarray:
    """What N votes would yet tell about the network (galaxy,), in nats, once the votes of others have come in.

    The mean over states s of I(k; network | s); the sum of it over a batch, each galaxy given those before, is the
    batch's joint mutual information (BatchBALD, Kirsch et al. 2019, equation 8, for counts).
    """
    each = log_votes(samples, votes)
    known = _entropy(each)
    return sum(
        probability * (_entropy(_mixed(each, posterior)) - known @ posterior)
        for probability, posterior in zip(*states, strict=True)
    )


def epig(samples: np.ndarray, votes: int, states: States) -> np.ndarray:
    """What N votes would tell about the votes of others (galaxy,), in nats: H[k] less its mean over states.

    Where the states are all counts of a target's votes, their probabilities those of the counts, it is I(k; k*), and of
    several targets in equal parts its mean over them (Bickford Smith et al. 2023, equation 6, for counts).
    """
    each = log_votes(samples, votes)
    left = sum(
        probability * _entropy(_mixed(each, posterior))
        for probability, posterior in zip(*states, strict=True)
    )
    return _entropy(_mixed(each, states.probabilities @ states.posterior)) - left


def dirichlet_information(concentrations: np.ndarray, votes: int) -> np.ndarray:
    """What N votes on one question would tell about the network (galaxy,), in nats, by enumeration.

    `concentrations` (galaxy, sample, answer) are those of a Dirichlet-multinomial (Walmsley et al. 2022, equation 3).
    """
    logits = concentrations.shape[-1]
    counts = np.array([k for k in np.ndindex(*[votes + 1] * logits) if sum(k) == votes])
    a = np.asarray(concentrations, np.float64)[:, :, None, :]
    whole = a.sum(-1)
    each = gammaln(whole) - gammaln(whole + votes) + (gammaln(a + counts) - gammaln(a)).sum(-1)
    each = each + gammaln(votes + 1) - gammaln(counts + 1).sum(-1)
    return _entropy(logsumexp(each, axis=1) - np.log(each.shape[1])) - _entropy(each).mean(1)


def walk_information(questions: Questions, leads: Leads, fractions: np.ndarray) -> np.ndarray:
    """What one volunteer's answers to all that is asked would tell about the network (galaxy,), in nats.

    H[mean p(walk)] - mean H[p(walk)] over all walks, of vote `fractions` (galaxy, sample, answer).
    """
    each = np.stack(walk_probabilities(questions, leads, np.asarray(fractions, np.float64)), 2)
    return entr(each.mean(1)).sum(1) - entr(each).sum(2).mean(1)


def walk_probabilities(
    questions: Questions, leads: Leads, fractions: np.ndarray
) -> list[np.ndarray]:
    """The probability (...) of every way through the questions, of vote `fractions` (..., answer).

    A question is asked if any answer given leads to it, or if no answer does.
    """
    depth, places = layers(questions, leads), slices(questions)
    walks = [({}, np.ones(fractions.shape[:-1]))]
    for question in sorted(questions, key=depth.__getitem__):
        longer = []
        for given, probability in walks:
            froms = leads.get(question, {})
            if froms and not any(given.get(earlier) in some for earlier, some in froms.items()):
                longer.append((given, probability))
                continue
            each = np.moveaxis(fractions[..., places[question]], -1, 0)
            longer += [
                ({**given, question: answer}, probability * fraction)
                for answer, fraction in zip(questions[question], each, strict=True)
            ]
        walks = longer
    return [probability for _, probability in walks]


def nearest(units: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The Euclidean distance (galaxy,) of units (galaxy, unit) to the nearest of `centres` (centre, unit)."""
    return np.sqrt(((units[:, None] - centres) ** 2).sum(-1)).min(1)


def _entropy(log_probabilities: np.ndarray) -> np.ndarray:
    p = np.exp(log_probabilities)
    return -np.where(p > 0, p * np.where(p > 0, log_probabilities, 0), 0).sum(-1)


def _mixed(log_probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return logsumexp(log_probabilities, axis=1, b=weights[:, None])
