import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta

from shared.data.schema import slices
from shared.method.mixture import mean_asked
from shared.method.tree_metrics import (
    accuracies,
    asked_by_votes,
    counts_calibration,
    equal_volunteers,
    evaluate_tree,
    fraction_errors,
    fractions_coverage,
    pit_uniforms,
    question_nll,
    volunteers_errors,
)
from shared.proof import mixture as oracle
from shared.run.keys import galaxy_hash
from shared.run.records import plain
from tests.surveys import dataset
from tests.trees import (
    ANSWERS,
    LEADS,
    PLACES,
    QUESTIONS,
    drawn_samples,
    drawn_truth,
    drawn_votes,
)

GALAXIES = 1500
REAL = Path(os.environ.get("TRIZOO_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
needs_real_data = pytest.mark.skipif(
    not REAL.is_dir(), reason="no real data: set TRIZOO_REAL_DATA to their folder"
)


def uniforms(galaxies):
    return pit_uniforms(0, galaxy_hash(map(str, range(galaxies))), ANSWERS)


def honest(known, seed=0, samples=10):
    """Samples of a posterior, true fractions of the mixture, and votes."""
    fractions, concentrations = drawn_samples(GALAXIES, samples, seed)
    concentrations = concentrations if known else None
    true = drawn_truth(fractions, concentrations, seed + 1)
    return fractions, concentrations, true, drawn_votes(true, 45, seed + 2)


def measured(fractions, concentrations, true, votes):
    given = uniforms(len(votes))
    return evaluate_tree(QUESTIONS, LEADS, fractions, concentrations, votes, given, true)


@pytest.fixture(scope="module", params=[True, False])
def told(request):
    return measured(*honest(request.param))


@pytest.mark.parametrize("known", [True, False])
def test_the_nll_is_that_of_an_urn(known):
    fractions, concentrations = drawn_samples(4, 6, seed=3)
    votes = drawn_votes(drawn_truth(fractions, concentrations, 4), 20, 5)
    votes[0, PLACES["bar"]] = 0
    for number, place in enumerate(PLACES.values()):
        own = concentrations[..., number] if known else None
        found = question_nll(fractions[..., place], own, votes[:, place])
        for galaxy, counts in enumerate(votes[:, place]):
            each = None if own is None else own[galaxy]
            expected = oracle.question_nll(fractions[galaxy, :, place], each, counts)
            assert found[galaxy] == pytest.approx(expected, rel=1e-11, abs=1e-12)
    bar = list(QUESTIONS).index("bar")
    own = concentrations[..., bar] if known else None
    found = question_nll(fractions[..., PLACES["bar"]], own, votes[:, PLACES["bar"]])
    assert found[0] == pytest.approx(0, abs=1e-13)


def test_endless_concentrations_are_a_multinomial():
    fractions, _ = drawn_samples(5, 6, seed=3)
    fractions = fractions[..., PLACES["merging"]]
    votes = np.random.default_rng(0).multinomial(30, fractions[:, 0])
    expected = question_nll(fractions, None, votes)
    found = question_nll(fractions, np.full((5, 6), np.inf), votes)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_the_whole_is_told_of_questions_and_answers_by_name(told):
    assert told["galaxies"] == GALAXIES
    assert list(told["questions"]) == list(QUESTIONS)
    for question, answers in QUESTIONS.items():
        assert list(told["questions"][question]["answers"]) == list(answers)
    asked = {q: told["questions"][q]["galaxies"] for q in QUESTIONS}
    total = sum(told["questions"][q]["nll"] * asked[q] for q in QUESTIONS) / GALAXIES
    assert told["nll"] == pytest.approx(total)
    assert told["votes"] == sum(told["questions"][q]["votes"] for q in QUESTIONS)
    json.dumps(plain(told), allow_nan=False)


def test_an_honest_posterior_is_found_honest(told):
    values = []
    for question in told["questions"].values():
        for answer in question["answers"].values():
            values.append(answer["pit"]["p_value"])
            covered = answer["votes_coverage"]
            assert covered["expected"] >= 0.9
            assert covered["observed"] == pytest.approx(covered["expected"], abs=0.025)
    assert min(values) > 0.05 / ANSWERS / 5
    assert np.median(values) > 0.1


@pytest.mark.parametrize("known", [True, False])
def test_honest_intervals_cover_true_fractions(known):
    """Between samples, the truth is one more sample, and none of those."""
    fractions, concentrations, true, votes = honest(known, samples=20)
    if not known:
        fractions, true = fractions[:, 1:], fractions[:, 0]
    for question in measured(fractions, concentrations, true, votes)["questions"].values():
        truth = question["truth"]
        assert truth["expected"] == pytest.approx(0.9, abs=1e-9)
        for share in (truth["observed"], truth["asked"], *truth["answers"]):
            assert share == pytest.approx(0.9, abs=0.03)


def test_the_asked_share_is_foretold(told):
    for question in told["questions"].values():
        assert question["asked"]["predicted"] == pytest.approx(
            question["asked"]["observed"], abs=0.015
        )


def test_volunteers_who_scatter_more_than_a_multinomial_are_noticed():
    fractions, _, true, votes = honest(True)
    worse = measured(fractions, None, true, votes)["questions"]
    better = measured(*honest(True))["questions"]
    values = []
    for question in QUESTIONS:
        assert worse[question]["nll"] > better[question]["nll"] + 0.1
        for answer in worse[question]["answers"].values():
            covered = answer["votes_coverage"]
            assert covered["observed"] < covered["expected"] - 0.03
            values.append(answer["pit"]["p_value"])
    assert np.median(values) < 1e-4


def test_a_posterior_that_is_too_sure_covers_less():
    fractions, concentrations, true, _ = honest(True)
    place, everybody = PLACES["bar"], np.full(GALAXIES, True)
    own = concentrations[..., list(QUESTIONS).index("bar")]
    right = fractions_coverage(fractions[..., place], own, true[:, place], everybody)
    sure = fractions_coverage(fractions[..., place], 10 * own, true[:, place], everybody)
    assert sure["observed"] < right["observed"] - 0.1
    assert right["observed"] == right["asked"]


def test_the_pit_of_one_galaxy_is_between_the_chances_of_fewer_and_of_no_more():
    fractions, concentrations = drawn_samples(3, 4, seed=9)
    f, own = fractions[..., 0], concentrations[..., 0]
    yes, total, u = np.array([0, 7, 3]), np.array([0, 7, 11]), np.array([0.5, 0.25, 0.75])
    for known in (own, None):
        values, inside, chance = counts_calibration(f, known, yes, total, u)
        assert len(values) == len(inside) == len(chance) == 2
        for place, galaxy in enumerate((1, 2)):
            each = None if known is None else own[galaxy]
            n, k = int(total[galaxy]), int(yes[galaxy])
            chances = [oracle.count_chance(f[galaxy], each, n, c) for c in range(n + 1)]
            assert values[place] == pytest.approx(sum(chances[:k]) + u[galaxy] * chances[k])
            low, high = oracle.votes_interval(f[galaxy], each, n)
            assert inside[place] == (low <= k <= high)
            assert chance[place] == pytest.approx(sum(chances[low : high + 1]))


def test_intervals_of_votes_hold_their_ends():
    fractions, concentrations = drawn_samples(1, 4, seed=9)
    f, own = np.repeat(fractions[..., 1], 12, 0), np.repeat(concentrations[..., 0], 12, 0)
    _, inside, _ = counts_calibration(f, own, np.arange(12), np.full(12, 11), np.zeros(12))
    low, high = oracle.votes_interval(f[0], own[0], 11)
    assert 0 < low < high < 11
    assert inside.tolist() == [low <= k <= high for k in range(12)]


def test_each_question_is_measured_by_its_own_arrays():
    fractions, concentrations = drawn_samples(80, 4, seed=2)
    true = drawn_truth(fractions, concentrations, 3)
    votes = drawn_votes(true, 45, 4)
    told = measured(fractions, concentrations, true, votes)["questions"]
    asked = mean_asked(QUESTIONS, LEADS, fractions)
    for number, (question, place) in enumerate(PLACES.items()):
        some, own, given = fractions[..., place], concentrations[..., number], votes[:, place]
        nll = question_nll(some, own, given)[given.sum(1) > 0].mean()
        assert told[question]["nll"] == pytest.approx(nll)
        likely = asked[:, number] >= 0.5
        expected = fractions_coverage(some, own, true[:, place], likely)
        assert told[question]["truth"] == expected
        assert likely.all() == (number == 0)
        assert expected["asked"] != expected["observed"] or likely.all()


def test_draws_of_a_pit_are_of_seed_galaxy_and_answer():
    hashes = galaxy_hash(["a", "b", "c"])
    found = pit_uniforms(3, hashes, 5)
    assert found.shape == (3, 5)
    np.testing.assert_array_equal(pit_uniforms(3, hashes[::-1], 5), found[::-1])
    assert (pit_uniforms(4, hashes, 5) != found).all()
    assert len(np.unique(found)) == 15


def test_accuracy_is_of_galaxies_that_enough_were_asked_about():
    votes = np.array(
        [[17, 0], [20, 14], [16, 0], [17, 0], [17, 17], [30, 4], [3, 33], [0, 0]]
    )  # right and sure, right, few asked, few volunteers, a tie, right and sure, wrong and sure, none
    first = np.array([34, 34, 34, 33, 34, 34, 40, 0])
    middle = np.tile([0.6, 0.4], (8, 1))
    told = accuracies(middle, votes, first)["accuracy"]
    assert told["all"] == {"galaxies": 4, "accuracy": 3 / 4}
    assert told["confident"] == {"galaxies": 3, "accuracy": 2 / 3}
    exactly = accuracies(middle[:1], np.array([[32, 8]]), np.array([40]))["accuracy"]
    assert exactly["confident"]["galaxies"] == 0  # a fraction of 0.8 is not above it
    assert np.isnan(exactly["confident"]["accuracy"])


def test_errors_of_fractions_by_hand():
    votes = np.array([[3, 1], [0, 0], [0, 5]])
    middle = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
    np.testing.assert_allclose(fraction_errors(middle, votes), [(0.25 + 0.2) / 2] * 2)
    assert np.isnan(fraction_errors(middle[1:2], votes[1:2])).all()


def test_errors_of_volunteers_by_hand():
    """Of two yes and two no, halves of two: 2 and 0 yes or 0 and 2, each one draw of six, or 1 and 1."""
    found = volunteers_errors(np.array([[2, 2], [1, 0], [0, 0]]))
    np.testing.assert_allclose(found, [1 / 3 / 2**0.5] * 2)
    assert np.isnan(volunteers_errors(np.array([[1, 0]]))).all()


def test_errors_of_volunteers_are_those_of_two_groups_of_them():
    rng = np.random.default_rng(1)
    true = rng.dirichlet([1, 2, 2], 3000)
    one, other = (rng.multinomial(40, true) for _ in range(2))
    expected = np.abs(one - other).mean(0) / 40
    np.testing.assert_allclose(volunteers_errors(one), expected, rtol=0.04)


@pytest.mark.parametrize("count", [3, 10])
def test_a_network_as_good_as_so_many_volunteers_is_found_to_be(count):
    rng = np.random.default_rng(count)
    true = rng.dirichlet([1, 2, 2], 3000)
    votes = rng.multinomial(rng.integers(50, 70, 3000), true)
    theirs = rng.multinomial(count, true) / count
    found = equal_volunteers(theirs, votes)
    assert found["galaxies"] == 3000
    assert found["volunteers"] == pytest.approx(count, rel=0.12)
    noise = np.abs(theirs - votes / votes.sum(1, keepdims=True)).mean()
    assert found["mae"] == pytest.approx(noise, rel=0.05)


def test_networks_beyond_what_is_tried_are_at_its_ends():
    rng = np.random.default_rng(0)
    true = rng.dirichlet([1, 2], 500)
    votes = rng.multinomial(50, true)
    assert equal_volunteers(true, votes)["volunteers"] == 20
    assert equal_volunteers(1 - true, votes)["volunteers"] == 1
    assert equal_volunteers(true[:1], votes[:1] // 2) is None


def test_coverage_of_one_galaxy_by_its_beta():
    f, own = np.full((2, 3, 2), 0.5), np.full((2, 3), 10.0)
    low, high = beta.ppf([0.05, 0.95], 5, 5)
    true = np.array([[low + 1e-6, 1 - low - 1e-6], [high + 1e-6, 1 - high - 1e-6]])
    found = fractions_coverage(f, own, true, np.array([True, False]))
    assert found == {"expected": 0.9, "observed": 0.5, "asked": 1.0, "answers": [0.5, 0.5]}


def test_asked_by_votes_is_the_share_of_volunteers_who_got_there():
    fractions, concentrations = drawn_samples(50, 2, seed=6)
    votes = drawn_votes(drawn_truth(fractions, concentrations, 7), 30, 8)
    found = asked_by_votes(QUESTIONS, LEADS, votes)
    for number, place in enumerate(PLACES.values()):
        np.testing.assert_allclose(found[:, number], votes[:, place].sum(1) / 30, atol=1e-12)


def test_arrays_must_belong_together():
    fractions, concentrations = drawn_samples(3, 2, seed=0)
    votes, given = np.zeros((3, ANSWERS), int), uniforms(3)
    with pytest.raises(ValueError, match="votes are"):
        evaluate_tree(QUESTIONS, LEADS, fractions, concentrations, votes[:, 1:], given)
    with pytest.raises(ValueError, match="concentrations are"):
        evaluate_tree(QUESTIONS, LEADS, fractions, concentrations[:2], votes, given)
    with pytest.raises(ValueError, match="galaxy 0 has a number of votes below 0"):
        evaluate_tree(QUESTIONS, LEADS, fractions, concentrations, votes - 1, given)
    nothing = evaluate_tree(QUESTIONS, LEADS, fractions, concentrations, votes, given)
    assert nothing["votes"] == nothing["nll"] == 0
    assert nothing["questions"]["bar"]["truth"] is None
    assert np.isnan(nothing["questions"]["bar"]["nll"])


@needs_real_data
def test_asked_by_the_votes_of_gz_decals_is_the_ratio_of_published_totals():
    survey = dataset("gz_decals5")
    table = pd.read_csv(REAL / "gz_decals" / "all_questions_counts.csv")
    names = [f"{q}_{answer}" for q, answers in survey.questions.items() for answer in answers]
    votes = table[names].to_numpy(int)
    totals = table[[f"{q}_total-votes" for q in survey.questions]].to_numpy()
    assert len(table) == 2585
    found = asked_by_votes(survey.questions, survey.leads, votes)
    np.testing.assert_allclose(found, totals / totals[:, :1], atol=1e-12)


@needs_real_data
def test_asked_by_the_votes_of_stripe_82_is_the_ratio_of_its_totals():
    """To rounding of all but some galaxies in a hundred, where a volunteer's answer to one question is not counted."""
    survey = dataset("gz2")
    table = pd.read_csv(REAL / "gz2_stripe82" / "table5_first8000.csv.gz")
    names = []
    for question in survey.questions:
        own, *theirs = survey.columns.names[question]
        names += [f"{own}_{answer}_count" for answer in theirs]
    votes = table[names].to_numpy(int)
    found = asked_by_votes(survey.questions, survey.leads, votes)
    for number, place in enumerate(slices(survey.questions).values()):
        ratio = votes[:, place].sum(1) / table["total_classifications"]
        known = ~np.isnan(found[:, number])
        off = np.abs(found[known, number] - ratio[known])
        assert known.sum() >= 7990
        assert (off < 1e-12).mean() > 0.95
        assert off.max() < 0.2
        assert off.mean() < 0.003
