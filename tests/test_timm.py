"""Our networks are timm's: the same features and gradients for the same weights, from a file that timm made.

tests/golden/make_timm.py made it, and draws the weights and images here. The specification is compared at reduced
widths, and PyTorch at full size; all frameworks are compared with the specification elsewhere.
"""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from shared.network.timm_names import from_timm, timm_name, to_timm
from shared.proof import network as proof
from tests.golden.make_timm import FILE, NETWORKS, condensed, direction, images, modes, state

ROOT = Path(__file__).parent.parent
NARROW = [name for name in NETWORKS if "narrow" in name]
FULL = [name for name in NETWORKS if "narrow" not in name]


@cache
def golden():
    """Arrays, and what the file says of each network."""
    with safe_open(FILE, "numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return arrays, json.loads(file.metadata()["networks"])


def shapes(name):
    return {key: tuple(shape) for key, shape in golden()[1][name]["shapes"].items()}


def case(name):
    """A network with the family of its names, its weights and running moments, and the images that it is shown."""
    (network, family), x = NETWORKS[name], images(name)
    weights, moments = from_timm(family, network, x.shape[1:], state(shapes(name)))
    return network, family, weights, moments, x


def relative_error(got, wanted, size=None):
    """The largest |difference|, each over its `size`: without, over the largest number of its row."""
    return (np.abs(got - wanted).max(-1) / (np.abs(wanted).max(-1) if size is None else size)).max()


def errors(name, mode, features, gradients):
    """How far features, and gradients under our names, are from timm's: by layers, for a bias' may cancel to 0."""
    arrays, facts = golden()
    theirs, names = to_timm(NETWORKS[name][1], gradients, shapes(name)), facts[name]["gradients"]
    assert theirs.keys() == set(names)
    wanted = arrays[f"{name}/{mode}/gradients"]
    layers = [key.rpartition(".")[0] for key in names]
    norms = {layer: max(wanted[np.array(layers) == layer, 0]) for layer in layers}
    return {
        "features": relative_error(features, arrays[f"{name}/{mode}/features"]),
        "gradients": relative_error(
            condensed({key: theirs[key] for key in names}),
            wanted,
            [norms[layer] for layer in layers],
        ),
    }


@pytest.mark.parametrize(
    ("name", "mode"), [(name, mode) for name in NARROW for mode in modes(name)]
)
def test_the_specification_is_timm(name, mode):
    network, family, weights, moments, x = case(name)
    done = proof.forward(network, weights, x, moments if mode == "running" else None)
    gradients, _ = proof.gradients(network, done, direction(done.output.shape))
    found = errors(name, mode, done.output, gradients)
    if mode == "batch":
        after = proof.blended(network, moments, done.moments)
        theirs = to_timm(family, after, shapes(name))
        ordered = condensed({key: theirs[key] for key in shapes(name) if key in theirs})
        found["moments"] = relative_error(ordered, golden()[0][f"{name}/batch/moments"])
    assert max(found.values()) < 1e-10, found


def measure():
    """Print the errors of PyTorch at full size."""
    from tests.network_checks import Framework

    framework, found = Framework("torch", "float64"), {}
    for name in FULL:
        network, _, weights, moments, x = case(name)
        given = framework.arrays(moments)

        def call(weights, arrays, network=network, given=given):
            return framework.network.forward(network, weights, arrays["x"], given, {})

        d = framework.put(direction(golden()[0][f"{name}/running/features"].shape))
        pulled = (framework.weights(weights), framework.arrays({"x": x}), d)
        y, _, pulled_back = framework.pull(call, *pulled)
        gradients = {key: framework.from_layout(pulled_back[key]) for key in weights}
        found[name] = errors(name, "running", framework.fetch(y), gradients)
    print(json.dumps(found))


@pytest.mark.slow
def test_networks_of_full_size_are_timms():
    pytest.importorskip("torch")
    command = [sys.executable, "-c", "from tests import test_timm; test_timm.measure()"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found.keys() == set(FULL)
    assert max(max(one.values()) for one in found.values()) < 1e-10, found


def test_the_file_says_how_it_was_made():
    with safe_open(FILE, "numpy") as file:
        facts = file.metadata()
    assert facts["script"] == "tests/golden/make_timm.py"
    assert json.loads(facts["versions"])["timm"] == "1.0.31"
    assert FILE.stat().st_size < 2e6


@pytest.mark.parametrize(
    ("family", "ours", "theirs"),
    [
        ("resnet", "stage0/block1/norm2/variance", "layer1.1.bn3.running_var"),
        ("resnet", "stage3/block0/shortcut/conv/kernel", "layer4.0.downsample.0.weight"),
        ("convnext", "stage2/block7/scale/scale", "stages.2.blocks.7.gamma"),
        ("convnext", "stage1/block0/norm/scale", "stages.1.blocks.0.norm.weight"),
        ("efficientnet", "stage0/block0/contract/kernel", "blocks.0.0.conv_pw.weight"),
        ("efficientnet", "stage4/block2/gate/excite/bias", "blocks.4.2.se.conv_expand.bias"),
    ],
)
def test_timms_names(family, ours, theirs):
    assert timm_name(family, ours) == theirs


def test_weights_of_another_network_are_refused():
    network, family, *_, x = case("convnext, narrow")
    theirs = state(shapes("convnext, narrow"))
    lacking = {name: array for name, array in theirs.items() if name != "stem.1.bias"}
    with pytest.raises(ValueError, match=r"not timm's weights of this convnext: stem\.1\.bias are"):
        from_timm(family, network, x.shape[1:], lacking)
    with pytest.raises(ValueError, match=r"stem\.0\.weight is of the shape .* the network needs"):
        from_timm(family, network, (64, 64, 1), theirs)
    classified = theirs | {"head.fc.weight": np.zeros((1000, 20)), "head.fc.bias": np.zeros(1000)}
    from_timm(family, network, x.shape[1:], classified)
