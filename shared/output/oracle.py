"""Who tells the votes of the galaxies that are asked about: the catalogue at once, or volunteers in their own time.

Of volunteers, ask number NN is the folder ask-NN of a run: what is uploaded (see `shared/output/volunteers.py`) and
votes.csv, the votes that the run went on with. It is written once, so that classifications that come later change no
past round.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from shared.data.store import Store
from shared.method.batches import Labelled
from shared.method.metrics import pieces
from shared.output.subject_sets import upload, write_subject_set
from shared.output.volunteers import EXPORTS, count_votes
from shared.run.keys import galaxy_keys, uniforms
from shared.run.progress import say
from shared.run.spec import RunSpec
from shared.run.spreadsheet import from_cell, write_csv

VOTES = "votes.csv"


def revealed(galaxies: Labelled, votes: int | None, seed: int) -> Labelled:
    """`galaxies` with so many of their `votes`, or with all if they have fewer or if it is None.

    They are drawn without replacement, one after the other, by random numbers of the galaxy's own: so the first five of
    ten are those that five would be.
    """
    if votes is None:
        return galaxies
    yes, left = galaxies.yes.copy(), galaxies.total.copy()
    for piece in pieces(len(yes), votes):  # views, which are changed in place
        some_yes, some_left = yes[piece], left[piece]
        for uniform in uniforms(galaxy_keys(seed, "votes", galaxies.hashes[piece]), 0, votes).T:
            some_yes -= uniform * some_left < some_yes
            some_left -= some_left > 0
    yes, total = galaxies.yes - yes, galaxies.total - left
    return Labelled.yes_or_no(galaxies.rows, galaxies.hashes, yes, total)


def catalogue(number: int, pool: Labelled, rows: list[int]) -> Labelled:
    """Those of the `pool` that are in `rows`: the catalogue answers whatever it is asked."""
    return pool.take(np.isin(pool.rows, rows))


def volunteers(
    store: Store, run: RunSpec, folder: Path, number: int, pool: Labelled, rows: list[int]
) -> Labelled | None:
    """Those of the `pool` whom volunteers have answered since ask `number`, which is about `rows` of `store`.

    The ask is written into `folder` and, where there is an oracle.project, uploaded, unless it was before. None if no
    galaxy of it has minimum_votes yet; else, once and for all, everyone who has, of this ask or of one before.
    """
    ids = store.galaxies["id"]
    shown = (run.dataset, run.oracle.show)
    place = write_subject_set(store, rows, ids.iloc[rows], folder, number, *shown)
    if not (place / VOTES).exists():
        if run.oracle.project is not None:
            upload(place, run.oracle.project)
        table = _enough(count_votes(folder, run.oracle, run.dataset.questions), run)
        table = table[table.index.isin(ids.iloc[pool.rows])]
        if not table.index.isin(ids.iloc[rows]).any():
            return None
        write_csv(place / VOTES, table.reset_index())
    return with_votes(run, pool, ids, read_votes(place / VOTES))


def read_votes(path: Path) -> pd.DataFrame:
    """The votes.csv at `path` that a run has written, indexed by id."""
    table = pd.read_csv(path, dtype={"id": str}, keep_default_na=False)
    return table.assign(id=table["id"].map(from_cell)).set_index("id")


def with_votes(run: RunSpec, galaxies: Labelled, ids: pd.Series, table: pd.DataFrame) -> Labelled:
    """Those of `galaxies` that have votes on the run's question in a `table` of votes indexed by id, with these.

    `ids` are those of the whole store.
    """
    there = np.flatnonzero(ids.iloc[galaxies.rows].isin(table.index))
    found = galaxies.take(there)
    table = table.loc[ids.iloc[found.rows]]
    yes = table[[f"{run.question}_{answer}" for answer in run.positive]].to_numpy(np.int64).sum(1)
    total = table[f"{run.question}_total"].to_numpy(np.int64)
    if run.questions is None:
        found = Labelled.yes_or_no(found.rows, found.hashes, yes, total)
    else:
        names = [f"{question}_{answer}" for question, some in run.asked for (answer,) in some]
        found = found._replace(yes=yes, total=total, votes=table[names].to_numpy(np.int64))
    return found.take(np.flatnonzero(found.votes.sum(1) > 0))


def waiting(run: RunSpec, folder: Path, number: int, count: int) -> str:
    """What to do now that ask `number` is about `count` galaxies and waits for volunteers."""
    if run.oracle.name == "label":
        return (
            f"all {count} galaxies were skipped, or called artifacts, and nothing is learned from these; the labels "
            f"are in {folder}"
        )
    place, project = folder / f"ask-{number:02d}", run.oracle.project
    there = f"they are in project {project}" if project is not None else f"upload {place}"
    return (
        f"{count} galaxies wait for volunteers: {there}; collect classifications, put the project's classification "
        f"export into {folder / EXPORTS}, and give the same command again: it goes on from there"
    )


def true_chances(store: Store, run: RunSpec) -> np.ndarray | None:
    """The true rho (galaxy,) of synthetic galaxies, of the positive answers together; None of any others."""
    columns = [f"true_{run.question}_{answer}" for answer in run.positive]
    if not set(columns) <= set(store.galaxies):
        return None
    return store.galaxies[columns].to_numpy(np.float64).sum(1)


def _enough(table: pd.DataFrame, run: RunSpec) -> pd.DataFrame:
    """The votes on the run's questions of the galaxies with minimum_votes on its own; prints what was left out."""
    for line in table.attrs["messages"]:
        say(line)
    columns = [
        f"{question}_{answer}"
        for question, _ in run.asked
        for answer in (*run.dataset.questions[question], "total")
    ]
    total = table[f"{run.question}_total"]
    enough = table.loc[total >= run.minimum_votes, columns]
    some, least = (total > 0).sum(), run.minimum_votes
    say(f"{some} of {len(table)} galaxies were classified so far, {len(enough)} by {least} or more")
    return enough
