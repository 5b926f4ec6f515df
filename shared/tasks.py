"""The tasks of the door: each does a run in this process, writes into its folder, and gives what a record keeps."""

import hashlib
import resource
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shared.active import Answers, initial, rounds
from shared.augment import reduction
from shared.backend import Backend
from shared.batches import Cutouts, Labelled
from shared.ensemble import open_networks
from shared.metrics import evaluate
from shared.oracle import catalogue, revealed, true_chances, volunteers, waiting
from shared.pool import Galaxies
from shared.posterior import posterior_table, write_posterior
from shared.prepare import prepare as prepare_store
from shared.progress import say
from shared.records import allocator, write_whole
from shared.sampling import sample_galaxies
from shared.selection import needs_targets
from shared.spec import RunSpec
from shared.split import NAMES, galaxy_hash, split
from shared.spreadsheet import from_cell, write_csv
from shared.store import Store, verify, votes
from shared.training import fit as train
from shared.weights import TRAINED_WITH, fitted, parameters, save_weights, trained_with

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
    backend, images = open_networks(run), cutouts(run, store)

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
    weights = backend.export_weights(state) | {TRAINED_WITH: np.sort(parts["train"].hashes)}
    save_weights(folder / "weights.safetensors", weights, facts(run))
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
        else np.flatnonzero(split(store.split_ids, run.split) == "test")
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
    speed = (
        run.training.members * batch * float(np.median([steps / spent for steps, spent in later]))
    )
    results = {
        "store": str(store.folder),
        "galaxies": {name: len(part.rows) for name, part in parts.items()},
        "parameters": run.training.members * parameters(run.model),
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
    path, start = fitted(run)
    store = prepare_store(run.dataset)
    backend, images = open_networks(run), cutouts(run, store)
    state = backend.init(run, start)
    ids = store.galaxies["id"]
    hashes, rows = galaxy_hash(ids), np.arange(len(ids))
    in_training = learned_from(path, hashes)
    begun = time.perf_counter()
    samples = sample_galaxies(backend, run, state, images, rows, hashes, run.posterior.samples)
    seconds = time.perf_counter() - begun
    write_catalogue(backend, run, store, rows, samples, in_training, folder)
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
    """Active learning on galaxies whose votes come as they are asked about; then whom to ask about next.

    Where volunteers have yet to answer, the outcome has no results, but says under "waiting" what to do.
    """
    store = prepare_store(run.dataset)
    galaxies, answers = taking_part(run, store, folder)
    if not len(galaxies.labelled.rows):
        return {"waiting": waiting(run, folder, 0, run.acquisition.initial)}
    backend, images = open_networks(run), cutouts(run, store)
    done = list(rounds(backend, run, images, galaxies, folder, answers))
    last = done[-1]
    if last["number"] < run.acquisition.rounds:
        return {"waiting": waiting(run, folder, last["number"] + 1, len(last["rows"]))}
    asked = store.galaxies.iloc[last["rows"]][["id", "ra", "dec"]]
    asked = asked.assign(score=last["scores"], chance=last["chances"], votes=last["votes"])
    asked.insert(0, "rank", np.arange(1, len(asked) + 1))
    write_csv(folder / "ask_next.csv", asked)
    results = {
        "store": str(store.folder),
        "rounds": [told_round(store, entry) for entry in done],
        "peak_memory_bytes": backend.peak_memory(),
        "summary": f"{last['labelled']} galaxies labelled; {_told(last['test'])}; "
        f"ask next: {folder / 'ask_next.csv'}",
    }
    return {"where": where(backend), "results": results}


def told_round(store: Store, entry: dict) -> dict:
    """A round as a record keeps it: galaxies by their ids, "acquired" and "unanswered" (null: not heard of yet)."""
    names = ("labelled", "scores", "chances", "votes", "loss", "seconds", "test", "pool", "digest")
    ids, unanswered = store.galaxies["id"], entry["unanswered"]
    return {name: entry[name] for name in names} | {
        "acquired": ids.iloc[entry["rows"]].tolist(),
        "unanswered": None if unanswered is None else ids.iloc[unanswered].tolist(),
    }


def taking_part(run: RunSpec, store: Store, folder: Path) -> tuple[Galaxies, Answers]:
    """Who takes part in active learning, and who answers.

    The catalogue reveals the votes of its own galaxies as they are asked about. Volunteers are asked about galaxies
    without votes, and all that have some are learned from at the start; if none has, then random ones are asked about
    first, and nobody is labelled until these have been answered.
    Raises ValueError if there are too few to ask about, no test galaxy, or targets that the dataset has not.
    """
    galaxies = with_and_without_votes(run, store)
    if run.oracle.name == "catalogue":
        known = revealed(galaxies.labelled, run.oracle.votes, run.seed)
        enough_to_ask(run, known, run.acquisition.initial)
        if not len(galaxies.test.rows):
            raise ValueError(
                "there is no test galaxy with votes; raise split.test or lower minimum_votes"
            )
        first = np.isin(np.arange(len(known.rows)), initial(run, known))
        return galaxies._replace(labelled=known.take(first), pool=known.take(~first)), catalogue
    pool, answers = galaxies.unknown, partial(volunteers, store, run, folder)
    galaxies, begun = galaxies._replace(pool=pool, unknown=galaxies.pool), galaxies.labelled
    enough_to_ask(run, pool, 0 if len(begun.rows) else run.acquisition.initial)
    if not len(begun.rows):
        first = answers(0, pool, pool.rows[initial(run, pool)].tolist()) or begun
        left = pool.take(~np.isin(pool.rows, first.rows))
        galaxies = galaxies._replace(labelled=first, pool=left)
    return galaxies, answers


def with_and_without_votes(run: RunSpec, store: Store) -> Galaxies:
    """The training galaxies that have votes as labelled, the test galaxies, the others as unknown, and no pool."""
    ids = store.galaxies["id"]
    hashes, none = galaxy_hash(ids), np.zeros(len(ids), np.int64)
    everyone = Labelled(np.arange(len(ids)), hashes, none, none)
    nobody = everyone.take(np.arange(0))
    if run.oracle.name == "catalogue":
        parts = labelled_parts(run, store, hashes)
    elif f"{run.question}_total" in store.galaxies:
        parts = parts_with_votes(run, store, hashes)
    else:
        parts = dict.fromkeys(NAMES, nobody)
    with_votes = np.concatenate([part.rows for part in parts.values()])
    silent = np.setdiff1d(np.flatnonzero(split(store.split_ids, run.split) != "test"), with_votes)
    test, truth = parts["test"], true_chances(store, run)
    order = np.argsort(galaxy_hash(ids.iloc[test.rows], "few of test"))
    test = test.take(np.sort(order[:TEST_GALAXIES]))
    targets = None
    if needs_targets(run.acquisition):
        yes, total = np.zeros_like(none), np.zeros_like(none)
        for part in parts.values():
            yes[part.rows], total[part.rows] = part.yes, part.total
        rows = named_rows(Path(run.acquisition.target), ids)
        targets = everyone._replace(yes=yes, total=total).take(rows)
        targets = revealed(targets, run.oracle.votes, run.seed)
    truth = None if truth is None else truth[test.rows]
    return Galaxies(parts["train"], nobody, test, everyone.take(silent), targets, truth)


def named_rows(path: Path, ids: pd.Series) -> np.ndarray:
    """Where the galaxies that the column id of the CSV file at PATH names are among IDS.

    Raises ValueError if there is no such column, nobody in it, or somebody who is not among IDS; OSError if there is
    no such file.
    """
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if "id" not in table:
        raise ValueError(
            f"acquisition.target is {path}, whose columns are {', '.join(table)}; it needs one called id"
        )
    names = table["id"].drop_duplicates()
    names = names.where(names.isin(ids), names.map(from_cell))  # of a file of ours
    strange = names[~names.isin(ids)].tolist()
    if strange:
        raise ValueError(
            f"acquisition.target is {path}, which names {len(strange)} galaxies that the dataset has not "
            f"({', '.join(strange[:5])}); name galaxies of the dataset"
        )
    if not len(names):
        raise ValueError(f"acquisition.target is {path}, which names no galaxy; name one or more")
    return np.flatnonzero(ids.isin(names))


def enough_to_ask(run: RunSpec, pool: Labelled, first: int) -> None:
    """Raise ValueError unless the POOL is enough for the rounds, after the FIRST galaxies of it."""
    if not len(pool.rows):
        raise ValueError(
            f"every galaxy that is not held out has votes on {run.question} already, so that volunteers can be asked "
            "about none; give galaxies without votes, or oracle=catalogue"
        )
    need = first + run.acquisition.rounds * run.acquisition.per_round
    if need > len(pool.rows):
        what = "learned from" if run.oracle.name == "catalogue" else "asked about"
        raise ValueError(
            f"{run.acquisition.rounds} rounds ask about {need} galaxies, but only {len(pool.rows)} can be {what}; "
            "lower acquisition.rounds, per_round or initial"
        )


def cutouts(run: RunSpec, store: Store) -> Cutouts:
    """The store's images as the network's views sample them."""
    sums = store.galaxies["pixels_crc32"].to_numpy("<i8")
    contents = hashlib.sha256(sums.tobytes()).hexdigest()[:16]
    return Cutouts(store.images, reduction(run, store.images.shape[1]), contents)


def labelled_parts(run: RunSpec, store: Store, hashes: np.ndarray) -> dict[str, Labelled]:
    """Training, validation and test galaxies that have votes enough; ValueError if there are none to train on."""
    parts = parts_with_votes(run, store, hashes)
    if not len(parts["train"].rows):
        ids = store.split_ids
        if not (training := int(np.sum(split(ids, run.split) == "train"))):
            raise ValueError(
                f"all of the {len(ids)} galaxies of {store.folder} are held out (split.validation="
                f"{run.split.validation}, split.test={run.split.test}), none is left to train on; give more galaxies, "
                "or lower split.validation or split.test"
            )
        raise ValueError(
            f"none of the {training} training galaxies of {store.folder} has "
            f"minimum_votes={run.minimum_votes} votes on {run.question}; lower it, or give more galaxies"
        )
    return parts


def parts_with_votes(run: RunSpec, store: Store, hashes: np.ndarray) -> dict[str, Labelled]:
    """Training, validation and test galaxies that have votes enough, of which there may be none."""
    yes, total = votes(store, run.question, run.positive)
    part, enough = split(store.split_ids, run.split), total >= run.minimum_votes
    rows = {name: np.flatnonzero(enough & (part == name)) for name in NAMES}
    return {
        name: Labelled(some, hashes[some], yes[some], total[some]) for name, some in rows.items()
    }


def write_split(store: Store, parts: dict[str, Labelled], folder: Path) -> None:
    """Write split.parquet: which galaxies were trained, validated and tested with, each an id and its part."""
    rows = np.concatenate([part.rows for part in parts.values()])
    names = np.repeat(list(parts), [len(part.rows) for part in parts.values()])
    table = pd.DataFrame({"id": store.galaxies["id"].to_numpy()[rows], "part": names})
    write_whole(folder / SPLIT, lambda beside: table.to_parquet(beside, index=False))


def learned_from(weights: Path, hashes: np.ndarray) -> np.ndarray | None:
    """Whether each galaxy of `hashes` was among those that the file of `weights` was trained with.

    None, and a line that says so, where that is not known. Files of older versions do not tell it themselves: then the
    split.parquet beside them does.
    """
    trained, beside = trained_with(weights), weights.parent / SPLIT
    if trained is None and beside.exists():
        trained = galaxy_hash(pd.read_parquet(beside).query("part == 'train'")["id"])
    if trained is None:
        say(
            f"NOT KNOWN: which galaxies {weights} was trained with. It does not say so, and there is "
            f"no {SPLIT} beside it; any of those here may be among them"
        )
        return None
    return np.isin(hashes, trained)


def write_catalogue(
    backend: Backend,
    run: RunSpec,
    store: Store,
    rows: np.ndarray,
    samples: np.ndarray,
    in_training: np.ndarray | None,
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
    return {**backend.describe(), "allocator": allocator()}


def _of(part: Labelled, rows: np.ndarray, samples: np.ndarray, information: np.ndarray):
    there = np.isin(rows, part.rows)
    chosen = np.isin(part.rows, rows)
    return samples[there], part.yes[chosen], part.total[chosen], information[there]


def _told(test: dict | None) -> str:
    if test is None:
        return "no test galaxies"
    return f"test vote fractions to {test['rmse']:.3f} (rms), log score {test['log_score']:.3f}"
