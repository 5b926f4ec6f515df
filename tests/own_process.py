"""Scripts in a process of their own, since a process holds one framework and one precision."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import trizoo
from trizoo import child_environment, compose

ROOT = Path(__file__).parent.parent
FIT = (  # a small network, in passes and batches of 4
    "task=fit",
    "backend.threads=1",
    "backend.chunk=4",
    "training.batch_size=4",
    "model.image_size=16",
    "model.blocks=[[3],[4]]",
    "model.dense=8",
)


def run_script(script: str, overrides: list[str], *words: str) -> Any:
    """What the last line says, as JSON, that `script` prints; it finds the run of `overrides` as JSON, and then
    `words`.
    """
    config = compose(overrides)
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(config), *words],
        cwd=ROOT,
        env=child_environment(config["backend"]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def stubbed(tmp_path: Path, monkeypatch, script: str) -> Path:
    """An empty working folder in which the process of every run does `script`."""
    stub = tmp_path / "stub.py"
    stub.write_text(script)
    monkeypatch.setattr(trizoo, "program", lambda: [str(stub)])
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def calls(place: Path) -> list[str]:
    """What the script of a `stubbed` folder has noted there so far."""
    file = place / "calls"
    return file.read_text().splitlines() if file.exists() else []
