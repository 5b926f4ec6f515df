"""The folder of a run: its name, its run.json, its lock, and what an earlier run left there."""

import re
import shutil
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from shared.data.inputs import store_inputs
from shared.run.config import differences, identity, put
from shared.run.locks import file_lock
from shared.run.progress import say
from shared.run.records import host, make_folder, read_record, read_run, write_json
from shared.run.spec import digest
from shared.tasks import TASKS
from shared.tasks.inherit import weights_file

RECORD, LOCK = "record.json", ".lock"  # in every run's folder


def run_folder(config: dict) -> Path:
    """The folder of a run: what `folder` says, or a name made from the run itself; of a part, its own inside."""
    if config["task"]["name"] == "predict" and config["part"] is not None:
        whole = run_folder(config | {"part": None})
        return part_folder(whole, config["part"], config["parts"])
    if config["folder"] is not None:
        return Path(config["folder"])
    task, outputs, what = config["task"]["name"], Path(config["outputs"]), identity(config)
    if task == "report":
        return outputs / "report"
    if TASKS[task].needs_fit:
        what["weights"] = sha256(weights_file(config["weights"]).read_bytes()).hexdigest()
    if config["weights"] is not None or config["model"]["encoder"] is not None:
        from shared.method.start import contents

        for key, of_file in contents(config).items():
            put(what, key, of_file)
    seed = f"seed{config['seed']}"
    about = config["question"] if config["questions"] is None else "tree"
    words = [about, config["backend"]["name"], seed]
    if task in ("prepare", "show", "match"):
        words = [config["dataset"]["name"]]
    elif task in ("catalogue", "gather", "votes"):
        source = Path(config["run"] or "").resolve()
        words = [source.parent.name if source.is_file() else source.name]
    elif task == "kit":
        words = [seed]
    return outputs / task / re.sub(r"[^\w.-]+", "-", "-".join([*words, digest(what)]))


def part_folder(folder: Path, part: int, parts: int) -> Path:
    """The folder of a part of the prediction whose `folder` is given."""
    return folder / f"part-{part:05d}-of-{parts:05d}"


def write_config(folder: Path, config: dict) -> None:
    """Write run.json into `folder`; raises ValueError if `folder` holds something else."""
    file, anew = folder / "run.json", not TASKS[config["task"]["name"]].cached
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
    elif any(not re.match(r"\.|part-\d+-of-\d+$", path.name) for path in folder.iterdir()):
        raise ValueError(
            f"{folder} holds files, but no run.json; give a new or an empty folder=..."
        )
    write_json(file, config)


def clear(folder: Path, task: str) -> None:
    """Remove from `folder` what a run of `task` leaves there, and nothing else.

    Raises ValueError if it holds what volunteers were asked: their answers could not be had again.
    """
    asks = sorted(path.name for path in folder.glob("ask-*") if re.fullmatch(r"ask-\d+", path.name))
    if task == "active" and asks:
        raise ValueError(
            f"{folder} holds what volunteers were asked and said ({', '.join(asks[:3])}{', ...' * (len(asks) > 3)}), "
            "which again=true would lose; give another folder=..., or move these folders away yourself"
        )
    remove(folder, (RECORD, *TASKS[task].leaves))


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove the files and folders of these `names` in `folder`, as far as they are there."""
    for name in names:
        if (folder / name).is_dir():
            shutil.rmtree(folder / name)
        (folder / name).unlink(missing_ok=True)


def write_record(
    folder: Path,
    command: str,
    config: dict,
    made_of: dict,
    outcome: dict,
    started: str,
    seconds: float,
) -> dict:
    """Write record.json of the run of `config` that is done, and give it; `made_of` is what `inputs` said before it."""
    record = {
        "command": command,
        "run": config,
        "inputs": made_of | store_inputs(outcome["results"]),
        "host": host(),
        "where": outcome["where"],
        "started": started,
        "seconds": seconds,
        "results": outcome["results"],
    }
    write_json(folder / RECORD, record)
    return record


@contextmanager
def folder_lock(folder: Path):
    """Hold `folder` for one process and its child; raises ValueError if another holds it. Gives the
    lock's descriptor.
    """
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


def finished(folder: Path) -> dict | None:
    """The record of the run in `folder` if it is done: if there is a whole record.json. Says so if one is not whole."""
    try:
        return read_record(folder)
    except FileNotFoundError:
        return None
    except ValueError as error:
        say(f"trizoo: {error}; going on as if it were not there")
        return None
