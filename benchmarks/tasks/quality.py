"""Time to a quality: from the first weights until galaxies that are not learned from score bench.target."""

import numpy as np

from benchmarks.material import stored, trained_on
from benchmarks.work import Work
from shared.method.batches import Cutouts
from shared.method.metrics import evaluate
from shared.method.sampling import sample_galaxies
from shared.method.training import calls
from shared.method.views import reduction
from shared.network.weights import first_checkpoint

EVERY = 40  # steps between looks at the score
HELD = 4  # one galaxy in so many is not learned from


def work(backend, run) -> Work:
    """One network trained; ValueError, when called, if training.steps steps do not reach the score."""
    run = trained_on(run)
    store, all_galaxies = stored(run)
    images = Cutouts(store.images, reduction(run, store.images.shape[1]))
    held = all_galaxies.rows % HELD == 0
    learned, held_out = all_galaxies.take(~held), all_galaxies.take(held)

    def score(state) -> float:
        samples = sample_galaxies(
            backend, run, state, images, held_out.rows, held_out.hashes, run.posterior.samples
        )
        return evaluate(samples, held_out.yes, held_out.total)["log_score"]

    def call():
        state, best = backend.init(run, first_checkpoint(run.model, run.seed)), np.inf
        for first in range(0, run.training.steps, EVERY):
            for part in calls(backend, run, state, images, learned, 0, first, first + EVERY):
                state = part.state
            best = min(best, score(state))
            if best <= run.bench.target:
                return first + EVERY
        raise ValueError(
            f"bench.target is {run.bench.target} nat, and {run.training.steps} steps came to {best:.3f}; "
            "raise bench.target or training.steps"
        )

    return Work(call, 1)
