"""The scale of concentrations: known ones are found, and what is best is never worse than nothing."""

import numpy as np
import pytest
from scipy.stats import betabinom

from shared.method import concentration_scale as module
from shared.method.concentration_scale import SCALES, best_scale, scaled
from shared.method.tree_metrics import question_nll


def drawn(scale, galaxies=1500, answers=3, seed=0, own=None):
    """Fractions and concentrations of 5 samples, and votes of one of them with concentrations times `scale`."""
    random = np.random.default_rng(seed)
    fractions = random.dirichlet(np.full(answers, 40.0), (galaxies, 5)) ** 0.5
    fractions /= fractions.sum(-1, keepdims=True)
    concentrations = random.uniform(5, 30, (galaxies, 5)) if own is None else own
    sample = random.integers(5, size=galaxies)
    each = np.arange(galaxies)
    alpha = fractions[each, sample] * (
        scale * np.broadcast_to(concentrations, (galaxies, 5))[each, sample]
    ).reshape(-1, 1)
    shares = np.array([random.dirichlet(one) for one in alpha])
    votes = random.multinomial(random.integers(0, 60, galaxies), shares)
    return fractions, concentrations, votes


def check_recovered(scale):
    """That the scale of 1,500 galaxies is within 15 %, five times its standard error or so."""
    fractions, concentrations, votes = drawn(scale)
    assert best_scale(fractions, concentrations, votes) == pytest.approx(scale, rel=0.15)


@pytest.mark.parametrize("scale", [0.2, 1.0, 4.0])
def test_a_known_scale_is_found(scale):
    check_recovered(scale)


@pytest.mark.parametrize("answers", [2, 4])
def test_volunteers_who_scatter_about_a_binomial_are_found(answers):
    fractions, _, votes = drawn(1.0, answers=answers, own=12.0)
    assert best_scale(fractions, None, votes) == pytest.approx(12, rel=0.15)


def test_independent_votes_need_next_to_none():
    fractions, _, votes = drawn(1.0, answers=2, own=1e12)
    assert best_scale(fractions, None, votes) > 300


def test_it_is_the_beta_binomial_of_scale_and_rho():
    rho, votes = np.array([[0.2, 0.7]]), np.array([[7, 3]])
    fractions = np.stack([1 - rho, rho], -1)
    found = question_nll(fractions, scaled(fractions, None, 6.5), votes)
    wanted = betabinom.pmf(3, 10, 6.5 * rho, 6.5 * (1 - rho)).mean()
    assert found[0] == pytest.approx(-np.log(wanted), rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_it_is_never_worse_on_validation_galaxies_than_none(seed):
    for known in (True, False):
        fractions, concentrations, votes = drawn(1.0, galaxies=8, seed=seed)
        own = concentrations if known else None
        scale = best_scale(fractions, own, votes)
        before, after = (
            question_nll(fractions, some, votes).mean()
            for some in (own, scaled(fractions, own, scale))
        )
        assert after <= before


def test_what_cannot_be_told_is_left_as_it_is():
    fractions, concentrations, votes = drawn(1.0, galaxies=5)
    assert best_scale(fractions, concentrations, 0 * votes) == 1
    assert best_scale(fractions, None, 0 * votes) == np.inf
    single = np.eye(3, dtype=int)[[0, 1, 2, 1, 0]]  # one vote says nothing of scatter
    assert best_scale(fractions, concentrations, single) == 1
    assert scaled(fractions, None, np.inf) is None


def test_galaxies_without_votes_play_no_part():
    fractions, concentrations, votes = drawn(0.5, galaxies=200)
    some = votes.sum(1) > 0
    wanted = best_scale(fractions[some], concentrations[some], votes[some])
    assert best_scale(fractions, concentrations, votes) == wanted


def test_the_least_of_several_is_found():
    """A few galaxies on which all agree and many on which nobody does: of any scale in between is worse at either."""
    fractions = np.full((40, 1, 2), 0.5)
    votes = np.array([[20, 20]] * 36 + [[40, 0]] * 4)
    scale = best_scale(fractions, None, votes)
    grid = np.exp(np.linspace(*np.log(SCALES), 400))
    least = min(question_nll(fractions, scaled(fractions, None, one), votes).mean() for one in grid)
    found = question_nll(fractions, scaled(fractions, None, scale), votes).mean()
    assert found <= least + 1e-6


def test_the_check_sees_mistakes(monkeypatch):
    for mistake in (
        lambda fractions, concentrations, scale: concentrations / scale,
        lambda fractions, concentrations, scale: concentrations + scale,
        lambda fractions, concentrations, scale: np.full(fractions.shape[:2], scale),
    ):
        monkeypatch.setattr(module, "scaled", mistake)
        with pytest.raises(AssertionError):
            check_recovered(0.2)
