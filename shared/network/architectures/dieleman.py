"""Dieleman, Willett and Dambre 2015: sixteen views of each galaxy go through four convolutions with the same weights.

Two departures: a filter has one bias, not one for each place; and the image that is turned by 45 degrees is made of the
one that the network is shown, so that its corners repeat the edge.
"""

from shared.network.network import IMAGE, UNITS, Network, chain
from shared.network.operations import Conv, Flatten, Gather, MaxPool, Relu, Turned, Views

KERNELS = (6, 5, 3, 3)


def dieleman(widths: tuple[int, ...] = (32, 64, 128, 128), part: int = 45) -> Network:
    """The encoder, of images 69 pixels wide; `part` is the width of a view."""
    steps = [("turned", Turned(45.0)), ("views", Views(part))]
    for number, (filters, kernel) in enumerate(zip(widths, KERNELS, strict=True)):
        spread = 0.1 if number == len(widths) - 1 else 0.01
        conv = Conv(filters, kernel, init=spread, bias_init=0.1)
        steps += [(f"conv{number}", conv), (f"relu{number}", Relu())]
        if number != 2:
            steps.append((f"pool{number}", MaxPool(2, 2)))
    return chain(IMAGE, *steps, ("flat", Flatten()), (UNITS, Gather(16)))
