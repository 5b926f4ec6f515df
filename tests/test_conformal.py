"""Conformal intervals: their guarantee for any posterior, where they promise nothing, and planted mistakes."""

import numpy as np
import pytest
from scipy.stats import betabinom, binom

from shared.method import conformal as module
from shared.method.conformal import intervals, scores, threshold

MOST = 45


def drawn(random, galaxies):
    """True fractions, of which volunteers scatter most in the middle, votes in all and votes yes."""
    rho = random.uniform(0.02, 0.98, galaxies)
    total = random.integers(20, MOST + 1, galaxies)
    own = np.where(np.abs(rho - 0.5) < 0.2, 4.0, 60.0)
    return rho, total, random.binomial(total, random.beta(own * rho, own * (1 - rho)))


def binomials(rho, total):
    """What a posterior says that knows the fraction and nothing of scatter: too sure."""
    return binom.pmf(np.arange(MOST + 1), total[:, None], rho[:, None])


def wide(rho, total):
    """One that is not sure enough."""
    return betabinom.pmf(
        np.arange(MOST + 1), total[:, None], 1.5 * rho[:, None], 1.5 * (1 - rho[:, None])
    )


def mirrored(rho, total):
    """One that is wrong."""
    return binomials(1 - rho, total)


def covered(posterior, level, calibration=60, repeats=150, tested=30, randomised=True, seed=0):
    """The shares of galaxies in their intervals, and their true fractions; each repeat calibrates anew."""
    random, inside, fractions = np.random.default_rng(seed), [], []
    for _ in range(repeats):
        rho, total, yes = drawn(random, calibration + tested)
        u = random.random(len(rho)) if randomised else np.full(len(rho), 0.5)
        chances = posterior(rho, total)
        first, other = slice(0, calibration), slice(calibration, None)
        least = module.threshold(module.scores(chances[first], yes[first], u[first]), level)
        low, high = intervals(chances[other], total[other], u[other], least)
        assert (low <= high).all()
        assert ((low >= 0) & (high <= total[other])).all()
        inside.append((low <= yes[other]) & (yes[other] <= high))
        fractions.append(rho[other])
    return np.array(inside), np.array(fractions)


def check_guarantee(posterior, level, randomised=True):
    """That the share lies between the guarantee's bounds, by five standard errors over repeats."""
    inside, _ = covered(posterior, level, randomised=randomised)
    each = inside.mean(1)
    error = 5 * each.std() / len(each) ** 0.5
    assert each.mean() > level - error
    if randomised:
        assert each.mean() < level + 1 / 61 + error


@pytest.mark.parametrize("randomised", [True, False])
@pytest.mark.parametrize("level", [0.5, 0.9])
@pytest.mark.parametrize("posterior", [binomials, wide, mirrored])
def test_intervals_hold_as_often_as_they_say_whatever_the_posterior(posterior, level, randomised):
    check_guarantee(posterior, level, randomised)


def test_few_calibration_galaxies_are_enough_for_the_guarantee():
    """With 9 the interval of 90 % reaches to the largest of their scores: exactly .9 of ten are not beyond it."""
    inside, _ = covered(binomials, 0.9, calibration=9, repeats=900, tested=10)
    each = inside.mean(1)
    assert abs(each.mean() - 0.9) < 5 * each.std() / 900**0.5


def test_tails_are_told_apart_however_far_out():
    chances = binom.pmf(np.arange(201), 200, 0.5)[None].repeat(2, 0)
    far, farther = scores(chances, np.array([198, 199]), 0.5)
    assert 0 < farther < far < 1e-50
    np.testing.assert_allclose(scores(chances, np.array([2, 1]), 0.5), [far, farther], rtol=1e-10)


def test_without_them_the_intervals_of_a_sure_posterior_hold_too_seldom():
    rho, total, yes = drawn(np.random.default_rng(0), 4000)
    low, high = intervals(binomials(rho, total), total, 0.5, 0.1)
    assert ((low <= yes) & (yes <= high)).mean() < 0.8


def test_the_guarantee_is_not_conditional_on_the_fraction():
    """Over a binomial, 90 % of all galaxies is less of those on which volunteers scatter more, and more of the rest."""
    inside, rho = covered(binomials, 0.9, calibration=1000, repeats=4, tested=1500)
    middle = np.abs(rho - 0.5) < 0.2
    assert inside.mean() == pytest.approx(0.9, abs=0.02)
    assert inside[middle].mean() < 0.8
    assert inside[~middle].mean() > 0.95


def test_thresholds_in_known_groups_hold_in_each():
    random = np.random.default_rng(0)
    rho, total, yes = drawn(random, 6000)
    chances, u = binomials(rho, total), random.random(6000)
    middle, first = np.abs(rho - 0.5) < 0.2, np.arange(6000) < 3000
    for group in (middle, ~middle):
        some, rest = group & first, group & ~first
        least = threshold(scores(chances[some], yes[some], u[some]), 0.9)
        low, high = intervals(chances[rest], total[rest], u[rest], least)
        share = ((low <= yes[rest]) & (yes[rest] <= high)).mean()
        assert share == pytest.approx(0.9, abs=0.04)


def test_counts_are_inside_exactly_if_their_scores_are():
    rho, total, _ = drawn(np.random.default_rng(1), 50)
    chances, u = wide(rho, total), np.random.default_rng(2).random(50)
    low, high = intervals(chances, total, u, 0.3)
    for count in range(MOST + 1):
        there = count <= total
        each = scores(chances, np.full(50, count), u) >= 0.3
        inside = (low <= count) & (count <= high)
        np.testing.assert_array_equal(inside[there], each[there])


def test_scores_of_an_honest_posterior_are_uniform():
    random = np.random.default_rng(3)
    rho, total, _ = drawn(random, 4000)
    found = scores(binomials(rho, total), random.binomial(total, rho), random.random(4000))
    quantiles = np.quantile(found, [0.25, 0.5, 0.75, 0.9])
    np.testing.assert_allclose(quantiles, [0.25, 0.5, 0.75, 0.9], atol=0.04)


def test_the_threshold_is_the_rank_that_the_proof_wants():
    found = np.arange(1, 100) / 100.0
    assert threshold(found[::-1], 0.9) == 0.1  # the 10th of 99
    assert (
        threshold(found[:98], 0.9) == 0.09
    )  # of 98 the 9th: the 10th leaves more than a tenth of 99 out
    assert threshold(found[:19], 0.95) == 0.01
    assert threshold(found[:18], 0.95) == 0
    assert threshold(found[:0], 0.5) == 0


def test_a_threshold_of_0_holds_every_count():
    chances = np.zeros((2, 6))
    chances[0, :4], chances[1, 5] = 0.25, 1
    low, high = intervals(chances, np.array([3, 5]), 0.5, 0.0)
    assert low.tolist() == [0, 0]
    assert high.tolist() == [3, 5]


def test_no_interval_is_empty():
    chances = np.array([[0.5, 0.5, 0], [0.1, 0.2, 0.7]])
    low, high = intervals(chances, np.array([1, 2]), 0.5, 0.99)
    assert (low <= high).all()
    assert (low[1], high[1]) == (2, 2)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 90])
def test_levels_lie_between_0_and_1(level):
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        threshold(np.ones(3), level)


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="without votes"):
        threshold(np.array([0.1, np.nan]), 0.9)


def level_alone(calibration, level):
    return 1 - level


def ranks_too_many(calibration, level):
    return float(np.sort(calibration)[int(len(calibration) * (1 - level * 0.95))])


def always_the_least(calibration, level):
    return float(calibration.min())


def above_for_below(chances, counts, uniforms, real=scores):
    return real(chances[:, ::-1], counts, uniforms)


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("threshold", level_alone),
        ("threshold", ranks_too_many),
        ("threshold", always_the_least),
        ("scores", above_for_below),
    ],
)
def test_the_check_of_the_guarantee_sees_mistakes(name, mistake, monkeypatch):
    monkeypatch.setattr(module, name, mistake)
    with pytest.raises(AssertionError):
        check_guarantee(binomials, 0.9)
