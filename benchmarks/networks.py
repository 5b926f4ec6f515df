"""How fast networks train, beside other libraries' modules of the same networks.

    python -m benchmarks.networks record=networks.json networks=resnet18,convnext_nano python=PEERS/bin/python

`record` is the file for the JSON, `networks` and `programs` choose among those of NETWORKS and PROGRAMS, `rounds` says
how often each program is timed, `python` is the interpreter for peers, where they are in an environment of their own
(benchmarks/peers.txt); all other words are those of the door. A peer that is not installed, or has not the network, is
named as missing, with the reason.

One call is one training step, Adam's among it, on a batch of 32 images of 64 pixels in float32; nothing is augmented
(ours resample every image all the same). All programs of a network are opened and warmed up, and then take turns, round
after round, each in a process of its own. Each computes with one thread, and what counts is the processor's time that
its process used: other work on the machine delays a turn, but hardly changes that. Speeds are medians over rounds, in
images for each second of one core; ratios are taken within rounds.
"""

import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.bench import program_process
from benchmarks.child import Child, Missing
from benchmarks.programs import program_of
from conf.compose import compose
from shared.run.errors import complain
from shared.run.progress import say
from shared.run.records import host, write_json
from shared.run.spec import RunSpec, from_config

NETWORKS = ("resnet18", "resnet50", "efficientnet_b0", "convnext_nano")
PROGRAMS = ("torch", "tf", "jax", "timm", "kimm", "keras-applications", "flax-networks")
WORDS = (
    "task=bench",
    "model.image_size=64",
    "model.stochastic_depth=0.0",  # which not every peer has
    "bench.batch_size=32",
    "backend.steps=1",
    "backend.threads=1",
)
TASK = "train_plain"
WARMUP = 3  # calls, at most, until a program is steady


def main(words: list[str]) -> int:
    """Time what `words` ask for, and print it; 2 if it is refused."""
    given = dict(word.split("=", 1) for word in words)
    record, rounds = given.pop("record", None), int(given.pop("rounds", 5))
    networks = given.pop("networks", ",".join(NETWORKS)).split(",")
    programs = given.pop("programs", ",".join(PROGRAMS)).split(",")
    python = given.pop("python", None)
    found = {"networks": {}, "host": host()}
    try:
        pythons = {name: python for name in programs if python and program_of(name).peer}
        for network in networks:
            words = [f"{key}={value}" for key, value in given.items()]
            config = compose([*WORDS, f"model={network}", *words])
            config["bench"] |= {"pythons": pythons, "programs": programs}
            found["networks"][network] = timed(from_config(RunSpec, config), config, rounds)
            if record:  # after each: all together take long
                write_json(Path(record), found)
    except ValueError as error:
        return complain(error)
    print(table(found))
    return 0


def timed(run: RunSpec, config: dict, rounds: int) -> dict:
    """The rows of all programs of `run`, whose `config` they are given, and who is missing, with the reason."""
    there: dict[str, Child] = {}
    first, turns, missing = {}, {}, []
    with ExitStack() as stack:
        file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run.json"
        write_json(file, config)

        def attempt(name: str, call):
            """What `call` gives; the program is missing from now on if it raises Missing."""
            try:
                return call()
            except Missing as reason:
                missing.append({"program": name, "reason": str(reason)})
                there.pop(name, None)

        for name in run.bench.programs:
            say(f"{run.model.name}: {name}")

            def opened(name: str = name) -> None:
                process = stack.enter_context(program_process(run, file, name, TASK))
                process.told()
                first[name] = process.ask("first")["seconds"]
                process.ask(f"warm {WARMUP}")
                there[name], turns[name] = process, []

            attempt(name, opened)
        for number in range(rounds):
            say(f"{run.model.name}: round {number + 1} of {rounds}")
            for name, process in list(there.items()):
                if spent := attempt(name, lambda process=process: turn(process)):
                    turns[name].append(spent)
        rows = [
            row(name, first[name], turns[name], about)
            for name, process in list(there.items())
            if (about := attempt(name, lambda process=process: process.ask("about")))
        ]
    return {
        "image_size": run.model.image_size,
        "batch_size": run.bench.batch_size,
        "precision": run.backend.precision,
        "rows": rows,
        "missing": missing,
    }


def turn(process: Child) -> dict:
    """Seconds of one call, of the clock and of the processor."""
    spent = process.ask("turn 1")
    return {"seconds": spent["seconds"][0], "processor_seconds": spent["processor_seconds"]}


def row(name: str, first: float, turns: list[dict], about: dict) -> dict:
    """What was found of one program."""
    spent = [one["processor_seconds"] for one in turns]
    return {
        "program": name,
        "images": about["images"],
        "images_per_second": about["images"] / median(spent),  # of one core
        "processor_seconds": spent,
        "seconds": [one["seconds"] for one in turns],
        "first_seconds": first,
        "peak_memory_bytes": about["peak_memory_bytes"],
        "where": about["where"],
    }


def ratio(one: dict, other: dict) -> float:
    """How many times as fast the program of a row is as that of another: the median over rounds."""
    pairs = zip(one["processor_seconds"], other["processor_seconds"], strict=True)
    return median(theirs / mine for mine, theirs in pairs)


def table(found: dict) -> str:
    """Images for each second of a core, and how many times as fast ours of the same framework are, as text."""
    lines = []
    for network, part in found["networks"].items():
        ours = {program_of(one["program"]).backend: one for one in part["rows"] if own(one)}
        for one in part["rows"]:
            mine = ours.get(program_of(one["program"]).backend, one)
            faster = "" if own(one) else f", {mine['program']} {ratio(mine, one):.2f} x as fast"
            lines.append(
                f"{network:16} {one['program']:18} {one['images_per_second']:6.1f}/s{faster}"
            )
        lines += [
            f"{network:16} {one['program']:18} missing: {one['reason'][-300:]}"
            for one in part["missing"]
        ]
    return "\n".join(lines)


def own(one: dict) -> bool:
    """Whether a row is of one of our programs."""
    return not program_of(one["program"]).peer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
