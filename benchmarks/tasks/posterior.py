"""The posterior: posterior.samples dropout samples of each galaxy."""

from benchmarks.floor import forward_bytes, forward_flops
from benchmarks.material import resident, shown
from benchmarks.work import Work
from shared.network.weights import first_checkpoint


def work(backend, run) -> Work:
    """All samples of a batch."""
    return sampled(backend, run, run.posterior.samples)


def sampled(backend, run, samples: int) -> Work:
    """`samples` samples of a batch."""
    state = backend.init(run, first_checkpoint(run.model, run.seed))
    images, views, keys = shown(run)
    there = resident(backend, images)
    moved = forward_bytes(run.model, run.backend.precision, images[0].size, len(images))
    return Work(
        lambda: backend.sample(state, there, views, keys, 0, samples),
        len(images),
        len(images) * forward_flops(run.model, samples),
        moved,
    )
