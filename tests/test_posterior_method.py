"""A fit's posterior by dropout or by Laplace, what later tasks make of it, and the verdict on either."""

import shutil
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from quick import only

import trizoo
from shared.method import honesty as module
from shared.method import laplace_sampling
from shared.method.curvature import nll
from shared.method.honesty import (
    HONEST,
    SURE,
    UNSURE,
    advice,
    constant,
    honesty,
    intervals,
    sentence,
    worst,
)
from shared.method.laplace_sampling import LastLayers, question_layers
from shared.method.likelihood import Likelihood, concentrations, fractions
from shared.method.tree_metrics import central
from shared.method.trees import Samples
from shared.network.weights import load_arrays, save_weights
from shared.output.posterior import read_facts
from shared.run.records import write_json
from shared.run.spec import RunSpec, from_config
from tests.fake import galaxies, run_of

BETA = Likelihood("dirichlet_multinomial", "exp", (("q", (("no",), ("yes",))),))
WORDS = ("likelihood=dirichlet_multinomial", "posterior=laplace")
EACH = ("posterior=laplace", "training.members=2")
SMALL = (
    *("backend.threads=1", "backend.chunk=16", "dataset.galaxies=160", "split.validation=0.2"),
    *("model.image_size=16", "model.blocks=[[3],[4]]", "model.dense=6", "training.steps=8"),
    *("training.batch_size=16", "posterior.samples=12"),
)


# The verdict, by samples that are made honest or not on purpose


def made(run, count=700, sure=1.0, seed=0, samples=40):
    """Votes on galaxies, and samples that say their scatter is `sure` times as small as it is."""
    random = np.random.default_rng(seed)
    centre, total = random.beta(4, 4, count), random.integers(25, 45, count)
    yes = random.binomial(total, random.beta(8 * centre, 8 * (1 - centre)))
    shares = np.repeat(np.stack([1 - centre, centre], -1)[:, None], samples, 1)
    part = galaxies(0, count)._replace(votes=np.stack([total - yes, yes], -1))
    return Samples(part.rows, shares, np.full((count, samples, 1), 8 * sure)), part


def verdict_of(sure, **changes):
    run = run_of("likelihood=dirichlet_multinomial")
    return honesty(run, *made(run, sure=sure, **changes), None)


def check_sure():
    """That a posterior whose votes scatter as if there were 6 times as much certainty is found too sure."""
    found = verdict_of(6.0)
    assert found["verdict"] == SURE
    assert found["90"]["observed"] < found["90"]["expected"] - 0.05
    assert found["90"]["p_value"] < 1e-6


def check_unsure():
    """That one whose votes scatter much more is found too unsure."""
    assert verdict_of(1 / 6)["verdict"] == UNSURE


def check_honest():
    """That honest ones are refused about as seldom as is said: of 30 at most 2."""
    found = [verdict_of(1.0, seed=seed, count=300, samples=4)["verdict"] for seed in range(30)]
    assert sum(verdict != HONEST for verdict in found) <= 2


def check_constant():
    """That no constant nearby has a lower NLL than the best, and that it is the one the votes were drawn from."""
    random = np.random.default_rng(1)
    true = np.array([2.0, 1.0, 5.0])
    shares = random.dirichlet(true, 3000)
    votes = np.stack([random.multinomial(30, one) for one in shares]).astype(float)
    found = np.log(constant(votes))
    likelihood = BETA._replace(questions=(("q", (("a",), ("b",), ("c",))),))
    score = lambda logits: nll(likelihood, np.broadcast_to(logits, votes.shape), votes).mean()  # noqa: E731
    for place in range(3):
        for step in (-0.05, 0.05):
            assert score(found + step * np.eye(3)[place]) > score(found)
    np.testing.assert_allclose(np.exp(found), true, rtol=0.1)


def test_verdicts():
    check_sure()
    check_unsure()
    check_honest()
    check_constant()


def the_other_way(*arguments, real=module.worst):
    found = real(*arguments)
    return found | {"verdict": {SURE: UNSURE, UNSURE: SURE}.get(found["verdict"], HONEST)}


def never_off(*_):
    return SimpleNamespace(pvalue=1.0)


def always_off(*_):
    return SimpleNamespace(pvalue=0.0)


def steeper(*arguments, real=module.slope):
    return real(*arguments) * np.array([1.0, -1.0, 1.0])


def whole(chances, counts, level):
    """As if a count at the edge of an interval lay in it altogether."""
    return central(chances, counts, level)[0]


@pytest.mark.parametrize(
    ("check", "name", "mistake"),
    [
        (check_sure, "worst", the_other_way),
        (check_unsure, "worst", the_other_way),
        (check_sure, "binomtest", never_off),
        (check_honest, "held", whole),
        (check_constant, "slope", steeper),
    ],
)
def test_each_check_sees_a_mistake(check, name, mistake, monkeypatch):
    monkeypatch.setattr(module, name, mistake)
    with pytest.raises(AssertionError):
        check()


def test_a_small_gap_is_honest_however_surely_it_is_there(monkeypatch):
    monkeypatch.setattr(module, "binomtest", always_off)
    one = {"galaxies": 10**6, "expected": 0.92, "observed": 0.91, "p_value": 0.0}
    half = {**one, "expected": 0.55, "observed": 0.52}
    assert worst({"q": {"90": one, "50": half}})["verdict"] == HONEST
    half["observed"] = 0.45
    found = worst({"q": {"90": one, "50": half}})
    assert (found["verdict"], found["level"]) == (SURE, 0.5)


def test_the_worst_question_of_a_tree_is_named():
    run = run_of(
        "dataset=synthetic_tree",
        "questions=[smooth-or-featured,bar]",
        "question=smooth-or-featured",
        "likelihood=dirichlet_multinomial",
    )
    names = [name for name, _ in run.asked]
    sizes = [len(answers) for _, answers in run.asked]
    random = np.random.default_rng(0)
    shares, votes, own = [], [], []
    for size, sure in zip(sizes, (1.0, 8.0), strict=True):
        centre = random.dirichlet(np.full(size, 4.0), 500)
        true = np.stack([random.dirichlet(8 * one) for one in centre])
        votes.append(np.stack([random.multinomial(40, one) for one in true]))
        shares.append(np.repeat(centre[:, None], 6, 1))
        own.append(np.full((500, 6), 8 * sure))
    part = galaxies(0, 500)._replace(votes=np.concatenate(votes, 1))
    samples = Samples(part.rows, np.concatenate(shares, 2), np.stack(own, -1))
    found = honesty(run, samples, part, part)
    assert (found["verdict"], found["question"]) == (SURE, names[1])
    assert list(found["questions"]) == names
    said = sentence(run, found)
    assert said.startswith(f"{SURE} of {names[1]} (")
    assert "use posterior=laplace" in said
    assert found["gain"]["mean"] == pytest.approx(found["gain"]["constant"] - found["gain"]["nll"])


def test_what_is_said():
    run = run_of("likelihood=dirichlet_multinomial")
    samples, part = made(run)
    found = honesty(run, samples, part, part)
    assert "constant" not in sentence(run, found)
    assert sentence(run, found).startswith("honest (90 % intervals of votes hold ")
    blind = samples._replace(fractions=np.full_like(samples.fractions, 0.5)[:, ::-1])
    shuffled = samples._replace(fractions=samples.fractions[::-1])
    for without in (blind, shuffled):
        found = honesty(run, without, part, part)
        assert found["gain"]["mean"] <= 0
        assert "no better than a constant that never looks at the image" in sentence(run, found)
    few, some = made(run, 12)
    assert sentence(run, honesty(run, few, some, None)).startswith(
        "honest as far as 12 validation galaxies tell"
    )
    assert sentence(run, None) == "honesty unknown: no validation galaxies"


def test_what_is_advised():
    assert advice(run_of()) == "posterior=laplace likelihood=dirichlet_multinomial"
    for members in (1, 2):
        words = ("likelihood=dirichlet_multinomial", f"training.members={members}")
        assert advice(run_of(*words)) == "posterior=laplace"
    assert advice(run_of(*WORDS)) == "more training and validation galaxies"


def test_a_question_that_nobody_was_asked_tells_nothing():
    found = intervals(np.full((3, 2, 2), 0.5), None, np.zeros((3, 2), int))
    assert found["90"] == {"galaxies": 0, "expected": 0.9, "observed": 0.9, "p_value": 1.0}


# The last layers


def no_mode(*_):
    raise ValueError("no mode is found")


def drawn_data(galaxies=150, units=3, seed=0, spread=1.0):
    """Features, votes of a beta-binomial whose logits are `spread` apart from those of the layer, and the layer."""
    random = np.random.default_rng(seed)
    features = np.maximum(random.normal(0.3, 1, (galaxies, units)), 0)
    kernel, bias = random.normal(0, 0.5, (units, 2)), np.array([1.5, 1.5])
    alpha = np.exp(features @ kernel + bias) * spread
    rho = random.beta(alpha[:, 1], alpha[:, 0])
    yes = random.binomial(40, rho)
    return features, np.stack([40 - yes, yes], 1), kernel, bias


def test_a_scale_makes_concentrations_what_validation_galaxies_show(monkeypatch):
    features, votes, kernel, bias = drawn_data(600, spread=0.25)
    monkeypatch.setattr(laplace_sampling, "refit", no_mode)
    with_votes, without = (
        question_layers(BETA, [features], votes, held_out, some, [(kernel, bias)], 30, 0)
        for held_out, some in (([features], votes), (None, votes[:0]))
    )
    assert with_votes.scale == pytest.approx(0.25, rel=0.15)
    assert without.scale == 1
    scaled, plain = (
        LastLayers(one.drawn, {}).logits(features, 0, 30) for one in (with_votes, without)
    )
    own = [concentrations(BETA, logits) for logits in (scaled, plain)]
    np.testing.assert_allclose(own[0], with_votes.scale * own[1], rtol=1e-4)
    np.testing.assert_allclose(fractions(BETA, scaled), fractions(BETA, plain), atol=1e-5)


def test_without_galaxies_that_judge_the_mode_is_taken_where_galaxies_outnumber_weights():
    features, votes, kernel, bias = drawn_data()
    wrong = [(kernel + 2, bias)]
    for count, at_mode in ((8, False), (9, True)):  # of 8 weights
        found = question_layers(
            BETA, [features[:count]], votes[:count], None, votes[:0], wrong, 4, 0
        )
        assert found.refit is at_mode
    few = question_layers(BETA, [features], votes, [features[:19]], votes[:19], wrong, 4, 0)
    assert (few.refit, few.scale) == (True, 1.0)


def test_galaxies_that_judge_choose_the_better_weights():
    features, votes, kernel, bias = drawn_data(400)
    wrong = question_layers(
        BETA, [features], votes, [features], votes, [(kernel + 1.5, bias - 1)], 30, 0
    )
    assert wrong.refit
    # the mode of votes that are another's is worse than what training left
    others = votes[::-1]
    left = question_layers(BETA, [features], others, [features], votes, [(kernel, bias)], 30, 0)
    assert not left.refit


def test_no_mode_is_said_and_the_weights_are_left(monkeypatch, capsys):
    monkeypatch.setattr(laplace_sampling, "refit", no_mode)
    features, votes, kernel, bias = drawn_data()
    found = question_layers(BETA, [features], votes, [features], votes, [(kernel, bias)], 4, 0)
    assert not found.refit
    assert "the last layer of q is left as trained: no mode" in capsys.readouterr().err


def test_samples_of_an_ensemble_take_turns():
    random = np.random.default_rng(0)
    drawn = tuple(random.normal(size=(4, 4, 2)).astype(np.float32) for _ in range(2))
    units = random.normal(size=(5, 6))
    found = LastLayers(drawn, {}).logits(units, 0, 8)
    for number in range(8):
        own, layer = divmod(number, 2)[::-1]
        weights = drawn[own][layer]
        wanted = units[:, 3 * own : 3 * own + 3] @ weights[:-1] + weights[-1]
        np.testing.assert_allclose(found[:, number], wanted, rtol=1e-5)
    np.testing.assert_array_equal(LastLayers(drawn, {}).logits(units, 3, 4), found[:, 3:7])


# Refusals


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("posterior=laplace",), "give likelihood=dirichlet_multinomial"),
        (("posterior=laplace", "likelihood=binomial"), "name binomial: the votes"),
        ((*WORDS, "augmentation.at_prediction=true"), "at_prediction is true; set it to false"),
        ((*WORDS, "posterior.method=best"), "choose one of dropout, laplace, ensemble"),
        (("posterior=ensemble",), r"members is 1; set training\.members=5 in the fit"),
        (("posterior=ensemble", WORDS[0]), "members is 1; set"),
        (EACH, "give likelihood=dirichlet"),
    ],
)
def test_runs_that_are_refused(words, error):
    with pytest.raises(ValueError, match=error):
        run_of(*words)


def test_heads_of_several_layers_are_refused():
    words = ["model=dieleman", *WORDS]
    with pytest.raises(ValueError, match=r"model\.name is dieleman, whose head has several"):
        from_config(RunSpec, trizoo.compose(words))


# In whole runs


def here(place, task, name, *words):
    """The folder of a run in this process, and its results."""
    words = [f"task={task}", f"outputs={place}", f"folder={place / name}", *words]
    config = trizoo.compose(words)
    config = trizoo.with_fit(config, words) if trizoo.TASKS[task].needs_fit else config
    write_json(place / name / "run.json", config)
    run = from_config(RunSpec, config)
    outcome = getattr(import_module(trizoo.TASKS[task].module), task)(run, place / name)
    return place / name, outcome["results"]


def fit(place, name, *words):
    return here(place, "fit", name, *SMALL, *WORDS, "posterior.samples=12", *words)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    pytest.importorskip("torch")
    return tmp_path_factory.mktemp("posterior_method")


@pytest.fixture(scope="module")
def fitted(place):
    return fit(place, "fitted")


@pytest.fixture(scope="module")
def single(fitted):
    return fitted[0]


def table(folder):
    return (folder / "posterior.parquet").read_bytes()


def read(folder):
    return pq.read_table(folder / "posterior.parquet")["smooth_or_featured_smooth_mean"].to_numpy()


def predict(place, name, weights, *words):
    words = (f"weights={weights}", "dataset.galaxies=160", *SMALL[:2], *words)
    return here(place, "predict", name, *words)[0]


def test_a_fit_tells_and_keeps_what_it_did(fitted):
    single, told = fitted
    assert set(told["laplace"]["questions"]) == {"smooth-or-featured"}
    assert told["honesty"]["verdict"] in (HONEST, SURE, UNSURE)
    assert told["honesty"]["galaxies"] == told["galaxies"]["validation"]
    assert told["honesty"]["gain"]["constant"] > 0
    arrays, about = load_arrays(single / "laplace.safetensors", dict)
    assert {name: array.shape for name, array in arrays.items()} == {"drawn": (12, 7, 2)}
    assert about["samples"] == 12
    assert "Laplace" in read_facts(single / "posterior.parquet")["method"]


def test_predict_has_the_samples_of_the_fit(single, place):
    assert table(predict(place, "same", single)) == table(single)
    assert table(predict(place, "fewer", single, "posterior.samples=4")) != table(single)
    dropped = predict(place, "dropped", single, "posterior=dropout", "posterior.samples=12")
    means = [read(one) for one in (dropped, single)]
    assert np.abs(means[0] - means[1]).max() > 1e-4


def test_a_fit_that_was_stopped_before_its_last_layers_makes_the_same(single, place):
    other = place / "stopped"
    shutil.copytree(single, other)
    (other / "laplace.safetensors").unlink()
    (other / "posterior.parquet").unlink()
    fit(place, "stopped")
    for name in ("laplace.safetensors", "posterior.parquet"):
        assert (other / name).read_bytes() == (single / name).read_bytes()


def test_predictions_that_are_refused(single, place):
    other = place / "moved"
    shutil.copytree(single, other)
    path = other / "laplace.safetensors"
    kept = path.read_bytes()

    def refused(words, error):
        with pytest.raises(ValueError, match=error):
            predict(place, "refused", other, *words)

    refused(["posterior.samples=13"], r"posterior\.samples is 13, but .* holds 12")
    arrays, about = load_arrays(path, dict)
    save_weights(path, {"drawn": arrays["drawn"][:, :-1]}, about)
    refused([], r"are needed; give the folder of a fit with posterior=laplace")
    save_weights(path, {"drawn": arrays["drawn"] * np.float32("nan")}, about)
    refused([], "values that are not finite")
    save_weights(path, arrays, {**about, "weights_sha256": "0"})
    refused([], "was made of other weights")
    path.write_bytes(kept[:-3])
    refused([], "is not a whole safetensors file")
    path.unlink()
    refused([], r"posterior\.method is laplace, but there is no")


def test_an_ensemble_has_last_layers_of_each_member(place):
    folder, _ = fit(place, "ensemble", *EACH)
    arrays, _ = load_arrays(folder / "laplace.safetensors", dict)
    assert {name: array.shape for name, array in arrays.items()} == {
        "member0/drawn": (6, 7, 2),
        "member1/drawn": (6, 7, 2),
    }
    assert not np.array_equal(*arrays.values())
    assert table(predict(place, "ensembles", folder)) == table(folder)


def test_an_ensemble_by_itself_drops_nothing(place):
    members = ("posterior=ensemble", "training.members=2")
    folder, told = fit(place, "still", *members, "posterior.samples=2")
    assert not (folder / "laplace.safetensors").exists()
    assert "Deep ensemble" in read_facts(folder / "posterior.parquet")["method"]
    assert table(predict(place, "stills", folder)) == table(folder)
    # twice as many samples of the same two networks are the same posterior
    means = [read(one) for one in (predict(place, "four", folder, "posterior.samples=4"), folder)]
    np.testing.assert_allclose(*means, rtol=1e-6)
    other = predict(place, "dropping", folder, "posterior.method=dropout", "posterior.samples=2")
    assert np.abs(read(other) - means[0]).max() > 1e-4
    none = ("posterior.method=dropout", "posterior.samples=2", "model.dropout=0")
    np.testing.assert_array_equal(read(predict(place, "none", folder, *none)), read(folder))
    _, measured = here(place, "calibrate", "still-calibrated", f"weights={folder}", *SMALL[:2])
    assert measured["test"]["log_score"] == told["test"]["log_score"]


def test_an_ensemble_acquires(place):
    words = [word for word in SMALL if not word.startswith("training.steps")]
    small = ["acquisition.initial=20", "acquisition.per_round=4", "acquisition.rounds=1"]
    small += ["acquisition.first_steps=4", "acquisition.round_steps=2", "acquisition.samples=4"]
    members = ["posterior=ensemble", "training.members=2", "posterior.samples=2"]
    _, told = here(place, "active", "active-still", *words, *WORDS[:1], *members, *small)
    _, dropped = here(
        place, "active", "active-drop", *words, *WORDS[:1], *members, *small, "posterior=dropout"
    )
    assert told["rounds"][0]["digest"] != dropped["rounds"][0]["digest"]


def test_features_that_are_kept_are_those_of_the_last_layers(place):
    words = ("training.trainable=head", *EACH)
    folder, told = fit(place, "frozen", *words)
    assert told["features"] is not None
    assert table(predict(place, "from-features", folder)) == table(folder)


def test_calibrate_is_of_the_same_posterior(fitted, place):
    single, before = fitted
    folder, told = here(place, "calibrate", "calibrated", f"weights={single}", *SMALL[:2])
    assert told["honesty"]["galaxies"] == told["test"]["galaxies"]
    assert told["test"]["log_score"] == before["test"]["log_score"]
    made = {path.name for path in folder.glob("*calibration*")}
    assert made == {"calibration.json", "recalibration.json"}


def test_active_learning_samples_by_laplace(place):
    words = [word for word in SMALL if not word.startswith("training.steps")]
    small = ["acquisition.initial=20", "acquisition.per_round=4", "acquisition.rounds=2"]
    small += ["acquisition.first_steps=4", "acquisition.round_steps=2", "acquisition.samples=20"]
    words = [*words, *WORDS, "posterior.samples=12", *small]
    _, told = here(place, "active", "active", *words)
    assert [len(one["acquired"]) for one in told["rounds"]] == [4, 4, 4]
    _, dropped = here(place, "active", "dropped", *words, "posterior.method=dropout")
    digests = [[one["digest"] for one in each["rounds"]] for each in (told, dropped)]
    assert digests[0] != digests[1]
    # a checkpoint of the other method is not gone on from
    other = place / "dropped"
    with pytest.raises(ValueError, match=r"it differs in posterior\.method"):
        here(place, "active", other.name, *words)


@pytest.mark.parametrize("name", ["power", "epig", "batch_mutual_information"])
def test_other_acquisitions_go_by_laplace_too(place, name):
    words = [word for word in SMALL if not word.startswith("training.steps")]
    words += [f"acquisition={name}", "acquisition.initial=20", "acquisition.per_round=4"]
    words += ["acquisition.rounds=1", "acquisition.first_steps=4", "acquisition.round_steps=2"]
    words += ["acquisition.samples=20", "acquisition.targets=5", "acquisition.expected_votes=10"]
    _, told = here(place, "active", name, *words, *WORDS)
    first = told["rounds"][0]
    assert np.isfinite(first["scores"]).all()
    assert first["composition"]["foretold"]["over"] == "pool"
    assert -1 <= first["composition"]["foretold"]["spearman"]["error"] <= 1
    assert (first["composition"]["by_information"] is None) == (name != "batch_mutual_information")
    assert np.isfinite(first["composition"]["mean_score"])


@pytest.mark.parametrize("backend", only([], "torch", "tf", "jax"))
def test_in_every_framework_by_the_command(place, backend):
    pytest.importorskip({"tf": "tensorflow"}.get(backend, backend))
    places = [place / f"{task}-{backend}" for task in ("fit", "predict")]
    common = [f"outputs={place}", *SMALL[:3], "again=true"]
    words = [*SMALL[3:], *WORDS, "posterior.samples=12", f"backend={backend}"]
    assert trizoo.main(["fit", *common, *words, f"folder={places[0]}"]) == 0
    words = [f"weights={places[0]}", f"folder={places[1]}"]
    assert trizoo.main(["predict", *common, *words]) == 0
    assert table(places[0]) == table(places[1])
