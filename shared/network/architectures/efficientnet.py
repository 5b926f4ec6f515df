"""Tan and Le 2019, with symmetric padding, as timm has it; the encoder of Walmsley et al. 2022."""

from shared.network.network import IMAGE, UNITS, Layer, Network, chain
from shared.network.operations import (
    Add,
    BatchNorm,
    Conv,
    Dense,
    Mean,
    Multiply,
    Sigmoid,
    Silu,
    StochasticDepth,
)

Sizes = tuple[int, ...]
# kernel, stride and expansion of each stage (their table 1)
STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))


def efficientnet(
    widths: Sizes = (32, 16, 24, 40, 80, 112, 192, 320, 1280),
    depths: Sizes = (1, 2, 2, 3, 3, 4, 1),
    stochastic_depth: float = 0.0,
) -> Network:
    """The encoder; `widths` are those of the stem, the seven stages and the top."""
    stem, *widths, top = widths
    layers = chain(
        IMAGE,
        ("stem/conv", Conv(stem, 3, stride=2, padding=1, bias=False, init="he")),
        ("stem/norm", BatchNorm()),
        ("stem/silu", Silu()),
    )
    before, number = stem, 0
    for stage, (settings, width, depth) in enumerate(zip(STAGES, widths, depths, strict=True)):
        kernel, stride, expansion = settings
        for block in range(depth):
            conv = (kernel, 1 if block else stride)
            rate = stochastic_depth * number / sum(depths)
            name, size = f"stage{stage}/block{block}", (before, expansion * before, width)
            layers += _block(name, layers[-1].name, conv, size, rate)
            before, number = width, number + 1
    return layers + chain(
        layers[-1].name,
        ("top/conv", Conv(top, 1, bias=False, init="he")),
        ("top/norm", BatchNorm()),
        ("top/silu", Silu()),
        (UNITS, Mean()),
    )


def _block(name: str, x: str, conv: tuple[int, int], size: tuple, rate: float) -> Network:
    (kernel, stride), (before, wide, after) = conv, size
    steps: list = []
    if wide > before:
        steps += [
            (f"{name}/expand", Conv(wide, 1, bias=False, init="he")),
            (f"{name}/expand_norm", BatchNorm()),
            (f"{name}/expand_silu", Silu()),
        ]
    depthwise = Conv(wide, kernel, stride, kernel // 2, groups=wide, bias=False, init="he")
    steps += [
        (f"{name}/depthwise", depthwise),
        (f"{name}/depthwise_norm", BatchNorm()),
        (f"{name}/depthwise_silu", Silu()),
    ]
    gated = steps[-1][0]
    layers = chain(x, *steps) + chain(
        gated,
        (f"{name}/gate/mean", Mean()),
        (f"{name}/gate/squeeze", Dense(before // 4, init="he")),
        (f"{name}/gate/silu", Silu()),
        (f"{name}/gate/excite", Dense(wide, init="he")),
        (f"{name}/gate/sigmoid", Sigmoid()),
    )
    layers += (Layer(f"{name}/gated", Multiply(), (gated, f"{name}/gate/sigmoid")),)
    layers += chain(
        f"{name}/gated",
        (f"{name}/contract", Conv(after, 1, bias=False, init="he")),
        (f"{name}/contract_norm", BatchNorm()),
    )
    if stride > 1 or before != after:
        return layers
    if rate:
        layers += chain(layers[-1].name, (f"{name}/depth", StochasticDepth(rate)))
    return (*layers, Layer(f"{name}/add", Add(), (layers[-1].name, x)))
