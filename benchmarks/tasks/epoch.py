"""A training epoch from a store on disk, of which nothing is in memory when it begins."""

from functools import partial

from benchmarks.floor import training_bytes, training_flops
from benchmarks.material import forget, stored, trained_on
from benchmarks.work import Work
from shared.method.batches import Cutouts
from shared.method.training import calls
from shared.method.views import reduction
from shared.network.weights import first_checkpoint


def work(backend, run) -> Work:
    """Every whole batch of bench.galaxies galaxies once."""
    store, galaxies = stored(run)
    return once_over(backend, run, store.images, galaxies, partial(forget, store))


def once_over(backend, run, pixels, galaxies, before) -> Work:
    """Every whole batch of `galaxies` once, whose images are `pixels`; `before` is done first, and not timed."""
    run = trained_on(run)
    images = Cutouts(pixels, reduction(run, pixels.shape[1]))
    state = backend.init(run, first_checkpoint(run.model, run.seed))
    batch, done = run.bench.batch_size, 0
    steps = len(galaxies.rows) // batch

    def call():
        nonlocal state, done
        for part in calls(backend, run, state, images, galaxies, done, done, done + steps):
            state = part.state
        done += steps

    moved = training_bytes(run.model, run.backend.precision, images.size**2, batch)
    return Work(
        call, steps * batch, steps * batch * training_flops(run.model), steps * moved, before
    )
