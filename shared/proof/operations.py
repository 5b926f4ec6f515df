"""The specification of every operation: what it computes, and its vector-Jacobian product. numpy, float64, slow.

An operation is a function (operation, weights, given, *inputs) -> (output, pullback). The pullback takes the gradient
of a loss with respect to the output, and gives those with respect to each input, and to the weights by name. So no
network needs a gradient of its own, see `shared.proof.network`.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import erf, expit

from shared.network.pixels import places, taps

Weights = dict[str, np.ndarray]


class Given(NamedTuple):
    """Arguments of a layer besides its weights and inputs."""

    moments: Weights | None = None  # mean and variance for a batch norm; None: those of the batch
    kept: np.ndarray | None = None  # bool, what a layer keeps; None: everything, nothing is scaled
    kinks: np.ndarray | None = None  # another program's input, by which ReLU and max-pool choose


def conv(operation, weights, given, x):
    """A sum over the kernel's pixels: the image, shifted, times a matrix."""
    size, step, groups = operation.kernel, operation.stride, operation.groups
    padded, kernel = padded_image(x, operation.padding), weights["kernel"]
    height, width = ((side - size) // step + 1 for side in padded.shape[1:3])
    shifts = [
        (i, j, np.s_[:, i : i + step * height : step, j : j + step * width : step])
        for i in range(size)
        for j in range(size)
    ]
    y = sum(_times(padded[cut], kernel[i, j], groups) for i, j, cut in shifts)
    y = y + weights["bias"] if operation.bias else y

    def pullback(d):
        for_x, for_kernel = np.zeros_like(padded), np.zeros_like(kernel)
        for i, j, cut in shifts:
            for_kernel[i, j] = _product(padded[cut], d, groups)
            for_x[cut] += _times_transposed(d, kernel[i, j], groups)
        for_bias = {"bias": d.sum((0, 1, 2))} if operation.bias else {}
        return (inner_image(for_x, operation.padding),), {"kernel": for_kernel} | for_bias

    return y, pullback


def padded_image(x, padding: int, value: float = 0.0):
    """Images with `padding` pixels of `value` on every side."""
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    return np.pad(x, sides, constant_values=value)


def inner_image(x, padding: int):
    """Images without the `padding` pixels on every side."""
    return x[:, padding : x.shape[1] - padding, padding : x.shape[2] - padding]


def _times(x, matrix, groups):
    """x (..., input) times (input / groups, output): each group of channels has a block of its own."""
    if groups == x.shape[-1] == matrix.shape[-1]:
        return x * matrix[0]
    if groups == 1:
        return (rows(x) @ matrix).reshape(*x.shape[:-1], -1)
    parts = zip(np.split(x, groups, -1), np.split(matrix, groups, -1), strict=True)
    return np.concatenate([part @ block for part, block in parts], -1)


def _times_transposed(d, matrix, groups):
    if matrix.shape[0] == 1 and groups == matrix.shape[-1]:
        return d * matrix[0]
    if groups == 1:
        return (rows(d) @ matrix.T).reshape(*d.shape[:-1], -1)
    parts = zip(np.split(d, groups, -1), np.split(matrix, groups, -1), strict=True)
    return np.concatenate([part @ block.T for part, block in parts], -1)


def _product(x, d, groups):
    if groups == x.shape[-1] == d.shape[-1]:
        return (x * d).sum((0, 1, 2))[None]
    parts = zip(np.split(x, groups, -1), np.split(d, groups, -1), strict=True)
    return np.concatenate([rows(part).T @ rows(block) for part, block in parts], -1)


def rows(x):
    """All axes but the last as one."""
    return x.reshape(-1, x.shape[-1])


def dense(operation, weights, given, x):
    """The last axis times a matrix, plus a bias."""

    def pullback(d):
        gradients = {"kernel": rows(x).T @ rows(d), "bias": rows(d).sum(0)}
        return (d @ weights["kernel"].T,), gradients

    return x @ weights["kernel"] + weights["bias"], pullback


def batch_norm(operation, weights, given, x):
    """Each channel less its mean, over its standard deviation, scaled and shifted; by moments given, or the batch's."""
    axes, running = tuple(range(x.ndim - 1)), given.moments
    mean, variance = (
        (running["mean"], running["variance"]) if running else (x.mean(axes), x.var(axes))
    )
    share = 1 / np.sqrt(variance + operation.epsilon)
    unit = (x - mean) * share

    def pullback(d):
        gradients = {"scale": (d * unit).sum(axes), "bias": d.sum(axes)}
        d = d * weights["scale"]
        if running is None:
            d = d - d.mean(axes) - unit * (d * unit).mean(axes)
        return (d * share,), gradients

    return unit * weights["scale"] + weights["bias"], pullback


def standardise(operation, weights, given, x):
    """Each channel less its mean, over its standard deviation, by moments given; without, as it is."""
    if given.moments is None:
        return x, lambda d: ((d,), {})
    deviation = np.sqrt(given.moments["variance"])
    return (x - given.moments["mean"]) / deviation, lambda d: ((d / deviation,), {})


def batch_moments(x):
    """The moments of a batch as the running ones take them: the variance is that of a sample, over n - 1."""
    axes = tuple(range(x.ndim - 1))
    return {"mean": x.mean(axes), "variance": x.var(axes, ddof=1)}


def layer_norm(operation, weights, given, x):
    """Each pixel's channels less their mean, over their standard deviation, scaled and shifted."""
    share = 1 / np.sqrt(x.var(-1, keepdims=True) + operation.epsilon)
    unit = (x - x.mean(-1, keepdims=True)) * share

    def pullback(d):
        gradients = {"scale": rows(d * unit).sum(0), "bias": rows(d).sum(0)}
        d = d * weights["scale"]
        d = d - d.mean(-1, keepdims=True) - unit * (d * unit).mean(-1, keepdims=True)
        return (d * share,), gradients

    return unit * weights["scale"] + weights["bias"], pullback


def scale(operation, weights, given, x):
    """Each channel times its factor."""
    factor = weights["scale"]
    return x * factor, lambda d: ((d * factor,), {"scale": rows(d * x).sum(0)})


def relu(operation, weights, given, x):
    """max(x, 0)."""
    above = (x if given.kinks is None else given.kinks) > 0
    return np.maximum(x, 0), lambda d: ((d * above,), {})


def gelu(operation, weights, given, x):
    """x times the normal distribution function of x."""
    below = 0.5 * (1 + erf(x / np.sqrt(2)))
    gradient = below + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    return x * below, lambda d: ((d * gradient,), {})


def silu(operation, weights, given, x):
    """x times the logistic function of x."""
    gate = expit(x)
    return x * gate, lambda d: ((d * gate * (1 + x * (1 - gate)),), {})


def sigmoid(operation, weights, given, x):
    """The logistic function."""
    y = expit(x)
    return y, lambda d: ((d * y * (1 - y),), {})


def max_pool(operation, weights, given, x):
    """The largest of each square; the gradient goes to it, or to the first of several."""
    padding, size, step = operation.padding, operation.kernel, operation.stride
    decides = padded_image(x if given.kinks is None else given.kinks, padding, -np.inf)
    windows = sliding_window_view(decides, (size, size), (1, 2))[:, ::step, ::step]
    first = windows.reshape(*windows.shape[:4], -1).argmax(-1)
    n, y, x_, c = np.indices(first.shape, sparse=True)
    place = (n, step * y + first // size, step * x_ + first % size, c)

    def pullback(d):
        for_x = np.zeros(decides.shape)
        np.add.at(for_x, place, d)
        return (inner_image(for_x, padding),), {}

    return padded_image(x, padding, -np.inf)[place], pullback


def mean(operation, weights, given, x):
    """The mean over pixels."""
    pixels = x.shape[1] * x.shape[2]
    return x.mean((1, 2)), lambda d: ((np.broadcast_to(d[:, None, None], x.shape) / pixels,), {})


def add(operation, weights, given, x, other):
    """The sum of two layers."""
    return x + other, lambda d: ((d, d), {})


def multiply(operation, weights, given, x, factor):
    """Each channel of an image times its factor."""
    gate = factor[:, None, None]
    return x * gate, lambda d: ((d * gate, (d * x).sum((1, 2))), {})


def flatten(operation, weights, given, x):
    """Pixels and channels as units."""
    return x.reshape(len(x), -1), lambda d: ((d.reshape(x.shape),), {})


def maxout(operation, weights, given, x):
    """The largest of neighbouring units; the gradient goes to it, or to the first of several."""
    pieces = x.reshape(*x.shape[:-1], -1, operation.pieces)
    decides = pieces if given.kinks is None else given.kinks.reshape(pieces.shape)
    first = decides.argmax(-1)[..., None] == np.arange(operation.pieces)

    def pullback(d):
        return (np.where(first, d[..., None], 0).reshape(x.shape),), {}

    return np.where(first, pieces, 0).sum(-1), pullback


def dropout(operation, weights, given, x):
    """What is kept, scaled up so that its mean stays; the others 0."""
    if given.kept is None:
        return x, lambda d: ((d,), {})
    kept = given.kept.reshape(*given.kept.shape, *(1,) * (x.ndim - given.kept.ndim))
    share = 1 - operation.rate
    return np.where(kept, x / share, 0), lambda d: ((np.where(kept, d / share, 0),), {})


def stochastic_depth(operation, weights, given, x):
    """Whole galaxies that are kept, scaled up so that their mean stays; the others 0."""
    return dropout(operation, weights, given, x)


def turned(operation, weights, given, x):
    """The image, and beside it the image turned."""
    n, side, _, channels = x.shape
    index, share = taps(side, operation.degrees)
    pixels = x.reshape(n, -1, channels)
    other = (pixels[:, index] * share[..., None]).sum(1).reshape(x.shape)

    def pullback(d):
        for_pixels = np.zeros_like(pixels)
        part = d[..., channels:].reshape(n, 1, -1, channels) * share[..., None]
        np.add.at(for_pixels, (slice(None), index), part)
        return (d[..., :channels] + for_pixels.reshape(x.shape),), {}

    return np.concatenate([x, other], -1), pullback


def views(operation, weights, given, x):
    """The 16 views, each of them a galaxy."""
    n, side, _, channels = x.shape
    index = places(side, operation.size)
    pixels = x.reshape(n, side * side, 2, -1).transpose(0, 2, 1, 3)
    pixels = pixels.reshape(n, -1, channels // 2)

    def pullback(d):
        for_pixels = np.zeros_like(pixels)
        np.add.at(for_pixels, (slice(None), index), d.reshape(n, *index.shape, -1))
        both = for_pixels.reshape(n, 2, side, side, -1)
        return (both.transpose(0, 2, 3, 1, 4).reshape(x.shape),), {}

    size = operation.size
    return pixels[:, index].reshape(-1, size, size, channels // 2), pullback


def gather(operation, weights, given, x):
    """The units of a galaxy's views, one after the other."""
    y = x.reshape(-1, operation.views * x.shape[-1])
    return y, lambda d: ((d.reshape(x.shape),), {})
