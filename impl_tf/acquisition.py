"""Acquisition functions: scores of galaxies, the larger the sooner labelled; and distances."""

from functools import partial

import numpy as np
import tensorflow as tf

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


# on a CPU, XLA makes one pass of many; on a GPU it needs parts of CUDA that need not be there
@tf.function(jit_compile=not tf.config.list_physical_devices("GPU"))
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
    log_yes = tf.maximum(tf.math.log(samples), -1e4)[..., None]
    log_no = tf.maximum(tf.math.log1p(-samples), -1e4)[..., None]
    return yes[:, None] * log_yes + no[:, None] * log_no


def mutual_information(each, ways):
    """What the votes would tell about the network (galaxy,), in nats.

    `each` (galaxy, sample, k) is ln of a probability in one order, `ways` (galaxy, k) that of how many orders.
    The mean divergence of each sample from the mixture: it is H[p(k)] - mean H[p(k | rho)] (W+20, equation 9), without
    its cancellation.
    """
    largest, logs, shares = shifted_exp(each)
    mixed = tf.reduce_mean(shares, 1)
    apiece = tf.reduce_mean(shares * logs, 1) - mixed * tf.math.log(mixed)
    return tf.reduce_sum(tf.exp(largest + ways) * apiece, 1)


def entropy(each, ways):
    """The entropy (galaxy,) of the predicted number of yes votes, in nats."""
    largest, _, shares = shifted_exp(each)
    mixed = largest + ways + tf.math.log(tf.reduce_mean(shares, 1))
    return -tf.reduce_sum(tf.exp(mixed) * mixed, 1)


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
    largest = tf.reduce_max(each, 1)
    logs = tf.maximum(each - largest[:, None], MIN_LOG_SHARE)
    return largest, logs, tf.exp(logs)


def over_mixture(each, ways, weights):
    """Probabilities of the mixture of samples with `weights` (sample,), and each sample's over them."""
    largest, _, shares = shifted_exp(each)
    mixed = (weights[None] @ shares)[:, 0]
    return tf.exp(largest + ways) * mixed, shares / mixed[:, None]


def mean_divergence(mixed, weights, ratios):
    """The mean divergence (galaxy,) of parts from their mixture, in nats.

    `mixed` (galaxy, k) are the probabilities of the mixture, `ratios` (galaxy, part, k) a part's over them, `weights`
    (part,) the probabilities of the parts. No summand r ln r - r + 1 is below 0, so that rounding cannot take away the
    whole.
    """
    each = ratios * (tf.math.log(ratios) - 1) + 1
    return tf.reduce_sum(mixed * (weights[None] @ each)[:, 0], 1)


@tf.function
def dirichlet_score(concentrations, steps, found, ways):
    """The information (galaxy,) of `found` counts (answer, k), of which there are `ways` (k,), for
    `steps` 0 ... N - 1.
    """
    whole = tf.reduce_sum(concentrations, 2)[..., None]
    # ln of rising factorials, each factor over the sum of concentrations: as good for huge ones as for small ones
    factors = tf.math.log((concentrations[..., None] + steps) / whole[..., None])
    rising = tf.cumsum(tf.pad(factors, [[0, 0], [0, 0], [0, 0], [1, 0]]), 3)
    each = -tf.reduce_sum(tf.math.log1p(steps / whole), 2)[..., None]
    for answer in range(len(found)):
        each = each + tf.gather(rising[:, :, answer], found[answer], axis=2)
    return mutual_information(each, ways)


@tf.function(reduce_retracing=True)
def distance(units, centres):
    """The distance (galaxy,) to the nearest centre; of two as near, to the first."""
    squares = tf.reduce_sum(centres**2, 1) - 2 * units @ tf.transpose(centres)
    return tf.sqrt(tf.reduce_sum((units - tf.gather(centres, tf.argmin(squares, 1))) ** 2, 1))
