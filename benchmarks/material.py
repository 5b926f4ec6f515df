"""What benchmarks work on: images of noise, with votes, the same for every framework."""

import numpy as np

from shared.augment import Views, reduction, still_views
from shared.batches import Cutouts, Labelled
from shared.cutouts import SIZE
from shared.keys import galaxy_keys
from shared.spec import RunSpec
from shared.split import galaxy_hash


def labelled(run: RunSpec) -> tuple[Cutouts, Labelled]:
    """As many galaxies as a batch holds, in memory, with 40 votes each."""
    count = run.bench.batch_size
    random = np.random.default_rng(run.seed)
    images = random.integers(0, 256, (count, SIZE, SIZE, 1), np.uint8)
    hashes = galaxy_hash([f"noise-{number}" for number in range(count)])
    votes = random.integers(0, 41, count)
    return Cutouts(images, reduction(run, SIZE)), Labelled(
        np.arange(count), hashes, votes, np.full(count, 40)
    )


def shown(run: RunSpec) -> tuple[np.ndarray, Views, np.ndarray]:
    """A batch as prediction gets it: images uint8 (galaxy, y, x, 1), views and keys (galaxy, 2)."""
    cutouts, galaxies = labelled(run)
    views = still_views(run, cutouts.size, len(cutouts))
    return cutouts[galaxies.rows], views, galaxy_keys(run.seed, "posterior", galaxies.hashes)
