"""What the files and the record of a run say of it."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from shared.data.store import Store, sha256
from shared.method.backend import Backend
from shared.method.batches import Cutouts, Labelled
from shared.method.honesty import FEW, honesty
from shared.method.likelihood import likelihood_of
from shared.method.metrics import evaluate
from shared.method.recalibration import LEVEL, Recalibration, plain, recalibrated
from shared.method.sampling import sample_galaxies
from shared.method.trees import mean_nll, sample, together
from shared.output.formats import convert
from shared.output.posterior import posterior_table, write_posterior
from shared.run.records import allocator, host
from shared.run.spec import RunSpec
from shared.tasks import trees
from shared.tasks.inherit import weights_file

METHODS = {  # by posterior.method
    "dropout": "Bayesian convolutional network, posterior samples by dropout (Walmsley et al. 2020)",
    "laplace": "Convolutional network, posterior by a Laplace approximation of its last layer (Daxberger et al. 2021)",
    "ensemble": "Deep ensemble of convolutional networks (Lakshminarayanan et al. 2017)",
}
DOI = "10.1093/mnras/stz2816"
CITE = f"trizoo (its CITATION.cff) and the method: Walmsley et al. 2020, MNRAS 491, 1554, doi:{DOI}"


def write_catalogue(
    backend: Backend,
    run: RunSpec,
    state: Any,
    store: Store,
    images: Cutouts,
    rows: np.ndarray,
    hashes: np.ndarray,
    in_training: np.ndarray | None,
    folder: Path,
    parts: dict[str, Labelled],
    mended: Recalibration | None = None,
) -> tuple[dict[str, dict], float]:
    """Write posterior.parquet of the galaxies in `rows` of the store, and the formats that are asked for beside it.

    `hashes` uint64 (galaxy,) of the ids and `in_training` (galaxy,) are of these galaxies. Samples are recalibrated by
    what was `mended`, if anything. Galaxies whose image turns out to be of no use while it is streamed are left out.
    Gives what is measured of each of `parts` that has galaxies among them, and the seconds that sampling took.
    """
    count, path = run.posterior.samples, folder / "posterior.parquet"
    about = facts(run) | provenance(run, folder)
    if mended:
        about["recalibration"] = {"level": LEVEL, "questions": plain(mended)}
    begun = time.perf_counter()
    if likelihood_of(run).name == "binomial" and not mended:
        samples = sample_galaxies(backend, run, state, images, rows, hashes, count)
        seconds, used = time.perf_counter() - begun, in_use(store, rows)
        rows, samples = rows[used], samples[used]
        in_training = None if in_training is None else in_training[used]
        inside = among(rows, parts)
        information = _write_yes_or_no(backend, run, store, rows, samples, in_training, path, about)
        measured = {
            name: evaluate(*_on_part(part, rows, samples, information))
            for name, part in inside.items()
        }
    else:
        blocks = sample(backend, run, state, images, rows, hashes, count)
        blocks = (block.take(in_use(store, block.rows)) for block in blocks)
        if mended:
            likelihood = likelihood_of(run)
            blocks = (recalibrated(likelihood, block, mended) for block in blocks)
        keep = np.concatenate([np.zeros(0, np.int64), *(part.rows for part in parts.values())])
        kept = trees.write_posteriors(
            backend, blocks, run, store, rows, in_training, keep, path, about, mended
        )
        seconds = time.perf_counter() - begun
        inside = among(rows[in_use(store, rows)], parts)
        measured = {
            name: trees.measure(run, store, part, kept.of(part)) for name, part in inside.items()
        }
    convert(path, folder, run.posterior.format, run.posterior.columns)
    return measured, seconds


def in_use(store: Store, rows: np.ndarray) -> np.ndarray:
    """Which of `rows` (galaxy,) have an image that can be used, as far as those of a stream have been read."""
    left_out = getattr(store.images, "left_out", {})
    return np.array([row not in left_out for row in rows.tolist()], bool)


def among(rows: np.ndarray, parts: dict[str, Labelled]) -> dict[str, Labelled]:
    """The galaxies of each of `parts` that are in `rows` of the store; only parts that have some."""
    inside = {
        name: part.take(np.flatnonzero(np.isin(part.rows, rows))) for name, part in parts.items()
    }
    return {name: part for name, part in inside.items() if len(part.rows)}


def _write_yes_or_no(
    backend: Backend,
    run: RunSpec,
    store: Store,
    rows: np.ndarray,
    samples: np.ndarray,
    in_training: np.ndarray | None,
    path: Path,
    about: dict,
) -> np.ndarray:
    """Write the table of one yes-or-no question; gives the galaxies' mutual information (galaxy,) in nats."""
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
    write_posterior(path, table, about)
    return information


def provenance(run: RunSpec, folder: Path) -> dict[str, Any]:
    """What a catalogue says of how it was made, beside its `facts`: by what method and program, from which data.

    The weights are those that the run has left in its `folder`, or those that it was given.
    """
    made, weights = host(), folder / "weights.safetensors"
    if not weights.exists():
        weights = weights_file(run.weights)
    return {
        "method": METHODS[run.posterior.method],
        "doi": DOI,
        "cite": CITE,
        "survey": run.dataset.name,
        "licence": run.dataset.licence,
        "model": run.model.name,
        "members": run.training.members,
        "weights_sha256": sha256(weights),
        "trizoo": made["trizoo"],
        "commit": made["commit"],
    }


def facts(run: RunSpec) -> dict[str, Any]:
    """The facts about a run that its files of weights and posteriors carry."""
    return {
        "question": run.question,
        "positive": list(run.positive),
        "negative": list(run.negative),
        "questions": None if run.questions is None else [question for question, _ in run.asked],
        "likelihood": list(likelihood_of(run)[:2]),
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


def _on_part(part: Labelled, rows: np.ndarray, samples: np.ndarray, information: np.ndarray):
    there = np.isin(rows, part.rows)
    return samples[there], part.yes, part.total, information[there]


def validation_loss(
    backend: Backend, run: RunSpec, state: Any, images: Cutouts, part: Labelled
) -> float:
    """W+20's loss of a yes-or-no question's mean rho; of any other likelihood the mean NLL of votes, in nats."""
    of_part = (backend, run, state, images, part.rows, part.hashes, run.posterior.samples)
    if likelihood_of(run).name == "binomial":
        return evaluate(sample_galaxies(*of_part), part.yes, part.total)["loss"]
    return mean_nll(run, part, together(list(sample(*of_part))))


def verdict(
    backend: Backend,
    run: RunSpec,
    state: Any,
    images: Cutouts,
    part: Labelled,
    train: Labelled | None,
) -> dict | None:
    """How honest the posterior is of `part`, galaxies that were not trained with: see `honesty`; None without any."""
    if not len(part.rows):
        return None
    few = part.some(FEW, "honesty")
    of_few = (backend, run, state, images, few.rows, few.hashes, run.posterior.samples)
    return honesty(run, together(list(sample(*of_few))), few, train)


def summarise(test: dict | None) -> str:
    if test is None:
        return "no test galaxies"
    if "tree" in test and len(test["tree"]["questions"]) > 1:
        nll, count = test["tree"]["nll"], len(test["tree"]["questions"])
        return f"test NLL {nll:.3f} nats over {count} questions (lower is better)"
    return f"test RMSE {test['rmse']:.3f}; test NLL {test['log_score']:.2f} nats (lower is better)"
