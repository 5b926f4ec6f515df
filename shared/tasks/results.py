"""What the files and the record of a run say of it."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from shared.data.store import Store
from shared.method.backend import Backend
from shared.method.batches import Labelled
from shared.output.formats import convert
from shared.output.posterior import posterior_table, write_posterior
from shared.run.records import allocator, host
from shared.run.spec import RunSpec
from shared.tasks.inherit import weights_file

METHOD = "Bayesian convolutional network, posterior samples by dropout or an ensemble (Walmsley et al. 2020)"
DOI = "10.1093/mnras/stz2816"
CITE = f"trizoo (its CITATION.cff) and the method: Walmsley et al. 2020, MNRAS 491, 1554, doi:{DOI}"


def write_catalogue(
    backend: Backend,
    run: RunSpec,
    store: Store,
    rows: np.ndarray,
    samples: np.ndarray,
    in_training: np.ndarray | None,
    folder: Path,
) -> np.ndarray:
    """Write posterior.parquet of the galaxies in `rows`, and the formats that are asked for beside it.

    Gives their mutual information (galaxy,) in nats.
    """
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
    path = folder / "posterior.parquet"
    write_posterior(path, table, facts(run) | provenance(run, folder))
    convert(path, folder, run.posterior.format, run.posterior.columns)
    return information


def provenance(run: RunSpec, folder: Path) -> dict[str, Any]:
    """What a catalogue says of how it was made, beside its `facts`: by what method and program, from which data.

    The weights are those that the run has left in its `folder`, or those that it was given.
    """
    made, weights = host(), folder / "weights.safetensors"
    if not weights.exists():
        weights = weights_file(run.weights)
    return {
        "method": METHOD,
        "doi": DOI,
        "cite": CITE,
        "survey": run.dataset.name,
        "licence": run.dataset.licence,
        "model": run.model.name,
        "members": run.training.members,
        "weights_sha256": sha256(weights.read_bytes()).hexdigest(),
        "trizoo": made["trizoo"],
        "commit": made["commit"],
    }


def facts(run: RunSpec) -> dict[str, Any]:
    """What a file of weights or posteriors says of the run that made it."""
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
    """What a run ran on: the backend's own words, and the memory allocator's setting, which decides speed on a CPU."""
    return {**backend.describe(), "allocator": allocator()}


def on_part(part: Labelled, rows: np.ndarray, samples: np.ndarray, information: np.ndarray):
    there = np.isin(rows, part.rows)
    chosen = np.isin(part.rows, rows)
    return samples[there], part.yes[chosen], part.total[chosen], information[there]


def summarise(test: dict | None) -> str:
    if test is None:
        return "no test galaxies"
    return f"test vote fractions to {test['rmse']:.3f} (rms), log score {test['log_score']:.3f}"
