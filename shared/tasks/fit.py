"""`trizoo fit`: train the network, then write every galaxy's posterior."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shared.data.prepare import prepare as prepare_store
from shared.data.split import split
from shared.method.backend import Backend
from shared.method.batches import Cutouts, Labelled, batch_size
from shared.method.ensemble import open_networks
from shared.method.feature_store import encoded_once, frozen_features
from shared.method.honesty import sentence
from shared.method.laplace_sampling import last_layers, save_layers, with_posterior
from shared.method.memory import memory_record
from shared.method.start import origin, start_of
from shared.method.training import best_step
from shared.method.training import fit as train
from shared.network.preprocessing import shown
from shared.network.weights import TRAINED_WITH, parameters, save_weights
from shared.output.formats import check_formats
from shared.run.keys import galaxy_hash
from shared.run.records import write_whole
from shared.run.spec import RunSpec
from shared.tasks.galaxies import cutouts, labelled_parts, write_split
from shared.tasks.results import (
    facts,
    summarise,
    validation_loss,
    verdict,
    where,
    write_catalogue,
)


def fit(run: RunSpec, folder: Path) -> dict:
    """Train on the training galaxies, then write the posterior of all, or of the test galaxies."""
    begun = origin(run)
    store = prepare_store(run.dataset)
    check_formats(run.posterior.format, store.galaxies)
    hashes = galaxy_hash(store.galaxies["id"])
    parts = labelled_parts(run, store, hashes)
    backend, images = open_networks(run), cutouts(run, store)

    def validate(state) -> float | None:
        part = parts["validation"]
        if not len(part.rows):
            return None
        return validation_loss(with_posterior(backend, run, state, None), run, state, images, part)

    all_galaxies = run.posterior.galaxies == "all"
    rows = (
        np.arange(len(hashes))
        if all_galaxies
        else np.flatnonzero(split(store.split_ids, run.split) == "test")
    )
    features = None
    if encoded_once(run):
        looked_at = [rows, parts["train"].rows, parts["validation"].rows]
        needed = np.unique(np.concatenate(looked_at))
        given = (backend, run, start_of(run), images, store.folder, needed)
        images, features = frozen_features(*given)
    state, history = train(backend, run, images, parts["train"], validate, folder)
    write_split(store, parts, folder)
    weights = backend.export_weights(state) | {TRAINED_WITH: np.sort(parts["train"].hashes)}
    own = {
        "model": asdict(run.model),
        "preprocessing": shown(asdict(run.model), asdict(run.augmentation)),
    }
    save_weights(folder / "weights.safetensors", weights, facts(run) | own | begun)
    backend, approximated = approximate(backend, run, state, images, parts, folder)
    losses = pd.DataFrame(
        {"step": np.arange(len(history.losses)), "loss": history.losses, "validation_loss": np.nan}
    )
    for step, loss in history.validation:
        losses.loc[step - 1, "validation_loss"] = loss
    write_whole(folder / "losses.parquet", lambda beside: losses.to_parquet(beside, index=False))

    in_training = np.isin(rows, parts["train"].rows)
    held_out = {name: parts[name] for name in ("validation", "test")}
    measured, seconds = write_catalogue(
        backend, run, state, store, images, rows, hashes[rows], in_training, folder, held_out
    )
    honest = verdict(backend, run, state, images, parts["validation"], parts["train"])
    later = history.seconds[1:] or history.seconds
    batch = batch_size(run.training, len(parts["train"].rows))
    speed = (
        run.training.members * batch * float(np.median([steps / spent for steps, spent in later]))
    )
    results = {
        "store": str(store.folder),
        **begun,
        "galaxies": {name: len(part.rows) for name, part in parts.items()},
        "parameters": run.training.members * parameters(run.model),
        "steps": len(history.losses),
        **({"features": features} if features else {}),
        **({"best_step": best_step(history.validation)} if run.training.patience else {}),
        "train_seconds": sum(spent for _, spent in history.seconds),
        "first_call_seconds": history.seconds[0][1],
        "images_per_second": speed,
        "sample_seconds": seconds,
        "sampled_galaxies": len(rows),
        "peak_memory_bytes": backend.peak_memory(),
        "memory": memory_record(backend, run, batch, history.memory),
        **measured,
        **({"laplace": approximated} if approximated else {}),
        "honesty": honest,
        "summary": f"trained at {speed:.0f} images/s; {summarise(measured.get('test'))}; {sentence(run, honest)}",
    }
    return {"where": where(backend), "results": results}


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
    save_layers(folder / "weights.safetensors", layers)
    about = {"seconds": time.perf_counter() - begun, "questions": layers.about}
    return with_posterior(backend, run, state, layers), about
