"""Training: Adam on the votes' likelihood, many steps in one call."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from shared.method.backend import compiled_once
from shared.method.batches import Cutouts, Plan
from shared.network.weights import Checkpoint, Weights
from shared.run.spec import BackendSpec, RunSpec

from .device import fetch, hold, on_gpu, one_launch, put, settings
from .dropout import dropout, keep
from .likelihood import votes_nll
from .model import GalaxyCNN
from .predict import every_layer, sample_chunk
from .views import see
from .weights import from_layout, import_weights, named_parameters, to_layout, values


@dataclass
class State:
    """All that training changes, and the compiled calls that change and read it."""

    run: RunSpec
    model: GalaxyCNN
    first: dict
    second: dict
    step: int
    calls: dict[str, Callable]


def init(run: RunSpec, start: Checkpoint) -> State:
    """The model and its optimiser as they were at a checkpoint."""
    model = GalaxyCNN(run.model)
    import_weights(model, start.weights)
    named = named_parameters(model)
    first, second = (
        {name: torch.empty_like(named[name]).copy_(to_layout(put(part[name]))) for name in named}
        for part in (start.first, start.second)
    )

    return State(run, model, first, second, start.step, programs(run, settings()))


@compiled_once
def programs(run: RunSpec, _: BackendSpec) -> dict[str, Callable]:
    """The calls of every run that is like this one; weights and moments are their arguments."""

    def steps(model, first, second, *arrays):
        return torch.stack(
            [step(run, model, first, second, *batch) for batch in zip(*arrays, strict=True)]
        )

    program = torch.inference_mode()
    return {
        "steps": one_launch(steps, 3),
        "slopes": lambda model, *batch: loss_and_slopes(run, model, *batch),
        "sample": program(one_launch(lambda model, *arrays: sample_chunk(run, model, *arrays), 1)),
        "seen": program(lambda model, images, *views: see(run, images, views)),
        "features": program(lambda model, images, *views: model.features(see(run, images, views))),
        "layers": program(
            lambda model, images, *views: every_layer(model, see(run, images, views))
        ),
    }


def train_steps(state: State, images: Cutouts, plan: Plan) -> tuple[State, np.ndarray]:
    """The state after all steps of a plan, and the mean loss (step,) of each batch before its step."""
    before = (values(state.model), state.first, state.second)
    losses = state.calls["steps"](*before, *put_plan(images, plan))
    state.step += len(plan.steps)
    return state, fetch(losses)


def gradients(state: State, images: Cutouts, plan: Plan) -> tuple[float, Weights]:
    """The mean loss of a plan's first batch and its slope with respect to every weight; the state stays as it is."""
    *batch, _ = (array[0] for array in put_plan(images, plan))
    loss, slopes = state.calls["slopes"](values(state.model), *batch)
    return float(loss), {name: from_layout(slope) for name, slope in slopes.items()}


def put_plan(images: Cutouts, plan: Plan) -> tuple:
    """A plan's arrays (step, ...) on the device, its images among them."""
    if on_gpu():
        hold(images)
    arrays = (
        images.at(plan.rows),
        plan.yes,
        plan.total,
        *plan.views,
        plan.keys,
        plan.steps,
        plan.scales,
    )
    return tuple(put(array) for array in arrays)


def step(
    run: RunSpec,
    model: GalaxyCNN,
    first: dict,
    second: dict,
    images,
    yes,
    total,
    turn,
    window,
    light,
    keys,
    number,
    scales,
):
    """One step of training, in place; gives the mean loss before it."""
    loss, slopes = loss_and_slopes(
        run, model, images, yes, total, turn, window, light, keys, number
    )
    named = named_parameters(model)
    before = [[part[name] for name in named] for part in (named, first, second)]
    with torch.no_grad():
        after = adam(run, scales, *before, [slopes[name] for name in named])
        for place, value in zip(before, after, strict=True):
            torch._foreach_copy_(place, value)
    return loss


def loss_and_slopes(
    run: RunSpec, model: GalaxyCNN, images, yes, total, turn, window, light, keys, number
):
    """A batch's mean loss in nats and its slope with respect to every weight, under shared names."""
    named = named_parameters(model)
    units = model.features(see(run, images, (turn, window, light)))
    kept = keep(keys, number, run.model.dense, run.model.dropout)
    logits = model.answers(dropout(units, kept, run.model.dropout))
    loss = torch.mean(votes_nll(logits, yes, total))
    slopes = torch.autograd.grad(loss, list(named.values()))
    return loss.detach(), dict(zip(named, slopes, strict=True))


def adam(run: RunSpec, scales, weights, first, second, slopes):
    """Weights and their two moments after one step of Adam; SCALES are those of `shared.method.batches.adam_scales`.

    All are lists of arrays: an operation on a list is one kernel on a GPU, not one for each array.
    """
    spec = run.training
    add, times, over = torch._foreach_add, torch._foreach_mul, torch._foreach_div
    first = add(times(first, spec.beta1), times(slopes, 1 - spec.beta1))
    squares = times(times(slopes, 1 - spec.beta2), slopes)
    second = add(times(second, spec.beta2), squares)
    below = add(times(torch._foreach_sqrt(second), scales[1]), spec.epsilon)
    return torch._foreach_sub(weights, over(times(first, scales[0]), below)), first, second
