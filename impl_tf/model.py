"""The CNN of W+20, in two parts: the features of an image, once, and the answers of each dropout sample."""

import keras
import tensorflow as tf
from keras import layers

from shared.network.weights import layer_shapes
from shared.run.spec import ModelSpec

from .device import compute_type, device, number_type


class GalaxyCNN(keras.Model):
    """The logit of a yes vote, for images (galaxy, y, x, 1)."""

    def __init__(self, spec: ModelSpec):
        super().__init__()
        shapes = layer_shapes(spec)
        filters = [shapes[f"conv{i}/kernel"][2:] for i in range(sum(map(len, spec.blocks)))]
        self.blocks = spec.blocks
        with device():
            self.convs = [convolution(*pair) for pair in filters]
            self.hidden = layers.Dense(spec.dense, dtype=self.convs[0].dtype_policy)
            self.answer = layers.Dense(2, dtype=number_type().name)
            self.hidden.build((None, shapes["hidden/kernel"][0]))
            self.answer.build((None, spec.dense))

    def features(self, images, trace: list | None = None):
        """The dense layer's units (galaxy, unit); a TRACE list collects the layers before, (galaxy, y, x, channel)."""
        x = tf.cast(images, compute_type())
        convs = iter(self.convs)
        for block in self.blocks:
            *before, last = (next(convs) for _ in block)
            for conv in before:
                x = tf.nn.relu(conv(x))
                note(trace, x)
            x = pooled(last, x, trace)
        x = tf.reshape(x, [tf.shape(x)[0], self.hidden.kernel.shape[0]])
        return tf.cast(tf.nn.relu(self.hidden(x)), number_type())

    def answers(self, units):
        """The logit ln(rho / (1 - rho)) (...) of units (..., unit)."""
        two = self.answer(units)
        return two[..., 1] - two[..., 0]


def convolution(inputs: int, filters: int):
    """A 3x3 convolution of stride 1, one pixel of zeros around the image."""
    mixed = compute_type() != number_type()
    layer = layers.Conv2D(
        filters, 3, padding="same", dtype="mixed_bfloat16" if mixed else number_type().name
    )
    layer.build((None, None, None, inputs))
    return layer


def note(trace: list | None, x) -> None:
    """Add a layer's activation to TRACE, where one is wanted."""
    if trace is not None:
        trace.append(x)


def pooled(conv, x, trace: list | None):
    """The largest of each 2x2 square of a convolution of X, after ReLU; TRACE gets both layers."""
    x = tf.nn.relu(conv(x))
    note(trace, x)
    x = max_pool(x)
    note(trace, x)
    return x


def max_pool(x):
    """The largest of each 2x2 square; its gradient goes to the first in row-major order."""
    return tf.nn.max_pool2d(x, 2, 2, "VALID")
