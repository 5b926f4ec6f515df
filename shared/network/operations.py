"""The operations of a network's layers, as data: their settings, and what follows for shapes, weights and work.

What an operation computes is written four times, in a function whose name is the class' in lower case with underscores
(`batch_norm` for `BatchNorm`): `shared.proof.operations`, `impl_tf.layers`, `impl_torch.layers` and `impl_jax.layers`.
Shapes are those of one galaxy: (y, x, channel), or (unit,). An operation on units takes any axes before the last one,
such as (galaxy, sample, unit).
"""

import re
from dataclasses import dataclass
from math import prod, sqrt
from typing import NamedTuple

Shape = tuple[int, ...]
Shapes = dict[str, Shape]


class Start(NamedTuple):
    """How the first values of an array of weights are drawn."""

    law: str  # uniform: in +- size | normal: with the standard deviation size | constant: all are size
    size: float


@dataclass(frozen=True)
class Operation:
    """What all operations have in common; each class says only where it differs."""

    def output(self, x: Shape, *others: Shape) -> Shape:
        """The shape of the output, given those of the inputs."""
        return x

    def weights(self, x: Shape) -> Shapes:
        """The shape of every array of weights, given that of the input."""
        return {}

    def moments(self, x: Shape) -> Shapes:
        """The shapes of the running moments, which are state but no weights."""
        return {}

    def start(self, part: str, shape: Shape) -> Start:
        """How the array `part` of weights, of that `shape`, begins."""
        return Start("constant", 0.0)


def function(operation: Operation) -> str:
    """What the function that computes an operation is called in all four programs: batch_norm for BatchNorm."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(operation).__name__).lower()


def kernel_start(init: str | float, shape: Shape) -> Start:
    """How a kernel of `shape` (..., input, output) begins: `init` is glorot, he, or a standard deviation.

    Glorot and Bengio (2010), uniform; He et al. (2015), normal, by the fan-out, as timm has it.
    """
    field = prod(shape[:-2])
    if init == "glorot":
        return Start("uniform", sqrt(6 / (field * (shape[-2] + shape[-1]))))
    if init == "he":
        return Start("normal", sqrt(2 / (field * shape[-1])))
    return Start("normal", float(init))


@dataclass(frozen=True)
class Conv(Operation):
    """A cross-correlation with square kernels, and `padding` zeros on every side."""

    filters: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    bias: bool = True
    init: str | float = "glorot"
    bias_init: float = 0.0

    def output(self, x: Shape, *others: Shape) -> Shape:
        """The shape of the output, given those of the inputs."""
        return (*strided(x, self.kernel, self.stride, self.padding), self.filters)

    def weights(self, x: Shape) -> Shapes:
        """The shape of every array of weights, given that of the input."""
        kernel = (self.kernel, self.kernel, x[-1] // self.groups, self.filters)
        return {"kernel": kernel} | ({"bias": (self.filters,)} if self.bias else {})

    def start(self, part: str, shape: Shape) -> Start:
        """How the array `part` of weights, of that `shape`, begins."""
        if part == "bias":
            return Start("constant", self.bias_init)
        if self.init == "he":  # an input reaches the filters of its group only
            shape = (*shape[:-1], shape[-1] // self.groups)
        return kernel_start(self.init, shape)


@dataclass(frozen=True)
class Dense(Operation):
    """The last axis times a matrix, plus a bias."""

    units: int
    init: str | float = "glorot"
    bias_init: float = 0.0

    def output(self, x: Shape, *others: Shape) -> Shape:
        """The shape of the output, given those of the inputs."""
        return (*x[:-1], self.units)

    def weights(self, x: Shape) -> Shapes:
        """The shape of every array of weights, given that of the input."""
        return {"kernel": (x[-1], self.units), "bias": (self.units,)}

    def start(self, part: str, shape: Shape) -> Start:
        """How the array `part` of weights, of that `shape`, begins."""
        return (
            Start("constant", self.bias_init) if part == "bias" else kernel_start(self.init, shape)
        )


@dataclass(frozen=True)
class BatchNorm(Operation):
    """(x - mean) / sqrt(variance + epsilon) x scale + bias, with each channel's moments over galaxies and pixels.

    In training the moments are those of the batch, its variance the mean square; else the running ones:
    running = (1 - momentum) x running + momentum x the batch's, whose variance is then that of a sample, n / (n - 1)
    as large.
    """

    epsilon: float = 1e-5
    momentum: float = 0.1
    init: float = 1.0  # of the scale

    def weights(self, x: Shape) -> Shapes:
        """The shape of every array of weights, given that of the input."""
        return {"scale": x[-1:], "bias": x[-1:]}

    def moments(self, x: Shape) -> Shapes:
        """The shapes of the running moments, which are state but no weights."""
        return {"mean": x[-1:], "variance": x[-1:]}

    def start(self, part: str, shape: Shape) -> Start:
        """How the array `part` of weights, of that `shape`, begins."""
        return Start("constant", self.init if part == "scale" else 0.0)


@dataclass(frozen=True)
class Standardise(Operation):
    """(x - mean) / sqrt(variance), with moments that never change, such as those of the pixels trained with.

    Without moments x is left as it is.
    """

    def moments(self, x: Shape) -> Shapes:
        """The shapes of the running moments, which are state but no weights."""
        return {"mean": x[-1:], "variance": x[-1:]}


@dataclass(frozen=True)
class LayerNorm(Operation):
    """(x - mean) / sqrt(variance + epsilon) x scale + bias, with the moments over the channels of each pixel."""

    epsilon: float = 1e-6

    def weights(self, x: Shape) -> Shapes:
        """The shape of every array of weights, given that of the input."""
        return {"scale": x[-1:], "bias": x[-1:]}

    def start(self, part: str, shape: Shape) -> Start:
        """How the array `part` of weights, of that `shape`, begins."""
        return Start("constant", 1.0 if part == "scale" else 0.0)


@dataclass(frozen=True)
class Scale(Operation):
    """Each channel times a learned factor, which begins as `init`."""

    init: float

    def weights(self, x: Shape) -> Shapes:
        """The shape of every array of weights, given that of the input."""
        return {"scale": x[-1:]}

    def start(self, part: str, shape: Shape) -> Start:
        """How the array `part` of weights, of that `shape`, begins."""
        return Start("constant", self.init)


@dataclass(frozen=True)
class Relu(Operation):
    """max(x, 0), whose gradient at 0 is 0."""


@dataclass(frozen=True)
class Gelu(Operation):
    """x times the normal distribution function of x: the exact form, of erf."""


@dataclass(frozen=True)
class Silu(Operation):
    """x / (1 + exp(-x))."""


@dataclass(frozen=True)
class Sigmoid(Operation):
    """1 / (1 + exp(-x))."""


@dataclass(frozen=True)
class MaxPool(Operation):
    """The largest of each square; the `padding` pixels on every side never are. Of equals the first, row by row."""

    kernel: int
    stride: int
    padding: int = 0

    def output(self, x: Shape, *others: Shape) -> Shape:
        """The shape of the output, given those of the inputs."""
        return (*strided(x, self.kernel, self.stride, self.padding), x[-1])


@dataclass(frozen=True)
class Mean(Operation):
    """The mean over pixels, (unit,)."""

    def output(self, x: Shape, *others: Shape) -> Shape:
        """The shape of the output, given those of the inputs."""
        return x[-1:]


@dataclass(frozen=True)
class Add(Operation):
    """The sum of two layers."""


@dataclass(frozen=True)
class Multiply(Operation):
    """A layer (y, x, channel) times a factor for each channel, (channel,)."""


@dataclass(frozen=True)
class Flatten(Operation):
    """(y, x, channel) as (unit,), in this order."""

    def output(self, x: Shape, *others: Shape) -> Shape:
        """The shape of the output, given those of the inputs."""
        return (prod(x),)


@dataclass(frozen=True)
class Maxout(Operation):
    """The largest of every `pieces` neighbouring units; of equals the first."""

    pieces: int

    def output(self, x: Shape, *others: Shape) -> Shape:
        """The shape of the output, given those of the inputs."""
        return (*x[:-1], x[-1] // self.pieces)


@dataclass(frozen=True)
class Dropout(Operation):
    """Units that are kept, divided by 1 - rate; the others 0."""

    rate: float


@dataclass(frozen=True)
class StochasticDepth(Operation):
    """A galaxy's whole activation, divided by 1 - rate, where it is kept; else 0."""

    rate: float


@dataclass(frozen=True)
class Turned(Operation):
    """An image (y, x, c), and after its channels those of the image turned about its centre by `degrees`, bilinearly.

    Beyond the image its nearest pixel is repeated.
    """

    degrees: float

    def output(self, x: Shape, *others: Shape) -> Shape:
        """The shape of the output, given those of the inputs."""
        return (*x[:2], 2 * x[2])


@dataclass(frozen=True)
class Views(Operation):
    """An image (y, x, 2 c), upright and turned, as 16 squares of `size`, each of which becomes a galaxy of its own.

    Each way is taken as it is and mirrored; of both its four corners, turned so that the centre lies in the same one.
    """

    size: int

    def output(self, x: Shape, *others: Shape) -> Shape:
        """The shape of the output, given those of the inputs."""
        return (self.size, self.size, x[-1] // 2)


@dataclass(frozen=True)
class Gather(Operation):
    """The units of a galaxy's `views`, one after the other, as those of one galaxy."""

    views: int

    def output(self, x: Shape, *others: Shape) -> Shape:
        """The shape of the output, given those of the inputs."""
        return (self.views * x[0],)


RANDOM = (Dropout, StochasticDepth)
OPERATIONS = {operation.__name__: operation for operation in Operation.__subclasses__()}


def strided(x: Shape, kernel: int, stride: int, padding: int) -> Shape:
    """The sides (y, x) that a window of `kernel` pixels, moved by `stride`, leaves of an image."""
    y, x_ = ((side + 2 * padding - kernel) // stride + 1 for side in x[:2])
    return y, x_
