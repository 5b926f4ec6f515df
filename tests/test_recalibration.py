"""What calibrate mends: known scatter is found, intervals hold as often as they say, and planted mistakes are seen."""

import json
from importlib import import_module
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import betabinom

import trizoo
from benchmarks import calibration as benchmark
from reports.calibration_pictures import draw
from shared.data.inputs import places
from shared.method import conformal, coverage
from shared.method import recalibration as module
from shared.method.beta import LARGEST
from shared.method.coverage import ALL_LEVELS, LEVEL, coverage_of
from shared.method.likelihood import Likelihood
from shared.method.recalibration import (
    FILE,
    conformal_intervals,
    fit_recalibration,
    load_recalibration,
    recalibrated,
    save_recalibration,
)
from shared.method.tree_metrics import central, held, question_nll
from shared.method.trees import Samples
from shared.output.posterior import read_facts
from shared.run.config import uses
from shared.run.records import write_json
from shared.run.spec import RunSpec, from_config
from tests.fake import galaxies, run_of

BETA = Likelihood("dirichlet_multinomial", "exp", (("q", (("no",), ("yes",))),))
BINOMIAL = BETA._replace(name="binomial")
OWN = 8.0  # the concentration of the votes


def made(count=2000, sure=1.0, seed=0, samples=20):
    """Galaxies whose votes scatter, samples that say so (`sure` times less, None: not at all), and true fractions."""
    random = np.random.default_rng(seed)
    centre, total = random.beta(3, 3, count), random.integers(25, 45, count)
    rho = random.beta(OWN * centre, OWN * (1 - centre))
    yes = random.binomial(total, rho)
    shares = np.repeat(np.stack([1 - centre, centre], -1)[:, None], samples, 1)
    part = galaxies(0, count)._replace(votes=np.stack([total - yes, yes], -1))
    own = None if sure is None else np.full((count, samples, 1), OWN * sure)
    return Samples(part.rows, shares, own), part, np.stack([1 - rho, rho], -1)


def measured(sure=1.0, mended=None, likelihood=BETA, seed=1, **changes):
    """What is measured of the question."""
    samples, part, true = made(sure=sure, seed=seed, **changes)
    if mended is not None:
        samples = recalibrated(likelihood, samples, mended)
    uniforms = np.random.default_rng(2).random(part.votes.shape)
    return coverage_of(likelihood, samples, part, uniforms, true, mended)["q"]


# Shares of counts in intervals


def check_held(of):
    """That of any distribution of counts the part `of` them in an interval is its level, to the last digits."""
    random = np.random.default_rng(0)
    chances = np.concatenate(
        [
            random.dirichlet(np.full(9, 0.4), 30),
            betabinom.pmf(np.arange(9), 8, 0.3, 0.2)[None],
            np.eye(9)[[0, 4, 8]],
        ]
    )
    for level in (0.1, 0.5, 0.9):
        each = [of(chances, np.full(len(chances), k), level) for k in range(9)]
        np.testing.assert_allclose((chances * np.transpose(each)).sum(1), level, atol=1e-12)


def whole(chances, counts, level):
    return central(chances, counts, level)[0].astype(float)


def one_sided(chances, counts, level):
    return held(chances, counts, level) * (counts > 0)


def test_counts_lie_in_intervals_as_often_as_the_level_says():
    check_held(held)
    for mistake in (whole, one_sided):
        with pytest.raises(AssertionError):
            check_held(mistake)


def test_a_count_that_cannot_be_is_in_no_interval():
    assert held(np.array([[0.0, 1.0, 0.0]]), np.array([0]), 0.9) == 0
    assert held(np.array([[0.0, 1.0, 0.0]]), np.array([1]), 0.9) == pytest.approx(0.9)


# What is measured


def check_honest():
    """That an honest posterior's votes, truths and fractions lie where it says, by five standard errors."""
    told = measured()
    assert told["galaxies"] == 2000
    for level, observed in told["votes"]:
        assert observed == pytest.approx(level, abs=5 * (0.25 / 2000) ** 0.5)
    assert [row[0] for row in told["truth"]["levels"]] == list(ALL_LEVELS)
    for _, expected, observed in told["truth"]["levels"]:
        assert observed == pytest.approx(expected, abs=5 * (0.25 / 2000) ** 0.5)
    for _, predicted, observed in told["fractions"]:
        assert observed == pytest.approx(predicted, abs=5 * (0.25 / 2000) ** 0.5)
    for predicted, observed, count in told["reliability"]:
        assert observed == pytest.approx(predicted, abs=5 * (0.04 / count) ** 0.5)
    assert told["pit"]["p_value"] > 0.01
    assert told["whole_interval"]["expected"] > LEVEL + 0.01
    assert sum(row[2] for row in told["thirds"]) == 2000
    for *_, count, inside, _ in (*told["thirds"], *told["truth"]["thirds"]):
        assert count > 200
        assert inside > 0.8


def test_an_honest_posterior_is_measured_honest():
    check_honest()


@pytest.mark.parametrize(
    ("place", "name", "mistake"),
    [
        (coverage, "held", whole),
        (coverage, "held", lambda *given: 1 - held(*given)),
        (coverage, "distribution", lambda f, own, at: at),
        (
            coverage,
            "chances_by_total",
            lambda f, own, total: module.chances_by_total(f, None, total),
        ),
    ],
)
def test_the_check_sees_mistakes(place, name, mistake, monkeypatch):
    monkeypatch.setattr(place, name, mistake)
    with pytest.raises(AssertionError):
        check_honest()


def test_one_that_is_too_sure_is_measured_so():
    told = measured(sure=10.0)
    level, observed = told["votes"][ALL_LEVELS.index(0.9)]
    assert observed < level - 0.1
    assert told["truth"]["levels"][-1][2] < 0.8
    assert told["pit"]["p_value"] < 1e-9
    ends = sum(told["pit"]["histogram"][end] for end in (0, -1))
    assert ends > 1.5 * 2000 / 5
    deviation, predicted, observed = told["fractions"][1]
    assert (deviation, predicted > observed + 0.1) == (0.1, True)


def test_several_answers_are_measured_together():
    random = np.random.default_rng(0)
    likelihood = BETA._replace(questions=(("q", (("a",), ("b",), ("c",))),))
    centre = random.dirichlet(np.full(3, 3.0), 800)
    true = np.stack([random.dirichlet(OWN * one) for one in centre])
    votes = np.stack([random.multinomial(30, one) for one in true])
    votes[:50] = 0
    part = galaxies(0, 800)._replace(votes=votes)
    samples = Samples(part.rows, np.repeat(centre[:, None], 4, 1), np.full((800, 4, 1), OWN))
    told = coverage_of(likelihood, samples, part, random.random((800, 3)), true, None)["q"]
    assert told["galaxies"] == 750
    assert told["pit"]["p_value"] is None
    assert sum(told["pit"]["histogram"]) == pytest.approx(750)
    for level, observed in told["votes"]:
        assert observed == pytest.approx(level, abs=0.06)


def test_of_no_galaxies_nothing_is_told():
    samples, part, _ = made(5)
    part = part._replace(votes=0 * part.votes)
    told = coverage_of(BETA, samples, part, np.zeros((5, 2)), None, None)["q"]
    assert told["galaxies"] == 0
    assert told["truth"] is told["pit"]["statistic"] is None
    assert np.isnan(told["votes"][0][1])


# What is mended


def check_mended(sure, likelihood):
    """That the scatter of votes is found, and conformal intervals hold 90 % of other galaxies' votes."""
    mended = fit_recalibration(likelihood, *made(sure=sure)[:2])
    told = mended["q"]
    assert (told.scaled_by, told.galaxies) == (1000, 1000)
    wanted = OWN if sure is None else 1 / sure
    assert told.scale == pytest.approx(wanted, rel=0.12)
    before, after = (measured(sure, one, likelihood) for one in (None, mended))
    assert after["nll"] <= before["nll"] + 0.005
    assert after["votes"][ALL_LEVELS.index(0.9)][1] == pytest.approx(0.9, abs=0.03)
    assert 0.88 < after["conformal"] < 0.96  # whole counts hold a little more
    assert before["conformal"] is None


CASES = pytest.mark.parametrize(
    ("sure", "likelihood"), [(1.0, BETA), (6.0, BETA), (1 / 4, BETA), (None, BINOMIAL)]
)


@CASES
def test_what_is_off_is_mended(sure, likelihood):
    check_mended(sure, likelihood)


def no_threshold(calibration, level):
    return 0.0


def one_tail(calibration, level):
    return conformal.threshold(calibration, 1 - 2 * (1 - level))


def the_other_way(fractions, concentrations, scale):
    return None if concentrations is None else concentrations / scale


@pytest.mark.parametrize(
    ("place", "name", "mistake"),
    [
        (module.conformal, "threshold", no_threshold),
        (module.conformal, "threshold", one_tail),
        (module, "scaled", the_other_way),
        (module, "best_scale", lambda *_: 1.0),
    ],
)
def test_the_check_of_what_is_mended_sees_mistakes(place, name, mistake, monkeypatch):
    if mistake is one_tail:
        real = conformal.threshold
        mistake = lambda calibration, level: real(calibration, 2 * level - 1)  # noqa: E731
    monkeypatch.setattr(place, name, mistake)
    with pytest.raises(AssertionError):
        check_mended(6.0, BETA)


def test_no_galaxy_gives_both_scale_and_threshold(monkeypatch):
    samples, part, _ = made(101)
    part = part._replace(votes=np.stack([np.arange(101), 200 - np.arange(101)], -1))
    noted = []
    real = module.best_scale, module.count_scores

    def spy(number):
        def noting(fractions, own, votes):
            noted.append(set(votes[:, 0].tolist()))
            return real[number](fractions, own, votes)

        return noting

    monkeypatch.setattr(module, "best_scale", spy(0))
    monkeypatch.setattr(module, "count_scores", spy(1))
    fit_recalibration(BETA, samples, part)
    first, second = noted
    assert (len(first), len(second)) == (51, 50)
    assert not first & second


def test_few_galaxies_change_nothing_that_they_cannot_tell():
    samples, part, _ = made(16, sure=9.0)
    told = fit_recalibration(BETA, samples, part)["q"]
    assert (told.scale, told.thresholds) == (1.0, (0.0, 0.0))
    assert (
        fit_recalibration(BINOMIAL, samples._replace(concentrations=None), part)["q"].scale is None
    )
    mended = {"q": told}
    low, high = conformal_intervals(BETA, samples, mended, np.full((16, 1), 12))
    assert (low == 0).all()
    assert (high == 12).all()


def test_independent_votes_get_a_concentration_and_no_other_change():
    samples, part, _ = made(50, sure=None)
    question = fit_recalibration(BINOMIAL, *made(sure=None)[:2])["q"]
    found = recalibrated(BINOMIAL, samples, {"q": question})
    nll = question_nll(found.fractions, found.concentrations[..., 0], part.votes)
    rho, own = samples.fractions[:, 0, 1], question.scale
    wanted = -betabinom.logpmf(part.votes[:, 1], part.votes.sum(1), own * rho, own * (1 - rho))
    np.testing.assert_allclose(nll, wanted, rtol=1e-5)
    same = recalibrated(BINOMIAL, samples, {"q": question._replace(scale=None)})
    assert same is samples
    two = Likelihood("multinomial", "exp", (*BETA.questions, ("r", BETA.questions[0][1])))
    whole_tree = samples._replace(fractions=np.concatenate([samples.fractions] * 2, -1))
    mended = {"q": question, "r": question._replace(scale=None)}
    own = recalibrated(two, whole_tree, mended).concentrations
    assert (own[..., 0] == np.float32(question.scale)).all()
    assert (own[..., 1] == np.float32(LARGEST)).all()


def test_intervals_are_those_whose_scores_are_not_below_the_threshold():
    samples, _, _ = made(6)
    question = module.Question(1.0, 0, (0.2, 0.3), 0)
    low, high = conformal_intervals(BETA, samples, {"q": question}, np.full((6, 1), 10))
    for galaxy in range(6):
        for answer, least in enumerate(question.thresholds):
            f = samples.fractions[galaxy, 0, answer]
            chances = betabinom.pmf(np.arange(11), 10, OWN * f, OWN * (1 - f))[None].repeat(11, 0)
            inside = conformal.scores(chances, np.arange(11), 0.5) >= least
            ends = np.flatnonzero(inside)[[0, -1]]
            assert (low[galaxy, answer], high[galaxy, answer]) == tuple(ends)


# The file


def test_a_file_says_what_it_is_of(tmp_path):
    run = run_of("likelihood=dirichlet_multinomial")
    name = run.question
    mended = {name: module.Question(0.5, 40, (0.1, 0.1), 41)}
    save_recalibration(tmp_path / FILE, run, "abc", mended)
    words = ("task=predict", "weights=w", "likelihood=dirichlet_multinomial")

    def load(*others, weights="abc", place=tmp_path):
        given = run_of(*words, f"posterior.calibration={place}", *others)
        return load_recalibration(given, weights)

    assert load() == load(place=tmp_path / FILE) == mended
    assert load_recalibration(run_of(*words), "abc") is None
    with pytest.raises(
        ValueError, match=r"of other weights than w; run trizoo calibrate weights=w"
    ):
        load(weights="b")
    with pytest.raises(ValueError, match="is of the method dropout, not laplace"):
        load("posterior.method=laplace")
    with pytest.raises(ValueError, match="is of the likelihood"):
        load("likelihood.concentrations=sigmoid")
    with pytest.raises(ValueError, match="holds no thresholds for all answers to bar"):
        load("question=bar", "positive=[strong]")
    with pytest.raises(FileNotFoundError, match="give a finished run folder of calibrate"):
        load(place=tmp_path / "other")
    held_by = json.loads((tmp_path / FILE).read_text())
    held_by["questions"][name]["thresholds"] = ["0.1"]
    write_json(tmp_path / FILE, held_by)
    with pytest.raises(ValueError, match="does not hold what it should"):
        load()


def test_who_uses_it_and_what_a_record_keeps_of_it(tmp_path):
    assert [uses(task, "posterior.calibration") for task in ("predict", "fit", "active")] == [
        True,
        False,
        False,
    ]
    (tmp_path / FILE).write_text("{}")
    config = trizoo.compose(["task=predict", f"posterior.calibration={tmp_path}"])
    assert dict(places(config))["posterior.calibration"] == str(tmp_path / FILE)


# The benchmark on W+20's posteriors

VOTES_OF_GALAXIES = 20_000


def check_benchmark():
    """That votes drawn with a known concentration are found to have it, and are covered as is then predicted."""
    random = np.random.default_rng(0)
    samples = np.clip(random.beta(5, 3, (400, 1)) + 0.04 * random.standard_normal((400, 40)), 0, 1)
    galaxy = random.integers(400, size=VOTES_OF_GALAXIES)
    rho = samples[galaxy, random.integers(40, size=VOTES_OF_GALAXIES)]
    yes = random.binomial(benchmark.VOTES, random.beta(20 * rho + 1e-9, 20 * (1 - rho) + 1e-9))
    middle = np.floor(benchmark.VOTES * samples.mean(1) + 1e-9)
    deviations = np.abs(yes - middle[galaxy]).astype(int)
    assert benchmark.best_concentration(samples, deviations) == pytest.approx(20, rel=0.1)
    seen = np.bincount(deviations, minlength=benchmark.VOTES + 1) / VOTES_OF_GALAXIES
    told = benchmark.near(benchmark.predicted(samples, 20.0), seen)
    assert told["error"] < 0.03
    assert told["interval"]["observed"] == pytest.approx(told["interval"]["predicted"], abs=0.02)
    before = benchmark.near(benchmark.predicted(samples, None), seen)
    assert before["interval"]["observed"] < before["interval"]["predicted"] - 0.1


def test_the_benchmark_finds_a_known_scatter():
    check_benchmark()


def test_the_check_of_the_benchmark_sees_a_mistake(monkeypatch):
    real = benchmark.predicted
    monkeypatch.setattr(
        benchmark, "predicted", lambda samples, own: real(samples, own and own * 1.5)
    )
    with pytest.raises(AssertionError):
        check_benchmark()


# The pictures


def test_pictures_are_drawn_of_what_was_measured(tmp_path):
    mended = fit_recalibration(BETA, *made(sure=4.0)[:2])
    told = {"as_fitted": {"q": measured(4.0)}, "recalibrated": {"q": measured(4.0, mended)}}
    config = {"question": "q", "backend": {"name": "torch"}}
    draw(tmp_path, config, {"coverage": told})
    assert {path.name for path in tmp_path.iterdir()} == {
        name for name in trizoo.TASKS["calibrate"].leaves if name.endswith(".svg")
    }
    for path in tmp_path.iterdir():
        text = path.read_text()
        ElementTree.fromstring(text)
        assert "#01020" not in text
        assert "recalibrated" in text or path.name == "reliability.svg"
    assert "true fractions, as fitted" in (tmp_path / "coverage.svg").read_text()
    points = f"{100 * told['as_fitted']['q']['votes'][8][1]:.4g} at 90"
    assert points in (tmp_path / "coverage.svg").read_text()
    none = {side: {"q": {"galaxies": 0}} for side in told}
    draw(tmp_path / "none", config, {"coverage": none})
    assert not (tmp_path / "none").exists()


# In whole runs


@pytest.mark.parametrize("likelihood", ["binomial", "dirichlet_multinomial"])
def test_predict_uses_what_calibrate_found(likelihood, tmp_path):
    pytest.importorskip("torch")

    def here(task, name, *words):
        words = [f"task={task}", f"outputs={tmp_path}", f"folder={tmp_path / name}", *words]
        words += ["backend.threads=1", "backend.chunk=16", "dataset.galaxies=150"]
        config = trizoo.compose(words)
        config = trizoo.with_fit(config, words) if trizoo.TASKS[task].needs_fit else config
        write_json(tmp_path / name / "run.json", config)
        run = from_config(RunSpec, config)
        return getattr(import_module(trizoo.TASKS[task].module), task)(run, tmp_path / name)[
            "results"
        ]

    small = ("model.image_size=16", "model.blocks=[[2],[2],[2],[2]]", "model.dense=4")
    small += ("training.batch_size=16", "training.steps=4", "posterior.samples=6")
    split = ("split.validation=0.4", "split.test=0.3", f"likelihood={likelihood}")
    here("fit", "fit", *small, *split)
    weights = f"weights={tmp_path / 'fit'}"
    told = here("calibrate", "calibrated", weights)
    (question,) = told["recalibration"]
    assert told["honesty"]["verdict"] in told["summary"]
    assert told["coverage"]["recalibrated"][question]["conformal"] > 0.5
    draw(tmp_path / "calibrated", trizoo.compose([]), told)
    mended = here("predict", "mended", weights, f"posterior.calibration={tmp_path / 'calibrated'}")
    assert mended["recalibration"] == told["recalibration"]
    here("predict", "plain", weights)
    path = tmp_path / "mended" / "posterior.parquet"
    table, before = (
        pq.read_table(one).to_pandas() for one in (path, tmp_path / "plain" / "posterior.parquet")
    )
    facts = read_facts(path)["recalibration"]
    assert facts == {"level": 0.9, "questions": told["recalibration"]}
    prefix = "smooth_or_featured_smooth"
    low, high = (table[f"{prefix}_conformal_{end}"] for end in ("low", "high"))
    assert (low <= high).all()
    assert ((low >= 0) & (high <= 40)).all()
    assert f"{prefix}_conformal_low" not in before
    np.testing.assert_allclose(table[f"{prefix}_mean"], before[f"{prefix}_mean"], rtol=1e-5)
    scale = told["recalibration"][question]["scale"]
    if scale not in (None, 1.0):
        assert np.abs(table[f"{prefix}_std"] - before[f"{prefix}_std"]).max() > 1e-6
    parts = SimpleNamespace(
        **{
            name: len(rows)
            for name, rows in pq.read_table(tmp_path / "fit" / "split.parquet")
            .to_pandas()
            .groupby("part")
        }
    )
    counts = told["recalibration"][question]
    assert counts["scaled_by"] + counts["galaxies"] == parts.validation
