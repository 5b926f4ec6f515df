"""Conclusions from the timings, and whether whole runs of them agree: the tables of docs/benchmarks.md and docs/gpu.md.

    RECORDS/first, RECORDS/second, ...: records of `trizoo bench`, made in the same way at other times
    RECORDS/once: what was timed once, on the day of the last of them
    RECORDS/gpu: what was timed on GPUs

A conclusion rests on a ratio within rounds (`results.ratios`), or on what a task costs over another (`results.costs`);
runs agree where there is a ratio that lies in the ranges of them all.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from reports.comparisons import title
from reports.runs import Record, gathered, read_runs

RUNS = ("first", "second", "third", "fourth")
ONCE = "once"
OURS = ("tf", "torch", "jax")
SIZES = (64, 128)
SAMPLES = (5, 15, 30, 200)
TRAINING = {"train": "training", "train_plain": "training without views"}


class Spread(NamedTuple):
    """A ratio of speeds: its median over rounds, and its range."""

    median: float
    low: float
    high: float

    @property
    def inverse(self) -> "Spread":
        """The ratio of times, one over that of speeds."""
        return Spread(1 / self.median, 1 / self.high, 1 / self.low)


class Conclusion(NamedTuple):
    """A ratio that something is concluded from."""

    what: str
    find: Callable[["Run", int], Spread | None]  # in a run, at an image size
    asked: str  # in words
    met: Callable[[float], bool]  # by the median


class Run:
    """All records of one run of the timings: rows, ratios and costs in float32."""

    def __init__(self, folder: Path):
        records = [record for record in read_runs(folder) if record.task == "bench"]
        self.rows = _float32(records, "rows")
        self.ratios = _float32(records, "ratios")
        self.costs = _float32(records, "costs")

    def ratio(self, task: str, size: int, one: str, other: str) -> Spread | None:
        """How many times as fast `one` is as `other`, which took turns at `task`."""
        for entry in self.ratios:
            if (entry["task"], entry["image_size"]) == (task, size):
                spread = Spread(*(entry[key] for key in Spread._fields))
                if (entry["program"], entry["against"]) == (one, other):
                    return spread
                if (entry["program"], entry["against"]) == (other, one):
                    return spread.inverse
        return None

    def cost(self, task: str, size: int, program: str, samples: int = 30) -> Spread | None:
        """How many times as long `program` takes for `task` as for the one that it is told against."""
        for entry in self.costs:
            alike = (entry["task"], entry["image_size"], entry["program"]) == (task, size, program)
            if alike and entry["samples"] in (None, samples):
                return Spread(*(entry[key] for key in Spread._fields)).inverse
        return None

    def row(self, task: str, size: int, program: str, samples: int = 30) -> dict | None:
        """`program`'s row of `task` in batches of 128, of the first record that has one; of `samples`, where it takes
        any.
        """
        wanted = {"task": task, "image_size": size, "program": program, "batch_size": 128}
        for row in self.rows:
            alike = all(row[key] == value for key, value in wanted.items())
            if alike and row["samples"] in (None, samples):
                return row
        return None


def _float32(records: list[Record], name: str) -> list[dict]:
    entries = [entry for record in records for entry in record.at(f"results.{name}") or ()]
    return [entry for entry in entries if entry["precision"] == "float32"]


def _against(task: str, one: str, other: str):
    return lambda run, size: run.ratio(task, size, one, other)


def _costing(task: str, program: str):
    return lambda run, size: run.cost(task, size, program)


def _fastest_over_jax(run: Run, size: int) -> Spread | None:
    found = [spread for one in ("tf", "torch") if (spread := run.ratio("train", size, one, "jax"))]
    return max(found, default=None)


CONCLUSIONS = (
    *(
        Conclusion(
            f"{words}: {title(name)} over {title(f'keras-{name}')}",
            _against(task, name, f"keras-{name}"),
            "at least 1.0",
            lambda value: value >= 1.0,
        )
        for task, words in TRAINING.items()
        for name in OURS
    ),
    Conclusion(
        "training: PyTorch over TensorFlow",
        _against("train", "torch", "tf"),
        "within 1.1",
        lambda value: 1 / 1.1 <= value <= 1.1,
    ),
    Conclusion(
        "training: the fastest over JAX",
        _fastest_over_jax,
        "at most 1.5",
        lambda value: value <= 1.5,
    ),
    *(
        Conclusion(
            f"time of 30 samples over one pass: {title(name)}",
            _costing("posterior", name),
            "at most 1.15",
            lambda value: value <= 1.15,
        )
        for name in OURS
    ),
    Conclusion(
        "30 samples: PyTorch over plain PyTorch's 30 passes",
        _against("posterior", "torch", "plain-torch"),
        "at least 15",
        lambda value: value >= 15,
    ),
    Conclusion(
        "30 samples: PyTorch over BaaL, which keeps its features",
        _against("posterior", "torch", "baal"),
        "",
        lambda value: True,
    ),
    *(
        Conclusion(
            f"time of an epoch from disk over one from memory: {title(name)}",
            _costing("epoch", name),
            "at most 1.05",
            lambda value: value <= 1.05,
        )
        for name in OURS
    ),
)


def conclusions(records: Path) -> list[list[str]]:
    """The table of CONCLUSIONS: what was asked, what each run says, their median, and whether they agree."""
    runs = [Run(records / name) for name in RUNS if (records / name).is_dir()]
    names = [f"{name} run" for name in RUNS[: len(runs)]]
    rows = [["", "px", "target", *names, "median of runs", "met", "runs agree"]]
    for one in CONCLUSIONS:
        for size in SIZES:
            found = [one.find(run, size) for run in runs]
            if not any(found):
                continue
            medians = [spread.median for spread in found if spread]
            middle = median(medians)
            met = f"{'yes' if one.met(middle) else 'no'}{count(list(map(one.met, medians)))}"
            cells = [one.what, str(size), one.asked, *map(spread_text, found), f"{middle:.2f}"]
            rows.append([*cells, met if one.asked else "", agree(found)])
    return rows


def spread_text(spread: Spread | None) -> str:
    """A ratio and its range; nothing where it was not measured."""
    return "" if spread is None else f"{spread.median:.2f} ({spread.low:.2f} to {spread.high:.2f})"


def count(met: list[bool]) -> str:
    """In how many runs it was, unless in all or in none."""
    return "" if sum(met) in (0, len(met)) else f" ({sum(met)} of {len(met)})"


def agree(found: list[Spread | None]) -> str:
    """Whether the ranges of those runs that have it overlap, all of them; nothing where there are not two."""
    there = [spread for spread in found if spread]
    if len(there) < 2:
        return ""
    common = max(spread.low for spread in there) <= min(spread.high for spread in there)
    return "yes" if common else "no"


def newest(records: Path) -> list[Run]:
    """The last of the whole runs that are there, and then what was timed once."""
    whole = [name for name in RUNS if (records / name).is_dir()]
    return [Run(records / name) for name in (whole[-1], ONCE) if (records / name).is_dir()]


def training(records: Path) -> list[list[str]]:
    """The table of trainings: images a second, with the share of the machine's floor in brackets.

    Of the last run, else of what was timed once, ways to compile ours left out.
    """
    runs = newest(records)
    columns = [(task, size) for size in SIZES for task in TRAINING]
    rows = [["", *(f"{TRAINING[task]}, {size} px" for task, size in columns)]]
    for program in dict.fromkeys(row["program"] for run in runs for row in run.rows):
        cells = [
            _speed(_first(run.row(task, size, program) for run in runs)) for task, size in columns
        ]
        other = program.partition("-")[0] in OURS and program not in OURS
        if any(cells) and not other:
            rows.append([title(program), *cells])
    return rows


def parts(records: Path) -> list[list[str]]:
    """The table of what else was timed of ours, in the last run or once: galaxies a second, or seconds."""
    runs = newest(records)
    tasks = {
        "predict": "one pass (/s)",
        "posterior": "30 samples (/s)",
        "epoch": "an epoch from disk (/s)",
        "input": "disk to device alone (/s)",
        "augment": "views alone (/s)",
        "acquisition": "acquisition alone (/s)",
        "round": "a round (s)",
        "startup": "start-up (s)",
    }
    rows = [["", "px", *tasks.values()]]
    for program in OURS:
        for size in SIZES:
            there = {task: _first(run.row(task, size, program) for run in runs) for task in tasks}
            if any(there.values()):
                rows.append([title(program), str(size), *(_part(row) for row in there.values())])
    return _known(rows)


def samples(records: Path) -> list[list[str]]:
    """The table of posteriors by their number of samples: their time over that of one pass, at 64 pixels."""
    runs = newest(records)
    rows = [["", *(f"{count} samples" for count in SAMPLES)]]
    for program in OURS:
        found = [
            _first(run.cost("posterior", 64, program, count) for run in runs) for count in SAMPLES
        ]
        rows.append([title(program), *map(spread_text, found)])
    return _known(rows)


def ways(records: Path) -> list[list[str]]:
    """The table of ways to compile, and of bfloat16: what was timed in turns with them, once, at 64 pixels."""
    benches = [record for record in read_runs(records / ONCE) if record.task == "bench"]
    modes = next(
        record
        for record in benches
        if any(row["program"].endswith("-bf16") for row in record.at("results.rows"))
    )
    missing = {(entry["program"], entry["task"]) for entry in modes.at("results.missing")}
    rows = [["", "compiled", "training (/s)", "first call (s)", "one pass (/s)", "memory (MB)"]]
    found = gathered(modes.at("results.rows"), lambda row: row["program"])
    for program, some in found.items():
        there = {row["task"]: row for row in some}
        train, memory = there.get("train"), max(row["peak_memory_bytes"] for row in some)
        cells = [
            "not timed" if (program, task) in missing else _part(there.get(task))
            for task in ("train", "predict")
        ]
        cells.insert(1, f"{train['first_seconds']:.1f}" if train else "")
        rows.append([title(program), some[0]["compiled"], *cells, f"{memory / 2**20:,.0f}"])
    return rows


def gpu(records: Path) -> list[list[str]]:
    """The table of what was timed on GPUs: images a second, with the share of the GPU's floor in brackets."""
    benches = [record for record in read_runs(records / "gpu") if record.task == "bench"]
    timed = [row for record in benches for row in record.at("results.rows")]
    tasks = {
        "train": "training",
        "epoch": "an epoch from disk",
        "predict": "one pass",
        "posterior": "30 samples",
    }
    keys = ("device", "precision", "image_size", "program")
    found = gathered(timed, lambda row: tuple(row[key] for key in keys))
    rows = [["", "device", "precision", "px", *tasks.values()]]
    for (*where, program), some in sorted(found.items(), key=lambda item: item[0][:-1]):
        there = {row["task"]: row for row in some}
        rows.append(
            [title(program), *map(str, where), *(_speed(there.get(task)) for task in tasks)]
        )
    return rows


def _first(found: Iterable) -> Any:
    return next((one for one in found if one), None)


def _known(rows: list[list[str]]) -> list[list[str]]:
    """`rows` without the columns of which nothing is known."""
    known = [column for column in zip(*rows, strict=True) if any(column[1:])]
    return [list(row) for row in zip(*known, strict=True)]


def _speed(row: dict | None) -> str:
    if row is None:
        return ""
    share = row["floor_share"]
    return f"{row['images_per_second']:,.0f}" + ("" if share is None else f" ({100 * share:.0f} %)")


def _part(row: dict | None) -> str:
    if row is None:
        return ""
    if row["task"] in ("round", "startup"):
        return f"{row['median_seconds']:.1f}"
    return f"{row['images_per_second']:,.0f}"
