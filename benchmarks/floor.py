"""The floor: the least that a network costs, counted from its layers, and the least time that this may take.

A multiplication and an addition are two FLOPs. Those of a convolution are 2 x kernel x filters for each output pixel,
of a dense layer 2 x inputs x outputs; all else is left out, as it is to arithmetic what rounding is. A training step
has the forward pass, as much again for the gradients of weights, and as much again for those of inputs, which the
first convolution does not need.

Bytes are the least traffic to memory if every layer is a pass of its own, where an operation of one number at a time
(ReLU, a bias, a normalisation) is part of the layer before it: forward, each layer reads its inputs and writes its
output; backward, it reads its inputs and its output's gradient and writes its inputs' gradients. Views read the
stored bytes once. In a step Adam reads each weight, both moments and the gradient and writes the first three, and the
gradient is written once. A program that fuses layers can go below; none of those timed here does so for convolutions.
"""

from math import prod

from shared.network.model import model_of
from shared.network.network import Model, activations, source, work
from shared.network.operations import Conv, Dense, Gather, Maxout, MaxPool, Mean, Views
from shared.network.weights import parameters
from shared.run.spec import ModelSpec

WIDTH = {"float64": 8, "float32": 4, "tf32": 4, "bfloat16": 2}  # bytes of a number in a layer
PASSES = (
    Conv,
    Dense,
    MaxPool,
    Mean,
    Maxout,
    Views,
    Gather,
)  # operations that are a pass of their own


def forward_flops(spec: ModelSpec, samples: int = 1) -> float:
    """FLOPs of one galaxy's `samples`: the encoder once, the head once per sample."""
    encoder, head = _work(model_of(spec))
    return sum(encoder.values()) + samples * sum(head.values())


def training_flops(spec: ModelSpec) -> float:
    """FLOPs of one galaxy in a training step."""
    encoder, head = _work(model_of(spec))
    first = next(iter(encoder.values()))
    return 3 * (sum(encoder.values()) + sum(head.values())) - first


def forward_bytes(spec: ModelSpec, precision: str, seen: int, images: int) -> float:
    """Least traffic of one pass over `images` galaxies, each of `seen` stored bytes."""
    read, written = _traffic(model_of(spec))
    width = WIDTH[precision]
    return images * (seen + width * (read + written)) + width * parameters(spec)


def training_bytes(spec: ModelSpec, precision: str, seen: int, images: int) -> float:
    """Least traffic of one training step on `images` galaxies, each of `seen` stored bytes."""
    read, written = _traffic(model_of(spec))
    backward = 2 * read + written - prod(model_of(spec).image)
    weights = 8 * max(4, WIDTH[precision]) * parameters(spec)
    forward = forward_bytes(spec, precision, seen, images)
    return forward + images * WIDTH[precision] * backward + weights


def floor_seconds(flops: float, moved: float, ceilings: dict) -> float | None:
    """The least time that `flops` and `moved` bytes may take at the measured `ceilings`; None where
    neither is known.
    """
    parts = [
        amount / ceilings[name]
        for amount, name in ((flops, "matmul_flops"), (moved, "copy_bytes"))
        if amount and ceilings.get(name)
    ]
    return max(parts, default=None)


def _work(model: Model) -> tuple[dict[str, int], dict[str, int]]:
    """FLOPs of each layer with a kernel, of the encoder and of the head."""
    return work(model.encoder, model.image), work(model.head, (model.units,))


def _traffic(model: Model) -> tuple[int, int]:
    """Numbers that the encoder's passes read, and that they and the views before them write, for one galaxy."""
    size = activations(model.encoder, model.image)
    read, written = 0, size[source(model.encoder)]
    for name, operation, inputs in model.encoder:
        if isinstance(operation, PASSES):
            read, written = read + size[inputs[0]], written + size[name]
        read += sum(size[each] for each in inputs[1:])
    return read, written
