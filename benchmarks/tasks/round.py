"""A whole round of active learning: train on, sample the pool, choose the next galaxies."""

import numpy as np

from benchmarks.material import stored
from benchmarks.work import Work
from shared.method.active import join
from shared.method.batches import Cutouts
from shared.method.pool import Galaxies, choose
from shared.method.training import calls
from shared.method.views import reduction
from shared.network.weights import first_checkpoint


def work(backend, run) -> Work:
    """acquisition.round_steps steps on the first galaxies, and acquisition.per_round of the rest chosen."""
    store, all_galaxies = stored(run)
    spec, places = run.acquisition, np.arange(len(all_galaxies.rows))
    first, images = spec.initial, Cutouts(store.images, reduction(run, store.images.shape[1]))
    if first + spec.per_round > len(places):
        raise ValueError(
            f"bench.galaxies is {len(places)}; a round needs acquisition.initial={first} and "
            f"acquisition.per_round={spec.per_round} of them"
        )
    labelled, pool = all_galaxies.take(places < first), all_galaxies.take(places >= first)
    empty = all_galaxies.take(places < 0)
    state = backend.init(run, first_checkpoint(run.model, run.seed))
    number = 0

    def call():
        nonlocal state, number
        begun = number * spec.round_steps
        for part in calls(
            backend, run, state, images, labelled, begun, begun, begun + spec.round_steps
        ):
            state = part.state
        number += 1
        chosen = choose(backend, run, state, images, Galaxies(labelled, pool, empty, empty), number)
        return join(labelled, chosen.galaxies)

    return Work(call, len(pool.rows))
