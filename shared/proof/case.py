"""What every check of the conformance suite starts from, and how it measures.

An error is max |difference| / max |oracle|, or, for what must be bit-identical, how many numbers differ.
"""

from dataclasses import replace
from functools import cache, cached_property
from importlib import import_module

import numpy as np
import pandas as pd

from shared.data.synthetic import draw_galaxies, render
from shared.method.backend import open_backend
from shared.method.batches import Cutouts, Labelled, Plan, draw_plan, with_steps
from shared.method.likelihood import likelihood_of
from shared.method.sampling import sample_galaxies
from shared.method.views import Views
from shared.network.model import model_of
from shared.network.network import nested
from shared.network.weights import Checkpoint, Weights, first_checkpoint
from shared.proof import reference
from shared.run.keys import galaxy_hash
from shared.run.spec import RunSpec

GALAXIES = 64
STEPS = 4  # of training
SAMPLES = 5  # of the posterior, where galaxies are asked for in many ways


class Case:
    """One run's backend, weights and galaxies."""

    def __init__(self, run: RunSpec):
        run = replace(run, training=with_steps(run.training, GALAXIES))
        self.run, self.backend = run, open_backend(run.backend)
        self.start = unlike_any(first_checkpoint(run.model, run.seed), run.seed)
        self.model, self.likelihood = model_of(run.model), likelihood_of(run)
        self.weights = doubled(self.start.weights | self.start.moments)
        self.galaxies, grey = drawn(run.seed)
        colours = [np.roll(grey, shift, 1) for shift in range(run.model.channels)]
        self.images = np.concatenate(colours, -1)
        self.cutouts = Cutouts(self.images, 2, channels=run.model.channels)
        self.ids = self.galaxies["id"].tolist()
        self.hashes = galaxy_hash(self.ids)

    def module(self, name: str):
        """A module of the backend's package."""
        return import_module(f"impl_{self.run.backend.name}.{name}")

    def put(self, array):
        """An array on the device."""
        return self.module("device").to_device(array)

    def fetch(self, array) -> np.ndarray:
        """An array of the device."""
        return self.module("device").to_numpy(array)

    @cached_property
    def labelled(self) -> Labelled:
        """The galaxies that are trained on, with votes of every kind."""
        random = np.random.default_rng(self.run.seed)
        total = random.integers(0, 41, GALAXIES)
        yes = random.integers(0, total + 1)
        if self.run.questions is None:
            return Labelled.yes_or_no(np.arange(GALAXIES), self.hashes, yes, total)
        votes = [
            random.multinomial(
                random.integers(0, 41, GALAXIES), random.dirichlet(np.ones(len(outputs)), GALAXIES)
            )
            for _, outputs in self.run.asked
        ]
        return Labelled(np.arange(GALAXIES), self.hashes, yes, total, np.concatenate(votes, -1))

    @cached_property
    def plan(self):
        """A few steps of training."""
        return draw_plan(self.run, self.labelled, self.cutouts.size, 0, 0, STEPS)

    @cached_property
    def state(self):
        """The backend's state with the first weights, for all that leaves it as it is."""
        return self.backend.init(self.run, self.start)

    def shown(self, images: np.ndarray, views: Views) -> np.ndarray:
        """The `views` of `images`, computed by the framework: `seen` checks these; later checks start from them.

        A warp is right to a millionth in float32, which is enough to carry a unit across a kink. It is the compiled
        one, as in training: the same lines run one by one round otherwise.
        """
        return self.backend.seen(self.state, images, views).astype(np.float64)

    def batch(self, step: int, images: Cutouts | None = None):
        """What the oracle needs of a step: images as shown, what each layer keeps, votes (galaxy, answer)."""
        plan = self.plan
        views = Views(*(array[step] for array in plan.views))
        return self.shown((images or self.cutouts)[plan.rows[step]], views), *self.told(step, plan)

    def told(self, step: int, plan: Plan):
        """What each layer keeps at a step, and its votes."""
        kept = reference.masks(self.model, self.model.whole, plan.keys[step], plan.steps[step])
        return kept, plan.votes[step].astype(np.float64)

    def layers(self, weights: Weights, images: Cutouts) -> Weights:
        """The framework's activation of every layer, for the first batch of training."""
        state = self.backend.init(self.run, self.start._replace(weights=weights))
        return doubled(self.module("train").layers(state, images, self.plan))

    @property
    def at_prediction_or_not(self) -> list[RunSpec]:
        """The run with every galaxy seen as it is at prediction, and with each sample seen in a random way."""
        return [
            replace(self.run, augmentation=replace(self.run.augmentation, at_prediction=random))
            for random in (False, True)
        ]

    def sampled(self, run: RunSpec, rows: np.ndarray, chunk: int | None = None) -> np.ndarray:
        """The posterior samples (galaxy, sample) of the galaxies in `rows`, in this order.

        In chunks of the run's own size, or of `chunk`.
        """
        self.backend.configure(replace(run.backend, chunk=chunk or run.backend.chunk))
        hashes = self.hashes[rows]
        found = sample_galaxies(self.backend, run, self.state, self.cutouts, rows, hashes, SAMPLES)
        self.backend.configure(run.backend)
        return found

    def rho(self, count: int, samples: int) -> np.ndarray:
        """Samples (galaxy, sample) of vote fractions of every kind, 0 and 1 among them."""
        random = np.random.default_rng(self.run.seed)
        centre = random.random((count, 1))
        rho = np.clip(centre + random.normal(0, 0.1, (count, samples)), 0, 1)
        rho[0], rho[1], rho[2] = 0, 1, [0, 1] * (samples // 2)
        return rho.astype(np.float32)


@cache
def drawn(seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """The galaxies of a case, and their images uint8 (galaxy, y, x, 1)."""
    galaxies = draw_galaxies(GALAXIES, seed)
    return galaxies, np.stack([render(row._asdict()) for row in galaxies.itertuples(index=False)])


def doubled(named: Weights) -> Weights:
    """Arrays in float64."""
    return {name: array.astype(np.float64) for name, array in named.items()}


def unlike_any(start: Checkpoint, seed: int) -> Checkpoint:
    """A checkpoint of first weights, but with scales that are not all 0, 1 or a millionth, and moments of no batch."""
    random, weights, moments = np.random.default_rng(seed), dict(start.weights), {}
    for name, array in start.weights.items():
        if name.endswith("/scale"):
            weights[name] = random.uniform(0.5, 1, array.shape).astype(np.float32)
    for name, array in start.moments.items():
        least, most = (0.5, 1.5) if name.endswith("/variance") else (-0.2, 0.2)
        moments[name] = random.uniform(least, most, array.shape).astype(np.float32)
    return start._replace(weights=weights, moments=moments)


def relative_error(got, oracle) -> float:
    """max |difference| / max |oracle|; infinite for another shape or for what is no number."""
    got, oracle = np.asarray(got, np.float64), np.asarray(oracle, np.float64)
    if got.shape != oracle.shape or not np.isfinite(got).all():
        return float("inf")
    return float(np.abs(got - oracle).max() / (np.abs(oracle).max() or 1))


def unequal(got, oracle) -> int:
    """How many numbers differ; all of them for another shape or kind."""
    got, oracle = np.asarray(got), np.asarray(oracle)
    if got.shape != oracle.shape or got.dtype.kind != oracle.dtype.kind:
        return max(oracle.size, 1)
    return int((got != oracle).sum())


def difference(got: np.ndarray, oracle: np.ndarray) -> float:
    """max |difference|."""
    return float(np.abs(got - oracle).max())


def by_layer(got: Weights, oracle: Weights) -> float:
    """max |difference| of all arrays, each by the largest value of its layer: a bias may nearly cancel."""
    worst = 0.0
    for layer, parts in nested(oracle).items():
        sizes = {part: np.abs(array).max() for part, array in parts.items()}
        for part, array in parts.items():
            error = relative_error(got[f"{layer}/{part}"], array) * (sizes[part] or 1)
            worst = max(worst, float(error / (max(sizes.values()) or 1)))
    return worst
