"""The one door: `trizoo TASK key=value ...`.

Hydra composes a run from conf/, the run is written as run.json into a folder of its own, and a fresh process does
it: threads, allocator and framework are settled before anything is imported, and nothing leaks from run to run.
Only the standard library is imported here, and modules that need no more; Hydra where a run is composed, a framework in
the child alone.
"""

import copy
import difflib
import errno
import io
import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from hashlib import sha256
from importlib import import_module
from pathlib import Path

from shared.run.config import at, check_used, differences, identity, put, uses
from shared.run.locks import file_lock, temporary_folder, try_lock

ROOT = Path(__file__).resolve().parent
CONF = ROOT / "conf"

TASKS = {
    "prepare": "read images and votes into a store",
    "fit": "train the network, then write every galaxy's posterior",
    "predict": "write the posterior of other galaxies with the weights of a fit",
    "calibrate": "measure how honest a fit's posterior is, and find its best dropout rate",
    "active": "train, ask about the galaxies that teach most, repeat",
    "bench": "time training, prediction and posterior sampling",
    "conform": "show how far a framework, or another program's answers, are from the specification",
    "kit": "write the conformance kit: what a port in any language must give",
    "export": "write the networks of a fit as ONNX, for other languages",
    "match": "find the same galaxies in two stores, by position",
    "show": "draw a dataset's questions, and which answers lead to which",
    "report": "make the report of all runs under outputs",
    "demo": "all of it, small, in all three frameworks, on galaxies it draws itself (minutes)",
}
MODULES = {  # each has a function of the task's name
    **{task: f"shared.tasks.{task}" for task in TASKS if task != "demo"},
    "bench": "benchmarks.bench",
    "report": "reports.report",
}
HEIRS = (  # whose network and question are those of the weights they are given
    "predict",
    "calibrate",
    "export",
)
SETTLED = ("model", "question", "positive")  # by the weights: no word changes them
VIEW = ("dataset.crop", "dataset.stretch", "dataset.channels")  # of a galaxy, by the network
FRAMING = ("dataset.service.scale", "dataset.service.width")  # of one service's cutouts
FRAMEWORK = ("backend.name", "backend.precision", "backend.environment", "backend.python")
HERITAGE = {  # what else they take from there, where no word names it
    "calibrate": ("dataset", "split", "minimum_votes", "training", "posterior", "seed"),
    "export": ("dataset",),
}
ALWAYS_ANEW = (
    "prepare",
    "match",
    "show",
    "report",
)  # quick where nothing has changed, and their sources may have
OUTPUT_FILES = {  # what a task leaves in its folder, which again=true removes; a user's own files have other names
    "fit": (
        "checkpoint.safetensors",
        "weights.safetensors",
        "losses.parquet",
        "split.parquet",
        "posterior.parquet",
    ),
    "predict": ("posterior.parquet",),
    "calibrate": ("calibration.json", "calibration.csv"),
    "active": ("checkpoint.safetensors", "ask_next.csv"),
    "export": ("rho.onnx", "features.onnx", "head.onnx"),
    "match": ("matches.parquet", "matches.csv"),
    "show": ("schema.svg", "schema.mmd"),
}
RECORD, TRACEBACK, LOCK = "record.json", "traceback.txt", ".lock"  # in every run's folder

REFUSED, FAULT = 2, 70  # exit statuses: something to put right, said in one line; a fault of trizoo
OUT_OF_MEMORY = re.compile(
    r"out of memory|RESOURCE_EXHAUSTED|OOM when allocating|bad_alloc|(can't|cannot|failed to) allocate",
    re.I,
)

# glibc returns large blocks to the kernel and faults them in again at every step; kept, training on
# a CPU is up to twice as fast.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(8 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
    "MALLOC_TOP_PAD_": str(256 << 20),
}
HYDRA_FLAGS_THAT_SHOW = ("--hydra-help", "--info", "-i", "--cfg", "-c", "--shell-completion", "-sc")
HYDRA_FLAGS_WITH_VALUE = ("--cfg", "-c", "--info", "-i", "--package", "-p", "--config-dir", "-cd")

GOES_ON = "the same command (without again=true) goes on where it stopped"
HELP = """\
trizoo: how smooth is this galaxy, and which one should volunteers look at next?

usage: trizoo TASK [key=value ...]

{tasks}

examples:
  trizoo fit experiment=demo backend=jax          tf, torch or jax; the results are in outputs/demo/fit/...
  trizoo fit dataset=folder dataset.images=photos dataset.table=votes.csv
  trizoo predict weights=outputs/fit/NAME dataset=folder dataset.images=photos
  trizoo -m fit backend=tf,torch,jax seed=0,1,2   a sweep: every combination, one after the other
  trizoo -m fit seed=0,1,2,3 hydra/launcher=parallel   two at once; never for timing
  trizoo fit --cfg job                            show the run, do not do it

A run that is done is not done twice (again=true does it anew); one that was stopped goes on where
it stopped. predict, calibrate and export see galaxies as the fit of their weights did, unless a key
such as dataset.crop=0.5 is named. Every key and its choices: {conf}
Hydra's own help: trizoo --hydra-help
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
            status = run_here(Path(words[1]), *told_by_parent(words[2:]))
        else:
            status = from_words(words)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        return complain(error)


def from_words(words: list[str]) -> int:
    """Do what WORDS of a user say; the exit status. A signal that ends this process ends its run first."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    if not words or words[0] == "help" or {"-h", "--help"} & set(words):
        print(help_text(), end="")
        return 0
    words = hydra_words(words)
    if words[0] == "task=demo":
        if flags := [word for word in words if word.startswith("-")]:
            raise ValueError(f"demo takes key=value, not {flags[0]}")
        return demo(words[1:])
    return through_hydra(words)


def open_streams() -> None:
    """Have something open as standard input, output and error: else the next file opened, a lock, would take the place.

    What a stream's encoding has not is printed as an escape.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            stream = open(descriptor, "r" if name == "stdin" else "w", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
        if name != "stdin" and isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def help_text() -> str:
    """What `trizoo --help` prints."""
    tasks = "\n".join(f"  {name:9} {what}" for name, what in TASKS.items())
    return HELP.format(tasks=tasks, conf=CONF)


def complain(error: Exception, folder: Path | None = None) -> int:
    """Print ERROR as one line, or as a traceback where TRIZOO_TRACEBACK=1; the exit status.

    The traceback of an error that nobody foresaw is kept in FOLDER, where there is one. Nothing is said if whoever read
    what is printed has gone, as in `trizoo ... | head`.
    """
    from shared.run.progress import printable

    if isinstance(error, BrokenPipeError) and printed_in_vain():
        return 128 + signal.SIGPIPE
    known, trace = explain(error), "".join(traceback.format_exception(error))
    said = known or f"a fault of trizoo ({type(error).__name__}: {error}); {_kept(trace, folder)}"
    traced = os.environ.get("TRIZOO_TRACEBACK") == "1"
    said = printable(trace if traced else f"trizoo: {' '.join(said.split())}\n")
    with suppress(OSError):
        print(said, end="", file=sys.stderr, flush=True)
    return REFUSED if known else FAULT


def printed_in_vain() -> bool:
    """Whether nobody reads standard output any more; then it goes nowhere from now on, so that it is not said."""
    there = select.poll()
    there.register(1, 0)
    if gone := any(event & (select.POLLERR | select.POLLHUP) for _, event in there.poll(0)):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return gone


def _kept(trace: str, folder: Path | None) -> str:
    """Keep TRACE in FOLDER; what to do with it."""
    if folder is not None:
        try:
            (folder / TRACEBACK).write_text(trace, encoding="utf-8", errors="backslashreplace")
            return f"please report it with {folder / TRACEBACK}"
        except OSError:
            pass
    return "please report it with what the same command prints under TRIZOO_TRACEBACK=1"


def explain(error: BaseException) -> str | None:
    """What ERROR means and what to do; None for one that should not have come this far."""
    said, kind = str(error) or type(error).__name__, type(error)
    number = error.errno if isinstance(error, OSError) else None
    if (
        isinstance(error, MemoryError)
        or number == errno.ENOMEM
        or kind.__name__ in ("OutOfMemoryError", "ResourceExhaustedError")
        or (isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(said))
    ):
        return (
            f"out of memory ({_short(said)}); lower backend.chunk and training.batch_size (or bench.batch_size), or "
            "run it where there is more"
        )
    if number in (errno.ENOSPC, errno.EDQUOT) or (
        kind.__name__ == "SafetensorError" and "os error 28" in said
    ):
        return f"the disk is full, or your share of it ({_short(said)}); free some space, then {GOES_ON}"
    if isinstance(error, ValueError | OSError):
        return said
    if isinstance(error, RecursionError):
        return "something that was read, a file or a key's value, is nested too deeply; make it flatter"
    if kind.__module__.startswith("pyarrow"):
        return f"a Parquet file cannot be read or written ({_short(said)}); make it anew"
    if kind.__name__ == "SafetensorError":
        return f"a safetensors file cannot be read or written ({_short(said)}); make it anew"
    if isinstance(error, ImportError):
        return (
            f"{sys.executable} cannot import what this needs ({_short(said)}); install trizoo there, or set "
            "backend.python to an interpreter that has it"
        )
    return None


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:300]}..."


# From words to a run


def hydra_words(words: list[str]) -> list[str]:
    """Hydra's words for WORDS: the task as an override, then the overrides, then the flags.

    Raises ValueError for a task that is none, for none at all, for a word that is not key=value, for a secret and for a
    value that Hydra cannot read.
    """
    from shared.run import credentials

    tasks, overrides, flags = [], [], []
    for word in words:  # before a sweep's list of them is written, or a message shows one
        credentials.refuse(word.partition("=")[0], word)
    for before, word in zip(["", *words], words, strict=False):
        if word.startswith("-") or (before in HYDRA_FLAGS_WITH_VALUE and word not in TASKS):
            flags.append(word)
        elif "=" in word or word.startswith("~"):
            overrides.append(word)
        elif tasks:
            raise ValueError(
                f"{word} is not key=value (the task is {tasks[0]} already); a value with spaces needs quotes: "
                "'key=its value'"
            )
        else:
            tasks.append(known_task(word))
    named = any(word.startswith("task=") for word in overrides)
    if not (tasks or named or set(flags) & set(HYDRA_FLAGS_THAT_SHOW)):
        raise ValueError(f"name a task first: {', '.join(TASKS)}")
    sweep = bool({"-m", "--multirun"} & set(flags)) or "hydra.mode=MULTIRUN" in overrides
    overrides = [readable(word, sweep) for word in overrides]
    return [f"task={task}" for task in tasks] + overrides + flags


def readable(word: str, sweep: bool) -> str:
    """The override WORD, its value quoted if it is a text that Hydra would refuse or take for something else.

    A key that takes a text takes it as it stands: a path with signs of Hydra's own, ~/ (the home folder), a name that
    looks like a number. What begins with a quote, is null, refers to another key (${...}) or, in a SWEEP, has commas
    is Hydra's. Raises ValueError, saying how to quote it, for what Hydra cannot read.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Quote, QuotedString, Sweep
    from hydra.errors import HydraException

    key, _, value = word.partition("=")
    text = takes_text(key.lstrip("+"))
    as_text = text and value[:1] not in ("", "'", '"') and "${" not in value
    as_text = as_text and not (sweep and "," in value)
    if at_home := as_text and (value == "~" or value.startswith("~/")):
        value = os.path.expanduser(value)  # noqa: PTH111, Path's cannot leave it where there is no home
    quoted = f"{key}={QuotedString(value, Quote.double).with_quotes()}"
    try:
        meant = OverridesParser.create().parse_override(word).value()
    except HydraException as error:
        if as_text:
            return quoted
        why = re.split(r"See https| expecting | Available:", _short(str(error)))[0].strip()
        example = shlex.quote(quoted) if text else """'positive=["a (b)",c]'"""
        raise ValueError(
            f"{_short(word)} cannot be read ({why}); a text with spaces, any of = , : ~ ( ) [ ] {{ }} ' or letters "
            f"beyond a to z needs double quotes, and all of it single ones for the shell, as in {example}"
        ) from error
    misread = at_home or isinstance(meant, bool | int | float | list | dict | Sweep)
    return quoted if as_text and misread else word


def takes_text(key: str) -> bool:
    """Whether the value of KEY of a run is one text."""
    from dataclasses import is_dataclass
    from typing import get_args, get_origin, get_type_hints

    from shared.run.spec import RunSpec

    kind = RunSpec
    for name in key.split("."):
        if is_dataclass(kind):
            kind = get_type_hints(kind).get(name)
        else:
            kind = get_args(kind)[1] if get_origin(kind) is dict else None
        if type(None) in get_args(kind):
            kind = get_args(kind)[0]
    return kind is str


def known_task(word: str) -> str:
    """WORD, if it is a task; raises ValueError, naming the nearest, if not."""
    if word in TASKS:
        return word
    near = difflib.get_close_matches(word, TASKS, n=1, cutoff=0.5)
    guess = f"did you mean {near[0]}?" if near else f"there are {', '.join(TASKS)}"
    raise ValueError(f"no task {word}; {guess}")


def compose(overrides: list[str]) -> dict:
    """The plain config of one run; raises ValueError for what Hydra refuses."""
    from hydra import compose as compose_config
    from hydra import initialize_config_dir
    from hydra.errors import HydraException

    check_choices(overrides)
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return plain(compose_config("config", overrides))
    except HydraException as error:
        raise ValueError(str(error)) from error


def plain(config) -> dict:
    """Nested plain data of a Hydra config; raises ValueError for a key that still waits for its value."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if missing := sorted(OmegaConf.missing_keys(config)):
        raise ValueError(f"{missing[0]} has no value; give one: {missing[0]}=...")
    try:
        return OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ValueError(str(error)) from error


def key_of(override: str) -> str:
    """The full name of the key, or of the group, that `override` gives a value."""
    return override.split("=")[0].lstrip("+~").split("@")[0]


def check_choices(overrides: list[str]) -> None:
    """Raise ValueError, naming the nearest, for a file of a group of conf/ that is not there."""
    for override in overrides:
        group, names = key_of(override), override.partition("=")[2]
        folder = CONF / group
        if not re.fullmatch(r"\w+", group) or not folder.is_dir():
            continue
        there = sorted(file.stem for file in folder.glob("*.yaml"))
        for name in names.split(",") if re.fullmatch(r"[\w.,-]+", names) else ():
            if name not in (*there, "null"):
                near = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
                guess = f"did you mean {near[0]}?" if near else f"there are {', '.join(there)}"
                raise ValueError(f"no {group} {name}; {guess}")


def inherit(config: dict, overrides: list[str]) -> dict:
    """The `config` of a run of `HEIRS`, with the network, its view of a galaxy and its question as they were trained.

    What `overrides` name keeps its value, but for the network's shape and question, which the weights have settled; the
    dropout rate is no part of the shape. Choosing a dataset (`dataset=NAME`) says where galaxies come from, not how the
    network sees them, unless it is another survey whose configuration sets a crop or a stretch of its own. Prints what
    it took of the view and the framework, and what is not as in the fit.

    Raises ValueError if there are no weights, no run.json beside them, or another network or question is asked for.
    """
    task, weights = config["task"]["name"], config["weights"]
    if weights is None:
        raise ValueError(
            f"{task} needs weights, a run folder of fit or its weights.safetensors: "
            "weights=outputs/fit/NAME"
        )
    trained = trained_run(weights_file(weights).parent / "run.json", config)
    named = [key_of(override) for override in overrides]
    for key in named:
        settled = key.split(".")[0] in SETTLED and key != "model.dropout"
        if settled and (where := differences(at(config, key), at(trained, key), key)):
            raise ValueError(f"{where[0]} is not what {weights} was trained with; leave it out")
    made = copy.deepcopy(config)
    framework = FRAMEWORK if uses(task, "backend") else ()
    for key in (*HERITAGE.get(task, ()), "augmentation", *framework, "training.members"):
        if not {key, key.split(".")[0]} & set(named):
            put(made, key, at(trained, key))
    for key in (*SETTLED, *view(config, trained)):
        put(made, key, at(trained, key))
    for key in named:  # a group that was chosen as a whole has been passed over above
        value, chosen = at(config, key, ...), isinstance(at(config, key), dict) and "." not in key
        if not chosen and (value is not ... or at(made, key, ...) is not ...):
            put(made, key, value)
    if not shutil.which(made["backend"]["python"] or ""):
        made["backend"]["python"] = config["backend"]["python"]  # that of the fit is not here
    dataset = made["dataset"]
    without_votes = dataset["images"] is not None and dataset["table"] is None
    if without_votes or made["question"] not in dataset["questions"]:
        for key in ("dataset.questions", "dataset.leads"):
            put(made, key, at(trained, key))
    tell_inherited(config, made, trained)
    return made


def view(config: dict, trained: dict) -> tuple[str, ...]:
    """The keys of the dataset that say how the network sees a galaxy, and that are the fit's in a run of `config`.

    Not those that another survey's configuration sets for itself; and the framing of cutouts of the same service alone.
    """
    from omegaconf import OmegaConf

    usual = {"dataset": OmegaConf.load(CONF / "dataset" / "folder.yaml")}
    other = at(config, "dataset.name") != at(trained, "dataset.name")
    keys = tuple(key for key in VIEW if not (other and at(config, key) != at(usual, key)))
    same_place = at(config, "dataset.images") == at(trained, "dataset.images")
    return (*keys, *(FRAMING if same_place else ()))


def trained_run(path: Path, config: dict) -> dict:
    """The run.json at `path` of a fit, with keys that are newer than it as `config` has them.

    Raises ValueError if it is no such file, or has keys that this version does not know.
    """
    from shared.run.records import read_run
    from shared.run.spec import RunSpec, completed

    needed = (*SETTLED, "dataset", "augmentation", "training", "backend")
    wanted = {*needed, *(key for keys in HERITAGE.values() for key in keys)}
    try:
        held = read_run(path.parent)
        if missing := [key for key in needed if key not in held]:
            raise ValueError(f"{missing[0]} is missing")
        return completed(RunSpec, {key: held[key] for key in wanted & held.keys()}, config)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} does not hold the settings of a fit as this version of trizoo knows them "
            f"({error}); copy it anew, or fit again"
        ) from error


def tell_inherited(config: dict, made: dict, trained: dict) -> None:
    """Print what of a network's view and framework a run took from the fit, and what is not as there."""
    from shared.run.progress import printable

    every = (*VIEW, *FRAMING, "backend.name", "backend.precision")
    keys = [key for key in every if uses(config["task"]["name"], key)]
    taken = [f"{key}={at(made, key)}" for key in keys if at(made, key) != at(config, key)]
    if taken:
        print(printable(f"as in the fit: {', '.join(taken)}"), flush=True)
    seen = [key for key in keys if key not in FRAMING]
    other = [
        f"{key}={at(made, key)} (there {at(trained, key)})"
        for part in (*seen, "augmentation", "model.dropout")
        for key in differences(at(made, part), at(trained, part), part)
    ]
    if other:
        print(printable(f"not as in the fit: {', '.join(other)}"), flush=True)


def weights_file(weights: str) -> Path:
    """The file that WEIGHTS, a run folder or a file, means; raises ValueError if it or its run.json is not there."""
    path = Path(weights)
    path = path / "weights.safetensors" if path.is_dir() else path
    for needed in (path, path.parent / "run.json"):
        if not needed.is_file():
            raise ValueError(
                f"weights is {weights}, but there is no {needed}; give a finished run folder of fit"
            )
    return path


# From a run to its folder


def run_folder(config: dict) -> Path:
    """The folder of a run: what `folder` says, or a name made from the run itself."""
    from shared.run.spec import digest

    if config["folder"] is not None:
        return Path(config["folder"])
    task, outputs, what = config["task"]["name"], Path(config["outputs"]), identity(config)
    if task == "report":
        return outputs / "report"
    if task in HEIRS:
        what["weights"] = sha256(weights_file(config["weights"]).read_bytes()).hexdigest()
    seed = f"seed{config['seed']}"
    words = [config["question"], config["backend"]["name"], seed]
    if task in ("prepare", "show", "match"):
        words = [config["dataset"]["name"]]
    elif task == "kit":
        words = [seed]
    return outputs / task / re.sub(r"[^\w.-]+", "-", "-".join([*words, digest(what)]))


def claim(folder: Path, config: dict) -> None:
    """Write run.json into FOLDER; raises ValueError if FOLDER holds something else."""
    from shared.run.records import read_run, write_json

    file, anew = folder / "run.json", config["task"]["name"] in ALWAYS_ANEW
    if file.exists():
        held = read_run(folder)
        if held["task"] != config["task"]:
            raise ValueError(
                f"{folder} holds a run of {held['task']['name']}; give another folder=..."
            )
        if not anew and (where := differences(identity(held), identity(config))):
            raise ValueError(
                f"{folder} holds another run (it differs in {', '.join(where[:5])}); give another folder=..."
            )
    elif any(not path.name.startswith(".") for path in folder.iterdir()):
        raise ValueError(
            f"{folder} holds files, but no run.json; give a new or an empty folder=..."
        )
    write_json(file, config)


def clear(folder: Path, task: str) -> None:
    """Remove from FOLDER what a run of TASK leaves there, and nothing else.

    Raises ValueError if it holds what volunteers were asked: their answers could not be had again.
    """
    asks = sorted(path.name for path in folder.glob("ask-*") if re.fullmatch(r"ask-\d+", path.name))
    if task == "active" and asks:
        raise ValueError(
            f"{folder} holds what volunteers were asked and said ({', '.join(asks[:3])}{', ...' * (len(asks) > 3)}), "
            "which again=true would lose; give another folder=..., or move these folders away yourself"
        )
    for name in (RECORD, *OUTPUT_FILES.get(task, ())):
        (folder / name).unlink(missing_ok=True)


@contextmanager
def held(folder: Path):
    """Hold FOLDER for one process and its child; raises ValueError if another holds it. Gives the lock's descriptor."""
    from shared.run.records import make_folder

    make_folder(folder)
    with file_lock(folder / LOCK) as lock:
        if lock is None:
            raise ValueError(
                f"another process is at work in {folder}; wait for it, or give another folder=..."
            )
        try:
            yield lock
        except SystemExit:  # a signal's: a child that has just begun may outlive this process
            raise
        except BaseException:
            _unlock(folder)
            raise
        _unlock(folder)


def _unlock(folder: Path) -> None:
    """Remove the file that was locked; on a disk that fails it stays, and the run's process has said why."""
    with suppress(OSError):
        (folder / LOCK).unlink(missing_ok=True)


# From a folder to its record


def do(config: dict, command: str) -> int:
    """Do the run that CONFIG spells out, in a process of its own; its exit status.

    Raises ValueError for a run that cannot be done, KeyboardInterrupt after one that the keyboard stopped.
    """
    from shared.data.inputs import changed_since
    from shared.run.progress import printable
    from shared.run.records import sweep
    from shared.run.spec import RunSpec, from_config, to_config

    config = to_config(from_config(RunSpec, config))
    task = config["task"]["name"]
    python = shutil.which(config["backend"]["python"] or sys.executable)
    if python is None:
        raise ValueError(
            f"backend.python is {config['backend']['python']}, which is no program; give an interpreter's path"
        )
    environment = child_environment(config["backend"])
    folder = run_folder(config)
    with held(folder) as lock:
        claim(folder, config)
        sweep(folder)
        anew = config["again"] or task in ALWAYS_ANEW
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
        return launch([python, *program(), "--run", str(folder)], command, environment, lock)


def launch(words: list[str], command: str, environment: dict[str, str], lock: int) -> int:
    """Start the process of WORDS, which does the run of COMMAND, and wait for it; its exit status.

    It holds LOCK too, and the other end of a pipe: when this process ends, however it does, the pipe is closed and the
    run ends.
    """
    reading, writing = os.pipe()
    try:
        words = [*words, f"--parent={reading}", *shlex.split(command)]
        child = subprocess.Popen(words, env=environment, pass_fds=[lock, reading])
        return wait(child)
    finally:
        os.close(reading)
        os.close(writing)


def told_by_parent(words: list[str]) -> tuple[str, int | None]:
    """The command and the pipe, if there is one, that a run's process was told of in WORDS."""
    if words and (pipe := re.fullmatch(r"--parent=(\d+)", words[0])):
        return shlex.join(words[1:]), int(pipe[1])
    return shlex.join(words), None


def end_with_parent(pipe: int) -> None:
    """End this process as soon as the one that holds the other end of PIPE has ended."""

    def watch() -> None:
        os.read(pipe, 1)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def finished(folder: Path) -> dict | None:
    """The record of the run in `folder` if it is done: if there is a whole record.json. Says so if one is not whole."""
    from shared.run.progress import say
    from shared.run.records import read_record

    try:
        return read_record(folder)
    except FileNotFoundError:
        return None
    except ValueError as error:
        say(f"trizoo: {error}; going on as if it were not there")
        return None


def in_checkout() -> bool:
    """Whether this file lies in the project itself, not among installed packages."""
    return (ROOT / "pyproject.toml").exists()


def program() -> list[str]:
    """What an interpreter is told to run; from a checkout, one that has nothing of trizoo installed can."""
    return [str(ROOT / "trizoo.py")] if in_checkout() else ["-P", "-m", "trizoo"]


def child_environment(backend: dict) -> dict[str, str]:
    """The environment of a run's process; raises ValueError if it asks for more cores than there are."""
    environment = ALLOCATOR | dict(os.environ) | settings(backend)
    if in_checkout():
        paths = [str(ROOT), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return environment


def settings(backend: dict) -> dict[str, str]:
    """The variables that bind each framework to BACKEND's threads, and those that BACKEND names itself."""
    there = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if backend["threads"] > there:
        raise ValueError(
            f"backend.threads is {backend['threads']}, but there are {there} cores; 0 takes them all"
        )
    names = (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "NPROC",
        "PJRT_NPROC",
    )
    threads = dict.fromkeys(names, str(backend["threads"] or there))
    return threads | {"TF_NUM_INTEROP_THREADS": "1"} | backend["environment"]


def wait(child: subprocess.Popen) -> int:
    """The exit status of CHILD, 128 + n where signal n killed it; never leaves it behind.

    A first Ctrl-C interrupts CHILD and waits for it; a second ends it; either way it then raises KeyboardInterrupt.
    """
    stopped = 0
    while True:
        try:
            status = child.wait()
            break
        except KeyboardInterrupt:
            stopped += 1
            child.send_signal(signal.SIGINT if stopped == 1 else signal.SIGTERM)
        except BaseException:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            raise
    if stopped:
        print(f"\ntrizoo: stopped; {GOES_ON}", file=sys.stderr)
        raise KeyboardInterrupt
    if status < 0:
        starved = -status in (signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS)
        hint = " (was there enough memory, and room on the disk?)" if starved else ""
        print(
            f"trizoo: the run was killed by {signal.Signals(-status).name}{hint}", file=sys.stderr
        )
    return status if status >= 0 else 128 - status


def run_here(folder: Path, command: str, parent: int | None = None) -> int:
    """Do the run that FOLDER's run.json spells out in this process, and write record.json; the exit status.

    PARENT is a pipe that is closed when the process that started this one ends. A run that waits for somebody says so,
    and writes no record: it is not done.
    """
    if parent is not None:
        end_with_parent(parent)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt_once)
    try:
        return do_here(folder, command)
    except Exception as error:
        return complain(error, folder)


def interrupt_once(*_) -> None:
    """Raise KeyboardInterrupt, and be deaf from then on: a terminal's Ctrl-C comes from the parent process as well."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def do_here(folder: Path, command: str) -> int:
    """Do the run that FOLDER's run.json spells out in this process, and write record.json; the exit status."""
    from shared.data.inputs import inputs, store_inputs
    from shared.run.progress import printable
    from shared.run.records import host, read_run, write_json
    from shared.run.spec import RunSpec, from_config

    started, start = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    config = read_run(folder)
    run = from_config(RunSpec, config)
    made_of = inputs(config)  # before they are read: what changes from now on is seen later
    os.environ.update(settings(config["backend"]))
    if run.backend.threads and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores(run.backend.threads))
    outcome = getattr(import_module(MODULES[run.task.name]), run.task.name)(run, folder)
    if waiting := outcome.get("waiting"):
        print(printable(waiting), flush=True)
        return 0
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


def cores(count: int) -> list[int]:
    """COUNT cores for this process, as long as it lives: the first that no other run of the user holds.

    Runs of a parallel sweep are so kept apart. Where too few are free, the first ones, held or not.
    """
    there, free = sorted(os.sched_getaffinity(0)), []
    try:
        place = temporary_folder()
        for core in there:
            lock = os.open(place / f"core-{core}", os.O_RDWR | os.O_CREAT, 0o600)
            if not try_lock(lock):
                os.close(lock)
                continue
            free.append(core)  # the lock stays open, and goes with the process
            if len(free) == count:
                return free
    except OSError:
        pass  # no place for locks, or none there
    return there[:count]


# One run, many runs, the demo


def attempt(config: dict, overrides: list[str], named: list[str]) -> int:
    """Do the run of `config`, which `overrides` composed; its exit status, 2 where it is refused.

    It is refused if `named`, those of them that are no experiment's own, have a key that the task does not use.
    """
    task = config["task"]["name"]
    words = [override for override in overrides if not override.startswith("task=")]
    try:
        check_used(task, [key_of(word) for word in named])
        config = inherit(config, overrides) if task in HEIRS else config
        return do(config, shlex.join(["trizoo", task, *words]))
    except Exception as error:
        return complain(error)


def through_hydra(words: list[str]) -> int:
    """Have Hydra compose the run or the sweep that WORDS ask for, and do it.

    A sweep does all its runs, whatever becomes of some, then names those that failed. They may be done in other
    processes (hydra/launcher=parallel), so each enters its status in a file. The exit status is the worst of theirs.
    """
    import hydra
    from hydra.errors import HydraException

    sweep = bool({"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(words))
    done: list[tuple[int, list[str]]] = []
    named = [word for word in words if word[0] == "~" or ("=" in word and word[0] != "-")]
    check_choices(named)
    with tempfile.TemporaryDirectory() if sweep else nullcontext() as place:

        def job(config) -> None:
            from hydra.core.hydra_config import HydraConfig

            overrides = list(HydraConfig.get().overrides.task)
            try:
                status = attempt(plain(config), overrides, named)
            except Exception as error:
                status = complain(error)
            done.append((status, overrides))
            if place is not None:
                with Path(place, "ledger").open("a") as file:
                    file.write(json.dumps(done[-1]) + "\n")

        arguments, sys.argv = sys.argv, ["trizoo", *words]
        try:
            hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(job)()
        except SystemExit as end:
            if end.code == 1:  # Hydra has said why
                return 2
            raise
        except HydraException as error:
            raise ValueError(str(error)) from error
        finally:
            sys.argv = arguments
        if place is not None and (ledger := Path(place, "ledger")).exists():
            done = [json.loads(line) for line in ledger.read_text().splitlines()]
    failed = [(status, overrides) for status, overrides in done if status]
    if len(done) > 1:
        print(f"{len(done)} runs, {len(failed)} failed", file=sys.stderr if failed else sys.stdout)
        for status, overrides in failed:
            print(f"  exit {status}: {shlex.join(overrides)}", file=sys.stderr)
    return max((status for status, _ in failed), default=0)


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
        if status := attempt(config, words, words):
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
