"""What the files and the record of a run say of it."""

from pathlib import Path
from typing import Any

import numpy as np

from shared.data.store import Store
from shared.method.backend import Backend
from shared.method.batches import Labelled
from shared.output.posterior import posterior_table, write_posterior
from shared.run.records import allocator
from shared.run.spec import RunSpec


def write_catalogue(
    backend: Backend,
    run: RunSpec,
    store: Store,
    rows: np.ndarray,
    samples: np.ndarray,
    in_training: np.ndarray | None,
    folder: Path,
) -> np.ndarray:
    """Write posterior.parquet of the galaxies in `rows`; gives their mutual information (galaxy,) in nats."""
    votes_expected = run.posterior.expected_votes
    information = backend.acquire("mutual_information", samples, votes_expected)
    table = posterior_table(
        store.galaxies.iloc[rows],
        samples,
        run.question,
        run.positive,
        run.negative,
        votes_expected,
        information,
        in_training,
    )
    write_posterior(folder / "posterior.parquet", table, facts(run))
    return information


def facts(run: RunSpec) -> dict[str, Any]:
    """The facts about a run that its files of weights and posteriors carry."""
    return {
        "question": run.question,
        "positive": list(run.positive),
        "negative": list(run.negative),
        "backend": run.backend.name,
        "precision": run.backend.precision,
        "seed": run.seed,
        "image_size": run.model.image_size,
        "samples": run.posterior.samples,
        "expected_votes": run.posterior.expected_votes,
    }


def where(backend: Backend) -> dict[str, str]:
    """What a run ran on: the backend's description, and the memory allocator, which decides speed on a CPU."""
    return {**backend.describe(), "allocator": allocator()}


def on_part(part: Labelled, rows: np.ndarray, samples: np.ndarray, information: np.ndarray):
    there = np.isin(rows, part.rows)
    chosen = np.isin(part.rows, rows)
    return samples[there], part.yes[chosen], part.total[chosen], information[there]


def summarise(test: dict | None) -> str:
    if test is None:
        return "no test galaxies"
    return f"test RMSE {test['rmse']:.3f}; test NLL {test['log_score']:.2f} nats (lower is better)"
