"""Samples of the posterior of whole questions, block by block, as vote fractions and concentrations."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from shared.method.backend import Backend
from shared.method.batches import Cutouts, Labelled
from shared.method.likelihood import LEAST, concentrations, fractions, likelihood_of, positive_share
from shared.method.sampling import sample_logits
from shared.method.tree_metrics import question_nll
from shared.run.spec import RunSpec


class Samples(NamedTuple):
    """Samples of the posterior of some galaxies."""

    rows: np.ndarray  # int64 (galaxy,) in the store, rising
    fractions: np.ndarray  # float32 (galaxy, sample, answer)
    concentrations: np.ndarray | None  # float32 (galaxy, sample, question)

    def take(self, chosen: np.ndarray) -> "Samples":
        """Those of the places `chosen`."""
        own = None if self.concentrations is None else self.concentrations[chosen]
        return Samples(self.rows[chosen], self.fractions[chosen], own)

    def of(self, part: Labelled) -> "Samples":
        """Those of the galaxies of `part`, in their order."""
        return self.take(np.searchsorted(self.rows, part.rows))


def sample(
    backend: Backend,
    run: RunSpec,
    state: Any,
    images: Cutouts,
    rows: np.ndarray,
    hashes: np.ndarray,
    count: int,
) -> Iterator[Samples]:
    """`count` samples of the galaxies in `rows` of the store, whose ids have `hashes`, block by block.

    Of no galaxies it is one block of none.
    """
    likelihood = likelihood_of(run)
    blocks = sample_logits(backend, run, state, images, rows, hashes, count)
    nothing = (slice(0), np.zeros((0, count, run.model.answers), np.float32))
    for block, logits in blocks if len(rows) else [nothing]:
        own = concentrations(likelihood, logits)
        yield Samples(
            rows[block],
            fractions(likelihood, logits).astype(np.float32),
            None if own is None else np.maximum(own, LEAST).astype(np.float32),
        )


def together(parts: list[Samples]) -> Samples:
    """The samples of several blocks in one."""
    rows, shares, own = zip(*parts, strict=True)
    return Samples(
        np.concatenate(rows),
        np.concatenate(shares),
        None if own[0] is None else np.concatenate(own),
    )


def mean_nll(run: RunSpec, part: Labelled, samples: Samples) -> float:
    """The mean over galaxies of -ln p(votes), summed over questions, in nats."""
    total = np.zeros(len(part.rows))
    for number, at in enumerate(likelihood_of(run).slices):
        own = None if samples.concentrations is None else samples.concentrations[..., number]
        total += question_nll(samples.fractions[..., at], own, part.votes[:, at])
    return float(total.mean())


def one_question(run: RunSpec, samples: Samples) -> tuple[np.ndarray, np.ndarray | None]:
    """rho (galaxy, sample), the fraction of the run's positive answers to its question, and its concentrations."""
    rho = positive_share(run, samples.fractions)
    names = [question for question, _ in run.asked]
    own = samples.concentrations
    return rho, None if own is None else own[..., names.index(run.question)]
