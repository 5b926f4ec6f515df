"""The CNN of W+20, in two parts: the features of an image, once, and the answers of each dropout sample."""

from types import MethodType

import torch
from torch import nn
from torch.nn import functional as F

from shared.network.weights import layer_shapes
from shared.run.spec import ModelSpec

from .device import compiled, compute_type, device, number_type


class GalaxyCNN(nn.Module):
    """The logit of a yes vote, for images (galaxy, y, x, 1)."""

    def __init__(self, spec: ModelSpec):
        super().__init__()
        shapes = layer_shapes(spec)
        filters = [shapes[f"conv{i}/kernel"][2:] for i in range(sum(map(len, spec.blocks)))]
        self.blocks = spec.blocks
        self.convs = nn.ModuleList(convolution(*pair) for pair in filters)
        self.hidden = nn.Linear(*shapes["hidden/kernel"], dtype=number_type())
        self.answer = nn.Linear(*shapes["answer/kernel"], dtype=number_type())
        self.to(device(), memory_format=torch.channels_last)
        # all but this is left as it is: unrolled, Threefry's rounds keep the compiler busy without end
        self.features = MethodType(compiled(GalaxyCNN.features), self)  # a copy's is the copy's own

    def features(self, images, trace: list | None = None):
        """The dense layer's units (galaxy, unit); a TRACE list collects the layers before, (galaxy, y, x, channel)."""
        mixed = compute_type() != number_type()
        with torch.autocast(images.device.type, compute_type(), enabled=mixed):
            x = images.permute(0, 3, 1, 2)
            convs = iter(self.convs)
            for block in self.blocks:
                *before, last = (next(convs) for _ in block)
                for conv in before:
                    x = F.relu(conv(x), inplace=True)
                    note(trace, x.permute(0, 2, 3, 1))
                x = pooled(last, x, trace)
            x = x.permute(0, 2, 3, 1).flatten(1)
            return F.relu(self.hidden(x)).to(number_type())

    def answers(self, units):
        """The logit ln(rho / (1 - rho)) (...) of units (..., unit)."""
        two = self.answer(units)
        return two[..., 1] - two[..., 0]


def convolution(inputs: int, filters: int):
    """A 3x3 convolution of stride 1, one pixel of zeros around the image."""
    return nn.Conv2d(inputs, filters, 3, padding=1, dtype=number_type())


def note(trace: list | None, x) -> None:
    """Add a layer's activation to TRACE, where one is wanted."""
    if trace is not None:
        trace.append(x)


def pooled(conv, x, trace: list | None):
    """The largest of each 2x2 square of a convolution of X, after ReLU; TRACE gets both layers."""
    x = F.conv2d(x, conv.weight, padding=1)
    bias = conv.bias.to(x.dtype)[:, None, None]
    if trace is not None:
        note(trace, F.relu(x + bias).permute(0, 2, 3, 1))
    # Operations run one by one here, so bias and ReLU come after the pool, on a quarter of the numbers. Neither ever
    # puts a smaller number before a larger one, so that the largest are the same to the last bit.
    x = F.relu(max_pool(x) + bias, inplace=True)
    note(trace, x.permute(0, 2, 3, 1))
    return x


def max_pool(x):
    """The largest of each 2x2 square; its gradient goes to the first in row-major order."""
    return F.max_pool2d(x, 2)
