"""Augmentation alone: the views of a batch drawn, its images put on the device and seen."""

from benchmarks.material import labelled
from benchmarks.work import Work
from shared.method.views import draw_views
from shared.network.weights import first_checkpoint
from shared.run.keys import galaxy_keys


def work(backend, run) -> Work:
    """A batch, seen anew at each call."""
    images, galaxies = labelled(run)
    state = backend.init(run, first_checkpoint(run.model, run.seed))
    keys, shown, done = galaxy_keys(run.seed, "view", galaxies.hashes), images[galaxies.rows], 0

    def call():
        nonlocal done
        done += 1
        index = galaxies.rows * 0 + done
        return backend.seen(state, shown, draw_views(run, images.size, keys, index, index))

    moved = shown.nbytes + 4 * len(shown) * run.model.image_size**2
    return Work(call, len(shown), bytes=moved)
