"""ResNet, EfficientNet and ConvNeXt as written in Flax: nnx modules of its own layers, in plain Flax's loop.

Strides, paddings and epsilons are timm's, so the arithmetic is that of ours; first weights are Flax's.
"""

from functools import partial

import jax.numpy as jnp
from flax import nnx

from benchmarks.programs import peers, plain_flax
from benchmarks.work import Work
from shared.run.spec import RunSpec


def conv(before: int, after: int, size: int, stride: int = 1, **settings):
    """A convolution without a bias, its padding as wide as the middle of its kernel."""
    return nnx.Conv(
        before, after, (size, size), stride, padding=size // 2, use_bias=False, **settings
    )


def batch_norm(width: int, rngs: nnx.Rngs):
    """A batch norm whose running moments move by a tenth."""
    return nnx.BatchNorm(width, momentum=0.9, epsilon=1e-5, rngs=rngs)


class Residual(nnx.Module):
    """A block of ResNet: convolutions, and a shortcut that is projected where shapes differ."""

    def __init__(self, before: int, kernels: tuple, rngs: nnx.Rngs):
        widths = [before, *(width for width, _, _ in kernels)]
        self.convs = nnx.List(
            conv(inputs, *kernel, rngs=rngs)
            for inputs, kernel in zip(widths, kernels, strict=False)
        )
        self.norms = nnx.List(batch_norm(width, rngs) for width in widths[1:])
        stride = max(stride for _, _, stride in kernels)
        shortcut = []
        if stride > 1 or before != widths[-1]:
            shortcut = [
                conv(before, widths[-1], 1, stride, rngs=rngs),
                batch_norm(widths[-1], rngs),
            ]
        self.shortcut = nnx.Sequential(*shortcut)

    def __call__(self, x):
        y = x
        for number, (layer, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            y = norm(layer(nnx.relu(y) if number else y))
        return nnx.relu(y + self.shortcut(x))


class ResNet(nnx.Module):
    """He et al. 2015: the units (galaxy, unit) of images (galaxy, y, x, channel)."""

    def __init__(self, widths, depths, channels: int, rngs: nnx.Rngs, expansion: int):
        self.conv = conv(channels, widths[0], 7, 2, rngs=rngs)
        self.norm = batch_norm(widths[0], rngs)
        before, blocks = widths[0], []
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for block in range(depth):
                stride = 2 if stage and not block else 1
                kernels = ((width, 3, stride), (width, 3, 1))
                if expansion > 1:
                    kernels = ((width, 1, 1), (width, 3, stride), (expansion * width, 1, 1))
                blocks.append(Residual(before, kernels, rngs))
                before = expansion * width
        self.blocks, self.units = nnx.List(blocks), before

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        x = nnx.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for block in self.blocks:
            x = block(x)
        return x.mean((1, 2))


class Inverted(nnx.Module):
    """A block of EfficientNet: wider, each channel by itself, gated by squeeze and excitation, narrower."""

    def __init__(self, before, after, size, stride, expansion, rngs: nnx.Rngs):
        wide = expansion * before
        expand = [conv(before, wide, 1, rngs=rngs), batch_norm(wide, rngs), nnx.silu]
        self.expand = nnx.Sequential(*(expand if wide > before else ()))
        self.depthwise = nnx.Sequential(
            conv(wide, wide, size, stride, feature_group_count=wide, rngs=rngs),
            batch_norm(wide, rngs),
            nnx.silu,
        )
        self.squeeze = nnx.Linear(wide, before // 4, rngs=rngs)
        self.excite = nnx.Linear(before // 4, wide, rngs=rngs)
        self.contract = nnx.Sequential(conv(wide, after, 1, rngs=rngs), batch_norm(after, rngs))
        self.residual = stride == 1 and before == after

    def __call__(self, x):
        y = self.depthwise(self.expand(x))
        gate = self.excite(nnx.silu(self.squeeze(y.mean((1, 2)))))
        y = self.contract(y * nnx.sigmoid(gate)[:, None, None])
        return x + y if self.residual else y


class EfficientNet(nnx.Module):
    """Tan and Le 2019."""

    STAGES = ((3, 1, 1), (3, 2, 6), (5, 2, 6), (3, 2, 6), (5, 1, 6), (5, 2, 6), (3, 1, 6))

    def __init__(self, widths, depths, channels: int, rngs: nnx.Rngs):
        before, *widths, self.units = widths
        self.stem = nnx.Sequential(
            conv(channels, before, 3, 2, rngs=rngs), batch_norm(before, rngs), nnx.silu
        )
        blocks = []
        for (size, stride, expansion), width, depth in zip(
            self.STAGES, widths, depths, strict=True
        ):
            for block in range(depth):
                settings = (size, 1 if block else stride, expansion)
                blocks.append(Inverted(before, width, *settings, rngs))
                before = width
        self.blocks = nnx.List(blocks)
        self.top = nnx.Sequential(
            conv(before, self.units, 1, rngs=rngs), batch_norm(self.units, rngs), nnx.silu
        )

    def __call__(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.top(x).mean((1, 2))


class Wide(nnx.Module):
    """A block of ConvNeXt."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.depthwise = nnx.Conv(
            width, width, (7, 7), padding=3, feature_group_count=width, rngs=rngs
        )
        self.norm = nnx.LayerNorm(width, epsilon=1e-6, rngs=rngs)
        self.expand = nnx.Linear(width, 4 * width, rngs=rngs)
        self.contract = nnx.Linear(4 * width, width, rngs=rngs)
        self.scale = nnx.Param(jnp.full(width, 1e-6))

    def __call__(self, x):
        y = nnx.gelu(self.expand(self.norm(self.depthwise(x))), approximate=False)
        return x + self.contract(y) * self.scale


class ConvNeXt(nnx.Module):
    """Liu et al. 2022."""

    def __init__(self, widths, depths, channels: int, rngs: nnx.Rngs):
        norm = partial(nnx.LayerNorm, epsilon=1e-6, rngs=rngs)
        layers, before = [], channels
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            size = 2 if stage else 4
            down = nnx.Conv(before, width, (size, size), size, padding="VALID", rngs=rngs)
            layers += [norm(before), down] if stage else [down, norm(width)]
            layers += [Wide(width, rngs) for _ in range(depth)]
            before = width
        self.layers, self.norm, self.units = nnx.List(layers), norm(before), before

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.norm(x.mean((1, 2)))


class Network(nnx.Module):
    """An encoder, dropout and a dense layer: the logits (galaxy, answer)."""

    def __init__(self, encoder: nnx.Module, rate: float, rngs: nnx.Rngs):
        self.encoder, self.dropout = encoder, nnx.Dropout(rate, rngs=rngs)
        self.answer = nnx.Linear(encoder.units, 2, rngs=rngs)

    def __call__(self, x):
        return self.answer(self.dropout(self.encoder(x)))


ENCODERS = {
    "resnet18": partial(ResNet, expansion=1),
    "resnet50": partial(ResNet, expansion=4),
    "efficientnet_b0": EfficientNet,
    **{f"convnext_{size}": ConvNeXt for size in ("atto", "femto", "pico", "nano", "tiny", "small")},
}


def work(run: RunSpec, task: str) -> Work:
    """The task called `task`, opened; ValueError for another than train_plain, and for networks that are not here."""
    peers.check(run, task, ("train_plain",), ENCODERS)
    plain_flax.configure(run)
    images = peers.galaxies(run).images
    return plain_flax.learning(run, network(run), images, lambda _, images: images)


def network(run: RunSpec) -> Network:
    """The network, of two answers."""
    spec, rngs = run.model, nnx.Rngs(run.seed)
    encoder = ENCODERS[spec.name](spec.widths, spec.depths, spec.channels, rngs)
    return Network(encoder, spec.dropout, rngs)


def describe(run: RunSpec) -> dict[str, str]:
    """What computes, and how."""
    return plain_flax.describe(run)
