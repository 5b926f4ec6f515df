"""How much memory every program takes, and which batch a device would hold."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from reports.blocks import Figure, Section, Table, bare, prose, table
from reports.charts import Line
from reports.comparisons import (
    FACETED,
    OURS,
    Comparison,
    Timing,
    comparisons,
    first_choice,
    place,
    timings,
    title,
)
from reports.figures import log_figure
from reports.runs import RecordSet, gathered
from reports.speed import NO_GPU, capital, without_gpu

ROWS = tuple(name for name in FACETED if name != "batch")
GB = 1e9
SIZES = (2, 6, 16)  # GB, of a small, a middling and a large device
ROUNDING = 1e-6  # of a galaxy: a fit that is this near to a whole batch, by the processor's rounding, is that batch


class Fit(NamedTuple):
    """Peak memory as `base` + `each` x batch, bytes, by least squares over `batches`."""

    base: float
    each: float
    batches: tuple[int, ...]

    def batch(self, gigabytes: float) -> int | None:
        """The largest batch whose peak is within `gigabytes`; 0 if none is, None where memory does not rise with it."""
        if self.each <= 0:
            return None
        exact = (gigabytes * GB - self.base) / self.each
        return max(0, int(exact + ROUNDING))


def memory(record_set: RecordSet) -> Section:
    """The peak of each program at each size and batch; the batch that fits, where two batches were measured."""
    found = [
        comparison for comparison in comparisons(record_set) if any(map(peak, comparison.timings))
    ]
    if not found:
        return bare("Memory", "No benchmark that told its peak memory is among the records.")
    words = prose(
        "Peak memory is of the device, or on a CPU of the whole process, the framework itself included; every program "
        "has a process of its own for each task. GB are 10⁹ bytes."
    )
    chosen = first_choice(found, "task", "image size (px)")
    return Section("Memory", (words, _peaks(found), *_figures(found), *_fits(found)), chosen)


def peak(timing: Timing) -> float | None:
    """The most memory that was held, in bytes."""
    return timing.number("peak_memory_bytes")


def _peaks(found: list[Comparison]) -> Table:
    rows = []
    batches = sorted({comparison.batch for comparison in found if comparison.batch})
    for key, some in series(found).items():
        (task, size, samples, steps, _), (program, precision, where) = key
        row = {
            "task": task,
            "program": title(program),
            "precision": precision,
            "device": where,
            "image size (px)": size,
            "samples": samples,
            "steps a call": steps,
        }
        by_batch = {batch: peak(timing) for batch, timing in some.items()}
        rows.append(row | {f"batch {b} (GB)": _gigabytes(by_batch.get(b)) for b in batches})
    empty = without_gpu(timings(found))
    rows += [dict.fromkeys(rows[0]) | {"program": title(p), "device": NO_GPU} for p in empty]
    formats = {f"batch {batch} (GB)": ".2f" for batch in batches}
    numbers = [comparison.record.number for comparison in found]
    made = table("Peak memory", rows, numbers, formats)
    return replace(made, faceted=ROWS)


def _gigabytes(value: float | None) -> float | None:
    return None if value is None else value / GB


def series(found: list[Comparison]) -> dict[tuple, dict[int, Timing]]:
    """What a program did, and (program, precision, place) -> its row at each batch, of the last record.

    What it did: (task, size, samples, steps a call, all other conditions).
    """
    rows: dict[tuple, dict[int, Timing]] = {}
    for comparison in found:
        for timing in comparison.timings:
            if peak(timing) is not None and comparison.batch:
                did = (comparison.task, comparison.size, comparison.samples, comparison.steps)
                of = (timing.program, timing.precision, place(timing))
                found_ = rows.setdefault(((*did, comparison.conditions), of), {})
                found_[comparison.batch] = timing
    return rows


def fitted(some: dict[int, Timing]) -> Fit | None:
    """The straight line through the peaks at two batches or more; None of one."""
    if len(some) < 2:
        return None
    batches = sorted(some)
    each, base = np.polyfit(batches, [peak(some[batch]) for batch in batches], 1)
    return Fit(float(base), float(each), tuple(batches))


def _fits(found: list[Comparison]) -> list:
    rows = []
    for ((task, size, _, steps, _), of), some in series(found).items():
        fit = fitted(some)
        if fit is None:
            continue
        rows.append(
            {
                "task": task,
                "program": title(of[0]),
                "precision": of[1],
                "device": of[2],
                "image size (px)": size,
                "steps a call": steps,
                "batches measured": ", ".join(map(str, fit.batches)),
                "base (GB)": fit.base / GB,
                "each galaxy of a batch (MB)": fit.each / 1e6,
            }
            | {f"largest batch in {size_} GB": fit.batch(size_) for size_ in SIZES}
        )
    if not rows:
        return [
            prose(
                "No program was measured at two batches, so which batch a device would hold is not told."
            )
        ]
    words = prose(
        "A straight line, peak = base + batch x so much, by least squares through the batches that were measured. What "
        "lies beyond them is extrapolated, not measured: a CPU's allocator and a GPU's workspace do not grow evenly. "
        "Where the peak does not rise with the batch, no batch is told."
    )
    numbers = [comparison.record.number for comparison in found]
    formats = {"base (GB)": ".2f", "each galaxy of a batch (MB)": ".2f"}
    caption = "The batch that fits into so much memory, by a linear fit"
    return [words, replace(table(caption, rows, numbers, formats), faceted=ROWS)]


def _figures(found: list[Comparison]) -> list[Figure]:
    figures = []
    alike = gathered(found, lambda c: (c.task, c.size, c.samples, c.place, c.conditions))
    for (task, size, _, where, _), some in alike.items():
        lines = [
            Line(
                next(iter(rows.values())).backend,
                sorted(rows),
                [peak(rows[batch]) / GB for batch in sorted(rows)],
                None,
                "-" if program in OURS else "--",
                "" if program in OURS else "other ways, peers",
                True,
                title(program),
            )
            for (_, (program, precision, _)), rows in series(some).items()
            if len(rows) > 1 and precision == "float32"
        ]
        if lines:
            caption = f"{capital(task)}: peak memory against batch, {size} px, {where}, float32"
            numbers = [comparison.record.number for comparison in some]
            axes = ("batch", "peak memory (GB)")
            made = log_figure(f"memory-{len(figures) + 1}", caption, lines, axes, numbers)
            facets = {"task": task, "image size (px)": str(size), "device": where}
            figures.append(replace(made, facets=facets))
    return figures
