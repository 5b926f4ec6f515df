"""`trizoo label`: a page on which people label the galaxies that teach most, while a last layer learns from them."""

import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from shared.data.prepare import prepare as prepare_store
from shared.data.store import Store
from shared.method.batches import Labelled
from shared.method.ensemble import open_networks
from shared.method.feature_store import encoded_once, frozen_features
from shared.method.label_learning import Place, last_layer, learn, sampled_layers
from shared.method.laplace_sampling import save_layers, with_posterior
from shared.method.pool import shuffled
from shared.method.start import origin, start_of
from shared.output.formats import check_formats
from shared.output.label_server import check_installed, serving
from shared.output.labelling import Room
from shared.output.labels import LABELS, Labels, labels_to_votes, schema_of
from shared.output.oracle import VOTES, with_votes
from shared.run.keys import galaxy_hash
from shared.run.progress import say
from shared.run.spec import RunSpec
from shared.run.spreadsheet import write_csv
from shared.tasks.galaxies import cutouts
from shared.tasks.network_files import WEIGHTS, write_weights
from shared.tasks.results import where, write_catalogue

CHOSEN = 64  # galaxies that are chosen for the time until the next fit, beside twice label.every
EVERY = 1.0  # seconds between looks at whether it is over
LAST = 6.0  # seconds in which pages are told that it is over


def label(run: RunSpec, folder: Path) -> dict:
    """Have people label galaxies until label.target, a finish or Ctrl-C; then write votes, weights and posterior.

    The same command goes on from labels.jsonl. Raises ValueError where there is no encoder to learn on.
    """
    run = on_frozen_features(run)
    check_installed()
    begun = origin(run)
    store = prepare_store(run.dataset)
    check_formats(run.posterior.format, store.galaxies)
    galaxies = everyone(run, store)
    labels = Labels(folder / LABELS, store.galaxies["id"], schema_of(run))
    room = Room(run, labels, shuffled(run, "start", galaxies, 2).tolist())
    place, about = learning_place(run, store, galaxies)
    say(f"{len(galaxies.rows):,} galaxies; {len(room.labelled)} labels so far, in {labels.path}")
    try:
        with serving(room, store.images, run.label, folder) as link, suppress(KeyboardInterrupt):
            print(f"label at {link} (Ctrl-C ends it and writes the catalogue)", flush=True)
            keep_learning(place, room, store, galaxies)
        return finish(place, room, store, galaxies, folder, begun | about)
    finally:
        labels.close()


def on_frozen_features(run: RunSpec) -> RunSpec:
    """`run`, of which the last layer alone is learned; ValueError where it cannot be, or would begin from nothing."""
    if run.model.encoder is None:
        raise ValueError(
            "label learns a last layer on the features of an encoder that was trained before, and model.encoder is "
            "null; name a fit (model.encoder=outputs/fit/NAME), a file or hub:OWNER/NAME (docs/fine_tuning.md)"
        )
    if not run.posterior.by_laplace:
        raise ValueError(
            f"posterior.method is {run.posterior.method}; label samples last layers: give posterior=laplace"
        )
    if run.training.members > 1:
        raise ValueError(
            f"training.members is {run.training.members}; label learns one last layer: set it to 1"
        )
    run = replace(run, training=replace(run.training, trainable="head"))
    if not encoded_once(run):
        raise ValueError(
            f"model.name is {run.model.name}, of which no features can be computed once; give another model"
        )
    return run


def everyone(run: RunSpec, store: Store) -> Labelled:
    """All galaxies of `store`, without votes."""
    hashes = galaxy_hash(store.galaxies["id"])
    none = np.zeros(len(hashes), np.int64)
    votes = np.zeros((len(hashes), run.model.answers), np.int64)
    return Labelled(np.arange(len(hashes)), hashes, none, none, votes)


def learning_place(run: RunSpec, store: Store, galaxies: Labelled) -> tuple[Place, dict]:
    """The network, with the features of all galaxies, and what a record says of these."""
    backend, start = open_networks(run), start_of(run)
    given = (backend, run, start, cutouts(run, store), store.folder, galaxies.rows)
    features, about = frozen_features(*given)
    head = start.weights["answer/kernel"], start.weights["answer/bias"]
    place = Place(backend, run, backend.init(run, start), start, features, *head)
    return place, {"features": about}


def keep_learning(place: Place, room: Room, store: Store, galaxies: Labelled) -> None:
    """Learn from the labels as they come, until it is over; then wait until the pages know."""
    spec, due = place.run.label, place.run.label.first
    if spec.target is not None and len(room.labelled) >= spec.target:
        say(f"label.target={spec.target} labels are there already; give a higher one to go on")
        room.finish()
    while not room.finished:
        count = len(room.labelled)
        if room.settled():
            room.finish()
        elif count >= due:
            due = count + spec.every
            labelled = with_labels(place.run, room, store, galaxies)
            pool = galaxies.take(np.array(room.left(), np.int64))
            if len(labelled.rows) and len(pool.rows):
                try:
                    room.use(learn(place, labelled, pool, count, CHOSEN + 2 * spec.every))
                except ValueError as error:
                    say(
                        f"going on as before, as these {count} labels cannot be learned from: {error}"
                    )
        else:
            room.wait(count, EVERY)
    end = time.monotonic() + LAST
    while not room.everybody_knows() and time.monotonic() < end:
        time.sleep(0.1)


def with_labels(run: RunSpec, room: Room, store: Store, galaxies: Labelled) -> Labelled:
    """Those of `galaxies` that have labels, with these as votes."""
    with room.lock:
        votes = labels_to_votes(room.labels, run.dataset.questions)
    return with_votes(run, galaxies, store.galaxies["id"], votes)


def finish(
    place: Place, room: Room, store: Store, galaxies: Labelled, folder: Path, about: dict
) -> dict:
    """Write the votes, the weights and the posterior of all galaxies that follow from the labels; `label`'s outcome."""
    run, backend = place.run, place.backend
    write_csv(folder / VOTES, labels_to_votes(room.labels, run.dataset.questions).reset_index())
    labelled = with_labels(run, room, store, galaxies)
    if not len(labelled.rows):
        return {"waiting": f"no galaxy has a label yet; the same command goes on: {folder}"}
    layer = last_layer(place, labelled)
    head = {
        "answer/kernel": layer.kernel.astype(np.float32),
        "answer/bias": layer.bias.astype(np.float32),
    }
    state = backend.init(run, place.start._replace(weights=place.start.weights | head))
    write_weights(backend, run, state, labelled, about, folder)
    layers = sampled_layers(place, labelled, layer, run.posterior.samples)
    save_layers(folder / WEIGHTS, layers)
    sampler = with_posterior(backend, run, state, layers)
    known = np.isin(galaxies.rows, labelled.rows)
    given = (sampler, run, state, store, place.features, galaxies.rows, galaxies.hashes, known)
    _, seconds = write_catalogue(*given, folder, {})
    progress = room.progress()
    results = {
        "store": str(store.folder),
        **about,
        **{name: progress[name] for name in ("labels", "people", "agreement", "information")},
        "galaxies": {"all": len(galaxies.rows), "train": len(labelled.rows)},
        "laplace": {"questions": layers.about},
        "sample_seconds": seconds,
        "peak_memory_bytes": backend.peak_memory(),
        "summary": summarise(progress, len(labelled.rows)),
    }
    return {"where": where(backend), "results": results}


def summarise(progress: dict, galaxies: int) -> str:
    """What people did, and how well the network foretold it."""
    found, told = progress["agreement"], "no random galaxy was foretold yet"
    if found is not None:
        told = (
            f"of {found['answers']} answers about random galaxies the network foretold {found['share']:.0%} "
            f"({found['low']:.0%} to {found['high']:.0%}), with a log loss of {found['loss']:.2f} nats"
        )
    return (
        f"{progress['labels']} labels of {galaxies} galaxies by {progress['people']} people; {told}"
    )
