"""What a network believes about each galaxy, as a table astronomers can open.

One row per galaxy, and columns named by the question and the answer: smooth_or_featured_smooth_mean. Of a whole tree
every answer has its columns, and every question says how likely it is asked (`tree_table`). One question by itself is
cut in two answers, yes (the positive answers) and no (all the others): `posterior_table`. The table is one Parquet
file; what each column means is in columns.py, and other formats in formats/. The same table gives the same bytes.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from shared.data.schema import slices
from shared.method.mixture import (
    information,
    mean_asked,
    summarise_fractions,
    summarise_votes,
    votes_interval,
)
from shared.output.formats import parquet
from shared.run.questions import Leads, Questions


def posterior_table(
    galaxies: pd.DataFrame,
    samples: np.ndarray,
    question: str,
    positive: tuple[str, ...],
    negative: tuple[str, ...],
    expected_votes: int,
    mutual_information: np.ndarray,
    in_training: np.ndarray | None,
) -> pd.DataFrame:
    """The table of `galaxies` (id, and ra and dec in degrees where known) and their `samples` (galaxy,
    sample) of the chance of the `positive` answers to `question`.

    Counts are out of `expected_votes`. `mutual_information` (galaxy,) is in nats, `in_training` (galaxy,)
    of bool, None where it is not known (then its column is empty). Coordinates that no galaxy has
    are left out. Raises ValueError for arrays of another length than the galaxies.
    """
    _check_rows(
        len(galaxies),
        samples=samples,
        mutual_information=mutual_information,
        in_training=in_training,
    )
    columns = _galaxy_columns(located(galaxies), in_training)
    yes = summarise_fractions({question: ("yes",)}, np.asarray(samples)[..., None], None)
    positive_summary = {name: values[:, 0] for name, values in yes._asdict().items()}
    low, high = votes_interval(samples, expected_votes)
    negative_summary = {
        "mean": 1 - positive_summary["mean"],
        "std": positive_summary["std"],
        "p05": 1 - positive_summary["p95"],
        "p50": 1 - positive_summary["p50"],
        "p95": 1 - positive_summary["p05"],
    }
    for answers, fractions, counts in (
        (positive, positive_summary, (low, high)),
        (negative, negative_summary, (expected_votes - high, expected_votes - low)),
    ):
        prefix = column_prefix(question, answers)
        columns |= {f"{prefix}_{name}": values for name, values in fractions.items()}
        columns |= {f"{prefix}_votes_low": counts[0], f"{prefix}_votes_high": counts[1]}
    columns["mutual_information"] = np.asarray(mutual_information, np.float64)
    return pd.DataFrame(columns)


def tree_table(
    galaxies: pd.DataFrame,
    questions: Questions,
    leads: Leads,
    fractions: np.ndarray,
    concentrations: np.ndarray | None,
    expected_votes: int,
    in_training: np.ndarray | None,
    walk_information: np.ndarray | None = None,
    conformal: tuple[np.ndarray, np.ndarray] | None = None,
) -> pd.DataFrame:
    """The table of `galaxies` (id, and ra and dec in degrees if the columns are there; see `located`) and all answers.

    `fractions` (galaxy, sample, answer) and `concentrations` (galaxy, sample, question) or None are the posterior's
    samples; counts of votes are out of `expected_votes` answers to their question. Nothing is left blank: what the
    answers to a question are worth is told by the chance that it is asked. Numbers are float32, to halve the file.
    `in_training` (galaxy,) is None where it is not known; `walk_information` (galaxy,), in nats, and `conformal`, the
    first and the last count (galaxy, answer) of conformal intervals, are left out if None.
    Raises ValueError for arrays that do not belong together or are no fractions.
    """
    _check_rows(
        len(galaxies),
        fractions=fractions,
        concentrations=concentrations,
        in_training=in_training,
        walk_information=walk_information,
    )
    _check_samples(questions, fractions, concentrations)
    columns = _galaxy_columns(galaxies, in_training)
    summary = summarise_fractions(questions, fractions, concentrations)._asdict()
    low, high = summarise_votes(questions, fractions, concentrations, expected_votes)
    asked, told = mean_asked(questions, leads, fractions), information(questions, fractions)
    for number, (question, place) in enumerate(slices(questions).items()):
        prefix = question.replace("-", "_")
        columns[f"{prefix}_asked"] = asked[:, number].astype(np.float32)
        columns[f"{prefix}_information"] = told[:, number].astype(np.float32)
        for answer, column in zip(questions[question], range(place.start, place.stop), strict=True):
            prefix = column_prefix(question, (answer,))
            for name, values in summary.items():
                columns[f"{prefix}_{name}"] = values[:, column].astype(np.float32)
            columns[f"{prefix}_votes_low"] = low[:, column]
            columns[f"{prefix}_votes_high"] = high[:, column]
            if conformal is not None:
                columns[f"{prefix}_conformal_low"] = conformal[0][:, column]
                columns[f"{prefix}_conformal_high"] = conformal[1][:, column]
    if walk_information is not None:
        columns["walk_information"] = np.asarray(walk_information, np.float32)
    return pd.DataFrame(columns)


def located(galaxies: pd.DataFrame) -> pd.DataFrame:
    """`galaxies` with id, and those of ra and dec that any galaxy has."""
    places = [
        place
        for place in ("ra", "dec")
        if place in galaxies and not np.isnan(galaxies[place].to_numpy(np.float64)).all()
    ]
    return galaxies[["id", *places]]


def column_prefix(question: str, answers: tuple[str, ...]) -> str:
    """What the columns of `answers` to `question`, taken together, begin with."""
    return f"{question}_{'_or_'.join(answers)}".replace("-", "_")


def write_posterior(path: Path, table: pd.DataFrame, meta: dict) -> None:
    """`table` as Parquet at `path`, whole or not at all, with `meta`, plain facts about the run."""
    write_blocks(path, [table], meta, longest_id(table))


def longest_id(galaxies: pd.DataFrame) -> int:
    """How many characters the longest id has, at least 1."""
    return max(1, int(galaxies["id"].astype(str).str.len().max() or 1)) if len(galaxies) else 1


def write_blocks(path: Path, blocks: Iterable[pd.DataFrame], meta: dict, longest: int) -> None:
    """Tables, one after the other, as one Parquet file at `path`, whole or not at all, with `meta`, facts of the run.

    Each is taken from `blocks` when the one before is written: no more than one need exist at once. `longest` is the
    `longest_id` of all. Raises ValueError for no tables at all, and for one whose columns are others than the first's.
    """
    parquet.write_blocks(Path(path), map(_as_arrow, blocks), meta, {"id": longest})


def read_posterior(path: Path) -> pd.DataFrame:
    """The table at `path`."""
    return pq.read_table(path).to_pandas()


def read_facts(path: Path) -> dict:
    """The facts about the run that the table at `path` keeps."""
    return parquet.facts_of(pq.read_schema(path))


def top_galaxies(table: pd.DataFrame, answer: str, count: int) -> pd.DataFrame:
    """The `count` galaxies of the largest mean vote fraction of `answer`, a `column_prefix`."""
    return _first(table, f"{answer}_mean", False, count)


def information_column(table: pd.DataFrame) -> str | None:
    """The column of what a galaxy's votes would tell about the network; None if the table has none."""
    return next(
        (name for name in ("mutual_information", "walk_information") if name in table), None
    )


def least_sure(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """The `count` galaxies whose votes would tell most: of the largest `information_column`, which must be there."""
    return _first(table, information_column(table), False, count)


def most_sure(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """The `count` galaxies whose votes would tell least."""
    return _first(table, information_column(table), True, count)


def _first(table: pd.DataFrame, column: str, ascending: bool, count: int) -> pd.DataFrame:
    ordered = table.sort_values([column, "id"], ascending=[ascending, True], kind="stable")
    return ordered.head(count)


def _galaxy_columns(galaxies: pd.DataFrame, in_training: np.ndarray | None) -> dict:
    columns = {"id": galaxies["id"].astype(str).reset_index(drop=True)}
    columns |= {
        place: galaxies[place].to_numpy(np.float64) for place in ("ra", "dec") if place in galaxies
    }
    if in_training is None:
        columns["in_training"] = pd.array([None] * len(galaxies), "boolean")
    else:
        columns["in_training"] = np.asarray(in_training, bool)
    return columns


def _as_arrow(table: pd.DataFrame) -> pa.Table:
    arrays = [pa.array(table[name], pa.string() if name == "id" else None) for name in table]
    return pa.table(arrays, list(table))


def _check_rows(galaxies: int, **arrays: np.ndarray | None) -> None:
    for name, array in arrays.items():
        if array is not None and len(array) != galaxies:
            raise ValueError(f"{name} has {len(array)} rows for {galaxies} galaxies; give one each")


def _check_samples(
    questions: Questions, fractions: np.ndarray, concentrations: np.ndarray | None
) -> None:
    answers = sum(map(len, questions.values()))
    if fractions.ndim != 3 or not fractions.shape[1] or fractions.shape[2] != answers:
        raise ValueError(
            f"fractions are {fractions.shape}; they must be (galaxy, sample, answer), of one sample or more and "
            f"{answers} answers"
        )
    wanted = (*fractions.shape[:2], len(questions))
    if concentrations is not None and concentrations.shape != wanted:
        raise ValueError(
            f"concentrations are {concentrations.shape}; they must be (galaxy, sample, question), {wanted}"
        )
    for galaxy in np.flatnonzero(~((fractions >= 0) & (fractions <= 1)).all((1, 2)))[:1]:
        raise ValueError(f"the fractions of galaxy {galaxy} are not all between 0 and 1")
    if concentrations is not None:
        for galaxy in np.flatnonzero(~(concentrations > 0).all((1, 2)))[:1]:
            raise ValueError(f"the concentrations of galaxy {galaxy} are not all above 0")
