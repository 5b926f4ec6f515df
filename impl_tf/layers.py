"""What each operation computes, as in `shared.proof.operations`: of (galaxy, y, x, channel), or (..., unit)."""

import math
from typing import NamedTuple

import tensorflow as tf

from shared.network.pixels import places, taps

from .device import to_device


class Given(NamedTuple):
    """Arguments of a layer besides its weights and inputs."""

    moments: dict | None  # mean and variance for a batch norm; None: those of the batch
    kept: tf.Tensor | None  # bool, what a layer keeps; None: everything, nothing is scaled


def conv(operation, weights, given, x):
    """A convolution, and its bias if it has one."""
    return convolve(operation, weights["kernel"], weights.get("bias"), x)


def conv_relu_pool(operation, pool, weights, x):
    """A convolution, ReLU and, unless `pool` is None, max-pool, as one step."""
    y = tf.nn.relu(conv(operation, weights, None, x))
    return y if pool is None else max_pool(pool, {}, None, y)


def convolve(operation, kernel, bias, x):
    """A convolution, by whatever is quickest."""
    # TensorFlow has no gradients of other groups on a CPU, and oneDNN's depthwise dies of edges written out. Up to 4
    # pixels on a side one product of matrices is quicker: oneDNN copies its weights.
    step, padding, kernel = operation.stride, operation.padding, tf.cast(kernel, x.dtype)
    same = step == 1 and 2 * padding == operation.kernel - 1
    edges = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    if operation.groups > 1:
        filters, x = tf.transpose(kernel, [0, 1, 3, 2]), x if same else tf.pad(x, edges)
        strides, way = [1, step, step, 1], "SAME" if same else "VALID"
        y = tf.nn.depthwise_conv2d(x, filters, strides, way)
    elif operation.kernel == 1 or few(operation, x, 4):
        y = _times(shifted(operation, x), tf.reshape(kernel, [-1, operation.filters]))
    else:
        y = tf.nn.conv2d(x, kernel, step, "SAME" if same else edges)
    return y if bias is None else tf.nn.bias_add(y, tf.cast(bias, x.dtype))


def few(operation, x, pixels: int) -> bool:
    """Whether a convolution leaves an image of at most so many pixels on its shorter side."""
    side = min(x.shape[1:3]) + 2 * operation.padding - operation.kernel
    return side // operation.stride < pixels


def shifted(operation, x):
    """What each pixel of a kernel meets, (galaxy, y, x, row x column x channel)."""
    size, step, padding = operation.kernel, operation.stride, operation.padding
    if size == step == 1:
        return x
    x = tf.pad(x, [[0, 0], [padding, padding], [padding, padding], [0, 0]]) if padding else x
    ends = [side - size + 1 for side in x.shape[1:3]]
    cuts = [
        x[:, i : i + ends[0] : step, j : j + ends[1] : step]
        for i in range(size)
        for j in range(size)
    ]
    return tf.concat(cuts, -1)


def _times(x, matrix):
    """The last axis times a matrix."""
    rows = tf.matmul(tf.reshape(x, [-1, x.shape[-1]]), matrix)
    return tf.reshape(rows, tf.concat([tf.shape(x)[:-1], [matrix.shape[-1]]], 0))


def dense(operation, weights, given, x):
    """The last axis times a matrix, plus a bias."""
    kernel, bias = tf.cast(weights["kernel"], x.dtype), tf.cast(weights["bias"], x.dtype)
    return tf.nn.bias_add(_times(x, kernel), bias)


def batch_norm(operation, weights, given, x):
    """Each channel normalised by the moments given or, without, the batch's; and the latter, where it was."""
    scale, bias, epsilon = weights["scale"], weights["bias"], operation.epsilon
    exact = tf.cast(x, scale.dtype)
    if given.moments is not None:
        moments = (given.moments["mean"], given.moments["variance"])
        y = tf.nn.batch_normalization(exact, *moments, bias, scale, epsilon)
        return tf.cast(y, x.dtype), {}
    if exact.dtype == tf.float32 and len(x.shape) == 4:  # there is no such operation for others
        y, mean, variance = tf.compat.v1.nn.fused_batch_norm(exact, scale, bias, epsilon=epsilon)
        return tf.cast(y, x.dtype), {"mean": mean, "variance": variance}
    mean, variance = tf.nn.moments(exact, list(range(len(x.shape) - 1)))
    count = tf.cast(tf.size(x) // x.shape[-1], exact.dtype)
    y = tf.nn.batch_normalization(exact, mean, variance, bias, scale, epsilon)
    return y, {"mean": mean, "variance": variance * count / (count - 1)}


def standardise(operation, weights, given, x):
    """Each channel less its mean, over its standard deviation, by moments given; without, as it is."""
    if given.moments is None:
        return x
    exact = tf.cast(x, given.moments["mean"].dtype)
    y = (exact - given.moments["mean"]) * tf.math.rsqrt(given.moments["variance"])
    return tf.cast(y, x.dtype)


def layer_norm(operation, weights, given, x):
    """Each pixel's channels, or a galaxy's units, normalised by their own moments."""
    affine = (weights["bias"], weights["scale"], operation.epsilon)
    exact = tf.cast(x, weights["scale"].dtype)
    moments = tf.nn.moments(exact, [-1], keepdims=True)
    return tf.cast(tf.nn.batch_normalization(exact, *moments, *affine), x.dtype)


def scale(operation, weights, given, x):
    """Each channel times its factor."""
    return x * tf.cast(weights["scale"], x.dtype)


def relu(operation, weights, given, x):
    """max(x, 0)."""
    return tf.nn.relu(x)


def gelu(operation, weights, given, x):
    """x times the normal distribution function of x."""
    return x * (0.5 + 0.5 * tf.math.erf(x * math.sqrt(0.5)))  # tf.nn.gelu has the root in float32


def silu(operation, weights, given, x):
    """x times the logistic function of x."""
    return tf.nn.silu(x)


def sigmoid(operation, weights, given, x):
    """The logistic function."""
    return tf.sigmoid(x)


def max_pool(operation, weights, given, x):
    """The largest of each square; the gradient goes to it, or to the first of several."""
    padding = operation.padding
    edges = [[0, 0], [padding, padding], [padding, padding], [0, 0]] if padding else "VALID"
    return tf.nn.max_pool2d(x, operation.kernel, operation.stride, edges)


def mean(operation, weights, given, x):
    """The mean over pixels."""
    return tf.reduce_mean(x, [1, 2])


def add(operation, weights, given, x, other):
    """The sum of two layers."""
    return x + other


def multiply(operation, weights, given, x, factor):
    """Each channel of an image times its factor."""
    return x * factor[:, None, None]


def flatten(operation, weights, given, x):
    """Pixels and channels as units."""
    return tf.reshape(x, [tf.shape(x)[0], math.prod(x.shape[1:])])


def maxout(operation, weights, given, x):
    """The largest of neighbouring units; the gradient goes to it, or to the first of several."""
    shape = [x.shape[-1] // operation.pieces, operation.pieces]
    pieces = tf.reshape(x, tf.concat([tf.shape(x)[:-1], shape], 0))
    axes = len(pieces.shape) - 1
    return tf.gather(pieces, tf.argmax(pieces, -1), axis=-1, batch_dims=axes)


def dropout(operation, weights, given, x):
    """What is kept, scaled up so that its mean stays; the others 0."""
    if given.kept is None:
        return x
    axes = [1] * (len(x.shape) - len(given.kept.shape))
    kept = (
        tf.reshape(given.kept, tf.concat([tf.shape(given.kept), axes], 0)) if axes else given.kept
    )
    return tf.where(kept, x / (1 - operation.rate), tf.zeros([], x.dtype))


def stochastic_depth(operation, weights, given, x):
    """Whole galaxies that are kept, scaled up so that their mean stays; the others 0."""
    return dropout(operation, weights, given, x)


def turned(operation, weights, given, x):
    """The image, and beside it the image turned."""
    side, channels = x.shape[1], x.shape[3]
    index, share = taps(side, operation.degrees)
    pixels = tf.gather(tf.reshape(x, [-1, side * side, channels]), index, axis=1)
    other = tf.reduce_sum(pixels * tf.cast(to_device(share[..., None]), x.dtype), 1)
    return tf.concat([x, tf.reshape(other, tf.shape(x))], -1)


def views(operation, weights, given, x):
    """The 16 views, each of them a galaxy."""
    side, channels = x.shape[1], x.shape[3]
    pixels = tf.transpose(tf.reshape(x, [-1, side * side, 2, channels // 2]), [0, 2, 1, 3])
    pixels = tf.reshape(pixels, [-1, 2 * side * side, channels // 2])
    seen = tf.gather(pixels, places(side, operation.size).reshape(-1), axis=1)
    return tf.reshape(seen, [-1, operation.size, operation.size, channels // 2])


def gather(operation, weights, given, x):
    """The units of a galaxy's views, one after the other."""
    return tf.reshape(x, [-1, operation.views * x.shape[-1]])
