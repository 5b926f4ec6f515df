"""One run, one folder, one record: all that a report is made from.

Files appear whole or not at all, and what is there survives a power failure: each is written beside its place as
.trizoo-XXXXXXXX-NAME, brought to the disk, renamed, and then its folder is brought to the disk. A killed process may
leave a file of that name; `sweep` removes it. Every JSON file of ours is read by `read_json`.
"""

import errno
import fcntl
import json
import os
import platform
import re
import reprlib
import secrets
import shutil
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
UNFINISHED = re.compile(r"\.trizoo-[0-9a-f]{8}-.+", re.DOTALL)  # the names that `unfinished` gives
NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}  # of file systems that sync files alone

KINDS = {  # JSON's own, in words
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    None: "null",
}

RUN = {  # the shape of run.json, of which `from_config` checks every key
    "task": {"name": str},
    "seed": int,
    "question": str,
    "positive": [str],
    "minimum_votes": int,
    "backend": {"name": str},
    "dataset": {"name": str, "questions": {str: [str]}, "service": {"scale": object}},
    **dict.fromkeys(("model", "augmentation", "training", "posterior", "split"), dict),
}
RECORD = {  # of record.json, which is written last: a run that has one is done
    "command?": str,
    "run": {"task": {"name": str}},
    "inputs?": ({str: dict}, None),
    "host": dict,
    "where": dict,
    "started": str,
    "seconds": float,
    "results": dict,
}


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make a file, then give it the name `path`: whole and on the disk, or not there."""
    make_folder(path.parent)
    beside = unfinished(path)
    try:
        beside.touch(exist_ok=False)
        write(beside)
        sync(beside)
        beside.replace(path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, OSError) and str(error.filename) == str(beside):
            raise type(error)(error.errno, error.strerror, str(path)) from error
        raise
    sync(path.parent)


def write_folder(place: Path, fill: Callable[[Path], object]) -> Path:
    """Have `fill` put files into a folder, then give it the name `place`: whole and on the disk, or not there."""
    make_folder(place.parent)
    beside = unfinished(place)
    try:
        beside.mkdir()
        fill(beside)
        return publish_folder(beside, place)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def unfinished(path: Path) -> Path:
    """A name of its own, in the same folder, for what will be called `path` once it is whole."""
    return path.with_name(f".trizoo-{secrets.token_hex(4)}-{path.name[-50:]}")


def write_json(path: Path, value: dict) -> None:
    """`value` as JSON at `path`; NaN and infinity become null, which JSON can say."""
    text = json.dumps(plain(value), indent=1, allow_nan=False) + "\n"
    write_whole(path, lambda beside: beside.write_text(text))


def make_folder(folder: Path) -> None:
    """Make `folder`, and those above it that are missing, so that they survive a power failure."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in missing:
        sync(place.parent)


def publish_folder(beside: Path, place: Path) -> Path:
    """Give the filled folder `beside` the name `place`: whole and on the disk, or not there."""
    for inner, _, files in os.walk(beside, topdown=False):
        for name in files:
            sync(Path(inner, name))
        sync(Path(inner))
    beside.rename(place)
    for folder in {place.parent, beside.parent}:
        sync(folder)
    return place


def sync(path: Path) -> None:
    """Bring the file or folder at `path` from the system's memory to the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        flush(file)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC or not path.is_dir():
            raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(file)


def flush(file: int) -> None:
    """Bring the open `file`, a descriptor, to the disk."""
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS, where fsync stops at the drive's own memory
        try:
            fcntl.fcntl(file, fcntl.F_FULLFSYNC)
            return
        except OSError:
            pass  # a file system that knows fsync alone
    os.fsync(file)


def sweep(folder: Path) -> None:
    """Remove the files and folders that a killed process was writing in `folder`, but not in runs inside it.

    Only for the process that holds `folder`: those of a living one have the same names.
    """
    for place, folders, files in os.walk(folder):
        for name in filter(UNFINISHED.fullmatch, files):
            Path(place, name).unlink(missing_ok=True)
        for name in filter(UNFINISHED.fullmatch, folders):
            shutil.rmtree(Path(place, name), ignore_errors=True)
        folders[:] = [name for name in folders if not Path(place, name, "run.json").exists()]


def read_json(path: Path, shape: Any, fix: str) -> Any:
    """The value in the JSON file at `path`, of the `shape` that `parse_json` describes.

    Raises FileNotFoundError if there is no file, ValueError if it is damaged or of another shape; both name the file
    and end with `fix`, what to do.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no {path}; {fix}") from None
    return parse_json(data, shape, str(path), fix)


def parse_json(data: str | bytes, shape: Any, name: str, fix: str) -> Any:
    """The value in JSON `data`; ValueError, with its `name` and `fix`, if it is damaged or not of the `shape`.

    A shape is a type (float takes whole numbers too; `object` takes anything), None for null, a tuple of alternatives,
    [shape] for a list, {str: shape} for an object of any keys, or {key: shape, ...} for one that has these keys: one
    that ends in "?" may be missing, and others may be there. No number may be NaN or infinite.
    """
    try:
        value = json.loads(
            data, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite
        )
    except (ValueError, RecursionError) as error:
        what = f"is damaged ({error})" if data.strip() else "is empty"
        raise ValueError(f"{name} {what}; {fix}") from error
    try:
        _check(value, shape, "")
    except ValueError as error:
        raise ValueError(f"{name} does not hold what it should: {error}; {fix}") from error
    return value


def _check(value: Any, shape: Any, where: str) -> None:
    """Raise ValueError, naming the place below `where`, unless `value` has the `shape`."""
    if isinstance(shape, tuple):
        problems = []
        for one in shape:
            try:
                return _check(value, one, where)
            except ValueError as error:
                problems.append(error)
        raise problems[0]
    kind = type(shape) if isinstance(shape, dict | list) else shape
    types = {float: (int, float), None: type(None)}.get(kind, kind)
    if not isinstance(value, types) or (isinstance(value, bool) and kind not in (bool, object)):
        raise ValueError(f"{where or 'it'} is {reprlib.repr(value)}, not {KINDS[kind]}")
    if isinstance(shape, list):
        for number, one in enumerate(value):
            _check(one, shape[0], f"{where}[{number}]")
    if isinstance(shape, dict):
        wanted = dict.fromkeys(value, shape[str]) if str in shape else shape
        for key, inner in wanted.items():
            name = key if str in shape else key.removesuffix("?")
            place = f"{where}.{name}" if where else name
            if name in value:
                _check(value[name], inner, place)
            elif name == key:
                raise ValueError(f"{place} is missing")
    return None


def _unique(pairs: list[tuple[str, Any]]) -> dict:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key is there twice")
    return value


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:
        raise ValueError(f"{text[:20]} is no finite number")
    return number


def read_run(folder: Path) -> dict:
    """The configuration in `folder`'s run.json; ValueError or FileNotFoundError if there is none that is whole."""
    return read_json(folder / "run.json", RUN, "name another folder, or delete this one")


def read_record(folder: Path) -> dict:
    """What `folder`'s record.json says; ValueError or FileNotFoundError if there is none that is whole."""
    return read_json(folder / "record.json", RECORD, "remove it, and do its run again")


def read_records(folder: Path) -> list[dict]:
    """Every record.json under `folder` in the order of their paths, each with its own folder under "folder"."""
    places = sorted(path.parent for path in Path(folder).rglob("record.json"))
    return [{**read_record(place), "folder": str(place)} for place in places]


def host() -> dict:
    """The machine and the code behind a record."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "python": platform.python_version(),
        "trizoo": _version("trizoo"),
        "commit": _commit(),
    }


def allocator() -> str:
    """The memory allocator's settings in this process."""
    names = sorted(name for name in os.environ if name.startswith("MALLOC_"))
    return " ".join(f"{name}={os.environ[name]}" for name in names) or "default"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of trizoo's own checkout; None where there is none, also if another repository is around it."""
    try:
        top = Path(_git("rev-parse", "--show-toplevel"))
        if top.samefile(ROOT) and (ROOT / "pyproject.toml").is_file():
            return _git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        pass
    return None


def _git(*words: str) -> str:
    # in a hook, git's own variables name another repository
    ours = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    asked = subprocess.run(
        ["git", "-C", str(ROOT), *words], env=ours, capture_output=True, text=True, check=True
    )
    return asked.stdout.strip()


def plain(value: Any) -> Any:
    """`value` as JSON can say it: plain data, with null for NaN and infinity."""
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and value - value != 0:
        return None
    return value
