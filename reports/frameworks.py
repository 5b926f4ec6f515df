"""comparison.html: which framework, on which hardware, for training, prediction and posteriors; then why.

Programs took turns, so that a ratio is of speeds within a round; repeats of the same conditions are pooled.
"""

from itertools import groupby

from markupsafe import Markup

from reports.comparisons import (
    OURS,
    Pooled,
    comparisons,
    missing,
    of_fits,
    on_gpu,
    pooled,
    reference,
    task_words,
    title,
)
from reports.conformance import conformance, equality
from reports.html import bar, compact, details, filter_box, section, table, tag
from reports.numbers import Range, significant
from reports.runs import TITLES, RecordSet, command, gathered, versions

ANSWER = {"train": "Training", "predict": "Prediction", "posterior": "Posteriors"}
TITLE = "Which framework?"
UNIT = "images/s"
FITS = "these are speeds of fits, which did not take turns; trizoo bench compares frameworks within rounds."


def comparison(record_set: RecordSet) -> list[Markup]:
    """The body of the page; nothing where no benchmark or suite is among the records."""
    timed = comparisons(record_set)
    found = pooled(timed or of_fits(record_set))
    evidence = [
        *_rests_on(record_set, found, bool(timed)),
        section("Do the three say the same?", *conformance(record_set)),
        section("The records", _records(record_set)),
    ]
    if not found and not evidence[-2]:
        return []
    best = _references(found)
    names = [TITLES[name] for name in OURS if any(name in pool.ours for pool in found)]
    names += [title(program) for pool in found for program, _ in pool.rows if program not in OURS]
    top = tag("header", tag("h1", TITLE), tag("nav", tag("a", "Your runs", href="report.html")))
    answer = [_chart(best), _sentences(record_set, best, bool(timed))]
    return [top, tag("main", *answer, filter_box(names), *evidence)]


def _references(found: list[Pooled]) -> dict[str, dict[str, Pooled]]:
    """Machine -> task -> the comparison that answers for it, CPUs first."""
    machines = gathered(found, lambda pool: pool.first.place)
    order = sorted(machines, key=lambda name: on_gpu(machines[name][0].first.timings[0]))
    return {name: made for name in order if ANSWER.keys() & (made := reference(machines[name]))}


# The answer


def _chart(best: dict[str, dict[str, Pooled]]) -> Markup | None:
    """Images a second of every framework, task and machine, as bars within the columns of a table."""
    if not best:
        return None
    tasks = [task for task in ANSWER if any(task in chosen for chosen in best.values())]
    names = [
        name for name in OURS if any(name in p.ours for c in best.values() for p in c.values())
    ]
    heads = [tag("th", name, scope="col") for name in ("Hardware", *map(ANSWER.get, tasks))]
    bodies = []
    for machine, chosen in best.items():
        conditions = tag("td", tag("strong", machine))
        notes = [
            tag("td", _conditions(chosen.get(task)), class_="note", data_task=ANSWER[task])
            for task in tasks
        ]
        rows = [tag("tr", conditions, *notes, class_="machine")]
        for name in names:
            cells = [_bar(chosen.get(task), task, name) for task in tasks]
            rows.append(tag("tr", tag("th", TITLES[name], scope="row"), *cells))
        bodies.append(tag("tbody", *rows))
    caption = "Galaxies a second, the same network in each framework: longer is faster"
    head = tag("thead", tag("tr", *heads))
    return tag("table", tag("caption", caption), head, *bodies, class_="answer", id="answer")


def _conditions(pool: Pooled | None) -> str:
    if pool is None:
        return "not timed"
    repeats = f", {len(pool.repeats)} runs" if len(pool.repeats) > 1 else ""
    return f"{pool.first.of_size}, {pool.precision}{repeats}"


def _bar(pool: Pooled | None, task: str, name: str) -> Markup:
    speed = pool and pool.measured(name, pool.precision)
    if not pool or not speed:
        return tag("td", tag("span", "not timed", class_="none"), data_task=ANSWER[task])
    there = [pool.measured(other, pool.precision) for other in pool.ours]
    most = max((one.middle for one in there if one), default=0.0)
    return tag(
        "td",
        bar(speed.middle, most, significant(speed.middle), name),
        data_task=ANSWER[task],
        data_v=f"{speed.middle:.6g}",
        data_name=TITLES[name],
        data_ratios=_ratios(pool, name),
    )


def _ratios(pool: Pooled, program: str) -> str:
    return compact({key: [*ratio] for key, ratio in _against(pool, program).items()})


def _against(pool: Pooled, program: str) -> dict[str, Range]:
    """By the names of others, how many times as fast as they `program` is."""
    return {title(b): ratio for (a, b), ratio in pool.ratios.items() if a == program}


def _sentences(record_set: RecordSet, best: dict, turns: bool) -> Markup | None:
    """Training; prediction and posteriors; what else there is to choose by."""
    tasks = {"Training": ("train",), "Prediction and posteriors": ("predict", "posterior")}
    lines = [] if turns or not best else [("Training and posteriors", FITS)]
    for what, some in tasks.items():
        parts = []
        for machine, chosen in best.items():
            told = [(task, _verdict(chosen[task])) for task in some if task in chosen]
            words = [
                f"in {ANSWER[task].lower()} {text}" if len(some) > 1 else text
                for task, text in told
                if text
            ]
            if words:
                parts.append(f"on {machine}, {' and '.join(words)}")
        if parts:
            lines.append((what, f"{'; '.join(parts)}."))
    memory = [text for chosen in best.values() if (text := _thriftiest(chosen))][:1]
    if said := [*memory, *filter(None, [equality(record_set)])]:
        lines.append(("What else", f"{'; '.join(said)}."))
    items = [tag("li", tag("strong", f"{what}: "), text) for what, text in lines]
    return tag("ul", *items, class_="findings", id="findings") if items else None


def _verdict(pool: Pooled) -> str | None:
    """Who is fastest within rounds, and who cannot be told from that."""
    if not pool.leader:
        return None
    best, ratios = pool.leader
    level = [TITLES[name] for name, ratio in ratios.items() if ratio.low <= 1]
    beaten = [f"{_times(ratio)} {TITLES[name]}" for name, ratio in ratios.items() if ratio.low > 1]
    if not level:
        return f"{TITLES[best]} is fastest, {' and '.join(beaten)}"
    *most, last = [TITLES[best], *level]
    alike = f"{', '.join(most)} and {last} cannot be told apart"
    return f"{alike} ({TITLES[best]} is {' and '.join(beaten)})" if beaten else alike


def _times(ratio: Range) -> str:
    return f"{ratio.middle:.2f} ({ratio.low:.2f} to {ratio.high:.2f}) times"


def _thriftiest(chosen: dict[str, Pooled]) -> str | None:
    pool = chosen.get("train")
    if not pool:
        return None
    peaks = {name: _peak(pool, name, pool.precision) for name in pool.ours}
    there = sorted((peak, name) for name, peak in peaks.items() if peak)
    if len(there) < 2:
        return None
    words = [f"{TITLES[name]} {peak:.2f}" for peak, name in there]
    return f"training takes, in GB, {', '.join(words)}"


def _peak(pool: Pooled, program: str, precision: str) -> float | None:
    found = [t.number("peak_memory_bytes") for t in pool.rows.get((program, precision), ())]
    return max((value / 1e9 for value in found if value), default=None)


# What it rests on


def _rests_on(record_set: RecordSet, found: list[Pooled], turns: bool) -> list[Markup]:
    """Every timing, a table for each machine and task; and what could not be timed; whether they took `turns`."""
    words = tag(
        "p",
        "Programs take turns, A B C A B C, each in a process of its own, at the same size, batch and threads. A speed "
        "is that of the median call (in brackets: the slow and the fast tenth); a ratio is of speeds within a round, "
        "so that a machine that slows down slows both. Repeats are pooled: their median, and of three or more the "
        "range of their medians; one is faster where that range is above 1. Share of the floor: the time that the "
        "machine's own peak would need for the same arithmetic and memory traffic, over the time taken.",
    )
    words = words if turns else None
    blocks = []
    for place, some in groupby(sorted(found, key=_order), key=lambda pool: pool.first.place):
        tables = [
            details(_summary(task, alike), _timings(task, alike), of=f"{task} {place}")
            for task, alike in gathered(some, lambda pool: pool.first.task).items()
        ]
        blocks.append(tag("div", tag("h3", place), *tables, class_="group"))
    if rows := _untimed(record_set):
        blocks.append(details(f"Not timed, and why: {len(rows)}", table("Not timed", rows)))
    return [section("Every timing", words, *blocks)] if blocks else []


def _order(pool: Pooled) -> tuple:
    return on_gpu(pool.first.timings[0]), pool.first.place


def _summary(task: str, alike: list[Pooled]) -> str:
    sizes = ", ".join(dict.fromkeys(pool.first.of_size for pool in alike))
    if len(sizes) > 60:
        sizes = f"{len(alike)} sizes and batches"
    programs = {program for pool in alike for program, _ in pool.rows}
    return f"{task_words(task)}: {len(programs)} programs at {sizes}"


def _timings(task: str, alike: list[Pooled]) -> Markup:
    rows = []
    for pool in alike:
        for (program, precision), some in pool.rows.items():
            shares = [t.number("floor_share") for t in some]
            known = [100 * share for share in shares if share is not None]
            first = some[0]
            rows.append(
                {
                    "program": title(program),
                    "whose": "peer" if first.peer else "ours",
                    "at": pool.first.of_size,
                    "network": pool.first.network,
                    "precision": precision,
                    "compiled": first.compiled,
                    "seconds" if pool.seconds else UNIT: pool.measured(program, precision),
                    "share of the floor (%)": max(known, default=None),
                    "first call (s)": first.number("first_seconds"),
                    "peak memory (GB)": _peak(pool, program, precision),
                    "energy (J)": first.number("energy_joules"),
                    "disturbed turns": sum(t.number("disturbed") or 0 for t in some) or None,
                    "runs": len(some),
                    "ratios": _against(pool, program) if pool.ratios else None,
                }
            )
    if len({row["network"] for row in rows}) == 1:
        rows = [{key: value for key, value in row.items() if key != "network"} for row in rows]
    forms = {"share of the floor (%)": ".0f", "first call (s)": ".2f"}
    caption = f"{task_words(task)}, {alike[0].first.place}"
    return table(caption[:1].upper() + caption[1:], rows, forms, "program")


def _untimed(record_set: RecordSet) -> list[dict]:
    rows = [
        {
            "program": title(str(entry.get("program"))),
            "task": str(entry.get("task") or ""),
            "image size (px)": record.at("run.model.image_size"),
            "why": str(entry.get("reason") or ""),
        }
        for record, entry in missing(record_set)
    ]
    return list({tuple(row.items()): row for row in rows}.values())


def _records(record_set: RecordSet) -> Markup | None:
    rows = [
        {
            "record": record.place,
            "machine": record.computer,
            "versions": versions(record.at("where") or {}),
            "commit": record.at("host.commit"),
            "started": record.at("started"),
            "command": tag("code", command(record)),
        }
        for record in record_set.of("bench", "conform")
    ]
    return details(f"{len(rows)} records", table("Benchmarks and suites", rows)) if rows else None
