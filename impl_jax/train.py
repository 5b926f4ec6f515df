"""Training: Adam on the votes' likelihood, many steps in one call."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from shared.method.backend import compiled_once
from shared.method.batches import PER_GALAXY, Batch, Cutouts, Plan, shard_of
from shared.method.fine_tuning import layer_of, tuning_of
from shared.method.likelihood import likelihood_of
from shared.network.memory import recomputed_parts
from shared.network.model import model_of
from shared.network.network import UNITS, Model, momenta
from shared.network.weights import Checkpoint, Weights
from shared.run.spec import BackendSpec, RunSpec, shard_count

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
from .workers import gather, together, worker_count


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
    model, segments = model_of(run.model), recomputed_parts(run)
    encoded, learned = partial(encode, model, ()), partial(encode, model, segments)

    def steps(weights, first, second, moments, *arrays):
        def one(before, batch):
            parts = tuple(map(dict, before))
            loss = step(run, learned, *parts, Batch(*batch))
            return parts, loss

        return jax.lax.scan(one, (weights, first, second, moments), arrays)

    def shown(images, *views):
        return apply_views(run, images, views)

    def units(weights, moments, images, *views):
        return encoded(weights, shown(images, *views), moments, {})[0]

    def sample(weights, moments, *arrays):
        return sample_chunk(run, units, weights, moments, *arrays)

    return {
        "steps": together(capture_graph, steps, 4),
        "gradients": together(
            capture_graph,
            lambda weights, moments, *batch: loss_and_gradients(
                run, learned, weights, moments, Batch(*batch)
            )[:2],
            2,
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
    batch = Batch(*(array[0] for array in put_plan(images, plan)))
    count = shard_count(state.run.training, len(plan.rows[0]))
    parts = [
        state.calls["layers"](state.weights, state.moments, *shard_of(batch, number, count))
        for number in range(count)
    ]
    return {name: np.concatenate([to_numpy(part[name]) for part in parts]) for name in parts[0]}


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
    before = (weights, first, second)
    after = adam(run, batch.scales, *before, clipped(run, gradients))
    for place, values in zip(before, after, strict=True):
        place.update(values)
    for name, share in momenta(model_of(run.model).encoder, found).items():
        moments[name] = moments[name] + share * (found[name] - moments[name])
    return loss


def loss_and_gradients(run: RunSpec, encoded: Callable, weights: dict, moments: dict, batch: Batch):
    """A batch's mean loss in nats, its gradient with respect to every weight that is trained, and the moments found.

    They are sums over the batch's shards, added in their order whatever computes them; moments are the shards' mean.
    """
    size = worker_count() * batch.images.shape[0]
    count, trained = shard_count(run.training, size), tuning_of(run.model, run.training).rates
    total = over_shards(lambda shard: sums(run, encoded, weights, moments, shard), batch, count)
    gradients = {name: total[name] / size for name in trained}
    found = {name: total[name] / count for name in moments if name in total}
    return total["loss"] / size, gradients, found


def over_shards(sums: Callable, batch: Batch, count: int) -> dict:
    """The `sums` of each of so many shards of a batch, by name, added in their order, whichever worker has them."""
    if count == 1:
        return sums(batch)
    own = count // worker_count()
    each = {name: getattr(batch, name) for name in PER_GALAXY}
    each = {name: array.reshape(own, -1, *array.shape[1:]) for name, array in each.items()}

    def shard(parts):
        # behind the barrier, so that no sum is computed together with what it is added to, and rounded otherwise
        return jax.lax.optimization_barrier(sums(batch._replace(**parts)))

    def add(total, found):
        return {name: total[name] + value for name, value in found.items()}, None

    shapes = jax.eval_shape(shard, {name: array[0] for name, array in each.items()})
    nothing = {name: jnp.zeros(value.shape, value.dtype) for name, value in shapes.items()}
    if own == count:
        return jax.lax.scan(lambda total, parts: add(total, shard(parts)), nothing, each)[0]
    found = jax.lax.scan(lambda _, parts: (None, shard(parts)), None, each)[1]
    return jax.lax.scan(add, nothing, gather(found))[0]


def sums(run: RunSpec, encoded: Callable, weights: dict, moments: dict, shard: Batch) -> dict:
    """A shard's loss, summed over its galaxies, the sum's gradients, and the moments found, all by name."""
    model, likelihood = model_of(run.model), likelihood_of(run)
    x = apply_views(run, shard.images, (shard.affine, shard.crop, shard.contrast))
    running, kept = as_trained(run, model, moments, shard)
    trained = {name: weights[name] for name in tuning_of(run.model, run.training).rates}

    def loss_of(trained):
        named = {**weights, **trained}
        units, found = encoded(named, x, running, kept)
        logits = answer_logits(model, named, units, kept)
        return jnp.sum(votes_nll(likelihood, logits, shard.votes, shard.ranks)), found

    (loss, found), gradients = jax.value_and_grad(loss_of, has_aux=True)(trained)
    return {"loss": loss, **gradients, **found}


def as_trained(run: RunSpec, model: Model, moments: dict, batch: Batch) -> tuple[dict, dict]:
    """The moments that batch norms go by, and what layers keep; before the first trained layer, as at prediction."""
    still = tuning_of(run.model, run.training).still
    frozen = run.training.moments == "frozen"
    running = {name: value for name, value in moments.items() if frozen or layer_of(name) in still}
    kept = masks(model, model.whole, batch.keys, batch.step)
    return running, {name: mask for name, mask in kept.items() if name not in still}


def every_layer(run: RunSpec, weights: dict, moments: dict, batch: Batch) -> dict:
    """Every layer's activation in training, by name, on the device."""
    model = model_of(run.model)
    x = apply_views(run, batch.images, (batch.affine, batch.crop, batch.contrast))
    running, kept = as_trained(run, model, moments, batch)
    body = encoder_activations(model, weights, x, running, kept)
    units = body[UNITS].astype(number_type())
    return body | activations(model.head, weights, units, None, kept)


def clipped(run: RunSpec, gradients: dict) -> dict:
    """Gradients made shorter, all by one factor, where their norm is above the most that the run allows."""
    most = run.training.clip
    if most is None:
        return gradients
    norm = jnp.sqrt(sum(jnp.sum(gradient * gradient) for gradient in gradients.values()))
    factor = jnp.where(norm > most, most / norm, 1.0)
    return {name: gradient * factor for name, gradient in gradients.items()}


def adam(run: RunSpec, scales, weights: dict, first: dict, second: dict, gradients: dict):
    """Weights and their two moments after one step of AdamW, by name; `scales` are those of `adam_scales`."""
    spec, tuning, after = run.training, tuning_of(run.model, run.training), ({}, {}, {})
    for name, gradient in gradients.items():
        mean = spec.beta1 * first[name] + (1 - spec.beta1) * gradient
        square = spec.beta2 * second[name] + (1 - spec.beta2) * gradient * gradient
        change = scales[0] * mean / (scales[1] * jnp.sqrt(square) + spec.epsilon)
        if name in tuning.decays:
            change = change + scales[2] * tuning.decays[name] * weights[name]
        change = change if spec.layer_decay == 1 else tuning.rates[name] * change
        for part, value in zip(after, (weights[name] - change, mean, square), strict=True):
            part[name] = value
    return after
