"""Bayesian networks that learn galaxy shapes from volunteers' votes, and choose the galaxies to ask about next.

From Python:

    import trizoo
    run = trizoo.fit(dataset="folder", images="photos", table="votes.csv", backend="jax")
    run.posterior

Functions take the keys of the command line, `trizoo TASK key=value ...`, as keyword arguments. Either way Hydra
composes a run from conf/, the run is written as run.json into a folder of its own, and a fresh process does it:
threads, allocator and framework are settled before anything is imported, and nothing leaks from run to run.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

HERE = Path(__file__).resolve().parent


class OwnPackages:
    """Finds trizoo's packages beside this file, whatever else has their names: a user's own shared/, say."""

    names: tuple[str, ...] = ()

    @classmethod
    def claim(cls, *names: str) -> None:
        """Have `names` mean our packages from now on; ImportError if one means another already."""
        for module in (sys.modules[name] for name in names if name in sys.modules):
            file = getattr(module, "__file__", None)
            places = [file] if file else list(getattr(module, "__path__", ()))
            if not any(HERE in Path(place).resolve().parents for place in places):
                raise ImportError(
                    f"trizoo has a package called {module.__name__}, but another has been imported already, from "
                    f"{', '.join(places) or 'nowhere'}; import trizoo first, in a fresh interpreter (restart the "
                    f"kernel): from then on {module.__name__} is trizoo's there"
                )
        cls.names += names

    @classmethod
    def find_spec(cls, name: str, path=None, target=None):
        """The import system's question where `name` is."""
        return PathFinder.find_spec(name, [str(HERE)]) if name in cls.names else None


sys.meta_path.insert(0, OwnPackages)
OwnPackages.claim("shared", "conf")

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
from conf.words import words_of
from shared.run.config import check_used, uses
from shared.run.echo import Echo
from shared.run.engine import read_part, run_parts
from shared.run.errors import FAULT, REFUSED, TRACEBACK, Error, complain, explain, open_streams
from shared.run.launch import (
    ALLOCATOR,
    GOES_ON,
    bind_cores,
    child_environment,
    child_process,
    end,
    end_with_parent,
    interrupt_once,
    killed,
    parse_child,
    program,
    settings,
    wait,
)
from shared.run.locks import file_lock
from shared.run.progress import IN_PLACE, printable
from shared.run.records import make_folder, read_json, read_run, sweep
from shared.run.spec import EngineSpec, RunSpec, from_config, to_config
from shared.tasks import ROUNDS, TASKS
from shared.tasks.finished import Run
from shared.tasks.folder import (
    LOCK,
    RECORD,
    clear,
    finished,
    folder_lock,
    part_folder,
    run_folder,
    write_config,
    write_record,
)

if TYPE_CHECKING:
    from shared.output.pictures import Pictures

__version__ = "0.1.0"
__all__ = [
    *("Error", "Rounds", "Run", "active", "calibrate", "catalogue", "do", "fit", "predict"),
    *("inspect", "show_galaxies"),
]
CLOUD = (
    "have a task done by a rented machine: writes SkyPilot's file, and says hours and dollars first"
)
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
  trizoo -m fit seed=0,1,2,3 hydra/launcher=slurm  each a job of a cluster; docs/scale.md has clouds, too
  trizoo fit --cfg job                            show the run, do not do it

A run that is done is not done twice (again=true does it anew); one that was stopped goes on where
it stopped. predict, calibrate and export see galaxies as the fit of their weights did, unless a key
such as dataset.crop=0.5 is named. The keys of a task: trizoo fit --help; of all: {conf}
Completion in bash: eval "$(trizoo -sc install=bash)"; Hydra's own help: trizoo --hydra-help
"""


def fit(*words: str | Mapping[str, Any], **keys: Any) -> Run:
    """Train the network of `keys`, then write every galaxy's posterior, as `trizoo fit` does.

        run = trizoo.fit(dataset="folder", images="photos", table="votes.csv", backend="jax", steps=800)

    A key is named in full (`**{"training.steps": 800}`, `training={"steps": 800}`), or by its last part: that of one
    key of dataset, model or training, or if there is none of one key of this task. None, True, lists and paths mean
    what null, true, [..] and texts do on the command line. Words of a command line ("training.steps=800"), and dicts of
    keys, may come first.

    A process of its own does the run; what it prints is printed here. The same call again returns at once if the run is
    done, and goes on with it if it was stopped, by Ctrl-C or a notebook's stop button. Raises Error, a ValueError, for
    what is refused or failed for a reason that can be put right, and RuntimeError for a fault of trizoo.
    """
    return do("fit", *words, **keys)


def predict(*words: str | Mapping[str, Any], **keys: Any) -> Run:
    """Write the posterior of other galaxies with the `weights` of a fit, a Run or its folder; as `fit` otherwise.

    trizoo.predict(weights=run, dataset="folder", images="more photos").posterior
    """
    return do("predict", *words, **keys)


def calibrate(*words: str | Mapping[str, Any], **keys: Any) -> Run:
    """Say whether the posterior of the fit of `weights` is honest, and mend what can be mended; as `fit` otherwise."""
    return do("calibrate", *words, **keys)


def catalogue(*words: str | Mapping[str, Any], **keys: Any) -> Run:
    """Write the table of a finished `run` in other formats, such as format=["fits", "csv"]; as `fit` otherwise."""
    return do("catalogue", *words, **keys)


def inspect(*words: str | Mapping[str, Any], **keys: Any) -> str:
    """What is understood of your images and your table, what is missing, and how to go on: a text to print."""
    config, _ = refusing(composed, "inspect", words, keys)
    return refusing(told, config)


def do(task: str, *words: str | Mapping[str, Any], **keys: Any) -> Run:
    """Do any task of the command line that leaves a folder, such as "export"; as `fit` otherwise."""
    with begun(task, words, keys) as (folder, child, echo):
        if child is not None and echo is not None:
            check_ended(wait(child), echo, folder)
    return Run(folder)


def active(*words: str | Mapping[str, Any], **keys: Any) -> "Rounds":
    """Train, label the galaxies that teach most, repeat, as `trizoo active` does: its rounds, one by one.

        for record in trizoo.active(dataset="synthetic", backend="torch", rounds=4):
            print(record["labelled"], record["test"]["rmse"])

    Each is a dict, as the record keeps it, and comes as soon as that round is done, while the run goes on with the
    next. Leaving the loop stops the run; the same call gives these rounds again, and goes on. Otherwise as `fit`.
    """
    return Rounds("active", words, keys)


def show_galaxies(
    run: "Run | Rounds | str | os.PathLike[str]",
    which: Any = None,
    *,
    question: str | None = None,
    size: int = 128,
) -> "Pictures":
    """Show galaxies of a run, or of a store, with their votes and posterior: an object that a notebook shows as images.

        trizoo.show_galaxies(run, run.posterior.nlargest(8, "mutual_information"))

    `which` is a list of ids, or of row numbers of the store, or a table with a column id; None: the first twelve. Shown
    are the votes on `question` (None: the run's), and its answers' mean vote fraction with a 90 % interval. Images are
    `size` pixels wide. `.save("galaxies.html")` makes a page of them. ValueError for galaxies that are not there.
    """
    from shared.data.store import MANIFEST, open_store
    from shared.output.pictures import pictures

    if isinstance(run, Rounds):
        run = run.run
    posterior = None
    if (Path(run) / MANIFEST).is_file():
        store = open_store(Path(run))
    else:
        run = run if isinstance(run, Run) else Run(run)
        store = open_store(run.store)
        posterior = run.posterior if (run.folder / "posterior.parquet").is_file() else None
    if which is None:
        which = (store.galaxies if posterior is None else posterior)["id"].head(12)
    return pictures(store, which, posterior, question, size)


class Rounds:
    """The rounds of a run of active learning, each a dict, as they are done; `run` has all of them."""

    def __init__(self, task: str, words: tuple[str | Mapping[str, Any], ...], keys: dict[str, Any]):
        self._steps = self._go_on(task, words, keys)
        self.folder: Path = next(self._steps)["folder"]
        self._run = Run(self.folder)
        _under_way.add(self)

    def __iter__(self) -> "Rounds":
        return self

    def __next__(self) -> dict:
        return next(self._steps)

    def __repr__(self) -> str:
        return f"trizoo.Rounds of {self.folder.name}"

    @property
    def run(self) -> Run:
        """The run, once it has done the rounds that are left."""
        for _ in self:
            pass
        return self._run

    def stop(self) -> None:
        """Stop the run. The same call goes on with it."""
        self._steps.close()

    @staticmethod
    def _go_on(task, words, keys) -> Iterator[dict]:
        with begun(task, words, keys) as (folder, child, echo):
            folder = folder.absolute()  # whatever becomes the working folder between rounds
            yield {"folder": folder}
            if child is None:
                yield from Run(folder).record["results"]["rounds"]
                return
            seen, over = 0, False
            while not over:
                over = _ended_within(child, 0.2)
                found = rounds_so_far(folder)
                yield from found[seen:]
                seen = len(found)
            check_ended(child.returncode, echo, folder)


_under_way: "WeakSet[Rounds]" = WeakSet()
_composing = Lock()  # Hydra's state is the whole process's
PIPED = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}


def rounds_so_far(folder: Path) -> list[dict]:
    """The records of the rounds that active learning at work in `folder` has done."""
    path = folder / ROUNDS
    if not path.is_file():
        return []
    return read_json(path, {"rounds": [dict]}, "begin anew with again=true")["rounds"]


def _ended_within(child: subprocess.Popen, seconds: float) -> bool:
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


@contextmanager
def begun(task: str, words: tuple, keys: dict[str, Any]):
    """The run that a call from Python asks for: its folder, its process, and what passes on its output.

    The last two are None if it is done already. Raises Error for what is refused. Leaving it interrupts a process that
    still runs.
    """
    with ExitStack() as stack:

        def begin():
            config, command = composed(task, words, keys)
            if not TASKS[task].writes:
                raise ValueError(f"{task} leaves no folder; call trizoo.{task} for what it prints")
            place = run_folder(config).absolute()
            for one in [rounds for rounds in _under_way if rounds.folder == place]:
                one.stop()  # an earlier loop was left, but is still known to somebody: to a traceback, say
            more = {IN_PLACE: "1"} if "ipykernel" in sys.modules else {}
            return stack.enter_context(started(config, command, more, **PIPED))

        folder, child = refusing(begin)
        if child is None:
            yield folder, None, None
            return
        try:
            yield folder, child, Echo(child.stdout)
        finally:
            if child.poll() is None:
                end(child, signal.SIGINT)


def refusing(function: Callable, *given: Any) -> Any:
    """What `function` gives; raises Error for what is refused, and RuntimeError for a fault of trizoo."""
    try:
        return function(*given)
    except Exception as error:
        if known := explain(error):
            raise Error(" ".join(known.split())) from None
        raise RuntimeError(
            f"a fault of trizoo ({type(error).__name__}: {error}); please report it with this traceback"
        ) from error


def composed(task: str, words: tuple, keys: dict[str, Any]) -> tuple[dict, str]:
    """The config, and the command line, of the run that a call from Python asks for."""
    if known_task(task) == "demo":
        raise ValueError("demo is several runs: trizoo demo, on the command line")
    typed = words_of(task, words, keys)
    if flag := next((word for word in typed if word.startswith("-")), None):
        raise ValueError(f"{flag} is for the command line; call trizoo once for each run")
    overrides = hydra_words([task, *typed])
    with _composing:
        return settled(compose(overrides), overrides, overrides)


def check_ended(status: int, echo: Echo, folder: Path) -> None:
    """Raise what a run of `folder` that ended with `status`, -n by signal n, has failed for, if it has."""
    why = echo.ended(failed=status != 0)
    if status < 0:
        raise RuntimeError(killed(-status))
    if status == REFUSED:
        raise Error(why or "the run failed; what it printed says why")
    if status == 128 + signal.SIGINT:
        raise RuntimeError(f"the run was stopped; {GOES_ON}")
    if status == FAULT or (status and not (folder / RECORD).is_file()):
        raise RuntimeError(why or f"the run ended with status {status}; what it printed says why")


def __dir__() -> list[str]:
    return [*__all__, "__doc__", "__file__", "__name__", "__version__"]


def main(words: list[str] | None = None) -> int:
    """Do what the command line says; the exit status.

    0: done; 2: refused, or failed for what one line says; 70: a fault of trizoo; 128 + n: ended by signal n; else what
    the run ended with.
    """
    words = sys.argv[1:] if words is None else words
    open_streams()
    OwnPackages.claim("impl_tf", "impl_torch", "impl_jax", "benchmarks", "reports")
    try:
        if words[:1] == ["--run"] and len(words) > 1:
            status = run_here(Path(words[1]), *parse_child(words[2:]))
        elif words[:1] and (pipe := re.fullmatch(r"--part=(\d+)", words[0])):
            status = do_part(*read_part(int(pipe[1])))
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
    if sys.path[0] != str(
        HERE
    ):  # processes of a parallel sweep take this list, and find ours by it
        sys.path.insert(0, str(HERE))
    if words[0] == "cloud":
        from conf.cloud_job import cloud

        return cloud(words[1:])
    words = hydra_words(words)
    if words[0] == "task=demo":
        if flags := [word for word in words if word.startswith("-")]:
            raise ValueError(f"demo takes key=value, not {flags[0]}")
        return demo(words[1:])
    return run_all(words, run_one)


def help_text(task: str | None = None) -> str:
    """What `trizoo --help` prints, or `trizoo TASK --help`."""
    helps = {name: task.help for name, task in TASKS.items()} | {"cloud": CLOUD, "demo": DEMO}
    if task is not None:
        what = f"trizoo {task}: {helps[task]}"
        return f"{what}\n\nusage: trizoo {task} [key=value ...]   (key [default] what it means)\n\n{task_help(task)}"
    tasks = "\n".join(f"  {name:9} {what}" for name, what in helps.items())
    return HELP.format(tasks=tasks, conf=CONF)


def launch(config: dict, command: str) -> int:
    """Do the run that `config` spells out, in a process of its own; its exit status.

    Raises ValueError for a run that cannot be done, KeyboardInterrupt after one that the keyboard stopped.
    """
    with started(config, command) as (_, child):
        status = 0 if child is None else wait(child)
    if status >= 0:
        return status
    print(f"trizoo: {killed(-status)}", file=sys.stderr)
    return 128 - status


@contextmanager
def started(
    config: dict, command: str, more: Mapping[str, str] | None = None, **streams
) -> Iterator[tuple[Path, subprocess.Popen | None]]:
    """Begin the run that `config` spells out: its folder, and its process, or None if it is done already.

    The process has variables `more` than this one, and `streams` of its own. Raises ValueError for a run that cannot be
    done.
    """
    from shared.data.inputs import changed_since

    config = to_config(from_config(RunSpec, config))
    if config["engine"]["name"] != "none":
        raise ValueError(
            f"engine.name is {config['engine']['name']}; only the command line has engines: "
            "trizoo predict parts=64 engine=dask"
        )
    if config["model"]["encoder"] is not None:
        from shared.method.start import pinned

        config = pinned(config)
    task = config["task"]["name"]
    python = shutil.which(config["backend"]["python"] or sys.executable)
    if python is None:
        raise ValueError(
            f"backend.python is {config['backend']['python']}, which is no program; give an interpreter's path"
        )
    environment = child_environment(config["backend"]) | (more or {})
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
            yield folder, None
            return
        for name in (TRACEBACK, ROUNDS):
            (folder / name).unlink(missing_ok=True)
        if anew:
            clear(folder, task)
        print(printable(f"{command} -> {folder}"), flush=True)
        words = [python, *program(), "--run", str(folder)]
        with child_process(words, command, environment, lock, **streams) as child:
            yield folder, child


def run_here(folder: Path, command: str, parent: int | None = None) -> int:
    """Do the run that `folder`'s run.json spells out in this process, and write record.json; the exit status.

    `parent` is a pipe that is closed when the process that started this one ends. A run that waits for somebody says
    so, and writes no record: it is not done.
    """
    if parent is not None:
        end_with_parent(parent)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt_once)
    signal.signal(
        signal.SIGUSR2, signal.SIG_IGN
    )  # a cluster's warning, which is for whoever began this
    try:
        return do_here(folder, command)
    except Exception as error:
        return complain(error, folder)


def do_here(folder: Path, command: str) -> int:
    """Do the run that `folder`'s run.json spells out in this process, and write record.json; the exit status."""
    from shared.data.inputs import inputs

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
    write_record(folder, command, config, made_of, outcome, started, seconds)
    if summary := outcome["results"].get("summary"):
        print(printable(summary))
    print(printable(f"done in {seconds:.1f} s: {folder}"), flush=True)
    return outcome.get("status", 0)


def do_part(config: dict, command: str) -> int:
    """Do the run of `config`, a part that an engine gave out, when nobody else is at work on it; its exit status."""
    folder = run_folder(config)
    make_folder(folder)
    with file_lock(folder / LOCK, waiting=lambda: None):
        pass
    return launch(config, command)


def be_worker(address: str) -> int:
    """Be a worker of a run that waits at `address`, HOST:PORT; the exit status."""
    from shared.method.crew import work
    from shared.method.workers import follow

    if not os.environ.keys() >= ALLOCATOR.keys():  # read once, when a process starts
        words = [sys.executable, *program(), f"--worker={address}"]
        os.execve(sys.executable, words, ALLOCATOR | dict(os.environ))
    return work(address, follow)


def run_one(config: dict, overrides: list[str], named: list[str]) -> int:
    """Do the run of `config`, which `overrides` composed; its exit status, 2 where it is refused (see `settled`)."""
    try:
        config, command = settled(config, overrides, named)
        if not TASKS[config["task"]["name"]].writes:
            print(printable(told(config)), end="")
            return 0
        if config["engine"]["name"] != "none":
            return by_engine(config, command)
        return launch(config, command)
    except Exception as error:
        return complain(error)


def told(config: dict) -> str:
    """What a task that only prints has to say of `config`."""
    task = config["task"]["name"]
    return getattr(import_module(TASKS[task].module), task)(config)


def settled(config: dict, overrides: list[str], named: list[str]) -> tuple[dict, str]:
    """The run of `config`, which `overrides` composed, with what it takes from a fit; and its command line.

    Raises ValueError if `named`, those of them that are no experiment's own, have a key that the task does not use.
    """
    task = config["task"]["name"]
    words = [override for override in overrides if not override.startswith("task=")]
    check_used(task, [key_of(word) for word in named])
    config = with_fit(config, overrides) if TASKS[task].needs_fit else config
    return config, shlex.join(["trizoo", task, *words])


def by_engine(config: dict, command: str) -> int:
    """Have the parts of a prediction that are missing done by its engine, then the rest of it here; the exit status."""
    parts = config["parts"]
    if parts is None or config["part"] is not None:
        raise ValueError(
            f"engine.name is {config['engine']['name']}, which does all parts of a prediction; say how many, as in "
            "trizoo predict parts=64, and no part"
        )
    config = to_config(from_config(RunSpec, config))
    engine = from_config(EngineSpec, config["engine"])
    config["engine"]["name"] = "none"  # each part is done where it is
    missing, folder = range(parts), run_folder(config)
    if config["again"]:
        (folder / RECORD).unlink(missing_ok=True)
    else:
        missing = [k for k in missing if not (part_folder(folder, k, parts) / RECORD).exists()]
    if missing:
        configs = (config | {"part": part} for part in missing)
        try:
            statuses = run_parts(configs, len(missing), engine, command)
        except KeyboardInterrupt:
            print(f"\ntrizoo: stopped; {GOES_ON}", file=sys.stderr)
            raise
        if status := max(statuses):
            return status
    return launch(config | {"again": False}, command)


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
