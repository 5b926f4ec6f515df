"""Threefry-2x32-20, bit for bit that of `shared.run.keys`."""

import torch

from shared.run.keys import LAYER_SHIFT, PARITY, ROTATIONS, keep_threshold

from .device import to_device


def threefry2x32(key, counter):
    """Random bits, uint32 (..., 2), of key uint32 (..., 2) and counter uint32 (..., 2), broadcast."""
    # PyTorch adds and shifts no uint32: int32 wraps around in the same way, and a mask makes the shift a logical one
    key, counter = torch.broadcast_tensors(
        to_device(key).view(torch.int32), to_device(counter).view(torch.int32)
    )
    keys = (key[..., 0], key[..., 1], key[..., 0] ^ key[..., 1] ^ PARITY)
    x, y = counter[..., 0] + keys[0], counter[..., 1] + keys[1]
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            x += y  # in place: no round asks for memory
            high = y << rotation
            y >>= 32 - rotation
            y &= (1 << rotation) - 1
            y |= high
            y ^= x
        x += keys[(group + 1) % 3]
        y += keys[(group + 2) % 3] + (group + 1)
    return torch.stack([x, y], -1).view(torch.uint32)


def bits(keys, index, count: int, layer: int = 0):
    """`count` words of random bits, uint32 (..., count), of a layer for keys (..., 2) at each index (...)."""
    begin = layer << LAYER_SHIFT
    pairs = torch.arange(begin, begin + (count + 1) // 2, device=index.device).to(torch.int32)
    first, second = torch.broadcast_tensors(index.view(torch.int32)[..., None], pairs)
    counters = torch.stack([first, second], -1).view(torch.uint32)
    result = threefry2x32(keys[..., None, :], counters)
    return result.flatten(-2)[..., :count]


def keep(keys, index, units: int, rate: float, layer: int = 0):
    """Which units bool (..., unit) of a layer dropout at `rate` keeps, for keys (..., 2) at each index (...)."""
    word = bits(keys, index, units, layer).view(torch.int32)
    return ((word >> 8) & 0xFFFFFF) >= keep_threshold(rate)
