"""Which galaxies of a store a task reads, trains on and holds out."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from shared.data.split import NAMES, split
from shared.data.store import Store, votes
from shared.method.batches import Cutouts, Labelled
from shared.method.pool import shuffled
from shared.method.views import reduction
from shared.network.weights import trained_with
from shared.run.keys import galaxy_hash
from shared.run.progress import say
from shared.run.records import write_whole
from shared.run.spec import RunSpec

SPLIT = "split.parquet"


def cutouts(run: RunSpec, store: Store) -> Cutouts:
    """The store's images as the network's views sample them; ValueError if it has fewer colours than that sees."""
    if store.images.shape[-1] < run.model.channels:
        raise ValueError(
            f"model.channels is {run.model.channels}, but {store.folder} keeps {store.images.shape[-1]}; set "
            f"dataset.channels={run.model.channels}, or model.channels=1"
        )
    contents = None
    if "pixels_crc32" in store.galaxies:  # of a store
        sums = store.galaxies["pixels_crc32"].to_numpy("<i8")
        contents = hashlib.sha256(sums.tobytes()).hexdigest()[:16]
    return Cutouts(
        store.images, reduction(run, store.images.shape[1]), contents, run.model.channels
    )


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
    if run.split.labels is None:
        return parts
    # not index 0, by which active learning draws those that it begins with
    drawn = shuffled(run, "start", parts["train"], 1)[: run.split.labels]
    return parts | {"train": parts["train"].take(np.sort(drawn))}


def parts_with_votes(run: RunSpec, store: Store, hashes: np.ndarray) -> dict[str, Labelled]:
    """Training, validation and test galaxies that have votes enough, of which there may be none."""
    yes, total = votes(store, run.question, run.positive)
    part, enough = split(store.split_ids, run.split), total >= run.minimum_votes
    rows, all_votes = np.arange(len(hashes)), learned_votes(run, store)
    galaxies = Labelled(rows, hashes, yes, total, all_votes)
    return {name: galaxies.take(np.flatnonzero(enough & (part == name))) for name in NAMES}


def voted(
    run: RunSpec, store: Store, hashes: np.ndarray, in_training: np.ndarray | None
) -> dict[str, Labelled]:
    """As "test", the galaxies that have votes and were not trained with; {} where neither is known."""
    asked = {f"{question}_total" for question, _ in run.asked} | {f"{run.question}_total"}
    if in_training is None or not asked <= {*store.galaxies}:
        return {}
    yes, total = votes(store, run.question, run.positive)
    galaxies = Labelled(np.arange(len(hashes)), hashes, yes, total, learned_votes(run, store))
    return {"test": galaxies.take(np.flatnonzero((total > 0) & ~in_training))}


def learned_votes(run: RunSpec, store: Store) -> np.ndarray:
    """The votes int64 (galaxy, answer) that the run learns; of a yes-or-no question all that are not yes are no."""
    if run.questions is None:
        yes, total = votes(store, run.question, run.positive)
        return np.stack([total - yes, yes], -1)
    counts = [votes(store, question, answer)[0] for question, some in run.asked for answer in some]
    return np.stack(counts, -1)


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
