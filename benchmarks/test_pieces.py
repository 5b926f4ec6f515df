"""Small pieces that every framework waits for, under pytest-benchmark: python -m pytest benchmarks/test_pieces.py."""

import numpy as np
import pytest

from benchmarks.material import labelled
from shared.data.synthetic import draw_galaxies, render
from shared.method.batches import draw_plan
from shared.run import keys
from trizoo import compose


@pytest.fixture(scope="module")
def run():
    from shared.run.spec import RunSpec, from_config

    return from_config(
        RunSpec, compose(["model.image_size=64", "bench.batch_size=128", "training.batch_size=128"])
    )


def test_words_of_a_batch(benchmark):
    galaxy_keys = keys.galaxy_keys(0, "dropout", np.arange(128, dtype=np.uint64))
    assert benchmark(keys.bits, galaxy_keys, 0, 128).shape == (128, 128)


def test_plan_of_16_steps(benchmark, run):
    images, galaxies = labelled(run)
    assert benchmark(draw_plan, run, galaxies, images.size, 0, 0, 16).rows.shape == (16, 128)


def test_images_of_a_batch(benchmark, run):
    images, galaxies = labelled(run)
    assert len(benchmark(images.__getitem__, galaxies.rows)) == 128


def test_drawing_a_galaxy(benchmark):
    galaxy = draw_galaxies(1, 0).iloc[0].to_dict()
    assert benchmark(render, galaxy).shape == (256, 256, 1)
