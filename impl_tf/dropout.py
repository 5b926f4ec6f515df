"""Dropout under explicit keys. It is the posterior, not a trick of training: there is no off switch but rate 0."""

import tensorflow as tf

from shared.run.keys import keep_threshold

from .keys import bits


def keep(keys, index, units: int, rate: float):
    """Which units bool (..., unit) dropout at RATE keeps, for keys (..., 2) at each index (...)."""
    word = bits(keys, index, units)
    return tf.cast(
        tf.bitwise.right_shift(word, tf.constant(8, tf.uint32)), tf.int32
    ) >= keep_threshold(rate)


def dropout(units, kept, rate: float):
    """Units that are kept, scaled up so that their mean stays; the others 0."""
    return tf.where(kept, units / (1 - rate), 0)
