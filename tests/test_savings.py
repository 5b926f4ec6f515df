"""Labels saved: exact where the saving is known, honest where it is not reached, intervals as wide as they say."""

import json
import math

import numpy as np
import pytest
from scipy.optimize import isotonic_regression
from scipy.stats import ttest_rel

from reports import readme, savings
from reports.labels import compared, sentence
from reports.runs import index, read_runs
from reports.savings import (
    BASELINE,
    Course,
    Pair,
    courses,
    difference,
    difference_text,
    falling,
    needed,
    paired,
    paired_coverage,
    problems,
    publish,
    published,
    saving_text,
    within,
)
from tests.test_report import keep, record

LABELS = np.arange(40, 241, 20.0)
FALLS = (0.25, 0.5, 0.75, 1.0)


def straight(labels: np.ndarray) -> np.ndarray:
    return 1 - labels / 400


def bent(labels: np.ndarray) -> np.ndarray:
    return 0.2 + 2 * np.asarray(labels, float) ** -0.7


def later(labels: np.ndarray) -> np.ndarray:
    """The labels that random acquisition needs where another, from the same start, needs half as many more."""
    return LABELS[0] + 2 * (labels - LABELS[0])


def made(random, other, noise: float = 0.0, seeds: int = 1, draw: int = 0) -> Pair:
    generator = np.random.default_rng(draw)
    shape = (2, seeds, len(LABELS))
    curves = np.array([random(LABELS), other(LABELS)])[:, None] + noise * generator.normal(
        size=shape
    )
    return Pair(LABELS, *curves)


def test_a_curve_made_to_fall_is_the_isotonic_regression():
    curves = np.random.default_rng(0).normal(size=(5, 20, 9))
    found = falling(curves)
    expected = [[isotonic_regression(c, increasing=False).x for c in some] for some in curves]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert (np.diff(found) <= 1e-12).all()
    np.testing.assert_array_equal(falling(np.sort(curves)[..., ::-1]), np.sort(curves)[..., ::-1])


def test_labels_needed_are_straight_between_rounds_and_infinite_where_never_reached():
    errors = np.array([0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05])
    found = needed(np.array([100, 200, 300, 400]), np.array([0.3, 0.2, 0.2, 0.1]), errors)
    np.testing.assert_allclose(found, [100, 100, 150, 200, 350, 400, np.inf])
    both = needed(np.array([1, 2]), np.array([[0.3, 0.2], [0.3, 0.1]]), np.array([[0.2], [0.2]]))
    np.testing.assert_allclose(both, [[2], [1.5]])


def test_half_the_labels_is_a_saving_of_half():
    found = savings.savings(made(straight, lambda labels: straight(2 * labels)), FALLS)
    assert [s.random for s in found] == pytest.approx([90, 140, 190, 240])
    assert [s.labels for s in found] == pytest.approx([45, 70, 95, 120])
    assert [s.saving for s in found] == pytest.approx([0.5] * 4)
    assert [s.error for s in found] == pytest.approx([0.775, 0.65, 0.525, 0.4])
    assert all(math.isnan(s.low) and math.isnan(s.high) for s in found)


def test_the_labels_of_the_start_count_on_both_sides():
    found = savings.savings(made(straight, lambda labels: straight(later(labels))), FALLS)
    assert [s.saving for s in found] == pytest.approx(
        [(s.random - LABELS[0]) / 2 / s.random for s in found]
    )


@pytest.mark.parametrize("other", [lambda labels: bent(later(labels)), bent])
@pytest.mark.parametrize("noise", [0.003, 0.01])
def test_nine_intervals_of_ten_hold_the_saving(monkeypatch, noise, other):
    monkeypatch.setattr(savings, "REPLICATES", 600)
    falls, runs = (0.5, 0.75), 120
    truth = [s.saving for s in savings.savings(made(bent, other), falls)]
    hits = np.zeros(len(falls))
    for draw in range(runs):
        found = savings.savings(made(bent, other, noise, seeds=8, draw=draw), falls)
        hits += [s.low <= true <= s.high for s, true in zip(found, truth, strict=True)]
    # of 120 draws at 0.9 all but a thousandth lie above 0.81; a plain percentile interval comes to 0.8
    assert (hits / runs > 0.83).all(), hits / runs
    assert (hits / runs < 0.985).all(), hits / runs


def test_pairs_stay_pairs():
    scatter = np.random.default_rng(1).normal(size=(8, 1)) * 0.05
    random = bent(LABELS) + scatter
    for saving in savings.savings(Pair(LABELS, random, random.copy())):
        assert saving.saving == saving.low == saving.high == 0
    half = Pair(LABELS, bent(LABELS) + scatter, bent(later(LABELS)) + scatter)
    assert all(s.high - s.low < 0.01 for s in savings.savings(half))


def test_an_acquisition_that_never_pays_is_shown_to_cost():
    slower = made(bent, lambda labels: bent((labels + LABELS[0]) / 2), 0.001, seeds=8)
    found = savings.savings(slower, (0.25, 0.5))
    assert all(-1 < s.low <= s.saving <= s.high < 0 and math.isfinite(s.labels) for s in found)
    assert saving_text(found[0]).startswith("\N{MINUS SIGN}")


def test_an_error_never_reached_gives_a_bound_and_no_lower_end():
    stuck = made(straight, lambda labels: np.maximum(straight(labels), 0.7), 0.001, seeds=8)
    early, *_, last = savings.savings(stuck)
    assert math.isfinite(early.labels)
    assert math.isfinite(early.low)
    assert math.isinf(last.labels)
    assert last.saving == 1 - LABELS[-1] / last.random
    assert last.low == -math.inf
    assert last.high == pytest.approx(last.saving, abs=0.01)
    assert saving_text(last) == "< 0 % (? to 0)"
    later_error = savings.savings(stuck, (0.9,))[0]
    assert saving_text(later_error) == "< \N{MINUS SIGN}9 % (? to \N{MINUS SIGN}9)"


def test_a_draw_that_does_not_reach_the_error_counts_at_both_ends():
    """Two seeds of eight never come down: then some draws' means do not, and what those need is not known."""
    errors = np.tile(straight(LABELS), (8, 1))
    other = np.tile(straight(later(LABELS)), (8, 1))
    other[:2] = straight(LABELS[0])
    (found,) = savings.savings(Pair(LABELS, errors, other), (0.95,))
    assert math.isfinite(found.labels)
    assert found.low == -math.inf
    assert found.high > found.saving > 0
    assert saving_text(found).split("(")[1].startswith("? to ")


def test_nothing_is_saved_where_nothing_falls():
    assert savings.savings(Pair(LABELS, np.full((3, 11), 0.3), np.full((3, 11), 0.1))) == []
    rising = np.tile(LABELS, (3, 1))
    assert savings.savings(Pair(LABELS, rising, rising[:, ::-1])) == []


def test_the_same_pairs_give_the_same_interval():
    pair = made(bent, lambda labels: bent(later(labels)), 0.01, seeds=5)
    assert savings.savings(pair) == savings.savings(pair)


def test_few_seeds_give_wider_intervals_than_many():
    def width(seeds: int) -> float:
        found = [
            savings.savings(made(bent, bent, 0.003, seeds, draw), (0.5,))[0] for draw in range(20)
        ]
        return float(np.median([s.high - s.low for s in found]))

    assert width(3) > 1.1 * width(8) > 1.1 * 1.4 * width(24)


def test_differences_are_those_of_the_paired_t_test():
    one, other = np.random.default_rng(3).normal(size=(2, 8))
    expected = ttest_rel(one, other).confidence_interval(0.9)
    assert difference(one - other) == pytest.approx((np.mean(one - other), *expected))
    assert difference_text([0.5], 2) == "0.50"
    assert (
        difference_text([-0.25, -0.25], 2)
        == "\N{MINUS SIGN}0.25 (\N{MINUS SIGN}0.25 to \N{MINUS SIGN}0.25)"
    )
    assert difference_text([-0.001, -0.001], 2) == "0.00 (0.00 to 0.00)"


# From records


def run_of(name: str, seed: int, errors, backend="torch", config=None, **test) -> dict:
    rounds = [
        {
            "labelled": 100 * (n + 1),
            "acquired": [],
            "seconds": 1.0,
            "test": {"galaxies": 10, "votes": 400, "rmse": error, "log_score": 10 * error} | test,
            "pool": {"plain": 2.0 + n, "lure": None, "lure_refused": "why", "all": 3.0},
        }
        for n, error in enumerate(errors)
    ]
    return record(
        backend, seed, "active", {"acquisition.name": name} | (config or {}), rounds=rounds
    )


def kept(folder, *data: dict):
    for number, entry in enumerate(data):
        keep(folder / f"{number:03}", entry)
    return read_runs(folder)


def simulated(backend="torch", seeds=range(3), config=None) -> list[dict]:
    falls = {BASELINE: [0.4, 0.3, 0.2], "mutual_information": [0.4, 0.2, 0.1]}
    coverage = [[8, 9.0, 8.0, 0.125], [40, 10.0, 10.0, 0.0]]
    return [
        run_of(name, seed, np.array(errors) + 0.01 * seed, backend, config, coverage=coverage)
        for name, errors in falls.items()
        for seed in seeds
    ]


def test_a_course_holds_what_every_round_has(tmp_path):
    partly = run_of("random", 4, [0.3, 0.2])
    partly["results"]["rounds"][1]["test"]["log_score"] = None
    (found,) = courses(kept(tmp_path, partly, record(task="active"), record(task="fit")))
    assert (found.acquisition, found.seed, found.labelled) == ("random", 4, [100, 200])
    assert found.measures == {"rmse": [0.3, 0.2]}
    assert found.pool == {"plain": 2.5, "all": 3.0}
    assert found.about == {
        "dataset": "synthetic",
        "question": "smooth-or-featured",
        "backend": "torch",
    }


def test_runs_pair_by_seed_within_a_simulation_and_a_backend(tmp_path):
    data = [
        *simulated(seeds=(0, 1, 2)),
        run_of("random", 7, [0.1, 0.1, 0.1]),  # of no pair
        *simulated("jax", (0, 1)),
        run_of("entropy", 0, [0.1, 0.1, 0.1], "tf"),  # beside no random acquisition
        *simulated(seeds=(5,), config={"training.steps": 7})[:1],
    ]
    found = problems(courses(kept(tmp_path, *data)))
    assert [sorted(named) for named in found] == [["mutual_information", "random"]] * 2
    pairs = [paired(named[BASELINE], named["mutual_information"], "rmse") for named in found]
    by_seeds = {len(pair.random): pair for pair in pairs}
    assert set(by_seeds) == {2, 3}
    np.testing.assert_allclose(by_seeds[3].random[:, 2], [0.2, 0.21, 0.22])
    np.testing.assert_allclose(by_seeds[3].other[:, 2], [0.1, 0.11, 0.12])
    assert by_seeds[3].labels.tolist() == [100, 200, 300]


def test_only_labels_that_all_had_are_compared(tmp_path):
    runs = courses(kept(tmp_path, run_of("random", 0, [3, 2, 1]), run_of("entropy", 0, [3, 1])))
    pair = paired(runs[:1], runs[1:], "rmse")
    assert pair.labels.tolist() == [100, 200]
    assert pair.random.tolist() == [[3, 2]]
    assert paired(runs[:1], runs[1:], "truth_rmse") is None
    assert paired(runs[:1], [runs[1]._replace(seed=1)], "rmse") is None


@pytest.mark.parametrize(("votes", "expected"), [(400, 0.8), (50, 0.1), (10, 0.0), (44, 0.0)])
def test_coverage_is_told_within_a_fifth_of_the_votes(votes, expected):
    coverage = [[width, 1.0, 1.0, width / 10] for width in range(41)]
    assert within({"galaxies": 10, "votes": votes, "coverage": coverage}) == pytest.approx(expected)
    assert within({"galaxies": 10, "votes": votes, "coverage": []}) is None
    own = [[0.1, 1.0, 1.0, 0.5], [0.2, 1.0, 1.0, 0.25], [0.4, 1.0, 1.0, 0.75]]
    test = {"galaxies": 10, "votes": votes, "coverage": coverage, "fraction_coverage": own}
    assert within(test) == 0.25
    own[1][3] = None
    assert within(test) is None
    assert within({"galaxies": 0}) is None


def test_coverage_errors_pair_by_seed():
    def runs(values):
        some = Course("p", {}, "random", 0, 1.0, [1], {}, None, {})
        return [some._replace(seed=seed, coverage=value) for seed, value in values.items()]

    found = paired_coverage(runs({3: 0.3, 1: 0.1, 2: None}), runs({1: 0.5, 2: 0.6, 3: 0.7}))
    assert found == [(0.1, 0.5), (0.3, 0.7)]


def test_the_report_tells_what_was_saved(tmp_path):
    (named,) = problems(courses(index(kept(tmp_path, *simulated())).records))
    rmse, score = compared(named)
    assert (rmse["acquisition"], rmse["seeds"], rmse["labels"]) == (
        "mutual information",
        3,
        "100 to 300",
    )
    assert rmse["saved at 50% of the fall"] == "25 % (25 to 25)"
    assert rmse["saved at 100% of the fall"] == "33 % (33 to 33)"
    assert rmse["last difference"].startswith("\N{MINUS SIGN}0.1000 (")
    assert score["saved at 100% of the fall"] == rmse["saved at 100% of the fall"]
    assert sentence(named[BASELINE], named["mutual_information"]).startswith(
        "Mutual information pays"
    )


# What is published


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A file of published runs: two questions, one of them in two backends."""
    rare = {"question": "bar"}
    data = [*simulated(), *simulated("jax", (0, 1)), *simulated(config=rare)]
    keep(tmp_path / "runs" / "other", record(task="fit"))
    kept(tmp_path / "runs", *data)
    assert publish(tmp_path / "runs", tmp_path / "saved.json") == len(data)
    monkeypatch.setattr(readme, "SAVINGS", tmp_path / "saved.json")
    return tmp_path / "saved.json"


def test_what_is_published_is_what_was_measured(shelf, tmp_path):
    of_records = problems(courses(read_runs(tmp_path / "runs")))
    expected = {named[BASELINE][0].problem: named for named in of_records}
    found = published(shelf)
    order = [tuple(named[BASELINE][0].about.values()) for named in found]
    assert order == sorted(order)
    assert len(found) == len(expected) == 3
    for named in found:
        for name, runs in expected[named[BASELINE][0].problem].items():
            for run, other in zip(runs, named[name], strict=True):
                assert other == Course(**savings.rounded(run._asdict()))
                assert other.measures["rmse"] == pytest.approx(run.measures["rmse"], rel=1e-6)
    settings = json.loads(shelf.read_text())["settings"]
    assert {named[BASELINE][0].problem for named in of_records} == set(settings)
    assert all(setting["run"]["question"] for setting in settings.values())


def test_the_table_of_the_readme_has_a_row_for_each_question_and_measure(shelf):
    head, *rows = readme.labels_saved()
    assert [row[0] for row in rows] == ["synthetic: smooth"] * 2 + ["synthetic: bar"] * 2
    assert {len(row) for row in rows} == {len(head)}
    assert rows[0][1:4] == ["100 to 300", "RMSE of the vote fraction", "0.410 to 0.210"]
    assert rows[0][6] == "33 % (33 to 33)"
    assert len(readme.questions()["synthetic: smooth"][BASELINE]) == 3


def test_the_figure_is_the_same_every_time(shelf):
    one, other = readme.figure(), readme.figure()
    assert one == other
    assert "synthetic: bar" in one
    assert "mutual information" in one


def test_the_figure_is_made_from_what_is_published():
    """Together or not at all; made anew, it is the same byte for byte."""
    assert readme.FIGURE.exists() == readme.SAVINGS.exists()
    if readme.SAVINGS.exists():
        assert readme.FIGURE.read_text(encoding="utf-8") == readme.figure()
