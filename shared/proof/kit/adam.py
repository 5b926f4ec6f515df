"""Check 6: Adam, one step in both forms, then 200 steps of training."""

from dataclasses import replace

import numpy as np

from shared.method.batches import Plan, draw_plan
from shared.method.views import Views
from shared.network.model import model_of
from shared.network.weights import Weights, init_weights
from shared.proof import reference
from shared.proof.kit.arrays import (
    ONE,
    Arrays,
    by_weight,
    close,
    close_in_double,
    given,
    given_images,
    given_pools,
    given_rate,
    given_size,
    given_views,
)
from shared.proof.kit.fixtures import ADAM, BILINEAR, NARROW, REDUCED, Fixtures, RunSettings, double
from shared.run import keys


def adam(fixtures: Fixtures) -> Arrays:
    """One step of Adam in both forms; then 200 of training, dropout and augmentation included."""
    settings = ("learning_rate", "beta1", "beta2", "epsilon")
    return {
        **{
            f"in/{name}": given([getattr(ADAM, name)], ONE, f"Adam's {name.replace('_', ' ')}")
            for name in settings
        },
        **_one_step(fixtures),
        **_many_steps(fixtures),
    }


def _one_step(fixtures: Fixtures) -> Arrays:
    random, axes = fixtures.random(20), "case, weight"
    steps, size = np.array([0, 41], np.int64), (2, 500)
    weight, gradient = random.normal(0, 0.05, size), random.normal(0, 1e-2, size)
    first, second = random.normal(0, 1e-2, size), random.uniform(0, 1e-3, size)
    first[0], second[0] = 0, 0
    gradient[:, :9] = [0, 1e-8, -1e-8, 1e-12, 1e-30, 1, -1, 1e3, 0]
    result = {
        "in/one/step": given(steps, "case", "the step, counted from 0"),
        "in/one/weight": given(weight, axes, "weights before"),
        "in/one/first": given(first, axes, "first moments before"),
        "in/one/second": given(second, axes, "second moments before"),
        "in/one/slope": given(gradient, axes, "gradients"),
    }
    for form in ("textbook", "hat"):
        spec = replace(ADAM, epsilon_form=form)
        after = [
            reference.adam(spec, int(step), *arrays)
            for step, *arrays in zip(steps, weight, first, second, gradient, strict=True)
        ]
        for name, values in zip(
            ("weight", "first", "second"), zip(*after, strict=True), strict=True
        ):
            result[f"out/one/{form}/{name}"] = close(values, axes, f"{name} after ({form})")
    return result


def _many_steps(fixtures: Fixtures) -> Arrays:
    run = RunSettings(fixtures.seed, NARROW, BILINEAR)
    start = init_weights(NARROW, fixtures.seed)
    plan = draw_plan(run, fixtures.labelled, REDUCED, 0, 0, ADAM.steps)
    losses, weights, first, second = trained(run, fixtures.images, start, plan)
    each = "step, galaxy"
    views = {
        f"in/many/{name}": array._replace(axes=f"step, {array.axes}")
        for name, array in given_views(plan.views).items()
    }
    before, after = "a weight of the narrow network, before", "a weight after 200 steps (textbook)"
    return {
        "in/many/images": given_images(fixtures.images),
        "in/many/size": given_size(NARROW),
        "in/many/rows": given(plan.rows, each, "the galaxies of each batch"),
        "in/many/yes": given(plan.votes[..., 1], each, "k, yes votes"),
        "in/many/total": given(plan.votes.sum(-1), each, "N, votes"),
        **views,
        "in/many/keys": given(plan.keys, f"{each}, word", "keys of dropout"),
        "in/many/steps": given(plan.steps, "step", "steps: dropout's index, and Adam's"),
        "in/many/pooled": given_pools(model_of(NARROW)),
        "in/many/rate": given_rate(NARROW),
        **by_weight("in/many/weights", start, before, given),
        "out/many/losses": close_in_double(losses, "step", "mean losses"),
        **by_weight("out/many/weight", weights, after, close_in_double),
        **by_weight("out/many/first", first, "first moments after 200 steps", close_in_double),
        **by_weight("out/many/second", second, "second moments after 200 steps", close_in_double),
    }


def trained(run: RunSettings, images: np.ndarray, weights: Weights, plan: Plan):
    """Losses (step,), weights and moments after the steps of `plan` on images uint8 (galaxy, y, x, 1), in float64."""
    weights, losses = double(weights), []
    first, second = ({name: np.zeros_like(w) for name, w in weights.items()} for _ in range(2))
    for number, step in enumerate(plan.steps):
        views = Views(*(array[number] for array in plan.views))
        x = reference.apply_views(run, images[plan.rows[number]], views)
        kept = keys.keep(plan.keys[number], step, run.model.dense, run.model.dropout)
        votes = plan.votes[number].astype(float)
        found = reference.gradients(run.model, weights, x, {"dropout": kept}, votes)
        losses.append(found.loss)
        for name, gradient in found.gradients.items():
            weights[name], first[name], second[name] = reference.adam(
                run.training, int(step), weights[name], first[name], second[name], gradient
            )
    return np.array(losses), weights, first, second
