"""Acquisition functions: scores of galaxies, the larger the sooner labelled; and distances."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from shared.method.scoring import States, over_counts, over_pieces, to_centres

from . import device

MIN_LOG_SHARE = -46.0  # ln of a share that tells nothing: smaller ones are denormal, which is slow


def acquire(name: str, samples, expected_votes, states: States | None = None) -> np.ndarray:
    """Scores (galaxy,) in nats of `samples` (galaxy, sample) of rho; `expected_votes` is a number, or one per galaxy.

    `name` is mutual_information or entropy, or batch_mutual_information or epig, which take the `states` that the votes
    of others can leave the posterior in. Raises ValueError for samples, votes or states that are not such.
    """
    return over_pieces(device, partial(score, name), samples, expected_votes, states)


def dirichlet_information(concentrations, expected_votes: int) -> np.ndarray:
    """What `expected_votes` on one question would tell about the network (galaxy,), in nats.

    `concentrations` (galaxy, sample, answer) are those of a Dirichlet-multinomial (Walmsley et al. 2022, equation 3);
    all ways in which the votes may fall are summed over. Raises ValueError if these are too many, or for
    concentrations that are not finite and above 0.
    """
    return over_counts(device, dirichlet_score, concentrations, expected_votes)


def nearest(units, centres) -> np.ndarray:
    """The Euclidean distance (galaxy,) of `units` (galaxy, unit) to the nearest of `centres` (centre, unit).

    Which is the nearest is found by a product of matrices, to within its rounding; the distance to it is exact.
    Raises ValueError for arrays of other shapes, or no centres.
    """
    return to_centres(device, distance, units, centres)


@partial(jax.jit, static_argnums=0)
def score(name: str, samples, yes, no, ways, *states):
    """Scores (galaxy,) of one piece, whose arrays are those of `shared.method.scoring.Piece`.

    `states` are their probabilities (state,), their posterior (state, sample) and its mean over them (sample,).
    """
    each = log_votes(samples, yes, no)
    return {
        "mutual_information": mutual_information,
        "entropy": entropy,
        "batch_mutual_information": batch_mutual_information,
        "epig": epig,
    }[name](each, ways, *states)


def log_votes(samples, yes, no):
    """ln of rho^k (1 - rho)^(N - k): of k yes votes in a given order.

    Its axes are (galaxy, sample, k).
    """
    # -1e4 stands for ln 0: times 0 it is 0, and times 1 its exponential is 0 in every precision
    log_yes = jnp.clip(jnp.log(samples), min=-1e4)[..., None]
    log_no = jnp.clip(jnp.log1p(-samples), min=-1e4)[..., None]
    return yes[:, None] * log_yes + no[:, None] * log_no


def mutual_information(each, ways):
    """What the votes would tell about the network (galaxy,), in nats.

    `each` (galaxy, sample, k) is ln of a probability in one order, `ways` (galaxy, k) that of how many orders.
    The mean divergence of each sample from the mixture: it is H[p(k)] - mean H[p(k | rho)] (W+20, equation 9), without
    its cancellation.
    """
    largest, logs, shares = shifted_exp(each)
    mixed = jnp.mean(shares, 1)
    apiece = jnp.mean(shares * logs, 1) - mixed * jnp.log(mixed)
    return jnp.sum(jnp.exp(largest + ways) * apiece, 1)


def entropy(each, ways):
    """The entropy (galaxy,) of the predicted number of yes votes, in nats."""
    largest, _, shares = shifted_exp(each)
    mixed = largest + ways + jnp.log(jnp.mean(shares, 1))
    return -jnp.sum(jnp.exp(mixed) * mixed, 1)


def batch_mutual_information(each, ways, probabilities, posterior, mean):
    """What the votes would yet tell about the network (galaxy,), in nats, once those of others have come in.

    The mean over states of I(k; network | state), of which a batch's joint mutual information is the sum (BatchBALD,
    Kirsch et al. 2019, equation 8): I(k; network) less the I(k; state) that is known by then.
    """
    mixed, ratios = over_mixture(each, ways, mean)
    return mean_divergence(mixed, mean, ratios) - mean_divergence(
        mixed, probabilities, posterior @ ratios
    )


def epig(each, ways, probabilities, posterior, mean):
    """What the votes would tell about the votes of others (galaxy,), in nats: I(k; state).

    Where the states are all counts of targets, it is the mean over these of I(k; k*) (Bickford Smith et al. 2023,
    equation 6).
    """
    mixed, ratios = over_mixture(each, ways, mean)
    return mean_divergence(mixed, probabilities, posterior @ ratios)


def shifted_exp(each):
    """The largest over samples of logs, the logs less it, and what these are logs of."""
    largest = jnp.max(each, 1)
    logs = jnp.clip(each - largest[:, None], min=MIN_LOG_SHARE)
    return largest, logs, jnp.exp(logs)


def over_mixture(each, ways, weights):
    """Probabilities of the mixture of samples with `weights` (sample,), and each sample's over them."""
    largest, _, shares = shifted_exp(each)
    mixed = weights @ shares
    return jnp.exp(largest + ways) * mixed, shares / mixed[:, None]


def mean_divergence(mixed, weights, ratios):
    """The mean divergence (galaxy,) of parts from their mixture, in nats.

    `mixed` (galaxy, k) are the probabilities of the mixture, `ratios` (galaxy, part, k) a part's over them, `weights`
    (part,) the probabilities of the parts. No summand r ln r - r + 1 is below 0, so that rounding cannot take away the
    whole.
    """
    each = ratios * (jnp.log(ratios) - 1) + 1
    return jnp.sum(mixed * (weights @ each), 1)


@jax.jit
def dirichlet_score(concentrations, steps, found, ways):
    """The information (galaxy,) of `found` counts (answer, k), of which there are `ways` (k,), for
    `steps` 0 ... N - 1.
    """
    whole = jnp.sum(concentrations, 2)[..., None]
    # ln of rising factorials, each factor over the sum of concentrations: as good for huge ones as for small ones
    factors = jnp.log((concentrations[..., None] + steps) / whole[..., None])
    rising = jnp.pad(jnp.cumsum(factors, 3), ((0, 0), (0, 0), (0, 0), (1, 0)))
    each = -jnp.sum(jnp.log1p(steps / whole), 2)[..., None]
    for answer in range(len(found)):
        each = each + rising[:, :, answer][..., found[answer]]
    return mutual_information(each, ways)


@jax.jit
def distance(units, centres):
    """The distance (galaxy,) to the nearest centre; of two as near, to the first."""
    squares = jnp.sum(centres**2, 1) - 2 * units @ centres.T
    return jnp.sqrt(jnp.sum((units - centres[jnp.argmin(squares, 1)]) ** 2, 1))
