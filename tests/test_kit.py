"""The conformance kit: what it holds, what its checker says, and a fourth implementation, in C, that passes it."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal, localcontext
from math import prod
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy import ndimage, special, stats

from shared.network.model import model_of
from shared.network.network import from_json
from shared.network.operations import OPERATIONS
from shared.network.weights import model_shapes
from shared.proof import reference
from shared.proof.kit import adam
from shared.proof.kit.acquisition import APART
from shared.proof.kit.checking import Verdict, check_kit, table
from shared.proof.kit.checks import CHECKS
from shared.proof.kit.fixtures import NETWORKS, WIDE, Fixtures, double
from shared.proof.kit.likelihood import FORMS, TWO
from shared.proof.kit.random_numbers import random_numbers
from shared.proof.kit.writing import FORMAT, write_kit
from shared.proof.network import forward
from shared.run import keys
from shared.tasks import kit as task

ROOT = Path(__file__).parent.parent
PORT = ROOT / "tests" / "fourth" / "port.c"
COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
NO_COMPILER = "no C compiler (cc, gcc or clang) is on the PATH"
INFERENCE = [check for check in CHECKS if check not in ("5_gradient", "6_adam")]
MUTANTS = {  # number in port.c: the mistake, the check that finds it, others that start from the same
    1: ("transposed kernel", "3_layers", {"8_posterior"}),
    2: ("half-pixel shift", "2_warp", {"8_posterior"}),
    3: ("wrong rotation constant", "1_keys", {"8_posterior", "9_acquisition"}),
    4: ("mask reused across samples", "8_posterior", set()),
    5: ("swapped k and N - k", "4_likelihood", set()),
    6: ("dropped lgamma", "9_acquisition", set()),
    7: ("flattened channel first", "3_layers", {"8_posterior"}),
    8: ("ln(1 + exp(z)) as it stands", "4_likelihood", set()),
    9: ("first bytes of a longer hash", "1_keys", set()),
    10: ("dropout without its scale", "3_layers", {"8_posterior"}),
    11: ("mask by the lower bits", "1_keys", {"8_posterior"}),
    12: ("edge for zero border", "2_warp", set()),
    13: ("counter's words swapped", "1_keys", {"8_posterior", "9_acquisition"}),
    14: ("smallest scores chosen", "9_acquisition", set()),
    15: ("mixture left out of the information", "9_acquisition", set()),
    16: ("last of a tied square", "5_gradient", set()),
    17: ("textbook for hat", "6_adam", set()),
    18: ("votes that leave no trace in the urn", "4_likelihood", set()),
    19: ("two questions as one", "4_likelihood", set()),
    20: ("differences of lgamma", "4_likelihood", set()),
}


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """A kit, made by one thread: several, on cores that others use, are slower."""
    folder = tmp_path_factory.mktemp("kit")
    code = f"from pathlib import Path; from shared.proof.kit.writing import write_kit; write_kit(Path({str(folder)!r}))"
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="session")
def load(written):
    """The arrays of a check of the kit."""
    return lambda check: load_file(written / f"{check}.safetensors")


@pytest.fixture
def answers(written, tmp_path):
    """A folder of right answers, to be spoilt."""
    for check in CHECKS:
        arrays = load_file(written / f"{check}.safetensors")
        save_file(
            {name: array for name, array in arrays.items() if name.startswith("out/")},
            tmp_path / f"{check}.safetensors",
        )
    return tmp_path


def spoil(answers, check, name, change):
    """Let `change` make another array of the one called `name`."""
    path = answers / f"{check}.safetensors"
    arrays = load_file(path)
    arrays[name] = np.ascontiguousarray(change(arrays[name]))
    save_file(arrays, path)


def verdict_on(kit_folder, answers, check, name) -> Verdict:
    (found,) = [
        one for one in check_kit(kit_folder, answers) if (one.check, one.array) == (check, name)
    ]
    return found


def compiled(folder, precision, mutant=0, optimise="-O2"):
    """The port as a program in `folder`."""
    program = folder / f"port-{precision}-{mutant}"
    flags = [optimise, "-Wall", "-Werror", "-std=c11", f"-DREAL={precision}", f"-DMUTANT={mutant}"]
    command = [COMPILER, *flags, PORT, "-o", program, "-lm"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return program


def ported(program, kit_folder, folder, *checks):
    """The verdicts on what `program` wrote into `folder`."""
    folder.mkdir()
    done = subprocess.run([program, kit_folder, folder, *checks], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return check_kit(kit_folder, folder)


# The fourth implementation


@pytest.mark.skipif(COMPILER is None, reason=NO_COMPILER)
def test_a_port_in_c_passes_every_check_in_double_precision(written, tmp_path):
    verdicts = ported(compiled(tmp_path, "double"), written, tmp_path / "answers")
    assert {one.check for one in verdicts} == set(CHECKS)
    assert not [one for one in verdicts if one.verdict != "ok"]
    assert table(verdicts).endswith("all is ok")


@pytest.mark.skipif(COMPILER is None, reason=NO_COMPILER)
def test_a_port_in_c_in_single_precision_lacks_the_200_steps_alone(written, tmp_path):
    verdicts = ported(compiled(tmp_path, "float"), written, tmp_path / "answers")
    many = [one for one in verdicts if one.array.startswith("out/many/")]
    assert many
    assert {one.verdict for one in many} == {"missing"}
    assert not [one for one in verdicts if one.verdict != "ok" and one not in many]
    assert {one.tolerance for one in verdicts if one.check == "3_layers"} == {1e-5}


@pytest.mark.skipif(COMPILER is None, reason=NO_COMPILER)
@pytest.mark.parametrize("mutant", MUTANTS, ids=[what for what, _, _ in MUTANTS.values()])
def test_a_mistake_in_the_port_is_found_by_its_check(written, tmp_path, mutant):
    _, check, others = MUTANTS[mutant]
    asked = INFERENCE if check in INFERENCE else [check]
    program = compiled(tmp_path, "float", mutant, "-O1")
    verdicts = ported(program, written, tmp_path / "answers", *asked)
    assert {one.check for one in verdicts if one.verdict == "over"} == {check, *others}
    assert {one.check for one in verdicts if one.verdict == "missing"} >= set(CHECKS) - set(asked)


def test_the_port_includes_nothing_but_the_standard_library():
    included = {line for line in PORT.read_text().splitlines() if line.startswith("#include")}
    names = ["inttypes", "math", "stdarg", "stdint", "stdio", "stdlib", "string", "tgmath"]
    assert included == {f"#include <{name}.h>" for name in names}


# What the kit holds


def test_the_kit_is_small_and_index_files_and_readme_agree(written):
    assert sum(path.stat().st_size for path in written.iterdir()) < 20e6
    index = json.loads((written / "index.json").read_text())
    readme = (written / "README.md").read_text()
    parts = [index["weights"], *index["checks"].values()]
    assert {path.name for path in written.iterdir()} == {
        "README.md",
        "index.json",
        index["networks"],
        *(part["file"] for part in parts),
    }
    for part in parts:
        arrays = load_file(written / part["file"])
        assert arrays.keys() == part["arrays"].keys()
        for name, fact in part["arrays"].items():
            assert (str(arrays[name].dtype), list(arrays[name].shape)) == (
                fact["dtype"],
                fact["shape"],
            )
            assert ("rule" in fact) == name.startswith("out/")
            assert f"| `{name}` | {fact['dtype']} |" in readme
            assert np.isfinite(arrays[name]).all()
    for check in index["checks"].values():
        assert f"\n## {check['section']}\n" in readme


def test_the_networks_are_those_of_the_specification(written):
    networks = json.loads((written / "networks.json").read_text())
    assert networks.keys() == NETWORKS.keys()
    for name, spec in NETWORKS.items():
        model, network = model_of(spec), networks[name]
        assert tuple(network["image"]) == model.image
        assert from_json(network["encoder"]) == model.encoder
        assert from_json(network["head"]) == model.head


def test_walking_the_network_as_data_gives_the_layers(load, written):
    network = json.loads((written / "networks.json").read_text())["wide"]
    arrays, weights = load("3_layers"), load_file(written / "weights.safetensors")
    kept = {"dropout": arrays["in/keep"].astype(bool)}
    encoder, head = (from_json(network[part]) for part in ("encoder", "head"))
    values = forward(encoder, double(weights), arrays["in/x"].astype(float)).values
    answers = forward(head, double(weights), values["units"], None, kept).output
    for name in arrays.keys() - {"out/logits"}:
        if name.startswith("out/"):
            np.testing.assert_allclose(values[name[4:]], arrays[name], rtol=0, atol=1e-12)
    np.testing.assert_allclose(answers[:, 1] - answers[:, 0], arrays["out/logits"], atol=1e-12)


def test_the_readme_says_what_each_operation_does(written):
    readme = (written / "README.md").read_text()
    networks = json.loads((written / "networks.json").read_text())
    shown = re.search(r'    (\{"name": "conv0".*?\})', readme, re.DOTALL)
    assert json.loads(shown[1]) == networks["wide"]["encoder"][0]
    layers = [
        layer for network in networks.values() for layer in network["encoder"] + network["head"]
    ]
    for kind in OPERATIONS:
        assert (f"- `{kind}`" in readme) == (kind in {layer["operation"] for layer in layers})
    for name in {name for layer in layers for name in layer} - {"bias"}:
        assert f"`{name}`" in readme or f'"{name}"' in readme
    here = {  # what the README says that all have here
        "Conv": {"stride": 1, "groups": 1, "padding": 1, "kernel": 3, "bias": True},
        "MaxPool": {"stride": 2, "padding": 0, "kernel": 2},
    }
    for layer in layers:
        wanted = here.get(layer["operation"], {})
        assert layer.items() >= wanted.items()
        assert (layer.get("init", "glorot"), layer.get("bias_init", 0)) == ("glorot", 0)


def test_no_array_of_the_weights_can_be_forgotten(written):
    weights = load_file(written / "weights.safetensors")
    assert weights.keys() == model_shapes(WIDE).keys()
    assert min((array != 0).mean() for array in weights.values()) > 0.99


def test_the_readme_numbers_the_purposes_as_they_are(written):
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(keys.PURPOSES))
    assert listed in " ".join((written / "README.md").read_text().split())


def test_a_kit_is_a_function_of_its_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(adam, "ADAM", replace(adam.ADAM, steps=3))
    for name in ("one", "again"):
        write_kit(tmp_path / name, 7)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(files) == len(CHECKS) + 4
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert json.loads((tmp_path / "one" / "index.json").read_text())["seed"] == 7
    keyed = load_file(tmp_path / "one" / "1_keys.safetensors")
    assert keyed["in/seed"] == 7
    np.testing.assert_array_equal(
        keyed["out/purpose_keys"][0], [keys.purpose_key(7, p) for p in keys.PURPOSES]
    )


def test_another_seed_is_another_kit(load):
    other, mine = random_numbers(Fixtures(1)), load("1_keys")
    for name in ("out/galaxy_keys", "out/keep", "out/first/conv0/kernel", "out/bilinear/turn"):
        assert (other[name].values != mine[name]).mean() > 0.2


def test_the_task_writes_the_kit_of_its_seed(tmp_path, monkeypatch):
    def write(folder, seed):
        folder.mkdir()
        (folder / "README.md").write_text(f"{seed}")

    monkeypatch.setattr(task, "write_kit", write)
    done = task.kit(SimpleNamespace(seed=12), tmp_path)
    assert (tmp_path / "kit" / "README.md").read_text() == "12"
    assert done["where"] == {}
    assert (done["results"]["bytes"], done["results"]["kit"]) == (2, str(tmp_path / "kit"))
    assert "README.md" in done["results"]["summary"]


# What it expects, found in other ways


@pytest.mark.parametrize(
    ("name", "mode", "scale"), [("bilinear", "nearest", 255), ("nearest", "grid-constant", 1)]
)
def test_warps_are_scipys_linear_interpolation(load, name, mode, scale):
    arrays = load("2_warp")
    for i, image in enumerate(arrays["in/images"]):
        affine, crop, contrast = (
            arrays[f"in/{name}/{part}"][i].astype(float) for part in ("turn", "window", "light")
        )
        p = np.arange(32) * crop[2] // 32
        q = np.stack(np.meshgrid(crop[0] + p, crop[1] + p, indexing="ij"))
        source = np.einsum("ij,jyx->iyx", affine[:, :2], q) + affine[:, 2, None, None]
        seen = ndimage.map_coordinates(image.astype(float), source, order=1, mode=mode) / scale
        seen = (seen - seen.mean()) * contrast[1] + seen.mean() + contrast[0]
        np.testing.assert_allclose(arrays[f"out/{name}"][i], seen, rtol=0, atol=1e-11)


def test_a_layer_is_scipys_correlation(load, written):
    arrays, weights = load("3_layers"), load_file(written / "weights.safetensors")
    relu = np.maximum(arrays["out/conv0"], 0)
    kernel = weights["conv1/kernel"].astype(float)
    for output in (0, 31):
        found = sum(
            ndimage.correlate(relu[0, ..., i], kernel[..., i, output], mode="constant")
            for i in range(32)
        )
        wanted = arrays["out/conv1"][0, ..., output]
        np.testing.assert_allclose(found + weights["conv1/bias"][output], wanted, atol=1e-12)


def test_the_likelihood_is_the_binomials(load):
    arrays = load("4_likelihood")
    logits, yes, total = (arrays[f"in/{name}"] for name in ("logits", "yes", "total"))
    some = np.abs(logits) <= 1
    ways = special.gammaln(total + 1) - special.gammaln(yes + 1) - special.gammaln(total - yes + 1)
    binomial = stats.binom.logpmf(yes, total, special.expit(logits)) - ways
    np.testing.assert_allclose(-binomial[some], arrays["out/nll"][some], rtol=1e-9, atol=1e-12)
    assert {(0, 0), (0, 40), (40, 40)} <= set(zip(yes, total, strict=True))
    assert {-50, 50} <= set(logits)


def concentration(form, z):
    """The concentration of a logit, and its derivative."""
    if form == "exp":
        return z.exp(), z.exp()
    share = 1 / (1 + (-z).exp())
    return 1 + 100 * share, 100 * share * (1 - share)


def drawn_from_an_urn(form, logits, votes):
    """-ln L of a question and its gradient, of Decimals; each answer is drawn in turn, in no order."""
    alphas, slopes = zip(*(concentration(form, z) for z in logits), strict=True)
    whole, total = sum(alphas), sum(votes)
    chance = prod(a + j for a, k in zip(alphas, votes, strict=True) for j in range(k))
    expected = sum(1 / (whole + n) for n in range(total))
    own = [sum(1 / (a + j) for j in range(k)) for a, k in zip(alphas, votes, strict=True)]
    nll = (prod(whole + n for n in range(total)) / Decimal(chance)).ln()
    return nll, [slope * (expected - one) for slope, one in zip(slopes, own, strict=True)]


def drawn_apart(_, logits, votes):
    """The same of independent votes."""
    odds = [z.exp() for z in logits]
    shares = [one / sum(odds) for one in odds]
    nll = -sum(k * p.ln() for k, p in zip(votes, shares, strict=True))
    return nll, [sum(votes) * p - k for k, p in zip(votes, shares, strict=True)]


@pytest.mark.parametrize("name", FORMS)
def test_likelihoods_of_two_questions_are_those_of_fifty_digits(load, name):
    arrays, (law, _, form) = load("4_likelihood"), name.partition("/")
    of_question = drawn_apart if law == "multinomial" else drawn_from_an_urn
    assert arrays["in/tree/question"].tolist() == [0, 0, 0, 1, 1]
    with localcontext(prec=50):
        nlls, slopes = [], []
        for logits, votes in zip(arrays["in/tree/logits"], arrays["in/tree/votes"], strict=True):
            z, k = [Decimal(float(one)) for one in logits], votes.tolist()
            first, second = of_question(form, z[:3], k[:3]), of_question(form, z[3:], k[3:])
            nlls.append(float(first[0] + second[0]))
            slopes.append([float(one) for one in first[1] + second[1]])
    np.testing.assert_allclose(arrays[f"out/{name}/nll"], nlls, rtol=1e-13)
    np.testing.assert_allclose(arrays[f"out/{name}/slope"], slopes, rtol=1e-13)


@pytest.mark.parametrize("name", FORMS)
def test_a_question_that_was_not_asked_adds_exactly_nothing(load, name):
    arrays = load("4_likelihood")
    asked = np.stack([arrays["in/tree/votes"][:, at].any(1) for at in TWO.slices], -1)
    assert {tuple(case) for case in asked.tolist()} == {
        (first, second) for first in (False, True) for second in (False, True)
    }
    assert ((arrays[f"out/{name}/nll"] == 0) == ~asked.any(1)).all()
    slope = arrays[f"out/{name}/slope"]
    assert ((slope == 0) == ~asked[:, arrays["in/tree/question"]]).all()


def test_gradients_are_those_of_the_loss(load, written):
    arrays = load("5_gradient")
    weights = double(load_file(written / "weights.safetensors"))
    x, kept = arrays["in/x"].astype(float), {"dropout": arrays["in/keep"].astype(bool)}
    gradients = {name: arrays[f"out/slope/{name}"] for name in weights}

    def loss(step):
        moved = {name: w + step * gradients[name] for name, w in weights.items()}
        yes, total = arrays["in/yes"], arrays["in/total"]
        return reference.loss(WIDE, moved, x, kept, np.stack([total - yes, yes], -1))

    length = sum((gradient**2).sum() for gradient in gradients.values())
    step = 1e-6 / np.sqrt(length)
    assert loss(0) == arrays["out/loss"][0]
    assert (loss(step) - loss(-step)) / (2 * step) == pytest.approx(length, rel=1e-5)


def test_the_tied_gradients_have_ties_that_matter(load):
    arrays = load("5_gradient")
    assert not arrays["in/tied/weights/conv1/kernel"].any()
    assert (arrays["in/tied/weights/conv1/bias"] > 0).all()  # ReLU lets them through
    assert arrays["out/tied/conv1/kernel"].any()


def test_adams_first_step_has_the_length_of_the_learning_rate(load):
    arrays = load("6_adam")
    gradient, moved = (
        arrays["in/one/slope"][0],
        arrays["in/one/weight"] - arrays["out/one/textbook/weight"],
    )
    np.testing.assert_allclose(
        moved[0], 1e-3 * gradient / (np.abs(gradient) + 1e-8), rtol=0, atol=1e-16
    )
    hat = arrays["in/one/weight"][0] - arrays["out/one/hat/weight"][0]
    assert hat[1] == pytest.approx(1e-3 / (1 + np.sqrt(1000)), rel=1e-6)  # a gradient of 1e-8


def test_the_200_steps_train_every_layer(load):
    arrays = load("6_adam")
    assert len(arrays["out/many/losses"]) == 200
    for name, first in arrays.items():
        if name.startswith("in/many/weights/"):
            after = arrays[name.replace("in/many/weights", "out/many/weight")]
            assert (after != first).mean() > 0.8, name
    assert np.ptp(arrays["in/many/keys"], axis=0).all()


def test_posterior_samples_differ_and_start_where_they_should(load):
    rho = load("8_posterior")["out/rho"]
    assert rho.shape == (6, 7)
    assert len(np.unique(rho)) == rho.size
    assert ((rho > 0) & (rho < 1)).all()


def test_scores_are_those_of_scipys_binomials(load):
    arrays = load("9_acquisition")
    probabilities = stats.binom.pmf(np.arange(41), 40, arrays["in/rho"].astype(float)[..., None])
    entropy = stats.entropy(probabilities.mean(1), axis=-1)
    np.testing.assert_allclose(arrays["out/entropy"], entropy, rtol=0, atol=1e-10)
    information = entropy - stats.entropy(probabilities, axis=-1).mean(1)
    np.testing.assert_allclose(arrays["out/mutual_information"], information, rtol=0, atol=1e-10)
    for name in ("mutual_information", "entropy", "random"):
        scores, chosen = arrays[f"out/{name}"], arrays[f"out/top_{name}"]
        left = np.delete(scores, chosen)
        assert len(chosen) == 128
        assert (np.diff(chosen) > 0).all()
        assert scores[chosen].min() - left.max() > (0 if name == "random" else APART)


# What the checker says


def test_right_answers_are_ok(written, answers):
    verdicts = check_kit(written, answers)
    assert {(one.error, one.verdict) for one in verdicts} == {(0, "ok")}
    lines = table(verdicts).splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list(CHECKS)
    assert lines[-1] == "all is ok"


@pytest.mark.parametrize(
    ("check", "name", "dtype", "tolerance"),
    [
        ("2_warp", "out/bilinear", "float64", 1e-12),
        ("2_warp", "out/bilinear", "float32", 1e-5),
        ("1_keys", "out/bilinear/turn", "float32", 1e-6),
        ("3_layers", "out/conv5", "float64", 1e-12),
        ("4_likelihood", "out/nll", "float64", 1e-12),
        ("4_likelihood", "out/nll", "float32", 1e-5),
        ("4_likelihood", "out/dirichlet_multinomial/exp/slope", "float32", 1e-5),
        ("6_adam", "out/many/weight/conv0/kernel", "float64", 1e-10),
    ],
)
def test_tolerances_end_where_they_say(written, answers, check, name, dtype, tolerance):
    for share, wanted in ((0.8, "ok"), (1.2, "over")):

        def moved(array, share=share):
            by, place = share * tolerance * np.abs(array).max(), np.abs(array).argmax()
            array = array.astype(np.float64)
            array.flat[place] -= by
            return array.astype(dtype)

        oracle = load_file(written / f"{check}.safetensors")[name]
        spoil(answers, check, name, lambda _, oracle=oracle, moved=moved: moved(oracle))
        found = verdict_on(written, answers, check, name)
        assert (found.verdict, found.tolerance) == (wanted, tolerance)
        assert found.error == pytest.approx(share * tolerance, rel=0.1)


def test_small_likelihoods_count_by_themselves(written, answers):
    def moved(array):
        array = array.copy()
        array[np.flatnonzero(array > 0)[array[array > 0].argmin()]] = 0
        small = np.flatnonzero((array > 1e-25) & (array < 1e-10))
        array[small[0]] *= 1 + 3e-12
        return array

    spoil(answers, "4_likelihood", "out/nll", moved)
    found = verdict_on(written, answers, "4_likelihood", "out/nll")
    assert found.verdict == "over"
    assert found.error == pytest.approx(3e-12, rel=1e-3)  # and not the one below 1e-30


def test_one_bit_is_one_too_many(written, answers):
    def flipped(array):
        array.flat[5] ^= 1
        return array

    for name in ("out/keep", "out/words"):
        spoil(answers, "1_keys", name, flipped)
        assert verdict_on(written, answers, "1_keys", name)[2:] == (1, 0, "over")
    spoil(answers, "1_keys", "out/uniforms", lambda u: np.nextafter(u, 1))
    assert verdict_on(written, answers, "1_keys", "out/uniforms").verdict == "over"
    assert "over: 1_keys out/keep, error 1, tolerance 0e+00" in table(check_kit(written, answers))


def test_whole_numbers_may_be_of_any_integer_type(written, answers):
    for kind in (bool, np.int64, np.uint64):
        spoil(answers, "1_keys", "out/keep", lambda kept, kind=kind: kept.astype(kind))
        assert verdict_on(written, answers, "1_keys", "out/keep").verdict == "ok"
    spoil(answers, "1_keys", "out/words", lambda words: words.astype(np.int32))
    assert verdict_on(written, answers, "1_keys", "out/words").verdict == "over"
    spoil(answers, "1_keys", "out/keep", lambda kept: kept.astype(np.float64))
    assert verdict_on(written, answers, "1_keys", "out/keep").verdict == "wrong shape"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_over(written, answers, value):
    def broken(array):
        array.flat[3] = value
        return array

    for check, name in (
        ("2_warp", "out/bilinear"),
        ("4_likelihood", "out/nll"),
        ("9_acquisition", "out/random"),
    ):
        spoil(answers, check, name, broken)
        assert verdict_on(written, answers, check, name).verdict == "over"


def test_what_is_not_there_is_missing(written, answers):
    (answers / "5_gradient.safetensors").unlink()
    arrays = load_file(answers / "8_posterior.safetensors")
    arrays["out/roh"] = arrays.pop("out/rho")
    save_file(arrays, answers / "8_posterior.safetensors")
    spoil(answers, "6_adam", "out/many/losses", lambda losses: losses.astype(np.float32))
    spoil(answers, "6_adam", "out/one/hat/weight", lambda weight: weight.astype(np.float32))
    missing = [one for one in check_kit(written, answers) if one.verdict != "ok"]
    assert {one.verdict for one in missing} == {"missing"}
    assert {one.check for one in missing} == {"5_gradient", "6_adam", "8_posterior"}
    assert [one.array for one in missing if one.check[0] in "68"] == ["out/many/losses", "out/rho"]
    text = table(check_kit(written, answers))
    assert "missing: 33 of 5_gradient" in text
    assert text.endswith("35 of 152 arrays are not ok")


def test_a_port_for_kits_of_one_likelihood_lacks_the_others_by_name(written, answers):
    path = answers / "4_likelihood.safetensors"
    save_file({"out/nll": load_file(path)["out/nll"]}, path)
    text = table(check_kit(written, answers))
    assert "missing: 6 of 4_likelihood, out/multinomial/nll the first" in text
    assert text.endswith("6 of 152 arrays are not ok")


def test_another_shape_or_kind_is_said(written, answers):
    changes = {
        ("3_layers", "out/pool0"): lambda pool: pool.transpose(0, 3, 1, 2),
        ("8_posterior", "out/rho"): lambda rho: rho[:, :-1],
        ("2_warp", "out/nearest"): lambda seen: seen.astype(np.float16),
        ("9_acquisition", "out/random"): lambda scores: (scores * 2**24).astype(np.int64),
    }
    for (check, name), change in changes.items():
        spoil(answers, check, name, change)
    wrong = {one[:2]: one for one in check_kit(written, answers) if one.verdict != "ok"}
    assert {one.verdict for one in wrong.values()} == {"wrong shape"}
    assert wrong.keys() == changes.keys()
    assert {one.error for one in wrong.values()} == {np.inf}


def test_damage_is_refused_with_the_fix(written, answers, tmp_path):
    with pytest.raises(ValueError, match=r"no folder .*nowhere"):
        check_kit(written, tmp_path / "nowhere")
    with pytest.raises(ValueError, match="the kit itself"):
        check_kit(written, written)
    whole = (answers / "2_warp.safetensors").read_bytes()
    for damage in (b"", whole[:5], whole[:-8], b"\xff" * 64):
        (answers / "2_warp.safetensors").write_bytes(damage)
        with pytest.raises(ValueError, match=r"2_warp\.safetensors is not a whole .* port write"):
            check_kit(written, answers)
    (answers / "2_warp.safetensors").write_bytes(whole)

    copy = tmp_path / "copy"
    shutil.copytree(written, copy)
    arrays = load_file(copy / "3_layers.safetensors")
    del arrays["out/logits"]
    save_file(arrays, copy / "3_layers.safetensors")
    with pytest.raises(ValueError, match=r"3_layers\.safetensors has no out/logits .* again"):
        check_kit(copy, answers)
    (copy / "1_keys.safetensors").unlink()
    with pytest.raises(ValueError, match=r"1_keys\.safetensors is not a whole .* kit again"):
        check_kit(copy, answers)
    index = (copy / "index.json").read_text()
    for text, rule in (
        ('{"format": "trizoo', "is damaged .* kit again"),
        ("", "is empty"),
        ('{"format": "kit 2"}', "format"),
        (index.replace(FORMAT, "trizoo conformance kit 2"), "its format is 'trizoo .* 3'; write"),
        ("[]", "not an object"),
        (f'{{"format": "{FORMAT}", "checks": []}}', "checks is .*, not an object"),
        (f'{{"format": "{FORMAT}", "checks": {{"1_keys": {{}}}}}}', "1_keys.file is missing"),
        (index.replace('"rule": "exact"', '"rule": "nearly"'), "the rule nearly"),
        (f'{{"format": "{FORMAT}", "checks": {{}}}}', "have the checks 1_keys, 2_warp"),
    ):
        (copy / "index.json").write_text(text)
        with pytest.raises(ValueError, match=rule):
            check_kit(copy, answers)
    (copy / "index.json").unlink()
    with pytest.raises(ValueError, match=r"no .*index\.json; write the kit again \(trizoo kit\)"):
        check_kit(copy, answers)
