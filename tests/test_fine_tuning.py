"""What of a network is trained and how fast, how batches are cut, warm-up, and when training ends early."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from fake import Fake, Stopped, galaxies, noise
from fake import run_of as compose_run
from quick import ONE_FRAMEWORK

from shared.method.batches import adam_scales, batch_size, draw_plan, learning_rates
from shared.method.fine_tuning import blocks, layer_of, tuning_of
from shared.method.training import BEST, CHECKPOINT, fit
from shared.network.model import model_of
from shared.network.weights import load_weights, model_shapes
from shared.proof import reference
from shared.run.spec import RunSpec, from_config, shard_count
from trizoo import compose

ROOT = Path(__file__).parent.parent
run_of = cache(compose_run)


@cache
def run_with(*words) -> RunSpec:
    """A run in the usual sizes."""
    return from_config(RunSpec, compose(["mode=corrected", *words]))


def spec_of(*words):
    return run_of(*words).training


@cache
def tuned(model: str, *words):
    run = run_with(f"model={model}", *words)
    return tuning_of(run.model, run.training)


@pytest.mark.parametrize(
    ("name", "levels"), [("convnext_nano", 16), ("efficientnet_b0", 17), ("resnet50", 17)]
)
def test_blocks_of_an_encoder_are_as_many_as_timm_counts(name, levels):
    model = model_of(run_with(f"model={name}").model)
    depth = blocks(model)
    of_encoder = {depth[layer.name] for layer in model.encoder if layer.name in depth}
    of_encoder -= {depth["units"]} if name != "convnext_nano" else set()
    assert of_encoder == set(range(levels))
    assert {depth[layer.name] for layer in model.head} == {max(depth.values())}


def test_rates_of_convnext_nano_are_timms():
    rates = tuned("convnext_nano", "training.layer_decay=0.75").rates
    wanted = {  # measured with timm 1.0.31
        "stem/conv/kernel": 0.75**15,
        "stem/norm/scale": 0.75**15,
        "stage0/block0/depthwise/kernel": 0.75**14,
        "stage0/block1/norm/bias": 0.75**13,
        "stage1/down/conv/kernel": 0.75**12,  # of the stage's first block
        "stage1/block0/scale/scale": 0.75**12,
        "stage2/block7/expand/kernel": 0.75**3,
        "stage3/block1/contract/bias": 0.75,
        "units/scale": 1.0,
        "answer/kernel": 1.0,
    }
    assert {name: rates[name] for name in wanted} == pytest.approx(wanted, rel=1e-12)
    assert rates["stem/conv/kernel"] == pytest.approx(0.01336, abs=5e-6)
    assert len(set(rates.values())) == 16


def test_in_a_network_without_stages_each_layer_is_a_block():
    run = run_of("training.layer_decay=0.5")
    rates = tuning_of(run.model, run.training).rates
    assert rates["answer/bias"] == 1
    assert rates["hidden/kernel"] == 0.5
    assert [rates[f"conv{number}/kernel"] for number in range(4)] == [2.0**-n for n in (5, 4, 3, 2)]


@pytest.mark.parametrize(
    ("model", "trainable", "first", "count"),
    [
        ("convnext_nano", "head", "answer", 2),
        ("convnext_nano", "last:0", "units", 4),
        ("convnext_nano", "last:1", "stage3/block1/depthwise", 13),
        ("convnext_nano", "last:2", "stage3/down/norm", 26),
        ("convnext_nano", "stage3|units|answer", "stage3/down/norm", 26),
        ("resnet18", "head", "answer", 2),
        ("resnet18", "last:1", "stage3/block1/conv0", 8),
        ("w20", "last:1", "hidden", 4),
        ("w20", "last:99", "conv0", 16),
        ("w20", "all", "conv0", 16),
    ],
)
def test_what_is_trained(model, trainable, first, count):
    tuning = tuned(model, f"training.trainable={trainable}")
    assert len(tuning.rates) == count
    assert layer_of(next(iter(tuning.rates))) == first
    layers = [layer.name for layer in model_of(run_with(f"model={model}").model).encoder]
    before = layers[: layers.index(first)] if first in layers else layers
    assert tuning.still == set(before)  # and the head's dropout always drops
    assert not tuning.still & {layer_of(name) for name in tuning.rates}


def test_weights_of_one_dimension_do_not_decay():
    tuning = tuned("convnext_nano", "training.weight_decay=0.05", "training.trainable=last:1")
    shapes = model_shapes(run_with("model=convnext_nano").model)
    assert tuning.decays.keys() == {name for name in tuning.rates if len(shapes[name]) > 1}
    assert set(tuning.decays.values()) == {0.05}
    assert all(name.endswith("kernel") for name in tuning.decays)
    assert not tuned("convnext_nano").decays


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("training.trainable=heads", "'heads', which no name of a weight matches; give all, head"),
        ("training.trainable=stage3", "which no name of a weight matches"),
        ("training.trainable='conv('", "which is no regular expression"),
        ("training.layer_decay=0", "layer_decay is 0.0; it must be above 0"),
        ("training.layer_decay=1.1", "at most 1"),
        ("training.clip=0", "clip is 0.0; it must be above 0, or null"),
        ("training.weight_decay=-1", "weight_decay is -1.0"),
        ("training.warmup=-1", "warmup is -1"),
        ("training.shards=3", "divide training.batch_size"),
        ("training.shards=0", "at least 1"),
        ("training.patience=0", "patience is 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(word, message):
    def tuning():
        run = compose_run(word)
        return tuning_of(run.model, run.training)

    with pytest.raises(ValueError, match=message):
        tuning()


def test_patience_without_validations_or_in_active_learning_is_refused():
    with pytest.raises(ValueError, match=r"validate_every is 0; give the steps between"):
        compose_run("training.patience=2", "training.validate_every=0")
    with pytest.raises(ValueError, match="set it to null"):
        compose_run("task=active", "training.patience=2")


@pytest.mark.parametrize(
    ("shards", "galaxies", "count"),
    [
        (None, 256, 8),
        (None, 255, 1),
        (None, 128, 4),
        (None, 192, 4),
        (None, 64, 2),
        (None, 63, 1),
        (None, 512, 8),
        (None, 8, 1),
        (4, 8, 4),
        (4, 6, 1),
        (1, 256, 1),
        (16, 256, 16),
    ],
)
def test_how_many_shards_a_batch_has(shards, galaxies, count):
    assert shard_count(replace(spec_of(), shards=shards), galaxies) == count


@pytest.mark.parametrize(
    ("shards", "galaxies", "size"),
    [
        (None, 300, 256),
        (None, 21, 21),
        (8, 300, 256),
        (8, 21, 16),
        (8, 8, 8),
        (8, 5, 5),
        (1, 21, 21),
    ],
)
def test_few_galaxies_make_a_batch_of_whole_shards(shards, galaxies, size):
    assert batch_size(replace(spec_of(), shards=shards), galaxies) == size


def test_plans_have_batches_of_whole_shards():
    run = run_of("training.batch_size=16", "training.shards=8")
    assert draw_plan(run, galaxies(0, 13), 16, 0, 0, 2).rows.shape == (2, 8)


def test_the_rate_rises_in_equal_parts():
    spec = replace(spec_of(), warmup=4, learning_rate=0.5, steps=20)
    rates = learning_rates(spec, np.arange(8))
    np.testing.assert_allclose(rates, [0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5, 0.5], rtol=1e-15)


def test_cosine_falls_from_the_end_of_the_warm_up_to_the_last_step():
    spec = replace(spec_of(), warmup=2, learning_rate=0.3, steps=10, schedule="cosine")
    wanted = [0.1, 0.2, *(0.15 * (1 + np.cos(np.pi * part / 8)) for part in range(9))]
    np.testing.assert_allclose(learning_rates(spec, np.arange(11)), wanted, atol=1e-16)
    long = replace(spec, warmup=30)  # longer than training: it only rises
    np.testing.assert_allclose(learning_rates(long, np.arange(10)), np.arange(1, 11) * 0.3 / 31)


@pytest.mark.parametrize("form", ["textbook", "hat"])
def test_the_specification_of_adamw_by_hand(form):
    """A gradient of 0 leaves the decay; two of 1 move a weight by its share of the rate, whatever their size."""
    spec = replace(spec_of(), epsilon_form=form, learning_rate=0.1, warmup=1, epsilon=1e-30)
    weight, first, second = reference.adam(spec, 0, np.array(2.0), 0.0, 0.0, 0.0, 0.5, 0.3)
    assert weight == pytest.approx(2 - 0.5 * 0.05 * 0.3 * 2, rel=1e-15)
    for gradient in (1.0, 1e-6):
        weight, first, second = reference.adam(spec, 0, 2.0, 0.0, 0.0, gradient, 0.5)
        assert weight == pytest.approx(2 - 0.5 * 0.05, rel=1e-12)
        weight, _, _ = reference.adam(spec, 1, weight, first, second, gradient, 0.5)
        assert weight == pytest.approx(2 - 0.5 * 0.05 - 0.5 * 0.1, rel=1e-12)
    a, b, rate = adam_scales(spec, np.arange(2)).T
    np.testing.assert_allclose(rate, [0.05, 0.1], rtol=1e-15)
    np.testing.assert_allclose(
        a / b, rate * np.sqrt(1 - 0.999 ** np.r_[1, 2]) / (1 - 0.9 ** np.r_[1, 2])
    )


def test_a_long_gradient_is_made_shorter_and_keeps_its_direction():
    found = {"a": np.array([3.0, 0]), "b": np.array([[4.0]])}
    short = reference.clipped(replace(spec_of(), clip=1.0), found)
    np.testing.assert_allclose([*short["a"], *short["b"][0]], [0.6, 0, 0.8])
    assert reference.clipped(replace(spec_of(), clip=6.0), found)["b"] == 4.0
    assert reference.clipped(spec_of(), found)["b"] == 4.0


@pytest.mark.parametrize("name", ONE_FRAMEWORK)
def test_fine_tuning_is_that_of_the_specification(name):
    """Batch norms' moments of each shard, AdamW, a head alone, the last block: and each mistake is seen."""
    command = [sys.executable, "-m", "tests.fine_tuning_checks", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    mistakes = {what: error for what, error in found.items() if what.startswith("mistake")}
    assert len(mistakes) == 3
    assert min(mistakes.values()) > 1e-6
    assert max(found[what] for what in found.keys() - mistakes.keys()) <= 1e-9


WORDS = (
    *("training.steps=40", "backend.steps=5", "training.batch_size=8", "training.patience=2"),
    *("training.validate_every=5", "training.checkpoint_every=5"),
)
LOSSES = {5: 3.0, 10: 1.5, 15: 2.0, 20: 1.5, 25: 1.0, 30: 1.2, 35: 0.9, 40: 0.8}


def stopped_early(folder, backend=None, words=WORDS, losses=LOSSES):
    """A fit whose validation losses are given, by step."""
    return fit(
        backend or Fake(),
        run_of(*words),
        noise(40),
        galaxies(0, 21),
        lambda state: losses[state.step],
        folder,
    )


def test_training_ends_early_with_the_best_weights(tmp_path, capsys):
    state, history = stopped_early(tmp_path)
    assert len(history.losses) == 20  # 15 and 20 brought no better loss than 10; one as low is none
    assert history.validation == [[5, 3.0], [10, 1.5], [15, 2.0], [20, 1.5]]
    told = "stopped after step 20 of at most 40; best validation: step 10"
    assert told in capsys.readouterr().err
    shorter = ("training.steps=10", *WORDS[1:3], "training.validate_every=5")
    best, _ = stopped_early(tmp_path / "ten", words=shorter)
    for name, array in best.weights.items():
        np.testing.assert_array_equal(state.weights[name], array)
        np.testing.assert_array_equal(
            load_weights(tmp_path / BEST, run_of(*WORDS).model)[name], array
        )
    last = ("training.steps=20", *WORDS[1:3], "training.validate_every=5")
    other, _ = stopped_early(tmp_path / "twenty", words=last)
    assert not np.array_equal(other.weights["answer/bias"], state.weights["answer/bias"])


def test_with_more_patience_a_later_better_one_is_found(tmp_path):
    words = (*WORDS, "training.patience=3")
    state, history = stopped_early(tmp_path, words=words)
    assert len(history.losses) == 40
    assert state.step == 0
    assert history.validation[-1] == [40, 0.8]


@pytest.mark.parametrize("stop", [3, 8, 12, 17])
@pytest.mark.parametrize("checkpoint_every", [5, 0])
def test_a_fit_with_patience_that_was_killed_ends_as_one_that_was_not(
    tmp_path, stop, checkpoint_every
):
    words = (*WORDS, f"training.checkpoint_every={checkpoint_every}")
    whole, history = stopped_early(tmp_path / "whole", words=words)
    with pytest.raises(Stopped):
        stopped_early(tmp_path / "killed", Fake(stop=stop), words)
    state, again = stopped_early(tmp_path / "killed", words=words)
    assert (again.losses, again.validation) == (history.losses, history.validation)
    np.testing.assert_array_equal(state.weights["answer/bias"], whole.weights["answer/bias"])
    one, other = (tmp_path / name for name in ("whole", "killed"))
    assert (one / BEST).read_bytes() == (other / BEST).read_bytes()
    backend = Fake()
    done, _ = stopped_early(tmp_path / "killed", backend, words)  # once more: it was finished
    assert not backend.plans
    np.testing.assert_array_equal(done.weights["answer/bias"], whole.weights["answer/bias"])
    assert (one / CHECKPOINT).exists()
    assert (other / CHECKPOINT).exists()


def test_patience_without_a_validation_galaxy_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no validation galaxy has votes; raise split.validation"):
        stopped_early(tmp_path, losses=dict.fromkeys(LOSSES))


def test_without_patience_the_last_weights_are_kept(tmp_path):
    state, history = stopped_early(tmp_path, words=(*WORDS, "training.patience=null"))
    assert len(history.losses) == state.step == 40
    assert not (tmp_path / BEST).exists()
