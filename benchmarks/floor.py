"""The floor: the least that W+20's network costs, counted from its spec, and the least time that this may take.

A multiplication and an addition are two FLOPs. Those of a convolution are 2 x 9 x inputs x filters for each output
pixel, of a dense layer 2 x inputs x outputs; pooling, ReLU, views and dropout are left out, as they are to arithmetic
what rounding is. A training step has the forward pass, as much again for the slopes of weights, and as much again for
those of inputs, which the first convolution needs not.

Bytes are the least traffic to memory if every layer is a pass of its own: forward, each layer reads its input and
writes its output; backward, it reads its input and its output's slope and writes its input's slope. Views read the
stored bytes once. In a step Adam reads each weight, both moments and the slope and writes the first three, and the
slope is written once. A program that fuses layers can go below; none of those timed here does so for convolutions.
"""

from math import prod

from shared.network.weights import layer_shapes, parameters
from shared.run.spec import ModelSpec

WIDTH = {"float64": 8, "float32": 4, "tf32": 4, "bfloat16": 2}  # bytes of a number in a layer


def forward_flops(spec: ModelSpec, samples: int = 1) -> float:
    """FLOPs of one galaxy's SAMPLES: the convolutions once, the last layer once per sample."""
    shapes = layer_shapes(spec)
    last = 2 * prod(shapes["answer/kernel"])
    return _convolutions(spec) + 2 * prod(shapes["hidden/kernel"]) + samples * last


def training_flops(spec: ModelSpec) -> float:
    """FLOPs of one galaxy in a training step."""
    first = layer_shapes(spec)["conv0/kernel"]
    return 3 * forward_flops(spec) - 2 * prod(first) * spec.image_size**2


def forward_bytes(spec: ModelSpec, precision: str, seen: int, images: int) -> float:
    """Least traffic of one pass over IMAGES galaxies, each of SEEN stored bytes."""
    layers = sum(_layers(spec)) + sum(_layers(spec)[:-1])
    width = WIDTH[precision]
    return images * (seen + width * layers) + width * parameters(spec)


def training_bytes(spec: ModelSpec, precision: str, seen: int, images: int) -> float:
    """Least traffic of one training step on IMAGES galaxies, each of SEEN stored bytes."""
    sizes = _layers(spec)
    backward = 2 * sum(sizes[:-1]) + sum(sizes[1:])
    weights = 8 * max(4, WIDTH[precision]) * parameters(spec)
    forward = forward_bytes(spec, precision, seen, images)
    return forward + images * WIDTH[precision] * backward + weights


def floor_seconds(flops: float, moved: float, ceilings: dict) -> float | None:
    """The least time that FLOPS and MOVED bytes may take at the measured CEILINGS; None where neither is known."""
    parts = [
        amount / ceilings[name]
        for amount, name in ((flops, "matmul_flops"), (moved, "copy_bytes"))
        if amount and ceilings.get(name)
    ]
    return max(parts, default=None)


def _convolutions(spec: ModelSpec) -> float:
    shapes, width, number, flops = layer_shapes(spec), spec.image_size, 0, 0.0
    for block in spec.blocks:
        for _ in block:
            flops += 2 * prod(shapes[f"conv{number}/kernel"]) * width**2
            number += 1
        width //= 2
    return flops


def _layers(spec: ModelSpec) -> list[int]:
    """Numbers in the image as the network is shown it, and in each layer's output after it."""
    sizes, width = [spec.image_size**2], spec.image_size
    for block in spec.blocks:
        sizes += [filters * width**2 for filters in block]
        width //= 2
        sizes.append(block[-1] * width**2)
    return [*sizes, spec.dense]
