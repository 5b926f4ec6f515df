"""What one volunteer's walk through a whole schema of questions would tell about the network."""

import numpy as np
import tensorflow as tf

from shared.method.walks import Walks, over_walks

from . import device

SMALLEST = 1e-37  # probabilities below it are taken for it in logarithms; 0 times that of 0 would be no number


def walk_information(fractions, walks: Walks) -> np.ndarray:
    """What one volunteer's answers to all that is asked would tell about the network (galaxy,), in nats.

    `fractions` (galaxy, sample, answer) are vote fractions, each question's summing to 1; `walks` is made by
    `shared.method.walks.walks_of`. It is H[mean p(walk)] - mean H[p(walk)], the means over samples, the entropies over
    all walks. Raises ValueError for fractions that are not such.
    """
    return over_walks(device, score, fractions, walks)


@tf.function
def score(fractions, walks: Walks):
    """The information (galaxy,) of some galaxies."""
    chances = tf.transpose(fractions, (2, 0, 1))
    total = -tf.reduce_mean(walk_entropy(chances, walks), 1)
    for beginnings, ends in cut_walks(chances, walks):
        # the mean over samples of products is a product of matrices
        mixed = tf.transpose(beginnings, (1, 0, 2)) @ tf.transpose(ends, (1, 2, 0))
        total = total + tf.reduce_sum(surprise(mixed), (1, 2))
    return tf.maximum(total, 0)


def cut_walks(chances, walks: Walks):
    """The probabilities (walk, galaxy, sample) of all beginnings and all ends of walks that meet in a node, over nodes.

    `chances` (answer, galaxy, sample) are vote fractions. Beginnings are divided by the number of samples.
    """
    whole = tf.ones_like(chances[:1])
    ends = [whole]
    for branches in walks.nodes[1 : walks.cut]:
        ends.append(
            tf.concat(
                [either(pick(chances, answers), ends[after]) for answers, after in branches], 0
            )
        )
    beginnings = [[] for _ in walks.nodes]
    beginnings[-1] = [whole / chances.shape[2]]
    for node in range(len(walks.nodes) - 1, walks.cut - 1, -1):
        before = tf.concat(beginnings[node], 0)
        for answers, after in walks.nodes[node]:
            beginnings[after].append(either(before, pick(chances, answers)))
    return [
        (tf.concat(beginnings[node], 0), ends[node])
        for node in range(walks.cut)
        if beginnings[node]
    ]


def walk_entropy(chances, walks: Walks):
    """The entropy (galaxy, sample) of a walk by each sample's `chances` (answer, galaxy, sample), in nats.

    By the chain rule: that of the first answer, and the mean of what it leaves open.
    """
    each, open_yet = surprise(chances), [0.0]
    for branches in walks.nodes[1:]:
        total = 0.0
        for answers, after in branches:
            total = total + tf.reduce_sum(pick(each, answers), 0)
            if after:
                total = total + tf.reduce_sum(pick(chances, answers), 0) * open_yet[after]
        open_yet.append(total)
    return open_yet[-1]


def either(first, second):
    """All products (first x second, galaxy, sample) of one of the `first` and one of the `second`."""
    return tf.reshape(first[:, None] * second, (-1, *second.shape[1:]))


def pick(array, answers: tuple[int, ...]):
    """The rows of `answers`, which are mostly one after the other: then without a copy."""
    if answers == tuple(range(answers[0], answers[-1] + 1)):
        return array[answers[0] : answers[-1] + 1]
    return tf.gather(array, answers)


def surprise(chances):
    """What each of `chances` adds to an entropy, in nats: -p ln p, and 0 for 0."""
    return -chances * tf.math.log(tf.maximum(chances, SMALLEST))
