"""`trizoo active`: train, label the galaxies that teach most, repeat."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from shared.data.prepare import prepare as prepare_store
from shared.data.split import NAMES, split
from shared.data.store import Store
from shared.method.acquisition import needs
from shared.method.active import Answers, initial, learned_by, rounds
from shared.method.batches import Labelled
from shared.method.ensemble import open_networks
from shared.method.feature_store import encoded_once, frozen_features
from shared.method.pool import Galaxies, Truth, check_weighted
from shared.method.start import origin, start_of
from shared.method.stopping import sentence, worth
from shared.method.training import CHECKPOINT
from shared.network.weights import load_arrays, load_checkpoint
from shared.output.formats import check_formats
from shared.output.label_oracle import labellers
from shared.output.oracle import catalogue, revealed, true_chances, volunteers, waiting
from shared.run.keys import galaxy_hash
from shared.run.records import write_json
from shared.run.spec import RunSpec
from shared.run.spreadsheet import from_cell, write_csv
from shared.tasks import ROUNDS, VOTES_FILE
from shared.tasks.galaxies import cutouts, labelled_parts, parts_with_votes
from shared.tasks.network_files import (
    WEIGHTS,
    posterior_rows,
    write_network_files,
    write_votes,
)
from shared.tasks.results import summarise, where

ARTIFACT = (
    "artifact"  # column of a synthetic store: whether a star, a trail or the like is what is seen
)
TEST_GALAXIES = 2500  # at most so many are sampled after each round of active learning, as by W+20


def active(run: RunSpec, folder: Path) -> dict:
    """Active learning on galaxies whose votes are revealed as they are chosen; then which galaxies to label next.

    Leaves the newest network, with its posterior and the votes that it has learned from, also where volunteers have
    yet to answer: then the outcome has no results, but says under "waiting" what to do.
    """
    check_weighted(run)
    begun = origin(run)
    store = prepare_store(run.dataset)
    check_formats(run.posterior.format, store.galaxies)
    galaxies, answers = partition(run, store, folder)
    if not len(galaxies.labelled.rows):
        return {"waiting": waiting(run, folder, 0, run.acquisition.initial)}
    backend, images = open_networks(run), cutouts(run, store)
    features = None
    if encoded_once(run):
        rows = [*(part.rows for part in galaxies.parts), posterior_rows(run, store)]
        rows += [part.rows for part in held_out(run, store, galaxies.labelled).values()]
        needed = np.unique(np.concatenate(rows))
        given = (backend, run, start_of(run), images, store.folder, needed)
        images, features = frozen_features(*given)
    done = []
    for entry in rounds(backend, run, images, galaxies, folder, answers):
        done.append(entry)
        write_json(folder / ROUNDS, {"rounds": round_records(run, store, done)})
    last = done[-1]
    waits = last["number"] < run.acquisition.rounds
    if not (waits and written_before(folder, last["network"])):
        labelled = learned_by(galaxies, done, answers)
        parts = {"train": labelled, **held_out(run, store, labelled)}
        start, _ = load_checkpoint(folder / CHECKPOINT, run.model, run.training.members)
        about = {**begun, "network": last["network"]}
        given = (run, backend.init(run, start), store, images, parts, about, folder)
        network = write_network_files(backend, *given)
        write_votes(run, store, labelled, folder)
    advice = sentence(worth_of(run, done))
    if waits:
        asked = waiting(run, folder, last["number"] + 1, len(last["rows"]))
        return {"waiting": f"{asked}; {advice}"}
    asked = store.galaxies.iloc[last["rows"]][["id", "ra", "dec"]]
    asked = asked.assign(score=last["scores"], chance=last["chances"], votes=last["votes"])
    asked.insert(0, "rank", np.arange(1, len(asked) + 1))
    write_csv(folder / "ask_next.csv", asked)
    results = {
        "store": str(store.folder),
        **begun,
        **({"features": features} if features else {}),
        "rounds": round_records(run, store, done),
        "network": network,
        "peak_memory_bytes": backend.peak_memory(),
        "summary": f"{last['labelled']} galaxies labelled; {summarise(last['test'])}; "
        f"{summarise_asked(done)}{advice}; ask next: {folder / 'ask_next.csv'}",
    }
    return {"where": where(backend), "results": results}


def written_before(folder: Path, network: str) -> bool:
    """Whether `folder` has all files of the network of that digest: votes.parquet comes last."""
    if not (folder / VOTES_FILE).exists():
        return False
    try:
        return load_arrays(folder / WEIGHTS, {"network": str})[1]["network"] == network
    except (OSError, ValueError):
        return False


def held_out(run: RunSpec, store: Store, labelled: Labelled) -> dict[str, Labelled]:
    """Validation and test galaxies with votes enough, but those `labelled`: volunteers are asked about such too."""
    none = labelled.take(np.arange(0))
    if f"{run.question}_total" not in store.galaxies:
        return {"validation": none, "test": none}
    parts = parts_with_votes(run, store, galaxy_hash(store.galaxies["id"]))
    return {
        name: parts[name].take(~np.isin(parts[name].rows, labelled.rows))
        for name in ("validation", "test")
    }


def round_records(run: RunSpec, store: Store, done: list[dict]) -> list[dict]:
    """The rounds `done` as a record keeps them, each with whether one more batch was worth its votes after it."""
    return [
        round_record(store, entry) | {"worth": worth_of(run, done[: number + 1])}
        for number, entry in enumerate(done)
    ]


def worth_of(run: RunSpec, done: list[dict]) -> dict:
    """Whether one more batch is worth its votes after the rounds `done`, as a record keeps it."""
    spec = run.acquisition
    tests = [entry["test"] or {} for entry in done]
    score = spec.of if spec.name in ("power", "gibbs", "mixture") else spec.name
    informed = score in ("mutual_information", "batch_mutual_information")
    return worth(
        [entry["labelled"] for entry in done],
        [found.get("tree_nll", found.get("log_score")) for found in tests],
        [entry["composition"]["mean_score"] if informed else None for entry in done],
        spec.per_round,
        spec.least_gain,
    )


def summarise_asked(rounds: list[dict]) -> str:
    """What all `rounds` asked about: the artifacts' share, and how well scores foretold losses, where it is known."""
    found, told = [entry["composition"] for entry in rounds], ""
    if asked := sum(one["galaxies"] for one in found if one["artifacts"] is not None):
        share = sum(one["artifacts"] or 0 for one in found) / asked
        told += f"{share:.0%} of the {asked} asked about are artifacts; "
    for name, what in (("log_score", "log score"), ("error", "error")):
        ranked = [one["foretold"]["spearman"][name] for one in found if one["foretold"]]
        if ranked := [value for value in ranked if value is not None]:
            told += f"rank correlation of score and {what} {np.mean(ranked):.2f}; "
    if some := [one for one in found if one["by_information"] is not None]:
        told += f"{sum(one['by_information'] for one in some)} of {sum(one['galaxies'] for one in some)} chosen "
        told += "by information, the others drawn by their own; "
    return told


def round_record(store: Store, entry: dict) -> dict:
    """A round as a record keeps it: galaxies by their ids, "acquired" and "unanswered" (null: no votes yet)."""
    names = (
        *("labelled", "scores", "chances", "votes", "loss", "seconds", "test", "pool"),
        *("composition", "digest"),
    )
    ids, unanswered = store.galaxies["id"], entry["unanswered"]
    return {name: entry[name] for name in names} | {
        "acquired": ids.iloc[entry["rows"]].tolist(),
        "unanswered": None if unanswered is None else ids.iloc[unanswered].tolist(),
    }


def partition(run: RunSpec, store: Store, folder: Path) -> tuple[Galaxies, Answers]:
    """Who takes part in active learning, and who answers.

    The catalogue reveals the votes of its own galaxies as they are asked about. Volunteers are asked about galaxies
    without votes, and all that have some are learned from at the start; if none has, then random ones are asked about
    first, and empty is labelled until these have been answered.
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
    who = volunteers if run.oracle.name == "volunteers" else labellers
    pool, answers = galaxies.unknown, partial(who, store, run, folder)
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
    no_votes = np.zeros((len(ids), run.model.answers), np.int64)
    all_galaxies = Labelled(np.arange(len(ids)), hashes, none, none, no_votes)
    empty = all_galaxies.take(np.arange(0))
    if run.oracle.name == "catalogue":
        parts = labelled_parts(run, store, hashes)
    elif f"{run.question}_total" in store.galaxies:
        parts = parts_with_votes(run, store, hashes)
    else:
        parts = dict.fromkeys(NAMES, empty)
    with_votes = np.concatenate([part.rows for part in parts.values()])
    unlabelled = np.setdiff1d(
        np.flatnonzero(split(store.split_ids, run.split) != "test"), with_votes
    )
    test = parts["test"]
    order = np.argsort(galaxy_hash(ids.iloc[test.rows], "few of test"))
    test = test.take(np.sort(order[:TEST_GALAXIES]))
    targets = None
    if needs(run.acquisition).targets:
        yes, total = np.zeros_like(none), np.zeros_like(none)
        for part in parts.values():
            yes[part.rows], total[part.rows] = part.yes, part.total
        rows = named_rows(Path(run.acquisition.target), ids)
        targets = all_galaxies._replace(yes=yes, total=total).take(rows)
        targets = revealed(targets, run.oracle.votes, run.seed)
    unknown = all_galaxies.take(unlabelled)
    return Galaxies(parts["train"], empty, test, unknown, targets, truth_of(store, run))


def truth_of(store: Store, run: RunSpec) -> Truth:
    """What is known of synthetic galaxies, all of the store; of any others nothing."""
    known = ARTIFACT in store.galaxies
    artifacts = store.galaxies[ARTIFACT].to_numpy(bool) if known else None
    return Truth(true_chances(store, run), artifacts)


def named_rows(path: Path, ids: pd.Series) -> np.ndarray:
    """Where the galaxies that the column id of the CSV file at `path` names are among `ids`.

    Raises ValueError if there is no such column, empty in it, or somebody who is not among `ids`; OSError if there is
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
    """Raise ValueError unless the `pool` is enough for the rounds, after the `first` galaxies of it."""
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
