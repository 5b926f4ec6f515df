"""Write timm.safetensors: what timm's own networks give for weights and images that are drawn from a seed.

By hand, as `python -m tests.golden.make_timm`, in an environment with timm and torch (torchvision without its operators
will do); tests/test_timm.py reads the file, draws the same weights, and needs no timm. Of a gradient there are two
numbers for each array: its norm, and its product with a drawn direction of length 1. Drawn numbers are PCG64's raw
words, which no version of numpy changes.
"""

import json
import sys
import zlib
from math import prod, sqrt
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from shared.network.architectures.convnext import convnext
from shared.network.architectures.efficientnet import efficientnet
from shared.network.architectures.resnet import resnet18, resnet50

FILE = Path(__file__).parent / "timm.safetensors"
SEED, SIDE, PERIOD = 5, 64, 65537
NARROW = (64, 8, 12, 8)  # timm's stem has 64 filters whatever comes after it
WIDE = (
    8,
    8,
    8,
    16,
    24,
    32,
    48,
    80,
    320,
)  # what a channel multiplier of 0.25 makes of EfficientNet-B0
NETWORKS = {  # ours, and the family of timm's names
    "resnet18, narrow": (resnet18(NARROW, (1, 2, 1, 1)), "resnet"),
    "resnet50, narrow": (resnet50(NARROW, (1, 2, 1, 1)), "resnet"),
    "convnext, narrow": (convnext((8, 12, 16, 20), (1, 2, 1, 1)), "convnext"),
    "convnext, narrow, linear": (convnext((8, 12, 16, 20), (1, 2, 1, 1)), "convnext"),
    "efficientnet_b0, narrow": (efficientnet(WIDE), "efficientnet"),
    "resnet18, narrow, grey": (resnet18(NARROW, (1, 2, 1, 1)), "resnet"),
    "resnet50, narrow, grey": (resnet50(NARROW, (1, 2, 1, 1)), "resnet"),
    "convnext, narrow, grey": (convnext((8, 12, 16, 20), (1, 2, 1, 1)), "convnext"),
    "efficientnet_b0, narrow, grey": (efficientnet(WIDE), "efficientnet"),
    "resnet18": (resnet18(), "resnet"),
    "resnet50": (resnet50(), "resnet"),
    "convnext_nano": (convnext(), "convnext"),
    "efficientnet_b0": (efficientnet(), "efficientnet"),
}


def drawn(name: str, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    """Numbers between `low` and `high` that only SEED and `name` decide; they begin again after PERIOD, to be quick."""
    count = min(prod(shape), PERIOD)
    words = np.random.PCG64([SEED, zlib.crc32(name.encode())]).random_raw(count)
    return np.resize(low + (high - low) * (words >> np.uint64(11)) * 2.0**-53, shape)


def state(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights and running moments for arrays that have timm's names and shapes; none is 0, so no gradient vanishes."""
    found = {}
    for name, shape in shapes.items():
        if len(shape) > 1:
            size = sqrt(6 / prod(shape[1:]))
            found[name] = drawn(name, shape, -size, size)
        elif name.endswith(("bias", "running_mean")):
            found[name] = drawn(name, shape, -0.3, 0.3)
        else:
            found[name] = drawn(name, shape, 0.5, 1.5)
    return found


def images(name: str) -> np.ndarray:
    """The images (galaxy, y, x, channel) that a network is shown."""
    count, channels = 4 if "narrow" in name else 1, 1 if "grey" in name else 3
    return drawn(name, (count, SIDE, SIDE, channels), 0, 1)


def modes(name: str) -> tuple[str, ...]:
    """By which moments batch norms divide, where there are any."""
    norms = NETWORKS[name][1] != "convnext"
    return ("running", "batch") if norms and "narrow" in name else ("running",)


def direction(shape: tuple[int, ...]) -> np.ndarray:
    """The gradient of the scalar with respect to the features."""
    return drawn("direction", shape, -1, 1)


def condensed(gradients: dict[str, np.ndarray]) -> np.ndarray:
    """The norm of each gradient, and its product with a direction of length 1: (array, 2)."""
    rows = []
    for name, gradient in gradients.items():
        along = drawn(name, gradient.shape, -1, 1)
        product = (gradient * along).sum() / np.linalg.norm(along)
        rows.append((np.linalg.norm(gradient), product))
    return np.array(rows)


def theirs(name: str):
    """timm's network."""
    from timm.models import _efficientnet_builder, convnext, create_model, efficientnet, resnet

    if "narrow" not in name:
        return create_model(name, num_classes=0)
    rest = {"num_classes": 0, "in_chans": 1 if "grey" in name else 3}
    depths = {"depths": (1, 2, 1, 1), "dims": (8, 12, 16, 20), "conv_mlp": "linear" not in name}
    blocks = {"resnet18": resnet.BasicBlock, "resnet50": resnet.Bottleneck}
    match name.split(",")[0]:
        case "convnext":
            return convnext.ConvNeXt(**rest, **depths)
        case "efficientnet_b0":
            assert _efficientnet_builder.round_channels(1280, 0.25) == WIDE[-1]
            return efficientnet._gen_efficientnet("efficientnet_b0", 0.25, **rest)
        case short:
            return resnet.ResNet(blocks[short], (1, 2, 1, 1), channels=NARROW, **rest)


def golden(name: str) -> tuple[dict[str, np.ndarray], dict]:
    """What timm's network gives, and the shapes of its weights and running moments."""
    import torch

    module = theirs(name).double()
    shapes = {
        key: tuple(value.shape)
        for key, value in module.state_dict().items()
        if value.is_floating_point()
    }
    found, x = {}, torch.from_numpy(images(name)).permute(0, 3, 1, 2)
    for mode in modes(name):
        tensors = {key: torch.from_numpy(value) for key, value in state(shapes).items()}
        module.load_state_dict(tensors, strict=False)
        module.train(mode == "batch")
        y = module(x)
        scalar = (y * torch.from_numpy(direction(tuple(y.shape)))).sum()
        gradients = torch.autograd.grad(scalar, list(module.parameters()))
        names = [key for key, _ in module.named_parameters()]
        arrays = {key: value.numpy() for key, value in zip(names, gradients, strict=True)}
        found[f"{name}/{mode}/features"] = y.detach().numpy()
        found[f"{name}/{mode}/gradients"] = condensed(arrays)
        if mode == "batch":
            after = {key: value.numpy() for key, value in module.named_buffers() if value.ndim}
            found[f"{name}/{mode}/moments"] = condensed(after)
    return found, {"shapes": shapes, "gradients": names}


def main() -> None:
    """Write the file."""
    import torch

    # torchvision, which timm imports, wants operators that a CPU's torch may not bring
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import timm

    arrays, facts = {}, {}
    for name in NETWORKS:
        found, facts[name] = golden(name)
        arrays |= found
        print(name, *(f"{value.shape}" for value in found.values()), flush=True)
    about = {
        "script": "tests/golden/make_timm.py",
        "seed": str(SEED),
        "versions": json.dumps(
            {"timm": timm.__version__, "torch": torch.__version__, "numpy": np.__version__}
        ),
        "networks": json.dumps(facts, separators=(",", ":")),
    }
    save_file(arrays, FILE, about)


if __name__ == "__main__":
    sys.exit(main())
