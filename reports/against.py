"""Programs against each other, within the rounds in which they took turns."""

from dataclasses import replace

from reports.blocks import Range, Table, number, table
from reports.comparisons import OURS, TIMED, Comparison, Timing, ranked, title

FACETED = ("task", "image size (px)", "batch", "precision")


def matrix(comparison: Comparison) -> list[Table]:
    """Everyone against everyone, where there are more than ours; told where most was timed, for it is large."""
    found = [t for t in ranked(comparison) if any(t.program in pair for pair in comparison.ratios)]
    names = {timing.program: f"times {timing.title}" for timing in found}
    if set(names) <= set(OURS):
        return []
    rows = [
        {"program": timing.title, "precision": timing.precision}
        | {head: comparison.ratios.get((timing.program, name)) for name, head in names.items()}
        for timing in found
    ]
    formats = dict.fromkeys(names.values(), ".2f")
    caption = f"Each against each: {comparison.words}"
    made = table(caption, rows, [comparison.record.number], formats)
    return [replace(made, facets=comparison.facets, faceted=("precision",))]


def ways(found: list[Comparison]) -> list[Table]:
    """Each framework as it comes beside its other ways to compile, where precisions are equal."""
    rows, numbers = [], []
    for comparison in found:
        for name in OURS:
            some = [t for t in comparison.timings if t.program.partition("-")[0] == name]
            plain = comparison.of(name)
            alike = [t for t in some if plain and t.precision == plain.precision]
            if len(alike) < 2:
                continue
            rows += [_way(comparison, name, timing) for timing in alike]
            numbers.append(comparison.record.number)
    formats = {"images/s": ",.0f", "seconds": ".2f", "times as it comes": ".2f"}
    if not rows:
        return []
    made = table("Ways to compile, of one framework and precision", rows, numbers, formats)
    return [replace(made, faceted=FACETED)]


def _way(comparison: Comparison, name: str, timing: Timing) -> dict:
    return {
        "task": comparison.task,
        "image size (px)": comparison.size,
        "batch": comparison.batch,
        "framework": title(name),
        "program": timing.title,
        "precision": timing.precision,
        "compiled": timing.compiled,
        "seconds": timing.time,
        "images/s": None if comparison.task in TIMED else timing.speed,
        "times as it comes": comparison.ratios.get((timing.program, name)),
        "first call (s)": timing.number("first_seconds"),
    }


def dearer(found: list[Comparison]) -> list[Table]:
    """What a task costs against another that took turns with it: samples over one pass, the disk over memory."""
    rows, numbers = [], []
    for record in dict.fromkeys(comparison.record for comparison in found):
        for entry in record.at("results.costs") or ():
            ends = [entry.get(end) for end in ("median", "high", "low")]
            if not all(number(end) and end > 0 for end in ends):
                continue
            rows.append(
                {
                    "task": str(entry.get("task")),
                    "against": str(entry.get("against_task")),
                    "program": title(str(entry.get("program"))),
                    "precision": str(entry.get("precision")),
                    "image size (px)": entry.get("image_size"),
                    "batch": entry.get("batch_size"),
                    "samples": entry.get("samples"),
                    "takes, times as long": Range(*(1 / end for end in ends)),
                }
            )
            numbers.append(record.number)
    caption = "What a task costs against another, within rounds"
    formats = {"takes, times as long": ".3f"}
    return [replace(table(caption, rows, numbers, formats), faceted=FACETED)] if rows else []


def peers(found: list[Comparison]) -> list[Table]:
    """Each of ours over every peer that computes with the same framework."""
    rows = [
        {
            "task": comparison.task,
            "image size (px)": comparison.size,
            "batch": comparison.batch,
            "ours": title(timing.backend),
            "peer": timing.title,
            "precision": timing.precision,
            "times as fast as the peer": ratio,
            "verdict": verdict(ratio),
        }
        for comparison in found
        for timing in comparison.timings
        if timing.peer and (ratio := comparison.ratios.get((timing.backend, timing.program)))
    ]
    numbers = [
        comparison.record.number for comparison in found if any(t.peer for t in comparison.timings)
    ]
    caption = "Ours over peers of the same framework"
    formats = {"times as fast as the peer": ".2f"}
    return [replace(table(caption, rows, numbers, formats), faceted=FACETED)] if rows else []


def verdict(ratio: Range) -> str:
    """Which is faster, if the whole range of rounds says so."""
    if ratio.low > 1:
        return "ours faster"
    return "peer faster" if ratio.high < 1 else "no difference shown"
