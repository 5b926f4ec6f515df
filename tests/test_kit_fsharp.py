"""The fifth implementation, in F#: it passes the conformance kit, from the kit's inputs alone.

The script runs with `dotnet fsi`; elsewhere under Node.js, compiled by npm's fable-compiler-js@1.3.1. Nothing is
downloaded: FABLE_COMPILER_JS names that package's index.js, or its program is on the PATH as fable-compiler-js.
"""

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from shared.proof.kit import adam
from shared.proof.kit.checking import check_kit
from shared.proof.kit.checks import CHECKS
from shared.proof.kit.writing import write_kit

PORT = Path(__file__).parent / "fifth" / "port.fsx"
DOTNET, NODE = shutil.which("dotnet"), shutil.which("node")
FABLE = os.environ.get("FABLE_COMPILER_JS") or shutil.which("fable-compiler-js")
STEPS = 5  # of Adam, for time; the C port is held to all 200

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (DOTNET or (NODE and FABLE)),
        reason="no F#: neither dotnet is on the PATH, nor node with fable-compiler-js "
        "(npm install fable-compiler-js@1.3.1; FABLE_COMPILER_JS names its index.js)",
    ),
]

WRONG = {  # one expected array of every check
    "1_keys": "out/keep",
    "2_warp": "out/bilinear",
    "3_layers": "out/conv5",
    "4_likelihood": "out/nll",
    "5_gradient": "out/slope/conv0/kernel",
    "6_adam": "out/many/losses",
    "8_posterior": "out/rho",
    "9_acquisition": "out/mutual_information",
}
MISTAKES = {  # one in every part of the script: what is right, what is wrong
    "1_keys": ("6.0 / (field", "5.0 / (field"),
    "2_warp": (
        "(row |> max 0 |> min last) * (last + 1)",
        "(row |> max 1 |> min last) * (last + 1)",
    ),
    "3_layers": ("Array.map (max 0.0) x.Values", "Array.map (max 0.001) x.Values"),
    "4_likelihood": ("term yes -logit + term (total - yes)", "term yes logit + term (total - yes)"),
    "5_gradient": ("if value > 0.0 then d", "if value > 0.1 then d"),
    "6_adam": ("sqrt c2 / c1 * first", "c2 / c1 * first"),
    "8_posterior": ("(uint32 (first + s))", "(uint32 first)"),
    "9_acquisition": ("logFactorials.[votes] - logFactorials.[k]", "logFactorials.[votes]"),
}


def done(*command, **settings):
    ran = subprocess.run(command, capture_output=True, text=True, **settings)
    assert ran.returncode == 0, (ran.stdout + ran.stderr)[-3000:]
    return ran.stdout + ran.stderr


def program(script, folder):
    """The command that runs the text of a script, compiled in `folder` where dotnet is missing."""
    folder.mkdir()
    source = folder / "port.fsx"
    source.write_text(script, encoding="utf-8")
    if DOTNET:
        return [DOTNET, "fsi", "--optimize+", source]
    package = Path(FABLE).resolve().parent
    modules = next(p for p in (package / "node_modules", package.parent) if (p / "@babel").is_dir())
    (folder / "node_modules").symlink_to(modules)  # both it and the source are sought where it runs
    output = done(NODE, package / "index.js", source.name, "out", "--commonjs", cwd=folder)
    compiled = folder / "out" / "port.js"
    assert compiled.exists(), output[-3000:]  # the compiler's exit status is 0 in any case
    return [NODE, compiled]


def answered(command, folder, inputs, *checks):
    folder.mkdir()
    done(*command, inputs, folder, *checks)
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adam, "ADAM", replace(adam.ADAM, steps=STEPS))
        write_kit(folder)
    return folder


@pytest.fixture(scope="module")
def inputs(written, tmp_path_factory):
    """The kit without its answers: none of them can be copied."""
    folder = tmp_path_factory.mktemp("inputs")
    shutil.copy(written / "networks.json", folder)
    for path in written.glob("*.safetensors"):
        arrays = load_file(path)
        save_file({k: v for k, v in arrays.items() if not k.startswith("out/")}, folder / path.name)
    return folder


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    return program(PORT.read_text(encoding="utf-8"), tmp_path_factory.mktemp("right") / "program")


@pytest.fixture(scope="module")
def answers(port, inputs, tmp_path_factory):
    return answered(port, tmp_path_factory.mktemp("right") / "answers", inputs)


def test_a_port_in_fsharp_passes_every_check_in_double_precision(written, answers):
    verdicts = check_kit(written, answers)
    assert {one.check for one in verdicts} == set(CHECKS)
    assert not [one for one in verdicts if one.verdict != "ok"]
    real = load_file(answers / "3_layers.safetensors").values()
    assert {array.dtype for array in real} == {np.dtype("float64")}


@pytest.mark.parametrize("check", CHECKS)
def test_the_answers_fail_a_kit_that_expects_another_number(written, answers, tmp_path, check):
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    path = tmp_path / f"{check}.safetensors"
    arrays = load_file(path)
    expected = arrays[WRONG[check]]
    place = np.abs(expected.astype(float)).argmax()
    expected.flat[place] = 0 if expected.dtype.kind == "u" else expected.flat[place] * (1 + 1e-8)
    save_file(arrays, path)
    failed = [one[:2] for one in check_kit(tmp_path, answers) if one.verdict != "ok"]
    assert failed == [(check, WRONG[check])]


def test_the_port_computes_the_network_that_the_kit_has_as_data(written, port, inputs, tmp_path):
    other = tmp_path / "inputs"
    shutil.copytree(inputs, other)
    networks = (other / "networks.json").read_text()
    assert networks.count('"rate": 0.5') == 2
    (other / "networks.json").write_text(networks.replace('"rate": 0.5', '"rate": 0.25'))
    found = check_kit(written, answered(port, tmp_path / "answers", other, "3_layers"))
    assert [one[:2] for one in found if one.verdict == "over"] == [("3_layers", "out/logits")]


def test_a_mistake_in_every_part_of_the_script_fails_every_check(written, inputs, tmp_path):
    script = PORT.read_text(encoding="utf-8")
    for right, wrong in MISTAKES.values():
        assert script.count(right) == 1, right
        script = script.replace(right, wrong)
    command = program(script, tmp_path / "program")
    verdicts = check_kit(written, answered(command, tmp_path / "answers", inputs))
    assert {one.check for one in verdicts if one.verdict == "over"} == set(CHECKS)
