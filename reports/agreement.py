"""Whether the three backends say the same of the same galaxies."""

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from reports.blocks import Section, Table, bare, from_files, prose, table
from reports.errors import share
from reports.runs import TITLES, Record, RecordSet, beside, files, pairs
from shared.output.posterior import column_prefix


def agreement(record_set: RecordSet) -> Section:
    """Differences between the posteriors of every two backends with the same setting and seed."""
    found, kept = compared(record_set), _kept(record_set)
    if not found and not kept:
        return bare("Agreement", "No two backends share a setting, a seed and galaxies.")
    rows = [
        {
            "setting": record_set.setting(left),
            "task": left.task,
            "backends": f"{record_set.label(left)}, {record_set.label(right)}",
            "seed": left.at("run.seed"),
        }
        | differences
        for left, right, differences in found
    ]
    words = prose(
        "Held-out galaxies with a posterior from both backends. Differences are of the share "
        "of yes votes; runs of the same seed begin at the same weights and see the same "
        "batches, so what differs is arithmetic, and what training "
        "makes of it.",
    )
    formats = {"rank correlation": ".4f", "same majority (%)": ".2f"}
    numbers = [record.number for left, right, _ in found for record in (left, right)]
    caption = "Posteriors of two backends with the same setting and seed"
    made = [table(caption, rows, numbers, formats)] if rows else []
    return Section("Agreement", (words, *made, *kept))


def _kept(record_set: RecordSet) -> list[Table]:
    """What publishing worked out of posteriors that do not lie beside the records any more."""
    tables = []
    for origin, found in files(record_set, "agreement.json").items():
        rows = [
            {"backends": ", ".join(TITLES.get(name, name) for name in pair["backends"])}
            | {key: value for key, value in pair.items() if key != "backends"}
            for pair in found["pairs"]
        ]
        formats = {"rank correlation": ".4f", "same majority (%)": ".2f"}
        caption = f"Posteriors of two backends with the same setting and seed ({origin})"
        tables.append(from_files(table(caption, rows, [], formats), origin))
    return tables


def pairs_apart(record_set: RecordSet) -> list[dict]:
    """How far apart every two posteriors are, of records and of what was published of them."""
    kept = [
        pair for found in files(record_set, "agreement.json").values() for pair in found["pairs"]
    ]
    return [*(differences for *_, differences in compared(record_set)), *kept]


def compared(record_set: RecordSet) -> list[tuple[Record, Record, dict]]:
    """Every pair whose posteriors can be compared, and how far they are apart."""
    found = [(*pair, compare(*pair)) for pair in pairs(record_set.of("fit", "predict"))]
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
        "same majority (%)": share(int(same.sum()), len(common)),
    }
