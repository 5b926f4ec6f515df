"""What benchmarks work on: images of noise, with votes, the same for every framework; or a store on disk."""

import mmap
import os
from dataclasses import replace

import numpy as np

from shared.data.cutouts import SIZE
from shared.data.prepare import prepare
from shared.data.store import Store, votes
from shared.method.batches import Cutouts, Held, Labelled
from shared.method.views import Views, reduction, still_views
from shared.run.keys import galaxy_hash, galaxy_keys
from shared.run.spec import RunSpec


def labelled(run: RunSpec) -> tuple[Cutouts, Labelled]:
    """As many galaxies as a batch holds, in memory, with 40 votes each."""
    count = run.bench.batch_size
    random = np.random.default_rng(run.seed)
    images = random.integers(0, 256, (count, SIZE, SIZE, 1), np.uint8)
    hashes = galaxy_hash([f"noise-{number}" for number in range(count)])
    yes = random.integers(0, 41, count)
    return Cutouts(images, reduction(run, SIZE)), Labelled.yes_or_no(
        np.arange(count), hashes, yes, np.full(count, 40)
    )


def shown(run: RunSpec) -> tuple[np.ndarray, Views, np.ndarray]:
    """A batch as prediction gets it: images uint8 (galaxy, y, x, 1), views and keys (galaxy, 2)."""
    cutouts, galaxies = labelled(run)
    views = still_views(run, cutouts.size, len(cutouts))
    return cutouts[galaxies.rows], views, galaxy_keys(run.seed, "posterior", galaxies.hashes)


def resident(backend, images: np.ndarray) -> np.ndarray | Held:
    """`images` where `backend` computes: a GPU keeps them, as in training; on a CPU, and for stand-ins, as they are."""
    device = getattr(backend, "device", None)
    if device is None or not device.on_gpu():
        return images
    cutouts = Cutouts(images, 1)
    device.cache_images(cutouts)
    return cutouts.subset(np.arange(len(images)))


def trained_on(run: RunSpec) -> RunSpec:
    """`run` with batches of bench.batch_size to train on."""
    return replace(run, training=replace(run.training, batch_size=run.bench.batch_size))


def stored(run: RunSpec) -> tuple[Store, Labelled]:
    """bench.galaxies galaxies of the dataset in a store on disk, with their votes.

    Raises ValueError if they do not fill a batch, or if one has no vote on the question.
    """
    store = prepare(replace(run.dataset, galaxies=run.bench.galaxies))
    rows = np.arange(len(store.galaxies))
    if len(rows) < run.bench.batch_size:
        raise ValueError(
            f"bench.galaxies is {run.bench.galaxies} and the dataset has {len(rows)}; "
            f"a batch needs bench.batch_size={run.bench.batch_size}"
        )
    yes, total = votes(store, run.question, run.positive)
    if not total.all():
        raise ValueError(
            f"{(total == 0).sum()} galaxies have no vote on {run.question}; time a question that all are asked"
        )
    return store, Labelled.yes_or_no(rows, galaxy_hash(store.galaxies["id"]), yes, total)


def forget(store: Store) -> None:
    """Have the kernel drop what it keeps of `store`'s images in memory, where it can be told to (Linux)."""
    for name, shard in zip(store.source["shards"], store.images.shards, strict=True):
        if hasattr(mmap, "MADV_DONTNEED"):
            shard._mmap.madvise(mmap.MADV_DONTNEED)  # pages that are mapped would be kept
        if hasattr(os, "posix_fadvise"):
            file = os.open(store.folder / name, os.O_RDONLY)
            try:
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(file)
