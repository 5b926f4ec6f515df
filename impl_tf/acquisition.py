"""Which galaxies to ask volunteers about next: the larger the score, the sooner."""

import numpy as np
import tensorflow as tf

from shared.acquisition import pieces

from .device import fetch, number_type, put
from .keys import bits


def acquire(name: str, samples, expected_votes, keys=None, index: int = 0) -> np.ndarray:
    """Scores (galaxy,) of SAMPLES (galaxy, sample) of rho; EXPECTED_VOTES is a number, or one per galaxy.

    NAME is mutual_information or entropy (both in nats), or random, which takes KEYS uint32 (galaxy, 2) and the
    round's INDEX. Raises ValueError for any other, and for samples, votes or keys that are not such.
    """
    parts = [np.zeros(0)]
    for piece in pieces(name, samples, expected_votes, keys):
        if name != "random":
            scores = score(
                name, *(put(array) for array in (piece.samples, piece.yes, piece.no, piece.ways))
            )
            parts.append(fetch(scores)[: piece.count])
    return (
        fetch(random(put(keys), put(np.uint32(index))))
        if name == "random"
        else np.concatenate(parts)
    )


@tf.function
def score(name: str, samples, yes, no, ways):
    """Scores (galaxy,) of one piece, whose arrays are those of `shared.acquisition.Piece`."""
    each, mixed = log_votes(samples, yes, no, ways)
    return {"mutual_information": mutual_information, "entropy": entropy}[name](each, mixed)


def log_votes(samples, yes, no, ways):
    """ln Binomial(k | N, rho): each sample's (galaxy, sample, k), and their mixture's (galaxy, k)."""
    # -1e4 stands for ln 0: times 0 it is 0, and times 1 its exponential is 0 in every precision
    log_yes = tf.maximum(tf.math.log(samples), -1e4)[..., None]
    log_no = tf.maximum(tf.math.log1p(-samples), -1e4)[..., None]
    each = ways[:, None] + yes[:, None] * log_yes + no[:, None] * log_no
    largest = tf.reduce_max(each, 1)
    mixed = largest + tf.math.log(tf.reduce_mean(tf.exp(each - largest[:, None]), 1))
    return each, mixed


def mutual_information(each, mixed):
    """What the votes would tell about the network (galaxy,), in nats.

    The mean divergence of each sample from the mixture: it is H[p(k)] - mean H[p(k | rho)] (W+20,
    equation 9), without its cancellation.
    """
    return tf.reduce_mean(tf.reduce_sum(tf.exp(each) * (each - mixed[:, None]), 2), 1)


def entropy(each, mixed):
    """The entropy (galaxy,) of the predicted number of yes votes, in nats."""
    return -tf.reduce_sum(tf.exp(mixed) * mixed, 1)


def random(keys, index):
    """Uniform numbers (galaxy,) in [0, 1): the baseline that every other acquisition has to beat."""
    word = bits(keys, index, 1)[:, 0]
    return (
        tf.cast(tf.bitwise.right_shift(word, tf.constant(8, tf.uint32)), number_type()) * 2.0**-24
    )
