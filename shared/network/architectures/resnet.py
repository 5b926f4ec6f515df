"""He et al. 2015, with the stride in the 3x3 convolutions and names of stages as timm has them."""

from shared.network.network import IMAGE, UNITS, Layer, Network, chain
from shared.network.operations import Add, BatchNorm, Conv, MaxPool, Mean, Relu

Sizes = tuple[int, ...]


def resnet18(widths: Sizes = (64, 128, 256, 512), depths: Sizes = (2, 2, 2, 2)) -> Network:
    """The encoder: blocks of two 3x3 convolutions."""
    return _resnet(widths, depths, expansion=1)


def resnet50(widths: Sizes = (64, 128, 256, 512), depths: Sizes = (3, 4, 6, 3)) -> Network:
    """The encoder: bottlenecks of 1x1, 3x3 and 1x1 convolutions, the last four times as wide."""
    return _resnet(widths, depths, expansion=4)


def _resnet(widths: Sizes, depths: Sizes, expansion: int) -> Network:
    layers = chain(
        IMAGE,
        ("stem/conv", Conv(widths[0], 7, stride=2, padding=3, bias=False, init="he")),
        ("stem/norm", BatchNorm()),
        ("stem/relu", Relu()),
        ("stem/pool", MaxPool(3, 2, padding=1)),
    )
    before = widths[0]
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for block in range(depth):
            stride, after = (2 if stage and not block else 1), expansion * width
            kernels = ((width, 3, stride), (width, 3, 1))
            if expansion > 1:
                kernels = ((width, 1, 1), (width, 3, stride), (after, 1, 1))
            name = f"stage{stage}/block{block}"
            projected = (after, stride) if stride > 1 or before != after else None
            layers += _residual(name, layers[-1].name, kernels, projected)
            before = after
    return layers + chain(layers[-1].name, (UNITS, Mean()))


def _residual(name: str, x: str, kernels, projected: tuple[int, int] | None) -> Network:
    """Convolutions of `kernels` (filters, size, stride), and a shortcut, perhaps `projected` to (filters, stride)."""
    steps: list = []
    for number, (filters, size, stride) in enumerate(kernels):
        last = number == len(kernels) - 1
        conv = Conv(filters, size, stride, size // 2, bias=False, init="he")
        steps += [
            (f"{name}/conv{number}", conv),
            (f"{name}/norm{number}", BatchNorm(init=0.0 if last else 1.0)),
        ]
        steps += [] if last else [(f"{name}/relu{number}", Relu())]
    layers, shortcut = chain(x, *steps), x
    if projected:
        filters, stride = projected
        layers += chain(
            x,
            (f"{name}/shortcut/conv", Conv(filters, 1, stride, bias=False, init="he")),
            (f"{name}/shortcut/norm", BatchNorm()),
        )
        shortcut = f"{name}/shortcut/norm"
    both = Layer(f"{name}/add", Add(), (steps[-1][0], shortcut))
    return (*layers, both, Layer(f"{name}/relu{len(kernels) - 1}", Relu(), (both.name,)))
