import tracemalloc

import numpy as np
import pytest

from shared.data.schema import chance_asked
from shared.method import mixture
from shared.method.beta import log_rising
from shared.method.mixture import (
    LEVELS,
    count_chances,
    distribution,
    information,
    mean_asked,
    moments,
    quantiles,
    summarise_fractions,
    summarise_votes,
    votes_interval,
)
from shared.proof import mixture as oracle
from tests.trees import ANSWERS, LEADS, PLACES, QUESTIONS, drawn_samples

EXTREMES = [  # fractions and concentrations of the samples of one answer
    ([0.0, 0.0, 0.3], [5, 5, 5]),
    ([0.0, 0.0, 0.0], [5, 5, 5]),
    ([1.0, 1.0, 1.0], [5, 5, 5]),
    ([1.0, 0.0, 0.5], [1e3, 1e-3, 2]),
    ([0.2, 0.3, 0.9], [1e-2, 1e-3, 1e-1]),
    ([1e-4, 0.999, 0.5], [1, 1, 1]),
    ([1e-7, 1e-9, 0.1], [100, 1e5, 30]),
    ([0.5, 0.501, 0.2], [1e4, 2e4, 30]),
    ([0.31, 0.32, 0.9], [1e3, 1e5, 4]),
]


@pytest.fixture(scope="module")
def samples():
    return drawn_samples(3, 5, seed=0)


def rows(fractions, concentrations):
    """Answers as rows: (row, sample) of both, and where each is, (galaxy, answer)."""
    counts = [len(some) for some in QUESTIONS.values()]
    own = None if concentrations is None else np.repeat(concentrations, counts, 2)
    for galaxy in range(len(fractions)):
        for answer in range(ANSWERS):
            each = None if own is None else own[galaxy, :, answer]
            yield galaxy, answer, fractions[galaxy, :, answer], each


@pytest.mark.parametrize("known", [True, False])
def test_the_summary_is_that_of_the_plain_loops(samples, known):
    fractions, concentrations = samples[0], samples[1] if known else None
    found = summarise_fractions(QUESTIONS, fractions, concentrations)
    low, high = summarise_votes(QUESTIONS, fractions, concentrations, 17)
    for galaxy, answer, f, own in rows(fractions, concentrations):
        mean, std = oracle.moments(f, own)
        assert found.mean[galaxy, answer] == pytest.approx(mean, rel=1e-13)
        assert found.std[galaxy, answer] == pytest.approx(std, rel=1e-11)
        for level, name in zip(LEVELS, ("p05", "p50", "p95"), strict=True):
            there = getattr(found, name)[galaxy, answer]
            assert there == pytest.approx(oracle.quantile(f, own, level), abs=1e-7)
        assert (low[galaxy, answer], high[galaxy, answer]) == oracle.votes_interval(f, own, 17)


def test_quantiles_are_as_exact_as_is_asked_for(samples):
    fractions, concentrations = samples[0][..., 0], samples[1][..., 0]
    found = quantiles(fractions, concentrations, (0.01, 0.3, 0.999), close=1e-15)
    for f, own, three in zip(fractions, concentrations, found, strict=True):
        for level, there in zip((0.01, 0.3, 0.999), three, strict=True):
            assert there == pytest.approx(oracle.quantile(f, own, level), abs=1e-12)


def check_quantiles(fractions, concentrations):
    """Whether the chance passes each level within 1e-12 of the quantile, to 2e-7."""
    f, own = np.array(fractions), np.array(concentrations, float)
    for level, there in zip(LEVELS, quantiles(f[None], own[None])[0], strict=True):
        assert 0 <= there <= 1
        before, after = np.nextafter(there - 1e-12, -1), there + 1e-12
        assert oracle.distribution(f, own, before) <= level + 2e-7
        assert oracle.distribution(f, own, after) >= level - 2e-7


@pytest.mark.parametrize(("fractions", "concentrations"), EXTREMES)
def test_quantiles_of_extreme_mixtures(fractions, concentrations):
    check_quantiles(fractions, concentrations)


def test_quantiles_that_newton_would_creep_to_are_found_soon(monkeypatch):
    monkeypatch.setattr(mixture, "STEPS", 40)
    f = [0.164798991, 4.75209804e-05, 0.00378553288, 0.00221621742, 9.37581723e-05, 0.243069586]
    check_quantiles(f, [3.09214177, 2612.10299, 35.6569806, 23.5644515, 52088.7986, 0.00978778656])


def test_quantiles_of_points_are_exact():
    found = quantiles(np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]]), np.full((3, 2), 7.0))
    assert found.tolist() == [[0, 0, 0], [1, 1, 1], [0, 0, 1]]


def test_endless_concentrations_are_points():
    f = np.random.default_rng(0).uniform(0, 1, (4, 39))
    for own in (1e15, np.inf):
        found = quantiles(f, np.full(f.shape, own))
        order = np.sort(f, 1)
        for level, there in zip(LEVELS, found.T, strict=True):
            np.testing.assert_allclose(there, order[:, int(np.ceil(level * 39)) - 1], atol=1e-6)
        chances = count_chances(f, 12, np.full(f.shape, own))
        np.testing.assert_allclose(chances, count_chances(f, 12, None), rtol=1e-10, atol=1e-13)


def test_quantiles_see_that_samples_disagree():
    """The middle of the samples' own quantiles would not."""
    found = quantiles(np.array([[0.1, 0.9]]), np.full((1, 2), 1000.0))[0]
    assert found[0] < 0.1
    assert found[2] > 0.9


def test_quantiles_hold_the_share_that_they_say(samples):
    f, own = samples[0][0, :, 3], samples[1][0, :, 1]
    rng = np.random.default_rng(5)
    sample = rng.integers(len(f), size=20000)
    drawn = rng.beta(f[sample] * own[sample], (1 - f[sample]) * own[sample])
    for level, there in zip(LEVELS, quantiles(f[None], own[None])[0], strict=True):
        assert (drawn < there).mean() == pytest.approx(level, abs=0.01)
    mean, std = moments(f[None], own[None])
    assert drawn.mean() == pytest.approx(mean[0], abs=0.01)
    assert drawn.std() == pytest.approx(std[0], rel=0.03)


def test_the_distribution_is_that_of_the_plain_loops(samples):
    f, own = samples[0][:, :, 2], samples[1][:, :, 0]
    at = np.linspace(0.01, 0.9, len(f))
    expected = [oracle.distribution(*each) for each in zip(f, own, at, strict=True)]
    np.testing.assert_allclose(distribution(f, own, at), expected, rtol=1e-12)


@pytest.mark.parametrize("total", [0, 1, 40])
def test_chances_of_counts_are_those_of_the_plain_loops(samples, total):
    f, own = samples[0][:, :, 4].copy(), samples[1][:, :, 1]
    f[0], f[1, 0] = 0, 1
    for concentrations in (own, None):
        found = count_chances(f, total, concentrations)
        for row, each in enumerate(f):
            mine = None if concentrations is None else own[row]
            expected = [oracle.count_chance(each, mine, total, k) for k in range(total + 1)]
            np.testing.assert_allclose(found[row], expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("concentration", [50.0, 5000.0])
def test_chances_of_many_votes_are_right_in_bounded_memory(concentration):
    """Nobody's vote is too small a number to start from where volunteers scatter less."""
    f, own = np.full((1, 300), 0.7), np.full((1, 300), concentration)
    tracemalloc.start()
    try:
        chances = count_chances(f, 10_000, own)[0]
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    for count in (0, 1, 6900, 6990, 6991, 7100, 10_000):
        expected = oracle.count_chance(f[0, :1], own[0, :1], 10_000, count)
        assert chances[count] == pytest.approx(expected, rel=1e-8)
    assert chances.sum() == pytest.approx(1, rel=1e-9)


def test_scattered_volunteers_need_wider_intervals():
    f = np.full((1, 3), 0.5)
    tight, wide = (votes_interval(f, 40, own) for own in (None, np.full((1, 3), 3.0)))
    assert wide[0] < tight[0] - 5
    assert wide[1] > tight[1] + 5


def test_the_chance_to_be_asked_is_the_mean_over_samples_of_all_paths(samples):
    fractions = samples[0]
    found = mean_asked(QUESTIONS, LEADS, fractions)
    for galaxy, sampled in enumerate(fractions):
        for number, question in enumerate(QUESTIONS):
            expected = oracle.asked(QUESTIONS, LEADS, sampled, question)
            assert found[galaxy, number] == pytest.approx(expected, rel=1e-12)


def test_the_chance_to_be_asked_is_no_product_of_means():
    """One sample says featured and edge-on, the other neither: nobody gets to the bar."""
    fractions = np.full((1, 2, ANSWERS), 0.25)
    fractions[:, :, PLACES["smooth-or-featured"]] = [[0, 1, 0], [1, 0, 0]]
    fractions[:, :, PLACES["edge-on"]] = [[1, 0], [0, 1]]
    bar = list(QUESTIONS).index("bar")
    assert mean_asked(QUESTIONS, LEADS, fractions)[0, :3].tolist() == [1, 0.5, 0]
    assert chance_asked(QUESTIONS, LEADS, fractions.mean(1))[0, bar] == 0.25


def test_information_is_that_of_the_plain_loops(samples):
    found = information(QUESTIONS, samples[0])
    for number, (question, place) in enumerate(PLACES.items()):
        expected = [oracle.information(each) for each in samples[0][..., place]]
        np.testing.assert_allclose(found[:, number], expected, rtol=1e-10, err_msg=question)
    sure = np.repeat(samples[0][:, :1], 3, axis=1)
    np.testing.assert_allclose(information(QUESTIONS, sure), 0, atol=1e-15)
    assert (information(QUESTIONS, sure) >= 0).all()


def test_samples_that_exclude_each_other_tell_most():
    fractions = np.zeros((1, 2, ANSWERS))
    for place in PLACES.values():
        fractions[0, 0, place.start] = fractions[0, 1, place.start + 1] = 1
    np.testing.assert_allclose(information(QUESTIONS, fractions), np.log(2))


@pytest.mark.parametrize("known", [True, False])
def test_pieces_do_not_change_the_summary(samples, known, monkeypatch):
    fractions, concentrations = samples[0], samples[1] if known else None

    def everything():
        yield from summarise_fractions(QUESTIONS, fractions, concentrations)
        yield from summarise_votes(QUESTIONS, fractions, concentrations, 40)
        yield mean_asked(QUESTIONS, LEADS, fractions)
        yield information(QUESTIONS, fractions)

    whole = list(everything())
    monkeypatch.setattr(mixture, "CACHED", 200)
    for found, expected in zip(everything(), whole, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


def test_many_galaxies_are_summarised_in_bounded_memory():
    fractions, concentrations = drawn_samples(1500, 20, seed=1)
    fractions, concentrations = fractions.astype(np.float32), concentrations.astype(np.float32)
    tracemalloc.start()
    try:
        summarise_fractions(QUESTIONS, fractions, concentrations)
        summarise_votes(QUESTIONS, fractions, concentrations, 40)
        mean_asked(QUESTIONS, LEADS, fractions)
        assert tracemalloc.get_traced_memory()[1] < 80e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("a", [1e-280, 1e-3, 1.0, 24.9, 25.0, 1e3, 1e8, 1e15])
def test_rising_factorials_keep_their_digits(a):
    for k in (0, 1, 5, 40, 1000):
        expected = np.sum(np.log(a + np.arange(k)))
        assert log_rising(a, k) == pytest.approx(expected, rel=1e-13, abs=1e-14)
