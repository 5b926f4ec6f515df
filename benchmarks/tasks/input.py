"""The input path alone: images from disk, averaged on the host, put on the device; nothing is learned."""

from functools import partial
from importlib import import_module

import numpy as np

from benchmarks.material import forget, stored, trained_on
from benchmarks.work import Work
from shared.method.batches import Cutouts
from shared.method.views import reduction


def work(backend, run) -> Work:
    """Every whole batch of bench.galaxies galaxies once, in random order."""
    run = trained_on(run)
    store, galaxies = stored(run)
    images = Cutouts(store.images, reduction(run, store.images.shape[1]))
    device = import_module(f"impl_{run.backend.name}.device")
    batch = run.bench.batch_size
    count = len(galaxies.rows) // batch * batch
    rows = np.random.default_rng(run.seed).permutation(galaxies.rows)[:count].reshape(-1, batch)

    def call():
        there = [device.to_device(images[some]) for some in rows]
        return [device.to_numpy(some[-1, -1, -1]) for some in there]  # waits until it is there

    stored_bytes = store.images[0].size + images.size**2
    return Work(call, count, bytes=count * stored_bytes, before=partial(forget, store))
