"""What timm calls the weights and running moments of its ResNets, ConvNeXts and EfficientNets, in which layouts.

For encoders: a classifier's weights belong to the answers that it was trained for, and are left out. timm keeps a
kernel as (output, input, row, column), and some kernels of one pixel as (output, input), or the other way round.
"""

import re

import numpy as np

from shared.network.network import Network, moment_shapes, weight_shapes
from shared.network.operations import Shape, Shapes

Arrays = dict[str, np.ndarray]

SEVERAL = 6  # names in a message
LINEAR = (
    "convnext_tiny",
    "convnext_small",
)  # whose kernels of one pixel timm keeps as (output, input)
PARTS = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "variance": "running_var"}
BLOCK = r"^stage(\d+)/block(\d+)/"
RULES = {  # of each family: patterns in our names of layers, and what stands there in timm's
    "resnet": (
        (r"^stem/conv\b", "conv1"),
        (r"^stem/norm\b", "bn1"),
        (BLOCK, lambda found: f"layer{int(found[1]) + 1}.{found[2]}."),
        (r"\.conv(\d)\b", lambda found: f".conv{int(found[1]) + 1}"),
        (r"\.norm(\d)\b", lambda found: f".bn{int(found[1]) + 1}"),
        (r"shortcut/conv\b", "downsample.0"),
        (r"shortcut/norm\b", "downsample.1"),
    ),
    "convnext": (
        (r"^stem/conv\b", "stem.0"),
        (r"^stem/norm\b", "stem.1"),
        (r"^units\b", "head.norm"),
        (r"^stage(\d+)/down/norm\b", r"stages.\1.downsample.0"),
        (r"^stage(\d+)/down/conv\b", r"stages.\1.downsample.1"),
        (BLOCK, r"stages.\1.blocks.\2."),
        (r"\.depthwise\b", ".conv_dw"),
        (r"\.expand\b", ".mlp.fc1"),
        (r"\.contract\b", ".mlp.fc2"),
        (r"\.scale\.weight$", ".gamma"),
    ),
    "efficientnet": (
        (r"^stem/conv\b", "conv_stem"),
        (r"^stem/norm\b", "bn1"),
        (r"^top/conv\b", "conv_head"),
        (r"^top/norm\b", "bn2"),
        # the first stage does not expand, so that timm counts from its depthwise convolution
        (r"^stage0/block(\d+)/depthwise_norm\b", r"blocks.0.\1.bn1"),
        (r"^stage0/block(\d+)/contract\b", r"blocks.0.\1.conv_pw"),
        (r"^stage0/block(\d+)/contract_norm\b", r"blocks.0.\1.bn2"),
        (BLOCK, r"blocks.\1.\2."),
        (r"\.expand\b", ".conv_pw"),
        (r"\.expand_norm\b", ".bn1"),
        (r"\.depthwise\b", ".conv_dw"),
        (r"\.depthwise_norm\b", ".bn2"),
        (r"\.contract\b", ".conv_pwl"),
        (r"\.contract_norm\b", ".bn3"),
        (r"\.gate/squeeze\b", ".se.conv_reduce"),
        (r"\.gate/excite\b", ".se.conv_expand"),
    ),
}
LEFT_OUT = r"(num_batches_tracked|^(head\.)?fc\..*|^classifier\..*)$"  # of timm's names


def timm_name(family: str, name: str) -> str:
    """What timm calls a weight or running moment of a network of a `family`: resnet, convnext or efficientnet."""
    layer, _, part = name.rpartition("/")
    theirs = f"{layer}.{PARTS.get(part, part)}"
    for pattern, replacement in RULES[family]:
        theirs = re.sub(pattern, replacement, theirs)
    return theirs


def from_timm(family: str, network: Network, start: Shape, state: Arrays) -> tuple[Arrays, Arrays]:
    """An encoder's weights and running moments, out of timm's `state`.

    Raises ValueError if any is missing or of another shape, or one of `state` has no place.
    """
    weights, moments = weight_shapes(network, start), moment_shapes(network, start)
    wanted = {name: timm_name(family, name) for name in weights | moments}
    left = [name for name in state if not re.search(LEFT_OUT, name)]
    if unlike := sorted(set(left) ^ set(wanted.values())):
        raise ValueError(
            f"these are not timm's weights of this {family}: {', '.join(unlike[:SEVERAL])}"
            f"{' and more' * (len(unlike) > SEVERAL)} are only in one of the two; give those of a network with the "
            "same widths and depths"
        )
    found = {
        name: _ours(state[wanted[name]], wanted[name], shape)
        for name, shape in (weights | moments).items()
    }
    return {name: found[name] for name in weights}, {name: found[name] for name in moments}


def to_timm(family: str, named: Arrays, shapes: Shapes) -> Arrays:
    """Weights, moments or gradients under timm's names, each in the shape that it has in timm's network: `shapes`."""
    return {
        timm_name(family, name): _theirs(array).reshape(shapes[timm_name(family, name)])
        for name, array in named.items()
    }


def timm_shapes(name: str, network: Network, start: Shape) -> Shapes:
    """The shape in timm's network of each weight and running moment of `network`, the encoder of model.name=`name`."""
    found, family = {}, family_of(name)
    for ours, shape in (weight_shapes(network, start) | moment_shapes(network, start)).items():
        theirs = timm_name(family, ours)
        if len(shape) == 4:
            shape = tuple(shape[axis] for axis in (3, 2, 0, 1))
            shape = shape[:2] if ".mlp." in theirs and name in LINEAR else shape
        elif len(shape) == 2:  # dense layers of ours, convolutions of theirs
            shape = (*shape[::-1], 1, 1)
        found[theirs] = shape
    return found


def family_of(name: str) -> str:
    """The family of timm's names for the encoder of model.name=`name`; ValueError for one that timm has not."""
    for family in RULES:
        if name.startswith(family):
            return family
    raise ValueError(f"model.name is {name}, which timm has not; there are {', '.join(RULES)}s")


def _theirs(array: np.ndarray) -> np.ndarray:
    axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim)
    return array if axes is None else array.transpose(axes)


def _ours(array: np.ndarray, name: str, shape: Shape) -> np.ndarray:
    """timm's `array` in our order of axes; ValueError if its `shape` cannot be ours."""
    if array.ndim in (2, 4):
        array = array.reshape(*array.shape, *(1,) * (4 - array.ndim)).transpose(2, 3, 1, 0)
    if array.shape != shape and array.shape != (*(1,) * (4 - len(shape)), *shape):
        raise ValueError(
            f"timm's {name} is of the shape {array.shape}, but the network needs {shape}; give the weights of a "
            "network with the same widths and channels"
        )
    return np.ascontiguousarray(array).reshape(shape)
