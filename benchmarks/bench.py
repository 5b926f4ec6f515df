"""The task `bench`: programs timed interleaved, each in a process of its own; see METHOD.md beside this file.

This process imports no framework. For each task it opens every program, one after the other, lets each do its first
call and warm up, and then gives each its turn, A B C A B C, round after round; while one works, the others wait.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import combinations, permutations
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from benchmarks import load
from benchmarks.child import Missing, child
from benchmarks.floor import floor_seconds
from benchmarks.programs import Program, program_of, run_of
from benchmarks.programs.ours import TASKS
from benchmarks.timed import BEGUN, STARTUP
from shared.run.launch import child_environment
from shared.run.progress import say
from shared.run.records import write_json
from shared.run.spec import RunSpec, one_of, to_config

AGAINST = {
    "posterior": "predict",
    "epoch": "epoch_memory",
}  # measured against the other, which does the rest


class Opened(NamedTuple):
    """A program that has done its first call and is warm."""

    begun: list[
        dict
    ]  # import_seconds, first_seconds, warmup_calls, steady: of its process, or of each of them
    turn: Callable[[], tuple[list[float], load.Turn]]  # the seconds of each call of a turn
    about: Callable[[], dict]  # what its process says of itself


def bench(run: RunSpec, folder: Path) -> dict:
    """Time every program and task that the run asks for; ValueError for one that is not there."""
    names = run.bench.programs or (run.backend.name,)
    peers = [name for name in names if program_of(name).peer]
    if peers and run.likelihood.name != "binomial":
        raise ValueError(
            f"likelihood.name is {run.likelihood.name}, but {', '.join(peers)} train with the binomial loss: give "
            "likelihood=binomial, so that all do the same work"
        )
    for task in run.bench.tasks:
        one_of("bench.tasks", task, (*TASKS, STARTUP))
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "run.json"
        write_json(file, to_config(run))
        parts = [timed(run, file, tasks, names) for tasks in task_groups(run.bench.tasks)]
    rows = [row for part in parts for row in part["rows"]]
    missing = [entry for part in parts for entry in part["missing"]]
    if not rows:
        raise ValueError(f"nothing could be timed: {missing[0]['reason']}")
    ceilings = highest([ceiling for part in parts for ceiling in part["ceilings"]])
    for row in rows:
        least = floor_seconds(row["flops"], row["bytes"], ceilings)
        share = None if least is None else least / row["median_seconds"]
        row |= {"floor_seconds": least, "floor_share": share}
    results = {
        "rows": rows,
        "ratios": [ratio for part in parts for ratio in ratios(part["rows"])],
        "costs": [cost for part in parts for cost in costs(part["rows"])],
        "missing": missing,
        "ceilings": ceilings,
        "machine": machine([state for part in parts for state in part["machine"]]),
        "price_per_hour": run.bench.price_per_hour,
        "peak_memory_bytes": max(row["peak_memory_bytes"] for row in rows),
        "summary": ", ".join(
            f"{row['program']} {row['task']} {row['images_per_second']:.0f}/s" for row in rows
        ),
    }
    return {"where": rows[0]["where"], "results": results}


def task_groups(tasks: tuple[str, ...]) -> list[tuple[str, ...]]:
    """`tasks` in groups that take turns in the same rounds: each alone, but with what it is told against."""
    found = []
    for task in tasks:
        others = [other for other in tasks if AGAINST.get(task) == other]
        if not any(AGAINST.get(other) == task for other in tasks):
            found.append(tuple(sorted((task, *others), key=tasks.index)))
    return found


def timed(run: RunSpec, file: Path, tasks: tuple[str, ...], names: tuple[str, ...]) -> dict:
    """`tasks` by the programs called `names`: their rows, who is missing, and the machine as it was meanwhile."""
    there: dict[tuple[str, str], Opened] = {}
    missing, turns = [], []
    with ExitStack() as stack:
        for task, name in ((task, name) for task in tasks for name in names):
            say(f"{task}: {name}")
            open_it = fresh if task == STARTUP else kept
            try:
                there[task, name] = open_it(stack, run, file, name, task)
            except Missing as reason:
                missing.append({"program": name, "task": task, "reason": str(reason)})
        devices = [opened.about()["where"]["device"] for opened in there.values()]
        roof = stack.enter_context(roof_process(run, devices)) if there else None
        states, ceilings = [], []
        for number in range(run.bench.rounds if there else 0):
            say(f"{', '.join(tasks)}: round {number + 1} of {run.bench.rounds}")
            ceilings.append(roof.ask("now"))
            turns.append({})
            for (task, name), opened in list(there.items()):
                try:
                    turns[-1][task, name] = opened.turn()
                except Missing as reason:  # it ended before its last turn
                    missing.append({"program": name, "task": task, "reason": str(reason)})
                    del there[task, name]
            others = [turn.other_cores for _, turn in turns[-1].values()]
            states.append((load.clock_mhz(), load.celsius(), others))
        rows = [
            row(run, *key, opened, opened.about(), [turn[key] for turn in turns])
            for key, opened in there.items()
        ]
    for task in tasks:
        count_peers([row for row in rows if row["task"] == task])
    return {"rows": rows, "missing": missing, "ceilings": ceilings, "machine": states}


# Processes


def program_process(run: RunSpec, file: Path, name: str, task: str):
    """The process of the program called `name`, for `task` of the run in `file`; it has yet to say that it has opened
    it.
    """
    program = program_of(name)
    python = run.bench.pythons.get(name) or sys.executable
    words = [python, "-m", "benchmarks.timed", str(file), name, task]
    environment = environment_of(run, program) | {BEGUN: str(time.monotonic())}
    return child(words, environment, run.bench.patience)


def environment_of(run: RunSpec, program: Program) -> dict[str, str]:
    """What `program`'s process finds: `run`'s threads and allocator, and what its framework wants."""
    return child_environment(to_config(run_of(run, program))["backend"])


def roof_process(run: RunSpec, devices: list[str]):
    """The process that measures the ceilings of what programs compute on, who call it `devices`."""
    device = "cpu" if set(devices) == {"cpu"} else "gpu"
    words = [sys.executable, "-m", "benchmarks.ceilings", run.backend.precision, device]
    return child(words, child_environment(to_config(run)["backend"]))


def kept(stack: ExitStack, run: RunSpec, file: Path, name: str, task: str) -> Opened:
    """A program whose process, once warm, takes turn after turn; Missing if it cannot."""
    process = stack.enter_context(program_process(run, file, name, task))
    begun = process.read() | {"first_seconds": process.ask("first")["seconds"]}
    warm = process.ask(f"warm {run.bench.warmup}")
    begun |= {"warmup_calls": warm["calls"], "steady": warm["steady"]}

    def turn():
        before = load.read([process.process.pid])
        spent = process.ask(f"turn {run.bench.repeats}")["seconds"]
        return spent, load.between(before, load.read([process.process.pid]))

    return Opened([begun], turn, lambda: process.ask("about"))


def fresh(stack: ExitStack, run: RunSpec, file: Path, name: str, task: str) -> Opened:
    """A program that starts anew at every turn, and ends with its first training step; Missing if it cannot."""
    begun, abouts = [], []

    def turn():
        with program_process(run, file, name, task) as process:
            before = load.read([process.process.pid])
            opened = process.read() | {"first_seconds": process.ask("first")["seconds"]}
            spent = time.monotonic() - process.begun
            state = load.between(before, load.read([process.process.pid]))
            begun.append({**opened, "warmup_calls": 0, "steady": True})
            abouts.append(process.ask("about"))
        return [spent], state

    turn()  # files that no process has read yet are read from disk
    begun.clear()
    return Opened(begun, turn, lambda: abouts[-1])


# Numbers


def row(run: RunSpec, task: str, name: str, opened: Opened, about: dict, turns: list) -> dict:
    """All that was found of one program at one task: `about` it, and the `turns` that it took."""
    program, where = program_of(name), about.pop("where")
    every = np.concatenate([spent for spent, _ in turns])
    middle, low, high = np.quantile(every, [0.5, 0.1, 0.9]).tolist()
    energies = [turn.joules for _, turn in turns]
    joules = None if None in energies else sum(energies) / len(every)
    return {
        "program": name,
        "backend": program.backend,
        "peer": program.peer,
        "task": task,
        "image_size": run.model.image_size,
        "batch_size": run.bench.batch_size,
        "samples": run.posterior.samples if task == "posterior" else None,
        **{key: where[key] for key in ("precision", "compiled", "device", "threads")},
        **{
            key: median(one[key] for one in opened.begun)
            for key in ("import_seconds", "first_seconds")
        },
        "warmup_calls": opened.begun[-1]["warmup_calls"],
        "steady": opened.begun[-1]["steady"],
        "seconds": [spent for spent, _ in turns],
        "median_seconds": middle,
        "p10_seconds": low,
        "p90_seconds": high,
        "images_per_second": about["images"] / middle,
        **about,
        "energy_joules": joules,
        "disturbed": sum(turn.disturbed for _, turn in turns),
        "where": where,
    }


def count_peers(rows: list[dict]) -> None:
    """Count the work of peers among the `rows` of a task as that of ours, galaxy by galaxy: it is the same job."""
    ours = next((row for row in rows if not row["peer"]), None)
    for peer in (row for row in rows if row["peer"] and ours):
        for name in ("flops", "bytes"):
            peer[name] = ours[name] and ours[name] / ours["images"] * peer["images"]


def ratios(rows: list[dict]) -> list[dict]:
    """How many times as fast one of two `rows` of a task is, round by round: the median, the least and the most.

    Our own are compared with each other, and with the peers on the same framework; those of unequal precision never.
    """
    found = []
    for one, other in combinations(rows, 2):
        if one["peer"] and not other["peer"]:
            one, other = other, one
        ours = not other["peer"] or (not one["peer"] and one["backend"] == other["backend"])
        if ours and all(one[key] == other[key] for key in ("task", "precision")):
            found.append(compared(one, other, {"against": other["program"]}))
    return found


def costs(rows: list[dict]) -> list[dict]:
    """How many times as fast each program is at a task as at the one that this is told against: AGAINST, in `rows`."""
    return [
        compared(one, other, {"against_task": other["task"]})
        for one, other in permutations(rows, 2)
        if AGAINST.get(one["task"]) == other["task"] and one["program"] == other["program"]
    ]


def compared(one: dict, other: dict, against: dict) -> dict:
    """The ratio of images a second of two rows, within rounds; `against` says what the other is."""
    rates = [
        (one["images"] / median(mine)) / (other["images"] / median(theirs))
        for mine, theirs in zip(one["seconds"], other["seconds"], strict=True)
    ]
    names = ("task", "image_size", "batch_size", "samples", "precision", "program")
    about = {key: one[key] for key in names} | against
    return about | {"median": median(rates), "low": min(rates), "high": max(rates)}


def highest(found: list[dict]) -> dict:
    """The best of all ceilings that were `found`, and every one of them in turn."""
    names = ("matmul_flops", "copy_bytes")
    best = {name: max((one[name] for one in found if one[name]), default=None) for name in names}
    every = [[one[name] for name in names] for one in found]
    return {**best, "how": found[-1]["how"], "rounds": every}


def machine(states: list[tuple]) -> dict:
    """The machine over all rounds, whose `states` are (clock, heat, cores that others used in each turn)."""
    clocks, heats = (
        [state[part] for state in states if state[part] is not None] for part in (0, 1)
    )
    others = [cores for state in states for cores in state[2] if cores is not None]
    return {
        "clock_mhz": [min(clocks), max(clocks)] if clocks else None,
        "celsius": [min(heats), max(heats)] if heats else None,
        "other_cores": max(others, default=None),
    }
