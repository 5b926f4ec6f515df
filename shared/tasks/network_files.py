"""The files of a network whose training has ended, alike from every task that trains: what `weights=FOLDER` needs."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from shared.data.split import split
from shared.data.store import Store
from shared.method.backend import Backend
from shared.method.batches import Cutouts, Labelled
from shared.method.laplace_sampling import last_layers, save_layers, with_posterior
from shared.method.likelihood import learned_questions, likelihood_of
from shared.network.preprocessing import shown
from shared.network.weights import TRAINED_WITH, save_weights
from shared.run.keys import galaxy_hash
from shared.run.records import write_whole
from shared.run.spec import RunSpec
from shared.tasks import NETWORK_FILES, VOTES_FILE
from shared.tasks.folder import remove
from shared.tasks.galaxies import write_split
from shared.tasks.results import facts, verdict, write_catalogue

WEIGHTS = NETWORK_FILES[0]


def write_network_files(
    backend: Backend,
    run: RunSpec,
    state: Any,
    store: Store,
    images: Cutouts,
    parts: dict[str, Labelled],
    begun: dict,
    folder: Path,
) -> dict:
    """Write split.parquet, weights.safetensors, the last layers of a Laplace approximation and the posterior tables.

    Of the network `state`, which was trained with parts["train"] and began as `begun` says (`origin`);
    parts["validation"] chooses the Laplace approximation's scale and tells whether the posterior is honest, and both it
    and parts["test"] are measured. The posterior is that of the galaxies that posterior.galaxies names. Files of an
    older network in `folder` go first, and the weights of a new one come before what is made of them: what is there is
    of one network at any time. Gives what a record keeps.
    """
    remove(folder, (*NETWORK_FILES, VOTES_FILE))
    write_split(store, parts, folder)
    write_weights(backend, run, state, parts["train"], begun, folder)
    backend, approximated = approximate(backend, run, state, images, parts, folder)
    rows = posterior_rows(run, store)
    hashes = galaxy_hash(store.galaxies["id"])[rows]
    in_training = np.isin(rows, parts["train"].rows)
    held_out = {name: parts[name] for name in ("validation", "test")}
    measured, seconds = write_catalogue(
        backend, run, state, store, images, rows, hashes, in_training, folder, held_out
    )
    return {
        "sample_seconds": seconds,
        "sampled_galaxies": len(rows),
        **measured,
        **({"laplace": approximated} if approximated else {}),
        "honesty": verdict(backend, run, state, images, parts["validation"], parts["train"]),
    }


def write_weights(
    backend: Backend, run: RunSpec, state: Any, train: Labelled, begun: dict, folder: Path
) -> None:
    """Write weights.safetensors of the network `state`, trained with those of `train`, which began as `begun` says."""
    weights = backend.export_weights(state) | {TRAINED_WITH: np.sort(train.hashes)}
    own = {
        "model": asdict(run.model),
        "preprocessing": shown(asdict(run.model), asdict(run.augmentation)),
    }
    save_weights(folder / WEIGHTS, weights, facts(run) | own | begun)


def posterior_rows(run: RunSpec, store: Store) -> np.ndarray:
    """The rows of the `store` whose posterior is written: all, or those of test galaxies."""
    if run.posterior.galaxies == "all":
        return np.arange(len(store.galaxies))
    return np.flatnonzero(split(store.split_ids, run.split) == "test")


def approximate(
    backend: Backend,
    run: RunSpec,
    state: Any,
    images: Cutouts,
    parts: dict[str, Labelled],
    folder: Path,
) -> tuple[Backend, dict | None]:
    """The backend that samples the posterior of `state`, and what its record keeps of a Laplace approximation.

    Its last layers are left beside the weights, which are in `folder` already.
    """
    if not run.posterior.by_laplace:
        return with_posterior(backend, run, state, None), None
    begun, known, held_out = time.perf_counter(), parts["train"], parts["validation"]
    layers = last_layers(backend, run, state, images, known, held_out, run.posterior.samples)
    save_layers(folder / WEIGHTS, layers)
    about = {"seconds": time.perf_counter() - begun, "questions": layers.about}
    return with_posterior(backend, run, state, layers), about


def write_votes(run: RunSpec, store: Store, labelled: Labelled, folder: Path) -> None:
    """Write votes.parquet: the votes of the galaxies `labelled` that a network has learned from, as it counts them.

    A column for each answer, those that count as one joined by _or_, and each question's total: a vote table.
    """
    table = store.galaxies[["id", "ra", "dec"]].iloc[labelled.rows].reset_index(drop=True)
    questions, _ = learned_questions(run)
    for (question, answers), at in zip(questions.items(), likelihood_of(run).slices, strict=True):
        for answer, votes in zip(answers, labelled.votes[:, at].T, strict=True):
            table[f"{question}_{answer}"] = votes
        table[f"{question}_total"] = labelled.votes[:, at].sum(1)
    write_whole(folder / VOTES_FILE, lambda beside: table.to_parquet(beside, index=False))
