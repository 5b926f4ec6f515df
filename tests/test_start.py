"""Runs that start from an encoder in a file, or from the network of a fit, with PyTorch in this process."""

import json
import shutil
from dataclasses import replace
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors import safe_open

import trizoo
from shared.method.batches import Cutouts
from shared.method.start import contents, origin, standardised_start, start_of
from shared.network.weights import first_checkpoint, load_weights, member
from shared.run.records import write_json
from shared.run.spec import RunSpec, from_config
from shared.tasks.folder import run_folder
from tests.fake import galaxies, noise
from tests.fake import run_of as run_of_fake
from tests.test_pretrained import ONES, timm_file

pytest.importorskip("torch")

NETWORK = ("model=convnext_nano", "model.widths=[8,12,16,20]", "model.depths=[1,2,1,1]")
SMALL = (
    "backend.threads=1",
    "backend.chunk=16",
    "backend.steps=2",
    "model.image_size=64",
    "training.batch_size=8",
    "training.steps=4",
    "posterior.samples=4",
)
COLOUR, GREY = "convnext, narrow", "convnext, narrow, grey"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with encoders in timm's layout, and a folder of colour images with votes."""
    place, random, rows = tmp_path_factory.mktemp("start"), np.random.default_rng(0), []
    timm_file(place / "colour", COLOUR, np.float32)
    timm_file(place / "grey", GREY, np.float32)
    (place / "photos").mkdir()
    for number in range(30):
        image, colour = random.integers(0, 60, (256, 256, 3)), number % 3
        image[..., colour] += 150
        Image.fromarray(image.astype(np.uint8)).save(place / "photos" / f"g{number}.png")
        rows.append([f"g{number}", 30 * (colour == 0), 30 * (colour > 0)])
    pd.DataFrame(rows, columns=["id", "smooth", "featured"]).to_csv(
        place / "votes.csv", index=False
    )
    return place


def photos(place, channels=3):
    return (
        *(
            "dataset=folder",
            f"dataset.images={place / 'photos'}",
            f"dataset.stores={place / 'stores'}",
        ),
        *(f"dataset.table={place / 'votes.csv'}", "dataset.columns.count='{answer}'"),
        *(
            "dataset.questions={smooth-or-featured:[smooth,featured]}",
            f"dataset.channels={channels}",
        ),
    )


def config_of(place, task, *words):
    return trizoo.compose([f"task={task}", *SMALL, f"outputs={place}", *words])


def run_of(place, task, *words):
    return from_config(RunSpec, config_of(place, task, *words))


def here(place, task, name, *words):
    """The folder and the results of a run in this process."""
    of_fit = trizoo.TASKS[task].needs_fit
    words = [*(() if of_fit else SMALL), f"outputs={place}", f"folder={place / name}", *words]
    config = trizoo.compose([f"task={task}", *words])
    config = trizoo.with_fit(config, words) if of_fit else config
    write_json(place / name / "run.json", config)
    run = from_config(RunSpec, config)
    module = import_module(trizoo.TASKS[task].module)
    return place / name, getattr(module, task)(run, place / name)["results"]


def arrays_of(path):
    with safe_open(path, "numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.fixture(scope="module")
def fitted(place):
    """A fit on colours, from an encoder that is frozen as it came: its learning rate is next to nothing."""
    words = (*photos(place), *NETWORK, "model.channels=3", f"model.encoder={place / 'colour'}")
    return here(place, "fit", "fitted", *words, "training.learning_rate=1e-30")


def test_three_colours_and_an_encoder_from_a_file(place, fitted):
    folder, results = fitted
    about = results["encoder"]
    assert about["arrays"] == 63
    assert about["preprocessing"]["zoom"] == 1.2
    assert about["shown"]["zoom"] == 1.2
    assert (about["revision"], about["layout"], about["folded"]) == (None, "timm", False)
    with safe_open(folder / "weights.safetensors", "numpy") as file:
        said = json.loads(file.metadata()["about"])
    assert said["encoder"]["sha256"] == about["sha256"]
    assert said["model"]["channels"] == 3
    run = run_of(place, "fit", *photos(place), *NETWORK, "model.channels=3")
    after, first = (
        load_weights(folder / "weights.safetensors", run.model),
        first_checkpoint(run.model, 0),
    )
    for name in ("answer/kernel", "answer/bias"):
        assert np.allclose(after[name], first.weights[name], 0, 1e-20)
    assert not np.array_equal(after["stem/conv/kernel"], first.weights["stem/conv/kernel"])


def test_the_round_trip_is_the_same_in_every_array(place, fitted):
    folder, results = here(place, "export", "timm", f"weights={fitted[0]}", "format=timm")
    made, before = (
        arrays_of(path / "model.safetensors")
        for path in (folder / "encoder_timm", place / "colour")
    )
    assert made.keys() == before.keys()
    assert all(made[name].tobytes() == before[name].tobytes() for name in before)
    assert "timm.create_model('local-dir:" in results["summary"]
    said = json.loads((folder / "encoder_timm" / "preprocessing.json").read_text())
    assert said == {
        "scale": "unit",
        "mean": [0.0],
        "std": [1.0],
        "zoom": 1.2,
        "resampling": "bilinear",
    }
    words = (*photos(place), *NETWORK, "model.channels=3")
    again = origin(run_of(place, "fit", *words, f"model.encoder={folder / 'encoder_timm'}"))
    assert again["encoder"]["arrays"] == 63
    assert here(place, "export", "timm", f"weights={fitted[0]}", "format=timm")[0] == folder


def test_timm_has_no_w20(place, tmp_path):
    small = (
        "model.image_size=16",
        "model.blocks=[[2],[2]]",
        "model.dense=4",
        "dataset.galaxies=40",
    )
    folder, _ = here(place, "fit", "w20", *small, f"dataset.stores={place / 'stores'}")
    with pytest.raises(
        ValueError, match=r"model.name is w20, which timm has not; there are resnet, convnext, eff"
    ):
        here(place, "export", "w20 timm", f"weights={folder}", "format=timm")


def test_a_network_of_three_colours_needs_them_in_the_store(place):
    words = (*NETWORK, "model.channels=3", "training.steps=1")
    with pytest.raises(
        ValueError, match=r"model.channels is 3, but dataset.channels is 1.*set dataset.channels=3"
    ):
        run_of(place, "fit", *photos(place, 1), *words)
    run = run_of(place, "fit", *photos(place), *words)
    galaxies = import_module("shared.tasks.galaxies")
    grey = import_module("shared.data.prepare").prepare(replace(run.dataset, channels=1))
    with pytest.raises(
        ValueError, match=r"model.channels is 3, but .* keeps 1; set dataset.channels=3"
    ):
        galaxies.cutouts(run, grey)


def test_the_colours_reach_the_network(place):
    """Red galaxies are the smooth ones: a network of the mean cannot tell them, as all are as bright."""
    words = (
        *photos(place),
        *NETWORK,
        "augmentation=none",
        "training.steps=60",
        "training.learning_rate=0.01",
    )
    measured = {
        channels: here(place, "fit", f"of {channels}", *words, f"model.channels={channels}")[1]
        for channels in (1, 3)
    }
    assert measured[3]["test"]["auc"] == 1
    assert measured[3]["validation"]["auc"] == 1
    assert measured[3]["validation"]["log_score"] < measured[1]["validation"]["log_score"]


def test_every_member_has_the_encoder_and_a_head_of_its_own(place):
    words = (*NETWORK, f"model.encoder={place / 'grey'}", "training.members=2")
    start = start_of(run_of(place, "fit", *words))
    first = first_checkpoint(run_of(place, "fit", *words).model, 0, 2)
    one, other = (member(start.weights, number) for number in (0, 1))
    assert np.array_equal(one["stem/conv/kernel"], other["stem/conv/kernel"])
    assert not np.array_equal(one["answer/kernel"], other["answer/kernel"])
    assert np.array_equal(other["answer/kernel"], first.weights["member1/answer/kernel"])
    assert start.step == 0
    assert not any(array.any() for array in (*start.first.values(), *start.second.values()))
    assert list(start.weights) == list(first.weights)


def test_active_learning_starts_and_starts_anew_from_an_encoder(place, monkeypatch):
    words = (
        *(
            "dataset.galaxies=60",
            f"dataset.stores={place / 'stores'}",
            *NETWORK,
            "acquisition.start=cold",
        ),
        *(
            "acquisition.initial=8",
            "acquisition.per_round=4",
            "acquisition.rounds=1",
            "acquisition.samples=2",
        ),
        *(
            "acquisition.first_steps=2",
            f"model.encoder={place / 'grey'}",
            "training.learning_rate=1e-30",
        ),
    )
    folder, results = here(place, "active", "active", *words)
    assert results["encoder"]["arrays"] == 63
    kernel = arrays_of(folder / "checkpoint.safetensors")["weights/stem/conv/kernel"]
    stem = arrays_of(place / "grey" / "model.safetensors")["stem.0.weight"]
    assert np.array_equal(kernel, stem.transpose(2, 3, 1, 0))


# The whole network of a fit


def whole(place, fitted, *words):
    return (*photos(place), *NETWORK, "model.channels=3", f"weights={fitted[0]}", *words)


def test_a_fit_starts_from_the_whole_network_of_another(place, fitted):
    words = whole(place, fitted, "training.learning_rate=1e-30", "seed=7")
    folder, results = here(place, "fit", "on", *words)
    before, after = (arrays_of(path / "weights.safetensors") for path in (fitted[0], folder))
    assert before.pop("trained_with").shape == after.pop("trained_with").shape
    assert all(np.allclose(before[name], after[name], 0, 1e-20) for name in after)
    assert results["start"]["file"] == str(fitted[0] / "weights.safetensors")
    assert len(results["start"]["sha256"]) == 64
    assert results["steps"] == 4
    start = start_of(run_of(place, "fit", *words))
    assert start.step == 0
    assert not any(array.any() for array in (*start.first.values(), *start.second.values()))


def test_a_head_of_other_answers_is_refused_and_the_encoder_taken(place, fitted):
    three = "dataset.questions={smooth-or-featured:[smooth,featured,artifact]}"
    words = whole(place, fitted, three, "questions=all")
    with pytest.raises(
        ValueError,
        match=r"its answer/kernel is \(20, 2\); model.encoder=.* takes the encoder alone",
    ):
        start_of(run_of(place, "fit", *words))
    words = [word for word in words if not word.startswith("weights=")]
    start = start_of(run_of(place, "fit", *words, f"model.encoder={fitted[0]}"))
    before = arrays_of(fitted[0] / "weights.safetensors")
    assert np.array_equal(start.weights["stem/conv/kernel"], before["stem/conv/kernel"])
    assert start.weights["answer/kernel"].shape == (20, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("training.members=2",), "holds 1 network, but training.members is 2"),
        (("model.scale=raw",), "trained with model.scale=unit .*; give model.scale=unit"),
        (("augmentation.zoom=[2.0,2.2]",), "trained on images enlarged 1.2 times"),
        (
            ("model.widths=[8,12,16,24]",),
            r"another network .* give model=convnext_nano .*model.widths=\[8,12,16,20\]",
        ),
        (("model.encoder=x",), "weights and model.encoder both say where training starts"),
    ],
)
def test_what_does_not_fit_the_network_of_a_fit_is_refused(place, fitted, words, message):
    with pytest.raises(ValueError, match=message):
        start_of(run_of(place, "fit", *whole(place, fitted, *words)))


# What a run is


def test_a_run_is_another_when_its_file_is(place, tmp_path):
    encoder = tmp_path / "encoder"
    shutil.copytree(place / "grey", encoder)
    words = (*NETWORK, f"model.encoder={encoder}", f"outputs={tmp_path}")
    config = config_of(place, "fit", *words)
    names = {
        run_folder(config),
        run_folder(config_of(place, "fit", *NETWORK, f"outputs={tmp_path}")),
    }
    assert len(names) == 2
    before = contents(config)
    timm_file(encoder, GREY, np.float16)
    assert contents(config) != before
    names.add(run_folder(config))
    (encoder / "preprocessing.json").write_text(json.dumps(ONES | {"zoom": 1.15}))
    names.add(run_folder(config))
    assert len(names) == 4


@pytest.mark.parametrize("key", ["model.encoder", "weights"])
def test_a_run_that_was_stopped_goes_on_only_from_the_same_file(place, fitted, tmp_path, key):
    source, run = tmp_path / "source", f"stopped {key}"
    shutil.copytree(fitted[0] if key == "weights" else place / "colour", source)
    words = (*photos(place), *NETWORK, "model.channels=3", f"{key}={source}")
    folder, _ = here(place, "fit", run, *words)
    checkpoint = (folder / "checkpoint.safetensors").read_bytes()
    here(place, "fit", run, *words)  # from its checkpoint, which is of the last step
    assert (folder / "checkpoint.safetensors").read_bytes() == checkpoint
    file = source / ("weights.safetensors" if key == "weights" else "model.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"\x3e")
    with pytest.raises(
        ValueError, match=rf"by another run \(it differs in {key}\); again=true beg"
    ):
        here(place, "fit", run, *words)


def test_by_the_command(place, tmp_path, capfd):
    """A finished run is not done twice, and a changed file behind it is seen, whatever its folder is called."""
    encoder = tmp_path / "encoder"
    shutil.copytree(place / "grey", encoder)
    words = ["fit", *SMALL, *NETWORK, "dataset.galaxies=40", f"dataset.stores={place / 'stores'}"]
    words += [f"outputs={tmp_path}", f"folder={tmp_path / 'run'}", f"model.encoder={encoder}"]
    assert trizoo.main(words) == 0
    assert trizoo.main(words) == 0
    told = "".join(capfd.readouterr())
    assert "training starts from the encoder of" in told
    assert "already done" in told
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["inputs"]["model.encoder"]["where"] == str(encoder / "model.safetensors")
    predicted = [
        "predict",
        f"weights={tmp_path / 'run'}",
        f"outputs={tmp_path}",
        "dataset.galaxies=8",
    ]
    shutil.rmtree(encoder)
    assert (
        trizoo.main([*predicted, f"dataset.stores={place / 'stores'}", "posterior.samples=2"]) == 0
    )
    shutil.copytree(place / "colour", encoder)
    assert trizoo.main(words) == 2
    assert "since then has changed: model.encoder" in capfd.readouterr().err


@pytest.mark.parametrize("members", [1, 2])
def test_pixels_are_standardised_by_those_trained_with(members):
    """By their centre, as the network is shown it: not by those of other galaxies, nor by what is cut off."""
    words = ("model.standardise=true", f"training.members={members}", "augmentation.zoom=[2,2]")
    run, images, some = run_of_fake(*words), noise(30), galaxies(3, 8)
    found = standardised_start(run, images, some).moments
    shown = images[some.rows][:, 4:12, 4:12] / 255
    prefix = "member1/" if members > 1 else ""
    np.testing.assert_allclose(found[f"{prefix}input/mean"], [shown.mean()], rtol=1e-6)
    np.testing.assert_allclose(found[f"{prefix}input/variance"], [shown.var()], rtol=1e-6)
    raw = standardised_start(run_of_fake(*words, "model.scale=raw"), images, some).moments
    np.testing.assert_allclose(raw[f"{prefix}input/mean"], [255 * shown.mean()], rtol=1e-6)


def test_pixels_that_are_all_alike_or_not_to_be_standardised_are_left_as_they_are():
    flat = Cutouts(np.full((4, 16, 16, 1), 51, np.uint8), 1)
    found = standardised_start(run_of_fake("model.standardise=true"), flat, galaxies(0, 4)).moments
    assert [found["input/mean"].tolist(), found["input/variance"].tolist()] == [
        pytest.approx([0.2]),
        pytest.approx([1 / 255**2]),
    ]
    assert standardised_start(run_of_fake(), flat, galaxies(0, 4)).moments == {}
