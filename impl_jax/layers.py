"""What each operation computes, as in `shared.proof.operations`: of (galaxy, y, x, channel), or (..., unit)."""

from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from shared.network.pixels import places, taps

from .device import on_gpu, to_device


class Given(NamedTuple):
    """Arguments of a layer besides its weights and inputs."""

    moments: dict | None  # mean and variance for a batch norm; None: those of the batch
    kept: jax.Array | None  # bool, what a layer keeps; None: everything, nothing is scaled


def conv(operation, weights, given, x):
    """A convolution, and its bias if it has one."""
    return convolve(operation, weights["kernel"], weights.get("bias"), x)


def conv_relu_pool(operation, pool, weights, x):
    """A convolution, ReLU and, unless `pool` is None, max-pool, as one step."""
    y = jax.nn.relu(conv(operation, weights, None, x))
    return y if pool is None else max_pool(pool, {}, None, y)


def convolve(operation, kernel, bias, x):
    """A convolution, by whatever is quickest."""
    step, padding, groups = operation.stride, operation.padding, operation.groups
    kernel, bias = kernel.astype(x.dtype), None if bias is None else bias.astype(x.dtype)
    if on_gpu():
        y = _convolved(x, kernel, step, padding, groups)
    elif groups == x.shape[-1] == operation.filters:
        y = _depthwise(x, kernel, step, padding)
    elif groups == 1 and (operation.kernel == 1 or few(operation, x, 2)):
        # XLA computes these on a CPU in a loop over single numbers, 100 times slower than the same as one product
        y = _times(shifted(operation, x), kernel.reshape(-1, operation.filters))
    elif groups == step == 1 and 2 * padding == operation.kernel - 1:
        y = _same(x, kernel)
    else:
        y = _convolved(x, kernel, step, padding, groups)
    return y if bias is None else _shifted_by(y, bias)


def few(operation, x, pixels: int) -> bool:
    """Whether a convolution leaves an image of at most so many pixels on its shorter side."""
    side = min(x.shape[1:3]) + 2 * operation.padding - operation.kernel
    return side // operation.stride < pixels


def shifted(operation, x):
    """What each pixel of a kernel meets, (galaxy, y, x, row x column x channel)."""
    size, step, padding = operation.kernel, operation.stride, operation.padding
    if size == step == 1:
        return x
    cuts = [cut for row in _windows(x, size, step, padding) for cut in row]
    return jnp.concatenate(cuts, -1)


def _times(x, matrix):
    """The last axis times a matrix."""
    # of two axes, or XLA copies x to turn it
    return (x.reshape(-1, len(matrix)) @ matrix).reshape(*x.shape[:-1], -1)


def dense(operation, weights, given, x):
    """The last axis times a matrix, plus a bias."""
    kernel, bias = weights["kernel"].astype(x.dtype), weights["bias"].astype(x.dtype)
    return _shifted_by(_times(x, kernel), bias)


def batch_norm(operation, weights, given, x):
    """Each channel normalised by the moments given or, without, the batch's; and the latter, where it was."""
    scale, bias, epsilon = weights["scale"], weights["bias"], operation.epsilon
    exact = x.astype(scale.dtype)
    if given.moments is not None:
        mean, variance = given.moments["mean"], given.moments["variance"]
        y = _scaled((exact - mean) * lax.rsqrt(variance + epsilon), scale)
        return _shifted_by(y, bias).astype(x.dtype), {}
    y, mean, variance = _normalised(exact, scale, bias, epsilon)
    count = x.size // x.shape[-1]
    return y.astype(x.dtype), {"mean": mean, "variance": variance * count / (count - 1)}


def standardise(operation, weights, given, x):
    """Each channel less its mean, over its standard deviation, by moments given; without, as it is."""
    if given.moments is None:
        return x
    y = (x - given.moments["mean"]) * lax.rsqrt(given.moments["variance"])
    return y.astype(x.dtype)


def layer_norm(operation, weights, given, x):
    """Each pixel's channels, or a galaxy's units, normalised by their own moments."""
    exact = x.astype(weights["scale"].dtype)
    mean, variance = exact.mean(-1, keepdims=True), exact.var(-1, keepdims=True)
    unit = (exact - mean) * lax.rsqrt(variance + operation.epsilon)
    return _shifted_by(_scaled(unit, weights["scale"]), weights["bias"]).astype(x.dtype)


def scale(operation, weights, given, x):
    """Each channel times its factor."""
    return _scaled(x, weights["scale"].astype(x.dtype))


def relu(operation, weights, given, x):
    """max(x, 0)."""
    return jax.nn.relu(x)


def gelu(operation, weights, given, x):
    """x times the normal distribution function of x."""
    return jax.nn.gelu(x, approximate=False)


def silu(operation, weights, given, x):
    """x times the logistic function of x."""
    return jax.nn.silu(x)


def sigmoid(operation, weights, given, x):
    """The logistic function."""
    return jax.nn.sigmoid(x)


def max_pool(operation, weights, given, x):
    """The largest of each square; the gradient goes to it, or to the first of several."""
    size, step, padding = operation.kernel, operation.stride, operation.padding
    if size == step == 2 and padding == 0 and x.shape[1] % 2 == x.shape[2] % 2 == 0:
        return _pool_of_four(x)
    return _pool(x, size, step, padding)


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
    return x.reshape(len(x), -1)


def maxout(operation, weights, given, x):
    """The largest of neighbouring units; the gradient goes to it, or to the first of several."""
    pieces = x.reshape(*x.shape[:-1], -1, operation.pieces)
    return jnp.take_along_axis(pieces, pieces.argmax(-1, keepdims=True), -1)[..., 0]


def dropout(operation, weights, given, x):
    """What is kept, scaled up so that its mean stays; the others 0."""
    if given.kept is None:
        return x
    kept = given.kept.reshape(*given.kept.shape, *(1,) * (x.ndim - given.kept.ndim))
    return jnp.where(kept, x / (1 - operation.rate), 0)


def stochastic_depth(operation, weights, given, x):
    """Whole galaxies that are kept, scaled up so that their mean stays; the others 0."""
    return dropout(operation, weights, given, x)


def turned(operation, weights, given, x):
    """The image, and beside it the image turned."""
    index, share = taps(x.shape[1], operation.degrees)
    pixels = x.reshape(len(x), -1, x.shape[-1])[:, index]
    other = (pixels * to_device(share[..., None]).astype(x.dtype)).sum(1)
    return jnp.concatenate([x, other.reshape(x.shape)], -1)


def views(operation, weights, given, x):
    """The 16 views, each of them a galaxy."""
    galaxies, side, _, channels = x.shape
    pixels = x.reshape(galaxies, side * side, 2, channels // 2).swapaxes(1, 2)
    pixels = pixels.reshape(galaxies, -1, channels // 2)
    index = places(side, operation.size).reshape(-1)
    return pixels[:, index].reshape(-1, operation.size, operation.size, channels // 2)


def gather(operation, weights, given, x):
    """The units of a galaxy's views, one after the other."""
    return x.reshape(-1, operation.views * x.shape[-1])


def _convolved(x, kernel, step, padding, groups):
    # here and below: what XLA does slowly on a CPU, and how it does the same quickly
    axes, edges = ("NHWC", "HWIO", "NHWC"), [(padding, padding)] * 2
    settings = {"dimension_numbers": axes, "feature_group_count": groups}
    return lax.conv_general_dilated(x, kernel, (step, step), edges, **settings)


@jax.custom_vjp
def _same(x, kernel):
    """A convolution of stride 1 that leaves an image as large as it is.

    XLA turns the kernel's gradient into a convolution with a window as large as the image. As products of matrices (the
    rows of x from each row of the kernel against shifts of the gradient), image by image, it is 2 to 4 times faster.
    """
    return _convolved(x, kernel, 1, len(kernel) // 2, 1)


def _same_backward(saved, d):
    x, kernel = saved
    size, edge, inputs = len(kernel), len(kernel) // 2, kernel.shape[2]

    def add_image(total, pair):
        image, its_d = pair
        height, width = image.shape[:2]
        image = jnp.pad(image, ((edge, edge), (0, 0), (0, 0)))
        its_d = jnp.pad(its_d, ((0, 0), (edge, edge), (0, 0)))
        across = [its_d[:, size - 1 - j : size - 1 - j + width] for j in range(size)]
        across = jnp.concatenate(across, -1).reshape(height * width, -1)
        rows = [image[i : i + height].reshape(height * width, -1) for i in range(size)]
        return total + jnp.stack([row.T @ across for row in rows]), None

    exact = jnp.promote_types(x.dtype, jnp.float32)
    zeros = jnp.zeros((size, inputs, size * kernel.shape[3]), exact)
    products, _ = lax.scan(add_image, zeros, (x, d))
    for_kernel = products.reshape(size, inputs, size, -1).transpose(0, 2, 1, 3)
    return _same(d, kernel[::-1, ::-1].transpose(0, 1, 3, 2)), for_kernel.astype(kernel.dtype)


_same.defvjp(lambda x, kernel: (_same(x, kernel), (x, kernel)), _same_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(x, kernel, step, padding):
    """A convolution of each channel by itself: XLA's own is 10 to 50 times slower than these sums."""
    shifts = _windows(x, len(kernel), step, padding)
    return sum(cut * kernel[i, j, 0] for i, row in enumerate(shifts) for j, cut in enumerate(row))


def _depthwise_forward(x, kernel, step, padding):
    return _depthwise(x, kernel, step, padding), (x, kernel)


def _depthwise_backward(step, padding, saved, d):
    x, kernel = saved
    size, (n, height, width, channels) = len(kernel), d.shape
    reach = size - 1 - padding
    wide = (n, x.shape[1] + size - 1, x.shape[2] + size - 1, channels)
    for_x = _depthwise(_spread(d, (reach, reach), step, wide), kernel[::-1, ::-1], 1, 0)
    padded = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))

    def add_pixel(number, total):
        i, j = number // width, number % width
        window = lax.dynamic_slice(padded, (0, step * i, step * j, 0), (n, size, size, channels))
        return total + window * lax.dynamic_slice(d, (0, i, j, 0), (n, 1, 1, channels))

    zeros = jnp.zeros((n, size, size, channels), x.dtype)
    products = lax.fori_loop(0, height * width, add_pixel, zeros)
    return for_x, products.sum(0)[:, :, None]


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def _windows(x, size, step, padding, beyond=0):
    """What each pixel of a window meets: for its rows, for its columns, (galaxy, y, x, channel)."""
    edges = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    x = jnp.pad(x, edges, constant_values=beyond)
    n, rows, columns, c = x.shape
    ends = [side - size - (side - size) % step + 1 for side in (rows, columns)]
    strides = (1, step, step, 1)
    return [
        [lax.slice(x, (0, i, j, 0), (n, i + ends[0], j + ends[1], c), strides) for j in range(size)]
        for i in range(size)
    ]


def _spread(d, start, step, shape):
    """`d` at every `step`-th pixel of an image of `shape` from `start` on, zeros elsewhere."""
    ends = [shape[axis + 1] - start[axis] - step * (d.shape[axis + 1] - 1) - 1 for axis in (0, 1)]
    inner = [(before, after, step - 1) for before, after in zip(start, ends, strict=True)]
    return lax.pad(d, jnp.zeros((), d.dtype), [(0, 0, 0), *inner, (0, 0, 0)])


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _pool(x, size, step, padding):
    """The largest of each square; jnp.max would share the gradient out among equals, and XLA's own is slow."""
    cuts = _windows(x, size, step, padding, -jnp.inf)
    return reduce(jnp.maximum, [cut for row in cuts for cut in row])


def _pool_forward(x, size, step, padding):
    y = _pool(x, size, step, padding)
    return y, (x, y)


def _pool_backward(size, step, padding, saved, d):
    x, y = saved
    left, for_x = jnp.ones(y.shape, bool), 0
    for i, row in enumerate(_windows(x, size, step, padding, -jnp.inf)):
        for j, cut in enumerate(row):
            here = left & (cut == y)
            left = left & ~here
            start = (i - padding, j - padding)
            for_x = for_x + _spread(jnp.where(here, d, 0), start, step, x.shape)
    return (for_x,)


_pool.defvjp(_pool_forward, _pool_backward)


@jax.custom_vjp
def _pool_of_four(x):
    """The max-pool of 2x2 squares side by side, from one array of squares."""
    return jnp.max(_squares(x), (2, 4))


def _squares(x):
    n, y, x_, c = x.shape
    return x.reshape(n, y // 2, 2, x_ // 2, 2, c)


def _pool_of_four_backward(saved, d):
    x, largest = saved
    here = _squares(x) == largest[:, :, None, :, None]
    first, second = here[:, :, 0, :, 0], here[:, :, 0, :, 1] & ~here[:, :, 0, :, 0]
    third = here[:, :, 1, :, 0] & ~(first | second)
    upper = jnp.stack([first, second], 3)
    lower = jnp.stack([third, ~(first | second | third)], 3)
    chosen = jnp.stack([upper, lower], 2)
    return (jnp.where(chosen, d[:, :, None, :, None], 0).reshape(x.shape),)


def _pool_of_four_forward(x):
    y = _pool_of_four(x)
    return y, (x, y)


_pool_of_four.defvjp(_pool_of_four_forward, _pool_of_four_backward)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _normalised(x, scale, bias, epsilon):
    """x with its own moments over galaxies and pixels taken out, and these moments, which have no gradient."""
    count = x.size // x.shape[-1]
    mean = _total(x) / count
    variance = _total((x - mean) ** 2) / count
    return (x - mean) * (lax.rsqrt(variance + epsilon) * scale) + bias, mean, variance


def _normalised_forward(x, scale, bias, epsilon):
    y, mean, variance = _normalised(x, scale, bias, epsilon)
    return (y, mean, variance), (x, scale, mean, variance)


def _normalised_backward(epsilon, saved, gradients):
    x, scale, mean, variance = saved
    d, count = gradients[0], x.size // x.shape[-1]
    share = lax.rsqrt(variance + epsilon)
    unit = (x - mean) * share
    for_scale, for_bias = _total(d * unit), _total(d)
    return (d - (for_bias + unit * for_scale) / count) * (share * scale), for_scale, for_bias


_normalised.defvjp(_normalised_forward, _normalised_backward)


@jax.custom_vjp
def _shifted_by(x, bias):
    """x plus a bias for each channel."""
    return x + bias


_shifted_by.defvjp(lambda x, bias: (x + bias, None), lambda _, d: (d, _total(d)))


@jax.custom_vjp
def _scaled(x, scale):
    """x times a factor for each channel."""
    return x * scale


def _scaled_backward(saved, d):
    x, scale = saved
    return d * scale, _total(d * x)


_scaled.defvjp(lambda x, scale: (x * scale, (x, scale)), _scaled_backward)


def _total(x):
    """The sum over all axes but the last."""
    if on_gpu():
        return x.sum(range(x.ndim - 1))
    # XLA's own sum of columns is 15 times slower than a product with ones; galaxies first, for rounding's sake
    pixels = jnp.ones(len(x), x.dtype) @ x.reshape(len(x), -1)
    pixels = pixels.reshape(-1, x.shape[-1])
    return jnp.ones(len(pixels), x.dtype) @ pixels
