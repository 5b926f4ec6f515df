"""From the words of a command line to the configuration of a run, by Hydra; of a sweep, to those of each run."""

import io
import json
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import is_dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from shared.run import credentials
from shared.run.config import USES, at, count_answers, put, uses
from shared.run.errors import complain, short
from shared.run.launch import found_from_anywhere
from shared.run.records import make_folder, write_json
from shared.run.spec import RunSpec
from shared.tasks import TASKS
from shared.tasks.inherit import inherit
from shared.tasks.table import with_classes, with_places

RunOne = Callable[
    [dict, list[str], list[str]], int
]  # its configuration, its overrides, those that a user named


CONF = Path(__file__).resolve().parent
NAMES = (*TASKS, "demo")
SHORT_NAMES = {  # of the keys that everybody with images of their own needs
    "images": "dataset.images",
    "table": "dataset.table",
    "label": "dataset.columns.label",
    "dataset.label": "dataset.columns.label",
}
NO_FIELDS = ("experiment", "mode", "start", "hydra")  # words of the command line that no run keeps
HYDRA_FLAGS_THAT_SHOW = ("--hydra-help", "--info", "-i", "--cfg", "-c", "--shell-completion", "-sc")
HYDRA_FLAGS_WITH_VALUE = ("--cfg", "-c", "--info", "-i", "--package", "-p", "--config-dir", "-cd")


def hydra_words(words: list[str]) -> list[str]:
    """Hydra's words for `words`: the task as an override, then the overrides, then the flags.

    Raises ValueError for a task that is none, for none at all, for a word that is not key=value, for a secret and for a
    value that Hydra cannot read.
    """
    tasks, overrides, flags = [], [], []
    for word in words:  # before a sweep's list of them is written, or a message shows one
        credentials.refuse(word.partition("=")[0], word)
    for before, word in zip(["", *words], words, strict=False):
        if word.startswith("-") or (before in HYDRA_FLAGS_WITH_VALUE and word not in NAMES):
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
        raise ValueError(f"name a task first: {', '.join(NAMES)}")
    if set(flags) & {"--shell-completion", "-sc"}:  # whose query=bash is no key
        return [f"task={task}" for task in tasks] + overrides + flags
    overrides = spelled_out(overrides, tasks)
    check_keys(overrides)
    sweep = bool({"-m", "--multirun"} & set(flags)) or "hydra.mode=MULTIRUN" in overrides
    overrides = [readable(word, sweep) for word in overrides]
    return [f"task={task}" for task in tasks] + overrides + flags


def task_help(task: str) -> str:
    """The keys of a task, with what they mean and their defaults."""
    from shared.run.explain import explained

    of = "fit" if task == "demo" else task  # which does fit, active and report
    choices = {
        folder.name: sorted(file.stem for file in folder.glob("*.yaml"))
        for folder in CONF.iterdir()
        if folder.is_dir()
    }
    words = [f"task={of}"]
    return explained(of, compose(words), choices, SHORT_NAMES)


PATHS = ("dataset.images", "dataset.table", "weights", "run", "folder", "outputs", "match.store")


def complete() -> str:
    """What a shell may offer for the line in COMP_LINE: tasks, then keys that the task uses and their values."""
    line = os.environ.get("COMP_LINE", "")
    *before, word = line.split(" ")[1:] or [""]
    task = next(
        (one.removeprefix("task=") for one in before if one.removeprefix("task=") in NAMES), None
    )
    if task is None:
        return " ".join(name for name in ("help", *NAMES) if name.startswith(word))
    key, equals, value = word.partition("=")
    if equals and SHORT_NAMES.get(key, key) in PATHS:
        place, begun = os.path.split(value)
        folder = Path(place or ".").expanduser()
        found = sorted(folder.iterdir()) if folder.is_dir() else []
        names = [file.name + "/" * file.is_dir() for file in found if file.name.startswith(begun)]
        return " ".join(f"{key}={os.path.join(place, name)}" for name in names)  # noqa: PTH118
    task = "fit" if task == "demo" else task
    words = [
        f"task={task}",
        *(one for one in before if one and one[0] != "-" and one != task),
        word,
    ]
    os.environ["COMP_LINE"] = " ".join(["trizoo", *words])
    offered = io.StringIO()
    with redirect_stdout(offered), suppress(SystemExit):
        run_all(["--shell-completion", "query=bash"], lambda *_: 0)
    found = offered.getvalue().split()
    if not equals:
        found = [name for name in found if used_in(task, name.rstrip("=."))]
        found = [  # lists are given whole
            f"{name[:-1]}=" if get_origin(kind_of(name[:-1])) is tuple else name for name in found
        ]
        found += [
            f"{name}=" for name in SHORT_NAMES if name.startswith(word) and used_in(task, "dataset")
        ]
    return " ".join(found)


def used_in(task: str, key: str) -> bool:
    """Whether `task` uses `key`, or one of the keys in it."""
    return uses(task, key) or any(name.startswith(f"{key}.") for name in USES[task])


def spelled_out(overrides: list[str], tasks: list[str]) -> list[str]:
    """`overrides` of one of `tasks` with the full names of keys, for those of SHORT_NAMES.

    Who names images or a table, but no dataset, means dataset=folder, unless the task takes its dataset from a fit.
    """
    long = []
    for word in overrides:
        key, equals, value = word.partition("=")
        long.append(SHORT_NAMES.get(key, key) + equals + value)
    own = any(
        word.startswith(("dataset.images=", "dataset.table=")) and not word.endswith("=null")
        for word in long
    )
    settled = any(word.startswith(("dataset=", "experiment=")) for word in long)
    inherited = any("dataset" in TASKS[task].inherits for task in tasks if task in TASKS)
    return ["dataset=folder", *long] if own and not (settled or inherited) else long


def check_keys(overrides: Iterable[str]) -> None:
    """Raise ValueError, naming the nearest, for an override of a key that no run has."""
    for key in map(key_of, overrides):
        if kind_of(key) is None and key.partition(".")[0].partition("/")[0] not in NO_FIELDS:
            raise ValueError(f"no key {short(key)}; {nearest_key(key)}")


def nearest_key(key: str) -> str:
    """Which key of a run was meant by `key`: one whose last part is the same, or one written much alike."""
    names = [*all_keys(), *SHORT_NAMES, *NO_FIELDS]
    last = key.rpartition(".")[2]
    near = get_close_matches(key, names, n=1, cutoff=0.8)
    near = near or [name for name in names if name.rpartition(".")[2] == last][:3]
    near = near or get_close_matches(key, names, n=1, cutoff=0.6)
    if not near:
        lasts = {name.rpartition(".")[2]: name for name in reversed(names)}
        near = [lasts[found] for found in get_close_matches(last, lasts, n=1, cutoff=0.75)]
    return f"did you mean {' or '.join(near)}?" if near else "`trizoo TASK --help` lists all keys"


def all_keys(kind: type = RunSpec, prefix: str = "") -> Iterator[str]:
    """The full names of all keys and groups of a run."""
    for name, inner in get_type_hints(kind).items():
        yield prefix + name
        if is_dataclass(inner):
            yield from all_keys(inner, f"{prefix}{name}.")


def readable(word: str, sweep: bool) -> str:
    """The override `word`, its value quoted if it is a text that Hydra would refuse or take for something else.

    A key that takes a text takes it as it stands: a path with signs of Hydra's own, ~/ (the home folder), a name that
    looks like a number. What begins with a quote, is null, refers to another key (${...}) or, in a `sweep`, has commas
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
        why = re.split(r"See https| expecting | Available:", short(str(error)))[0].strip()
        example = shlex.quote(quoted) if text else """'positive=["a (b)",c]'"""
        raise ValueError(
            f"{short(word)} cannot be read ({why}); a text with spaces, any of = , : ~ ( ) [ ] {{ }} ' or letters "
            f"beyond a to z needs double quotes, and all of it single ones for the shell, as in {example}"
        ) from error
    misread = at_home or isinstance(meant, bool | int | float | list | dict | Sweep)
    return quoted if as_text and misread else word


def takes_text(key: str) -> bool:
    """Whether the value of `key` of a run is one text."""
    return kind_of(key) is str


def kind_of(key: str) -> Any:
    """The type of `key` of a run, without its None; None where a run has no such key."""
    kind: Any = RunSpec
    for name in key.split("."):
        if is_dataclass(kind):
            kind = get_type_hints(kind).get(name)
        else:
            kind = get_args(kind)[1] if get_origin(kind) is dict else None
        if type(None) in get_args(kind):
            kind = get_args(kind)[0]
    return kind


def known_task(word: str) -> str:
    """`word`, if it is a task; raises ValueError, naming the nearest, if not."""
    if word in NAMES:
        return word
    raise ValueError(f"no task {word}; {nearest(word, NAMES)}")


def nearest(word: str, names: Iterable[str]) -> str:
    """Which of `names` was meant by `word`, or what there is."""
    near = get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"


def compose(overrides: list[str]) -> dict:
    """The plain config of one run; raises ValueError for what Hydra refuses."""
    from hydra import compose as compose_config
    from hydra import initialize_config_dir
    from hydra.errors import HydraException

    check_choices(overrides)
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return plain(compose_config("config", overrides), overrides)
    except HydraException as error:
        raise ValueError(str(error)) from error


def compose_cloud(overrides: list[str]) -> dict:
    """The plain config of a rented machine: a file of cloud/, and what `overrides` change in it."""
    from hydra import compose as compose_config
    from hydra import initialize_config_dir
    from hydra.errors import HydraException

    for word in overrides:
        credentials.refuse(word.partition("=")[0], word)
    check_choices(overrides)
    chosen = [word.removeprefix("cloud=") for word in overrides if word.startswith("cloud=")]
    changes = [readable(word, False) for word in overrides if not word.startswith("cloud=")]
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            composed = compose_config(f"cloud/{[*chosen, 'aws'][0]}", changes)
    except HydraException as error:
        raise ValueError(str(error)) from error
    from omegaconf import OmegaConf

    return OmegaConf.to_container(composed)["cloud"]


def read_yaml(file: Path) -> dict:
    """What a YAML file holds."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.load(file))


def to_yaml(values: dict) -> str:
    """Nested plain data as YAML, in which texts of several lines stay so."""
    import yaml  # of OmegaConf

    class Dumper(yaml.SafeDumper):
        pass

    def written(dumper: Dumper, text: str):
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, "|" if "\n" in text else None)

    Dumper.add_representer(str, written)
    return yaml.dump(values, Dumper=Dumper, sort_keys=False, width=1000)


def plain(config, overrides: list[str]) -> dict:
    """Nested plain data of a Hydra config that `overrides` composed, with what the run's table settles.

    Raises ValueError for a key that still waits for its value.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if missing := sorted(OmegaConf.missing_keys(config)):
        raise ValueError(f"{missing[0]} has no value; give one: {missing[0]}=...")
    try:
        made = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ValueError(str(error)) from error
    for name in ("questions", "positive"):
        if isinstance(made.get(name), str):
            made[name] = [made[name]]  # questions=all
    made = with_classes(made, [key_of(override) for override in overrides])
    if at(made, "model.answers", ...) is None:
        put(made, "model.answers", count_answers(made))
    return made


def with_fit(config: dict, overrides: list[str]) -> dict:
    """`config`, which `overrides` composed, of a task that needs a fit, with what it takes from there."""
    from omegaconf import OmegaConf

    usual = {"dataset": OmegaConf.load(CONF / "dataset" / "folder.yaml")}
    return with_places(inherit(config, [key_of(override) for override in overrides], usual))


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
                raise ValueError(f"no {group} {name}; {nearest(name, there)}")


def run_all(words: list[str], run_one: RunOne) -> int:
    """Have Hydra compose the run or the sweep that `words` ask for, and `run_one` do each; the worst exit status.

    A sweep does all its runs, whatever becomes of some, then names those that failed. They may be done in other
    processes (hydra/launcher=parallel), also of other machines (slurm), so each enters its status in a file of its own
    in the sweep's folder, which all of them see.
    """
    import hydra
    from hydra.errors import HydraException

    sweep = bool({"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(words))
    sweep = sweep and not set(words) & set(HYDRA_FLAGS_THAT_SHOW)
    done: list[tuple[int, list[str]]] = []
    named = [word for word in words if word[0] == "~" or ("=" in word and word[0] != "-")]
    check_choices(named)
    check_launcher(named)
    status = 0
    with ledger_folder(named) if sweep else nullcontext() as place:

        def job(config) -> None:
            from hydra.core.hydra_config import HydraConfig

            overrides = list(HydraConfig.get().overrides.task)
            try:
                status = run_one(plain(config, overrides), overrides, named)
            except Exception as error:
                status = complain(error)
            done.append((status, overrides))
            if place is not None:
                write_json(place / f"{HydraConfig.get().job.num:06}.json", done[-1])

        arguments, sys.argv = sys.argv, ["trizoo", *words]
        try:
            hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(job)()
        except SystemExit as end:
            if end.code != 1:
                raise
            status = 2  # Hydra has said why
        except HydraException as error:
            raise ValueError(str(error)) from error
        finally:
            sys.argv = arguments
        if place is not None:
            done = [json.loads(file.read_text()) for file in sorted(place.glob("*.json"))]
    failed = [(status, overrides) for status, overrides in done if status]
    if len(done) > 1 or (sweep and status):
        print(f"{len(done)} runs, {len(failed)} failed", file=sys.stderr if failed else sys.stdout)
        for status, overrides in failed:
            print(f"  exit {status}: {shlex.join(overrides)}", file=sys.stderr)
    return max([status, *(status for status, _ in failed)])


@contextmanager
def ledger_folder(overrides: list[str]) -> Iterator[Path]:
    """A folder of its own in that of the sweep that `overrides` ask for, as long as the sweep lasts."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from hydra.types import RunMode

    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            composed = GlobalHydra.instance().hydra.compose_config(
                "config", overrides, RunMode.MULTIRUN, with_log_configuration=False
            )
    except HydraException as error:
        raise ValueError(str(error)) from error
    folder = Path(composed.hydra.sweep.dir).absolute()
    make_folder(folder)
    with tempfile.TemporaryDirectory(prefix="ledger-", dir=folder) as place:
        yield Path(place)


def check_launcher(overrides: list[str]) -> None:
    """Raise ValueError for a launcher of a cluster's jobs without the package that it needs; have jobs find trizoo."""
    for override in overrides:
        if re.fullmatch(r"hydra/launcher=(slurm|submitit\w*)", override):
            if find_spec("submitit") is None:
                raise ValueError(f"{override} needs submitit; pip install 'trizoo[cluster]'")
            from conf.cluster import wait_for_all

            wait_for_all()
            os.environ["PYTHONPATH"] = found_from_anywhere(os.environ)
