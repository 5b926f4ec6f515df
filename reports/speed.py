"""How fast every program is, beside those that it took turns with."""

from dataclasses import replace

from reports.against import dearer, matrix, peers, ways
from reports.blocks import Figure, Section, Table, prose, table
from reports.charts import Row
from reports.comparisons import (
    FACETED,
    OURS,
    TIMED,
    Comparison,
    Timing,
    at_reference,
    comparisons,
    first_choice,
    missing,
    on_gpu,
    ranked,
    reference,
    timings,
    title,
)
from reports.figures import bar_figure
from reports.runs import RecordSet, gathered

NO_GPU = "not measured: no GPU record"
NO_BENCH = "No benchmark is among the records; trizoo bench makes one."


def speed(record_set: RecordSet) -> Section:
    """Every comparison, ours against peers, and what could not be timed."""
    found = comparisons(record_set)
    if not found:
        return Section("Speed", (prose(NO_BENCH), *_missing(record_set)))
    words = prose(
        "Programs take turns, A B C A B C, each in a process of its own, at the same size, batch and threads; the "
        "first call and the warm-up are apart. A speed is that of the median call; in brackets of the slow and the "
        "fast tenth.",
        "A ratio is of speeds within a round, so that a machine that slows down slows both: the median over rounds, "
        "and its range. Only programs of equal precision have one; unequal ones stand in one table, each labelled.",
        "Share of the floor: the time that the machine's own peak, measured beside, would need for the same arithmetic "
        "and memory traffic, as a share of the time taken. Disturbed: turns in which other processes used more "
        "than a tenth of a core.",
    )
    blocks = [words, *_overview(found)]
    for comparison in found:
        blocks += [_comparison_table(comparison), *_comparison_figure(comparison)]
    blocks += [made for comparison in at_reference(found).values() for made in matrix(comparison)]
    blocks += [
        *ways(found),
        *dearer(found),
        *peers(found),
        *_missing(record_set),
        *_ceilings(record_set),
    ]
    return Section("Speed", tuple(blocks), first_choice(found, *FACETED))


def without_gpu(rows: list[Timing]) -> list[str]:
    """Our programs of which there is no record on a GPU."""
    there = {timing.program for timing in rows if on_gpu(timing)}
    return [program for program in OURS if program not in there]


def _overview(found: list[Comparison]) -> list[Table]:
    """Every program at the size and batch at which most was timed, on every machine; what was not timed is said."""
    tables = []
    for where in dict.fromkeys(comparison.place for comparison in found):
        here = [comparison for comparison in found if comparison.place == where]
        _, size, batch = reference(here)
        alike = [
            comparison
            for comparison in here
            if (comparison.size, comparison.batch) == (size, batch)
        ]
        speeds = [comparison for comparison in alike if comparison.task not in TIMED]
        programs = gathered(timings(alike), lambda t: (t.program, t.precision))
        rows = [
            {"program": title(program), "precision": precision, "compiled": some[0].compiled}
            | _speeds(speeds, program, precision)
            for (program, precision), some in programs.items()
        ]
        numbers = [comparison.record.number for comparison in alike]
        caption = f"Images a second by task, {alike[0].of_size}, {where}"
        formats = {_heading(comparison): ",.0f" for comparison in speeds}
        tables.append(table(caption, rows, numbers, formats))
    if empty := without_gpu(timings(found)):
        columns = dict.fromkeys(f"{name} (images/s)" for name in ("train", "predict", "posterior"))
        rows = [
            {"program": title(program), "device": "GPU", "measured": NO_GPU} | columns
            for program in empty
        ]
        numbers = [comparison.record.number for comparison in found]
        tables.append(table("On a GPU", rows, numbers))
    return tables


def _heading(comparison: Comparison) -> str:
    samples = f", {comparison.samples} samples" if comparison.samples else ""
    return f"{comparison.task.replace('_', ' ')}{samples} (images/s)"


def _speeds(speeds: list[Comparison], program: str, precision: str) -> dict[str, float | None]:
    """Task -> images a second of `program`, of the last of `speeds` that it took part in."""
    found = dict.fromkeys(map(_heading, speeds))
    for comparison in speeds:
        for timing in comparison.timings:
            if (timing.program, timing.precision) == (program, precision) and timing.speed:
                found[_heading(comparison)] = timing.speed.middle
    return found


def _comparison_table(comparison: Comparison) -> Table:
    others = [name for name in OURS if comparison.of(name)] if comparison.ratios else []
    rows = [_comparison_row(comparison, timing, others) for timing in ranked(comparison)]
    formats = {
        "images/s": ",.0f",
        "first call (s)": ".2f",
        "import (s)": ".2f",
        "share of the floor (%)": ".0f",
    }
    formats |= {f"times {title(name)}": ".2f" for name in others}
    made = table(f"{capital(comparison.words)}", rows, [comparison.record.number], formats)
    return replace(made, facets=comparison.facets, faceted=("precision",))


def _comparison_row(comparison: Comparison, timing: Timing, others: list[str]) -> dict:
    share, steady = timing.number("floor_share"), timing.entry.get("steady")
    columns = {"seconds": timing.time} if comparison.task in TIMED else {"images/s": timing.speed}
    return {
        "program": timing.title,
        "whose": "peer" if timing.peer else "ours",
        "precision": timing.precision,
        "compiled": timing.compiled,
        **columns,
        **{
            f"times {title(name)}": comparison.ratios.get((timing.program, name)) for name in others
        },
        "share of the floor (%)": None if share is None else 100 * share,
        "first call (s)": timing.number("first_seconds"),
        "import (s)": timing.number("import_seconds"),
        "steady": {True: "yes", False: "no"}.get(steady, ""),
        "disturbed": timing.number("disturbed"),
    }


def _comparison_figure(comparison: Comparison) -> list[Figure]:
    seconds = comparison.task in TIMED
    rows = []
    for timing in ranked(comparison):
        measured = timing.time if seconds else timing.speed
        if measured:
            label = timing.title
            if timing.precision not in ("float32", timing.title.rpartition(", ")[2]):
                label = f"{label}, {timing.precision}"
            facets = (("precision", timing.precision),)
            ends = (measured.low, measured.high)
            rows.append(Row(label, timing.backend, [measured.middle], ends, timing.peer, facets))
    if not rows:
        return []
    of = (comparison.task, comparison.size, comparison.batch, comparison.samples or 0)
    name = f"speed-{'-'.join(map(str, of))}-{comparison.record.number}"
    caption = (
        f"{capital(comparison.words)}: the median, and the tenths at either end; peers are pale"
    )
    axis = "seconds (less is better)" if seconds else "images/s"
    made = bar_figure(name, caption, rows, axis, [comparison.record.number])
    return [replace(made, facets=comparison.facets)]


def _missing(record_set: RecordSet) -> list[Table]:
    rows = [
        {
            "program": title(str(entry.get("program"))),
            "task": str(entry.get("task") or ""),
            "image size (px)": record.at("run.model.image_size"),
            "batch": record.at("run.bench.batch_size"),
            "reason": str(entry.get("reason") or ""),
            "record": record.number,
        }
        for record, entry in missing(record_set)
    ]
    numbers = [record.number for record, _ in missing(record_set)]
    return [table("Not timed, and why", rows, numbers)] if rows else []


def _ceilings(record_set: RecordSet) -> list[Table]:
    rows, numbers = [], []
    for record in record_set.of("bench"):
        found = record.at("results.ceilings")
        if not isinstance(found, dict):
            continue
        clock = record.at("results.machine.clock_mhz") or (None, None)
        flops, copied = found.get("matmul_flops"), found.get("copy_bytes")
        rows.append(
            {
                "record": record.number,
                "processor": record.text("host.processor"),
                "arithmetic (GFLOP/s)": flops and flops / 1e9,
                "memory (GB/s)": copied and copied / 1e9,
                "how": str(found.get("how") or ""),
                "clock, lowest (MHz)": clock[0],
                "clock, highest (MHz)": clock[-1],
                "others' cores, most": record.at("results.machine.other_cores"),
            }
        )
        numbers.append(record.number)
    return [table("The machine's own peak, measured beside", rows, numbers)] if rows else []


def capital(text: str) -> str:
    """`text` with a capital first."""
    return text[:1].upper() + text[1:]
