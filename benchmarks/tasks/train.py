"""Training steps: the views drawn, the images gathered, put on the device and learned from."""

from dataclasses import replace

from benchmarks.material import labelled
from shared.batches import draw_plan
from shared.weights import first_checkpoint


def work(backend, run):
    """One call of backend.steps steps."""
    run = replace(run, training=replace(run.training, batch_size=run.bench.batch_size))
    images, galaxies = labelled(run)
    state = backend.init(run, first_checkpoint(run.model, run.seed))
    steps, done = run.backend.steps, 0

    def call():
        nonlocal state, done
        plan = draw_plan(run, galaxies, images.size, 0, done, steps)
        state, losses = backend.train_steps(state, images, plan)
        done += steps
        return losses

    return call, steps * run.bench.batch_size
