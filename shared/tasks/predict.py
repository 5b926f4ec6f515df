"""`trizoo predict`: write the posterior of other galaxies with the weights of a fit."""

from pathlib import Path

import numpy as np

from shared.data.prepare import prepare as prepare_store
from shared.method.ensemble import open_networks
from shared.method.feature_store import known_features
from shared.network.weights import fitted
from shared.output.formats import check_formats
from shared.run.keys import galaxy_hash
from shared.run.spec import RunSpec
from shared.tasks.galaxies import cutouts, learned_from
from shared.tasks.results import where, write_catalogue


def predict(run: RunSpec, folder: Path) -> dict:
    """Write the posterior of every galaxy of a dataset, with the weights of a fit."""
    path, start = fitted(run)
    store = prepare_store(run.dataset)
    check_formats(run.posterior.format, store.galaxies)
    backend, images = open_networks(run), cutouts(run, store)
    state = backend.init(run, start)
    ids = store.galaxies["id"]
    hashes, rows = galaxy_hash(ids), np.arange(len(ids))
    images = known_features(backend, run, start, images, store.folder, rows) or images
    in_training = learned_from(path, hashes)
    _, seconds = write_catalogue(
        backend, run, state, store, images, rows, hashes, in_training, folder, {}
    )
    results = {
        "store": str(store.folder),
        "galaxies": len(ids),
        "weights": str(path),
        "sample_seconds": seconds,
        "peak_memory_bytes": backend.peak_memory(),
        "summary": f"{len(ids)} galaxies, {len(ids) / seconds:.0f} galaxies/s: {folder / 'posterior.parquet'}",
    }
    return {"where": where(backend), "results": results}
