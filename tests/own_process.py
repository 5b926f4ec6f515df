"""Scripts in a process of their own, since a process holds one framework and one precision."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

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
