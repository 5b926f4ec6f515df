"""What was timed together: the rows of a benchmark's record, and which of them may be compared.

A comparison is a task of one record at one size and batch: programs that took turns. Rows of two comparisons were
measured at two times, so no ratio is ever made of them. A record of one program alone (rows that name none) is read as
a comparison that has no ratios.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from reports.numbers import NOTHING, Range, number
from reports.runs import TITLES, Record, RecordSet, gathered

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
USUAL = 30  # samples of a posterior
ENOUGH = 3  # repeats, whose medians tell how far another one may be off
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
    def key(self) -> tuple[str, str]:
        """What is pooled: the program and what it computed in."""
        return self.program, self.precision

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
    def of_size(self) -> str:
        """Image size, batch and samples in words."""
        samples = f", {self.samples} samples" if self.samples else ""
        return f"{self.size or NOTHING} px, batch {self.batch or NOTHING}{samples}"

    @property
    def conditions(self) -> tuple:
        """What repeats have in common: they are pooled."""
        return self.place, self.network, self.task, self.size, self.batch, self.samples

    @property
    def network(self) -> str:
        """What was trained, where the record says it."""
        name = self.record.at("run.model.name")
        return str(name or self.record.text("run.model.blocks"))

    def plain(self) -> list[dict]:
        """Its rows as plain numbers."""
        about = {"machine": self.place, "task": self.task, "network": self.network}
        about |= {"image_size": self.size, "batch_size": self.batch, "samples": self.samples}
        keys = (
            "images_per_second",
            "median_seconds",
            "p10_seconds",
            "p90_seconds",
            "first_seconds",
        )
        keys += ("floor_share", "peak_memory_bytes", "energy_joules")
        return [
            about
            | {"program": t.program, "precision": t.precision, "record": self.record.place}
            | {key: t.number(key) for key in keys}
            for t in self.timings
        ]

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
    """The machine of `timing`: its GPU, or its processor and threads."""
    processor, threads = (
        timing.record.text("host.processor"),
        timing.entry.get("threads") or timing.record.at("where.threads"),
    )
    if on_gpu(timing):
        return timing.device
    name = "CPU" if processor == NOTHING else f"{processor} CPU"
    return f"{name} ({threads} threads)" if threads else name


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


def of_fits(record_set: RecordSet) -> list[Comparison]:
    """What fits of one setting on one computer say of their speed, of two frameworks or more.

    They did not take turns, so there are no ratios of them.
    """
    found = []
    for alike in gathered(record_set.of("fit"), lambda r: (r.setting, r.computer)).values():
        if len({record.backend for record in alike}) > 1:
            size, samples = (
                alike[0].at(f"run.{name}") for name in ("model.image_size", "posterior.samples")
            )
            batch = alike[0].at("run.training.batch_size")
            timed = {
                "train": ("images_per_second", 1, None),
                "posterior": ("sample_seconds", "sampled_galaxies", samples),
            }
            for task, (key, images, count) in timed.items():
                rows = []
                for record in alike:
                    value = record.at(f"results.{key}")
                    galaxies = record.at(f"results.{images}") if isinstance(images, str) else images
                    if number(value) and value and number(galaxies):
                        seconds = 1 / value if task == "train" else value
                        memory = record.at("results.peak_memory_bytes")
                        entry = {
                            "median_seconds": seconds,
                            "images": galaxies,
                            "peak_memory_bytes": memory,
                        }
                        rows.append(Timing(record, entry))
                if rows:
                    found.append(Comparison(alike[0], task, size, batch, count, rows))
    return found


def _key(row: dict) -> tuple:
    return tuple(row.get(name) for name in ("task", "image_size", "batch_size", "samples"))


def _order(comparison: Comparison) -> tuple:
    tasks = list(TASKS)
    task = tasks.index(comparison.task) if comparison.task in TASKS else len(tasks)
    sizes = (comparison.size or 0, comparison.batch or 0, comparison.samples or 0)
    return task, comparison.task, comparison.place, *sizes, comparison.record.number


@dataclass(frozen=True, eq=False)
class Pooled:
    """Repeats of one comparison, the programs of each having taken turns."""

    repeats: list[Comparison]

    @property
    def first(self) -> Comparison:
        """What all of them are repeats of."""
        return self.repeats[0]

    @cached_property
    def rows(self) -> dict[tuple[str, str], list[Timing]]:
        """(program, precision) -> its timings, the fastest first."""
        found = gathered((t for c in self.repeats for t in c.timings), lambda t: t.key)
        return dict(sorted(found.items(), key=lambda item: spent(item[1], self.seconds)))

    @property
    def seconds(self) -> bool:
        """Whether it is told in seconds, not in images a second."""
        return self.first.task in TIMED

    def measured(self, program: str, precision: str) -> Range | None:
        """Images a second, or seconds: the median over repeats, and the tenths farthest out."""
        each = [
            t.time if self.seconds else t.speed for t in self.rows.get((program, precision), ())
        ]
        there = [one for one in each if one]
        if not there:
            return None
        lows, highs = (
            [min(one.low, one.high) for one in there],
            [max(one.low, one.high) for one in there],
        )
        return Range(median(one.middle for one in there), min(lows), max(highs))

    @cached_property
    def ratios(self) -> dict[tuple[str, str], Range]:
        """(program, other) -> how many times as fast, within rounds.

        The median over repeats, and the range of the repeats' medians; of few repeats that of all rounds.
        """
        found = gathered(
            (item for c in self.repeats for item in c.ratios.items()), lambda item: item[0]
        )
        made = {}
        for key, some in found.items():
            middles = [ratio.middle for _, ratio in some]
            ends = middles if len(some) >= ENOUGH else [e for _, r in some for e in (r.low, r.high)]
            made[key] = Range(median(middles), min(ends), max(ends))
        return made

    @cached_property
    def precision(self) -> str:
        """In what ours are told apart: in float32, else in what the first of them computed in."""
        found = [precision for program, precision in self.rows if program in OURS]
        return "float32" if "float32" in found or not found else found[0]

    @cached_property
    def ours(self) -> list[str]:
        """Our frameworks that took part, in the precision that they are told apart in."""
        return [name for name in OURS if (name, self.precision) in self.rows]

    @cached_property
    def leader(self) -> tuple[str, dict[str, Range]] | None:
        """The fastest of ours and its ratio to each other of ours; None without ratios of them."""
        full = {}
        for one in self.ours:
            others = {other: self.ratios.get((one, other)) for other in self.ours if other != one}
            if others and all(others.values()):
                full[one] = others
        if not full:
            return None
        best = max(full, key=lambda one: min(ratio.middle for ratio in full[one].values()))
        return best, full[best]


def spent(some: list[Timing], whole: bool) -> float:
    """Seconds of a galaxy, or of the `whole`, by the median of repeats."""
    times = [t.seconds / (1 if whole else t.images or 1) for t in some if t.seconds]
    return median(times) if times else math.inf


def pooled(found: Iterable[Comparison]) -> list[Pooled]:
    """The comparisons `found`, repeats together."""
    return [Pooled(some) for some in gathered(found, lambda c: c.conditions).values()]


def reference(found: list[Pooled]) -> dict[str, Pooled]:
    """Task -> its comparison at the network, size and batch at which most was timed, the largest of those.

    Of several numbers of samples the one at which most took part, and then the middle one.
    """
    alike = gathered(found, lambda p: p.first.conditions[:2] + p.first.conditions[3:5])
    best = max(
        alike.values(),
        key=lambda some: (
            any(p.leader for p in some),
            len({p.first.task for p in some}),
            sum(len(p.rows) for p in some),
            some[0].first.size or 0,
            some[0].first.batch or 0,
        ),
        default=[],
    )
    chosen = {}
    for task, some in gathered(best, lambda p: p.first.task).items():
        most = max(len(p.ours) for p in some)
        there = [p for p in some if len(p.ours) == most]
        there.sort(key=lambda p: (abs((p.first.samples or 0) - USUAL), -len(p.rows)))
        chosen[task] = there[0]
    return chosen


def missing(record_set: RecordSet) -> list[tuple[Record, dict]]:
    """(record, program, task and reason) of every program that could not be timed."""
    return [
        (record, entry)
        for record in record_set.of("bench")
        for entry in record.at("results.missing") or ()
        if isinstance(entry, dict)
    ]
