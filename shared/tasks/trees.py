"""The posterior of whole questions: summarised and written block by block, and measured against votes."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from shared.data.store import Store
from shared.method.backend import Backend
from shared.method.batches import Labelled
from shared.method.likelihood import learned_questions, likelihood_of
from shared.method.metrics import evaluate
from shared.method.recalibration import Recalibration, conformal_intervals
from shared.method.tree_metrics import evaluate_tree, pit_uniforms
from shared.method.trees import Samples, one_question, together
from shared.method.walks import walks_of
from shared.output.posterior import located, longest_id, tree_table, write_blocks
from shared.run.progress import say
from shared.run.spec import RunSpec


def write_posteriors(
    backend: Backend,
    blocks: Iterator[Samples],
    run: RunSpec,
    store: Store,
    rows: np.ndarray,
    in_training: np.ndarray | None,
    keep: np.ndarray,
    path: Path,
    about: dict,
    mended: Recalibration | None,
) -> Samples:
    """Write the table of all `blocks` of samples at `path`; gives the samples of the galaxies in the rows `keep`.

    `in_training` (galaxy,) is of the galaxies in `rows`, all those of the blocks; None where it is not known. With what
    was `mended`, which the samples have been already, the table has conformal intervals.
    """
    questions, leads = learned_questions(run)
    galaxies, kept = located(store.galaxies), []
    try:
        walks = walks_of(questions, leads)
    except ValueError as error:
        say(f"posterior.parquet has no column walk_information: {error}")
        walks = None

    def table(block: Samples) -> pd.DataFrame:
        chosen = np.isin(block.rows, keep)
        kept.append(block.take(chosen))
        held = None
        if mended:
            total = np.full((len(block.rows), len(questions)), run.posterior.expected_votes)
            held = conformal_intervals(likelihood_of(run), block, mended, total)
        return tree_table(
            galaxies.iloc[block.rows],
            questions,
            leads,
            block.fractions,
            block.concentrations,
            run.posterior.expected_votes,
            None if in_training is None else in_training[np.searchsorted(rows, block.rows)],
            None if walks is None else backend.walk_information(block.fractions, walks),
            held,
        )

    write_blocks(path, map(table, blocks), about, longest_id(galaxies.iloc[rows]))
    return together(kept)


def measure(run: RunSpec, store: Store, part: Labelled, samples: Samples) -> dict:
    """Measures of the galaxies of `part`, of which `samples` are: of the run's own question, and "tree" of all."""
    questions, leads = learned_questions(run)
    rho, own = one_question(run, samples)
    tree = evaluate_tree(
        questions,
        leads,
        samples.fractions,
        samples.concentrations,
        part.votes,
        pit_uniforms(run.seed, part.hashes, part.votes.shape[1]),
        true_fractions(run, store, part.rows),
    )
    return evaluate(rho, part.yes, part.total, concentrations=own) | {"tree": tree}


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
