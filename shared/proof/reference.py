"""The specification, executable: a slow numpy program in float64 that every framework must agree with.

In the order of a step: see (warp, relight), features, dropout, answers, votes_nll, gradients, adam. Then
the posterior and what is asked of it: sample, the acquisitions (mutual_information ... nearest). Randomness comes from
`shared.run.keys`, which is its own oracle.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import gammaln, logsumexp, xlog1py, xlogy

from shared.method.acquisition import States
from shared.method.views import Views
from shared.network.weights import Weights
from shared.run import keys
from shared.run.spec import ModelSpec, RunSpec, TrainingSpec


def see(run: RunSpec, images: np.ndarray, views: Views) -> np.ndarray:
    """What the network is shown, (galaxy, y, x, 1), of uint8 images (galaxy, y, x, 1) under VIEWS (galaxy,)."""
    x = warp(images[..., 0], views, run.model.image_size, run.augmentation.border)
    x = x / 255 if run.model.scale == "unit" else x
    return relight(x, views.light.astype(np.float64))[..., None]


def warp(images: np.ndarray, views: Views, size: int, border: str) -> np.ndarray:
    """Bilinear samples (galaxy, size, size) of images (galaxy, y, x); see `shared.method.views` for the map."""
    turn, window = views.turn.astype(np.float64), views.window
    pixel = np.arange(size)
    q = window[:, :2, None] + pixel * window[:, 2, None, None] // size
    rows, columns = (
        turn[:, axis, 0, None, None] * q[:, 0, :, None]
        + turn[:, axis, 1, None, None] * q[:, 1, None, :]
        + turn[:, axis, 2, None, None]
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


def relight(x: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Images (galaxy, y, x) with another contrast about their mean, and another brightness."""
    mean = x.mean((1, 2), keepdims=True)
    return (x - mean) * light[:, 1, None, None] + mean + light[:, 0, None, None]


def features(
    spec: ModelSpec, weights: Weights, x: np.ndarray, trace: list | None = None
) -> np.ndarray:
    """The dense layer's units (galaxy, unit) of images (galaxy, y, x, 1).

    A TRACE list collects what `gradients` needs.
    """
    number = 0
    for block in spec.blocks:
        for _ in block:
            before, x = (
                x,
                convolve(x, weights[f"conv{number}/kernel"]) + weights[f"conv{number}/bias"],
            )
            _keep(trace, ("conv", number, before, x))
            x, number = np.maximum(x, 0), number + 1
        _keep(trace, ("pool", number, x, None))
        x = max_pool(x)
    _keep(trace, ("flat", number, x, None))
    flat = x.reshape(len(x), -1)
    x = flat @ weights["hidden/kernel"] + weights["hidden/bias"]
    _keep(trace, ("hidden", number, flat, x))
    return np.maximum(x, 0)


def convolve(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """3x3 cross-correlation of (galaxy, y, x, input) with (3, 3, input, output), one pixel of zeros around."""
    return patches(x) @ kernel.reshape(-1, kernel.shape[-1])


def patches(x: np.ndarray) -> np.ndarray:
    """Each pixel's 3x3 surroundings, (galaxy, y, x, 9 * channel), in the order row, column, channel."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = sliding_window_view(padded, (3, 3), axis=(1, 2))
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(*x.shape[:3], -1)


def max_pool(x: np.ndarray) -> np.ndarray:
    """The largest of each 2x2 square, (galaxy, y / 2, x / 2, channel)."""
    return squares(x).max(-1)


def squares(x: np.ndarray) -> np.ndarray:
    """Each 2x2 square's four values, in row-major order, on a last axis."""
    n, y, x_, c = x.shape
    return (
        x.reshape(n, y // 2, 2, x_ // 2, 2, c)
        .transpose(0, 1, 3, 5, 2, 4)
        .reshape(n, y // 2, x_ // 2, c, 4)
    )


def dropout(units: np.ndarray, kept: np.ndarray, rate: float) -> np.ndarray:
    """Units that are kept, scaled up so that their mean stays; the others 0."""
    return np.where(kept, units / (1 - rate), 0)


def answers(weights: Weights, units: np.ndarray) -> np.ndarray:
    """The logit ln(rho / (1 - rho)) (...) of units (..., unit): W+20's softmax over two, the second being rho."""
    two = units @ weights["answer/kernel"] + weights["answer/bias"]
    return two[..., 1] - two[..., 0]


def votes_nll(logits: np.ndarray, yes: np.ndarray, total: np.ndarray) -> np.ndarray:
    """-ln of rho^k (1 - rho)^(N - k), per galaxy (W+20, equation 2, without the binomial coefficient)."""
    return yes * np.logaddexp(0, -logits) + (total - yes) * np.logaddexp(0, logits)


def loss(
    spec: ModelSpec,
    weights: Weights,
    x: np.ndarray,
    kept: np.ndarray,
    yes: np.ndarray,
    total: np.ndarray,
) -> float:
    """The mean over a batch of the votes' negative log likelihood, in nats."""
    units = dropout(features(spec, weights, x), kept, spec.dropout)
    return float(votes_nll(answers(weights, units), yes, total).mean())


def gradients(
    spec: ModelSpec, weights: Weights, x, kept, yes, total, decisions: list | None = None
) -> tuple[float, Weights]:
    """The loss and its slope with respect to every weight, by hand.

    A square's gradient goes to its largest value, the first in row-major order where several are equal. DECISIONS, each
    layer's activation in the order of `features` as somebody else computed it, say in this one's place which units are
    above 0 and which of a square is the largest.
    """
    trace: list = []
    units = features(spec, weights, x, trace)
    dropped = dropout(units, kept, spec.dropout)
    logits = answers(weights, dropped)
    bends = _bends(trace) if decisions is None else decisions
    slope: Weights = {}
    d_logit = (total / (1 + np.exp(-logits)) - yes) / len(logits)
    d_two = np.stack([-d_logit, d_logit], -1)
    slope["answer/kernel"], slope["answer/bias"] = dropped.T @ d_two, d_two.sum(0)
    d = dropout(d_two @ weights["answer/kernel"].T, kept, spec.dropout)
    for (kind, number, before, _), bend in reversed(list(zip(trace, bends, strict=True))):
        if kind == "hidden":
            d = d * (bend > 0)
            slope["hidden/kernel"], slope["hidden/bias"] = before.T @ d, d.sum(0)
            d = d @ weights["hidden/kernel"].T
        elif kind == "flat":
            d = d.reshape(before.shape)
        elif kind == "pool":
            d = _unpool(bend, d)
        else:
            d, kernel = d * (bend > 0), weights[f"conv{number}/kernel"]
            slope[f"conv{number}/kernel"] = (_flat(patches(before)).T @ _flat(d)).reshape(
                kernel.shape
            )
            slope[f"conv{number}/bias"] = d.sum((0, 1, 2))
            d = convolve(d, kernel[::-1, ::-1].transpose(0, 1, 3, 2))
    return float(votes_nll(logits, yes, total).mean()), {name: slope[name] for name in weights}


def _bends(trace: list) -> list:
    """What decides at each entry of a trace: the values before a max-pool, those after a sum elsewhere."""
    return [before if kind in ("pool", "flat") else after for kind, _, before, after in trace]


def adam(spec: TrainingSpec, step: int, weight, first, second, slope):
    """Weight and moments after step STEP, counted from 0 (Kingma and Ba 2015, algorithm 1; "hat": its section 2)."""
    first = spec.beta1 * first + (1 - spec.beta1) * slope
    second = spec.beta2 * second + (1 - spec.beta2) * slope**2
    bias1, bias2 = 1 - spec.beta1 ** (step + 1), 1 - spec.beta2 ** (step + 1)
    if spec.epsilon_form == "textbook":
        change = (first / bias1) / (np.sqrt(second / bias2) + spec.epsilon)
    else:
        change = np.sqrt(bias2) / bias1 * first / (np.sqrt(second) + spec.epsilon)
    rate = spec.learning_rate
    if spec.schedule == "cosine":
        rate *= np.cos(np.pi * step / spec.steps / 2) ** 2
    return weight - rate * change, first, second


def sample(
    run: RunSpec,
    weights: Weights,
    images: np.ndarray,
    views: Views,
    galaxy_keys,
    first: int,
    samples: int,
):
    """rho (galaxy, sample) under the dropout masks of samples FIRST to FIRST + SAMPLES."""
    units = features(run.model, weights, see(run, images, views))
    numbers = np.arange(first, first + samples)
    kept = keys.keep(
        galaxy_keys[:, None],
        np.broadcast_to(numbers, (len(units), samples)),
        units.shape[1],
        run.model.dropout,
    )
    return 1 / (1 + np.exp(-answers(weights, dropout(units[:, None], kept, run.model.dropout))))


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
    """The variance (galaxy,) of rho over samples; VOTES play no part."""
    return np.var(samples, 1, dtype=np.float64)


def margin(samples: np.ndarray, votes: int) -> np.ndarray:
    """How near (galaxy,) the mean rho is to one half: 1 there, 0 at 0 and 1; VOTES play no part."""
    return 1 - np.abs(2 * np.mean(samples, 1, dtype=np.float64) - 1)


def batch_mutual_information(samples: np.ndarray, votes: int, states: States) -> np.ndarray:
    """What N votes would yet tell about the network (galaxy,), in nats, once the votes of others have come in.

    The mean over states s of I(k; network | s); the sum of it over a batch, each galaxy given those before, is the
    batch's joint mutual information (BatchBALD, Kirsch et al. 2019, equation 8, for counts).
    """
    each = log_votes(samples, votes)
    known = _entropy(each)
    return sum(
        chance * (_entropy(_mixed(each, posterior)) - known @ posterior)
        for chance, posterior in zip(*states, strict=True)
    )


def epig(samples: np.ndarray, votes: int, states: States) -> np.ndarray:
    """What N votes would tell about the votes of others (galaxy,), in nats: H[k] less its mean over states.

    Where the states are all counts of a target's votes, their chances those of the counts, it is I(k; k*), and of
    several targets in equal parts its mean over them (Bickford Smith et al. 2023, equation 6, for counts).
    """
    each = log_votes(samples, votes)
    left = sum(
        chance * _entropy(_mixed(each, posterior))
        for chance, posterior in zip(*states, strict=True)
    )
    return _entropy(_mixed(each, states.chances @ states.posterior)) - left


def dirichlet_information(concentrations: np.ndarray, votes: int) -> np.ndarray:
    """What N votes on one question would tell about the network (galaxy,), in nats, by enumeration.

    CONCENTRATIONS (galaxy, sample, answer) are those of a Dirichlet-multinomial (Walmsley et al. 2022, equation 3).
    """
    answers = concentrations.shape[-1]
    counts = np.array([k for k in np.ndindex(*[votes + 1] * answers) if sum(k) == votes])
    a = np.asarray(concentrations, np.float64)[:, :, None, :]
    whole = a.sum(-1)
    each = gammaln(whole) - gammaln(whole + votes) + (gammaln(a + counts) - gammaln(a)).sum(-1)
    each = each + gammaln(votes + 1) - gammaln(counts + 1).sum(-1)
    return _entropy(logsumexp(each, axis=1) - np.log(each.shape[1])) - _entropy(each).mean(1)


def nearest(units: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The Euclidean distance (galaxy,) of units (galaxy, unit) to the nearest of CENTRES (centre, unit)."""
    return np.sqrt(((units[:, None] - centres) ** 2).sum(-1)).min(1)


def _entropy(log_chances: np.ndarray) -> np.ndarray:
    chances = np.exp(log_chances)
    return -np.where(chances > 0, chances * np.where(chances > 0, log_chances, 0), 0).sum(-1)


def _mixed(log_chances: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return logsumexp(log_chances, axis=1, b=weights[:, None])


def _unpool(before: np.ndarray, d: np.ndarray) -> np.ndarray:
    n, y, x, c = before.shape
    first = squares(before).argmax(-1)[..., None] == np.arange(4)
    spread = np.where(first, d[..., None], 0).reshape(n, y // 2, x // 2, c, 2, 2)
    return spread.transpose(0, 1, 4, 2, 5, 3).reshape(n, y, x, c)


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1, x.shape[-1])


def _keep(trace: list | None, entry: tuple) -> None:
    if trace is not None:
        trace.append(entry)
