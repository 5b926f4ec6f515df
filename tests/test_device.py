"""What is said where there is no GPU, or one that the framework's build cannot use; played, so that any machine can."""

import subprocess
import sys
from pathlib import Path

import pytest

from trizoo import child_environment

ROOT = Path(__file__).parent.parent
PLAYED = {
    "torch": """
import torch
torch.cuda.is_available = lambda: found
torch.cuda.get_device_name = lambda *_: "Old Card"
torch.ones = broken
""",
    "tf": """
import tensorflow as tf
tf.config.list_physical_devices = lambda *_: ["card"] if found else []
tf.config.experimental.get_device_details = lambda _: {"device_name": "Old Card"}
tf.ones = broken
""",
    "jax": """
import types
import jax, jax.numpy as jnp
card = types.SimpleNamespace(device_kind="Old Card", platform="gpu")
def devices(backend="cpu"):
    if not found:
        raise RuntimeError("no gpu backend")
    return [card]
jax.local_devices = devices
jax.default_backend = lambda: "gpu" if found else "cpu"
jnp.ones = broken
""",
}
SCRIPT = """
import sys
from dataclasses import replace
found, wanted = sys.argv[2] == "found", sys.argv[3]
def broken(*_, **__):
    raise RuntimeError("no kernel image is available for execution on the device")
{played}
from shared.method.backend import DEFAULT, open_backend
try:
    open_backend(replace(DEFAULT, name=sys.argv[1], device=wanted))
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("found", "wanted", "words"),
    [
        ("missing", "gpu", ["finds no GPU", "backend.device=cpu", "backend.python"]),
        (
            "found",
            "gpu",
            ["cannot compute on Old Card", "no kernel image", "backend.device=cpu", "6.1", "cudnn"],
        ),
        (
            "found",
            "auto",
            ["cannot compute on Old Card", "no kernel image", "backend.device=cpu", "6.1", "cudnn"],
        ),
    ],
)
@pytest.mark.parametrize("name", PLAYED)
def test_gpus_that_cannot_be_used(name, found, wanted, words):
    command = [sys.executable, "-c", SCRIPT.format(played=PLAYED[name]), name, found, wanted]
    environment = child_environment({"threads": 0, "environment": {"TF_CPP_MIN_LOG_LEVEL": "3"}})
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert all(word in done.stdout for word in words), done.stdout
