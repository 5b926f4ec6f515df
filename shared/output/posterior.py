"""What a network believes about each galaxy, as a table astronomers can open.

One row per galaxy. A question is cut in two answers, yes (the positive answers) and no (all the
others), and each has its own columns, all named by the question and the answer:
smooth_or_featured_smooth_mean. The table is one Parquet file that says in its metadata what each
column means and how it was made; the same table always gives the same bytes.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from shared.method.metrics import pieces, vote_chances
from shared.run.records import write_whole

QUANTILES = {"p05": 0.05, "p50": 0.50, "p95": 0.95}
MEANINGS = {  # of a column by its last part: unit, meaning
    "mean": ("1", "posterior mean of the vote fraction"),
    "std": ("1", "posterior standard deviation of the vote fraction, over samples"),
    "p05": ("1", "5 % of the posterior of the vote fraction lies below"),
    "p50": ("1", "posterior median of the vote fraction"),
    "p95": ("1", "95 % of the posterior of the vote fraction lies below"),
    "votes_low": ("vote", "least of the central 90 % of votes, of as many as are expected"),
    "votes_high": ("vote", "most of the central 90 % of votes, of as many as are expected"),
}
PLAIN = {
    "id": ("", "name of the galaxy"),
    "ra": ("deg", "right ascension"),
    "dec": ("deg", "declination"),
    "in_training": (
        "",
        "whether its votes were learned from, so that its row is no prediction; empty: not known",
    ),
    "mutual_information": (
        "nat",
        "what its votes are expected to tell about the network: the entropy of the votes less its "
        "mean over samples",
    ),
}
RUN = b"trizoo"  # the key of the run's facts in the file's metadata


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
    known = [None] * len(galaxies) if in_training is None else np.asarray(in_training, bool)
    for name, array in {
        "samples": samples,
        "mutual_information": mutual_information,
        "in_training": known,
    }.items():
        if len(array) != len(galaxies):
            raise ValueError(
                f"{name} has {len(array)} rows for {len(galaxies)} galaxies; give one each"
            )
    columns = {"id": galaxies["id"].astype(str).reset_index(drop=True)}
    for place in ("ra", "dec"):
        if place in galaxies and not np.isnan(galaxies[place].to_numpy(np.float64)).all():
            columns[place] = galaxies[place].to_numpy(np.float64)
    columns["in_training"] = pd.array(known, "boolean") if in_training is None else known
    positive_summary = _summary(samples)
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


def column_prefix(question: str, answers: tuple[str, ...]) -> str:
    """What the columns of `answers` to `question`, taken together, begin with."""
    return f"{question}_{'_or_'.join(answers)}".replace("-", "_")


def votes_interval(samples: np.ndarray, expected_votes: int) -> tuple[np.ndarray, np.ndarray]:
    """The 5 % and the 95 % quantile, both int32 (galaxy,), of the number of `expected_votes` that are
    yes, under the mixture of binomials of `samples` (galaxy, sample).

    A quantile is the least count whose chance of not being exceeded reaches it, so at most 5 % lie
    beyond either end.
    """
    low, high = np.empty(len(samples), np.int32), np.empty(len(samples), np.int32)
    for piece in pieces(len(samples), samples.shape[1] * (expected_votes + 1)):
        total = np.full(len(samples[piece]), expected_votes)
        reached = vote_chances(samples[piece], total, np.arange(expected_votes + 1)).cumsum(1)
        low[piece], high[piece] = (reached < 0.05).sum(1), (reached < 0.95).sum(1)
    return low, high


def write_posterior(path: Path, table: pd.DataFrame, meta: dict) -> None:
    """`table` as Parquet at `path`, whole or not at all, with `meta`, plain facts about the run."""
    described = describe_columns(table)
    arrays = [pa.array(table[name], pa.string() if name == "id" else None) for name in table]
    fields = []
    for name, array in zip(table, arrays, strict=True):
        unit, description = described[name]
        fields.append(
            pa.field(name, array.type, metadata={"unit": unit, "description": description})
        )
    facts = json.dumps(meta, sort_keys=True)
    whole = pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata={RUN: facts}))
    write_whole(Path(path), lambda beside: pq.write_table(whole, beside, compression="zstd"))


def read_posterior(path: Path) -> pd.DataFrame:
    """The table at `path`."""
    return pq.read_table(path).to_pandas()


def read_facts(path: Path) -> dict:
    """The facts about the run that the table at `path` keeps."""
    return json.loads(pq.read_schema(path).metadata[RUN])


def describe_columns(table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """The unit and the meaning of each column of a posterior `table`.

    Raises ValueError for a column that is none of a posterior.
    """
    return {name: _describe(name) for name in table}


def top_galaxies(table: pd.DataFrame, answer: str, count: int) -> pd.DataFrame:
    """The `count` galaxies of the largest mean vote fraction of `answer`, a `column_prefix`."""
    return _first(table, f"{answer}_mean", False, count)


def least_sure(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """The `count` galaxies of the largest mutual information."""
    return _first(table, "mutual_information", False, count)


def most_sure(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """The `count` galaxies of the smallest mutual information."""
    return _first(table, "mutual_information", True, count)


def _first(table: pd.DataFrame, column: str, ascending: bool, count: int) -> pd.DataFrame:
    ordered = table.sort_values([column, "id"], ascending=[ascending, True], kind="stable")
    return ordered.head(count)


def _summary(samples: np.ndarray) -> dict[str, np.ndarray]:
    """Mean, standard deviation and quantiles, each (galaxy,), in pieces of bounded memory."""
    out = {name: np.empty(len(samples)) for name in ("mean", "std", *QUANTILES)}
    for piece in pieces(len(samples), samples.shape[1]):
        rho = np.asarray(samples[piece], np.float64)
        out["mean"][piece], out["std"][piece] = rho.mean(1), rho.std(1)
        for name, quantile in zip(
            QUANTILES, np.quantile(rho, list(QUANTILES.values()), 1), strict=True
        ):
            out[name][piece] = quantile
    return out


def _describe(name: str) -> tuple[str, str]:
    if name in PLAIN:
        return PLAIN[name]
    for last, (unit, meaning) in MEANINGS.items():
        if name.endswith(f"_{last}"):
            return unit, f"{name.removesuffix(f'_{last}')}: {meaning}"
    raise ValueError(
        f"{name!r} is no column of a posterior; there are {', '.join(PLAIN)} and *_mean ..."
    )
