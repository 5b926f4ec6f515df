"""Training: Adam on the votes' likelihood, many steps in one call."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from shared.method.backend import compiled_once
from shared.method.batches import Batch, Cutouts, Plan
from shared.method.likelihood import likelihood_of
from shared.network.model import model_of
from shared.network.network import UNITS, momenta
from shared.network.weights import Checkpoint, Weights
from shared.run.spec import BackendSpec, RunSpec

from .device import (
    cache_images,
    capture_graph,
    maybe_compile,
    number_type,
    on_gpu,
    settings,
    to_device,
    to_numpy,
)
from .likelihood import votes_nll
from .network import activations, answer_logits, encode, encoder_activations, masks
from .predict import sample_chunk
from .views import apply_views
from .weights import export_arrays, import_arrays


@dataclass
class State:
    """All that training changes, and the compiled calls that change and read it."""

    run: RunSpec
    weights: dict
    first: dict
    second: dict
    moments: dict
    step: int
    calls: dict[str, Callable]


def init(run: RunSpec, start: Checkpoint) -> State:
    """The network and its optimiser as they were at a checkpoint."""
    parts = (start.weights, start.first, start.second, start.moments)
    weights, *others = (import_arrays(part) for part in parts)
    return State(run, weights, *others, start.step, programs(run, settings()))


@compiled_once
def programs(run: RunSpec, _: BackendSpec) -> dict[str, Callable]:
    """The calls of every run that is like this one; weights and moments are their arguments."""
    model = model_of(run.model)
    encoded = partial(encode, model)

    def steps(weights, first, second, moments, *arrays):
        def one(before, batch):
            parts = tuple(map(dict, before))
            loss = step(run, encoded, *parts, Batch(*batch))
            return parts, loss

        return jax.lax.scan(one, (weights, first, second, moments), arrays)

    def shown(images, *views):
        return apply_views(run, images, views)

    def units(weights, moments, images, *views):
        return encoded(weights, shown(images, *views), moments, {})[0]

    def sample(weights, moments, *arrays):
        return sample_chunk(run, units, weights, moments, *arrays)

    return {
        "steps": capture_graph(steps, 4),
        "gradients": maybe_compile(
            lambda weights, moments, *batch: loss_and_gradients(
                run, encoded, weights, moments, Batch(*batch)
            )[:2]
        ),
        "sample": maybe_compile(sample),
        "seen": maybe_compile(shown),
        "features": maybe_compile(units),
        "layers": maybe_compile(
            lambda weights, moments, *batch: every_layer(run, weights, moments, Batch(*batch))
        ),
    }


def train_steps(state: State, images: Cutouts, plan: Plan) -> tuple[State, np.ndarray]:
    """The state after all steps of a plan, and the mean loss (step,) of each batch before its step."""
    before = (state.weights, state.first, state.second, state.moments)
    after, losses = state.calls["steps"](*before, *put_plan(images, plan))
    state.weights, state.first, state.second, state.moments = after
    state.step += len(plan.steps)
    return state, to_numpy(losses)


def gradients(state: State, images: Cutouts, plan: Plan) -> tuple[float, Weights]:
    """The mean loss of a plan's first batch and its gradient with respect to every weight; the state stays as it is."""
    batch = (array[0] for array in put_plan(images, plan))
    loss, gradients = state.calls["gradients"](state.weights, state.moments, *batch)
    return float(loss), export_arrays(gradients)


def layers(state: State, images: Cutouts, plan: Plan) -> dict[str, np.ndarray]:
    """Every layer's activation for a plan's first batch, by name."""
    batch = (array[0] for array in put_plan(images, plan))
    found = state.calls["layers"](state.weights, state.moments, *batch)
    return {name: to_numpy(value) for name, value in found.items()}


def put_plan(images: Cutouts, plan: Plan) -> tuple:
    """A plan's arrays (step, ...) on the device, its images among them, in the order of a Batch."""
    if on_gpu():
        cache_images(images)
    arrays = (
        images.on_device(plan.rows),
        plan.votes,
        plan.ranks,
        *plan.views,
        plan.keys,
        plan.steps,
        plan.scales,
    )
    return tuple(to_device(array) for array in arrays)


def step(
    run: RunSpec,
    encoded: Callable,
    weights: dict,
    first: dict,
    second: dict,
    moments: dict,
    batch: Batch,
):
    """One step of training, in place; gives the mean loss before it."""
    loss, gradients, found = loss_and_gradients(run, encoded, weights, moments, batch)
    for name, gradient in gradients.items():
        after = adam(run, batch.scales, weights[name], first[name], second[name], gradient)
        weights[name], first[name], second[name] = after
    for name, share in momenta(model_of(run.model).encoder, found).items():
        moments[name] = moments[name] + share * (found[name] - moments[name])
    return loss


def loss_and_gradients(run: RunSpec, encoded: Callable, weights: dict, moments: dict, batch: Batch):
    """A batch's mean loss in nats, its gradient with respect to every weight, and the moments found, by name."""
    model, likelihood = model_of(run.model), likelihood_of(run)
    x = apply_views(run, batch.images, (batch.affine, batch.crop, batch.contrast))
    running = moments if run.training.moments == "frozen" else None
    kept = masks(model, model.whole, batch.keys, batch.step)

    def loss_of(weights):
        units, found = encoded(weights, x, running, kept)
        logits = answer_logits(model, weights, units, kept)
        return jnp.mean(votes_nll(likelihood, logits, batch.votes, batch.ranks)), found

    (loss, found), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights)
    return loss, gradients, found


def every_layer(run: RunSpec, weights: dict, moments: dict, batch: Batch) -> dict:
    """Every layer's activation in training, by name, on the device."""
    model = model_of(run.model)
    x = apply_views(run, batch.images, (batch.affine, batch.crop, batch.contrast))
    running = moments if run.training.moments == "frozen" else None
    kept = masks(model, model.whole, batch.keys, batch.step)
    body = encoder_activations(model, weights, x, running, kept)
    units = body[UNITS].astype(number_type())
    return body | activations(model.head, weights, units, None, kept)


def adam(run: RunSpec, scales, weights, first, second, gradients):
    """Weights and their two moments after one step of Adam; `scales` are those of `adam_scales`."""
    spec = run.training
    first = spec.beta1 * first + (1 - spec.beta1) * gradients
    second = spec.beta2 * second + (1 - spec.beta2) * gradients * gradients
    return (
        weights - scales[0] * first / (scales[1] * jnp.sqrt(second) + spec.epsilon),
        first,
        second,
    )
