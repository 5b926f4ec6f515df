"""The posterior: posterior.samples dropout samples of each galaxy."""

from benchmarks.material import shown
from shared.weights import first_checkpoint


def work(backend, run):
    """All samples of a batch."""
    state = backend.init(run, first_checkpoint(run.model, run.seed))
    images, views, keys = shown(run)
    return lambda: backend.sample(state, images, views, keys, 0, run.posterior.samples), len(images)
