"""The acquisition alone: the scores of a pool whose samples are there."""

import numpy as np

from benchmarks.work import Work
from shared.method.acquisition import Pool, acquisition
from shared.run.keys import galaxy_hash
from shared.run.spec import SCORES, one_of

POOL = 20_000


def work(backend, run) -> Work:
    """The scores of POOL galaxies by acquisition.name, which scores each galaxy by itself."""
    spec = run.acquisition
    one_of("acquisition.name", spec.name, SCORES)
    samples = np.random.default_rng(run.seed).random((POOL, spec.samples), np.float32)
    votes = np.full(POOL, spec.expected_votes)
    pool = Pool(samples, votes, galaxy_hash(range(POOL)), None)
    return Work(
        lambda: acquisition(spec.name).scores(backend, pool),
        POOL,
        bytes=samples.nbytes + 4 * POOL,
    )
