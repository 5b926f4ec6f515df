"""How far each framework is from the specification and from the others: suites, trainings, planted mistakes.

The suite is of the records of `trizoo conform`. What takes longer to measure lies below the same folder in files of
its own: trajectories.json and equivalence.json of the benchmarks of these names, mutants.json of tests/mutants.py.
"""

from collections.abc import Iterable

from markupsafe import Markup

from reports.agreement import apart
from reports.charts import Line, chart
from reports.html import details, figure, table, tag
from reports.numbers import NOTHING, cell, number
from reports.runs import TITLES, Record, RecordSet, files, gathered
from shared.proof.conformance import CHECKS, DOUBLE, EXACT, TOLERANCES

KINDS = {"ulp": ":", "permuted": "-.", "control": "--"}  # of a framework against itself
MEANINGS = {
    "ulp": "itself, first weights moved by one ulp",
    "permuted": "itself, rows of batches permuted",
    "control": "itself, another form of Adam's epsilon",
}
UNTESTED = "not tested"
PAIRS = 30  # of posteriors that are compared, which takes time


def conformance(record_set: RecordSet) -> list[Markup]:
    """Suites, ports, posteriors, trajectories, final losses and planted mistakes, as far as records have them."""
    used = latest(_suites(record_set))
    places = gathered(used, lambda r: (r.text("where.device"), r.text("run.model.image_size")))
    blocks = []
    for (device, size), records in sorted(places.items(), key=lambda item: -len(item[1])):
        counts = [
            f"{within(entry for record in some for entry in checks(record).values())} in {precision}"
            + ("" if precision in TOLERANCES else " (by the tolerance of float32)")
            for precision, some in gathered(records, lambda record: record.precision).items()
        ]
        name = f"Within tolerance of the specification, {device}, {size} px: {', '.join(counts)}"
        blocks.append(details(name, _suite(records, name), of=f"suite {device} {size}"))
    blocks += [details("A port in another language", _port(r)) for r in record_set.of("conform")]
    if rows := _posteriors(record_set):
        blocks.append(details("Posteriors of two frameworks, trained from the same seed", rows))
    readers = {
        "equivalence": ("Is training in float32 as good? Final test loss", _equivalence),
        "trajectories": ("How trainings in float32 drift apart", _trajectories),
        "mutants": ("Mistakes planted to see whether the checks see them", _mutants),
    }
    for name, (title, reader) in readers.items():
        for content in files(record_set, f"{name}.json").values():
            blocks.append(details(title, *reader(content)))
    return [block for block in blocks if block]


def equality(record_set: RecordSet) -> str | None:
    """What all of that says, in one sentence; what was not tested is not said to be equal."""
    parts = []
    for precision, records in gathered(latest(_suites(record_set)), lambda r: r.precision).items():
        missing = [
            title for name, title in TITLES.items() if name not in {r.backend for r in records}
        ]
        untested = f" ({' and '.join(missing)} {UNTESTED})" if missing else ""
        if precision in TOLERANCES:
            entries = [entry for record in records for entry in checks(record).values()]
            parts.append(f"{within(entries)} in {precision}{untested}")
    words = []
    if parts:
        words.append(f"results within the specification's tolerance: {', '.join(parts)}")
    pairs = [p for f in files(record_set, "equivalence.json").values() for p in f["pairs"].values()]
    if pairs:
        good = sum(pair["equivalent"] for pair in pairs)
        words.append(
            f"training in float32 is shown to end equally well for {good} of {len(pairs)} pairs"
        )
    return "; ".join(words) or None


def _suites(record_set: RecordSet) -> list[Record]:
    return [r for r in record_set.of("conform") if isinstance(r.at("results.checks"), list)]


def latest(found: Iterable[Record]) -> list[Record]:
    """The record of each framework, precision, device and image size that started last."""
    paths = ("where.device", "run.model.image_size")
    alike = gathered(found, lambda r: (*map(r.text, paths), r.precision, r.backend))
    return [
        max(records, key=lambda record: (record.at("started") or "", record.number))
        for records in alike.values()
    ]


def checks(record: Record) -> dict[str, dict]:
    """The entry of each check of a suite."""
    return {entry["check"]: entry for entry in record.at("results.checks")}


def within(entries: Iterable[dict]) -> str:
    """How many of `entries` are ok."""
    verdicts = [entry["verdict"] == "ok" for entry in entries]
    return f"{sum(verdicts)} of {len(verdicts)}"


def _suite(records: list[Record], caption: str) -> Markup:
    """Every check: its error in each framework and precision, and what became of it."""
    columns = {(r.backend, r.precision): checks(r) for r in records}
    known = list(TOLERANCES)
    precisions = sorted({p for _, p in columns}, key=lambda p: known.index(p) if p in known else 9)
    rows = []
    for check in dict.fromkeys([*CHECKS, *(name for one in columns.values() for name in one)]):
        row: dict = {"check": spoken(check)}
        over, untested, done = [], [], 0
        for precision in precisions:
            for name, title in TITLES.items():
                entry = columns.get((name, precision), {}).get(check)
                heading = f"{title}, {precision}"
                row[heading] = error(entry)
                if entry is None:
                    if check not in DOUBLE or precision == "float64":
                        untested.append(heading)
                elif entry["verdict"] == "ok":
                    done += 1
                else:
                    over.append(heading)
        row["verdict"] = verdict(over, untested, done)
        row["what is compared"] = meaning(check)
        rows.append(row)
    return table(caption, rows)


def verdict(over: list[str], untested: list[str], done: int) -> str:
    """What became of a check: ok of all, who is over the tolerance, or in what it was not tested."""
    if over:
        return f"OVER: {'; '.join(over)}"
    if not done:
        return UNTESTED
    return f"ok, but {UNTESTED}: {'; '.join(untested)}" if untested else "ok"


def spoken(check: str) -> str:
    """A check's name in words."""
    return check.replace("_", " ")


def meaning(check: str) -> str:
    """The first line of what a check's function says of itself; nothing for a check that is no more."""
    doc = CHECKS[check].__doc__ if check in CHECKS else None
    return (doc or NOTHING).strip().splitlines()[0]


def error(entry: dict | None) -> str:
    """The error of a check as text; what JSON cannot say was infinite."""
    if entry is None:
        return UNTESTED
    value = entry["error"]
    if value is None:
        return "not finite"
    if entry["tolerance"] == 0:
        return "equal" if value == 0 else f"{value:.0f} differ"
    return f"{value:.1e}" if value else "0"


def _port(record: Record) -> Markup | None:
    """How a program in another language did with the kit: the worst array of each check."""
    arrays = record.at("results.arrays")
    if not isinstance(arrays, list):
        return None
    rows = [
        {
            "check": spoken(check),
            "arrays within tolerance": within(entries),
            "worst array": worst["array"],
            "error": worst["verdict"] if worst["error"] is None else f"{worst['error']:.1e}",
            "tolerance": "none" if worst["tolerance"] is None else f"{worst['tolerance']:.0e}",
        }
        for check, entries in gathered(arrays, lambda entry: entry["check"]).items()
        for worst in [max(entries, key=_excess)]
    ]
    return table(f"The kit as another program answers it ({record.place})", rows)


def _excess(entry: dict) -> tuple[bool, float]:
    value = float("inf") if entry["error"] is None else entry["error"]
    return entry["verdict"] != "ok", value / (entry["tolerance"] or 1)


def _posteriors(record_set: RecordSet) -> Markup:
    rows = [
        {"frameworks": " and ".join(TITLES.get(name, name) for name in pair["backends"])}
        | {key: value for key, value in pair.items() if key != "backends"}
        for pair in apart(record_set, PAIRS)
    ]
    caption = "Held-out galaxies; differences are of the share of yes votes"
    return table(caption, rows, {"rank correlation": ".4f", "same majority (%)": ".2f"})


def compared(name: str) -> str:
    """What a comparison called `name` is of: jax-tf, tf ulp."""
    return " and ".join(TITLES.get(end, end) for end in name.partition(" ")[0].split("-"))


def _trajectories(found: dict) -> list[Markup]:
    """Divergence after so many steps: every two frameworks, and each of itself after a change of rounding."""
    lines = []
    for name, values in found["median"].items():
        pair, _, kind = name.partition(" ")
        there = [
            (step, values[str(step)]) for step in found["steps"] if number(values.get(str(step)))
        ]
        x, y = zip(*there, strict=True) if there else ((), ())
        backend = pair if kind else ""
        lines.append(
            Line(
                backend,
                x,
                y,
                None,
                KINDS.get(kind, "-"),
                MEANINGS.get(kind, compared(name)),
                not kind,
            )
        )
    caption = f"Divergence of two float32 trainings, median of {found['seeds']} seeds"
    words = tag(
        "p",
        "In float32 no framework's weights are the right ones: Adam divides a gradient by its own size, so that a "
        "rounding error grows. The measure is what rounding alone does to one framework. Divergence is the root mean "
        "square of the difference of two trainings' weights, over that of what training changed: 0 is the same, √2 "
        "unrelated.",
    )
    rows = [
        {"of": compared(name)}
        | {f"after {step}": values.get(str(step)) for step in found["steps"]}
        | {
            "allowed": found["factor"],
            "verdict": "ok"
            if max(filter(number, values.values()), default=float("inf")) <= found["factor"]
            else "OVER",
        }
        for name, values in found["ratio"].items()
    ]
    forms = {f"after {step}": ".2f" for step in found["steps"]}
    drawn = figure(chart(caption, lines, ("steps of training", "divergence"), log=True), caption)
    return [
        words,
        drawn,
        table("Divergence of two frameworks over the larger of their own", rows, forms),
    ]


def _equivalence(found: dict) -> list[Markup]:
    rows = [
        {
            "of": compared(name),
            "mean difference (nats)": pair["mean"],
            "90 % interval": "{:+.4f} to {:+.4f}".format(*pair["interval"]),
            "margin": f"± {found['margin']:g}",
            "verdict": "equivalent" if pair["equivalent"] else "NOT shown",
        }
        for name, pair in found["pairs"].items()
    ]
    return [table("A paired equivalence test", rows, {"mean difference (nats)": "+.4f"})]


def _mutants(found: list | dict) -> list[Markup]:
    """The planted mistakes, each with the check that must see it, and the checks that none was planted for."""
    rows = []
    for entry in found["mutants"] if isinstance(found, dict) else found:
        value, check = entry["error"], entry["check"]
        seen = not number(value) or value > TOLERANCES["float64"].get(check, 0)
        shown = f"{value:.0f} differ" if check in EXACT and number(value) else cell(value)
        told = {"error": shown if number(value) else "not finite"}
        rows.append(
            {"mistake": entry["mutant"], "check": spoken(check)}
            | told
            | {"verdict": "seen" if seen else "NOT SEEN"}
        )
    return [table(f"{sum(r['verdict'] == 'seen' for r in rows)} of {len(rows)} are seen", rows)]
