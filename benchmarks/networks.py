"""How fast networks train, beside other libraries' modules of the same networks.

    pip install timm torchvision kimm
    python -m benchmarks.networks record=networks.json networks=resnet18,convnext_nano rounds=5

`record` is the file for the JSON, `networks` and `programs` choose among those of NETWORKS and PROGRAMS, `rounds` says
how often each program is timed, `python` is the interpreter for peers, where it is another; all other words are those
of the door. A peer that is not installed, or has not the network, is named as missing, with the reason.

One call is one training step, Adam's among it, on a batch of 32 images of 64 pixels in float32; nothing is augmented
(ours resample every image all the same). All programs of a network are opened and warmed up, and then take turns, round
after round, each in a process of its own. Each computes with one thread, and what counts is the processor's time that
its process used: other work on the machine delays a turn, but hardly changes that. Speeds are medians over rounds, in
images for each second of one core; ratios ("times") are taken within rounds.
"""

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
        peers = [name for name in programs if program_of(name).peer]
        for network in networks:
            words = [f"{key}={value}" for key, value in given.items()]
            config = compose([*WORDS, f"model={network}", *words])
            config["bench"] |= {
                "pythons": dict.fromkeys(peers, python) if python else {},
                "programs": programs,
            }
            found["networks"][network] = timed(from_config(RunSpec, config), config, rounds)
            if record:  # after each: all together take long
                write_json(Path(record), found)
    except ValueError as error:
        return complain(error)
    print(table(found))
    return 0


def timed(run: RunSpec, config: dict, rounds: int) -> dict:
    """The rows of all programs of `run`, whose `config` they are given, and which are missing, with the reason."""
    there: dict[str, tuple[Child, float, list[dict]]] = {}
    missing = []
    with ExitStack() as stack:
        file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run.json"
        write_json(file, config)
        for name in run.bench.programs:
            say(f"{run.model.name}: {name}")
            try:
                process = stack.enter_context(program_process(run, file, name, TASK))
                process.read()
                first = process.ask("first")["seconds"]
                process.ask(f"warm {WARMUP}")
                there[name] = process, first, []
            except Missing as reason:
                missing.append({"program": name, "reason": str(reason)})
        for number in range(rounds):
            say(f"{run.model.name}: round {number + 1} of {rounds}")
            for name, (process, _, turns) in list(there.items()):
                try:
                    turns.append(turn(process))
                except Missing as reason:
                    missing.append({"program": name, "reason": str(reason)})
                    del there[name]
        rows = [
            row(name, first, turns, process.ask("about"))
            for name, (process, first, turns) in there.items()
        ]
    compare(rows)
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
    program = program_of(name)
    return {
        "program": name,
        "backend": program.backend,
        "peer": program.peer,
        "images": about["images"],
        "images_per_second": about["images"] / median(spent),  # of one core
        "processor_seconds": spent,
        "seconds": [one["seconds"] for one in turns],
        "first_seconds": first,
        "peak_memory_bytes": about["peak_memory_bytes"],
        "where": about["where"],
    }


def compare(rows: list[dict]) -> None:
    """Note in each row how many times as fast its program is as each other: the median over rounds."""
    for one in rows:
        one["times"] = {}
        for other in (other for other in rows if other is not one):
            pairs = zip(one["processor_seconds"], other["processor_seconds"], strict=True)
            one["times"][other["program"]] = median(theirs / mine for mine, theirs in pairs)


def table(found: dict) -> str:
    """Images for each second of a core, and how many times as fast ours of the same framework is, as text."""
    lines = []
    for network, part in found["networks"].items():
        ours = {one["backend"]: one for one in part["rows"] if not one["peer"]}
        for one in part["rows"]:
            mine, faster = ours.get(one["backend"]), ""
            if one["peer"] and mine:
                faster = f", {mine['program']} {mine['times'][one['program']]:.2f} times as fast"
            speed = f"{one['images_per_second']:6.1f}/s{faster}"
            lines.append(f"{network:16} {one['program']:18} {speed}")
        for one in part["missing"]:
            lines.append(f"{network:16} {one['program']:18} missing: {one['reason'][-300:]}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
