"""Perfect posteriors pass every measure of calibration at the stated rate; those too wide or too narrow do not."""

import json
from collections import Counter
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit
from scipy.stats import binom, kstwo

import trizoo
from reports.quality import honest
from reports.runs import index, read_runs
from shared.data.split import split
from shared.data.synthetic import QUESTIONS, draw_galaxies
from shared.method.calibration import (
    best_rate,
    calibration,
    coverage_error,
    coverage_test,
    gain,
    pit,
    pit_test,
    pit_uniforms,
    truth_coverage,
)
from shared.method.metrics import coverage, log_score, log_scores
from shared.network.weights import TRAINED_WITH, first_checkpoint, save_weights
from shared.output.oracle import true_chances
from shared.run.keys import galaxy_hash, galaxy_keys
from shared.run.records import write_json
from shared.run.spec import RunSpec, from_config
from shared.tasks import calibrate as module
from shared.tasks.calibrate import calibrate
from shared.tasks.galaxies import SPLIT
from tests.fake import Fake, run_of

DOUBLED = 2**0.5  # of the standard deviation is twice the variance
MEASURES = ("pit", "coverage", "truth")


def drawn(galaxies, samples, spread=1.0, seed=0):
    """Arguments of `calibration`: truths and samples of one law, but samples `spread` times as far from its centre."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0.25, 0.75, (galaxies, 1))
    probabilities = np.clip(centre + 0.1 * rng.standard_normal((galaxies, samples + 1)), 0, 1)
    believed = np.clip(centre + spread * (probabilities[:, 1:] - centre), 0, 1)
    total = rng.integers(20, 60, galaxies)
    yes = rng.binomial(total, probabilities[:, 0])
    return believed, yes, total, rng.random(galaxies), probabilities[:, 0]


def test_pit_is_that_of_scipys_mixture():
    samples, yes, total, uniforms, _ = drawn(40, 7)
    yes[:3], yes[3:6] = 0, total[3:6]
    total[6], yes[6], total[7], yes[7] = 1, 1, 1, 0
    below = binom.cdf(yes[:, None] - 1, total[:, None], samples).mean(1)
    here = binom.pmf(yes[:, None], total[:, None], samples).mean(1)
    found = pit(samples.astype(np.float32), yes, total, uniforms)
    np.testing.assert_allclose(found, below + uniforms * here, atol=1e-6)
    np.testing.assert_allclose(pit(samples, yes, total, np.zeros(40)), below, atol=1e-14)
    assert (pit(samples, yes, total, np.zeros(40))[:3] == 0).all()
    np.testing.assert_allclose(pit(samples, yes, total, np.ones(40))[3:6], 1)


def test_pit_leaves_galaxies_without_votes_out_and_knows_certainty():
    samples = np.array([[0.5], [0.25], [0.0], [1.0], [1.0]])
    yes, total, uniforms = np.array([0, 1, 0, 3, 0]), np.array([0, 2, 4, 3, 3]), np.full(5, 0.5)
    # one sample; what is certain and happens lies anywhere, what cannot happen lies at the end
    expected = [0.75**2 + 0.5 * 2 * 0.25 * 0.75, 0.5, 0.5, 0.0]
    np.testing.assert_allclose(pit(samples, yes, total, uniforms), expected, atol=1e-15)
    assert np.isnan(pit_test(pit(samples[:1], yes[:1], total[:1], uniforms[:1]))).all()


def test_the_numbers_of_the_pit_are_of_seed_and_galaxy_alone():
    hashes = galaxy_hash([f"galaxy {number}" for number in range(4000)])
    found = pit_uniforms(3, hashes)
    np.testing.assert_array_equal(pit_uniforms(3, hashes[::-1][:7]), found[::-1][:7])
    assert not np.isin(pit_uniforms(4, hashes), found).all()
    assert pit_test(found).p_value > 0.01
    assert abs(np.corrcoef(found, pit_uniforms(4, hashes))[0, 1]) < 0.06


def test_pit_test_is_kolmogorovs():
    values = np.array([0.1, 0.2, 0.9])
    found = pit_test(values)
    assert found.statistic == pytest.approx(2 / 3 - 0.2)
    assert found.p_value == pytest.approx(kstwo.sf(2 / 3 - 0.2, 3))


def test_a_perfect_posterior_is_refused_as_seldom_as_is_said():
    """Of 100 surveys 5 are refused at 5 %, and more than 12 with the chance 0.0005."""
    measured = [calibration(*drawn(150, 40, seed=seed)) for seed in range(100)]
    p_values = np.array([[one[name]["p_value"] for name in MEASURES] for one in measured])
    assert ((p_values < 0.05).sum(0) <= 12).all()
    assert ((p_values < 0.01).sum(0) <= 5).all()
    assert 0.4 < p_values[:, 0].mean() < 0.6  # of the PIT exactly, of the others at least
    assert (p_values[:, 1:].mean(0) > 0.4).all()


@pytest.mark.parametrize("measure", MEASURES)
def test_twice_or_half_the_variance_is_seen(measure):
    """At 1 %: a perfect posterior is refused once in a hundred times, these always."""
    perfect = calibration(*drawn(2000, 60))[measure]
    assert perfect["p_value"] > 0.01
    for spread in (DOUBLED, 1 / DOUBLED):
        wrong = calibration(*drawn(2000, 60, spread))[measure]
        assert wrong["p_value"] < 1e-5
        assert wrong["statistic"] > 2 * perfect["statistic"]


def test_the_direction_of_a_misfit_can_be_told():
    wide, narrow = (calibration(*drawn(2000, 60, spread)) for spread in (DOUBLED, 1 / DOUBLED))
    ends = [
        sum(measured["pit"]["histogram"][end] for end in (0, -1)) for measured in (wide, narrow)
    ]
    assert ends[0] < 2000 / 5 < ends[1]
    for measured, sign in ((wide, 1), (narrow, -1)):
        _, expected, observed, _ = np.array(measured["truth"]["table"]).T
        assert (sign * (observed - expected) > 0).all()
        _, predicted, counted, _ = np.array(measured["coverage"]["table"])[2:8].T
        assert (sign * (counted - predicted) > 0).all()


@pytest.mark.parametrize("count", [1, 2, 9, 15, 30])
def test_a_truth_of_every_rank_is_covered_exactly_as_expected(count):
    samples = np.tile(np.arange(count) / count, (count + 1, 1))
    truths = (np.arange(count + 1) - 0.5) / count
    for level, expected, observed, noise in truth_coverage(samples, truths):
        assert observed == pytest.approx(expected, abs=1e-12)
        assert noise == pytest.approx(np.sqrt(expected * (1 - expected) / (count + 1)))
        possible = 1 - 2 * np.arange((count + 1) // 2 + 1) / (count + 1)
        assert abs(expected - level) == pytest.approx(np.abs(possible - level).min())


def test_expected_shares_are_those_that_so_many_samples_can_tell():
    def expected(count, levels):
        samples = np.zeros((1, count))
        return [row[1] for row in truth_coverage(samples, np.zeros(1), levels)]

    assert expected(9, (0.8, 0.4, 0.1)) == pytest.approx([0.8, 0.4, 0.2])  # of 0 and 0.2, the wider
    assert expected(1, (0.9, 0.6, 0.4)) == [1, 1, 0]
    assert expected(30, (0.9,)) == pytest.approx([27 / 31])


def test_the_central_interval_by_hand():
    samples = np.array([[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]])[:, ::-1]  # in any order
    for truth, inside in ((0.05, 0), (0.15, 1), (0.85, 1), (0.95, 0), (0.1, 0.5), (0.5, 1)):
        ((level, expected, observed, _),) = truth_coverage(samples, np.array([truth]), [0.8])
        assert (level, expected) == (0.8, pytest.approx(0.8))
        assert observed == inside, truth


def test_samples_that_are_all_the_truth_tell_nothing_and_pass():
    for _, expected, observed, _ in truth_coverage(np.full((5, 9), 0.5), np.full(5, 0.5)):
        assert observed == pytest.approx(expected)
    for _, _, observed, _ in truth_coverage(np.full((5, 9), 0.5), np.full(5, 0.6), [0.1, 0.8]):
        assert observed == 0


def test_coverage_error_and_test_by_hand():
    table = [[0.5, 0.5, 0.4, 0.1], [0.8, 0.8, 0.9, 0.1], [0.9, 0.9, 0.95, 0.1]]
    assert coverage_error(table) == pytest.approx(0.25 / 3)
    found = coverage_test([0.5, 0.8, 0.9], [0.4, 1.0, 0.95], 50)
    assert found.statistic == pytest.approx(0.2)
    assert found.p_value == pytest.approx(kstwo.sf(0.2, 50))
    assert np.isnan(coverage_test([], [], 0)).all()


def test_calibration_gathers_what_the_functions_say():
    samples, yes, total, uniforms, truth = drawn(80, 9)
    yes[:5] = total[:5] = 0
    measured = calibration(samples, yes, total, uniforms, truth)
    assert measured["galaxies"] == 75
    assert measured["log_score"] == log_score(samples, yes, total)
    values = pit(samples, yes, total, uniforms)
    tenths = [
        int(((values >= tenth / 10) & (values < (tenth + 1) / 10)).sum()) for tenth in range(10)
    ]
    assert measured["pit"]["histogram"] == tenths
    assert measured["coverage"]["table"] == coverage(samples, yes, total)
    gaps = [abs(row[1] - row[2]) / 75 for row in measured["coverage"]["table"]]
    assert measured["coverage"]["statistic"] == pytest.approx(max(gaps))
    assert measured["truth"]["table"] == truth_coverage(samples, truth)
    assert measured["truth"]["error"] == coverage_error(measured["truth"]["table"])
    assert calibration(samples, yes, total, uniforms, None)["truth"] is None


def test_a_single_sample_is_measured_without_a_warning():
    samples, yes, total, uniforms, truth = drawn(30, 1)
    yes[0] = 0
    measured = calibration(samples, yes, total, uniforms, truth)
    assert sum(measured["pit"]["histogram"]) == 30
    assert measured["truth"]["error"] == 0  # it cannot be otherwise


def test_log_scores_are_a_score_of_each_galaxy():
    samples, yes, total, _, _ = drawn(30, 9)
    yes[:2] = total[:2] = 0
    expected = -np.log(binom.pmf(yes[:, None], total[:, None], samples).mean(1))
    np.testing.assert_allclose(log_scores(samples, yes, total), expected, rtol=1e-11, atol=1e-14)


def test_coverage_of_w20s_posteriors_on_votes_of_known_chances(w20):
    """The votes behind their table are not to be had: here the first sample is the truth and the others are the belief.

    Then they are perfect, and relative errors are those of chance; with truths farther out they have the shape that
    W+20 found of the real votes: overconfident by 16 % within two votes, falling to nothing at twenty.
    """
    samples, theirs = w20
    samples = samples.astype(np.float64)
    truth, believed, total = samples[:, 0], samples[:, 1:], np.full(len(samples), 44)
    centre = believed.mean(1, keepdims=True)
    rng = np.random.default_rng(0)

    def table(believed, truth):
        return np.array(coverage(believed, rng.binomial(total, truth), total))

    def errors(found):
        return (found[:23, 1] - found[:23, 2]) / found[:23, 2]

    def noise(found):
        return np.sqrt(np.maximum(1 - found[:23, 1] / len(total), 0) / found[:23, 1])

    perfect = table(believed, truth)
    np.testing.assert_allclose(perfect[:20, 1], theirs[:20, 1], rtol=3e-3)
    assert (np.abs(errors(perfect)) < 3.5 * noise(perfect) + 1 / len(total)).all()
    assert coverage_test(*(perfect[:, 1:3].T / len(total)), len(total)).p_value > 0.01

    doubled = table(np.clip(centre + DOUBLED * (believed - centre), 0, 1), truth)
    assert (errors(doubled)[2:6] < -3.5 * noise(doubled)[2:6]).all()
    assert coverage_test(*(doubled[:, 1:3].T / len(total)), len(total)).p_value < 1e-9

    astray = table(believed, np.clip(centre[:, 0] + 1.6 * (truth - centre[:, 0]), 0, 1))
    ours, shape = errors(astray), theirs[:23, 4]
    assert np.corrcoef(ours, shape)[0, 1] > 0.9
    assert (ours[:10] > 0).all()
    assert np.abs(ours - shape).max() < 0.1
    assert ours[20] < 0.01


def test_the_best_rate_and_of_equals_the_nearest():
    rates = [
        {"rate": rate, "log_score": score} for rate, score in ((0.1, 3.0), (0.4, 2.0), (0.8, 2.0))
    ]
    assert best_rate(rates, 0.5) == 0.4
    assert best_rate(rates, 0.7) == 0.8
    assert best_rate([row | {"log_score": np.inf} for row in rates], 0.45) == 0.4


def test_gain_is_of_pairs():
    found = gain(np.array([3.0, 5.0, 4.0]), np.array([2.0, 3.0, 1.0]))
    assert found["mean"] == 2
    assert found["error"] == pytest.approx(np.sqrt(2 / 3) / np.sqrt(3))
    assert np.isnan(gain(np.array([np.inf]), np.array([np.inf]))["mean"])


def test_true_chances_are_of_all_positive_answers():
    galaxies = draw_galaxies(20, 0)
    run = run_of("question=bar", "positive=[strong,weak]")
    found = true_chances(SimpleNamespace(galaxies=galaxies), run)
    np.testing.assert_allclose(found, 1 - galaxies["true_bar_no"])
    without = SimpleNamespace(galaxies=galaxies.drop(columns="true_bar_weak"))
    assert true_chances(without, run) is None


class Believer(Fake):
    """A backend that is right about every galaxy when it drops units at RIGHT, and the less sure the more it drops."""

    RIGHT, SPREAD = 0.3, 0.6

    def __init__(self, galaxies, seed):
        super().__init__()
        rng = np.random.default_rng(0)
        true = logit(galaxies["true_smooth-or-featured_smooth"])
        keys = galaxy_keys(seed, "posterior", galaxy_hash(galaxies["id"]))
        astray = np.asarray(true) + self.SPREAD * rng.standard_normal(len(galaxies))
        self.centre = dict(zip(map(tuple, keys.tolist()), astray, strict=True))
        self.rng, self.seen = rng, []

    def init(self, run, start):
        return run.model.dropout

    def sample(self, state, images, views, keys, first, samples):
        self.seen.append((state, len(images)))
        centre = np.array([self.centre[tuple(key)] for key in keys.tolist()])[:, None]
        noise = self.rng.standard_normal((len(keys), samples))
        logits = (centre + state / self.RIGHT * self.SPREAD * noise).astype(np.float32)
        return np.stack([np.zeros_like(logits), logits], -1)


@pytest.fixture
def played(tmp_path, monkeypatch):
    """The galaxies, the backend, the weights' folder and a function that calibrates, on a store without pictures."""
    galaxies = draw_galaxies(1500, 0).assign(pixels_crc32=0)
    images = np.zeros((len(galaxies), 16, 16, 1), np.uint8)
    store = SimpleNamespace(galaxies=galaxies, images=images, questions=QUESTIONS, folder=tmp_path)
    store.split_ids = galaxies["id"]
    backend = Believer(galaxies, 5)
    monkeypatch.setattr(module, "prepare_store", lambda dataset: store)
    monkeypatch.setattr(module, "open_networks", lambda run: backend)
    fitted, folder = tmp_path / "fitted", tmp_path / "run"
    words = (f"weights={fitted}", "seed=5", "posterior.samples=40", "split.validation=0.2")
    run = run_of("task=calibrate", "split.test=0.3", *words)
    save_weights(fitted / "weights.safetensors", first_checkpoint(run.model, 0).weights, {})

    def go(*others):
        return calibrate(run_of("task=calibrate", "split.test=0.3", *words, *others), folder)

    return SimpleNamespace(
        galaxies=galaxies, backend=backend, fitted=fitted, folder=folder, go=go, run=run
    )


def test_calibrate_finds_the_rate_at_which_a_network_is_right(played):
    results = played.go()["results"]
    assert results["chosen"]["rate"] == Believer.RIGHT
    assert results["trained"]["rate"] == 0.5
    assert [row["rate"] for row in results["validation"]["rates"]] == list(module.RATES)
    parts = split(played.galaxies["id"], played.run.split)
    assert results["validation"]["galaxies"] == (parts == "validation").sum()
    assert (
        results["chosen"]["galaxies"] == results["trained"]["galaxies"] == (parts == "test").sum()
    )
    for measure in MEASURES:
        assert results["chosen"][measure]["p_value"] > 0.01, measure
        assert results["trained"][measure]["p_value"] < 0.01, measure
    assert results["gain"]["mean"] > 3 * results["gain"]["error"] > 0
    before, after = (results[name]["log_score"] for name in ("trained", "chosen"))
    assert results["gain"]["mean"] == pytest.approx(before - after)
    assert "dropout 0.3 at prediction, trained with 0.5: on" in results["summary"]


def test_what_calibrate_writes(played):
    outcome = played.go("model.dropout=0.3")
    results = outcome["results"]
    assert outcome["where"]["fake"] == "1"
    written = json.loads((played.folder / "calibration.json").read_text())
    kept = {key: results[key] for key in results if key not in ("summary", "peak_memory_bytes")}
    write_json(played.folder / "again.json", kept)
    assert json.loads((played.folder / "again.json").read_text()) == written
    table = pd.read_csv(played.folder / "calibration.csv")
    assert list(table) == ["rate", "log_score"]
    assert table["rate"].tolist() == list(module.RATES)
    assert table["log_score"].idxmin() == 3
    assert results["trained"] == results["chosen"]  # one rate, and one set of samples
    assert results["gain"] == {"mean": 0, "error": 0}
    galaxies = Counter()
    for rate, count in played.backend.seen:
        galaxies[rate] += count
    once = galaxies.pop(0.3)  # tried, and then tested
    assert set(galaxies) == set(module.RATES) - {0.3}
    assert len(set(galaxies.values())) == 1
    assert once > galaxies[0.05]
    files = {path.name for path in played.folder.iterdir()} - {"again.json"}
    assert files == {name for name in trizoo.TASKS["calibrate"].leaves if name[-4:] != ".svg"}


def test_the_end_of_the_scan_is_no_advice(played, monkeypatch):
    monkeypatch.setattr(module, "RATES", (0.5, 0.6, 0.7))
    monkeypatch.setattr("shared.method.calibration.RATES", (0.5, 0.6, 0.7))
    summary = played.go()["results"]["summary"]
    assert "dropout 0.5 (where the scan ends, so that it says little" in summary
    assert summary.index("90 % intervals of votes hold") < summary.index("recalibrated: votes ")
    assert summary.index("recalibrated: votes ") < summary.index("dropout 0.5")


def test_the_trained_rate_is_always_tried_and_validation_bounded(played, monkeypatch):
    monkeypatch.setattr(module, "FEW", 50)
    results = played.go("model.dropout=0.33")["results"]
    assert 0.33 in [row["rate"] for row in results["validation"]["rates"]]
    assert results["validation"]["galaxies"] == 50
    assert {count for rate, count in played.backend.seen if rate == 0.05} == {50}


def test_galaxies_that_were_trained_with_are_known_or_it_is_said_that_they_are_not(played, capsys):
    unknown = played.go()["results"]
    assert unknown["trained_with_known"] is False
    assert "NOT KNOWN: which galaxies" in capsys.readouterr().err
    ids = played.galaxies["id"]
    used = np.sort(galaxy_hash(ids[split(ids, played.run.split) == "test"][:100]))
    path = played.fitted / "weights.safetensors"
    weights = first_checkpoint(played.run.model, 0).weights
    save_weights(path, weights | {TRAINED_WITH: used}, {})
    known = played.go()["results"]
    assert known["chosen"]["galaxies"] == unknown["chosen"]["galaxies"] - 100
    assert known["trained_with_known"] is True
    assert "NOT KNOWN" not in capsys.readouterr().err


def test_galaxies_that_were_trained_with_are_left_out(played):
    ids = played.galaxies["id"]
    parts = split(ids, played.run.split)
    used = ids[(parts == "test")].tolist()[:100]
    table = pd.DataFrame({"id": used, "part": "train"})
    table.to_parquet(played.fitted / SPLIT)
    assert played.go()["results"]["chosen"]["galaxies"] == (parts == "test").sum() - 100
    table = pd.DataFrame({"id": ids[parts == "test"], "part": "train"})
    table.to_parquet(played.fitted / SPLIT)
    with pytest.raises(ValueError, match=r"no test galaxy with votes .* raise split\.test"):
        played.go()


def test_without_a_truth_none_is_told(played):
    del played.galaxies["true_smooth-or-featured_smooth"]
    results = played.go()["results"]
    assert results["trained"]["truth"] is results["chosen"]["truth"] is None


@pytest.fixture
def trained(tmp_path):
    """The folder of a fit, as far as runs that are given its weights look."""
    words = ["task=fit", "seed=7", "dataset.galaxies=90", "model.image_size=32", "split.test=0.4"]
    words += ["question=bar", "positive=[strong,weak]", "posterior.samples=12", "minimum_votes=3"]
    words += ["training.members=2"]
    write_json(tmp_path / "run.json", trizoo.compose(words))
    (tmp_path / "weights.safetensors").write_bytes(b"weights")
    return tmp_path


def inherited(task, trained, *words):
    words = [f"task={task}", f"weights={trained}", *words]
    config = trizoo.with_fit(trizoo.compose(words), words)
    return from_config(RunSpec, config)


def test_calibrate_looks_at_the_galaxies_of_the_fit(trained):
    run = inherited("calibrate", trained)
    assert (run.question, run.positive, run.model.image_size) == ("bar", ("strong", "weak"), 32)
    assert (run.seed, run.dataset.galaxies, run.split.test, run.minimum_votes) == (7, 90, 0.4, 3)
    assert run.training.members == 2
    assert run.posterior.samples == 12
    other = inherited("calibrate", trained, "seed=1", "posterior.samples=98", "dataset.galaxies=80")
    assert (other.seed, other.posterior.samples, other.dataset.galaxies) == (1, 98, 80)
    assert other.split.test == 0.4
    assert inherited("predict", trained).seed == 0
    with pytest.raises(ValueError, match="members is 2; export is of one network"):
        inherited("export", trained)
    one = inherited("export", trained, "training.members=1")
    assert (one.dataset.galaxies, one.seed) == (90, 0)


def test_heirs_may_drop_more_or_less_but_keep_the_shape(trained):
    assert inherited("predict", trained).model.dropout == 0.5
    run = inherited("predict", trained, "model.dropout=0.8")
    assert (run.model.dropout, run.model.image_size) == (0.8, 32)
    with pytest.raises(ValueError, match=r"model\.image_size is not what"):
        inherited("predict", trained, "model.dropout=0.8", "model.image_size=64")


@pytest.mark.parametrize("members", [1, 2])
def test_with_the_rate_of_training_it_is_the_posterior_of_the_fit(tmp_path, members):
    """A fit with PyTorch, of one network or an ensemble of two, and its calibration."""
    pytest.importorskip("torch")

    def done(task, *words):
        words = [f"task={task}", f"outputs={tmp_path}", "backend.threads=1", *words]
        words += ["mode=corrected"] if task == "fit" else []
        config = trizoo.compose(words)
        config = trizoo.with_fit(config, words) if trizoo.TASKS[task].needs_fit else config
        write_json(tmp_path / task / "run.json", config)
        do = getattr(import_module(trizoo.TASKS[task].module), task)
        return do(from_config(RunSpec, config), tmp_path / task)["results"]

    words = ["model.image_size=16", "model.blocks=[[2],[2],[2],[2]]", "model.dense=16", "seed=2"]
    words += ["dataset.galaxies=60", "training.batch_size=8", "training.steps=4"]
    words += [f"training.members={members}", "split={test: 0.3, validation: 0.2}"]
    fit = done("fit", *words, "posterior.samples=6")
    made = done("calibrate", f"weights={tmp_path / 'fit'}")
    for name in ("galaxies", "log_score", "rmse"):
        assert made["trained"][name] == pytest.approx(fit["test"][name], rel=1e-12), name
    known = {row["rate"]: row["log_score"] for row in made["validation"]["rates"]}
    assert known[0.5] == pytest.approx(fit["validation"]["log_score"], rel=1e-12)
    assert len(set(known.values())) == len(known)
    assert made["samples"] == 6


def keep(folder, backend, seed, trained=0.5, truth=True):
    """A record of calibrate below `folder`."""
    measured = calibration(*drawn(200, 19, seed=seed))
    measured = measured if truth else measured | {"truth": None}
    rates = [{"rate": rate, "log_score": 3 + abs(rate - 0.3)} for rate in (0.1, 0.3, 0.5)]
    results = {
        "weights": f"somewhere/fit-{backend}-{seed}/weights.safetensors",
        "validation": {"galaxies": 90, "rates": rates},
        "trained": {"rate": trained, **measured},
        "chosen": {"rate": 0.3, **measured},
    }
    words = [
        "task=calibrate",
        f"backend={backend}",
        f"seed={seed}",
        f"weights=fit-{backend}-{seed}",
    ]
    run = trizoo.compose(words)
    data = {"run": run, "where": {"device": "cpu", "precision": "float32"}, "results": results}
    write_json(folder / f"{backend}-{seed}" / "record.json", data)
    return measured


def test_the_report_draws_what_was_measured(tmp_path):
    for key in (("tf", 0), ("torch", 0), ("torch", 1)):
        keep(tmp_path, *key)
    text = "".join(map(str, honest(index(read_runs(tmp_path)))))
    assert text.count("<svg") == 3  # each of other weights
    assert "A perfect posterior is as uneven with a chance of" in text
    assert "best on validation" in text


def test_a_report_without_a_run_has_no_such_section(tmp_path):
    write_json(tmp_path / "record.json", {"run": {"task": {"name": "calibrate"}}})
    assert honest(index(read_runs(tmp_path))) == []
