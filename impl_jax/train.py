"""Training: Adam on the votes' likelihood, many steps in one call."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from shared.method.backend import compiled_once
from shared.method.batches import Cutouts, Plan
from shared.network.weights import Checkpoint, Weights
from shared.run.spec import BackendSpec, RunSpec

from .device import compiled, fetch, hold, on_gpu, one_launch, put, settings
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
    first, second = (
        {name: to_layout(put(part[name])) for name in part} for part in (start.first, start.second)
    )
    return State(run, model, first, second, start.step, programs(run, settings()))


@compiled_once
def programs(run: RunSpec, _: BackendSpec) -> dict[str, Callable]:
    """The calls of every run that is like this one; weights and moments are their arguments."""
    graph, blank = nnx.split(GalaxyCNN(run.model))

    def steps(weights, first, second, *arrays):
        def one(before, batch):
            weights, first, second = map(dict, before)
            model = holding(weights)
            loss = step(run, model, first, second, *batch)
            return (values(model), first, second), loss

        return jax.lax.scan(one, (weights, first, second), arrays)

    def holding(weights):
        model = nnx.merge(graph, blank, copy=True)
        import_weights(model, weights)
        return model

    def program(call):
        return compiled(lambda weights, *arrays: call(holding(weights), *arrays))

    return {
        "steps": one_launch(steps, 3),
        "slopes": program(lambda model, *batch: loss_and_slopes(run, model, *batch)),
        "sample": program(lambda model, *arrays: sample_chunk(run, model, *arrays)),
        "seen": program(lambda model, images, *views: see(run, images, views)),
        "features": program(lambda model, images, *views: model.features(see(run, images, views))),
        "layers": program(
            lambda model, images, *views: every_layer(model, see(run, images, views))
        ),
    }


def train_steps(state: State, images: Cutouts, plan: Plan) -> tuple[State, np.ndarray]:
    """The state after all steps of a plan, and the mean loss (step,) of each batch before its step."""
    before = (values(state.model), state.first, state.second)
    (weights, state.first, state.second), losses = state.calls["steps"](
        *before, *put_plan(images, plan)
    )
    import_weights(state.model, weights)
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
    for name, weight in named_parameters(model).items():
        after = adam(run, scales, weight[...], first[name], second[name], slopes[name])
        weight[...], first[name], second[name] = after
    return loss


def loss_and_slopes(
    run: RunSpec, model: GalaxyCNN, images, yes, total, turn, window, light, keys, number
):
    """A batch's mean loss in nats and its slope with respect to every weight, under shared names."""

    def loss_of(model):
        units = model.features(see(run, images, (turn, window, light)))
        kept = keep(keys, number, run.model.dense, run.model.dropout)
        logits = model.answers(dropout(units, kept, run.model.dropout))
        return jnp.mean(votes_nll(logits, yes, total))

    loss, slopes = nnx.value_and_grad(loss_of)(model)
    named = named_parameters(nnx.merge(nnx.graphdef(model), slopes))
    return loss, {name: slope[...] for name, slope in named.items()}


def adam(run: RunSpec, scales, weights, first, second, slopes):
    """Weights and their two moments after one step of Adam; SCALES are those of `shared.method.batches.adam_scales`."""
    spec = run.training
    first = spec.beta1 * first + (1 - spec.beta1) * slopes
    second = spec.beta2 * second + (1 - spec.beta2) * slopes * slopes
    return (
        weights - scales[0] * first / (scales[1] * jnp.sqrt(second) + spec.epsilon),
        first,
        second,
    )
