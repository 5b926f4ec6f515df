"""What one volunteer's walk through a whole schema of questions would tell about the network."""

import numpy as np
import tensorflow as tf

from shared.method.walks import Walks, over_walks

from . import device

SMALLEST = 1e-37  # of which logarithms are taken: 0 x its own is 0, and 0 x ln 0 is no number


def walk_information(fractions, walks: Walks) -> np.ndarray:
    """What one volunteer's answers to all that is asked would tell about the network (galaxy,), in nats.

    `fractions` (galaxy, sample, answer) are vote fractions, each question's summing to 1; `walks` is made by
    `shared.method.walks.walks_of`. It is H[mean p(walk)] - mean H[p(walk)], the means over samples, the entropies over
    all walks. Raises ValueError for fractions that are not such.
    """
    return over_walks(device, score, fractions, walks)


@tf.function
def score(fractions, walks: Walks):
    """The information (galaxy,) of some galaxies at once."""
    fractions = tf.transpose(fractions, (2, 0, 1))  # (answer, galaxy, sample)
    total = -tf.reduce_mean(walk_entropy(fractions, walks), 1)
    for beginnings, ends in cut_walks(fractions, walks):
        # the mean over samples of products is a product of matrices
        mixed = tf.transpose(beginnings, (1, 0, 2)) @ tf.transpose(ends, (1, 2, 0))
        total = total + tf.reduce_sum(entropy_terms(mixed), (1, 2))
    return tf.maximum(total, 0)


def cut_walks(fractions, walks: Walks):
    """The probabilities of beginnings and of ends of walks, each (walk, galaxy, sample): a pair for each node between.

    `fractions` are (answer, galaxy, sample). The beginnings are divided by the number of samples.
    """
    whole = tf.ones_like(fractions[:1])
    ends = [whole]
    for branches in walks.nodes[1 : walks.cut]:
        ends.append(
            tf.concat(
                [outer(pick(fractions, answers), ends[after]) for answers, after in branches], 0
            )
        )
    beginnings = [[] for _ in walks.nodes]
    beginnings[-1] = [whole / fractions.shape[2]]
    for node in range(len(walks.nodes) - 1, walks.cut - 1, -1):
        before = tf.concat(beginnings[node], 0)
        for answers, after in walks.nodes[node]:
            beginnings[after].append(outer(before, pick(fractions, answers)))
    return [
        (tf.concat(beginnings[node], 0), ends[node])
        for node in range(walks.cut)
        if beginnings[node]
    ]


def walk_entropy(fractions, walks: Walks):
    """The entropy (galaxy, sample) of a walk, in nats, by each sample's `fractions` (answer, galaxy, sample).

    By the chain rule, from each node on: that of its answer, and the mean over answers of that of the rest.
    """
    terms, entropies = entropy_terms(fractions), [0.0]
    for branches in walks.nodes[1:]:
        total = 0.0
        for answers, after in branches:
            total = total + tf.reduce_sum(pick(terms, answers), 0)
            if after:
                total = total + tf.reduce_sum(pick(fractions, answers), 0) * entropies[after]
        entropies.append(total)
    return entropies[-1]


def outer(first, second):
    """The products (walk, galaxy, sample) of each of the `first` with each of the `second`."""
    return tf.reshape(first[:, None] * second, (-1, *second.shape[1:]))


def pick(array, answers: tuple[int, ...]):
    """The rows of `answers`, which are mostly one after the other: then without a copy."""
    if answers == tuple(range(answers[0], answers[-1] + 1)):
        return array[answers[0] : answers[-1] + 1]
    return tf.gather(array, answers)


def entropy_terms(probabilities):
    """What each of `probabilities` adds to an entropy, in nats: -p ln p, and 0 for 0."""
    return -probabilities * tf.math.log(tf.maximum(probabilities, SMALLEST))
