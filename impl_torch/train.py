"""Training: Adam on the votes' likelihood, many steps in one call."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from shared.method.backend import compiled_once
from shared.method.batches import Batch, Cutouts, Plan, shard_of
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
    for value in weights.values():
        value.requires_grad_()
    return State(run, weights, *others, start.step, programs(run, settings()))


@compiled_once
def programs(run: RunSpec, _: BackendSpec) -> dict[str, Callable]:
    """The calls of every run that is like this one; weights and moments are their arguments."""
    model, segments = model_of(run.model), recomputed_parts(run)
    # all but this is left as it is: unrolled, Threefry's rounds keep the compiler busy without end
    encoded = maybe_compile(lambda *arrays: encode(model, (), *arrays))
    learned = maybe_compile(lambda *arrays: encode(model, segments, *arrays))

    def steps(weights, first, second, moments, *arrays):
        losses = [
            step(run, learned, weights, first, second, moments, Batch(*batch))
            for batch in zip(*arrays, strict=True)
        ]
        return torch.stack(losses)

    def shown(images, *views):
        return apply_views(run, images, views)

    def units(weights, moments, images, *views):
        return encoded(weights, shown(images, *views), moments, {})[0]

    def sample(weights, moments, *arrays):
        return sample_chunk(run, units, weights, moments, *arrays)

    program = torch.inference_mode()
    return {
        "steps": together(capture_graph, steps, 4),
        "gradients": lambda weights, moments, *batch: loss_and_gradients(
            run, learned, weights, moments, Batch(*batch)
        )[:2],
        "sample": program(capture_graph(sample, 2)),
        "seen": program(shown),
        "features": program(units),
        "layers": program(
            lambda weights, moments, *batch: every_layer(run, weights, moments, Batch(*batch))
        ),
    }


def train_steps(state: State, images: Cutouts, plan: Plan) -> tuple[State, np.ndarray]:
    """The state after all steps of a plan, and the mean loss (step,) of each batch before its step."""
    before = (state.weights, state.first, state.second, state.moments)
    losses = state.calls["steps"](*before, *put_plan(images, plan))
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
    with torch.no_grad():
        after = adam(run, batch.scales, *before, clipped(run, gradients))
        for place, values in zip(before, after, strict=True):
            torch._foreach_copy_([place[name] for name in values], [*values.values()])
        for name, share in momenta(model_of(run.model).encoder, found).items():
            moments[name].lerp_(found[name], share)
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
    total: dict = {}
    for found in _each_shard(sums, batch, count):
        values = [*found.values()]
        values = torch._foreach_add([*total.values()], values) if total else values
        total = dict(zip(found, values, strict=True))
    return total


def _each_shard(sums: Callable, batch: Batch, count: int):
    """The `sums` of each of so many shards, in their order, whichever worker has them."""
    own = count // worker_count()
    each = (sums(shard_of(batch, number, own)) for number in range(own))
    if own == count:
        return each
    parts = [*each]
    found = gather({name: torch.stack([part[name] for part in parts]) for name in parts[0]})
    return ({name: values[number] for name, values in found.items()} for number in range(count))


def sums(run: RunSpec, encoded: Callable, weights: dict, moments: dict, shard: Batch) -> dict:
    """A shard's loss, summed over its galaxies, the sum's gradients, and the moments found, all by name."""
    model, likelihood = model_of(run.model), likelihood_of(run)
    x = apply_views(run, shard.images, (shard.affine, shard.crop, shard.contrast))
    running, kept = as_trained(run, model, moments, shard)
    trained = {name: weights[name] for name in tuning_of(run.model, run.training).rates}
    named = {n: value if n in trained else value.detach() for n, value in weights.items()}
    units, found = encoded(named, x, running, kept)
    logits = answer_logits(model, named, units, kept)
    loss = torch.sum(votes_nll(likelihood, logits, shard.votes, shard.ranks))
    gradients = torch.autograd.grad(loss, [*trained.values()])
    return {"loss": loss.detach(), **dict(zip(trained, gradients, strict=True)), **found}


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
    units = body[UNITS].to(number_type())
    return body | activations(model.head, weights, units, None, kept)


def clipped(run: RunSpec, gradients: dict) -> dict:
    """Gradients made shorter, all by one factor, where their norm is above the most that the run allows."""
    most = run.training.clip
    if most is None:
        return gradients
    norm = torch.sqrt(sum(torch.sum(gradient * gradient) for gradient in gradients.values()))
    factor = torch.where(norm > most, most / norm, 1.0)
    return {name: gradient * factor for name, gradient in gradients.items()}


def adam(run: RunSpec, scales, weights: dict, first: dict, second: dict, gradients: dict):
    """Weights and their two moments after one step of AdamW, by name; `scales` are those of `adam_scales`.

    An operation on a list of arrays is one kernel on a GPU, not one for each array.
    """
    spec, tuning, names = run.training, tuning_of(run.model, run.training), [*gradients]
    weights, first, second, gradients = (
        [part[name] for name in names] for part in (weights, first, second, gradients)
    )
    add, times, over = torch._foreach_add, torch._foreach_mul, torch._foreach_div
    first = add(times(first, spec.beta1), times(gradients, 1 - spec.beta1))
    squares = times(times(gradients, 1 - spec.beta2), gradients)
    second = add(times(second, spec.beta2), squares)
    below = add(times(torch._foreach_sqrt(second), scales[1]), spec.epsilon)
    change = over(times(first, scales[0]), below)
    if tuning.decays:
        shares = [tuning.decays.get(name, 0.0) for name in names]
        change = add(change, times(times(weights, shares), scales[2]))
    if spec.layer_decay < 1:
        change = times(change, [tuning.rates[name] for name in names])
    after = (torch._foreach_sub(weights, change), first, second)
    return tuple(dict(zip(names, part, strict=True)) for part in after)
