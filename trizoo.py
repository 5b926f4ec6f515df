"""The command line: `trizoo TASK key=value ...`.

Hydra composes a run from conf/, the run is written as run.json into a folder of its own, and a fresh process does
it: threads, allocator and framework are settled before anything is imported, and nothing leaks from run to run.
"""

import os
import re
import shlex
import shutil
import signal
import sys
import time
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

from conf.compose import (
    CONF,
    complete,
    compose,
    hydra_words,
    key_of,
    known_task,
    run_all,
    task_help,
    with_fit,
)
from shared.run.config import check_used, uses
from shared.run.errors import TRACEBACK, complain, open_streams
from shared.run.launch import (
    ALLOCATOR,
    bind_cores,
    child_environment,
    end_with_parent,
    interrupt_once,
    parse_child,
    program,
    run_child,
    settings,
)
from shared.run.progress import printable
from shared.run.records import host, read_run, sweep, write_json
from shared.run.spec import RunSpec, from_config, to_config
from shared.tasks import TASKS
from shared.tasks.folder import RECORD, clear, finished, folder_lock, run_folder, write_config

DEMO = "all of it, small, in all three frameworks, on galaxies it draws itself (minutes)"
HELP = """\
trizoo: how smooth is this galaxy, and which one should volunteers look at next?

usage: trizoo TASK [key=value ...]

{tasks}

examples:
  trizoo fit experiment=demo backend=jax          tf, torch or jax; the results are in outputs/demo/fit/...
  trizoo fit images=photos table=votes.csv        your own galaxies, and their votes
  trizoo predict weights=outputs/fit/NAME images=photos
  trizoo -m fit backend=tf,torch,jax seed=0,1,2   a sweep: every combination, one after the other
  trizoo -m fit seed=0,1,2,3 hydra/launcher=parallel   two at once; never for timing
  trizoo fit backend.workers=2 backend.threads=1  one run by two processes; docs/workers.md has many machines
  trizoo fit --cfg job                            show the run, do not do it

A run that is done is not done twice (again=true does it anew); one that was stopped goes on where
it stopped. predict, calibrate and export see galaxies as the fit of their weights did, unless a key
such as dataset.crop=0.5 is named. The keys of a task: trizoo fit --help; of all: {conf}
Completion in bash: eval "$(trizoo -sc install=bash)"; Hydra's own help: trizoo --hydra-help
"""


def main(words: list[str] | None = None) -> int:
    """Do what the command line says; the exit status.

    0: done; 2: refused, or failed for what one line says; 70: a fault of trizoo; 128 + n: ended by signal n; else what
    the run ended with.
    """
    words = sys.argv[1:] if words is None else words
    open_streams()
    try:
        if words[:1] == ["--run"] and len(words) > 1:
            status = run_here(Path(words[1]), *parse_child(words[2:]))
        elif words[:1] and (address := re.fullmatch(r"--worker[= ](.+)", " ".join(words))):
            status = be_worker(address[1])
        else:
            status = from_words(words)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        return complain(error)


def from_words(words: list[str]) -> int:
    """Do what `words` of a user say; the exit status. A signal that ends this process ends its run first."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    if not words or words[0] == "help" or {"-h", "--help"} & set(words):
        asked = [word for word in words if word[0] != "-" and word != "help" and "=" not in word]
        print(help_text(known_task(asked[0]) if asked else None), end="")
        return 0
    if words[:2] in (["-sc", "query=bash"], ["--shell-completion", "query=bash"]):
        print(complete())
        return 0
    words = hydra_words(words)
    if words[0] == "task=demo":
        if flags := [word for word in words if word.startswith("-")]:
            raise ValueError(f"demo takes key=value, not {flags[0]}")
        return demo(words[1:])
    return run_all(words, run_one)


def help_text(task: str | None = None) -> str:
    """What `trizoo --help` prints, or `trizoo TASK --help`."""
    helps = {name: task.help for name, task in TASKS.items()} | {"demo": DEMO}
    if task is not None:
        what = f"trizoo {task}: {helps[task]}"
        return f"{what}\n\nusage: trizoo {task} [key=value ...]   (key [default] what it means)\n\n{task_help(task)}"
    tasks = "\n".join(f"  {name:9} {what}" for name, what in helps.items())
    return HELP.format(tasks=tasks, conf=CONF)


def launch(config: dict, command: str) -> int:
    """Do the run that `config` spells out, in a process of its own; its exit status.

    Raises ValueError for a run that cannot be done, KeyboardInterrupt after one that the keyboard stopped.
    """
    from shared.data.inputs import changed_since

    config = to_config(from_config(RunSpec, config))
    if config["model"]["encoder"] is not None:
        from shared.method.start import pinned

        config = pinned(config)
    task = config["task"]["name"]
    python = shutil.which(config["backend"]["python"] or sys.executable)
    if python is None:
        raise ValueError(
            f"backend.python is {config['backend']['python']}, which is no program; give an interpreter's path"
        )
    environment = child_environment(config["backend"])
    folder = run_folder(config)
    with folder_lock(folder) as lock:
        write_config(folder, config)
        sweep(folder)
        anew = config["again"] or not TASKS[task].cached
        if not anew and (record := finished(folder)):
            if changed := changed_since(record, config):
                raise ValueError(
                    f"{folder} is done, but since then has changed: {'; '.join(changed)}; again=true does it anew"
                )
            print(printable(f"already done: {folder}; again=true does it anew"))
            return 0
        (folder / TRACEBACK).unlink(missing_ok=True)
        if anew:
            clear(folder, task)
        print(printable(f"{command} -> {folder}"), flush=True)
        return run_child([python, *program(), "--run", str(folder)], command, environment, lock)


def run_here(folder: Path, command: str, parent: int | None = None) -> int:
    """Do the run that `folder`'s run.json spells out in this process, and write record.json; the exit status.

    `parent` is a pipe that is closed when the process that started this one ends. A run that waits for somebody says
    so, and writes no record: it is not done.
    """
    if parent is not None:
        end_with_parent(parent)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt_once)
    try:
        return do_here(folder, command)
    except Exception as error:
        return complain(error, folder)


def do_here(folder: Path, command: str) -> int:
    """Do the run that `folder`'s run.json spells out in this process, and write record.json; the exit status."""
    from shared.data.inputs import inputs, store_inputs

    started, start = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    config = read_run(folder)
    run = from_config(RunSpec, config)
    made_of = inputs(config)  # before they are read: what changes from now on is seen later
    os.environ.update(settings(config["backend"]))
    bind_cores(config["backend"])
    outcome = getattr(import_module(TASKS[run.task.name].module), run.task.name)(run, folder)
    if waiting := outcome.get("waiting"):
        print(printable(waiting), flush=True)
        return 0
    if module := TASKS[run.task.name].draws:
        import_module(module).draw(folder, config, outcome["results"])
    seconds = time.perf_counter() - start
    record = {
        "command": command,
        "run": config,
        "inputs": made_of | store_inputs(outcome["results"]),
        "host": host(),
        "where": outcome["where"],
        "started": started,
    }
    write_json(folder / RECORD, {**record, "seconds": seconds, "results": outcome["results"]})
    if summary := outcome["results"].get("summary"):
        print(printable(summary))
    print(printable(f"done in {seconds:.1f} s: {folder}"), flush=True)
    return outcome.get("status", 0)


def be_worker(address: str) -> int:
    """Be a worker of a run that waits at `address`, HOST:PORT; the exit status."""
    from shared.method.crew import work
    from shared.method.workers import follow

    if not os.environ.keys() >= ALLOCATOR.keys():  # read once, when a process starts
        words = [sys.executable, *program(), f"--worker={address}"]
        os.execve(sys.executable, words, ALLOCATOR | dict(os.environ))
    return work(address, follow)


def run_one(config: dict, overrides: list[str], named: list[str]) -> int:
    """Do the run of `config`, which `overrides` composed; its exit status, 2 where it is refused.

    It is refused if `named`, those of them that are no experiment's own, have a key that the task does not use.
    """
    task = config["task"]["name"]
    words = [override for override in overrides if not override.startswith("task=")]
    try:
        check_used(task, [key_of(word) for word in named])
        if not TASKS[task].writes:
            tell = getattr(import_module(TASKS[task].module), task)
            print(printable(tell(config)), end="")
            return 0
        config = with_fit(config, overrides) if TASKS[task].needs_fit else config
        return launch(config, shlex.join(["trizoo", task, *words]))
    except Exception as error:
        return complain(error)


def demo(overrides: list[str]) -> int:
    """Fit and active learning in each framework, then the report; stops at a failure.

    Each run is given those of `overrides` that its task uses; ValueError for one that no run does.
    """
    backends = ("tf", "torch", "jax")
    runs = [["task=fit", "experiment=demo", f"backend={name}"] for name in backends]
    runs += [["task=active", "experiment=demo_active", f"backend={name}"] for name in backends]
    runs += [["task=report", "experiment=demo"]]
    check_used("active", [key_of(word) for word in overrides if not uses("fit", key_of(word))])
    for words in runs:
        task = words[0].removeprefix("task=")
        words += [word for word in overrides if uses(task, key_of(word))]
    configs = [compose(words) for words in runs]
    for number, (config, words) in enumerate(zip(configs, runs, strict=True), 1):
        print(f"[{number}/{len(runs)}] ", end="", flush=True)
        if status := run_one(config, words, words):
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
