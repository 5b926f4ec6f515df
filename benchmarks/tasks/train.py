"""Training steps: the views drawn, the images gathered, put on the device, seen and learned from."""

from benchmarks.floor import training_bytes, training_flops
from benchmarks.material import labelled, trained_on
from benchmarks.work import Work
from shared.method.batches import draw_plan
from shared.network.weights import first_checkpoint


def work(backend, run) -> Work:
    """One call of backend.steps steps."""
    run = trained_on(run)
    images, galaxies = labelled(run)
    state = backend.init(run, first_checkpoint(run.model, run.seed))
    steps, batch, done = run.backend.steps, run.bench.batch_size, 0

    def call():
        nonlocal state, done
        plan = draw_plan(run, galaxies, images.size, 0, done, steps)
        state, losses = backend.train_steps(state, images, plan)
        done += steps
        return losses

    moved = training_bytes(run.model, run.backend.precision, images.size**2, batch)
    return Work(call, steps * batch, steps * batch * training_flops(run.model), steps * moved)
