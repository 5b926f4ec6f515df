"""One deterministic pass: each galaxy's rho under a single mask, which costs what none would."""

from benchmarks.tasks import posterior


def work(backend, run):
    """One sample of a batch."""
    return posterior.sampled(backend, run, 1)
