"""Files of `trizoo export format=torch|keras|flax` are read by their frameworks alone, as docs/conformance.md says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from installed import needs

import trizoo
from shared.network.model import model_of
from shared.network.weights import model_shapes, save_weights, state_shapes
from shared.proof import network as proof
from shared.run.records import write_json
from shared.run.spec import RunSpec, from_config
from shared.tasks.export import NATIVE, export
from tests.network_checks import doubled, random_moments, random_weights

ROOT = Path(__file__).parent.parent
OWN = ("shared", "trizoo", "impl_tf", "impl_torch", "impl_jax")  # what a reader of the files lacks
READ = """
import sys
import numpy as np
sys.modules.update(dict.fromkeys({own}))
images = np.load("images.npy")
{code}
np.save("logits.npy", np.asarray(logits.detach() if hasattr(logits, "detach") else logits))
"""
TINY = ("model.image_size=32", "backend.threads=1")
NETWORKS = {
    "torch": ("model=convnext_atto", "model.widths=[4,6,8,8]", "model.depths=[1,1,2,1]"),
    "keras": ("model=convnext_atto", "model.widths=[4,6,8,8]", "model.depths=[1,1,2,1]"),
    "flax": ("model=resnet18", "model.widths=[4,6,8,8]", "model.depths=[1,1,1,1]"),
}


def fit(folder, *words):
    """The configuration, model and arrays of a fit that is made up, in a folder."""
    config = trizoo.compose([*TINY, *words])
    write_json(folder / "run.json", config)
    spec = from_config(RunSpec, config).model
    model = model_of(spec)
    moments = {name: s for name, s in state_shapes(spec).items() if name not in model_shapes(spec)}
    weights, moments = random_weights(model), random_moments(moments)
    save_weights(folder / "weights.safetensors", weights | moments, {})
    return model, weights, moments


def code(framework):
    """What the page says to load a file with."""
    page = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    found = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    return next(block for block in found if NATIVE[framework][2] in block)


@pytest.mark.slow
@pytest.mark.parametrize("name", NATIVE)
def test_a_file_is_read_by_its_framework_alone(name, tmp_path):
    needs(NATIVE[name][1])
    model, weights, moments = fit(tmp_path / "fit", *NETWORKS[name])
    words = [
        "export",
        f"weights={tmp_path / 'fit'}",
        f"format={name}",
        f"folder={tmp_path / 'out'}",
    ]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, ROOT / "trizoo.py", *words, f"outputs={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((tmp_path / "out" / "record.json").read_text())
    file = tmp_path / "out" / NATIVE[name][2]
    assert record["results"]["bytes"] == {file.name: file.stat().st_size}

    x = np.random.default_rng(0).random((3, *model.image)).astype(np.float32)
    np.save(tmp_path / "out" / "images.npy", x)
    program = READ.format(own=OWN, code=code(name))
    command = [sys.executable, "-I", "-c", program]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    exact = proof.forward(model.whole, doubled(weights), x.astype(float), doubled(moments)).output
    logits = np.load(tmp_path / "out" / "logits.npy")
    assert np.abs(logits - exact).max() < 1e-5 * np.abs(exact).max()


def test_a_format_without_its_framework_is_refused(tmp_path, monkeypatch):
    fit(tmp_path / "fit")
    words = ["task=export", f"weights={tmp_path / 'fit'}", "format=torch"]
    run = from_config(RunSpec, trizoo.with_fit(trizoo.compose(words), words))
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ValueError, match=r"format is torch, but torch cannot be imported"):
        export(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="format is 'pickle'; choose one of onnx, torch, keras"):
        from_config(RunSpec, trizoo.compose(["task=export", "format=pickle"]))
