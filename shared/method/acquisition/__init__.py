"""Acquisition functions: choose the next galaxies to label, greedily or by sampling with recorded probabilities.

Each is a file of this package, found by its name. It has `NEEDS`, what it looks at, and `choose`, with the parameters
of `select` below. One that scores each galaxy by itself also has `scores(backend, pool)`, by which others may draw
(acquisition.of); one that draws with known probabilities has `reweightable(spec)`, whether no galaxy is left out.
"""

from importlib import import_module
from types import ModuleType
from typing import NamedTuple

import numpy as np

from shared.method.backend import Backend
from shared.run import keys
from shared.run.spec import AcquisitionSpec


class Needs(NamedTuple):
    """What an acquisition function looks at."""

    samples: bool = False  # of the posterior, for every galaxy of the pool
    joint: bool = False  # a sample is one network for all galaxies: they share their dropout masks
    features: bool = False  # of the pool
    labelled: bool = False  # the features of the labelled galaxies
    targets: bool = False  # samples of the galaxies named by acquisition.target
    walks: bool = False  # what a volunteer's answers to all questions would tell, for every galaxy of the pool
    score: bool = False  # the score named by acquisition.of, and what that looks at


class Pool(NamedTuple):
    """The galaxies to choose from."""

    samples: np.ndarray  # float (galaxy, sample) of rho
    votes: np.ndarray  # int64 (galaxy,) expected
    hashes: np.ndarray  # uint64 (galaxy,) of their ids
    features: np.ndarray | None  # float (galaxy, unit)
    walk_information: np.ndarray | None = None  # float64 (galaxy,), in nats
    concentrations: np.ndarray | None = (
        None  # float (galaxy, sample) about rho; None: votes are binomial
    )


class Context(NamedTuple):
    """Galaxies that a choice looks at beside the pool."""

    labelled: np.ndarray | None  # float (galaxy, unit), features of those labelled already
    targets: np.ndarray | None  # float (galaxy, sample) of rho, of those whose votes to predict
    target_votes: np.ndarray | None  # int64 (galaxy,) expected of the targets


class Choice(NamedTuple):
    """The galaxies to label next, the best first."""

    places: np.ndarray  # int64 (galaxy,) in the pool
    scores: np.ndarray  # float64 (galaxy,)
    probabilities: np.ndarray  # float64 (galaxy,) of being drawn, at its turn, from those left
    of_pool: np.ndarray | None = (
        None  # float64 (galaxy,), the first scores of all; None: it is by none
    )


class Draws(NamedTuple):
    """The random numbers of a round: float64 between 0 and 1 and neither, odd multiples of 2^-53."""

    seed: int
    number: int  # of the round

    def of_galaxies(self, purpose: str, hashes: np.ndarray, count: int = 1) -> np.ndarray:
        """`count` for each galaxy, (galaxy, count): its own, whatever else is in the pool."""
        return self._uniform(keys.galaxy_keys(self.seed, purpose, hashes), count)

    def of_round(self, purpose: str, count: int) -> np.ndarray:
        """`count` for all galaxies together, (count,)."""
        return self._uniform(keys.purpose_key(self.seed, purpose), count)

    def _uniform(self, some_keys: np.ndarray, count: int) -> np.ndarray:
        words = keys.bits(some_keys, self.number, 2 * count).astype(np.uint64)
        return ((words[..., ::2] << 20 | words[..., 1::2] >> 12) + 0.5) * 2.0**-52


def acquisition(name: str) -> ModuleType:
    """The file of the acquisition function called `name`."""
    return import_module(f"{__name__}.{name}")


def needs(spec: AcquisitionSpec) -> Needs:
    """What the choice of `spec` looks at: its acquisition function, the score that it draws by, and its guard."""
    found = acquisition(spec.name).NEEDS
    if found.score:
        found = Needs(*map(max, found, acquisition(spec.of).NEEDS))
    guarded = spec.guard > 0 and any(
        found
    )  # what looks at no galaxy, as random, guards against none
    named = found.targets and spec.target is not None
    return found._replace(features=found.features or guarded, targets=named)


def reweightable(spec: AcquisitionSpec) -> bool:
    """Whether every galaxy may be drawn, with a known probability: then `lure` can correct for the choice."""
    module = acquisition(spec.name)
    return hasattr(module, "reweightable") and module.reweightable(spec)


def select(
    backend: Backend,
    spec: AcquisitionSpec,
    draws: Draws,
    pool: Pool,
    context: Context,
    count: int,
) -> Choice:
    """`count` galaxies of the pool, or all if it has fewer; its order in the arrays plays no part.

    Equal scores go by the hash. The guard keeps back the share of the pool whose features lie farthest out: no score
    chooses these as long as there are others; then they are chosen in the same way.
    """
    count = min(count, len(pool.hashes))
    if not count:
        return Choice(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    return acquisition(spec.name).choose(backend, spec, draws, pool, context, count)
