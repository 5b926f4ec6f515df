"""Threefry-2x32-20, bit for bit that of `shared.run.keys`."""

import tensorflow as tf

from shared.run.keys import LAYER_SHIFT, PARITY, ROTATIONS, keep_threshold

from .device import to_device


def threefry2x32(key, counter):
    """Random bits, uint32 (..., 2), of key uint32 (..., 2) and counter uint32 (..., 2), broadcast."""
    key, counter = to_device(key), to_device(counter)
    shape = tf.broadcast_dynamic_shape(tf.shape(key), tf.shape(counter))
    key, counter = tf.broadcast_to(key, shape), tf.broadcast_to(counter, shape)
    keys = (key[..., 0], key[..., 1], key[..., 0] ^ key[..., 1] ^ tf.constant(PARITY, tf.uint32))
    x, y = counter[..., 0] + keys[0], counter[..., 1] + keys[1]
    left, right = tf.bitwise.left_shift, tf.bitwise.right_shift
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            x = x + y
            y = (
                left(y, tf.constant(rotation, tf.uint32))
                | right(y, tf.constant(32 - rotation, tf.uint32))
            ) ^ x
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + tf.constant(group + 1, tf.uint32)
    return tf.stack([x, y], -1)


def bits(keys, index, count: int, layer: int = 0):
    """`count` words of random bits, uint32 (..., count), of a layer for keys (..., 2) at each index (...)."""
    begin = layer << LAYER_SHIFT
    pairs = tf.cast(tf.range(begin, begin + (count + 1) // 2, dtype=tf.int64), tf.uint32)
    first, second = tf.meshgrid(tf.reshape(index, [-1]), pairs, indexing="ij")
    counters = tf.reshape(tf.stack([first, second], -1), [*index.shape, len(pairs), 2])
    result = threefry2x32(keys[..., None, :], counters)
    return tf.reshape(result, tf.concat([tf.shape(result)[:-2], [-1]], 0))[..., :count]


def keep(keys, index, units: int, rate: float, layer: int = 0):
    """Which units bool (..., unit) of a layer dropout at `rate` keeps, for keys (..., 2) at each index (...)."""
    word = bits(keys, index, units, layer)
    word = tf.bitwise.right_shift(word, tf.constant(8, tf.uint32))
    return tf.cast(word, tf.int32) >= keep_threshold(rate)
