"""The CNN of W+20, in two parts: the features of an image, once, and the answers of each dropout sample."""

import jax
import jax.numpy as jnp
from flax import nnx

from shared.spec import ModelSpec
from shared.weights import layer_shapes

from .device import compute_type, device, number_type


class GalaxyCNN(nnx.Module):
    """The logit of a yes vote, for images (galaxy, y, x, 1)."""

    def __init__(self, spec: ModelSpec):
        shapes, rngs = layer_shapes(spec), nnx.Rngs(0)
        filters = [shapes[f"conv{i}/kernel"][2:] for i in range(sum(map(len, spec.blocks)))]
        self.blocks = spec.blocks
        self.convs = nnx.List(convolution(*pair) for pair in filters)
        types = {"param_dtype": number_type(), "rngs": rngs}
        self.hidden = nnx.Linear(*shapes["hidden/kernel"], dtype=compute_type(), **types)
        self.answer = nnx.Linear(*shapes["answer/kernel"], dtype=number_type(), **types)

    def features(self, images):
        """The dense layer's units (galaxy, unit)."""
        x = images.astype(compute_type())
        convs = iter(self.convs)
        for block in self.blocks:
            for _ in block:
                x = nnx.relu(next(convs)(x))
            x = max_pool(x)
        x = x.reshape(len(x), -1)
        return nnx.relu(self.hidden(x)).astype(number_type())

    def answers(self, units):
        """The logit ln(rho / (1 - rho)) (...) of units (..., unit)."""
        two = self.answer(units)
        return two[..., 1] - two[..., 0]


def convolution(inputs: int, filters: int):
    """A 3x3 convolution of stride 1, one pixel of zeros around the image."""

    # On CPU, XLA turns the kernel's gradient into a convolution with a window as large as the image. The same
    # gradient as one product of matrices per image (three shifts of x against three of the slope) is 2 to 3 times faster.
    @jax.custom_vjp
    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def backward(saved, slope):
        x, kernel = saved
        n, y, x_, _ = x.shape
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        across = jnp.concatenate([padded[:, :, j : j + x_] for j in range(3)], -1).reshape(n, -1, 3 * inputs)
        down = jnp.concatenate([jnp.pad(slope, ((0, 0), (i, 2 - i), (0, 0), (0, 0))) for i in range(3)], -1)
        products = jnp.einsum("nka,nkb->ab", across, down.reshape(n, -1, 3 * filters))
        for_kernel = products.reshape(3, inputs, 3, filters).transpose(2, 0, 1, 3)
        return convolve(slope, kernel[::-1, ::-1].transpose(0, 1, 3, 2)), for_kernel.astype(kernel.dtype)

    convolve.defvjp(lambda x, kernel: (convolve(x, kernel), (x, kernel)), backward)

    def conv_general_dilated(x, kernel, *_, **__):
        return convolve(x, kernel)

    own = {} if device().platform == "gpu" else {"conv_general_dilated": conv_general_dilated}
    types = {"dtype": compute_type(), "param_dtype": number_type()}
    return nnx.Conv(inputs, filters, (3, 3), padding="SAME", rngs=nnx.Rngs(0), **types, **own)


def max_pool(x):
    """The largest of each 2x2 square; its gradient goes to the first in row-major order."""

    # jnp.max shares a gradient out among equals, and the gradient of lax.reduce_window is slow on CPU
    @jax.custom_vjp
    def pool(a, b, c, d):
        return jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))

    def backward(saved, slope):
        a, b, c, d, largest = saved
        first = a == largest
        second = (b == largest) & ~first
        third = (c == largest) & ~first & ~second
        return tuple(jnp.where(mine, slope, 0) for mine in (first, second, third, ~(first | second | third)))

    def forward(*squares):
        largest = pool(*squares)
        return largest, (*squares, largest)

    pool.defvjp(forward, backward)
    return pool(x[:, 0::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 0::2], x[:, 1::2, 1::2])
