"""Weights: W+20's number of them, the same first values for everyone, and files that refuse what does not fit."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from shared.network.weights import (
    Checkpoint,
    first_checkpoint,
    init_weights,
    load_checkpoint,
    load_weights,
    model_shapes,
    parameters,
    save_checkpoint,
    save_weights,
)
from tests.models import w20_model

SMALL = w20_model(16, ((2,), (3,), (4,), (5,)), 6)


def test_w20s_network():
    spec = w20_model(128)
    assert parameters(spec) == 1_335_394
    assert model_shapes(spec)["hidden/kernel"] == (8 * 8 * 128, 128)


def test_first_values():
    weights = init_weights(SMALL, 0)
    assert all((weights[name] == 0).all() for name in weights if name.endswith("bias"))
    kernel = init_weights(w20_model(64), 1)["conv3/kernel"]
    limit = np.sqrt(6 / (9 * 128))
    assert kernel.dtype == np.float32
    assert -limit <= kernel.min() < -0.99 * limit
    assert 0.99 * limit < kernel.max() <= limit
    assert abs(kernel.var() / (limit**2 / 3) - 1) < 0.02
    assert not np.array_equal(
        init_weights(SMALL, 0)["conv1/kernel"], init_weights(SMALL, 1)["conv1/kernel"]
    )


def test_files_give_back_what_they_got(tmp_path):
    start = first_checkpoint(SMALL, 3)
    random = np.random.default_rng(0)
    moments = {name: random.random(array.shape) for name, array in start.weights.items()}
    checkpoint = Checkpoint(start.weights, moments, {n: a + 1 for n, a in moments.items()}, 17)
    save_checkpoint(tmp_path / "c.safetensors", checkpoint, {"losses": [0.1]})
    back, about = load_checkpoint(tmp_path / "c.safetensors", SMALL)
    assert (back.step, about["losses"]) == (17, [0.1])
    for one, other in zip(back[:3], checkpoint[:3], strict=True):
        assert list(one) == list(model_shapes(SMALL))
        assert all(
            np.array_equal(one[n], other[n]) and one[n].dtype == other[n].dtype for n in other
        )
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


def test_the_same_weights_make_the_same_bytes(tmp_path):
    weights = init_weights(SMALL, 0)
    save_weights(tmp_path / "a", weights, {"b": 1, "a": 2})
    save_weights(tmp_path / "b", dict(reversed(weights.items())), {"a": 2, "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def broken(change):
    weights = init_weights(SMALL, 0)
    change(weights)
    return weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("conv1/bias"), "the model has conv0/kernel"),
        (lambda w: w.update(extra=np.zeros(1)), "has the arrays"),
        (lambda w: w.update({"hidden/bias": np.zeros(7)}), r"hidden/bias has the shape \(7,\)"),
        (lambda w: w["answer/bias"].fill(np.nan), "answer/bias holds values that are not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, change, message):
    save_file(broken(change), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=message):
        load_weights(tmp_path / "w.safetensors", SMALL)


@pytest.mark.parametrize("kind", [np.float16, np.int32, np.int64, np.uint8, bool])
def test_weights_of_another_type_are_refused(tmp_path, kind):
    weights = init_weights(SMALL, 0)
    weights["conv1/bias"] = weights["conv1/bias"].astype(kind)
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"conv1/bias is of the type \w+, but weights are float32"):
        load_weights(tmp_path / "w.safetensors", SMALL)


def test_weights_in_bfloat16_are_said_to_be_so(tmp_path):
    weights = init_weights(SMALL, 0)
    save_file(weights, tmp_path / "w.safetensors")
    data = (tmp_path / "w.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + length])
    place = 0
    for one in head.values():
        count = (one["data_offsets"][1] - one["data_offsets"][0]) // 2
        one |= {"dtype": "BF16", "data_offsets": [place, place + count]}
        place += count
    text = json.dumps(head).encode()
    (tmp_path / "w").write_bytes(len(text).to_bytes(8, "little") + text + bytes(place))
    with pytest.raises(ValueError, match="of the type BF16, but weights are float32 or float64"):
        load_weights(tmp_path / "w", SMALL)


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"losses": 0.5}, "losses is 0.5, not a list"),
        ({"losses": ["a"]}, r"losses\[0\] is 'a', not a number"),
        ({"seconds": [1]}, r"seconds\[0\] is 1, not a list"),
        ({"galaxies": 7}, "galaxies is 7, not a text"),
        ({"rounds": [[]]}, r"rounds\[0\] is \[\], not an object"),
        ({"step": "2"}, "step is '2', not a whole number"),
        ({"step": -1}, "a step below 0"),
    ],
)
def test_a_checkpoint_that_says_other_things_is_refused(tmp_path, facts, what):
    start = first_checkpoint(SMALL, 3)
    parts = zip(("weights", "first", "second"), start[:3], strict=True)
    arrays = {f"{part}/{name}": array for part, named in parts for name, array in named.items()}
    save_weights(tmp_path / "c", arrays, {"step": 2} | facts)
    with pytest.raises(ValueError, match=what):
        load_checkpoint(tmp_path / "c", SMALL)
    save_weights(tmp_path / "c", arrays, {})
    with pytest.raises(ValueError, match="step is missing"):
        load_checkpoint(tmp_path / "c", SMALL)


@pytest.mark.parametrize("value", [np.nan, -1])
def test_moments_that_cannot_be_are_refused(tmp_path, value):
    start = first_checkpoint(SMALL, 3)
    second = start.second | {"conv0/bias": np.full(2, value, np.float32)}
    save_checkpoint(tmp_path / "c", start._replace(second=second), {})
    with pytest.raises(ValueError, match=r"not finite|below 0"):
        load_checkpoint(tmp_path / "c", SMALL)


def test_files_that_are_no_weights_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="trizoo fit"):
        load_weights(tmp_path / "none.safetensors", SMALL)
    save_weights(tmp_path / "w", init_weights(SMALL, 0), {})
    (tmp_path / "half").write_bytes((tmp_path / "w").read_bytes()[:500])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_weights(tmp_path / "half", SMALL)
