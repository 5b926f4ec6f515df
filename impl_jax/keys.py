"""Threefry-2x32-20, bit for bit that of `shared.run.keys`."""

import jax.numpy as jnp

from shared.run.keys import LAYER_SHIFT, PARITY, ROTATIONS, keep_threshold

from .device import to_device


def threefry2x32(key, counter):
    """Random bits, uint32 (..., 2), of key uint32 (..., 2) and counter uint32 (..., 2), broadcast."""
    key, counter = jnp.broadcast_arrays(to_device(key), to_device(counter))
    keys = (key[..., 0], key[..., 1], key[..., 0] ^ key[..., 1] ^ jnp.uint32(PARITY))
    x, y = counter[..., 0] + keys[0], counter[..., 1] + keys[1]
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            x = x + y
            y = ((y << rotation) | (y >> (32 - rotation))) ^ x
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + jnp.uint32(group + 1)
    return jnp.stack([x, y], -1)


def bits(keys, index, count: int, layer: int = 0):
    """`count` words of random bits, uint32 (..., count), of a layer for keys (..., 2) at each index (...)."""
    begin = layer << LAYER_SHIFT
    pairs = jnp.arange(begin, begin + (count + 1) // 2, dtype=jnp.uint32)
    first, second = jnp.broadcast_arrays(index[..., None], pairs)
    counters = jnp.stack([first, second], -1)
    result = threefry2x32(keys[..., None, :], counters)
    return result.reshape(*result.shape[:-2], -1)[..., :count]


def keep(keys, index, units: int, rate: float, layer: int = 0):
    """Which units bool (..., unit) of a layer dropout at `rate` keeps, for keys (..., 2) at each index (...)."""
    return (bits(keys, index, units, layer) >> 8) >= keep_threshold(rate)
