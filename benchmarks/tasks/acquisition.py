"""The acquisition alone: the scores of a pool whose samples are there."""

import numpy as np

from benchmarks.work import Work
from shared.run.keys import galaxy_hash, galaxy_keys

POOL = 20_000


def work(backend, run) -> Work:
    """The scores of POOL galaxies by acquisition.name."""
    spec = run.acquisition
    samples = np.random.default_rng(run.seed).random((POOL, spec.samples), np.float32)
    keys = galaxy_keys(run.seed, "acquisition", galaxy_hash(range(POOL)))
    return Work(
        lambda: backend.acquire(spec.name, samples, spec.expected_votes, keys, 0),
        POOL,
        bytes=samples.nbytes + 4 * POOL,
    )
