"""How error falls: with training steps, and with labels."""

import numpy as np
import pandas as pd

from reports.blocks import (
    Figure,
    Measure,
    Prose,
    Section,
    Table,
    bare,
    measure,
    number,
    prose,
    table,
)
from reports.errors import seeds, share
from reports.figures import Line, line_figure
from reports.runs import (
    Record,
    RecordSet,
    beside,
    gathered,
    group,
    pairs,
    setting,
    simulation,
)
from reports.saved import SAVED, compared, published_savings
from reports.savings import (
    BASELINE,
    Course,
    course,
    falling,
    needed,
    problem,
    problems,
    words,
)

DASHES = {"mutual information": "-", "random": ":"}


def curves(record_set: RecordSet) -> Section:
    """Training and validation loss against step, a figure each per setting."""
    there = [(record, beside(record, "losses.parquet")) for record in record_set.of("fit")]
    losses = {record: table for record, table in there if table is not None}
    if not losses:
        return bare("Learning curves", "No run folder holds a losses.parquet.")
    drawn = [
        _loss_figure(record_set, {record: losses[record] for record in alike}, kind)
        for alike in gathered(losses, setting).values()
        for kind in POINTS
    ]
    words = prose(
        "One line per run: backends by colour, seeds alike. Training loss is a running mean over a "
        "fiftieth of the run. With the same seed every backend begins at the same weights and sees "
        "the same batches in the same order."
    )
    return Section("Learning curves", (words, *(figure for figure in drawn if figure)))


def _loss_figure(
    record_set: RecordSet, losses: dict[Record, pd.DataFrame], kind: str
) -> Figure | None:
    points = {record: POINTS[kind](table) for record, table in losses.items()}
    marked = kind == "validation"
    lines = [Line(r.backend, x, y, marked=marked) for r, (x, y) in points.items() if len(x)]
    if not lines:
        return None
    first = next(iter(losses))
    numbers = [record.number for record in losses]
    caption = f"{kind.capitalize()} loss, {record_set.about(first)}"
    name = f"{kind}-{record_set.setting(first)}"
    return line_figure(name, caption, lines, ("step", f"{kind} loss (nat)"), numbers)


def training_points(losses: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Step and training loss of at most 300 points: a running mean over a fiftieth of the run."""
    window = max(1, len(losses) // 50)
    smooth = losses["loss"].rolling(window, min_periods=1).mean()
    every = max(1, -(-len(losses) // 300))
    return losses["step"].to_numpy()[::every], smooth.to_numpy()[::every]


def validation_points(losses: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Step and validation loss, where it was measured."""
    there = losses.dropna(subset=["validation_loss"])
    return there["step"].to_numpy(), there["validation_loss"].to_numpy()


POINTS = {"training": training_points, "validation": validation_points}


def active(record_set: RecordSet) -> Section:
    """Error against labels, for every acquisition and backend, and what was acquired in common."""
    runs = [record for record in record_set.of("active") if record.at("results.rounds")]
    blocks = [*(_rounds(record_set, runs) if runs else []), *published_savings(record_set)]
    if not blocks:
        return bare(
            "Active learning",
            "No active-learning run is among the records; trizoo active makes one.",
        )
    return Section("Active learning", tuple(blocks))


def _rounds(record_set: RecordSet, runs: list[Record]) -> list:
    introduction = prose(
        "In each round the network is trained, evaluated on the same test galaxies, and chooses "
        "whose votes to ask for next. Labels needed: where the acquisition's mean curve, made to fall steadily, first "
        "comes down to the last RMSE of random acquisition in the same simulation and backend, as a "
        "share of the labels that random acquisition had by then."
    )
    numbers = [record.number for record in runs]
    figures = [
        _labels_figure(record_set, alike, place)
        for place, alike in enumerate(gathered(runs, simulation).values(), 1)
    ]
    rows = [_active_row(record_set, runs, records) for records in gathered(runs, group).values()]
    formats = {
        "first RMSE": ".4f",
        "last RMSE": ".4f",
        "last NLL (nats)": ".3f",
        "labels needed (%)": ".0f",
    }
    blocks = [
        introduction,
        *figures,
        table("Rounds, mean ± spread over seeds", rows, numbers, formats),
    ]
    blocks += saved(record_set, runs)
    both = pairs(runs)
    if both:
        formats = {"first round (%)": ".1f", "last round (%)": ".1f", "all rounds (%)": ".1f"}
        caption = "Galaxies that two backends of the same setting and seed both acquired"
        rows = [_overlap_row(record_set, *pair) for pair in both]
        blocks.append(
            table(caption, rows, [record.number for pair in both for record in pair], formats)
        )
    return blocks


def _labels_figure(record_set: RecordSet, runs: list[Record], place: int) -> Figure:
    lines = []
    for records in gathered(runs, group).values():
        curve, name = error_curve(records), acquisition(records[0])
        band = (curve["low"], curve["high"]) if len(records) > 1 else None
        dashes = DASHES.get(name, "-.")
        points = (curve["labelled"], curve["mean"])
        lines.append(Line(records[0].backend, *points, band, dashes, name, marked=True))
    dataset, question = (runs[0].at(f"run.{name}") for name in ("dataset.name", "question"))
    caption = f"RMSE against labels, {dataset}, {question}: mean over seeds, band of all seeds"
    axes = ("labelled galaxies", "RMSE of the vote share")
    return line_figure(f"labels-{place}", caption, lines, axes, [record.number for record in runs])


def acquisition(record: Record) -> str:
    """How `record` chose galaxies, in words."""
    return words(record.text("run.acquisition.name"))


def error_curve(records: list[Record]) -> pd.DataFrame:
    """Test RMSE over `records` (labelled, mean, low, high), for the counts that most of them reached.

    A count that fewer reached is left out, so that no step of the curve is a change of runs.
    """
    points = [
        {"labelled": entry["labelled"], "rmse": rmse}
        for record in records
        for entry in record.at("results.rounds")
        if number(rmse := (entry.get("test") or {}).get("rmse")) and number(entry.get("labelled"))
    ]
    if not points:
        return pd.DataFrame(columns=["labelled", "mean", "low", "high"])
    grouped = pd.DataFrame(points).groupby("labelled")["rmse"]
    curve = grouped.agg(["mean", "min", "max", "size"]).reset_index()
    curve = curve[curve["size"] == curve["size"].max()]
    return curve.rename(columns={"min": "low", "max": "high"}).reset_index(drop=True)


def labels_needed(curve: pd.DataFrame, target: float) -> float | None:
    """Labels at which `curve`, made to fall steadily, first comes down to `target`; None if it never does."""
    if curve.empty:
        return None
    found = needed(
        curve["labelled"].to_numpy(), falling(curve["mean"].to_numpy()), np.array([target])
    )
    return float(found[0]) if np.isfinite(found[0]) else None


def labels_share(runs: list[Record], records: list[Record]) -> float | None:
    """Labels that `records` needed to match random acquisition, in per cent of the labels it had.

    `records` is one group of `runs`, random acquisition the group of the same backend and simulation.
    """
    first = records[0]
    alike = [r for r in runs if simulation(r) == simulation(first) and r.backend == first.backend]
    groups = gathered([r for r in alike if acquisition(r) == "random"], group)
    if acquisition(first) == "random" or len(groups) != 1:
        return None
    random = error_curve(next(iter(groups.values())))
    if random.empty:
        return None
    last = random.iloc[-1]
    needed = labels_needed(error_curve(records), last["mean"])
    return None if needed is None else share(needed, last["labelled"])


def saved(record_set: RecordSet, runs: list[Record]) -> list[Prose | Table]:
    """Labels saved at equal error, and what the pool's risk was said to be; nothing without random acquisition."""
    records = gathered(runs, problem)
    found = [(records[named[BASELINE][0].problem], named) for named in problems(map(course, runs))]
    if not found:
        return []
    numbers = [record.number for some, _ in found for record in some]
    rows = [
        {"setting": record_set.setting(some[0]), "backend": some[0].title} | row
        for some, named in found
        for name in named
        if name != BASELINE
        for row in compared(named[BASELINE], named[name])
    ]
    blocks = [
        prose(SAVED),
        table("Labels saved at equal error, random against others", rows, numbers),
    ]
    risks = [
        {"setting": record_set.setting(some[0]), "backend": some[0].title} | row
        for some, named in found
        for row in _risks(named)
    ]
    if risks:
        caption = (
            "Mean NLL of the pool (nats), as those asked about tell it before they are learned from (plain), "
            "corrected for how they were drawn (LURE), and in truth (all): means over rounds ± spread over seeds"
        )
        formats = dict.fromkeys(("plain", "LURE", "all"), ".3f")
        blocks.append(table(caption, risks, numbers, formats))
    return blocks


def _risks(named: dict[str, list[Course]]) -> list[dict]:
    keys = {"plain": "plain", "LURE": "lure", "all": "all"}
    return [
        {"acquisition": words(name)}
        | {title: measure(run.pool.get(key) for run in runs) for title, key in keys.items()}
        for name, runs in named.items()
        if any(run.pool for run in runs)
    ]


def _active_row(record_set: RecordSet, runs: list[Record], records: list[Record]) -> dict:
    first = records[0]
    curve = error_curve(records)
    begun, ended = (int(curve["labelled"].iloc[end]) if len(curve) else None for end in (0, -1))
    return {
        "setting": record_set.setting(first),
        "acquisition": acquisition(first),
        "backend": record_set.label(first),
        "seeds": seeds(records),
        "first labels": begun,
        "last labels": ended,
        "first RMSE": _after(records, begun, "rmse"),
        "last RMSE": _after(records, ended, "rmse"),
        "last NLL (nats)": _after(records, ended, "log_score"),
        "labels needed (%)": labels_share(runs, records),
        "time (s)": measure(record.at("seconds") for record in records),
    }


def _after(records: list[Record], labelled: int | None, key: str) -> Measure | None:
    rounds = [entry for record in records for entry in record.at("results.rounds")]
    return measure(
        (entry.get("test") or {}).get(key) for entry in rounds if entry.get("labelled") == labelled
    )


def _overlap_row(record_set: RecordSet, left: Record, right: Record) -> dict:
    lists = [
        [set(map(str, e.get("acquired") or ())) for e in r.at("results.rounds")]
        for r in (left, right)
    ]
    rounds = [pair for pair in zip(*lists, strict=False) if pair[0] or pair[1]]
    everything = tuple(set().union(*acquired) for acquired in lists)
    return {
        "setting": record_set.setting(left),
        "acquisition": acquisition(left),
        "backends": f"{record_set.label(left)}, {record_set.label(right)}",
        "seed": left.at("run.seed"),
        "rounds": len(rounds),
        "first round (%)": overlap(*rounds[0]) if rounds else None,
        "last round (%)": overlap(*rounds[-1]) if rounds else None,
        "all rounds (%)": overlap(*everything),
    }


def overlap(left: set[str], right: set[str]) -> float | None:
    """The galaxies in `left` and `right`, in per cent of the larger; None if both are empty."""
    return share(len(left & right), max(len(left), len(right)))
