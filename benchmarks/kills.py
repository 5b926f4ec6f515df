"""A run that is killed at random moments, and goes on each time, against one that nothing stopped.

    python -m benchmarks.kills backend=tf kills=10 record=kills-tf.json

`task` is fit (default) or active, `record` the file for the JSON; all other words are those of the door. Each kill is
a SIGKILL to the run's process, after at least one new checkpoint and then a random time: mostly as it trains, the last
fifth of a fit as it samples the posterior. Then every file must be the same, byte for byte, and so must every number of
the record: who was acquired, with which score and chance, every measure and digest. Only the seconds that calls and
rounds took, which checkpoints and records keep too, may differ, what is made from them, and the memory.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import safe_open

import trizoo
from shared.records import write_json
from shared.training import CHECKPOINT

SMALL = (
    "dataset.galaxies=200",
    "model.image_size=32",
    "model.blocks=[[8],[8],[8],[8]]",
    "model.dense=32",
    "training.batch_size=32",
    "training.steps=160",
    "training.checkpoint_every=4",
    "training.validate_every=40",
    "backend.steps=2",
    "backend.threads=1",
    "acquisition.initial=32",
    "acquisition.per_round=8",
    "acquisition.rounds=10",
    "acquisition.first_steps=40",
    "acquisition.round_steps=20",
)
RECORD = "record.json"
OF_THE_DAY = (  # results that are other ones the next time, even if nothing stops the run
    "train_seconds",
    "first_call_seconds",
    "sample_seconds",
    "images_per_second",
    "peak_memory_bytes",
    "summary",
)
FILES = {
    "fit": ("weights.safetensors", "losses.parquet", "split.parquet", "posterior.parquet"),
    "active": ("ask_next.csv",),
}


class Kill(NamedTuple):
    """When a run is to be killed."""

    after: int | None  # once a new checkpoint says so many steps or rounds; None: once it samples
    pause: float  # seconds to wait from then on


def main(words: list[str]) -> int:
    """Kill the run that WORDS ask for and print what became of it; 0 if it ended as one that nothing stopped."""
    given = dict(word.split("=", 1) for word in words)
    task, kills = given.pop("task", "fit"), int(given.pop("kills", 10))
    record = given.pop("record", None)
    overrides = [f"{key}={value}" for key, value in given.items()]
    with tempfile.TemporaryDirectory() as place:
        found = compare(Path(place), task, overrides, kills, np.random.default_rng())
    if record:
        write_json(Path(record), found)
    print(json.dumps(found, indent=1))
    return 0 if found["identical"] else 1


def compare(
    place: Path, task: str, overrides: list[str], kills: int, random: np.random.Generator
) -> dict:
    """A run that nothing stopped and one that is killed so many times, in folders of PLACE: in what they differ."""
    begun = time.perf_counter()
    config = trizoo.compose([f"task={task}", *SMALL, f"outputs={place}", *overrides])
    whole, killed = place / "whole", place / "killed"
    for folder in (whole, killed):
        write_json(folder / "run.json", config)
    finish(whole, config)
    plan = moments(
        config, json.loads((whole / "record.json").read_text())["results"], kills, random
    )
    landed = [kill for kill in plan if strike(killed, config, kill)]
    finish(killed, config)
    differing = differences(task, whole, killed)
    return {
        "task": task,
        "backend": config["backend"]["name"],
        "kills": len(landed),
        "killed": [kill._asdict() for kill in landed],
        "identical": not differing,
        "differing": differing,
        "where": json.loads((whole / "record.json").read_text())["where"],
        "seconds": time.perf_counter() - begun,
    }


def moments(config: dict, results: dict, kills: int, random: np.random.Generator) -> list[Kill]:
    """KILLS random moments in their order, for a run like the one of RESULTS.

    Raises ValueError if there are not as many checkpoints.
    """
    if config["task"]["name"] == "fit":
        training, sampling = config["training"], min(kills - 1, -(-kills // 5))
        every, last = training["checkpoint_every"], training["steps"]
        seconds = results["train_seconds"] * every / last
        pauses = sorted(random.uniform(0, 0.5 * results["sample_seconds"], sampling))
    else:
        every, last, pauses = 1, config["acquisition"]["rounds"] + 1, []
        seconds = float(np.mean([entry["seconds"] for entry in results["rounds"]]))
    checkpoints = range(every, last, every)
    if kills - len(pauses) > len(checkpoints):
        raise ValueError(
            f"kills is {kills}, but there are {len(checkpoints)} checkpoints to wait for; ask for fewer kills, or "
            "for more steps or rounds"
        )
    after = sorted(random.choice(checkpoints, kills - len(pauses), replace=False).tolist())
    trained = [Kill(number, random.uniform(0, seconds)) for number in after]
    return trained + [Kill(None, pause) for pause in pauses]


def start(folder: Path, config: dict) -> subprocess.Popen:
    """The process of the run in FOLDER, which goes on where another stopped; its words go to FOLDER.log."""
    python = config["backend"]["python"] or sys.executable
    words = [python, *trizoo.program(), "--run", str(folder)]
    with folder.with_suffix(".log").open("a") as log:
        environment = trizoo.child_environment(config["backend"])
        return subprocess.Popen(words, env=environment, stdout=log, stderr=log)


def finish(folder: Path, config: dict) -> None:
    """Let the run in FOLDER end; RuntimeError, with its last words, if it cannot."""
    if status := start(folder, config).wait():
        last = folder.with_suffix(".log").read_text()[-2000:]
        raise RuntimeError(f"the run in {folder} ended with status {status}:\n{last}")


def strike(folder: Path, config: dict, kill: Kill) -> bool:
    """Start the run in FOLDER and kill it; whether it was still at work then."""
    watched = folder / ("losses.parquet" if kill.after is None else CHECKPOINT)
    before, child = stamp(watched), start(folder, config)
    wait(child, lambda: stamp(watched) != before and reached(watched, kill.after))
    time.sleep(kill.pause)
    child.kill()
    return child.wait() < 0


def wait(child: subprocess.Popen, ready: Callable[[], bool]) -> None:
    """Return as soon as READY says so, or CHILD has ended."""
    while child.poll() is None and not ready():
        time.sleep(0.002)


def stamp(path: Path) -> int:
    """When the file at PATH was written; 0 if it was not."""
    return path.stat().st_mtime_ns if path.exists() else 0


def reached(path: Path, after: int | None) -> bool:
    """Whether the checkpoint at PATH says AFTER steps or rounds, or more."""
    if after is None:
        return True
    about = about_of(path)
    return (len(about["rounds"]) if "rounds" in about else about["step"]) >= after


def about_of(path: Path) -> dict:
    """The facts in a checkpoint."""
    with safe_open(path, "numpy") as file:
        return json.loads(file.metadata()["about"])


def differences(task: str, one: Path, other: Path) -> list[str]:
    """In which of their files two folders of runs differ; seconds aside."""
    names = [
        name for name in FILES[task] if (one / name).read_bytes() != (other / name).read_bytes()
    ]
    if contents(one / CHECKPOINT) != contents(other / CHECKPOINT):
        names.append(CHECKPOINT)
    if numbers(one / RECORD) != numbers(other / RECORD):
        names.append(RECORD)
    return names


def numbers(path: Path) -> str:
    """The results in the record at PATH as JSON, but for OF_THE_DAY."""
    results = json.loads(path.read_text())["results"]
    kept = {key: value for key, value in results.items() if key not in OF_THE_DAY}
    return json.dumps(untimed(kept), sort_keys=True)


def contents(path: Path) -> tuple[dict, dict]:
    """The arrays in a checkpoint, as bytes, and its facts but the seconds."""
    with safe_open(path, "numpy") as file:
        arrays = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
    return arrays, untimed(about_of(path))


def untimed(value):
    """Nested plain data without what is called seconds."""
    if isinstance(value, dict):
        return {key: untimed(entry) for key, entry in value.items() if key != "seconds"}
    return [untimed(entry) for entry in value] if isinstance(value, list) else value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
