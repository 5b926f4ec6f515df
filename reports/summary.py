"""The answer in five lines: which framework for what, what active learning saved, and whether the three are equal.

A line is there only where records exist for it. Benchmarks are compared by ratios within rounds, at the size and batch
at which most was timed; without any by the speeds of fits.
"""

from reports.agreement import pairs_apart
from reports.blocks import Range, Section, bare, measure, prose, significant, table
from reports.comparisons import (
    OURS,
    Comparison,
    at_reference,
    comparisons,
    on_gpu,
    reference,
    title,
)
from reports.conformance import checks, latest
from reports.errors import covered, measured
from reports.learning import acquisition, labels_share
from reports.memory import peak
from reports.runs import TITLES, Record, RecordSet, files, gathered, group, setting
from reports.saved import published_courses
from reports.savings import BASELINE, difference, paired, saving_text, savings
from reports.timings import SPEEDS, alike

TITLE = "The answer in five lines"
LEVEL = 80  # the predicted coverage, in per cent, at which coverage is told


def summary(record_set: RecordSet) -> Section:
    """One line per finding that the records allow, and the fits' numbers."""
    training, posteriors, thrift = _timed(comparisons(record_set))
    learning = _published_labels(record_set) or _labels(record_set)
    findings = (training or _speed(record_set), posteriors, thrift, learning, _equality(record_set))
    lines = [line for line in findings if line]
    rows = [_row(record_set, records) for records in alike(record_set.of("fit"))]
    if not rows and not lines:
        return bare(TITLE, "No record holds a result to compare, so there is no answer yet.")
    blocks = [prose(*lines)] if lines else []
    if rows:
        numbers = [record.number for record in record_set.of("fit")]
        formats = {"RMSE": ".4f", "predicted (%)": ".0f", "observed (%)": ".0f", SPEEDS[0]: ",.0f"}
        caption = (
            "Error on test galaxies; how often their votes were predicted to lie within the "
            f"interval nearest to {LEVEL}%, and how often they did; speed"
        )
        blocks.append(table(caption, rows, numbers, formats))
    return Section(TITLE, tuple(blocks))


# Of benchmarks


def _timed(found: list[Comparison]) -> list[str | None]:
    """The three lines of benchmarks, each of CPUs and then of GPUs."""
    of_gpus = [comparison for comparison in found if on_gpu(comparison.timings[0])]
    of_cpus = [comparison for comparison in found if comparison not in of_gpus]
    each = zip(_benchmarks(of_cpus), _benchmarks(of_gpus), strict=True)
    starts = ("Speed", "Prediction and posteriors", "Start-up and memory")
    return [
        f"{start}: {'; '.join(filter(None, lines))}." if any(lines) else None
        for start, lines in zip(starts, each, strict=True)
    ]


def _benchmarks(found: list[Comparison]) -> list[str | None]:
    """What is said of training, of prediction and posteriors, and of start-up and memory."""
    if not found:
        return [None] * 3
    of = {
        task: _comparison_of(found, task) for task in ("train", "predict", "posterior", "startup")
    }
    parts = (
        [_fastest(of["train"], "in training")],
        [_fastest(of["predict"], "in prediction"), _fastest(of["posterior"], "in posteriors")],
        [_fastest(of["startup"], "in start-up"), _thriftiest(of["train"])],
    )
    there = [[part for part in some if part] for some in parts]
    exact = all(precision(comparison) == "float32" for comparison in of.values() if comparison)
    at = f"({'float32, ' if exact else ''}{reference(found)[0]})"
    lines = [f"{'; '.join(some)} {at}" if some else None for some in there]
    return [lines[0] and lines[0] + _elsewhere(found, of["train"]), *lines[1:]]


def _comparison_of(found: list[Comparison], task: str) -> Comparison | None:
    """The comparison of `task` at the reference, else the last on that machine that tells all of ours apart."""
    here = at_reference(found).get(task)
    if here and leader(here):
        return here
    where = reference(found)[0]
    others = [c for c in found if c.task == task and c.place == where and leader(c)]
    return others[-1] if others else here


def precision(comparison: Comparison) -> str:
    """In what ours are told apart in `comparison`: in float32, else in what the first of them computed in."""
    found = [timing.precision for name in OURS if (timing := comparison.of(name))]
    return "float32" if "float32" in found or not found else found[0]


def leader(comparison: Comparison) -> tuple[str, dict[str, Range]] | None:
    """The fastest of ours in `comparison` and its ratio to each other of ours; None without ratios of them."""
    there = [
        name
        for name in OURS
        if (timing := comparison.of(name)) and timing.precision == precision(comparison)
    ]
    among = {
        one: {
            other: comparison.ratios[one, other]
            for other in there
            if (one, other) in comparison.ratios
        }
        for one in there
    }
    full = {one: found for one, found in among.items() if len(found) == len(there) - 1 > 0}
    if not full:
        return None
    best = max(full, key=lambda one: min(ratio.middle for ratio in full[one].values()))
    return best, full[best]


def _fastest(comparison: Comparison | None, what: str) -> str | None:
    found = leader(comparison) if comparison else None
    if not found:
        return None
    best, ratios = found
    beaten = [f"{times(ratio)} {title(name)}" for name, ratio in ratios.items() if ratio.low > 1]
    level = [f"{times(ratio)} {title(name)}" for name, ratio in ratios.items() if ratio.low <= 1]
    samples = f", {comparison.samples} samples" if comparison.samples else ""
    exact = "" if precision(comparison) == "float32" else f", {precision(comparison)}"
    at = f"{what} at {comparison.of_size}{samples}{exact},"
    if not level:
        return f"{at} {title(best)} is fastest, {' and '.join(beaten)}"
    if not beaten:
        return f"{at} none is shown to be fastest: {title(best)} runs at {' and '.join(level)}"
    return f"{at} {title(best)} is faster, {' and '.join(beaten)}, but is not shown to be at {' and '.join(level)}"


def times(ratio: Range) -> str:
    """A ratio and its range over rounds."""
    return f"{ratio.middle:.2f} ({ratio.low:.2f} to {ratio.high:.2f}) times"


def _elsewhere(found: list[Comparison], here: Comparison | None) -> str:
    """In how many of all trainings the same framework is shown to be fastest; nothing if there is but one."""
    if here is None or not (best := leader(here)):
        return ""
    there = [c for c in found if (c.task, c.place) == ("train", here.place)]
    leaders = [first for c in there if (first := leader(c))]
    if len(leaders) < 2:
        return ""
    shown = [name for name, ratios in leaders if all(ratio.low > 1 for ratio in ratios.values())]
    count = shown.count(best[0])
    return f"; it is shown to be fastest in {count} of the {len(leaders)} trainings timed there"


def _thriftiest(comparison: Comparison | None) -> str | None:
    rows = [row for name in OURS if comparison and (row := comparison.of(name)) and peak(row)]
    if len(rows) < 2:
        return None
    rows.sort(key=peak)
    least, *others = (f"{title(row.program)} {peak(row) / 1e9:.2f} GB" for row in rows)
    at = f"in training at {comparison.of_size}"
    return f"{at}, memory is least by {least}, against {' and '.join(others)}"


# Of active learning


def _published_labels(record_set: RecordSet) -> str | None:
    """What the published pairs of runs say: for how many questions asking pays, and how much."""
    pays, costs, open_ = [], [], []
    courses = [named for found in published_courses(record_set).values() for named in found]
    for runs, name in ((named, name) for named in courses for name in named if name != BASELINE):
        pair = paired(runs[BASELINE], runs[name], "rmse")
        found = savings(pair, (1.0,)) if pair is not None else []
        if not found or len(pair.random) < 2:
            continue
        about = runs[name][0].about
        what = f"{about['dataset']}, {about['question']}"
        _, low, high = difference(pair.other[:, -1] - pair.random[:, -1])
        if high < 0:
            pays.append(f"{what}: {saving_text(found[0])}")
        else:
            (costs if low > 0 else open_).append(what)
    verdicts = [
        ("it saves labels for", pays),
        ("it ends worse for", costs),
        ("nothing is shown either way for", open_),
    ]
    counts = [f"{words} {len(some)} ({'; '.join(some)})" for words, some in verdicts if some]
    count = len(pays) + len(costs) + len(open_)
    if not count:
        return None
    return (
        f"Active learning: of {count} questions {', '.join(counts)}, by the RMSE that random acquisition ended at "
        "(90 % intervals over paired seeds)."
    )


def _labels(record_set: RecordSet) -> str | None:
    runs = [record for record in record_set.of("active") if record.at("results.rounds")]
    shares = []
    for records in gathered(runs, group).values():
        first, needed = records[0], labels_share(runs, records)
        if needed is not None:
            shares.append(
                f"{needed:.0f}% ({acquisition(first)}, {record_set.label(first)}, "
                f"{_settings([record_set.setting(first)])})"
            )
    if not shares:
        return None
    return f"To match the last RMSE of random acquisition took, of its labels, {', '.join(shares)}."


# Of equality


def _equality(record_set: RecordSet) -> str | None:
    parts = [_suites(record_set), _equivalent(record_set), _apart(record_set)]
    there = [part for part in parts if part]
    return f"Equality: {'; '.join(there)}." if there else _errors(record_set)


def _suites(record_set: RecordSet) -> str | None:
    found = [r for r in record_set.of("conform") if isinstance(r.at("results.checks"), list)]
    counts = []
    for precision, records in gathered(latest(found), lambda r: r.precision).items():
        entries = [entry for record in records for entry in checks(record).values()]
        over = sum(entry["verdict"] != "ok" for entry in entries)
        names = ", ".join(dict.fromkeys(TITLES.get(r.backend, r.backend) for r in records))
        by = "" if precision in ("float64", "float32") else ", by the tolerance of float32"
        counts.append(f"{over or 'none'} of {len(entries)} in {precision} ({names}{by})")
    return (
        f"checks over the tolerance of the specification: {', '.join(counts)}" if counts else None
    )


def _equivalent(record_set: RecordSet) -> str | None:
    pairs = [
        p
        for found in files(record_set, "equivalence.json").values()
        for p in found["pairs"].values()
    ]
    if not pairs:
        return None
    good = sum(pair["equivalent"] for pair in pairs)
    return f"float32 training is shown to end equally well for {good} of {len(pairs)} pairs"


def _apart(record_set: RecordSet) -> str | None:
    found = pairs_apart(record_set)
    if not found:
        return None
    median = max(entry["mean: median |difference|"] for entry in found)
    same = min(entry["same majority (%)"] for entry in found)
    return (
        "with the same setting and seed, the posterior means of two backends differ by a median of "
        f"{significant(median)} at most, and at least {same:.1f}% of galaxies have the same "
        f"majority answer (pairs compared: {len(found)})"
    )


def _errors(record_set: RecordSet) -> str | None:
    """Where nothing else tells of equality: whether backends' errors differ by more than those of seeds."""
    closer, further = [], []
    for fits in gathered(record_set.of("fit"), setting).values():
        found = [measured(some, "results.test.rmse") for some in gathered(fits, group).values()]
        found = [error for error in found if error]
        spreads = [error.spread for error in found if error.spread is not None]
        if len(found) < 2 or not spreads:
            continue
        means = [error.mean for error in found]
        verdict = closer if max(means) - min(means) < max(spreads) else further
        verdict.append(record_set.setting(fits[0]))
    lines = [
        f"{where} than the seeds of one backend in {_settings(names)}"
        for where, names in (("closer together", closer), ("further apart", further))
        if names
    ]
    return f"Equality: the backends' mean RMSE lie {', '.join(lines)}." if lines else None


# Of fits


def _row(record_set: RecordSet, records: list[Record]) -> dict:
    first = records[0]
    shares = [share for record in records for share in _nearest(record)]
    return {
        "setting": record_set.setting(first),
        "dataset": first.at("run.dataset.name"),
        "question": first.at("run.question"),
        "image size (px)": first.at("run.model.image_size"),
        "backend": record_set.label(first),
        "RMSE": measured(records, "results.test.rmse"),
        "predicted (%)": measure(predicted for predicted, *_ in shares),
        "observed (%)": measure(seen for _, seen, _ in shares),
        SPEEDS[0]: measured(records, "results.images_per_second"),
    }


def _nearest(record: Record) -> list[tuple[float, float, float | None]]:
    shares = covered(record).values()
    return [min(shares, key=lambda share: abs(share[0] - LEVEL))] if shares else []


def _settings(names: list[str]) -> str:
    return f"setting{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _speed(record_set: RecordSet) -> str | None:
    leaders = []
    machines = gathered(
        record_set.of("fit"), lambda r: (setting(r), r.machine, r.at("run.backend.threads"))
    )
    for fits in machines.values():
        found = [
            (speed.mean, record_set.label(records[0]))
            for records in alike(fits)
            if (speed := measured(records, "results.images_per_second"))
        ]
        if len(found) > 1 and min(found)[0] > 0:
            ratio = max(found)[0] / min(found)[0]
            leaders.append(
                f"{max(found)[1]} in {_settings([record_set.setting(fits[0])])} "
                f"({ratio:.1f} times as fast as {min(found)[1]})"
            )
    return f"Fastest in training: {', '.join(leaders)}." if leaders else None
