"""Walmsley et al. 2020: 3x3 convolutions in blocks, each followed by a 2x2 max-pool, and a dense layer."""

from shared.network.network import IMAGE, UNITS, Network, chain
from shared.network.operations import Conv, Dense, Flatten, MaxPool, Relu

Blocks = tuple[tuple[int, ...], ...]


def w20(blocks: Blocks = ((32, 32), (64, 64), (128,), (128,)), dense: int = 128) -> Network:
    """The encoder; `blocks` has the filters of each convolution."""
    steps, number = [], 0
    for place, block in enumerate(blocks):
        for filters in block:
            steps += [(f"conv{number}", Conv(filters, 3, padding=1)), (f"relu{number}", Relu())]
            number += 1
        steps.append((f"pool{place}", MaxPool(2, 2)))
    steps += [("flat", Flatten()), ("hidden", Dense(dense)), (UNITS, Relu())]
    return chain(IMAGE, *steps)
