"""What each operation computes, as in `shared.proof.operations`: of (galaxy, y, x, channel), or (..., unit)."""

from typing import NamedTuple

import torch
from torch.nn import functional as F

from shared.network.pixels import places, taps

from .device import to_device


class Given(NamedTuple):
    """Arguments of a layer besides its weights and inputs."""

    moments: dict | None  # mean and variance for a batch norm; None: those of the batch
    kept: torch.Tensor | None  # bool, what a layer keeps; None: everything, nothing is scaled


def conv(operation, weights, given, x):
    """A convolution, and its bias if it has one."""
    return convolve(operation, weights["kernel"], weights.get("bias"), x)


def conv_relu_pool(operation, pool, weights, x):
    """A convolution, ReLU and, unless `pool` is None, max-pool, as one step."""
    kernel, bias = weights["kernel"], weights.get("bias")
    if pool is None:
        # not in place, as the axes are turned: of a view, autograd would copy the gradient twice
        return F.relu(convolve(operation, kernel, bias, x))
    # Operations run one by one here, so bias and ReLU come after the pool, on a quarter of the numbers. Neither ever
    # puts a smaller number before a larger one, so that the largest are the same to the last bit.
    y = max_pool(pool, {}, None, convolve(operation, kernel, None, x))
    return F.relu(y if bias is None else y + bias.to(y.dtype), inplace=True)


def convolve(operation, kernel, bias, x):
    """A convolution, by whatever is quickest."""
    # Up to 2 pixels on a side one product of matrices is quicker: oneDNN copies its weights. Of 1x1 kernels at stride 2
    # oneDNN's gradients write beyond their memory where channels are few, 2 or 3 (PyTorch 2.13).
    if operation.groups == 1 and (operation.kernel == 1 or few(operation, x, 2)):
        return F.linear(shifted(operation, x), kernel.permute(0, 2, 3, 1).flatten(1), bias)
    sizes = (operation.stride, operation.padding, 1, operation.groups)
    return F.conv2d(x.permute(0, 3, 1, 2), kernel, bias, *sizes).permute(0, 2, 3, 1)


def few(operation, x, pixels: int) -> bool:
    """Whether a convolution leaves an image of at most so many pixels on its shorter side."""
    side = min(x.shape[1:3]) + 2 * operation.padding - operation.kernel
    return side // operation.stride < pixels


def shifted(operation, x):
    """What each pixel of a kernel meets, (galaxy, y, x, row x column x channel)."""
    size, step, padding = operation.kernel, operation.stride, operation.padding
    if size == step == 1:
        return x
    x = F.pad(x, (0, 0, *4 * [padding]))
    ends = [side - size + 1 for side in x.shape[1:3]]
    cuts = [
        x[:, i : i + ends[0] : step, j : j + ends[1] : step]
        for i in range(size)
        for j in range(size)
    ]
    return torch.cat(cuts, -1)


def dense(operation, weights, given, x):
    """The last axis times a matrix, plus a bias."""
    return F.linear(x, weights["kernel"], weights["bias"])


def batch_norm(operation, weights, given, x):
    """Each channel normalised by the moments given or, without, the batch's; and the latter, where it was."""
    y, affine, epsilon = x.movedim(-1, 1), (weights["scale"], weights["bias"]), operation.epsilon
    if given.moments is not None:
        moments = (given.moments["mean"], given.moments["variance"])
        return F.batch_norm(y, *moments, *affine, False, 0, epsilon).movedim(1, -1), {}
    # with a momentum of 1 what PyTorch calls running moments become those of this batch
    mean, variance = (torch.zeros_like(affine[0], requires_grad=False) for _ in range(2))
    y = F.batch_norm(y, mean, variance, *affine, True, 1, epsilon)
    return y.movedim(1, -1), {"mean": mean, "variance": variance}


def standardise(operation, weights, given, x):
    """Each channel less its mean, over its standard deviation, by moments given; without, as it is."""
    if given.moments is None:
        return x
    y = (x - given.moments["mean"]) * torch.rsqrt(given.moments["variance"])
    return y.to(x.dtype)


def layer_norm(operation, weights, given, x):
    """Each pixel's channels, or a galaxy's units, normalised by their own moments."""
    return F.layer_norm(x, x.shape[-1:], weights["scale"], weights["bias"], operation.epsilon)


def scale(operation, weights, given, x):
    """Each channel times its factor."""
    return x * weights["scale"].to(x.dtype)


def relu(operation, weights, given, x):
    """max(x, 0)."""
    return F.relu(x)


def gelu(operation, weights, given, x):
    """x times the normal distribution function of x."""
    return F.gelu(x)


def silu(operation, weights, given, x):
    """x times the logistic function of x."""
    return F.silu(x)


def sigmoid(operation, weights, given, x):
    """The logistic function."""
    return torch.sigmoid(x)


def max_pool(operation, weights, given, x):
    """The largest of each square; the gradient goes to it, or to the first of several."""
    sizes = (operation.kernel, operation.stride, operation.padding)
    return F.max_pool2d(x.permute(0, 3, 1, 2), *sizes).permute(0, 2, 3, 1)


def mean(operation, weights, given, x):
    """The mean over pixels."""
    return x.mean((1, 2))


def add(operation, weights, given, x, other):
    """The sum of two layers."""
    return x + other


def multiply(operation, weights, given, x, factor):
    """Each channel of an image times its factor."""
    return x * factor[:, None, None]


def flatten(operation, weights, given, x):
    """Pixels and channels as units."""
    return x.flatten(1)


def maxout(operation, weights, given, x):
    """The largest of neighbouring units; the gradient goes to it, or to the first of several."""
    return x.unflatten(-1, (-1, operation.pieces)).max(-1).values


def dropout(operation, weights, given, x):
    """What is kept, scaled up so that its mean stays; the others 0."""
    if given.kept is None:
        return x
    kept = given.kept.reshape(*given.kept.shape, *(1,) * (x.ndim - given.kept.ndim))
    return torch.where(kept, x / (1 - operation.rate), 0)


def stochastic_depth(operation, weights, given, x):
    """Whole galaxies that are kept, scaled up so that their mean stays; the others 0."""
    return dropout(operation, weights, given, x)


def turned(operation, weights, given, x):
    """The image, and beside it the image turned."""
    index, share = taps(x.shape[1], operation.degrees)
    pixels = x.flatten(1, 2)[:, to_device(index.reshape(-1))].unflatten(1, index.shape)
    other = (pixels * to_device(share[..., None]).to(x.dtype)).sum(1)
    return torch.cat([x, other.reshape(x.shape)], -1)


def views(operation, weights, given, x):
    """The 16 views, each of them a galaxy."""
    galaxies, side, _, channels = x.shape
    pixels = x.reshape(galaxies, side * side, 2, channels // 2).transpose(1, 2).flatten(1, 2)
    index = to_device(places(side, operation.size).reshape(-1))
    return pixels[:, index].reshape(-1, operation.size, operation.size, channels // 2)


def gather(operation, weights, given, x):
    """The units of a galaxy's views, one after the other."""
    return x.reshape(-1, operation.views * x.shape[-1])
