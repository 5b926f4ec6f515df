"""The CNN of W+20, in two parts: the features of an image, once, and the answers of each dropout sample."""

import jax
import jax.numpy as jnp
from flax import nnx

from shared.network.weights import layer_shapes
from shared.run.spec import ModelSpec

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

    def features(self, images, trace: list | None = None):
        """The dense layer's units (galaxy, unit); a TRACE list collects the layers before, (galaxy, y, x, channel)."""
        x = images.astype(compute_type())
        convs = iter(self.convs)
        for block in self.blocks:
            *before, last = (next(convs) for _ in block)
            for conv in before:
                x = nnx.relu(conv(x))
                note(trace, x)
            x = pooled(last, x, trace)
        x = x.reshape(len(x), -1)
        return nnx.relu(self.hidden(x)).astype(number_type())

    def answers(self, units):
        """The logit ln(rho / (1 - rho)) (...) of units (..., unit)."""
        two = self.answer(units)
        return two[..., 1] - two[..., 0]


def convolution(inputs: int, filters: int):
    """A 3x3 convolution of stride 1, one pixel of zeros around the image."""

    # On CPU, XLA turns the kernel's gradient into a convolution with a window as large as the image. The same gradient
    # as products of matrices (the rows of x from each of three against three shifts of the slope), image by image, is
    # 2 to 4 times faster.
    @jax.custom_vjp
    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def backward(saved, slope):
        x, kernel = saved

        def add_image(total, pair):
            image, its_slope = pair
            height, width = image.shape[:2]
            image = jnp.pad(image, ((1, 1), (0, 0), (0, 0)))
            its_slope = jnp.pad(its_slope, ((0, 0), (1, 1), (0, 0)))
            across = jnp.concatenate([its_slope[:, 2 - j : 2 - j + width] for j in range(3)], -1)
            across = across.reshape(height * width, -1)
            rows = [image[i : i + height].reshape(height * width, -1) for i in range(3)]
            return total + jnp.stack([row.T @ across for row in rows]), None

        zeros = jnp.zeros((3, inputs, 3 * filters), number_type())
        products, _ = jax.lax.scan(add_image, zeros, (x, slope))
        for_kernel = products.reshape(3, inputs, 3, filters).transpose(0, 2, 1, 3)
        return convolve(slope, kernel[::-1, ::-1].transpose(0, 1, 3, 2)), for_kernel.astype(
            kernel.dtype
        )

    convolve.defvjp(lambda x, kernel: (convolve(x, kernel), (x, kernel)), backward)

    def conv_general_dilated(x, kernel, *_, **__):
        return convolve(x, kernel)

    own = {} if device().platform == "gpu" else {"conv_general_dilated": conv_general_dilated}
    types = {"dtype": compute_type(), "param_dtype": number_type()}
    return nnx.Conv(inputs, filters, (3, 3), padding="SAME", rngs=nnx.Rngs(0), **types, **own)


def note(trace: list | None, x) -> None:
    """Add a layer's activation to TRACE, where one is wanted."""
    if trace is not None:
        trace.append(x)


def pooled(conv, x, trace: list | None):
    """The largest of each 2x2 square of a convolution of X, after ReLU; TRACE gets both layers."""
    x = nnx.relu(conv(x))
    note(trace, x)
    x = max_pool(x)
    note(trace, x)
    return x


def max_pool(x):
    """The largest of each 2x2 square; its gradient goes to the first in row-major order."""

    # jnp.max shares a gradient out among equals, and the gradient of lax.reduce_window is slow on CPU
    def squares(x):
        n, y, x_, c = x.shape
        return x.reshape(n, y // 2, 2, x_ // 2, 2, c)

    @jax.custom_vjp
    def pool(x):
        return jnp.max(squares(x), (2, 4))

    def backward(saved, slope):
        x, largest = saved
        here = squares(x) == largest[:, :, None, :, None]
        first, second = here[:, :, 0, :, 0], here[:, :, 0, :, 1] & ~here[:, :, 0, :, 0]
        third = here[:, :, 1, :, 0] & ~(first | second)
        upper, lower = (
            jnp.stack([first, second], 3),
            jnp.stack([third, ~(first | second | third)], 3),
        )
        chosen = jnp.stack([upper, lower], 2)
        return (jnp.where(chosen, slope[:, :, None, :, None], 0).reshape(x.shape),)

    pool.defvjp(lambda x: (lambda largest: (largest, (x, largest)))(pool(x)), backward)
    return pool(x)
