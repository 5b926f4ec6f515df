"""How fast every program is, beside those that it took turns with."""

from dataclasses import replace

from reports.against import dearer, matrix, peers, ways
from reports.blocks import Figure, Section, Table, prose, table
from reports.charts import Row
from reports.comparisons import (
    FACETED,
    OURS,
    TIMED,
    Contest,
    Timing,
    at_reference,
    contests,
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
    """Every contest, ours against peers, and what could not be timed."""
    found = contests(record_set)
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
    for contest in found:
        blocks += [_contest_table(contest), *_contest_figure(contest)]
    blocks += [made for contest in at_reference(found).values() for made in matrix(contest)]
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


def _overview(found: list[Contest]) -> list[Table]:
    """Every program at the size and batch at which most was timed, on every machine; what was not timed is said."""
    tables = []
    for where in dict.fromkeys(contest.place for contest in found):
        here = [contest for contest in found if contest.place == where]
        _, size, batch = reference(here)
        alike = [contest for contest in here if (contest.size, contest.batch) == (size, batch)]
        speeds = [contest for contest in alike if contest.task not in TIMED]
        programs = gathered(timings(alike), lambda t: (t.program, t.precision))
        rows = [
            {"program": title(program), "precision": precision, "compiled": some[0].compiled}
            | _speeds(speeds, program, precision)
            for (program, precision), some in programs.items()
        ]
        numbers = [contest.record.number for contest in alike]
        caption = f"Images a second by task, {alike[0].of_size}, {where}"
        formats = {_heading(contest): ",.0f" for contest in speeds}
        tables.append(table(caption, rows, numbers, formats))
    if empty := without_gpu(timings(found)):
        columns = dict.fromkeys(f"{name} (images/s)" for name in ("train", "predict", "posterior"))
        rows = [
            {"program": title(program), "device": "GPU", "measured": NO_GPU} | columns
            for program in empty
        ]
        numbers = [contest.record.number for contest in found]
        tables.append(table("On a GPU", rows, numbers))
    return tables


def _heading(contest: Contest) -> str:
    samples = f", {contest.samples} samples" if contest.samples else ""
    return f"{contest.task.replace('_', ' ')}{samples} (images/s)"


def _speeds(speeds: list[Contest], program: str, precision: str) -> dict[str, float | None]:
    """Task -> images a second of `program`, of the last of `speeds` that it took part in."""
    found = dict.fromkeys(map(_heading, speeds))
    for contest in speeds:
        for timing in contest.timings:
            if (timing.program, timing.precision) == (program, precision) and timing.speed:
                found[_heading(contest)] = timing.speed.middle
    return found


def _contest_table(contest: Contest) -> Table:
    others = [name for name in OURS if contest.of(name)] if contest.ratios else []
    rows = [_contest_row(contest, timing, others) for timing in ranked(contest)]
    formats = {
        "images/s": ",.0f",
        "first call (s)": ".2f",
        "import (s)": ".2f",
        "share of the floor (%)": ".0f",
    }
    formats |= {f"times {title(name)}": ".2f" for name in others}
    made = table(f"{capital(contest.words)}", rows, [contest.record.number], formats)
    return replace(made, facets=contest.facets, faceted=("precision",))


def _contest_row(contest: Contest, timing: Timing, others: list[str]) -> dict:
    share, steady = timing.number("floor_share"), timing.entry.get("steady")
    columns = {"seconds": timing.time} if contest.task in TIMED else {"images/s": timing.speed}
    return {
        "program": timing.title,
        "whose": "peer" if timing.peer else "ours",
        "precision": timing.precision,
        "compiled": timing.compiled,
        **columns,
        **{f"times {title(name)}": contest.ratios.get((timing.program, name)) for name in others},
        "share of the floor (%)": None if share is None else 100 * share,
        "first call (s)": timing.number("first_seconds"),
        "import (s)": timing.number("import_seconds"),
        "steady": {True: "yes", False: "no"}.get(steady, ""),
        "disturbed": timing.number("disturbed"),
    }


def _contest_figure(contest: Contest) -> list[Figure]:
    seconds = contest.task in TIMED
    rows = []
    for timing in ranked(contest):
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
    name = f"speed-{contest.task}-{contest.size}-{contest.batch}-{contest.samples or 0}-{contest.record.number}"
    caption = f"{capital(contest.words)}: the median, and the tenths at either end; peers are pale"
    axis = "seconds (less is better)" if seconds else "images/s"
    made = bar_figure(name, caption, rows, axis, [contest.record.number])
    return [replace(made, facets=contest.facets)]


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
