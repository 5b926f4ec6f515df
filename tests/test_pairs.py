"""The experiment on labels saved: its statistics against known values, and the program that does it, in small."""

import json
import math
from functools import partial

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_ind, ttest_rel

from benchmarks import pairs as program
from conf.compose import compose
from reports import pairs as report
from reports.savings import Pair, courses_in
from shared.method.laplace import laplace
from shared.method.last_layer import refit
from shared.method.likelihood import Likelihood
from shared.method.lure import lure, lure_weights
from shared.run.records import write_json
from shared.run.spec import RunSpec, from_config

LABELS = np.array([64.0, 128, 256, 512])
MORE = np.array([64.0, 128, 256, 512, 1280])
TINY = (
    *("dataset.galaxies=90", "dataset.population=null", "split.labels=60", "backend.chunk=64"),
    *("model.image_size=16", "model.blocks=[[4],[4]]", "model.dense=6", "model.encoder=null"),
    *("training.steps=6", "training.batch_size=8", "posterior.samples=8", "acquisition.samples=8"),
)


def falls(labels: np.ndarray) -> np.ndarray:
    """An error that falls by 1 with each doubling."""
    return 10 - np.log2(labels)


def test_holm_is_as_by_hand():
    assert report.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert report.holm([0.6, 0.9]) == [1, 1]
    assert report.holm([0.02]) == [0.02]


@pytest.mark.parametrize("middle", [-0.015, 0.0, 0.03])
def test_equivalence_is_the_larger_of_two_one_sided_tests(middle):
    values = middle + 0.02 * np.random.default_rng(0).normal(size=12)
    above = ttest_1samp(values, -0.02, alternative="greater").pvalue
    below = ttest_1samp(values, 0.02, alternative="less").pvalue
    assert report.tost(values, 0.02) == pytest.approx(max(above, below), rel=1e-9)


def test_an_area_is_a_mean_over_doublings():
    random = np.zeros((2, 4))
    other = np.array([[0, -0.1, -0.1, -0.1], [0, 0, 0, 0.3]])
    np.testing.assert_allclose(
        report.areas(Pair(LABELS, random, other)), [-(0.05 + 0.1 + 0.1) / 3, 0.15 / 3]
    )
    halves = Pair(np.array([64, 512.0]), random[:, :2], other[:, [0, 3]])
    np.testing.assert_allclose(report.areas(halves), [-0.05, 0.15])


def test_p_values_are_of_a_paired_t_test():
    noise = np.random.default_rng(1).normal(size=(2, 9, 4))
    named = courses_in({"runs": record_of(*noise)})[0]
    found = report.compared({"q": named}, "laplace_power")["q"]
    ends = [[np.trapezoid(curve, np.log2(LABELS)) / 3 for curve in side] for side in noise]
    assert found.p == pytest.approx(ttest_rel(ends[1], ends[0]).pvalue, rel=1e-6)
    assert found.corrected == found.p


def record_of(random: np.ndarray, other: np.ndarray) -> list[dict]:
    """The runs of a question in a record, of errors (seed, round)."""
    arms = {"random": random, "laplace_power": other}
    return [
        {
            "problem": "q",
            "about": {"dataset": "d", "question": "q", "backend": "jax"},
            "acquisition": arm,
            "seed": seed,
            "seconds": 1.0,
            "labelled": (MORE if len(curve) == 5 else LABELS).astype(int).tolist(),
            "measures": {"log_score": curve.tolist()},
            "asked": {
                "galaxies": [64.0, 128],
                "fraction": [0.5, 0.2],
                "artifacts": [None, None],
                "near_duplicates": [1, 0],
                "foretold": [None if arm == "random" else 0.3] * 2,
            },
            "coverage": None,
            "pool": {},
        }
        for arm, curves in arms.items()
        for seed, curve in enumerate(curves)
    ]


def test_half_the_labels_are_saved_by_what_needs_half_of_them():
    random = np.tile(falls(MORE), (3, 1))
    other = np.tile(falls(2 * LABELS), (3, 1))
    pair = Pair(LABELS, random[:, :4], other)
    assert report.saved(pair)[:3] == pytest.approx((0.5, 0.5, 0.5))
    assert report.worth(pair, MORE, random)[:3] == pytest.approx((0.5, 0.5, 0.5))


def test_what_is_not_reached_is_a_bound():
    random = np.tile(falls(MORE), (2, 1))
    worse, best = (np.tile(falls(factor * LABELS), (2, 1)) for factor in (0.5, 4))
    never = report.saved(Pair(LABELS, random[:, :4], worse))
    assert (never.bound, never.share, never.low, never.high) == ("<", 0, -math.inf, 0)
    assert report.saved_text(never) == "< 0 % (? to 0)"
    beyond = report.worth(Pair(LABELS, random[:, :4], best), MORE, random)
    assert (beyond.bound, beyond.share) == (">", pytest.approx(0.6))
    assert report.saved_text(beyond) == "> 60 % (60 to ?)"


@pytest.mark.parametrize(
    ("shift", "scatter", "verdict"),
    [
        (-0.1, 0.05, "pays"),
        (0.1, 0.05, "costs"),
        (0.0, 0.005, "no difference"),
        (-0.006, 0.002, "pays, little"),
        (0.0, 0.3, "open"),
    ],
)
def test_the_verdict(shift, scatter, verdict):
    noise = np.random.default_rng(2).normal(size=16)
    values = shift + scatter * (noise - noise.mean()) / noise.std(ddof=1)
    p = float(ttest_1samp(values, 0).pvalue)
    found = report.Found(16, values, p, p, report.tost(values, report.MARGIN))
    assert found.verdict == verdict


def test_the_tables_are_made_of_a_record(tmp_path):
    noise = 0.01 * np.random.default_rng(3).normal(size=(2, 6, 5))
    runs = record_of(noise[0] + falls(MORE), noise[1, :, :4] + falls(2 * LABELS))
    path = tmp_path / "pairs.json"
    write_json(path, {"runs": runs, "settings": {}})
    heads, row = report.primary(path)
    assert len(heads) == len(row)
    assert row[0] == "q"
    assert row[7] == "pays"
    assert row[8].startswith("50 %")
    assert "pays" in report.arms(path)[1][1]
    assert report.savings_of_arms(path)[1][1].startswith("50 %")
    assert report.asked(path)[1:] == [
        ["q", "random", "0.300", "", "0.5 %", ""],
        ["q", "laplace power", "0.300", "", "0.5 %", "0.30"],
    ]


def test_weights_of_lure_are_those_of_its_mean():
    chances, losses = np.array([0.2, 0.05, 0.5]), np.array([1.0, 2.0, 4.0])
    assert np.mean(lure_weights(chances, 9) * losses) == pytest.approx(lure(losses, chances, 9))
    np.testing.assert_allclose(lure_weights(1 / (9 - np.arange(4)), 9), 1)


def test_a_galaxy_that_counts_twice_is_two_galaxies():
    draws = np.random.default_rng(4)
    likelihood = Likelihood("dirichlet_multinomial", "exp", (("", (("no",), ("yes",))),))
    units, votes = draws.normal(size=(30, 3)), draws.integers(0, 9, size=(30, 2))
    twice = np.repeat(np.arange(30), np.where(np.arange(30) < 5, 2, 1))
    counts = np.where(np.arange(30) < 5, 2.0, 1.0)
    start = np.full((3, 2), 0.1), np.zeros(2)
    found, wanted = (
        refit(likelihood, units[rows], votes[rows], *start, importance=importance)
        for rows, importance in ((np.arange(30), counts), (twice, None))
    )
    np.testing.assert_allclose(found.kernel, wanted.kernel, atol=1e-6)
    given = partial(laplace, likelihood, kernel=wanted.kernel, bias=wanted.bias, priors=(1.0,))
    one = given(features=units, votes=votes, importance=counts).questions[0]
    two = given(features=units[twice], votes=votes[twice]).questions[0]
    np.testing.assert_allclose(one.roots, two.roots, atol=1e-9)


@pytest.mark.parametrize("name", program.QUESTIONS)
def test_every_arm_of_a_question_is_judged_alike_on_ten_times_the_labels(name, monkeypatch):
    monkeypatch.setenv("TRIZOO_REAL_DATA", "somewhere")
    experiment, labels = program.QUESTIONS[name]
    words = ["task=active", f"experiment={experiment}"]
    run = from_config(RunSpec, compose([*words, *program.ARMS["random"].words]))
    assert run.posterior.method == "laplace"
    assert run.acquisition.start == "cold"
    assert run.acquisition.guard == 0
    doublings = np.diff(np.log2(labels[:-1]))
    np.testing.assert_allclose(doublings, 1)
    assert labels[-1] >= 2.5 * labels[-2]  # a saving of 60 % is not out of sight
    if run.dataset.images is None:
        assert run.split.labels >= 10 * labels[-2]


def test_a_last_layer_elsewhere_is_told_beside_whole_networks(tmp_path):
    noise = 0.01 * np.random.default_rng(5).normal(size=(2, 6, 5))
    runs = record_of(noise[0] + falls(MORE), noise[1, :, :4])
    for run in runs:
        run["problem"] = "smooth"
    write_json(tmp_path / "pairs.json", {"runs": runs, "settings": {}})
    fits = [
        {"problem": "p", "start": "s", "labels": 640, "seed": seed, "seconds": 1.0}
        | {"measures": {"log_score": 4.0 + 0.01 * seed}}
        for seed in range(3)
    ]
    write_json(tmp_path / "scratch.json", {"runs": fits})
    rows = report.beside_scratch(tmp_path / "pairs.json", tmp_path / "scratch.json")
    assert [row[0] for row in rows[1:]] == [
        *(f"{labels}, on the encoder" for labels in ("64", "128", "256", "512", "1,280")),
        "640, from scratch",
    ]
    values = [run["measures"]["log_score"][0] for run in runs[:6]]
    test = ttest_ind(values, [4.0, 4.01, 4.02], equal_var=False).confidence_interval(0.9)
    middle = np.mean(values) - 4.01
    numbers = f"{middle:.3f} ({test.low:.3f} to {test.high:.3f})"
    assert rows[1][3] == numbers.replace("-", "\N{MINUS SIGN}")


def test_the_experiment_in_small_goes_on_where_it_was_stopped(tmp_path, monkeypatch, capsys):
    question = program.Question("pairs", (8, 16, 32))
    monkeypatch.setattr(program, "QUESTIONS", {"smooth": question})
    record = tmp_path / "pairs.json"
    words = [str(tmp_path), str(record), "seeds=1", f"outputs={tmp_path}", *TINY]
    assert program.main(words) == 0
    runs = json.loads(record.read_text())["runs"]
    assert [run["acquisition"] for run in runs] == list(program.ARMS)
    assert [run["labelled"] for run in runs] == [[8, 16, 32]] + 5 * [[8, 16]]
    assert len({run["measures"]["log_score"][0] for run in runs}) == 1  # all begin alike
    files = sorted((tmp_path / "pairs").glob("*/0.json"))
    assert len(files) == len(program.ARMS)
    gone = next(file for file in files if "laplace_power-" in file.parent.name)
    before = {file: file.stat().st_mtime_ns for file in files}
    gone.unlink()
    assert program.main(words) == 0
    assert {file for file in files if file.stat().st_mtime_ns != before[file]} == {gone}
    again = json.loads(record.read_text())["runs"]
    assert [without_seconds(run) for run in again] == [without_seconds(run) for run in runs]
    assert "6 runs" in capsys.readouterr().out
    assert program.main([*words, "arms=nobody"]) == 2


def without_seconds(run: dict) -> dict:
    return {name: value for name, value in run.items() if name != "seconds"}
