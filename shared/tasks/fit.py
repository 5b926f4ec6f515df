"""`trizoo fit`: train the network, then write every galaxy's posterior."""

from pathlib import Path

import numpy as np
import pandas as pd

from shared.data.prepare import prepare as prepare_store
from shared.method.batches import batch_size
from shared.method.ensemble import open_networks
from shared.method.feature_store import encoded_once, frozen_features
from shared.method.honesty import sentence
from shared.method.laplace_sampling import with_posterior
from shared.method.memory import memory_record
from shared.method.start import origin, start_of
from shared.method.training import best_step
from shared.method.training import fit as train
from shared.network.weights import parameters
from shared.output.formats import check_formats
from shared.run.keys import galaxy_hash
from shared.run.records import write_whole
from shared.run.spec import RunSpec
from shared.tasks.galaxies import cutouts, labelled_parts
from shared.tasks.network_files import posterior_rows, write_network_files
from shared.tasks.results import summarise, validation_loss, where


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

    features = None
    if encoded_once(run):
        looked_at = [posterior_rows(run, store), parts["train"].rows, parts["validation"].rows]
        needed = np.unique(np.concatenate(looked_at))
        given = (backend, run, start_of(run), images, store.folder, needed)
        images, features = frozen_features(*given)
    state, history = train(backend, run, images, parts["train"], validate, folder)
    losses = pd.DataFrame(
        {"step": np.arange(len(history.losses)), "loss": history.losses, "validation_loss": np.nan}
    )
    for step, loss in history.validation:
        losses.loc[step - 1, "validation_loss"] = loss
    write_whole(folder / "losses.parquet", lambda beside: losses.to_parquet(beside, index=False))

    written = write_network_files(backend, run, state, store, images, parts, begun, folder)
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
        "peak_memory_bytes": backend.peak_memory(),
        "memory": memory_record(backend, run, batch, history.memory),
        **written,
        "summary": f"trained at {speed:.0f} images/s; {summarise(written.get('test'))}; "
        f"{sentence(run, written['honesty'])}",
    }
    return {"where": where(backend), "results": results}
