"""Networks as data: counts, shapes, JSON, schedules; and every network in every framework against the specification."""

import re
from math import prod
from pathlib import Path

import numpy as np
import pytest
from test_layers import measured, worst

from shared.network.architectures.convnext import convnext
from shared.network.architectures.dieleman import dieleman
from shared.network.architectures.efficientnet import efficientnet
from shared.network.architectures.heads import dropout_head, maxout_head
from shared.network.architectures.resnet import resnet18, resnet50
from shared.network.architectures.w20 import w20
from shared.network.model import model_of
from shared.network.network import (
    activations,
    dropped,
    flat,
    from_json,
    fused_schedule,
    layer_numbers,
    moment_shapes,
    nested,
    schedule,
    shapes,
    to_json,
    weight_shapes,
    work,
)
from shared.network.pixels import places, taps
from shared.proof import network as proof
from shared.proof.case import doubled
from shared.run.spec import BACKENDS, RunSpec, from_config
from tests.network_checks import masks, networks, random_weights
from tests.train_networks import NARROW
from trizoo import compose

ROOT = Path(__file__).parent.parent
PARAMETERS = {  # with colours, without a head: those of timm 1.0.31
    "convnext_atto": (convnext((40, 80, 160, 320), (2, 2, 6, 2)), 3_374_520),
    "convnext_femto": (convnext((48, 96, 192, 384), (2, 2, 6, 2)), 4_832_784),
    "convnext_pico": (convnext((64, 128, 256, 512), (2, 2, 6, 2)), 8_532_672),
    "convnext_nano": (convnext(), 14_952_560),
    "convnext_tiny": (convnext((96, 192, 384, 768), (3, 3, 9, 3)), 27_820_128),
    "convnext_small": (convnext((96, 192, 384, 768), (3, 3, 27, 3)), 49_454_688),
    "efficientnet_b0": (efficientnet(), 4_007_548),
    "resnet18": (resnet18(), 11_176_512),
    "resnet50": (resnet50(), 23_508_032),
}
GREY = {
    "convnext_nano": 14_950_000,
    "efficientnet_b0": 4_006_972,
    "resnet18": 11_170_240,
    "resnet50": 23_501_760,
}


def count(shapes):
    return sum(map(prod, shapes.values()))


@pytest.mark.parametrize("name", BACKENDS)
def test_networks_are_those_of_the_specification(name):
    found = measured(name, "float64", "networks")
    assert {case.split(",")[0] for case in found} == networks().keys()
    assert not worst(found, 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKENDS)
def test_twenty_steps_of_training_are_those_of_the_specification(name):
    found = measured(name, module="tests.train_networks")
    assert found.keys() == NARROW.keys()
    assert not {network: error for network, error in found.items() if not error <= 1e-9}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_as_many_as_timms(name):
    network, wanted = PARAMETERS[name]
    assert count(weight_shapes(network, (64, 64, 3))) == wanted
    assert count(weight_shapes(network, (64, 64, 1))) == GREY.get(
        name, wanted - 32 * network[0].operation.filters
    )


def test_the_page_of_networks_has_their_parameters():
    page = (ROOT / "docs" / "networks.md").read_text()
    listed = dict(re.findall(r"^\| `(\w+)`[^|]*\|[^|]*\| ([\d,]+) \|", page, re.MULTILINE))
    found = {}
    for name in listed:
        spec = from_config(RunSpec, compose([f"model={name}"])).model
        model = model_of(spec)
        found[name] = f"{count(weight_shapes(model.encoder, model.image)):,}"
    assert listed == found
    assert listed.keys() == {path.stem for path in (ROOT / "conf" / "model").glob("*.yaml")}


def test_moments_are_as_many_as_timms():
    assert count(moment_shapes(efficientnet(), (64, 64, 3))) == 42_065 - 49  # less a counter each
    assert not moment_shapes(convnext(), (64, 64, 3))


def test_w20_is_what_it_was():
    network, image = w20() + dropout_head(0.5), (128, 128, 1)
    names = weight_shapes(network, image)
    assert count(names) == 1_335_394
    layers = [*(f"conv{number}" for number in range(6)), "hidden", "answer"]
    assert list(names) == [f"{layer}/{part}" for layer in layers for part in ("kernel", "bias")]
    assert sum(work(w20(), image).values()) == pytest.approx(2 * 0.497e9, rel=1e-2)


def test_dieleman_is_as_large_as_published():
    network = dieleman() + maxout_head(0.5, 37)
    assert shapes(network, (69, 69, 3))["units"] == (8192,)
    assert count(weight_shapes(network, (69, 69, 3))) == pytest.approx(42.3e6, rel=1e-3)
    assert activations(dieleman(), (69, 69, 3))["conv0"] == 16 * 40 * 40 * 32


@pytest.mark.parametrize("name", networks())
def test_a_network_is_the_same_after_json(name):
    import json

    network = networks()[name].whole
    assert from_json(json.loads(json.dumps(to_json(network)))) == network


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operation": "Covn"}, "has the operation 'Covn'; there are Conv, Dense"),
        ({"rate": 0.5}, "layer relu0 has the settings rate; Relu has"),
        (
            {"inputs": ["conv9"]},
            "layer relu0 is made of .*conv9.*; it must be made of layers before",
        ),
        ({"name": "conv0"}, "layer conv0 is made of .* under a name of its own"),
    ],
)
def test_json_that_is_no_network_is_refused(change, message):
    data = to_json(w20())
    data[1] |= change
    with pytest.raises(ValueError, match=message):
        from_json(data)


@pytest.mark.parametrize("name", networks())
@pytest.mark.parametrize("order", [schedule, fused_schedule])
def test_a_schedule_forgets_what_is_not_needed_any_more(name, order):
    network = networks()[name].whole
    held, seen = {"image"}, []
    for step, over in order(network):
        inside = {layer.name for layer in step[:-1]}
        assert {each for layer in step for each in layer.inputs} - inside <= held
        held = (held | {step[-1].name}) - set(over)
        seen += step
    assert tuple(seen) == network
    assert held == {network[-1].name}


def test_only_what_nothing_else_needs_is_fused():
    assert [len(step) for step, _ in fused_schedule(w20(((8, 8), (8,)), 4))] == [2, 3, 3, 1, 1, 1]
    assert {len(step) for step, _ in fused_schedule(resnet18())} == {1}


def test_layers_that_drop_have_numbers_of_their_own():
    model = networks()["convnext"]
    numbers = layer_numbers(model)
    assert numbers["dropout"] == 0
    assert sorted(numbers.values()) == list(range(len(dropped(model.whole))))
    kept = masks(networks()["dieleman"], 64)
    assert not np.array_equal(kept["dropout0"][:, :5], kept["dropout1"])


def test_nested_is_undone_by_flat():
    named = {"a/b/kernel": 1, "a/b/bias": 2, "c/scale": 3}
    assert nested(named) == {"a/b": {"kernel": 1, "bias": 2}, "c": {"scale": 3}}
    assert flat(nested(named)) == named


def test_an_image_turned_four_times_by_a_quarter_is_itself():
    x, (index, share) = np.arange(25.0), taps(5, 90.0)
    for _ in range(4):
        x = (x[index] * share).sum(0)
    np.testing.assert_allclose(x, np.arange(25), atol=1e-12)
    np.testing.assert_allclose(taps(7, 45.0)[1].sum(0), 1)


def test_views_have_the_centre_in_one_corner():
    found = places(9, 6)
    assert found.shape == (16, 6, 6)
    assert set(found[:8, 4, 4]) == {40}  # the middle of 9 x 9
    assert set(found[8:, 4, 4]) == {81 + 40}


@pytest.mark.parametrize("name", networks())
def test_gradients_of_whole_networks_are_finite_differences(name):
    model, random = networks()[name], np.random.default_rng(3)
    weights, kept = doubled(random_weights(model)), masks(model, 2)
    x = random.random((2, *model.image))
    done = proof.forward(model.whole, weights, x, None, kept)
    d = random.normal(size=done.output.shape)
    gradients, _ = proof.gradients(model.whole, done, d)
    assert gradients.keys() == weights.keys()
    v = {key: random.normal(size=w.shape) * np.abs(w).mean() for key, w in weights.items()}

    def loss(t):
        moved = {key: w + t * v[key] for key, w in weights.items()}
        return (proof.forward(model.whole, moved, x, None, kept).output * d).sum()

    size = np.sqrt(
        sum((gradients[key] ** 2).sum() for key in v) * sum((one**2).sum() for one in v.values())
    )
    errors = [
        abs((loss(h) - loss(-h)) / (2 * h) - sum((gradients[key] * v[key]).sum() for key in v))
        / size
        for h in (1e-5, 1e-6, 1e-7)
    ]
    assert min(errors) < 1e-5  # ReLU and max-pool have a kink between the two


def test_running_moments_move_towards_a_batchs():
    network = resnet18((4,), (1,))
    running = {"stem/norm/mean": np.zeros(4), "stem/norm/variance": np.ones(4)}
    found = {"stem/norm/mean": np.ones(4), "stem/norm/variance": np.full(4, 3.0)}
    after = proof.blended(network, running, found)
    np.testing.assert_allclose(after["stem/norm/mean"], 0.1)
    np.testing.assert_allclose(after["stem/norm/variance"], 1.2)
