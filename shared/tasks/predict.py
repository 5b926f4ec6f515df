"""`trizoo predict`: write the posterior of other galaxies with the weights of a fit, all at once or in parts."""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shared.data.prepare import prepare as prepare_store
from shared.data.store import Store, sha256
from shared.data.streaming import stream
from shared.method.backend import Backend
from shared.method.batches import Labelled
from shared.method.ensemble import open_networks
from shared.method.feature_store import known_features
from shared.method.laplace_sampling import LastLayers, load_layers, with_posterior
from shared.method.recalibration import Recalibration, load_recalibration, plain
from shared.network.weights import Checkpoint, fitted
from shared.output.formats import check_formats
from shared.run.keys import galaxy_hash
from shared.run.progress import say
from shared.run.spec import RunSpec
from shared.tasks.galaxies import cutouts, learned_from, voted
from shared.tasks.parts import about_part, all_parts, part_rows
from shared.tasks.results import in_use, summarise, where, write_catalogue


class Trained(NamedTuple):
    """A fitted network, open in its framework."""

    weights: Path
    start: Checkpoint
    backend: Backend
    state: Any
    layers: LastLayers | None
    mended: Recalibration | None


class Dataset(NamedTuple):
    """Galaxies, and what is known of them."""

    store: Store
    hashes: np.ndarray  # uint64 (galaxy,) of their ids
    in_training: np.ndarray | None  # (galaxy,)
    voted: dict[str, Labelled]  # those by whose votes the posterior is measured


def predict(run: RunSpec, folder: Path) -> dict:
    """Write the posterior of every galaxy of a dataset, or of a part of them, with the weights of a fit.

    Where the dataset has votes, those of galaxies that were not trained with say how good it is. With parts and no
    part, all that are missing are done, one after the other, each in its own folder inside this one.
    """

    @cache
    def opened() -> tuple[Trained, Dataset]:
        return open_all(run)

    if run.parts is None or run.part is not None:
        return predict_some(run, folder, *opened())
    done = all_parts(run, folder, lambda part, place: predict_some(part, place, *opened()))
    if "waiting" in done:
        return done
    here = done["results"]["done_here"]  # where all are done already, nothing is opened
    return done | {"where": where(opened()[0].backend) if here else {}}


def open_all(run: RunSpec) -> tuple[Trained, Dataset]:
    """The network of the run's weights, and the galaxies of its dataset.

    Raises ValueError if their posterior cannot be written in a format that is asked for.
    """
    path, start = fitted(run)
    mended = load_recalibration(run, sha256(path))
    store = stream(run.dataset) if run.stream else prepare_store(run.dataset)
    check_formats(run.posterior.format, store.galaxies)
    hashes = galaxy_hash(store.galaxies["id"])
    in_training = learned_from(path, hashes)
    dataset = Dataset(store, hashes, in_training, voted(run, store, hashes, in_training))
    backend = open_networks(run)
    state = backend.init(run, start)
    return Trained(path, start, backend, state, load_layers(path, run), mended), dataset


def predict_some(run: RunSpec, folder: Path, trained: Trained, dataset: Dataset) -> dict:
    """The posterior of the galaxies of the run's part, or of all."""
    store, backend = dataset.store, trained.backend
    rows = np.array(part_rows(run, len(store.images)), np.int64)
    images = cutouts(run, store)
    if not run.stream:
        given = (backend, run, trained.start, images, store.folder, rows)
        images = known_features(*given) or images
    backend = with_posterior(backend, run, trained.state, trained.layers)
    hashes, in_training = dataset.hashes[rows], dataset.in_training
    measured, seconds = write_catalogue(
        *(backend, run, trained.state, store, images, rows, hashes),
        None if in_training is None else in_training[rows],
        folder,
        dataset.voted,
        trained.mended,
    )
    used = in_use(store, rows)
    left_out = [
        {"id": store.galaxies["id"].iloc[row], "reason": store.images.left_out[row]}
        for row in rows[~used].tolist()
    ]
    if left_out:
        first = f"{left_out[0]['id']}: {left_out[0]['reason']}"
        say(f"left out {len(left_out)} of {len(rows)} galaxies, {first}; record.json lists all")
    found = f"; {summarise(measured['test'])}" if measured else ""
    results = {
        "store": None if run.stream else str(store.folder),
        "galaxies": int(used.sum()),
        "left_out": left_out,
        **about_part(run, store, folder),
        "weights": str(trained.weights),
        "sample_seconds": seconds,
        "peak_memory_bytes": backend.peak_memory(),
        **measured,
        **({"recalibration": plain(trained.mended)} if trained.mended else {}),
        "summary": f"{used.sum()} galaxies, {len(rows) / seconds:.0f} galaxies/s{found}: "
        f"{folder / 'posterior.parquet'}",
    }
    return {"where": where(backend), "results": results}
