"""How speed goes with batch and image size."""

from dataclasses import replace

from reports.blocks import Figure, Section, Table, bare, prose, table
from reports.charts import Line
from reports.comparisons import (
    FACETED,
    OURS,
    TIMED,
    Comparison,
    Timing,
    comparisons,
    first_choice,
    place,
    task_words,
    title,
)
from reports.figures import log_figure
from reports.runs import RecordSet, gathered
from reports.speed import capital

SWEEPS = {"batch": "size", "size": "batch"}  # along what, at the same what
AXES = {"batch": "batch", "size": "image size (px)"}
NONE = (
    "No two records differ in the batch or the image size alone; "
    "trizoo -m bench bench.batch_size=32,128 model.image_size=64,128 makes such."
)


def scaling(record_set: RecordSet) -> Section:
    """Images a second against batch and against image size, where there are two at least."""
    found = [comparison for comparison in comparisons(record_set) if comparison.task not in TIMED]
    figures = []
    for along, fixed in SWEEPS.items():
        alike = gathered(
            found,
            lambda c, name=fixed: (c.place, c.task, c.samples, c.conditions, getattr(c, name)),
        )
        for some in alike.values():
            lines = sweep(along, some)
            if lines:
                figures.append(_figure(along, some, lines, len(figures) + 1))
    if not figures:
        return bare("Scaling", NONE)
    words = prose(
        "Points of one line differ in nothing else, but were measured one after the other, not in turns: a step "
        "between two of them also holds what the machine did in between. Both axes are logarithmic; programs in "
        "float32; peers are dotted, other ways to compile ours dashed."
    )
    return Section("Scaling", (words, *figures, _table(found)), first_choice(found, "task"))


def sweep(along: str, some: list[Comparison]) -> list[Line]:
    """A line of images a second `along` batch or size for each float32 program with two points at least."""
    points: dict[str, dict[int, Timing]] = {}
    for comparison in some:
        value = getattr(comparison, along)
        for timing in comparison.timings:
            if value and timing.speed and timing.precision == "float32":
                points.setdefault(timing.program, {})[value] = timing
    lines = []
    for program, found in points.items():
        if len(found) < 2:
            continue
        x, first = sorted(found), next(iter(found.values()))
        ours, peers = ("--", "ours, compiled otherwise"), (":", "peers")
        dashes, meaning = ("-", "") if program in OURS else peers if first.peer else ours
        y = [found[value].speed.middle for value in x]
        lines.append(Line(first.backend, x, y, None, dashes, meaning, True, title(program)))
    return lines


def _figure(along: str, some: list[Comparison], lines: list[Line], place_: int) -> Figure:
    first = some[0]
    fixed = f"{first.size} px" if along == "batch" else f"batch {first.batch}"
    caption = f"{capital(task_words(first.task))} against {AXES[along]}, {fixed}, {first.place}"
    numbers = [comparison.record.number for comparison in some]
    made = log_figure(f"scaling-{place_}", caption, lines, (AXES[along], "images/s"), numbers)
    return replace(made, facets={"task": first.task})


def _table(found: list[Comparison]) -> Table:
    rows = [
        {
            "task": comparison.task,
            "program": timing.title,
            "precision": timing.precision,
            "device": place(timing),
            "image size (px)": comparison.size,
            "batch": comparison.batch,
            "samples": comparison.samples,
            "steps a call": comparison.steps,
            "images/s": timing.speed.middle,
            "megapixels/s": comparison.size and timing.speed.middle * comparison.size**2 / 1e6,
            "record": comparison.record.number,
        }
        for comparison in found
        for timing in comparison.timings
        if timing.speed
    ]
    formats = {"images/s": ",.1f", "megapixels/s": ",.2f"}
    numbers = [comparison.record.number for comparison in found]
    made = table("Every speed, by size and batch", rows, numbers, formats)
    return replace(made, faceted=FACETED)
