"""How far each framework is from the specification, and what rounding makes of training in float32.

The suite is of the records of `trizoo conform`. What takes longer to measure lies below the same folder in files of
its own: trajectories.json and equivalence.json of the benchmarks of these names, mutants.json of tests/mutants.py.
"""

from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullLocator

from reports.blocks import (
    NOTHING,
    Figure,
    NumberText,
    Section,
    Table,
    bare,
    from_files,
    number,
    prose,
    table,
)
from reports.figures import BACKENDS, OTHER, drawn_figure
from reports.provenance import versions
from reports.runs import TITLES, Record, RecordSet, command, files, gathered
from shared.proof.conformance import CHECKS, DOUBLE, EXACT, TOLERANCES

TITLE = "Conformance"
KINDS = {  # of a framework against itself: what was changed, and how its band is filled
    "ulp": ("first weights moved by one ulp", "-", 0.30),
    "permuted": ("rows of batches permuted", ":", 0.12),
    "control": ("another form of Adam's epsilon", "--", 0.0),
}


def conformance(record_set: RecordSet) -> Section:
    """The suite, the float32 trajectories, the final losses and the planted mistakes."""
    found = [
        record
        for record in record_set.of("conform")
        if isinstance(record.at("results.checks"), list)
    ]
    blocks = [*suites(record_set, found), *ports(record_set.of("conform"))]
    readers = {"trajectories": trajectories, "equivalence": equivalence, "mutants": mutants}
    for name, reader in readers.items():
        for origin, content in files(record_set, f"{name}.json").items():
            blocks += [from_files(block, origin) for block in reader(origin, content)]
    if not blocks:
        return bare(
            TITLE, "No record of a suite; `trizoo conform backend=tf,torch,jax -m` makes them."
        )
    return Section(TITLE, tuple(blocks))


# The suite


def suites(record_set: RecordSet, found: list[Record]) -> list:
    """A table per device, image size and precision, and the records that they are of."""
    if not found:
        return []
    used = latest(found)
    words = prose(
        "Every framework is compared with the specification, a float64 program in numpy, and never "
        "with another framework. An error is the largest difference as a share of the largest "
        "value of the specification; of what must be equal bit for bit it is how many numbers differ.",
        f"{NOTHING} is a check that no record has: nothing is filled in. Of several records of one "
        "framework, precision, device and image size the one that started last is shown, which "
        "need not be of the same commit as its neighbours: see the list of suites.",
    )
    places = gathered(used, place)
    tables = [
        suite(where, precision, places[where])
        for where in sorted(places, key=lambda where: where[0] != "cpu")
        for precision in dict.fromkeys([*TOLERANCES, *(record.precision for record in used)])
        if (where[0] == "cpu" and precision in TOLERANCES)
        or any(record.precision == precision for record in places[where])
    ]
    if any(record.precision not in TOLERANCES for record in used):
        tables.insert(
            0, prose("Neither TF32 nor bfloat16 has a tolerance: float32's stands there.")
        )
    return [words, *tables, compares(used), measurements(found, used)]


def place(record: Record) -> tuple[str, str]:
    """Which suites may stand side by side: (device, image size)."""
    return record.text("where.device"), record.text("run.model.image_size")


def latest(found: Iterable[Record]) -> list[Record]:
    """The record of each framework, precision, device and image size that started last."""
    alike = gathered(found, lambda record: (*place(record), record.precision, record.backend))
    return [
        max(records, key=lambda record: (record.at("started") or "", record.number))
        for records in alike.values()
    ]


def suite(where: tuple[str, str], precision: str, used: list[Record]) -> Table:
    """Every check at one `precision`: its error in each framework, the tolerance and the verdict."""
    records = [record for record in used if record.precision == precision]
    by_name = {record.backend: checks(record) for record in records}
    names = list(dict.fromkeys([*TITLES, *by_name]))
    measured = [check for check in CHECKS if precision == "float64" or check not in DOUBLE]
    rows = []
    for check in dict.fromkeys([*measured, *(check for one in by_name.values() for check in one)]):
        entries = {name: by_name.get(name, {}).get(check) for name in names}
        errors = {TITLES.get(name, name): error(entries[name]) for name in names}
        rows.append(
            {"check": spoken(check)}
            | errors
            | {"tolerance": tolerance(entries), "verdict": verdict(entries)}
        )
    device, size = where
    caption = f"The suite in {precision}, {size} x {size} pixels, {device}"
    return table(caption, rows, (record.number for record in records))


def compares(used: list[Record]) -> Table:
    """What every check compares, in the words of the function that does it."""
    names = dict.fromkeys([*CHECKS, *(check for record in used for check in checks(record))])
    rows = [{"check": spoken(check), "what is compared": meaning(check)} for check in names]
    return table("The checks", rows, (record.number for record in used))


def checks(record: Record) -> dict[str, dict]:
    """The entry of each check of a suite."""
    return {entry["check"]: entry for entry in record.at("results.checks")}


def spoken(check: str) -> str:
    """A check's name in words."""
    return check.replace("_", " ")


def meaning(check: str) -> str:
    """The first line of what a check's function says of itself; nothing for a check that is no more."""
    return (
        (CHECKS[check].__doc__ or NOTHING).strip().splitlines()[0] if check in CHECKS else NOTHING
    )


def error(entry: dict | None) -> str:
    """The error of a check as text; what JSON cannot say was infinite."""
    if entry is None:
        return NOTHING
    value = entry["error"]
    if value is None:
        return "not finite"
    if entry["tolerance"] == 0:
        return NumberText("equal" if value == 0 else f"{value:.0f} differ", value)
    return NumberText(f"{value:.1e}" if value else "0", value)


def tolerance(entries: dict[str, dict | None]) -> str:
    """What the error may be; by framework, if their records do not say the same."""
    texts = {name: tolerance_text(entry) for name, entry in entries.items() if entry}
    if len(set(texts.values())) > 1:
        return ", ".join(f"{TITLES.get(name, name)} {text}" for name, text in texts.items())
    return next(iter(texts.values()), NOTHING)


def tolerance_text(entry: dict) -> str:
    """The tolerance of one entry as text."""
    if entry["tolerance"] is None:
        return "none"
    return "equal" if entry["tolerance"] == 0 else f"{entry['tolerance']:.0e}"


def verdict(entries: dict[str, dict | None]) -> str:
    """What became of a check: ok, ok of some, or who is over the tolerance."""
    there = {name: entry for name, entry in entries.items() if entry}
    over = [TITLES.get(name, name) for name, entry in there.items() if entry["verdict"] != "ok"]
    if over:
        return f"OVER: {', '.join(over)}"
    if not there:
        return NOTHING
    return "ok" if len(there) == len(entries) else f"ok ({len(there)} of {len(entries)})"


def measurements(found: list[Record], used: list[Record]) -> Table:
    """Every suite: what it is of, how long it took, and whether it is shown."""
    rows = [
        {
            "record": record.number,
            "framework": record.title,
            "precision": record.precision,
            "image size (px)": record.at("run.model.image_size"),
            "within tolerance": within(checks(record).values()),
            "time (s)": record.at("results.seconds") or total(checks(record).values()),
            "shown": "yes" if record in used else "no, a later one is",
            "versions": versions(record.at("where") or {}),
            "device": record.at("where.device"),
            "processor": record.at("host.processor"),
            "commit": record.at("host.commit"),
            "started": record.at("started"),
            "command": command(record),
        }
        for record in found
    ]
    numbers = (record.number for record in found)
    return table("Suites", rows, numbers, {"time (s)": ".1f"}, code=("command",))


def within(entries: Iterable[dict]) -> str:
    """How many of `entries` are ok."""
    verdicts = [entry["verdict"] == "ok" for entry in entries]
    return f"{sum(verdicts)} of {len(verdicts)}"


def total(entries: Iterable[dict]) -> float | None:
    """The seconds of all `entries`; None if one does not say."""
    seconds = [entry.get("seconds") for entry in entries]
    return sum(seconds) if all(map(number, seconds)) else None


def ports(found: list[Record]) -> list[Table]:
    """How programs in other languages did with the kit: the arrays of each check, the worst of them."""
    tables = []
    for record in found:
        arrays = record.at("results.arrays")
        if not isinstance(arrays, list):
            continue
        by_check = gathered(arrays, lambda entry: entry["check"])
        rows = [
            {
                "check": spoken(check),
                "arrays within tolerance": within(entries),
                "worst array": worst["array"],
                "error": worst["verdict"]
                if worst["error"] is None
                else NumberText(f"{worst['error']:.1e}", worst["error"]),
                "tolerance": tolerance_text(worst),
            }
            for check, entries in by_check.items()
            for worst in [max(entries, key=excess)]
        ]
        caption = f"The kit as another program answers it ({record.place})"
        tables.append(table(caption, rows, [record.number]))
    return tables


def excess(entry: dict) -> tuple[bool, float]:
    """How bad an array is: first whether it is over its tolerance, then its error as a share of that."""
    error = float("inf") if entry["error"] is None else entry["error"]
    return entry["verdict"] != "ok", error / (entry["tolerance"] or 1)


# What was measured apart


def trajectories(origin: str, found: dict) -> list:
    """Divergence after so many steps: every two frameworks, and each of itself after a change of rounding."""
    median, steps = found["median"], [str(step) for step in found["steps"]]
    rows = [
        {"of": compared(name), "change": KINDS[kind][0] if kind else "the framework"}
        | {f"after {step}": values.get(step) for step in steps}
        for name, values in median.items()
        for kind in [name.partition(" ")[2]]
    ]
    ratios = [
        {"of": compared(name)}
        | {f"after {step}": values.get(step) for step in steps}
        | {"allowed": found["factor"]}
        | {"verdict": "ok" if max(values.values()) <= found["factor"] else "OVER"}
        for name, values in found["ratio"].items()
    ]
    runs = [
        {
            "framework": TITLES.get(name, name),
            "versions": versions(where),
            "device": where.get("device"),
            "processor": found["hosts"][name].get("processor"),
            "commit": found["hosts"][name].get("commit"),
            "time (s)": found["seconds"][name],
        }
        for name, where in found["where"].items()
    ]
    words = prose(
        "In float32 no framework's weights are the right ones: Adam divides a gradient by its own size, so "
        "that a rounding error grows. The measure is what rounding alone does to one framework: first "
        "weights moved by one unit in the last place (ulp), or the rows of every batch permuted. "
        "Divergence is the root mean square of the difference of two trainings' weights, as a share of that of "
        "what training changed: 0 is the same, √2 unrelated."
    )
    about = f"median of {found['seeds']} seeds ({origin})"
    small = dict.fromkeys((f"after {step}" for step in steps), ".2g")
    short = dict.fromkeys(small, ".2f")
    return [
        words,
        drawn(origin, found),
        table(f"Divergence in float32 after so many steps, {about}", rows, [], small),
        table(
            f"Divergence of two frameworks over the larger of their own, {about}", ratios, [], short
        ),
        table(
            f"Trainings of {origin}, by python -m benchmarks.trajectories",
            runs,
            [],
            {"time (s)": ".0f"},
        ),
    ]


def compared(name: str) -> str:
    """What a comparison called `name` is of: jax-tf, tf ulp."""
    ends = name.partition(" ")[0].split("-")
    return " and ".join(TITLES.get(end, end) for end in ends)


def drawn(origin: str, found: dict) -> Figure:
    """The divergence of every two frameworks as lines striped in the colours of both, on bands of their own."""
    median, steps = found["median"], found["steps"]
    pairs = [name for name in median if " " not in name]

    def draw(plot: Axes) -> None:
        handles = []
        for kind, (words, dashes, alpha) in KINDS.items():
            own = [values for name, values in median.items() if name.endswith(f" {kind}")]
            there = [step for step in steps if own and all(str(step) in one for one in own)]
            if not there:
                continue
            low, high = (
                [end(one[str(step)] for one in own) for step in there] for end in (min, max)
            )
            plot.fill_between(there, low, high, color=OTHER, alpha=alpha, linewidth=0)
            for edge in (low, high):
                plot.plot(there, edge, dashes, color=OTHER, linewidth=0.8)
            handles.append(
                Patch(
                    facecolor=(OTHER, alpha),
                    edgecolor=OTHER,
                    linestyle=dashes,
                    label=f"itself: {words}",
                )
            )
        for name in pairs:
            one, other = (BACKENDS.get(end, OTHER) for end in name.split("-"))
            line = {"color": one, "gapcolor": other, "linestyle": (0, (4, 4)), "linewidth": 1.8}
            values = [median[name][str(step)] for step in steps]
            plot.plot(steps, values, **line)
            handles.append(Line2D([], [], **line, label=compared(name)))
        plot.set(xscale="log", yscale="log", xlabel="steps of training", ylabel="divergence")
        plot.set_xticks(steps, [str(step) for step in steps])
        plot.xaxis.set_minor_locator(NullLocator())
        plot.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        below = {"loc": "upper center", "bbox_to_anchor": (0.45, -0.14), "ncols": 2}
        plot.legend(handles=handles, handlelength=2.2, **below)

    name = f"divergence-{''.join(letter if letter.isalnum() else '-' for letter in origin)}"
    caption = f"Divergence of two float32 trainings, median of {found['seeds']} seeds; bands: the three frameworks"
    return drawn_figure(name, caption, (5.6, 4.2), draw, [])


def equivalence(origin: str, found: dict) -> list[Table]:
    """Whether training in float32 comes to equally good networks."""
    rows = []
    for name, pair in found["pairs"].items():
        low, high = pair["interval"]
        rows.append(
            {
                "of": compared(name),
                "mean difference": NumberText(f"{pair['mean']:+.4f}", pair["mean"]),
                "90 % interval": NumberText(f"{low:+.4f} to {high:+.4f}", pair["mean"], low, high),
                "margin": f"± {found['margin']:g}",
                "verdict": "equivalent" if pair["equivalent"] else "NOT shown",
            }
        )
    caption = f"Final test loss in nats, a paired equivalence test ({origin})"
    return [table(caption, rows, [])]


def mutants(origin: str, found: list | dict) -> list:
    """The planted mistakes, each with the check that must see it, and the checks that none was planted for."""
    entries = found["mutants"] if isinstance(found, dict) else found
    rows = [
        {
            "mistake": entry["mutant"],
            "check": spoken(entry["check"]),
            "error": killed_by(entry),
            "tolerance": tolerance_text(
                {"tolerance": TOLERANCES["float64"].get(entry["check"], 0)}
            ),
            "verdict": "seen" if seen(entry) else "NOT SEEN",
        }
        for entry in entries
    ]
    without = [
        spoken(check) for check in CHECKS if check not in {entry["check"] for entry in entries}
    ]
    missed = sum(not seen(entry) for entry in entries)
    words = prose(
        f"Mistakes that a port could make were planted on purpose, one at a time: {len(rows) - missed} of "
        f"{len(rows)} are seen by the check that should see them, in float64. "
        + (
            f"None was planted for {', '.join(without)}."
            if without
            else "Every check has one at least."
        )
    )
    return [words, table(f"Planted mistakes ({origin})", rows, [])]


def killed_by(entry: dict) -> str:
    """The error that a planted mistake made."""
    if not number(entry["error"]):
        return "not finite"
    value = entry["error"]
    return NumberText(f"{value:.0f} differ" if entry["check"] in EXACT else f"{value:.1e}", value)


def seen(entry: dict) -> bool:
    """Whether a planted mistake put its check over the tolerance."""
    return not number(entry["error"]) or entry["error"] > TOLERANCES["float64"].get(
        entry["check"], 0
    )
