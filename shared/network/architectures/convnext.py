"""Liu et al. 2022, with timm's small variants; nano is the encoder that Zoobot recommends."""

from shared.network.network import IMAGE, UNITS, Layer, Network, chain
from shared.network.operations import Add, Conv, Gelu, LayerNorm, Mean, Scale, StochasticDepth

Sizes = tuple[int, ...]
STD = 0.02  # of a kernel's first weights


def convnext(
    widths: Sizes = (80, 160, 320, 640), depths: Sizes = (2, 2, 8, 2), stochastic_depth: float = 0.0
) -> Network:
    """The encoder; the rate of `stochastic_depth` rises from 0 in the first block to this in the last."""
    stem = Conv(widths[0], 4, stride=4, init=STD)
    layers = chain(IMAGE, ("stem/conv", stem), ("stem/norm", LayerNorm()))
    number = 0
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        if stage:
            norm = (f"stage{stage}/down/norm", LayerNorm())
            conv = (f"stage{stage}/down/conv", Conv(width, 2, stride=2, init=STD))
            layers += chain(layers[-1].name, norm, conv)
        for block in range(depth):
            rate = stochastic_depth * number / max(sum(depths) - 1, 1)
            layers += _block(f"stage{stage}/block{block}", layers[-1].name, width, rate)
            number += 1
    return layers + chain(layers[-1].name, ("mean", Mean()), (UNITS, LayerNorm()))


def _block(name: str, x: str, width: int, rate: float) -> Network:
    layers = chain(
        x,
        (f"{name}/depthwise", Conv(width, 7, padding=3, groups=width, init=STD)),
        (f"{name}/norm", LayerNorm()),
        (f"{name}/expand", Conv(4 * width, 1, init=STD)),
        (f"{name}/gelu", Gelu()),
        (f"{name}/contract", Conv(width, 1, init=STD)),
        (f"{name}/scale", Scale(1e-6)),
    )
    if rate:
        layers += chain(layers[-1].name, (f"{name}/depth", StochasticDepth(rate)))
    return (*layers, Layer(f"{name}/add", Add(), (layers[-1].name, x)))
