"""`trizoo predict`: write the posterior of other galaxies with the weights of a fit."""

from pathlib import Path

import numpy as np

from shared.data.prepare import prepare as prepare_store
from shared.data.store import sha256
from shared.method.ensemble import open_networks
from shared.method.feature_store import known_features
from shared.method.laplace_sampling import load_layers, with_posterior
from shared.method.recalibration import load_recalibration, plain
from shared.network.weights import fitted
from shared.output.formats import check_formats
from shared.run.keys import galaxy_hash
from shared.run.spec import RunSpec
from shared.tasks.galaxies import cutouts, learned_from, voted
from shared.tasks.results import summarise, where, write_catalogue


def predict(run: RunSpec, folder: Path) -> dict:
    """Write the posterior of every galaxy of a dataset, with the weights of a fit.

    Where the dataset has votes, those of galaxies that were not trained with say how good it is.
    """
    path, start = fitted(run)
    mended = load_recalibration(run, sha256(path))
    store = prepare_store(run.dataset)
    check_formats(run.posterior.format, store.galaxies)
    backend, images = open_networks(run), cutouts(run, store)
    state = backend.init(run, start)
    ids = store.galaxies["id"]
    hashes, rows = galaxy_hash(ids), np.arange(len(ids))
    images = known_features(backend, run, start, images, store.folder, rows) or images
    backend = with_posterior(backend, run, state, load_layers(path, run))
    in_training = learned_from(path, hashes)
    parts = voted(run, store, hashes, in_training)
    measured, seconds = write_catalogue(
        backend, run, state, store, images, rows, hashes, in_training, folder, parts, mended
    )
    found = f"; {summarise(measured['test'])}" if measured else ""
    results = {
        "store": str(store.folder),
        "galaxies": len(ids),
        "weights": str(path),
        "sample_seconds": seconds,
        "peak_memory_bytes": backend.peak_memory(),
        **measured,
        **({"recalibration": plain(mended)} if mended else {}),
        "summary": f"{len(ids)} galaxies, {len(ids) / seconds:.0f} galaxies/s{found}: {folder / 'posterior.parquet'}",
    }
    return {"where": where(backend), "results": results}
