"""ONNX files give the specification's numbers, through onnxruntime, for weights that each framework trained.

`python tests/test_export.py FOLDER` trains a few steps, one framework in one process, for the tests that ask for it.
"""

import json
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from installed import needs
from quick import ONE_FRAMEWORK

import trizoo
from shared.data.synthetic import draw_galaxies, render
from shared.method.backend import open_backend
from shared.method.batches import Cutouts, Labelled, draw_plan
from shared.method.likelihood import YES_OR_NO, fractions
from shared.method.sampling import sample_galaxies
from shared.method.views import reduction, still_views
from shared.network.weights import (
    first_checkpoint,
    init_moments,
    init_weights,
    load_weights,
    save_weights,
)
from shared.proof import export, reference
from shared.proof.case import unlike_any
from shared.run import keys
from shared.run.keys import galaxy_hash
from shared.run.records import host, write_json
from shared.run.spec import RunSpec, from_config
from shared.tasks.export import export as write
from tests.train_networks import COLOURS, NARROW

ROOT = Path(__file__).parent.parent
TOLERANCE = 1e-5
MANY, SAMPLES = 12, 20  # galaxies to train on, and what prediction draws of each
TINY = ("model.image_size=32", "model.blocks=[[6],[5],[7]]", "model.dense=10")


def galaxies():
    """The hashes of a few galaxies' ids, and their images."""
    drawn = draw_galaxies(MANY, 1)
    images = np.stack([render(row._asdict()) for row in drawn.itertuples(index=False)])
    return galaxy_hash(drawn["id"]), images


def train(folder):
    """Write weights after a few steps, and the samples that prediction draws with them."""
    run = from_config(RunSpec, json.loads((folder / "run.json").read_text()))
    hashes, images = galaxies()
    cutouts, rows = Cutouts(images, reduction(run, 256)), np.arange(MANY)
    yes = np.tile([0, 30, 5], MANY // 3)
    plan = draw_plan(
        run, Labelled.yes_or_no(rows, hashes, yes, np.full(MANY, 30)), cutouts.size, 0, 0, 3
    )
    backend = open_backend(run.backend)
    state = backend.init(run, first_checkpoint(run.model, run.seed))
    state, _ = backend.train_steps(state, cutouts, plan)
    save_weights(folder / "weights.safetensors", backend.export_weights(state), {"steps": 3})
    rho = sample_galaxies(backend, run, state, cutouts, rows, hashes, SAMPLES)
    np.save(folder / "rho.npy", rho)


if __name__ == "__main__":
    sys.exit(train(Path(sys.argv[1])))

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def run_of(*words):
    return from_config(RunSpec, trizoo.compose(["task=export", *words]))


def trained(name, folder):
    """A run of the backend called `name`, and the weights that it trained in `folder`."""
    needs(name)
    words = ["model.image_size=32", "training.batch_size=8", "training.learning_rate=0.01"]
    config = trizoo.compose([*words, f"backend={name}", "backend.chunk=16"])
    write_json(folder / "run.json", config)
    command, environment = (
        [sys.executable, __file__, folder],
        trizoo.child_environment(config["backend"]),
    )
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    run = from_config(RunSpec, config)
    return run, load_weights(folder / "weights.safetensors", run.model)


def invented(run):
    """Weights without any symmetry, none of them 0, whose rho are far from each other."""
    random = np.random.default_rng(5)
    weights = init_weights(run.model, 3)
    for name, array in weights.items():
        if name.endswith("bias"):
            weights[name] = random.normal(0, 0.1, array.shape).astype(np.float32)
    weights["answer/kernel"] *= 3
    for name, array in init_moments(run.model).items():
        weights[name] = random.uniform(0.1, 0.3, array.shape).astype(np.float32)
    return weights


def noise(run, count):
    """Stored images of smooth light and noise, in every corner another, and in every colour."""
    random = np.random.default_rng(count)
    y, x = np.mgrid[:256, :256] / 255
    steps = random.uniform(-1, 1, (4, count, 1, 1, run.dataset.channels))
    y, x = y[None, ..., None], x[None, ..., None]
    light = steps[0] * y + steps[1] * x + steps[2] * y * x + 0.3 * steps[3]
    light = 128 + 90 * light + random.normal(0, 40, (count, 256, 256, run.dataset.channels))
    return light.clip(0, 255).astype(np.uint8)


def files(run, weights):
    return export.models(run, weights, {"trizoo": "0", "result": "a chance"})


def masks(run, count, samples):
    random = np.random.default_rng(samples)
    return random.random((count, samples, run.model.dense)) >= run.model.dropout


def oracle(run, weights, images, kept):
    """The specification's units and rho, in float64."""
    exact = {name: array.astype(np.float64) for name, array in weights.items()}
    cutouts = Cutouts(images, reduction(run, 256))
    views = still_views(run, cutouts.size, len(images))
    units = reference.features(run.model, exact, reference.apply_views(run, cutouts[:], views))
    logits = reference.logits(run.model, exact, units[:, None], {"dropout": kept})
    return units, fractions(YES_OR_NO, logits)[..., 1]


def errors(run, weights, images, kept, made=None):
    """How far units (relative to the largest) and rho, whole and in two parts, are from the specification's."""
    made = files(run, weights) if made is None else made
    units, rho = oracle(run, weights, images, kept)
    one = export.compute(made["features.onnx"], image=images)
    assert one.dtype == np.float32
    parts = export.compute(made["head.onnx"], units=one, kept=kept.astype(np.uint8))
    whole = export.compute(made["rho.onnx"], image=images, kept=kept.astype(np.uint8))
    assert (one.shape, whole.shape, parts.shape) == (units.shape, rho.shape, rho.shape)
    return [
        np.abs(one - units).max() / np.abs(units).max(),
        np.abs(whole - rho).max(),
        np.abs(parts - rho).max(),
    ]


@pytest.mark.parametrize("name", ONE_FRAMEWORK)
def test_rho_of_trained_weights_is_the_specifications_and_predictions(name, tmp_path):
    run, weights = trained(name, tmp_path)
    hashes, images = galaxies()
    made, units = files(run, weights), run.model.dense
    for kept in (masks(run, 7, 5), np.ones((7, 1, units), bool), np.zeros((7, 2, units), bool)):
        assert max(errors(run, weights, images[:7], kept, made)) < TOLERANCE
    one = masks(run, 1, 300)
    assert max(errors(run, weights, images[:1], one, made)) < TOLERANCE

    galaxy_keys = keys.galaxy_keys(run.seed, "posterior", hashes)
    numbers = np.tile(np.arange(SAMPLES), (MANY, 1))
    kept = keys.keep(galaxy_keys[:, None], numbers, units, run.model.dropout)
    got = export.compute(made["rho.onnx"], image=images, kept=kept.astype(np.uint8))
    np.testing.assert_allclose(got, np.load(tmp_path / "rho.npy"), rtol=0, atol=TOLERANCE)
    assert np.ptp(got) > 0.02


COLOUR = ("dataset=folder", "dataset.images=photos", "dataset.channels=3")


@pytest.mark.parametrize(
    "words",
    [
        ("dataset.crop=0.5",),
        ("augmentation=bar", "model.dropout=0.2"),
        ("augmentation=none", "model.image_size=64"),
        ("augmentation.border=zero", "augmentation.resampling=nearest", "dataset.crop=0.73"),
        ("augmentation=none", "augmentation.border=zero", "model.image_size=320"),
        ("augmentation=none", "model.image_size=320"),
        ("model.image_size=256",),
        ("model.scale=raw", "model.dropout=0"),
        COLOUR,
        (*COLOUR, "model.image_size=192", "model.blocks=[[3],[2],[2],[3]]"),
    ],
)
def test_every_view_and_network_is_the_specifications(words):
    run = run_of(*TINY, *words)
    weights, images = invented(run), noise(run, 3)
    if run.model.scale == "raw":
        weights["answer/kernel"] /= 255
    kept = masks(run, 3, 6)
    assert max(errors(run, weights, images, kept)) < 2e-6
    assert np.ptp(oracle(run, weights, images, kept)[1]) > 0.03


@pytest.mark.parametrize("name", sorted(NARROW.keys() - {"w20"}))
def test_every_architecture_in_colour_is_the_specifications(name):
    run = run_of(f"model={name}", "model.image_size=32", *NARROW[name], *COLOURS)
    start = unlike_any(first_checkpoint(run.model, 1), 1)
    weights = {**start.weights, **start.moments}
    for array in start.weights.values():  # so that samples differ, and no bias is 0
        array += np.random.default_rng(2).normal(0, 0.1, array.shape).astype(np.float32)
    made = files(run, weights)
    assert export.difference(run, weights, made) < 1e-5
    other = {name: array * 1.01 for name, array in weights.items()}
    assert export.difference(run, other, made) > 1e-4


def channels_first(kernel):
    wide = kernel.reshape(4, 4, -1, kernel.shape[-1])
    return wide.transpose(2, 0, 1, 3).reshape(kernel.shape)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("conv0/kernel", lambda kernel: kernel.transpose(1, 0, 2, 3)),
        ("conv1/kernel", lambda kernel: kernel[::-1, ::-1]),
        ("hidden/kernel", channels_first),
        ("answer/kernel", lambda kernel: kernel[:, ::-1]),
        ("answer/bias", lambda bias: bias[::-1]),
        ("conv2/bias", np.zeros_like),
    ],
)
def test_another_layout_of_a_weight_is_seen(name, change):
    run = run_of(*TINY)
    weights, images, kept = invented(run), noise(run, 3), masks(run, 3, 6)
    other = files(run, {**weights, name: change(weights[name])})
    _, whole, parts = errors(run, weights, images, kept, other)
    assert min(whole, parts) > 100 * TOLERANCE


def test_weights_of_a_float64_run_become_float32():
    run = run_of(*TINY)
    weights = invented(run)
    wide = {name: array.astype(np.float64) for name, array in weights.items()}
    assert files(run, wide) == files(run, weights)


def test_masks_are_read_as_numbers_that_are_0_or_not():
    run = run_of(*TINY)
    made, units = files(run, invented(run)), np.full((1, 10), 0.5, np.float32)
    kept = masks(run, 1, 4).astype(np.uint8)
    got = [export.compute(made["head.onnx"], units=units, kept=some) for some in (kept, 255 * kept)]
    np.testing.assert_array_equal(*got)
    assert np.ptp(got[0]) > 0.01


def test_any_runtime_since_2020_can_read_the_files():
    run = run_of(*TINY)
    for data in files(run, invented(run)).values():
        model = onnx.load_from_string(data)
        assert (model.ir_version, [(o.domain, o.version) for o in model.opset_import]) == (
            7,
            [("", 13)],
        )


def test_inputs_and_outputs():
    run = run_of(*TINY, *COLOUR)
    sides = {}
    for name, data in files(run, invented(run)).items():
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        ends = (*session.get_inputs(), *session.get_outputs())
        sides[name] = [(end.name, end.type, end.shape) for end in ends]
    image = ("image", "tensor(uint8)", ["galaxy", 256, 256, 3])
    kept = ("kept", "tensor(uint8)", ["galaxy", "sample", 10])
    units = ("units", "tensor(float)", ["galaxy", 10])
    rho = ("rho", "tensor(float)", ["galaxy", "sample"])
    assert sides == {
        "rho.onnx": [image, kept, rho],
        "features.onnx": [image, units],
        "head.onnx": [units, kept, rho],
    }


def exported(tmp_path, *words):
    """The folder and results of an export of a fit in `tmp_path`, as the command composes it."""
    fit, folder = tmp_path / "fit", tmp_path / "out"
    config = trizoo.compose([*TINY, "positive=[featured-or-disk, artifact]", "model.dropout=0.2"])
    write_json(fit / "run.json", config)
    model = from_config(RunSpec, config).model
    save_weights(
        fit / "weights.safetensors",
        init_weights(model, 0) | init_moments(model),
        {"backend": "jax"},
    )
    words = ["task=export", f"weights={fit}", "seed=7", *words]
    run = from_config(RunSpec, trizoo.with_fit(trizoo.compose(words), words))
    return folder, write(run, folder)


def test_the_task(tmp_path):
    folder, outcome = exported(tmp_path)
    results = outcome["results"]
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert results["bytes"] == sizes
    assert set(sizes) == set(export.FILES)
    assert 0 < results["difference"] < TOLERANCE
    assert f"{results['difference']:.1e}" in results["summary"]
    assert results["weights"] == str(tmp_path / "fit" / "weights.safetensors")
    again = folder.joinpath("rho.onnx").read_bytes()
    exported(tmp_path)
    assert folder.joinpath("rho.onnx").read_bytes() == again


def test_what_the_files_say_of_themselves(tmp_path):
    folder, _ = exported(tmp_path)
    for name in export.FILES:
        session = onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])
        meta = session.get_modelmeta()
        facts = meta.custom_metadata_map
        assert meta.producer_name == "trizoo"
        assert "answers smooth-or-featured with featured-or-disk or artifact" in meta.description
        assert facts["question"] == "smooth-or-featured"
        assert json.loads(facts["positive"]) == ["featured-or-disk", "artifact"]
        assert json.loads(facts["negative"]) == ["smooth"]
        assert (facts["seed"], facts["dropout"]) == ("7", "0.2")
        assert json.loads(facts["trained"]) == {"backend": "jax"}
        assert facts["trizoo"] == (host()["trizoo"] or "not installed")
        weights = tmp_path / "fit" / "weights.safetensors"
        assert facts["weights"] == sha256(weights.read_bytes()).hexdigest()


def test_masks_can_be_drawn_by_the_recipe_in_the_files(tmp_path):
    folder, _ = exported(tmp_path)
    model = onnx.load(folder / "head.onnx")
    facts = {entry.key: entry.value for entry in model.metadata_props}
    hashes, _ = galaxies()
    wanted = keys.keep(keys.galaxy_keys(7, "posterior", hashes[:1]), np.array([3]), 10, 0.2)[0]
    purpose = np.array(json.loads(facts["posterior_key"]), np.uint32)
    number = int(hashes[0])
    key = keys.threefry2x32(purpose, np.array([number >> 32, number & 0xFFFFFFFF], np.uint32))
    pairs = [keys.threefry2x32(key, np.array([3, j], np.uint32)) for j in range(5)]
    words = np.concatenate(pairs)
    np.testing.assert_array_equal(words >> 8 >= int(facts["keep_threshold"]), wanted)
    assert 0 < wanted.sum() < 10
    for word in ("BLAKE2b", "Threefry-2x32-20", "`posterior_key`", "`keep_threshold`", "`dropout`"):
        assert word in facts["kept"]


def test_what_cannot_be_exported_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"augmentation\.at_prediction=false exports"):
        exported(tmp_path, "augmentation.at_prediction=true")
    run = run_of(*TINY, "model.dense=11", f"weights={tmp_path / 'fit'}")
    with pytest.raises(ValueError, match=r"hidden/kernel has the shape .* the model needs"):
        write(run, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        write(replace(run, weights=str(tmp_path / "none")), tmp_path / "out")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match=r"pip install 'trizoo\[onnx\]'"):
        exported(tmp_path)
    assert not (tmp_path / "out").exists()


def test_without_onnxruntime_files_are_written_and_said_to_be_untried(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    folder, outcome = exported(tmp_path)
    assert {path.name for path in folder.iterdir()} == set(export.FILES)
    assert trizoo.TASKS["export"].leaves[:3] == export.FILES
    assert outcome["results"]["difference"] is None
    assert "for want of onnxruntime" in outcome["results"]["summary"]
