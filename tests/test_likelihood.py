"""The likelihoods of votes: formulas against scipy's distributions, gradients against differences, and their edges."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from conf.compose import compose
from shared.method.likelihood import (
    YES_OR_NO,
    Likelihood,
    concentrations,
    fractions,
    likelihood_of,
    positive_fraction,
    positive_share,
    ranks,
)
from shared.method.metrics import log_scores
from shared.proof import likelihood as formulas
from shared.proof.checks import on_two_questions
from shared.proof.likelihood import TWO, votes_nll, votes_nll_gradient
from shared.run.spec import RunSpec, from_config

FORMS = [*formulas.FORMS.values()]
NAMES = ["multinomial", "exp", "sigmoid"]


def run(*overrides: str) -> RunSpec:
    return from_config(RunSpec, compose(["task=fit", *overrides]))


@pytest.fixture(scope="module")
def usual():
    logits, votes = on_two_questions()
    return logits[:60], votes[:60]


def ways(counts):
    """ln of the multinomial coefficient."""
    return stats.multinomial.logpmf(counts, counts.sum(), np.ones(len(counts)) / len(counts)) + (
        counts.sum() * np.log(len(counts))
    )


@pytest.mark.parametrize("form", FORMS, ids=NAMES)
def test_it_is_the_distribution_of_its_name_without_the_coefficient(form, usual):
    logits, votes = usual
    means, totals = fractions(form, logits), concentrations(form, logits)
    wanted = np.zeros(len(votes))
    for number, at in enumerate(form.slices):
        for galaxy, counts in enumerate(votes[:, at]):
            share = means[galaxy, at]
            if form.name == "multinomial":
                log = stats.multinomial.logpmf(counts, counts.sum(), share / share.sum())
            else:
                alpha = share * totals[galaxy, number]
                log = stats.dirichlet_multinomial.logpmf(
                    counts.astype(int), alpha, int(counts.sum())
                )
            wanted[galaxy] -= log - ways(counts)
    np.testing.assert_allclose(votes_nll(form, logits, votes), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", [YES_OR_NO, *FORMS], ids=["binomial", *NAMES])
def test_gradients_are_those_of_small_differences(form, usual):
    logits, votes = usual
    if form is YES_OR_NO:
        logits, votes = logits[:, 3:], votes[:, 3:]
    found = votes_nll_gradient(form, logits, votes)
    for answer in range(logits.shape[1]):
        step = np.zeros_like(logits)
        step[:, answer] = 1e-5
        up, down = (votes_nll(form, logits + sign * step, votes) for sign in (1, -1))
        np.testing.assert_allclose(found[:, answer], (up - down) / 2e-5, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", FORMS, ids=NAMES)
def test_a_galaxy_that_was_not_asked_adds_nothing_and_pulls_at_nothing(form, usual):
    logits, votes = usual
    none = np.zeros_like(votes)
    assert (votes_nll(form, logits, none) == 0).all()
    assert (votes_nll_gradient(form, logits, none) == 0).all()


def test_questions_add_up():
    logits, votes = on_two_questions()
    first = Likelihood(*TWO[:2], TWO.questions[:1])
    second = Likelihood(*TWO[:2], TWO.questions[1:])
    apart = votes_nll(first, logits[:, :3], votes[:, :3])
    apart = apart + votes_nll(second, logits[:, 3:], votes[:, 3:])
    np.testing.assert_allclose(votes_nll(TWO, logits, votes), apart, rtol=1e-13)


def test_two_answers_are_the_binomial_and_the_beta_binomial():
    random = np.random.default_rng(3)
    logits, votes = random.normal(0, 2, (30, 2)), random.integers(0, 30, (30, 2)).astype(float)
    many = YES_OR_NO._replace(name="multinomial")
    both = [votes_nll(form, logits, votes) for form in (YES_OR_NO, many)]
    np.testing.assert_allclose(*both, rtol=1e-13)
    beta = votes_nll(YES_OR_NO._replace(name="dirichlet_multinomial"), logits, votes)
    no, yes = votes.astype(int).T
    logs = stats.betabinom.logpmf(yes, no + yes, *np.exp(logits[:, ::-1].T))
    plain = stats.binom.logpmf(yes, no + yes, 0.5) + (no + yes) * np.log(2)  # the coefficient
    np.testing.assert_allclose(beta, plain - logs, rtol=1e-9)


def test_huge_concentrations_are_independent_votes(usual):
    logits, votes = usual
    np.testing.assert_allclose(
        votes_nll(TWO, logits + 40, votes),
        votes_nll(TWO._replace(name="multinomial"), logits, votes),
        rtol=1e-12,
    )
    assert np.isfinite(votes_nll(TWO, logits * 200, votes)).all()


@pytest.mark.parametrize("form", [YES_OR_NO, *FORMS], ids=["binomial", *NAMES])
def test_fractions_of_a_question_sum_to_one(form):
    logits = np.random.default_rng(1).normal(0, 300, (5, 7, form.slices[-1].stop))
    found = fractions(form, logits.astype(np.float32))
    assert found.shape == logits.shape
    assert ((found >= 0) & (found <= 1)).all()
    for at in form.slices:
        np.testing.assert_allclose(found[..., at].sum(-1), 1, rtol=1e-12)


def test_concentrations_are_those_of_each_question(usual):
    logits, _ = usual
    assert concentrations(TWO._replace(name="multinomial"), logits) is None
    found = concentrations(TWO, logits)
    np.testing.assert_allclose(found[:, 1], np.exp(logits[:, 3:]).sum(-1), rtol=1e-14)
    bounded = concentrations(TWO._replace(concentrations="sigmoid"), logits * 100)
    assert ((bounded[:, 0] >= 3) & (bounded[:, 0] <= 303)).all()


def test_ranks_reach_the_most_votes_and_change_seldom():
    assert ranks(TWO, np.zeros((0, 5))).tolist() == [0]
    assert ranks(TWO, np.array([[3, 5]])).tolist() == list(range(8))
    assert len(ranks(TWO, np.array([[8, 0]]))) == 8
    assert len(ranks(TWO, np.array([[9, 0]]))) == 16
    assert ranks(YES_OR_NO, np.array([[40, 40]])).tolist() == [0]


def test_a_run_says_what_it_learns():
    one = run("question=bar", "positive=[strong,weak]")
    assert likelihood_of(one).name == "dirichlet_multinomial"  # of two answers a beta-binomial
    assert likelihood_of(run("mode=corrected")).name == "binomial"
    assert one.model.answers == 2
    assert one.asked == (("bar", (("no",), ("strong", "weak"))),)
    whole = run("questions=all")
    assert likelihood_of(whole).name == "dirichlet_multinomial"
    assert whole.model.answers == 10
    some = run("questions=[bar,smooth-or-featured]", "likelihood=multinomial")
    assert [question for question, _ in some.asked] == ["smooth-or-featured", "bar"]
    assert likelihood_of(some).name == "multinomial"
    assert some.model.answers == 6
    assert len(likelihood_of(whole).slices) == 4
    assert likelihood_of(whole).slices[3] == slice(8, 10)


def test_rho_is_the_fraction_of_the_positive_answers():
    whole = run("questions=all", "question=bar", "positive=[strong,weak]")
    logits = np.random.default_rng(0).normal(0, 1, (4, 3, 10)).astype(np.float32)
    share = np.exp(logits[..., 5:8])
    wanted = share[..., :2].sum(-1) / share.sum(-1)
    np.testing.assert_allclose(positive_fraction(whole, logits), wanted, rtol=1e-6)
    one = run("question=bar", "positive=[strong,weak]")
    two = logits[..., :2]
    np.testing.assert_allclose(
        positive_fraction(one, two), 1 / (1 + np.exp(two[..., 0] - two[..., 1])), rtol=1e-6
    )


def test_what_is_next_to_impossible_is_not_made_impossible():
    """A logit of 17 is a rho of 1 in float32, and 39 of 40 votes an infinite loss; it is 13.3 nats."""
    logits = np.array([[[0, 17]]], np.float32)
    for words in (["mode=corrected"], []):
        rho = positive_fraction(run(*words), logits)
        assert 1 - rho.item() == pytest.approx(np.exp(-17), rel=1e-6)
    score = log_scores(rho, np.array([39]), np.array([40]))
    np.testing.assert_allclose(score, 17 - np.log(40), rtol=1e-5)
    shares = np.float32([[[np.exp(-17), 1]]])  # as they are kept
    assert 1 - positive_share(run(), shares).item() == pytest.approx(np.exp(-17), rel=1e-6)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["questions=[bars]"], "the nearest is 'bar'"),
        (["questions=[bar]"], "set question and positive"),
        (["questions=all", "likelihood=binomial"], "choose multinomial or dirichlet_multinomial"),
        (["questions=all", "model.answers=2"], "have 10 answers"),
        (["likelihood.concentrations=log"], "choose one of exp, sigmoid"),
        (["likelihood=gaussian"], "no likelihood gaussian"),
    ],
)
def test_what_cannot_be_learned_is_refused(overrides, words):
    with pytest.raises(ValueError, match=words):
        run(*overrides)


def test_all_votes_are_revealed_of_whole_questions():
    whole = run("questions=all")
    with pytest.raises(ValueError, match="all votes are revealed"):
        replace(whole, oracle=replace(whole.oracle, votes=5))
