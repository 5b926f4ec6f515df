"""Whole trees of questions through the command line: learned, predicted, asked about; and their samples in blocks."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake import Fake, galaxies, noise
from quick import ONE_FRAMEWORK, only
from scipy.optimize import minimize

from conf.compose import compose
from shared.data.store import open_store
from shared.method import sampling, trees
from shared.method.batches import Labelled
from shared.method.likelihood import (
    Likelihood,
    concentrations,
    fractions,
    learned_questions,
    likelihood_of,
)
from shared.method.pool import _walked
from shared.method.views import still_views
from shared.method.walks import walks_of
from shared.network.weights import first_checkpoint, load_weights
from shared.output.posterior import located, tree_table
from shared.proof import reference
from shared.proof.likelihood import votes_nll, votes_nll_gradient
from shared.run.keys import galaxy_hash, galaxy_keys
from shared.run.spec import BACKENDS, RunSpec, from_config
from shared.tasks.galaxies import cutouts
from shared.tasks.inherit import inherit

ROOT = Path(__file__).parent.parent
SMALL = [
    *("dataset.galaxies=120", "questions=all", "model.image_size=32", "model.blocks=[[4],[6]]"),
    *("model.dense=8", "training.steps=8", "training.batch_size=16", "backend.steps=4"),
    *("backend.chunk=16", "posterior=dropout", "posterior.samples=4"),
    "backend.precision=float64",
]
ASKS = [
    *("acquisition=walk_information", "acquisition.initial=40", "acquisition.per_round=8"),
    *("acquisition.rounds=1", "acquisition.first_steps=4", "acquisition.round_steps=4"),
    "acquisition.samples=4",
]
TREES = ["synthetic_tree", "synthetic_gz2", "synthetic_gz_hubble", "synthetic_gz_candels"]
TREES += ["synthetic_gz_decals12"]


def trizoo(*words: str) -> dict:
    """The record of a run of the command line in the folder that the last word names."""
    done = subprocess.run(
        [sys.executable, "trizoo.py", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    folder = Path(words[-1].removeprefix("folder="))
    return json.loads((folder / "record.json").read_text())


@pytest.mark.parametrize("dataset", only(TREES[:1], *TREES))
@pytest.mark.parametrize("backend", ONE_FRAMEWORK)
def test_a_tree_is_learned_predicted_and_asked_about(backend, dataset, tmp_path):
    stores = [f"dataset.stores={tmp_path / 'stores'}", f"outputs={tmp_path}"]
    words = [f"dataset={dataset}", f"backend={backend}", *SMALL, *stores]
    fit = trizoo("fit", *words, f"folder={tmp_path / 'fit'}")["results"]
    run = from_config(RunSpec, compose(["task=fit", *words]))
    posterior = pd.read_parquet(tmp_path / "fit" / "posterior.parquet")
    expected = table_of_the_specification(run, tmp_path / "fit", fit["store"])
    assert list(posterior) == list(expected)
    for name in expected.columns[expected.dtypes == np.float32]:
        np.testing.assert_allclose(posterior[name], expected[name], 1e-4, 1e-6, err_msg=name)
    whole = fit["test"]["tree"]
    assert set(whole["questions"]) == set(run.dataset.questions)
    assert 0 < whole["nll"] < 1000
    assert fit["validation"]["tree"]["questions"]

    weights = f"weights={tmp_path / 'fit'}"
    given = [weights, f"dataset={dataset}", "dataset.galaxies=120", "posterior.samples=4", *stores]
    trizoo("predict", *given, f"folder={tmp_path / 'predict'}")
    again = pd.read_parquet(tmp_path / "predict" / "posterior.parquet")
    pd.testing.assert_frame_equal(again, posterior, rtol=1e-5)

    told = trizoo("calibrate", weights, *stores, f"folder={tmp_path / 'calibrate'}")["results"]
    assert set(told["honesty"]["questions"]) == set(run.dataset.questions)
    assert told["test"]["tree"]["questions"].keys() == whole["questions"].keys()

    words = [word for word in words if not word.startswith("training.steps")]
    active = trizoo("active", *words, *ASKS, f"folder={tmp_path / 'active'}")["results"]
    scores = active["rounds"][0]["scores"]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] > 0
    assert active["rounds"][1]["labelled"] == 48
    assert active["rounds"][1]["test"]["tree_nll"] > 0


def table_of_the_specification(run: RunSpec, folder: Path, store: str) -> pd.DataFrame:
    """The posterior table by the specification's samples with the weights in `folder`, without walk_information."""
    opened = open_store(store)
    weights = {
        name: array.astype(np.float64)
        for name, array in load_weights(folder / "weights.safetensors", run.model).items()
    }
    ids, images = opened.galaxies["id"], cutouts(run, opened)
    keys = galaxy_keys(run.seed, "posterior", galaxy_hash(ids))
    views = still_views(run, images.size, len(ids))
    logits = reference.sample(
        run, weights, images[np.arange(len(ids))], views, keys, 0, run.posterior.samples
    )
    questions, leads = learned_questions(run)
    shares = fractions(likelihood_of(run), logits)
    information = None
    try:
        walks = walks_of(questions, leads)
        information = Fake().walk_information(shares, walks)
    except ValueError:  # too many walks
        pass
    trained = pd.read_parquet(folder / "split.parquet").query("part == 'train'")["id"]
    return tree_table(
        located(opened.galaxies),
        questions,
        leads,
        shares,
        concentrations(likelihood_of(run), logits),
        run.posterior.expected_votes,
        ids.isin(trained).to_numpy(),
        information,
    )


class Tree(Fake):
    """A backend whose logits are random numbers of each galaxy's key, for as many answers as the run has."""

    def sample(self, state, images, views, keys, first, samples):
        self.sampled.append(len(images))
        rows = [np.random.default_rng(key.tolist()) for key in keys]
        return np.array([random.normal(size=(first + samples, 10))[first:] for random in rows])


def run_of(*words: str) -> RunSpec:
    small = ["model.image_size=16", "model.blocks=[[2]]", "model.dense=4", "backend.chunk=4"]
    return from_config(RunSpec, compose(["task=active", "questions=all", *small, *words]))


@pytest.mark.parametrize("likelihood", ["multinomial", "dirichlet_multinomial"])
def test_samples_come_block_by_block_and_say_the_same(monkeypatch, likelihood):
    run, backend, some = run_of(f"likelihood={likelihood}"), Tree(), galaxies(0, 30)
    of_all = (backend, run, None, noise(40), some.rows, some.hashes, 5)
    whole = trees.together(list(trees.sample(*of_all)))
    monkeypatch.setattr(sampling, "BLOCK", 8)
    blocks = list(trees.sample(*of_all))
    assert [len(block.rows) for block in blocks] == [4, 4, 8, 8, 6]
    parts = trees.together(blocks)
    np.testing.assert_array_equal(parts.fractions, whole.fractions)
    assert (parts.concentrations is None) == (likelihood == "multinomial")
    chosen = Labelled(*(array[[3, 17]] for array in some))
    np.testing.assert_array_equal(whole.of(chosen).fractions, whole.fractions[[3, 17]])
    rho, own = trees.one_question(run, whole)
    np.testing.assert_allclose(rho, whole.fractions[..., 0])
    if own is not None:
        np.testing.assert_array_equal(own, whole.concentrations[..., 0])


def test_of_no_galaxies_there_is_a_table_of_none():
    run, backend, none = run_of(), Tree(), np.zeros(0, np.int64)
    (block,) = trees.sample(backend, run, None, noise(4), none, none.astype(np.uint64), 5)
    assert block.fractions.shape == (0, 5, 10)
    questions, leads = learned_questions(run)
    rows = pd.DataFrame({"id": []})
    told = backend.walk_information(block.fractions, walks_of(questions, leads))
    table = tree_table(
        rows, questions, leads, block.fractions, block.concentrations, 40, none > 0, told
    )
    assert not len(table)
    assert "bar_strong_p95" in table


def test_what_a_walk_tells_of_the_pool_does_not_depend_on_blocks(monkeypatch):
    run, some = run_of("acquisition=walk_information", "acquisition.samples=6"), galaxies(0, 30)
    samples, told = _walked(Tree(), run, None, noise(40), some)
    monkeypatch.setattr(sampling, "BLOCK", 8)
    again = _walked(Tree(), run, None, noise(40), some)
    np.testing.assert_array_equal(again[0].rho, samples.rho)
    np.testing.assert_array_equal(again[0].concentrations, samples.concentrations)
    np.testing.assert_allclose(again[1], told, rtol=1e-12)
    logits = Tree().sample(
        None, noise(40)[:30], None, galaxy_keys(run.seed, "posterior", some.hashes), 0, 6
    )
    shares = fractions(likelihood_of(run), logits)
    np.testing.assert_allclose(samples.rho, shares[..., 0], rtol=1e-6)
    wanted = Fake().walk_information(shares, walks_of(*learned_questions(run)))
    np.testing.assert_allclose(told, wanted, rtol=1e-10)


def test_questions_that_are_learned_without_those_before_them_are_asked_of_everybody():
    run = run_of("questions=[bar,disk-edge-on]", "question=bar", "positive=[strong]")
    questions, leads = learned_questions(run)
    assert list(questions) == ["disk-edge-on", "bar"]
    assert list(leads) == ["bar"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_prediction_takes_its_questions_and_likelihood_from_the_fit(backend, tmp_path):
    words = [f"backend={backend}", "likelihood=multinomial", "dataset=synthetic_tree"]
    fit = compose(
        ["task=fit", "questions=[bar,disk-edge-on]", "question=bar", "positive=[weak]", *words]
    )
    (tmp_path / "run.json").write_text(json.dumps(fit))
    (tmp_path / "weights.safetensors").touch()
    usual = {"dataset": compose(["task=fit", "dataset=folder", "dataset.images=."])["dataset"]}
    config = compose(["task=predict", f"weights={tmp_path}", "dataset=synthetic_gz2"])
    made = inherit(config, ["weights", "dataset"], usual)
    for key in ("questions", "question", "positive", "likelihood", "model"):
        assert made[key] == fit[key], key
    assert made["dataset"]["questions"] == fit["dataset"]["questions"]
    run = from_config(RunSpec, made)
    assert likelihood_of(run).name == "multinomial"
    assert run.model.answers == first_checkpoint(run.model, 0).weights["answer/bias"].size == 5
    with pytest.raises(ValueError, match="questions is not what"):
        inherit(
            compose(["task=predict", f"weights={tmp_path}", "questions=all"]), ["questions"], usual
        )
    assert replace(run, seed=1).asked == run.asked


def real_votes(name: str) -> tuple[dict, np.ndarray]:
    """The questions of a survey and the votes (galaxy, answer) of the galaxies of it that are at hand."""
    survey = from_config(
        RunSpec, compose(["task=fit", f"dataset={name}", "dataset.images=."])
    ).dataset
    folder = Path(os.environ.get("TRIZOO_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data: set TRIZOO_REAL_DATA to their folder")
    if name == "gz2":
        table = pd.read_csv(folder / "gz2_stripe82" / "table5_first8000.csv.gz")
        named = {question: survey.columns.names[question] for question in survey.questions}
        columns = [f"{own}_{each}_count" for own, *answers in named.values() for each in answers]
    else:
        table = pd.read_csv(folder / "gz_decals" / "all_questions_counts.csv")
        columns = [f"{q}_{answer}" for q, answers in survey.questions.items() for answer in answers]
    return survey.questions, table[columns].to_numpy(np.float64)


def intercepts(likelihood: Likelihood, votes: np.ndarray) -> tuple[np.ndarray, float]:
    """The logits (answer,), the same for all galaxies, that make `votes` likeliest, and the mean NLL with them."""

    def loss(logits):
        logits = np.broadcast_to(logits, votes.shape)
        slope = votes_nll_gradient(likelihood, logits, votes).mean(0)
        return votes_nll(likelihood, logits, votes).mean(), slope

    start = np.zeros(votes.shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return found.x, found.fun


@pytest.mark.parametrize("name", ["gz_decals5", "gz2"])
def test_networks_that_see_nothing_learn_the_mean_fractions_of_real_votes(name):
    questions, votes = real_votes(name)
    outputs = tuple((q, tuple((answer,) for answer in some)) for q, some in questions.items())
    independent = Likelihood("multinomial", "exp", outputs)
    logits, _ = intercepts(independent, votes)
    pooled = votes.sum(0)
    for at in independent.slices:
        share = pooled[at] / pooled[at].sum()
        np.testing.assert_allclose(fractions(independent, logits)[at], share, atol=3e-4)
    few = votes[:600]
    scattered = independent._replace(name="dirichlet_multinomial")
    logits, nll = intercepts(scattered, few)
    assert nll < intercepts(independent, few)[1]  # galaxies differ by more than chance
    for at in scattered.slices if name == "gz_decals5" else ():
        asked = few[few[:, at].sum(1) > 0, at]
        shares = asked / asked.sum(1, keepdims=True)
        error = shares.std(0) / len(shares) ** 0.5  # of the mean, by the draw of these galaxies
        assert (np.abs(fractions(scattered, logits)[at] - shares.mean(0)) < 3 * error + 1e-4).all()
