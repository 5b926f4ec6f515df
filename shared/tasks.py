"""The tasks of the door: each does a run in this process, writes into its folder, and gives what a record keeps."""

import os
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shared.active import Galaxies, rounds
from shared.augment import reduction
from shared.backend import Backend, open_backend
from shared.batches import Cutouts, Labelled
from shared.metrics import evaluate
from shared.posterior import posterior_table, write_posterior
from shared.prepare import prepare as prepare_store
from shared.records import write_whole
from shared.sampling import sample_galaxies
from shared.spec import RunSpec
from shared.split import galaxy_hash, split
from shared.store import Store, verify, votes
from shared.training import fit as train
from shared.weights import first_checkpoint, load_weights, parameters, save_weights

SPLIT = "split.parquet"
TEST_GALAXIES = 2500  # at most so many are sampled after each round of active learning, as by W+20


def prepare(run: RunSpec, folder: Path) -> dict:
    """Make the store of a dataset, and check every byte of it."""
    begun = time.perf_counter()
    store = prepare_store(run.dataset)
    seconds = time.perf_counter() - begun
    verify(store.folder)
    left_out = len(store.source["skipped"])
    results = {
        "store": str(store.folder),
        "galaxies": len(store.galaxies),
        "skipped": store.source["skipped"],
        "source": store.source["source"],
        "bytes": sum(path.stat().st_size for path in store.folder.iterdir()),
        "seconds": seconds,
        "peak_memory_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "summary": f"{len(store.galaxies)} galaxies in {store.folder}, {left_out} left out",
    }
    return {"where": {}, "results": results}


def fit(run: RunSpec, folder: Path) -> dict:
    """Train on the training galaxies, then write the posterior of all, or of the test galaxies."""
    store = prepare_store(run.dataset)
    hashes = galaxy_hash(store.galaxies["id"])
    parts = labelled_parts(run, store, hashes)
    backend, images = open_backend(run.backend), cutouts(run, store)

    def validate(state) -> float | None:
        part = parts["validation"]
        if not len(part.rows):
            return None
        samples = sample_galaxies(
            backend, run, state, images, part.rows, part.hashes, run.posterior.samples
        )
        return evaluate(samples, part.yes, part.total)["loss"]

    state, history = train(backend, run, images, parts["train"], validate, folder)
    write_split(store, parts, folder)
    save_weights(folder / "weights.safetensors", backend.export_weights(state), facts(run))
    losses = pd.DataFrame(
        {"step": np.arange(len(history.losses)), "loss": history.losses, "validation_loss": np.nan}
    )
    for step, loss in history.validation:
        losses.loc[step - 1, "validation_loss"] = loss
    write_whole(folder / "losses.parquet", lambda beside: losses.to_parquet(beside, index=False))

    begun = time.perf_counter()
    everyone = run.posterior.galaxies == "all"
    rows = (
        np.arange(len(hashes))
        if everyone
        else np.flatnonzero(split(store.galaxies["id"], run.split) == "test")
    )
    samples = sample_galaxies(
        backend, run, state, images, rows, hashes[rows], run.posterior.samples
    )
    seconds = time.perf_counter() - begun
    in_training = np.isin(rows, parts["train"].rows)
    information = write_catalogue(backend, run, store, rows, samples, in_training, folder)
    measured = {
        name: evaluate(*_of(parts[name], rows, samples, information))
        for name in ("validation", "test")
        if np.isin(parts[name].rows, rows).any()
    }
    later = history.seconds[1:] or history.seconds
    batch = min(run.training.batch_size, len(parts["train"].rows))
    speed = batch * float(np.median([steps / spent for steps, spent in later]))
    results = {
        "store": str(store.folder),
        "galaxies": {name: len(part.rows) for name, part in parts.items()},
        "parameters": parameters(run.model),
        "steps": run.training.steps,
        "train_seconds": sum(spent for _, spent in history.seconds),
        "first_call_seconds": history.seconds[0][1],
        "images_per_second": speed,
        "sample_seconds": seconds,
        "sampled_galaxies": len(rows),
        "peak_memory_bytes": backend.peak_memory(),
        **measured,
        "summary": f"trained at {speed:.0f} images/s; {_told(measured.get('test'))}",
    }
    return {"where": where(backend), "results": results}


def predict(run: RunSpec, folder: Path) -> dict:
    """Write the posterior of every galaxy of a dataset, with the weights of a fit."""
    path = Path(run.weights or "")
    path = path / "weights.safetensors" if path.is_dir() else path
    weights = load_weights(path, run.model)
    store = prepare_store(run.dataset)
    backend, images = open_backend(run.backend), cutouts(run, store)
    state = backend.init(run, first_checkpoint(run.model, run.seed)._replace(weights=weights))
    ids = store.galaxies["id"]
    begun = time.perf_counter()
    rows = np.arange(len(ids))
    samples = sample_galaxies(
        backend, run, state, images, rows, galaxy_hash(ids), run.posterior.samples
    )
    seconds = time.perf_counter() - begun
    trained = read_trained(path.parent / SPLIT)
    write_catalogue(backend, run, store, rows, samples, ids.isin(trained).to_numpy(), folder)
    results = {
        "store": str(store.folder),
        "galaxies": len(ids),
        "weights": str(path),
        "sample_seconds": seconds,
        "peak_memory_bytes": backend.peak_memory(),
        "summary": f"{len(ids)} galaxies, {len(ids) / seconds:.0f} galaxies/s: {folder / 'posterior.parquet'}",
    }
    return {"where": where(backend), "results": results}


def active(run: RunSpec, folder: Path) -> dict:
    """Active learning on galaxies whose votes are revealed as they are asked about; then whom to ask about next."""
    store = prepare_store(run.dataset)
    ids = store.galaxies["id"]
    hashes = galaxy_hash(ids)
    parts = labelled_parts(run, store, hashes)
    yes, total = votes(store, run.question, run.positive)
    silent = np.flatnonzero((split(ids, run.split) != "test") & (total < run.minimum_votes))
    few = np.sort(np.argsort(parts["test"].hashes)[:TEST_GALAXIES])
    galaxies = Galaxies(
        parts["train"],
        parts["test"].take(few),
        Labelled(silent, hashes[silent], yes[silent], total[silent]),
    )
    need = run.acquisition.initial + run.acquisition.rounds * run.acquisition.per_round
    if need > len(galaxies.known.rows):
        raise ValueError(
            f"{run.acquisition.rounds} rounds ask about {need} galaxies, but only "
            f"{len(galaxies.known.rows)} can be learned from; lower acquisition.rounds, per_round or initial"
        )
    if not len(galaxies.test.rows):
        raise ValueError(
            "there is no test galaxy with votes; raise split.test or lower minimum_votes"
        )
    backend, images = open_backend(run.backend), cutouts(run, store)
    done = []
    for entry in rounds(backend, run, images, galaxies, folder):
        acquired = ids.iloc[entry["rows"]].tolist()
        kept = {key: entry[key] for key in ("labelled", "scores", "loss", "seconds", "test")}
        done.append({**kept, "acquired": acquired})
    wanted = store.galaxies.iloc[entry["rows"]][["id", "ra", "dec"]].assign(score=entry["scores"])
    wanted.insert(0, "rank", np.arange(1, len(wanted) + 1))
    write_whole(folder / "ask_next.csv", lambda beside: wanted.to_csv(beside, index=False))
    results = {
        "store": str(store.folder),
        "rounds": done,
        "peak_memory_bytes": backend.peak_memory(),
        "summary": f"{done[-1]['labelled']} galaxies labelled; {_told(done[-1]['test'])}; "
        f"ask next: {folder / 'ask_next.csv'}",
    }
    return {"where": where(backend), "results": results}


def cutouts(run: RunSpec, store: Store) -> Cutouts:
    """The store's images as the network's views sample them."""
    return Cutouts(store.images, reduction(run, store.images.shape[1]))


def labelled_parts(run: RunSpec, store: Store, hashes: np.ndarray) -> dict[str, Labelled]:
    """Training, validation and test galaxies that have votes enough; ValueError if there are none to train on."""
    yes, total = votes(store, run.question, run.positive)
    part, enough = split(store.galaxies["id"], run.split), total >= run.minimum_votes
    rows = {
        name: np.flatnonzero(enough & (part == name)) for name in ("train", "validation", "test")
    }
    if not len(rows["train"]):
        raise ValueError(
            f"none of the {np.sum(part == 'train')} training galaxies of {store.folder} has "
            f"minimum_votes={run.minimum_votes} votes on {run.question}; lower it, or give more galaxies"
        )
    return {
        name: Labelled(some, hashes[some], yes[some], total[some]) for name, some in rows.items()
    }


def write_split(store: Store, parts: dict[str, Labelled], folder: Path) -> None:
    """Write split.parquet: which galaxies were trained, validated and tested with, each an id and its part."""
    rows = np.concatenate([part.rows for part in parts.values()])
    names = np.repeat(list(parts), [len(part.rows) for part in parts.values()])
    table = pd.DataFrame({"id": store.galaxies["id"].to_numpy()[rows], "part": names})
    write_whole(folder / SPLIT, lambda beside: table.to_parquet(beside, index=False))


def read_trained(path: Path) -> pd.Series:
    """The ids of the galaxies that the split.parquet at PATH says were trained with; none if it is not there."""
    if not path.exists():
        return pd.Series(dtype=str)
    return pd.read_parquet(path).query("part == 'train'")["id"]


def write_catalogue(
    backend: Backend,
    run: RunSpec,
    store: Store,
    rows: np.ndarray,
    samples: np.ndarray,
    in_training: np.ndarray,
    folder: Path,
) -> np.ndarray:
    """Write posterior.parquet of the galaxies in ROWS; gives their mutual information (galaxy,) in nats."""
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
    settings = [
        f"{name}={value}"
        for name, value in sorted(os.environ.items())
        if name.startswith("MALLOC_")
    ]
    return {**backend.describe(), "allocator": " ".join(settings) or "default"}


def _of(part: Labelled, rows: np.ndarray, samples: np.ndarray, information: np.ndarray):
    there = np.isin(rows, part.rows)
    chosen = np.isin(part.rows, rows)
    return samples[there], part.yes[chosen], part.total[chosen], information[there]


def _told(test: dict | None) -> str:
    if test is None:
        return "no test galaxies"
    return f"test vote fractions to {test['rmse']:.3f} (rms), log score {test['log_score']:.3f}"
