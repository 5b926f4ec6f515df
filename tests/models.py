"""Networks for tests."""

from shared.run.spec import ModelSpec

BLOCKS = ((32, 32), (64, 64), (128,), (128,))


def w20_model(
    image_size: int, blocks: tuple[tuple[int, ...], ...] = BLOCKS, dense: int = 128
) -> ModelSpec:
    """W+20's network of images of one channel."""
    return ModelSpec("w20", image_size, 1, blocks, dense, None, None, 0.0, 0.5, 2, "unit")
