"""`trizoo cloud task=...`: a run on a rented machine, which SkyPilot finds, mounts a bucket in, and gives back."""

import re
import shutil
import subprocess
import time
from pathlib import Path

from conf.compose import (
    CONF,
    compose,
    compose_cloud,
    hydra_words,
    key_of,
    known_task,
    read_yaml,
    to_yaml,
)
from reports.scale import expected_hours, pieces
from shared.run.cloud import CloudSpec, job
from shared.run.config import check_used, identity, uses
from shared.run.progress import printable
from shared.run.records import make_folder, write_whole
from shared.run.spec import RunSpec, digest, from_config


def cloud(words: list[str]) -> int:
    """Write the file of a job that does the run of `words` on a rented machine, and launch it if that is asked for.

    What it is expected to take, and what it may cost at most, is printed before. `cloud` and `cloud.KEY` are of the
    rented machine, all else is the run's.
    """
    own = [word for word in words if re.match(r"cloud(=|\.)", word)]
    run_words = [word for word in words if word not in own]
    named = [word for word in run_words if word.startswith("task=")]
    if flags := [word for word in words if word.startswith("-")]:
        raise ValueError(
            f"cloud takes key=value, not {flags[0]}; a sweep is a job for each of its runs"
        )
    if len(named) != 1:
        raise ValueError("say which task the rented machine is to do: trizoo cloud task=fit ...")
    task = named[0].removeprefix("task=")
    known_task(task)
    if outputs := [word for word in run_words if key_of(word) in ("outputs", "folder")]:
        raise ValueError(
            f"leave {outputs[0]} out: the outputs of a rented machine are in cloud.bucket"
        )
    settings, prices = from_config(CloudSpec, compose_cloud(own)), read_yaml(CONF / "prices.yaml")
    words = hydra_words([task, *(word for word in run_words if word not in named)])[1:]
    config = compose([f"task={task}", *words])
    check_used(task, [key_of(word) for word in words])
    from_config(RunSpec, config)
    most = settings.most_dollars(prices)
    name = re.sub(r"[^a-z0-9-]+", "-", f"trizoo-{task}-{digest(identity(config), 8)}")
    words = [task, *words, "outputs=/outputs"]
    if uses(task, "dataset.stores") and not any(key_of(word) == "dataset.stores" for word in words):
        words.append("dataset.stores=/tmp/stores")
    file = Path(config["outputs"]) / "cloud" / f"{name}.yaml"
    made = job(settings, name, f"{int(time.time())}", words, config["backend"]["name"])
    make_folder(file.parent)
    write_whole(file, lambda beside: beside.write_text(to_yaml(made), "utf-8"))
    print(printable(f"{file}\n{estimate(config, settings, prices)}"))
    print(
        f"at most {settings.hours:g} hours and {most:.2f} dollars, storage and traffic not counted"
    )
    if not settings.launch:
        print(printable(f"to launch it: sky jobs launch {file}, or cloud.launch=true"))
        return 0
    sky = shutil.which("sky")
    if sky is None:
        raise ValueError(
            "cloud.launch=true needs SkyPilot's command sky; pip install skypilot in its own environment"
        )
    return subprocess.call([sky, "jobs", "launch", "--yes", "--detach-run", str(file)])


def estimate(config: dict, settings: CloudSpec, prices: dict) -> str:
    """What a run is expected to take and to cost, in a line."""
    kind = (settings.accelerators or "null").split(":")[0]
    speed = prices["speed"].get(kind)
    hours = None if speed is None else expected_hours(config, speed, pieces())
    if hours is None:
        return f"expected: unknown, since no record tells how long this takes on {kind}"
    dollars = hours * settings.price_per_hour(prices)
    return (
        f"expected: {hours:.1f} hours and {dollars:.2f} dollars, from timings on an H200 and {kind}'s "
        f"{speed:g} of its speed, setting up and waiting not counted"
    )
