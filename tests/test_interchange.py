"""What one framework has saved, any other goes on from; what does not fit is refused, and nothing is unpickled."""

import ast
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from fake import Fake, run_of
from interchange import HALF, WHOLE
from safetensors.numpy import load_file, save_file
from session_files import made_once

import trizoo
from shared.data.prepare import prepare
from shared.method.training import CHECKPOINT, fit, made_of, resume_or_start
from shared.network.weights import (
    first_checkpoint,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from shared.proof.case import relative_error
from shared.run.keys import galaxy_hash
from shared.run.spec import BACKENDS
from shared.tasks.galaxies import cutouts, labelled_parts

ROOT = Path(__file__).parent.parent
# W+20's network at a quarter of its width; check long_training has the whole of it
SMALL = (
    "task=conform",
    "backend.precision=float64",
    "backend.threads=1",
    "mode=corrected",
    "model.image_size=32",
    "model.blocks=[[8,8],[16,16],[32],[32]]",
    "model.dense=32",
    "training.batch_size=8",
)
MOST = 1e-10  # max |difference| / max |value| of any array, after 50 steps that rounding errors grow through


def start(folder, name):
    config = trizoo.compose([*SMALL, f"backend={name}"])
    (folder / f"{name}.json").write_text(json.dumps(config))
    with (folder / f"{name}.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, ROOT / "tests" / "interchange.py", folder, name],
            env=trizoo.child_environment(config["backend"]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


def train(folder):
    """Every framework's checkpoints, and what the others made of them."""
    children = {name: start(folder, name) for name in BACKENDS}
    try:
        for name, child in children.items():
            line = child.stdout.readline()
            assert line == "half-way\n", (folder / f"{name}.log").read_text()[-3000:]
        for child in children.values():
            child.stdin.write("go on\n")
            child.stdin.flush()
        for name, child in children.items():
            child.communicate()
            assert child.returncode == 0, (folder / f"{name}.log").read_text()[-3000:]
    finally:
        for child in children.values():
            child.kill()


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of every framework's checkpoints."""
    return made_once(tmp_path_factory, "interchange", train)


def loaded(folder, name):
    model = run_of(*SMALL).model
    checkpoint, _ = load_checkpoint(folder / f"{name}.safetensors", model)
    assert all(array.dtype == np.float64 for part in checkpoint[:3] for array in part.values())
    return checkpoint


def furthest(one, other):
    """The largest error of any array of two checkpoints, and its name."""
    return max(
        (relative_error(getattr(one, part)[name], array), f"{part}/{name}")
        for part in ("weights", "first", "second")
        for name, array in getattr(other, part).items()
    )


@pytest.mark.parametrize(("first", "then"), list(permutations(BACKENDS, 2)))
def test_half_of_it_elsewhere_is_the_whole_of_it_here(trained, first, then):
    there, whole = (loaded(trained, name) for name in (f"{first}-{then}", f"{then}-{WHOLE}"))
    assert there.step == whole.step == WHOLE
    error, where = furthest(there, whole)
    print(f"{first} then {then}: {error:.1e} in {where}")
    assert error < MOST, where


@pytest.mark.parametrize("name", BACKENDS)
def test_the_second_half_is_far_from_the_first(trained, name):
    """Else a framework that took no step, or ignored what it was given, would pass."""
    half, whole = loaded(trained, f"{name}-{HALF}"), loaded(trained, f"{name}-{WHOLE}")
    begun = first_checkpoint(run_of(*SMALL).model, 0)
    assert (half.step, begun.step) == (HALF, 0)
    for part in ("weights", "first", "second"):
        for array, value in getattr(whole, part).items():
            assert relative_error(getattr(half, part)[array], value) > 1e-3, (part, array)
            assert relative_error(getattr(begun, part)[array], getattr(half, part)[array]) > 1e-3


def test_moments_that_were_lost_are_seen(trained):
    """A file of weights alone goes on as another run."""
    lost, whole = loaded(trained, "torch-lost"), loaded(trained, f"torch-{WHOLE}")
    assert furthest(lost, whole)[0] > 1e-3


# What is refused


@pytest.fixture
def saved(tmp_path):
    """A checkpoint's path and its arrays."""
    path, model = tmp_path / "checkpoint.safetensors", run_of().model
    save_checkpoint(path, first_checkpoint(model, 0)._replace(step=7), {})
    assert load_checkpoint(path, model)[0].step == 7
    return path, load_file(path)


def rename(arrays):
    arrays["weights/conv00/kernel"] = arrays.pop("weights/conv0/kernel")


def lose_moment(arrays):
    del arrays["second/answer/bias"]


def lose_moments(arrays):
    for name in [name for name in arrays if name.startswith("first/")]:
        del arrays[name]


def add(arrays):
    arrays["weights/conv9/kernel"] = np.zeros((3, 3, 2, 2), np.float32)


def transpose_dense(arrays):
    arrays["weights/hidden/kernel"] = arrays["weights/hidden/kernel"].T.copy()


def outputs_first(arrays):
    arrays["first/conv0/kernel"] = arrays["first/conv0/kernel"].transpose(3, 2, 0, 1).copy()


def one_answer(arrays):
    arrays["second/answer/bias"] = arrays["second/answer/bias"][:1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename, r"has the arrays .*conv00/kernel.*, but the model has conv0/kernel, "),
        (lose_moment, r"has the arrays .*, but the model has .*answer/bias; give the model group"),
        (lose_moments, r"has the arrays of no weights, but the model has conv0/kernel"),
        (add, r"has the arrays .*conv9/kernel"),
        (transpose_dense, r"hidden/kernel has the shape \(4, 2\), but the model needs \(2, 4\)"),
        (outputs_first, r"conv0/kernel has the shape \(2, 1, 3, 3\), .* needs \(3, 3, 1, 2\)"),
        (one_answer, r"answer/bias has the shape \(1,\), but the model needs \(2,\)"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(saved, change, message):
    path, arrays = saved
    change(arrays)
    save_file(arrays, path, {"about": '{"step": 7}'})
    with pytest.raises(ValueError, match=message) as refused:
        load_checkpoint(path, run_of().model)
    assert str(path) in str(refused.value)


def test_a_checkpoint_for_images_of_another_size_is_refused(saved):
    path, _ = saved
    with pytest.raises(ValueError, match=r"hidden/kernel has the shape \(2, 4\), .* \(8, 4\)"):
        load_checkpoint(path, replace(run_of().model, image_size=32))


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def as_pickle(path, trap):
    path.write_bytes(pickle.dumps(trap))


def as_numpy(path, trap):
    with path.open("wb") as file:
        np.save(file, np.array([trap], object), allow_pickle=True)


def as_torch(path, trap):
    torch = pytest.importorskip("torch")
    torch.save({"conv0/kernel": trap}, path)


def as_facts(path, trap):
    """A whole safetensors file, with the pickle where the facts should be."""
    arrays = first_checkpoint(run_of().model, 0).weights
    save_file(arrays, path, {"about": pickle.dumps(trap, 0).decode()})


@pytest.mark.parametrize("write", [as_pickle, as_numpy, as_torch, as_facts])
def test_nothing_is_unpickled(tmp_path, write):
    sprung, path = tmp_path / "sprung", tmp_path / "weights.safetensors"
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()  # the trap is one
    sprung.rmdir()
    write(path, Trap(sprung))
    for load in (load_weights, load_checkpoint):
        with pytest.raises(
            ValueError, match=r"is not a whole safetensors file|what .* says of itself is damaged"
        ):
            load(path, run_of().model)
    assert not sprung.exists()


def unpickling(source):
    """The lines of `source` that could unpickle."""
    modules = {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            bad = modules & {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            bad = modules & {(node.module or "").split(".")[0]}
        elif isinstance(node, ast.keyword):
            bad = node.arg in ("allow_pickle", "weights_only")
        else:
            bad = isinstance(node, ast.Attribute) and ast.unparse(node) in (
                "torch.load",
                "pd.read_pickle",
            )
        if bad:
            found.add(node.lineno if hasattr(node, "lineno") else node.value.lineno)
    return sorted(found)


def test_no_line_of_the_packages_could_unpickle():
    files = [ROOT / "trizoo.py"]
    for package in ("shared", *(f"impl_{name}" for name in BACKENDS), "reports", "benchmarks"):
        files += sorted((ROOT / package).rglob("*.py"))
    assert len(files) > 60
    assert not [str(file) for file in files if unpickling(file.read_text())]
    bad = "import pickle\nfrom joblib import load\nnp.load(f, allow_pickle=True)\ntorch.load(f)\n"
    assert unpickling(bad) == [1, 2, 3, 4]


def test_a_fit_does_not_go_on_with_another_question(tmp_path):
    words = ("dataset.galaxies=40", f"dataset.stores={tmp_path}/stores", "training.steps=12")
    words = (*words, "training.batch_size=4", "backend.steps=6", "training.checkpoint_every=6")
    run = run_of("task=fit", *words)
    other = replace(run, question="bar", positive=("strong",))
    turned = replace(run, positive=("featured-or-disk",))
    store = prepare(run.dataset)
    hashes = galaxy_hash(store.galaxies["id"])
    smooth, bar, featured = (
        labelled_parts(one, store, hashes)["train"] for one in (run, other, turned)
    )
    folder = tmp_path / "run"
    images, path = cutouts(run, store), folder / CHECKPOINT
    state, _ = fit(Fake(), run, images, smooth, lambda state: None, folder)
    assert (
        resume_or_start(run, path, made_of(run, images, smooth), images, smooth)[0].step
        == state.step
        == 12
    )
    for one, labelled in ((other, bar), (turned, featured)):
        with pytest.raises(
            ValueError, match=r"another run \(it differs in .*positive.* again=true"
        ):
            resume_or_start(one, path, made_of(one, images, labelled), images, labelled)
    with pytest.raises(ValueError, match=r"votes have changed since .* again=true"):
        resume_or_start(run, path, made_of(run, images, featured), images, featured)


def test_a_folder_does_not_take_a_run_of_another_question(tmp_path):
    words = ["task=fit", f"folder={tmp_path}"]
    trizoo.write_config(tmp_path, trizoo.compose(words))
    other = trizoo.compose([*words, "question=bar", "positive=[strong]"])
    with pytest.raises(ValueError, match=r"it differs in question, positive.*another folder="):
        trizoo.write_config(tmp_path, other)
