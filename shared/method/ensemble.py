"""Deep ensembles (Lakshminarayanan et al. 2017): networks trained side by side, whose disagreement is the posterior's.

Member m is the network that a run with seed + m would train alone: its first weights, batches, views and dropout masks
are those of that seed. Of T samples of the posterior, sample t is member t mod M's own sample t div M, with a dropout
mask of its own (`masks`), and, with augmentation at prediction, a view of its own. With posterior=ensemble nothing is
dropped at prediction (`without_dropout`): a member's samples are all alike, and only members differ.

Members take turns in one compiled program rather than being one program together (`jax.vmap`, `torch.func` with
stacked weights, a TensorFlow graph with a branch for each). That was tried with 4 members on 2 CPU cores. The processor
time of turns, in that of one program, first with blocks [[8],[16],[32],[32]] at 32 pixels, then with W+20's at 64:

                    JAX            PyTorch        TensorFlow
    training     0.75   0.38     0.69   0.42     0.89   1.02
    sampling     1.77   0.25     0.81   0.42     1.97   1.09

A convolution of several networks is a grouped one, which CPUs do slowly. Small networks gain in sampling, where most of
the work is the view, made once for all; networks that are large enough to learn much do not.
"""

from dataclasses import replace
from typing import Any, cast

import numpy as np

from shared.method.backend import Backend, open_backend
from shared.method.batches import Cutouts, Labelled, Plan, draw_plan
from shared.method.crew import open_crew
from shared.method.features import of_member
from shared.method.views import Views
from shared.method.workers import Workers
from shared.network.weights import PARTS, Checkpoint, Weights, member, merge_members
from shared.run.keys import threefry2x32
from shared.run.spec import BackendSpec, RunSpec

RESERVED = 2**32 - 1  # no step or sample has this number, so its words of a key are free


def open_networks(run: RunSpec) -> Backend:
    """The backend of `run`: of one network or, with training.members above 1, of an ensemble of them.

    With backend.workers above 1 it is of as many processes.
    """
    spec, members = run.backend, run.training.members
    backend = open_backend(spec) if spec.workers == 1 else Workers(open_crew(spec))
    return backend if members == 1 else Ensemble(backend, members)


def alone(run: RunSpec, number: int) -> RunSpec:
    """The run that trains member `number` of `run`'s ensemble, and nothing else."""
    one = replace(run.training, members=1)
    own = replace(run.posterior, method="dropout")  # by which a member by itself is sampled
    return replace(run, seed=run.seed + number, training=one, posterior=own)


def member_start(start: Checkpoint, number: int, members: int) -> Checkpoint:
    """The checkpoint of member `number` of an ensemble's, or of the only network's."""
    if members == 1:
        return start
    return Checkpoint(
        step=start.step, **{part: member(getattr(start, part), number) for part in PARTS}
    )


def draw_plans(
    run: RunSpec,
    labelled: Labelled,
    size: int,
    origin: int,
    first: int,
    steps: int,
    weights: np.ndarray | None = None,
) -> Plan:
    """The plan of training by `draw_plan`; of an ensemble, those of its members in one: (member, step, ...)."""
    plans = [
        draw_plan(alone(run, number), labelled, size, origin, first, steps, weights)
        for number in range(run.training.members)
    ]
    return plans[0] if len(plans) == 1 else _stacked(plans)


def masks(keys: np.ndarray, number: int) -> np.ndarray:
    """The keys uint32 (galaxy, 2) of member `number`'s dropout, of those of the ensemble's; member 0 has the same."""
    counter = np.array([RESERVED, number], np.uint32)
    return threefry2x32(keys, counter) if number else keys


class Ensemble:
    """Networks of one backend, as one backend: it satisfies the Protocol of `shared.method.backend`.

    A state is a list of the members' own. They take turns in the same compiled calls.
    """

    def __init__(self, backend: Backend, members: int):
        self.backend, self.members = backend, members
        # what looks at no state is the backend's own
        self.acquire, self.nearest = backend.acquire, backend.nearest
        self.out_of_memory = backend.out_of_memory
        self.dirichlet_information = backend.dirichlet_information
        self.walk_information = backend.walk_information

    def configure(self, spec: BackendSpec) -> None:
        """Configure the backend."""
        self.backend.configure(spec)

    def init(self, run: RunSpec, start: Checkpoint) -> list[Any]:
        """The members as they were at a checkpoint of theirs."""
        return [
            self.backend.init(alone(run, number), member_start(start, number, self.members))
            for number in range(self.members)
        ]

    def train_steps(self, state: list, images: Cutouts, plan: Plan) -> tuple[list, np.ndarray]:
        """The members after all steps of their plans, and the mean over them of the loss (step,)."""
        done = [
            self.backend.train_steps(one, of_member(images, number), _part(plan, number))
            for number, one in enumerate(state)
        ]
        return [after for after, _ in done], np.mean([losses for _, losses in done], 0)

    def gradients(self, state: list, images: Cutouts, plan: Plan) -> tuple[float, Weights]:
        """The mean over members of the loss of a plan's first batch, and the gradients of each member's own loss."""
        found = [
            self.backend.gradients(one, of_member(images, number), _part(plan, number))
            for number, one in enumerate(state)
        ]
        return float(np.mean([loss for loss, _ in found])), merge_members(
            [part for _, part in found]
        )

    def seen(self, state: list, images: np.ndarray, views: Views) -> np.ndarray:
        """What each member is shown, (galaxy, y, x, channel)."""
        return self.backend.seen(state[0], images, views)

    def features(self, state: list, images: np.ndarray, views: Views) -> list[Any]:
        """The units (galaxy, unit) of each member, on the device."""
        return [
            self.backend.features(one, of_member(images, number), views)
            for number, one in enumerate(state)
        ]

    def logits(self, state: list, units: list[Any], kept: dict[str, np.ndarray]) -> np.ndarray:
        """Logits (galaxy, sample, answer) of the members' units; `kept` has masks (galaxy, sample, unit)."""
        turns = np.arange(next(iter(kept.values())).shape[1]) % self.members
        found = {}
        for number in np.unique(turns):
            own = {name: mask[:, turns == number] for name, mask in kept.items()}
            found[number] = self.backend.logits(state[number], units[number], own)
        return _interleaved(found, turns)

    def sample(
        self,
        state: list,
        images: np.ndarray,
        views: Views,
        keys: np.ndarray,
        first: int,
        samples: int,
    ) -> np.ndarray:
        """Logits (galaxy, sample, answer) of samples `first` to `first` + `samples`, sample t of member t mod M."""
        numbers = np.arange(first, first + samples)
        turns, found = numbers % self.members, {}
        for number in np.unique(turns):
            own = numbers[turns == number] // self.members
            shown = of_member(images, int(number))
            found[number] = self.backend.sample(
                state[number], shown, views, masks(keys, number), int(own[0]), len(own)
            )
        return _interleaved(found, turns)

    def embed(self, state: list, images: np.ndarray, views: Views) -> np.ndarray:
        """The units of all members side by side, (galaxy, member x unit)."""
        parts = [
            self.backend.embed(one, of_member(images, number), views)
            for number, one in enumerate(state)
        ]
        return np.concatenate(parts, 1)

    def export_weights(self, state: list) -> Weights:
        """The weights of all members, each under its member's name."""
        return merge_members([self.backend.export_weights(one) for one in state])

    def export_checkpoint(self, state: list) -> Checkpoint:
        """All that training changes, of all members."""
        parts = [self.backend.export_checkpoint(one) for one in state]
        return Checkpoint(
            step=parts[0].step,
            **{name: merge_members([getattr(part, name) for part in parts]) for name in PARTS},
        )

    def describe(self) -> dict[str, str]:
        """The backend's own description, and the number of members."""
        return {**self.backend.describe(), "members": str(self.members)}

    def peak_memory(self) -> int:
        """The most bytes held so far, of all members."""
        return self.backend.peak_memory()


class SampledOtherwise:
    """Networks that are sampled in another way: a backend in all but `sample`, which each kind brings."""

    def __init__(self, backend: Backend, how: Any):
        self.backend, self.how = backend, how

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)


class WithoutDropout(SampledOtherwise):
    """Networks that are sampled as they are, nothing dropped; `how` is their state, of a rate of 0."""

    def sample(self, state, images, views, keys, first: int, samples: int) -> np.ndarray:
        """Logits (galaxy, sample, answer) of the networks that it was made of."""
        return self.backend.sample(self.how, images, views, keys, first, samples)


def without_dropout(backend: Backend, run: RunSpec, state: Any) -> Backend:
    """`backend`, with samples of the networks of `state` in which nothing is dropped."""
    still = replace(run, model=replace(run.model, dropout=0.0))
    return cast(
        Backend, WithoutDropout(backend, backend.init(still, backend.export_checkpoint(state)))
    )


def _stacked(parts):
    if isinstance(parts[0], np.ndarray):
        return np.stack(parts)
    return type(parts[0])(*map(_stacked, zip(*parts, strict=True)))


def _part(whole, number: int):
    if isinstance(whole, np.ndarray):
        return whole[number]
    return type(whole)(*(_part(part, number) for part in whole))


def _interleaved(found: dict[int, np.ndarray], turns: np.ndarray) -> np.ndarray:
    columns = np.argsort(np.argsort(turns, kind="stable"))
    return np.concatenate([found[number] for number in sorted(found)], 1)[:, columns]
