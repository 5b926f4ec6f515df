"""Whether the three backends say the same of the same galaxies."""

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from reports.runs import Record, RecordSet, beside, files, pairs
from shared.output.posterior import column_prefix


def apart(record_set: RecordSet, most: int | None = None) -> list[dict]:
    """How far apart every two posteriors are, of records, at `most` so many, and of what was published of them."""
    here = [
        {"backends": [left.backend, right.backend], "seed": left.at("run.seed"), **differences}
        for left, right, differences in compared(record_set, most)
    ]
    kept = files(record_set, "agreement.json").values()
    return [*here, *(pair for found in kept for pair in found["pairs"])]


def compared(record_set: RecordSet, most: int | None) -> list[tuple[Record, Record, dict]]:
    """Pairs whose posteriors can be compared, and how far they are apart."""
    both = pairs(record_set.of("fit", "predict"))[:most]
    found = [(*pair, compare(*pair)) for pair in both]
    return [entry for entry in found if entry[2]]


def positive(record: Record) -> str:
    """The prefix of the columns about yes in the posterior of `record`."""
    return column_prefix(record.text("run.question"), tuple(record.at("run.positive") or ()))


def answers(posterior: pd.DataFrame, record: Record) -> list[str]:
    """The prefix of every answer to the question of `record` in `posterior`."""
    start = column_prefix(record.text("run.question"), ("",))
    others = [column_prefix(name, ("",)) for name in record.at("run.dataset.questions") or ()]
    others = tuple(name for name in others if name.startswith(start) and name != start)
    ends = [name for name in posterior if name.startswith(start) and name.endswith("_mean")]
    return [name.removesuffix("_mean") for name in ends if not name.startswith(others)]


def majority(posterior: pd.DataFrame, record: Record) -> np.ndarray:
    """The number (galaxy,) of the answer with the largest mean share of votes."""
    means = posterior[[f"{prefix}_mean" for prefix in answers(posterior, record)]].to_numpy(float)
    return means.argmax(axis=1) if means.shape[1] > 1 else (means[:, 0] > 0.5).astype(int)


def held_out(record: Record) -> pd.DataFrame | None:
    """The posterior of galaxies that `record` was not trained on; None if there is none, or these are not known."""
    posterior = beside(record, "posterior.parquet")
    needed = {f"{positive(record)}_mean", f"{positive(record)}_std"}
    if posterior is None or not needed <= set(posterior) or posterior["in_training"].isna().any():
        return None
    return posterior[~posterior["in_training"].astype(bool)]


def compare(left: Record, right: Record) -> dict:
    """How far apart the posteriors of `left` and `right` are; empty if they share no galaxy."""
    one, other = held_out(left), held_out(right)
    if one is None or other is None:
        return {}
    one, other = one.set_index("id"), other.set_index("id")
    common = one.index.intersection(other.index).sort_values()
    if not len(common):
        return {}
    one, other = one.loc[common], other.loc[common]
    mean, std = (f"{positive(left)}{end}" for end in ("_mean", "_std"))
    difference = (one[[mean, std]] - other[[mean, std]]).abs()
    ranked = one[mean].nunique() > 1 and other[mean].nunique() > 1
    same = majority(one, left) == majority(other, right)
    return {
        "galaxies": len(common),
        "mean: median |difference|": float(difference[mean].median()),
        "mean: largest |difference|": float(difference[mean].max()),
        "spread: median |difference|": float(difference[std].median()),
        "spread: largest |difference|": float(difference[std].max()),
        "rank correlation": float(spearmanr(one[mean], other[mean]).statistic) if ranked else None,
        "same majority (%)": 100 * float(same.mean()),
    }
