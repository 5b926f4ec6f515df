"""One deterministic pass: each galaxy's rho with every unit kept once over, a single sample."""

from benchmarks.material import shown
from shared.weights import first_checkpoint


def work(backend, run):
    """One sample of a batch."""
    state = backend.init(run, first_checkpoint(run.model, run.seed))
    images, views, keys = shown(run)
    return lambda: backend.sample(state, images, views, keys, 0, 1), len(images)
