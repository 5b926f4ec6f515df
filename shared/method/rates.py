"""How fast this machine reads, trains and predicts, measured in seconds on noise: for an estimate before a run."""

import time
from dataclasses import replace
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image

from shared.data import cutouts
from shared.method.batches import Cutouts, Labelled, batch_size, with_steps
from shared.method.ensemble import open_networks
from shared.method.sampling import sample_logits
from shared.method.start import standardised_start
from shared.method.training import calls
from shared.method.views import reduction
from shared.run.keys import galaxy_hash
from shared.run.spec import RunSpec

SIDE = 256  # pixels of a stored image
READ = 8  # images read
CALLS = 2  # of training, after the first, which may be compiled


class Rates(NamedTuple):
    """What a second does, and how many steps a fit has."""

    reading: float  # images
    training: float  # steps
    sampling: float  # galaxies
    steps: int


def rates(run: RunSpec, galaxies: int) -> Rates:
    """The rates of `run`, a fit of so many galaxies of which the split leaves some to train on."""
    rng = np.random.default_rng(0)
    trained = max(1, round(galaxies * (1 - run.split.validation - run.split.test)))
    spec = with_steps(run.training, trained)
    count = min(trained, max(batch_size(run.training, trained), run.backend.chunk))
    pixels = rng.integers(0, 256, (count, SIDE, SIDE, 1), np.uint8)
    images = Cutouts(pixels, reduction(run, SIDE), channels=1)
    hashes = galaxy_hash(map(str, range(count)))
    votes = np.ones((count, run.model.answers), np.int64)
    one = np.ones(count, np.int64)
    labelled = Labelled(np.arange(count), hashes, one, 2 * one, votes)
    backend = open_networks(run)
    state = backend.init(run, standardised_start(run, images, labelled))
    each = run.backend.steps if run.backend.device == "gpu" else 1
    each, seconds = min(each, spec.steps), []
    short = _of_steps(run, each)
    for call in calls(backend, short, state, images, labelled, 0, 0, (1 + CALLS) * each):
        state = call.state
        seconds.append(call.seconds / each)
    begun = time.perf_counter()
    samples = run.posterior.samples
    chunk = np.arange(min(count, run.backend.chunk))
    for _ in sample_logits(backend, run, state, images, chunk, hashes[chunk], samples):
        pass
    sampling = len(chunk) / (time.perf_counter() - begun)
    return Rates(_reading(), 1 / float(np.median(seconds[1:])), sampling, spec.steps)


def _of_steps(run: RunSpec, steps: int) -> RunSpec:
    return replace(
        run,
        backend=replace(run.backend, steps=steps),
        training=replace(run.training, steps=(1 + CALLS) * steps),
    )


def _reading() -> float:
    """Images of 424 pixels a second that are decoded and made smaller."""
    data = BytesIO()
    y, x = np.mgrid[-212:212, -212:212]
    light = 40 + 200 * np.exp(-np.hypot(x, y) / 40)
    noisy = np.clip(light + np.random.default_rng(0).normal(0, 8, light.shape), 0, 255)
    Image.fromarray(noisy.astype(np.uint8)).save(data, "jpeg")
    begun = time.perf_counter()
    for _ in range(READ):
        cutouts.cutout(data.getvalue(), 1, "noise", None)
    return READ / (time.perf_counter() - begun)
