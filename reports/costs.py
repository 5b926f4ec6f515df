"""What it costs: seconds, joules and money for a thousand galaxies, hours and money for whole surveys."""

from dataclasses import replace
from typing import NamedTuple

from reports.blocks import Section, Table, bare, number, prose, table
from reports.comparisons import (
    FACETED,
    Comparison,
    Timing,
    comparisons,
    first_choice,
    place,
    timings,
    title,
)
from reports.runs import RecordSet
from reports.speed import NO_GPU, without_gpu

LEDGER = {"train": "trained on once", "posterior": "sampled", "acquisition": "scored for asking"}
THOUSAND, HOUR = 1000, 3600.0
EPOCH = ("epoch", "epoch_memory", "train")  # what an epoch is told from, the first that there is


class Survey(NamedTuple):
    """How many galaxies a survey has, and who says so."""

    name: str
    galaxies: int
    source: str


SURVEYS = (
    Survey("GZ2", 240_000, "Willett et al. 2013, rounded"),
    Survey("DECaLS", 314_000, "Walmsley et al. 2022"),
    Survey("GZ DESI", 8_700_000, "Walmsley et al. 2023"),
    Survey("Euclid", 1_000_000_000, "a round number, for its wide survey"),
    Survey(
        "Rubin",
        20_000_000_000,
        "Ivezić et al. 2019: all that it will find, most too small for a shape",
    ),
)


def costs(record_set: RecordSet) -> Section:
    """The ledger and the surveys, of every program that was timed."""
    found = comparisons(record_set)
    ledger = [
        _entry(c, t) for c in found for t in c.timings if c.task in LEDGER and seconds_each(t)
    ]
    if not ledger:
        return bare(
            "Cost", "No benchmark of training, posterior or acquisition is among the records."
        )
    numbers = [comparison.record.number for comparison in found if comparison.task in LEDGER]
    ledger += _without_gpu(ledger[0], found)
    formats = {"seconds": ",.2f", "money": ".2g"}
    caption = "For 1,000 galaxies: trained on once, sampled, or scored for asking"
    thousand = replace(table(caption, ledger, numbers, formats), faceted=FACETED)
    words = prose(
        "Money is seconds at bench.price_per_hour of the record, in the currency of that price: a stated price, not a "
        "bill. Joules are of the whole device as it told them; where it told none, none are given.",
        "Surveys: galaxies x seconds each on this hardware, one device, nothing but the work itself: no download, no "
        f"failure, no store. Extrapolated from a few hundred galaxies. {_counts()}.",
    )
    chosen = first_choice(found, "image size (px)", "batch")
    return Section("Cost", (words, thousand, *_posteriors(found), *_epochs(found)), chosen)


def _counts() -> str:
    return "; ".join(f"{s.name} {s.galaxies:,} galaxies ({s.source})" for s in SURVEYS)


def seconds_each(timing: Timing) -> float | None:
    """Seconds for one galaxy."""
    return timing.seconds / timing.images if timing.seconds and timing.images else None


def joules_each(timing: Timing) -> float | None:
    """Joules for one galaxy; None where none were measured."""
    joules = timing.number("energy_joules")
    return joules / timing.images if joules is not None and timing.images else None


def price(timing: Timing) -> float | None:
    """Of an hour, as the record says it."""
    value = timing.record.at("results.price_per_hour")
    return value if number(value) else None


def money(seconds: float, timing: Timing) -> float | None:
    """What `seconds` cost."""
    hourly = price(timing)
    return None if hourly is None else seconds / HOUR * hourly


def _entry(comparison: Comparison, timing: Timing) -> dict:
    seconds, joules = THOUSAND * seconds_each(timing), joules_each(timing)
    return _about(comparison, timing) | {
        "seconds": seconds,
        "joules": None if joules is None else THOUSAND * joules,
        "price (per hour)": price(timing),
        "money": money(seconds, timing),
    }


def _about(comparison: Comparison, timing: Timing) -> dict:
    return {
        "task": comparison.task,
        "program": timing.title,
        "precision": timing.precision,
        "device": place(timing),
        "image size (px)": comparison.size,
        "batch": comparison.batch,
        "samples": comparison.samples,
        "record": comparison.record.number,
    }


def _without_gpu(row: dict, found: list[Comparison]) -> list[dict]:
    empty = without_gpu(timings(found))
    return [dict.fromkeys(row) | {"program": title(p), "device": NO_GPU} for p in empty]


def _posteriors(found: list[Comparison]) -> list[Table]:
    some = [comparison for comparison in found if comparison.task == "posterior"]
    return _surveys("A posterior of every galaxy of a survey", some)


def _epochs(found: list[Comparison]) -> list[Table]:
    task = next((task for task in EPOCH if any(c.task == task for c in found)), None)
    some = [comparison for comparison in found if comparison.task == task]
    how = {"epoch": "from disk", "epoch_memory": "from memory", "train": "steps from memory"}
    return _surveys(f"A training epoch over a survey ({how.get(task, '')})", some)


def _surveys(caption: str, found: list[Comparison]) -> list[Table]:
    rows = []
    for comparison in found:
        for timing in comparison.timings:
            each = seconds_each(timing)
            if each:
                row = {
                    key: value for key, value in _about(comparison, timing).items() if key != "task"
                }
                for survey in SURVEYS:
                    row[f"{survey.name} (h)"] = each * survey.galaxies / HOUR
                    row[f"{survey.name} (money)"] = money(each * survey.galaxies, timing)
                rows.append(row)
    if not rows:
        return []
    rows += _without_gpu(rows[0], found)
    numbers = [comparison.record.number for comparison in found]
    return [replace(table(caption, rows, numbers), faceted=FACETED[1:])]
