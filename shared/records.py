"""One run, one folder, one record: all that a report is made from.

Files appear whole or not at all: each is written beside its place and then renamed.
"""

import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have WRITE make a file, then give it the name PATH: whole, or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix, delete=False
    ) as file:
        beside = Path(file.name)
    try:
        write(beside)
        beside.chmod(0o644)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: dict) -> None:
    """VALUE as JSON at PATH; NaN and infinity become null, which JSON can say."""
    text = json.dumps(_plain(value), indent=1, allow_nan=False) + "\n"
    write_whole(path, lambda beside: beside.write_text(text))


def read_records(folder: Path) -> list[dict]:
    """Every record.json under FOLDER in the order of their paths, each with its own folder under "folder"."""
    paths = sorted(Path(folder).rglob("record.json"))
    return [{**json.loads(path.read_text()), "folder": str(path.parent)} for path in paths]


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
    ask = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _plain(value):
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and value - value != 0:
        return None
    return value
