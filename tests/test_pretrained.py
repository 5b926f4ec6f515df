"""Encoders from files: timm's numbers in every framework, wrong ones refused by name, and back into timm's bytes.

The weights are those of tests/golden/make_timm.py, written to files as timm writes them.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from installed import needs
from quick import only
from safetensors import safe_open
from safetensors.numpy import save_file

import trizoo
from shared.network import timm_names
from shared.network.model import model_of
from shared.network.preprocessing import (
    OF_ZOOBOT,
    Preprocessing,
    check_shown,
    told,
)
from shared.network.pretrained import ARCHITECTURES, content, read_encoder, timm_files
from shared.network.weights import first_checkpoint, merge_members, save_weights
from shared.proof import network as proof
from shared.run.spec import ModelSpec, RunSpec, from_config
from tests.golden.make_timm import NARROW, NETWORKS, SIDE, WIDE, images, state
from tests.models import w20_model
from tests.test_timm import golden, relative_error, shapes

ROOT = Path(__file__).parent.parent
DIMS = (8, 12, 16, 20)
ONES = {"scale": "unit", "mean": [0], "std": [1], "zoom": 1.2}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
FROM_TIMM = [name for name in NETWORKS if "narrow" in name]


def whole(name) -> ModelSpec:
    """The model of an architecture in full, with three channels."""
    _, widths, depths = ARCHITECTURES[name]
    return ModelSpec(name, SIDE, 3, None, None, widths, depths, 0.0, 0.5, 2, "unit")


def spec_of(name, **changes) -> ModelSpec:
    """The model of a golden network."""
    kind, widths, depths = name.split(",")[0], NARROW, (1, 2, 1, 1)
    if kind == "convnext":
        kind, widths = f"convnext_{'tiny' if 'linear' in name else 'nano'}", DIMS
    if kind == "efficientnet_b0":
        widths, depths = WIDE, ARCHITECTURES[kind][2]
    channels = 1 if "grey" in name else 3
    spec = ModelSpec(kind, SIDE, channels, None, None, widths, depths, 0.0, 0.5, 2, "unit")
    return replace(spec, **changes)


def timm_file(folder, name, kind=np.float64, prefix="", more=None, said=ONES):
    """A folder with the file of a golden network in timm's layout, and what it was shown beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"{prefix}{key}": array.astype(kind) for key, array in state(shapes(name)).items()}
    save_file(arrays | (more or {}), folder / "model.safetensors")
    if said is not None:
        (folder / "preprocessing.json").write_text(json.dumps(said))
    return folder


def measure(words):
    """Print how far a framework's features are from timm's, for the encoders in files; in a process of its own."""
    from tests.network_checks import Framework

    backend, precision, places = words[0], words[1], json.loads(words[2])
    framework, found = Framework(backend, precision), {}
    for name, place in places.items():
        spec = spec_of(name)
        encoder, model = read_encoder(Path(place), spec), model_of(spec)
        given, x = (framework.arrays(part) for part in (encoder.moments[0], {"x": images(name)}))
        weights = framework.weights(encoder.weights[0])
        y, _ = framework.network.forward(model.encoder, weights, x["x"], given, {})
        wanted = golden()[0][f"{name}/running/features"]
        found[name] = float(relative_error(framework.fetch(y).astype(float), wanted))
    print(json.dumps(found))


EVERY = [(name, kind) for name in ("torch", "tf", "jax") for kind in ("float32", "float64")]


@pytest.mark.parametrize(
    ("backend", "precision"), only([("torch", "float32"), ("torch", "float64")], *EVERY)
)
def test_features_are_timms_in_every_framework(tmp_path, backend, precision):
    needs(backend)
    places = {
        name: str(timm_file(tmp_path / str(number), name)) for number, name in enumerate(FROM_TIMM)
    }
    script = "import sys; from tests.test_pretrained import measure; measure(sys.argv[1:])"
    command = [sys.executable, "-c", script, backend, precision, json.dumps(places)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.keys() == set(FROM_TIMM)
    assert max(found.values()) < {"float32": 1e-5, "float64": 1e-12}[precision], found


def features(name, encoder, x=None):
    done = proof.forward(
        model_of(spec_of(name)).encoder,
        encoder.weights[0],
        images(name) if x is None else x,
        encoder.moments[0] or None,
    )
    return done.output


MUTANTS = {
    "rows and columns": (timm_names, "_ours", lambda whole: lambda array, name, shape: whole(
        array.swapaxes(2, 3) if array.ndim == 4 else array, name, shape)),
    "in and out": (timm_names, "_ours", lambda whole: lambda array, name, shape: whole(
        array.T if array.ndim == 2 and array.shape[0] == array.shape[1] else array[::-1], name, shape)),
    "mean and variance": (timm_names, "PARTS", lambda whole: whole | {
        "mean": "running_var", "variance": "running_mean"}),
    "scale and bias": (timm_names, "PARTS", lambda whole: whole | {"scale": "bias", "bias": "weight"}),
}  # fmt: skip


@pytest.mark.parametrize(
    "name", ["resnet50, narrow", "convnext, narrow", "efficientnet_b0, narrow"]
)
@pytest.mark.parametrize("mutant", [None, *MUTANTS])
def test_a_mutant_of_the_rules_is_seen(tmp_path, monkeypatch, name, mutant):
    place = timm_file(tmp_path, name)
    if mutant is not None:
        module, attribute, change = MUTANTS[mutant]
        monkeypatch.setattr(module, attribute, change(getattr(module, attribute)))
    wanted = golden()[0][f"{name}/running/features"]
    if mutant == "mean and variance" and "convnext" in name:
        return  # which has neither
    try:
        with np.errstate(invalid="ignore"):
            error = relative_error(features(name, read_encoder(place, spec_of(name))), wanted)
    except ValueError:
        error = np.inf  # refused is seen too
    assert error < 1e-12 if mutant is None else not error < 1e-3


@pytest.mark.parametrize("name", FROM_TIMM)
def test_written_back_a_file_is_the_same_in_every_array(tmp_path, name):
    spec = spec_of(name)
    place = timm_file(tmp_path, name, np.float32)
    encoder = read_encoder(place, spec)
    if "efficientnet" in name:  # of which timm has no narrow ones, but the same arrays
        with pytest.raises(ValueError, match="timm has no EfficientNet-B0 of other widths"):
            timm_files(spec, encoder.weights[0], encoder.moments[0], ONES)
        theirs = timm_names.timm_shapes(spec.name, model_of(spec).encoder, model_of(spec).image)
        made = timm_names.to_timm("efficientnet", encoder.weights[0] | encoder.moments[0], theirs)
    else:
        files = timm_files(spec, encoder.weights[0], encoder.moments[0], ONES)
        (tmp_path / "again.safetensors").write_bytes(files["model.safetensors"])
        with safe_open(tmp_path / "again.safetensors", "numpy") as file:
            made = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        counts = {key for key in made if key.endswith("num_batches_tracked")}
        assert all(made.pop(key) == np.int64(0) for key in counts)
        assert len(counts) == sum(key.endswith("running_mean") for key in made)
        config = json.loads(files["config.json"])
        assert config["architecture"] == spec.name
        assert config["model_args"]["in_chans"] == spec.channels
        assert config["pretrained_cfg"]["mean"] == [0.0] * spec.channels
        assert config["trizoo"] == {"preprocessing": ONES}
    before = {key: array.astype(np.float32) for key, array in state(shapes(name)).items()}
    assert made.keys() == before.keys()
    for key, array in before.items():
        assert (made[key].dtype, made[key].shape) == (array.dtype, array.shape), key
        assert made[key].tobytes() == array.tobytes(), key


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "convnext_nano", "efficientnet_b0"])
def test_full_networks_are_told_by_their_names_and_shapes(tmp_path, name):
    place, other = (
        timm_file(tmp_path, name, np.float32),
        "resnet18" if name != "resnet18" else "resnet50",
    )
    encoder = read_encoder(place, whole(name))
    assert encoder.about["architecture"] == name
    assert encoder.about["arrays"] == len(shapes(name))
    what = rf"holds {name} for 3 channels, but the model is"
    for given in (whole(other), w20_model(64)):
        with pytest.raises(ValueError, match=rf"{what} {given.name}; give model={name}$"):
            read_encoder(place, given)
    with pytest.raises(
        ValueError, match=r"but model.channels is 1; give model.channels=3 dataset.channels=3, for"
    ):
        read_encoder(place, replace(whole(name), channels=1))


def test_a_grey_encoder_is_not_made_coloured(tmp_path):
    name = "resnet18, narrow, grey"
    with pytest.raises(
        ValueError,
        match=r"but model.channels is 3; give model.channels=1, for its first",
    ):
        read_encoder(timm_file(tmp_path, name), spec_of(name, channels=3))


def test_other_sizes_are_told_in_words(tmp_path):
    name = "convnext, narrow"
    with pytest.raises(
        ValueError,
        match=r"give model=convnext_nano model.widths=\[8,12,16,20\] model.depths=\[1,2,1,1\]$",
    ):
        read_encoder(timm_file(tmp_path, name), spec_of(name, widths=(8, 12, 16, 24)))


def test_architectures_are_those_of_conf():
    for name in (path.stem for path in (trizoo.CONF / "model").glob("*.yaml")):
        model = trizoo.compose([f"model={name}"])["model"]
        if name in ARCHITECTURES:
            assert ARCHITECTURES[name] == (name, tuple(model["widths"]), tuple(model["depths"]))
        else:
            assert name in ("w20", "dieleman")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"architecture": "tf_efficientnet_b0"},
            "says that this is tf_efficientnet_b0, which is not known",
        ),
        ({"architecture": "resnet34"}, "says that this is resnet34"),
        ({"architecture": 7}, "architecture is 7, not a text"),
    ],
)
def test_what_config_json_says_of_another_architecture_is_heard(tmp_path, config, message):
    name = "resnet18, narrow"
    place = timm_file(tmp_path, name)
    (place / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        read_encoder(place, spec_of(name))
    (place / "config.json").write_text(
        json.dumps({"architecture": "resnet18.a1", "model_args": {"layers": [1]}})
    )
    read_encoder(place, spec_of(name))


@pytest.mark.parametrize("prefix", ["encoder.", "model.", "backbone.", "module.", "model.encoder."])
def test_prefixes_are_taken_off_and_what_is_no_part_is_told(tmp_path, prefix):
    name = "resnet18, narrow"
    more = {"head.1.weight": np.zeros((3, 8)), f"{prefix}fc.weight": np.zeros((1000, 8))}
    place = timm_file(tmp_path, name, prefix=prefix, more=more)
    encoder = read_encoder(place, spec_of(name))
    assert relative_error(features(name, encoder), golden()[0][f"{name}/running/features"]) < 1e-12
    assert encoder.about["left_out"] == sorted(more)
    twice = {f"other.{key}": array for key, array in state(shapes(name)).items()}
    place = timm_file(tmp_path, name, prefix=prefix, more=twice)
    assert len(read_encoder(place, spec_of(name)).about["left_out"]) == len(twice)
    twice = {key.replace("other.", "_orig_mod."): array for key, array in twice.items()}
    with pytest.raises(ValueError, match="holds several encoders"):
        read_encoder(timm_file(tmp_path, name, prefix=prefix, more=twice), spec_of(name))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("layer2.0.bn1.bias"), r"layer2\.0\.bn1\.bias are only in one of the two"),
        (lambda s: s.update({"conv1.weight": s["conv1.weight"][:, :, 0]}), "a resnet of another make"),
        (lambda s: s.update({"bn1.weight": s["bn1.weight"][:5]}), r"bn1.weight is of the shape \(5,\)"),
        (lambda s: s.update({"bn1.weight": s["bn1.weight"] * np.nan}), "stem/norm/scale holds values that are"),
        (lambda s: s.update({"bn1.weight": s["bn1.weight"].astype(np.int32)}), "bn1.weight is of the type I32"),
        (lambda s: s.update({"conv1.weight": np.zeros((64, 4, 7, 7))}), "is of a network for 4 channels; images here"),
        (lambda s: s.clear() or s.update(x=np.zeros(3)), "holds no encoder that is known here; its arrays are x, "),
    ],
)  # fmt: skip
def test_damaged_and_strange_files_are_refused(tmp_path, change, message):
    name = "resnet18, narrow"
    place, arrays = timm_file(tmp_path, name), state(shapes(name))
    change(arrays)
    save_file(
        {key: np.ascontiguousarray(array) for key, array in arrays.items()},
        place / "model.safetensors",
    )
    with pytest.raises(ValueError, match=message):
        read_encoder(place, spec_of(name))


def test_what_is_no_file_is_refused(tmp_path):
    spec = spec_of("resnet18, narrow")
    for place in (tmp_path, tmp_path / "none", tmp_path / "none.safetensors"):
        with pytest.raises(
            ValueError, match=r"there is no encoder at .*; give a file of weights, or a folder with"
        ):
            read_encoder(place, spec)
    (tmp_path / "model.safetensors").write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        read_encoder(tmp_path, spec)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_is_read_as_float32_and_told(tmp_path, kind):
    name = "convnext, narrow"
    place = timm_file(tmp_path, name, np.float16 if kind == "float16" else np.float32)
    wanted = {key: array.astype(np.float32) for key, array in state(shapes(name)).items()}
    if kind == "float16":
        wanted = {key: array.astype(np.float16) for key, array in state(shapes(name)).items()}
    else:
        wanted = {
            key: (array.view(np.uint32) & 0xFFFF0000).view(np.float32)
            for key, array in wanted.items()
        }
        upper = {
            key: (array.view(np.uint32) >> 16).astype(np.uint16) for key, array in wanted.items()
        }
        save_file(upper, place / "model.safetensors")
        data = (place / "model.safetensors").read_bytes().replace(b'"U16"', b'"BF16"')
        length = len(data) - len((place / "model.safetensors").read_bytes())
        head = int.from_bytes(data[:8], "little") + length
        (place / "model.safetensors").write_bytes(head.to_bytes(8, "little") + data[8:])
    encoder = read_encoder(place, spec_of(name))
    assert encoder.about["converted_from"] == kind
    exact, spec = encoder.weights[0], spec_of(name)
    made = timm_names.to_timm(
        "convnext", exact, timm_names.timm_shapes(spec.name, model_of(spec).encoder, (64, 64, 3))
    )
    assert all(made[key].dtype == np.float32 and (made[key] == wanted[key]).all() for key in wanted)


# What it was trained to see


def test_normalisation_is_folded_into_a_stem_without_padding(tmp_path):
    name = "convnext, narrow"
    before = read_encoder(timm_file(tmp_path, name), spec_of(name))
    place = timm_file(tmp_path / "other", name, said=None)
    (place / "config.json").write_text(json.dumps({"pretrained_cfg": IMAGENET}))
    folded = read_encoder(place, spec_of(name))
    assert (before.about["folded"], folded.about["folded"]) == (False, True)
    assert folded.said.source == str(place / "config.json")
    normalised = (images(name) - IMAGENET["mean"]) / IMAGENET["std"]
    wanted = features(name, before, normalised)
    assert relative_error(features(name, folded), wanted) < 1e-12
    assert relative_error(features(name, before), wanted) > 1e-3
    for mutant in (("std", "mean"), ("mean", "std")):
        wrong = IMAGENET | {mutant[0]: IMAGENET[mutant[1]]}
        (place / "config.json").write_text(json.dumps({"pretrained_cfg": wrong}))
        assert relative_error(features(name, read_encoder(place, spec_of(name))), wanted) > 1e-3


@pytest.mark.parametrize("name", ["resnet18, narrow", "efficientnet_b0, narrow"])
def test_normalisation_before_a_stem_with_padding_is_refused(tmp_path, name):
    place = timm_file(tmp_path, name, said=IMAGENET)
    with pytest.raises(
        ValueError,
        match=r"normalised by mean \[0.485, .*whose first convolution pads",
    ):
        read_encoder(place, spec_of(name))


@pytest.mark.parametrize(
    "name", ["resnet18, narrow", "efficientnet_b0, narrow", "convnext, narrow"]
)
def test_normalisation_becomes_the_moments_of_standardised_pixels_and_goes_back(tmp_path, name):
    """Before zeros are padded, as where it was trained; and timm's config.json has it again."""
    spec = replace(spec_of(name), standardise=True)
    channels = spec.channels
    said = {key: IMAGENET[key][:channels] for key in ("mean", "std")}
    before = read_encoder(timm_file(tmp_path / "plain", name), spec_of(name))
    encoder = read_encoder(timm_file(tmp_path / "other", name, said=said), spec)
    assert not encoder.about["folded"]
    wanted = features(name, before, (images(name) - said["mean"]) / said["std"])
    found = proof.forward(
        model_of(spec).encoder, encoder.weights[0], images(name), encoder.moments[0]
    )
    assert relative_error(found.output, wanted) < 1e-6
    assert relative_error(features(name, before), wanted) > 1e-3
    if spec.name != "efficientnet_b0":  # which timm has in its own sizes alone
        files = timm_files(spec, encoder.weights[0], encoder.moments[0], ONES)
        config = json.loads(files["config.json"])["pretrained_cfg"]
        np.testing.assert_allclose(config["mean"], said["mean"], rtol=1e-6)
        np.testing.assert_allclose(config["std"], said["std"], rtol=1e-6)


def test_an_encoder_of_ours_is_shown_pixels_standardised_as_it_was(tmp_path):
    name = "convnext, narrow"
    plain = read_encoder(timm_file(tmp_path / "timm", name), spec_of(name))
    wide, own = replace(spec_of(name), standardise=True), timm_file(tmp_path / "own", name)
    arrays = {
        key: array.astype("<f4") for key, array in (plain.weights[0] | plain.moments[0]).items()
    }
    save_file(arrays, own / "model.safetensors")
    moments = read_encoder(own, wide).moments[0]  # it was not, so they are left as they are
    assert [moments[f"input/{part}"].tolist() for part in ("mean", "variance")] == [
        [0] * 3,
        [1] * 3,
    ]
    of_pixels = {"input/mean": np.full(3, 0.1, "<f4"), "input/variance": np.full(3, 0.2, "<f4")}
    save_file(arrays | of_pixels, own / "model.safetensors")
    np.testing.assert_array_equal(
        read_encoder(own, wide).moments[0]["input/mean"], np.float32([0.1] * 3)
    )
    with pytest.raises(
        ValueError, match=r"standardised pixels, but model\.standardise is false; set it"
    ):
        read_encoder(own, spec_of(name))


def test_zoobots_are_known_whatever_timms_config_says(tmp_path):
    name = "convnext, narrow"
    place = timm_file(tmp_path / "zoobot-encoder-convnext_nano", name, said=None)
    (place / "config.json").write_text(json.dumps({"pretrained_cfg": IMAGENET}))
    for encoder in (
        read_encoder(place, spec_of(name)),
        read_encoder(
            timm_file(tmp_path / "x", name, said=None),
            spec_of(name),
            1,
            "mwalmsley/zoobot-encoder-x",
        ),
    ):
        assert not encoder.about["folded"]
        assert encoder.said[:5] == ("unit", (0.0,), (1.0,), 1.2, "bilinear")
        assert encoder.said.source.startswith("what is known of Zoobot's encoders")
        assert ("though" in encoder.said.source) == encoder.about["file"].startswith(str(place))


def test_sources_that_disagree_are_refused(tmp_path):
    place = timm_file(tmp_path / "zoobot-encoder-x", "convnext, narrow", said={"zoom": 1.0})
    with pytest.raises(
        ValueError,
        match=r"preprocessing.json says .* zoom=1.0, but what is known of Zoobot's .* 1.2; corr",
    ):
        read_encoder(place, spec_of("convnext, narrow"))
    file = tmp_path / "model.safetensors"
    (tmp_path / "preprocessing.json").write_text('{"scale": "unit", "mean": [0]}')
    with pytest.raises(
        ValueError,
        match=r"itself says that the encoder was shown scale=raw, but .*preprocessing.json",
    ):
        told(file, {"preprocessing": OF_ZOOBOT | {"scale": "raw"}}, "", {})


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"zooom": 1.2}, "has zooom; there are scale, mean, std, zoom, resampling"),
        ({"std": [0.2, 0]}, "cannot be; write"),
        ({"scale": "bytes"}, "cannot be; write"),
        ({"zoom": 0.5}, "cannot be; write"),
        ({"mean": "0"}, "mean is '0', not a list"),
    ],
)
def test_preprocessing_that_cannot_be_is_refused(tmp_path, said, message):
    place = timm_file(tmp_path, "convnext, narrow", said=said)
    with pytest.raises(ValueError, match=message):
        read_encoder(place, spec_of("convnext, narrow"))


@pytest.mark.parametrize(
    ("said", "words", "message"),
    [
        (None, [], r"nothing says what the encoder F was trained to see; write preprocessing.json beside it"),
        ({"scale": "unit"}, ["model.scale=raw"], "but model.scale is raw; give model.scale=unit"),
        ({"scale": "raw"}, [], "trained with model.scale=raw .*; give model.scale=raw"),
        ({"zoom": 1.2}, [], None),
        ({"zoom": 1.2}, ["augmentation=none"], r"zoom is \[1, 1\]; give one .* augmentation.zoom=\[1.2,1.2\]"),
        ({"zoom": 1.2}, ["augmentation=none", "augmentation.zoom=[1.2,1.2]"], None),
        ({"zoom": 1.0}, [], r"enlarged 1 times .*augmentation.zoom is \[1.1, 1.3\]"),
        ({"resampling": "bilinear"}, ["augmentation.resampling=nearest"], "give augmentation.resampling=bilinear"),
        ({"resampling": "bicubic"}, [], None),
    ],
)  # fmt: skip
def test_a_run_shows_an_encoder_what_it_was_trained_to_see(said, words, message):
    run = from_config(RunSpec, trizoo.compose(words))
    if said is not None:
        said = Preprocessing(
            **{"scale": "unit", "mean": (0,), "std": (1,), "zoom": None, "resampling": None} | said,
            source="S",
        )
    if message is None:
        return check_shown(said, run, "F")
    with pytest.raises(ValueError, match=message):
        check_shown(said, run, "F")


# Files of our own


def test_the_encoder_of_a_fit_for_each_member(tmp_path):
    model = w20_model(16, ((2,), (3,), (4,), (5,)), 6)
    pair = first_checkpoint(model, 5, 2)
    save_weights(tmp_path / "two", merge_members([pair.weights]), {"preprocessing": OF_ZOOBOT})
    found = read_encoder(tmp_path / "two", model, 2)
    one, other = (first_checkpoint(model, seed).weights for seed in (5, 6))
    names = [name for name in one if not name.startswith("answer")]
    assert list(found.weights[0]) == names
    assert all((found.weights[0][name] == one[name]).all() for name in names)
    assert all((found.weights[1][name] == other[name]).all() for name in names)
    assert found.said[:5] == ("unit", (0.0,), (1.0,), 1.2, "bilinear")
    with pytest.raises(
        ValueError, match=r"holds 2 networks, but training.members is 3; give training.members=2"
    ):
        read_encoder(tmp_path / "two", model, 3)
    about = {"model": {"name": "w20", "image_size": 16, "dense": 6, "blocks": [[2], [3]]}}
    save_weights(tmp_path / "one", one, about)
    alike = read_encoder(tmp_path / "one", model, 3)
    assert all((alike.weights[2][name] == one[name]).all() for name in names)
    with pytest.raises(
        ValueError,
        match=r"its conv0/kernel is not .*; give model=w20 model.image_size=16 .*blocks=\[\[2\],\[3\]\]",
    ):
        read_encoder(tmp_path / "one", w20_model(16, ((3,), (3,), (4,), (5,)), 6))


def test_content_is_of_all_that_is_read(tmp_path):
    place = timm_file(tmp_path, "convnext, narrow")
    sums = {content(place), content(place / "model.safetensors")}
    assert len(sums) == 1
    (place / "config.json").write_text("{}")
    sums.add(content(place))
    (place / "preprocessing.json").write_text("{}")
    sums.add(content(place))
    timm_file(place, "convnext, narrow", np.float32, said={})
    sums.add(content(place))
    (place / "posterior.parquet").write_text("")
    sums.add(content(place))
    assert len(sums) == 4
