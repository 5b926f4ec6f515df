"""The posterior of whole questions: sampled, summarised and written block by block, and measured against votes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from shared.data.store import Store
from shared.method.backend import Backend
from shared.method.batches import Cutouts, Labelled
from shared.method.likelihood import concentrations, fractions, likelihood_of
from shared.method.sampling import sample_logits
from shared.method.tree_metrics import evaluate_tree, pit_uniforms, question_nll
from shared.output.posterior import located, tree_table, write_blocks
from shared.run.questions import Leads, Questions
from shared.run.spec import RunSpec


class Samples(NamedTuple):
    """Samples of the posterior of some galaxies."""

    rows: np.ndarray  # int64 (galaxy,) in the store, rising
    fractions: np.ndarray  # float32 (galaxy, sample, answer)
    concentrations: np.ndarray | None  # float32 (galaxy, sample, question)

    def of(self, part: Labelled) -> "Samples":
        """Those of the galaxies of `part`, in their order."""
        places = np.searchsorted(self.rows, part.rows)
        own = None if self.concentrations is None else self.concentrations[places]
        return Samples(part.rows, self.fractions[places], own)


def learned_questions(run: RunSpec) -> tuple[Questions, Leads]:
    """The questions that the run learns, with the answers that its outputs count, and what leads to them.

    Where what leads to a question is not learned with it, it is taken as asked of everybody.
    """
    questions = {
        question: tuple("_or_".join(answers) for answers in outputs)
        for question, outputs in run.asked
    }
    if run.questions is None:
        return questions, {}
    leads = run.dataset.leads
    return questions, {
        name: leads[name] for name in leads if {name, *leads[name]} <= set(questions)
    }


def sample(
    backend: Backend,
    run: RunSpec,
    state: Any,
    images: Cutouts,
    rows: np.ndarray,
    hashes: np.ndarray,
    count: int,
) -> Iterator[Samples]:
    """`count` samples of the galaxies in `rows` of the store, whose ids have `hashes`, block by block."""
    likelihood = likelihood_of(run)
    for block, logits in sample_logits(backend, run, state, images, rows, hashes, count):
        own = concentrations(likelihood, logits)
        yield Samples(
            rows[block],
            fractions(likelihood, logits).astype(np.float32),
            None if own is None else own.astype(np.float32),
        )


def write_posteriors(
    blocks: Iterator[Samples],
    run: RunSpec,
    store: Store,
    rows: np.ndarray,
    in_training: np.ndarray | None,
    keep: np.ndarray,
    path: Path,
    about: dict,
) -> Samples:
    """Write the table of all `blocks` of samples at `path`; gives the samples of the galaxies in the rows `keep`.

    `in_training` (galaxy,) is of the galaxies in `rows`, all those of the blocks; None where it is not known.
    """
    questions, leads = learned_questions(run)
    galaxies, kept = located(store.galaxies), []

    def table(block: Samples) -> pd.DataFrame:
        chosen = np.isin(block.rows, keep)
        own = None if block.concentrations is None else block.concentrations[chosen]
        kept.append(Samples(block.rows[chosen], block.fractions[chosen], own))
        return tree_table(
            galaxies.iloc[block.rows],
            questions,
            leads,
            block.fractions,
            block.concentrations,
            run.posterior.expected_votes,
            None if in_training is None else in_training[np.searchsorted(rows, block.rows)],
        )

    write_blocks(path, map(table, blocks), about)
    return together(kept)


def together(parts: list[Samples]) -> Samples:
    """The samples of several blocks in one."""
    rows, shares, own = zip(*parts, strict=True)
    return Samples(
        np.concatenate(rows),
        np.concatenate(shares),
        None if own[0] is None else np.concatenate(own),
    )


def measure(run: RunSpec, store: Store, part: Labelled, samples: Samples) -> dict:
    """Every measure of `evaluate_tree` for the galaxies of `part`, of which `samples` are."""
    questions, leads = learned_questions(run)
    return evaluate_tree(
        questions,
        leads,
        samples.fractions,
        samples.concentrations,
        part.votes,
        pit_uniforms(run.seed, part.hashes, part.votes.shape[1]),
        true_fractions(run, store, part.rows),
    )


def mean_nll(run: RunSpec, part: Labelled, samples: Samples) -> float:
    """The mean over galaxies of -ln p(votes), summed over questions, in nats."""
    total = np.zeros(len(part.rows))
    for number, at in enumerate(likelihood_of(run).slices):
        own = None if samples.concentrations is None else samples.concentrations[..., number]
        total += question_nll(samples.fractions[..., at], own, part.votes[:, at])
    return float(total.mean())


def true_fractions(run: RunSpec, store: Store, rows: np.ndarray) -> np.ndarray | None:
    """The true vote fractions (galaxy, answer) of synthetic galaxies in `rows`; None of any others."""
    columns = [
        [f"true_{question}_{answer}" for answer in answers]
        for question, outputs in run.asked
        for answers in outputs
    ]
    if not {name for some in columns for name in some} <= set(store.galaxies):
        return None
    table = store.galaxies.iloc[rows]
    return np.stack([table[some].to_numpy(np.float64).sum(1) for some in columns], -1)
