"""What was timed together: the rows of a benchmark's record, and which of them may be compared.

A comparison is a task of one record at one size and batch: programs that took turns. Rows of two comparisons were
measured at two times, so no ratio is ever made of them. A record of one program alone (rows that name none) is read as
a comparison that has no ratios.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from reports.blocks import NOTHING, Range, number
from reports.runs import TITLES, Record, RecordSet, gathered, without
from shared.run.spec import digest

OURS = tuple(TITLES)  # programs that are what a framework does as it comes from this project
NAMES = {
    "plain-torch": "plain PyTorch",
    "plain-flax": "plain Flax",
    "timm": "timm",
    "kimm": "kimm (Keras on TensorFlow)",
    "keras-applications": "keras.applications (on TensorFlow)",
    "flax-networks": "plain Flax",
    "zoobot": "Zoobot",
    "baal": "BaaL",
}
WAYS = {"eager": "eager", "full": "fully compiled", "bf16": "bfloat16"}
TASKS = {
    "train": "training steps, from memory",
    "train_plain": "training steps on images as they are",
    "epoch": "a training epoch, from disk",
    "epoch_memory": "a training epoch, from memory",
    "predict": "prediction, one pass",
    "posterior": "posterior samples",
    "acquisition": "scores of a pool",
    "augment": "views of galaxies",
    "input": "disk to device",
    "round": "a round of active learning",
    "startup": "start-up: import, build, first step",
    "quality": "training to an NLL",
}
APART = (  # of a configuration: what does not tell conditions apart
    "task",
    "seed",
    "bench",
    "backend.name",
    "backend.compiled",
    "backend.precision",
    "backend.python",
    "backend.environment",
    "model.image_size",
    "training.batch_size",
)
FACETED = (
    "task",
    "image size (px)",
    "batch",
    "precision",
    "device",
)  # headings that rows are chosen by
TIMED = ("startup", "round", "quality")  # told in seconds, as they are not of so many images


@dataclass(frozen=True, eq=False)
class Timing:
    """One program's row: `entry` is as the record has it."""

    record: Record
    entry: dict

    @property
    def program(self) -> str:
        """Its short name: torch, keras-tf, ..."""
        return str(self.entry.get("program") or self.record.backend)

    @property
    def backend(self) -> str:
        """The framework that computes."""
        return str(self.entry.get("backend") or self.record.backend)

    @property
    def title(self) -> str:
        """Its name in the report."""
        return title(self.program)

    @property
    def peer(self) -> bool:
        """Whether it is not of this project."""
        return bool(self.entry.get("peer"))

    @property
    def precision(self) -> str:
        """What it computed in."""
        return str(self.entry.get("precision") or self.record.precision)

    @property
    def compiled(self) -> str:
        """How it was compiled, as it says itself."""
        return str(self.entry.get("compiled") or self.record.at("where.compiled") or NOTHING)

    @property
    def device(self) -> str:
        """What it computed on."""
        return str(self.entry.get("device") or self.record.text("where.device"))

    def number(self, key: str) -> float | None:
        """The number called `key`; None if it is not there, or none."""
        value = self.entry.get(key)
        return value if number(value) else None

    @property
    def seconds(self) -> float | None:
        """Of the median call."""
        return self.number("median_seconds")

    @property
    def images(self) -> float | None:
        """Galaxies per call."""
        speed, seconds = self.number("images_per_second"), self.seconds
        known = self.number("images")
        return known or (speed * seconds if speed and seconds else None)

    @property
    def speed(self) -> Range | None:
        """Images a second: of the median call, and of the slow and the fast tenth."""
        images = self.images
        times = [self.number(f"{name}_seconds") for name in ("median", "p90", "p10")]
        if not images or not times[0]:
            return None
        return Range(*(images / (time or times[0]) for time in times))

    @property
    def time(self) -> Range | None:
        """Seconds of a call: the median, and the fast and the slow tenth."""
        times = [self.number(f"{name}_seconds") for name in ("median", "p10", "p90")]
        return Range(*(time or times[0] for time in times)) if times[0] else None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Programs that took turns at one task: `timings`, the first of each program."""

    record: Record
    task: str
    size: int | None
    batch: int | None
    samples: int | None
    timings: list[Timing]

    @property
    def place(self) -> str:
        """The device and what it is of."""
        return place(self.timings[0])

    @property
    def words(self) -> str:
        """What it is, for a caption."""
        samples = f" ({self.samples} a galaxy)" if self.samples else ""
        return f"{task_words(self.task)}{samples}, {self.of_size}, {self.place}"

    @property
    def of_size(self) -> str:
        """Image size and batch in words."""
        return f"{self.size or NOTHING} px, batch {self.batch or NOTHING}"

    @property
    def conditions(self) -> str:
        """The digest of all that was configured but size, batch and programs: what a sweep is made within."""
        return digest(without(self.record.entries, APART))

    @property
    def steps(self) -> int | None:
        """How many training steps a call may do."""
        return self.record.at("run.backend.steps")

    @property
    def facets(self) -> dict[str, str]:
        """What a reader may choose it by."""
        return {
            "task": self.task,
            "image size (px)": str(self.size or NOTHING),
            "batch": str(self.batch or NOTHING),
            "device": self.place,
        }

    def of(self, program: str) -> Timing | None:
        """`program`'s row, if it took part."""
        return next((timing for timing in self.timings if timing.program == program), None)

    @cached_property
    def ratios(self) -> dict[tuple[str, str], Range]:
        """(program, other) -> how many times as fast as the other it is, within rounds: median and range."""
        key = (self.task, self.size, self.batch, self.samples)
        names = ("task", "image_size", "batch_size", "samples")
        found = {}
        for entry in self.record.at("results.ratios") or ():
            ends = [entry.get(end) for end in ("median", "low", "high")]
            if tuple(map(entry.get, names)) != key or not all(number(e) and e > 0 for e in ends):
                continue
            middle, low, high = ends
            one, other = entry["program"], entry["against"]
            found[one, other] = Range(middle, low, high)
            found.setdefault((other, one), Range(1 / middle, 1 / high, 1 / low))
        return found


def title(program: str) -> str:
    """A program's name in words: "PyTorch, eager", "Keras on JAX"."""
    first, _, rest = program.partition("-")
    if program in NAMES:
        return NAMES[program]
    if first == "keras":
        return f"Keras on {TITLES.get(rest, rest)}"
    if first in TITLES:
        return TITLES[first] + (f", {WAYS.get(rest, rest)}" if rest else "")
    return program


def task_words(task: str) -> str:
    """What a task is."""
    return TASKS.get(task, task.replace("_", " "))


def place(timing: Timing) -> str:
    """The device of `timing`, the processor and the threads."""
    threads = timing.entry.get("threads") or timing.record.at("where.threads")
    processor = timing.record.text("host.processor")
    parts = [timing.device] if processor in (NOTHING, timing.device) else [timing.device, processor]
    return ", ".join([*parts, *([f"threads: {threads}"] if threads else [])])


def on_gpu(timing: Timing) -> bool:
    """Whether `timing` is of a GPU."""
    return timing.device not in (NOTHING, "auto") and not timing.device.startswith("cpu")


def comparisons(record_set: RecordSet) -> list[Comparison]:
    """All that was timed, in the order of tasks, sizes and batches."""
    found = []
    for record in record_set.of("bench"):
        rows = record.at("results.rows") or ()
        entries = [row for row in rows if isinstance(row, dict) and row.get("task")]
        for (task, size, batch, samples), alike in gathered(entries, _key).items():
            first = {}
            for row in alike:
                timing = Timing(record, row)
                first.setdefault((timing.program, timing.precision), timing)
            found.append(Comparison(record, str(task), size, batch, samples, list(first.values())))
    return sorted(found, key=_order)


def _key(row: dict) -> tuple:
    return tuple(row.get(name) for name in ("task", "image_size", "batch_size", "samples"))


def _order(comparison: Comparison) -> tuple:
    tasks = list(TASKS)
    task = tasks.index(comparison.task) if comparison.task in TASKS else len(tasks)
    sizes = (comparison.size or 0, comparison.batch or 0, comparison.samples or 0)
    return task, comparison.task, comparison.place, *sizes, comparison.record.number


def ranked(comparison: Comparison) -> list[Timing]:
    """The rows of `comparison`, the fastest first: by seconds of a galaxy, or of the whole where it is TIMED."""

    def spent(timing: Timing) -> float:
        images = 1 if comparison.task in TIMED else timing.images or 1
        return timing.seconds / images if timing.seconds else math.inf

    return sorted(comparison.timings, key=spent)


def timings(found: Iterable[Comparison]) -> list[Timing]:
    """Every row of the comparisons `found`."""
    return [timing for comparison in found for timing in comparison.timings]


def reference(found: list[Comparison]) -> tuple | None:
    """The (place, size, batch) at which most was timed, the largest of those: what answers are given for."""
    alike = gathered(
        found, lambda comparison: (comparison.place, comparison.size, comparison.batch)
    )
    if not alike:
        return None
    return max(
        alike,
        key=lambda key: (
            any(comparison.ratios for comparison in alike[key]),
            len({comparison.task for comparison in alike[key]}),
            sum(len(comparison.timings) for comparison in alike[key]),
            key[1] or 0,
            key[2] or 0,
            key[0],
        ),
    )


def at_reference(found: list[Comparison]) -> dict[str, Comparison]:
    """Task -> its comparison at the reference: in which most of ours took part, then most peers; the last of equals."""
    at, best = reference(found), {}
    for comparison in found:
        if (comparison.place, comparison.size, comparison.batch) == at:
            rival = best.get(comparison.task)
            if rival is None or _turnout(comparison) >= _turnout(rival):
                best[comparison.task] = comparison
    return best


def _turnout(comparison: Comparison) -> tuple[int, int, int]:
    ours = sum(comparison.of(name) is not None for name in OURS)
    return ours, sum(timing.peer for timing in comparison.timings), len(comparison.timings)


def first_choice(found: list[Comparison], *names: str) -> dict[str, str]:
    """What of `names` controls choose at first: training, at the size and batch at which most was timed."""
    first = min(at_reference(found).values(), key=lambda comparison: comparison.task != "train")
    return {name: value for name, value in first.facets.items() if name in names}


def missing(record_set: RecordSet) -> list[tuple[Record, dict]]:
    """(record, program, task and reason) of every program that could not be timed."""
    return [
        (record, entry)
        for record in record_set.of("bench")
        for entry in record.at("results.missing") or ()
        if isinstance(entry, dict)
    ]
