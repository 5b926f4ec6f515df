"""A backend of plain numpy that learns nothing true, but exactly: for tests of what surrounds a framework."""

import numpy as np
from scipy.special import entr

from shared.method.batches import Cutouts, Labelled
from shared.proof import reference
from shared.run import keys
from shared.run.keys import galaxy_hash
from shared.run.spec import RunSpec, from_config
from trizoo import compose

TINY = (
    "mode=corrected",
    "model.image_size=16",
    "model.blocks=[[2],[2],[2],[2]]",
    "model.dense=4",
)


class Stopped(Exception):
    """What a fake is told to raise: the end of a process, without the process."""


class Fake:
    """A backend whose weights are a mixture of all that a plan holds, and which notes what it was asked.

    A state is a checkpoint. It raises Stopped when it is asked for step `stop`, and its loss is NaN at step `bad`.
    """

    def __init__(self, stop: int | None = None, bad: int | None = None):
        self.stop, self.bad = stop, bad
        self.plans, self.sampled, self.begun = [], [], []

    def init(self, run, start):
        self.begun.append(start.step)
        return start

    def train_steps(self, state, images, plan):
        np.testing.assert_array_equal(plan.steps, state.step + np.arange(len(plan.steps)))
        if self.stop is not None and plan.steps[0] <= self.stop <= plan.steps[-1]:
            raise Stopped
        self.plans.append(plan)
        bias, losses = state.weights["answer/bias"], []
        for number, step in enumerate(plan.steps):
            arrays = (
                plan.rows,
                plan.votes,
                plan.ranks,
                plan.views.affine,
                plan.keys,
                images[plan.rows],
            )
            mixed = sum(array[number].astype(np.float64).sum() * 1e-6 for array in arrays)
            bias = (0.9 * bias + np.sin(mixed + step + np.arange(2))).astype(np.float32)
            losses.append(np.nan if step == self.bad else np.float32(1 + bias[0] ** 2))
        weights = {**state.weights, "answer/bias": bias}
        return state._replace(weights=weights, step=state.step + len(losses)), np.array(losses)

    def sample(self, state, images, views, galaxy_keys, first, samples):
        self.sampled.append(len(images))
        numbers = np.tile(np.arange(first, first + samples), (len(images), 1))
        noise = keys.uniforms(galaxy_keys[:, None], numbers, 1)[..., 0] if len(images) else numbers
        light = images.mean((1, 2, 3))[:, None] / 255 if len(images) else np.zeros((0, 1))
        turned = views.affine[:, 0, :1]
        logit = state.weights["answer/bias"][0] + 4 * light * noise + turned
        return np.stack([np.zeros_like(logit), logit], -1)

    def acquire(self, name, samples, expected_votes, states=None):
        votes, scores = np.broadcast_to(expected_votes, len(samples)), np.zeros(len(samples))
        given = () if states is None else (states,)
        for number in np.unique(votes):
            some = votes == number
            scores[some] = getattr(reference, name)(samples[some], int(number), *given)
        return scores

    def dirichlet_information(self, concentrations, expected_votes):
        return reference.dirichlet_information(concentrations, expected_votes)

    def walk_information(self, fractions, walks):
        ends = [np.ones((*fractions.shape[:2], 1))]
        for branches in walks.nodes[1:]:
            parts = [
                fractions[..., [a], None] * ends[after][..., None, :]
                for some, after in branches
                for a in some
            ]
            ends.append(np.concatenate([part[..., 0, :] for part in parts], -1))
        return entr(ends[-1].mean(1)).sum(1) - entr(ends[-1]).sum(2).mean(1)

    def seen(self, state, images, views):
        return images[:, : views.affine.shape[-1]] / 255 + views.affine[:, :1, :1, None]

    def embed(self, state, images, views):
        if not len(images):
            return np.zeros((0, 3))
        light = images / 255
        units = np.stack(
            [
                light.mean((1, 2, 3)),
                light.std((1, 2, 3)),
                light[:, 0, 0, 0] + views.affine[:, 0, 0],
            ],
            1,
        )
        return units * (2 + np.sin(state.weights["answer/bias"][0]))

    def nearest(self, units, centres):
        return reference.nearest(units, centres)

    def export_weights(self, state):
        return state.weights

    def export_checkpoint(self, state):
        return state

    def describe(self):
        return {"fake": "1", "device": "cpu", "precision": "float64"}

    def peak_memory(self):
        return 1

    def out_of_memory(self, error):
        return isinstance(error, MemoryError)


def run_of(*words: str) -> RunSpec:
    """The run of `words` with a tiny network."""
    return from_config(RunSpec, compose([*TINY, *words]))


def galaxies(first: int, count: int) -> Labelled:
    """`count` galaxies from row `first` on, with votes."""
    rows = np.arange(first, first + count)
    hashes = galaxy_hash([f"galaxy {row}" for row in rows])
    total = 5 + rows % 36
    return Labelled.yes_or_no(rows, hashes, rows * 7 % (total + 1), total)


def noise(count: int) -> Cutouts:
    """Images of noise, the first ones darker."""
    random = np.random.default_rng(0)
    bright = np.linspace(20, 255, count)[:, None, None, None]
    return Cutouts((random.random((count, 16, 16, 1)) * bright).astype(np.uint8), 1)
