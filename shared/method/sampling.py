"""Samples of the posterior, or the features, of any number of galaxies, in a stream."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from shared.method.backend import Backend
from shared.method.batches import Cutouts
from shared.method.likelihood import positive_fraction
from shared.method.memory import check_prediction, images_at_once, told_chunk
from shared.method.views import draw_views, still_views
from shared.network.model import model_of
from shared.run.keys import galaxy_keys
from shared.run.progress import track
from shared.run.spec import RunSpec

BLOCK = 2048  # galaxies whose images are in memory together


def sample_galaxies(
    backend: Backend,
    run: RunSpec,
    state: Any,
    images: Cutouts,
    rows: np.ndarray,
    hashes: np.ndarray,
    samples: int,
) -> np.ndarray:
    """rho (galaxy, sample), the fraction of the run's positive answers, of the galaxies in `rows` of the store.

    Their ids have `hashes` uint64 (galaxy,).
    """
    found = sample_logits(backend, run, state, images, rows, hashes, samples)
    parts = [positive_fraction(run, block) for _, block in found]
    return np.concatenate([np.zeros((0, samples)), *parts])


def sample_logits(
    backend: Backend,
    run: RunSpec,
    state: Any,
    images: Cutouts,
    rows: np.ndarray,
    hashes: np.ndarray,
    samples: int,
) -> Iterator[tuple[slice, np.ndarray]]:
    """The network's logits (galaxy, sample, answer) of the galaxies in `rows` of the store, block by block.

    The ids have `hashes` uint64 (galaxy,). A block is a slice of `rows`; all of them are never in memory together.
    With augmentation at prediction (W20's departure 3) each sample sees every galaxy in another way.
    """
    check_prediction(run, samples)
    streamed = getattr(images, "streamed", False)
    blocks = _blocks(run, len(rows), streamed)
    wanted = [rows[block] for block in blocks]
    numbers, how = range(len(blocks)), f" x {samples} samples"
    for number in track(
        numbers, "sampling", len(rows), weight=lambda one: len(wanted[one]), how=how
    ):
        if streamed and number + 1 < len(blocks):  # read while the framework computes
            images.prefetch(wanted[number + 1])
        block, shown = blocks[number], images.subset(wanted[number])
        keys = galaxy_keys(run.seed, "posterior", hashes[block])
        if run.augmentation.at_prediction:
            views = list(_random_views(run, images.size, hashes[block], samples))
            with told_chunk(backend, run):
                columns = [
                    backend.sample(state, shown, view, keys, number, 1)
                    for number, view in enumerate(views)
                ]
            found = np.concatenate(columns, 1)
        else:
            views = still_views(run, images.size, len(keys))
            with told_chunk(backend, run):
                found = backend.sample(state, shown, views, keys, 0, samples)
        yield block, finite(found, "logit")


def embed_galaxies(
    backend: Backend, run: RunSpec, state: Any, images: Cutouts, rows: np.ndarray
) -> np.ndarray:
    """The features (galaxy, unit) of the galaxies in `rows` of the store, each seen as it is."""
    blocks = _blocks(run, len(rows))
    parts = []
    for block in track(blocks, "features", len(rows), weight=lambda block: len(rows[block])):
        shown = images.subset(rows[block])
        with told_chunk(backend, run):
            still = still_views(run, images.size, len(rows[block]))
            parts.append(backend.embed(state, shown, still))
    return finite(
        np.concatenate(parts or [np.zeros((0, model_of(run.model).units), np.float32)]), "feature"
    )


def finite(values: np.ndarray, what: str) -> np.ndarray:
    """`values` (galaxy, ...) of a network; ValueError if they are not numbers, as a network gives that diverged."""
    if bad := int((~np.isfinite(values).all(tuple(range(1, values.ndim)))).sum()):
        raise ValueError(
            f"the network gives no finite {what} for {bad} of {len(values)} galaxies: its training diverged; "
            "train anew with a lower training.learning_rate"
        )
    return values


def _blocks(run: RunSpec, galaxies: int, streamed: bool = False) -> list[slice]:
    """The galaxies in blocks of whole chunks, so that a galaxy's place in its chunk is the same without blocks.

    The first two are of one chunk each, so that it is soon told how long all of them take. On many processors a kernel
    rounds the last bits of a row by the row's place; see `shared.method.batches.chunks`.
    """
    chunk = run.backend.chunk
    most = images_at_once(run, BLOCK) // (1 + streamed)  # of a stream the next are in memory, too
    size = max(1, most // chunk) * chunk
    starts = [*range(0, min(2 * chunk, galaxies), chunk), *range(2 * chunk, galaxies, size)]
    return [slice(start, end) for start, end in pairwise([*starts, galaxies])]


def _random_views(run: RunSpec, size: int, hashes: np.ndarray, samples: int) -> Iterator:
    keys = galaxy_keys(run.seed, "posterior view", hashes)
    for number in range(samples):
        index = np.full(len(hashes), number)
        yield draw_views(run, size, keys, index, np.zeros_like(index))
