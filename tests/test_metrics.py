import tracemalloc
from math import comb, log

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import betabinom, binom

from shared.method import metrics
from shared.method.metrics import (
    DEVIATIONS,
    accuracy,
    auc,
    confusion,
    coverage,
    evaluate,
    fraction_coverage,
    log_score,
    log_scores,
    loss,
    mae,
    rmse,
    truth_rmse,
    vote_chances,
)
from shared.run.spec import MOST_VOTES

SAMPLES = np.array([[0.2, 0.4], [0.9, 0.7], [0.0, 1.0], [0.5, 0.6]])
YES, TOTAL = np.array([1, 4, 2, 0]), np.array([5, 5, 2, 0])


def drawn(galaxies, spread, seed=0):
    """Samples around each galaxy's centre, and votes drawn with a chance of the same law."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0.2, 0.8, (galaxies, 1))
    probabilities = np.clip(centre + spread * rng.standard_normal((galaxies, 101)), 0, 1)
    total = rng.integers(20, 60, galaxies)
    return probabilities[:, 1:], rng.binomial(total, probabilities[:, 0]), total


def test_errors_of_the_vote_fraction_by_hand():
    differences = np.array([0.3 - 0.2, 0.8 - 0.8, 0.5 - 1.0])  # the fourth galaxy has no votes
    assert rmse(SAMPLES, YES, TOTAL) == pytest.approx(np.sqrt((differences**2).mean()))
    assert mae(SAMPLES, YES, TOTAL) == pytest.approx(np.abs(differences).mean())
    assert truth_rmse(SAMPLES, np.array([0.3, 0.8, 0.5, 0.05])) == pytest.approx(0.25)


def test_a_single_vote_counts():
    one = (np.array([[0.25], [0.5]]), np.array([1, 0]), np.array([1, 1]))
    assert mae(*one) == pytest.approx((0.75 + 0.5) / 2)
    assert log_score(*one) == pytest.approx(-(log(0.25) + log(0.5)) / 2)
    assert accuracy(*one) == 0.5


def test_loss_by_hand():
    rho = [0.3, 0.8, 0.5]
    terms = [
        -(k * log(p + 1e-8) + (n - k) * log(1 - p + 1e-8))
        for k, n, p in zip(YES, TOTAL, rho, strict=False)
    ]
    assert loss(SAMPLES, YES, TOTAL) == pytest.approx(sum(terms) / 3)
    assert loss(np.array([[0.0]]), np.array([1]), np.array([1])) == pytest.approx(-log(1e-8))


def test_log_score_is_that_of_scipys_mixture():
    samples, yes, total = drawn(50, 0.1)
    probabilities = binom.pmf(yes[:, None], total[:, None], samples).mean(1)
    assert log_score(samples, yes, total) == pytest.approx(-np.log(probabilities).mean(), rel=1e-12)


def test_log_score_at_the_edges():
    one = np.array([[1.0]])
    assert log_score(one, np.array([7]), np.array([7])) == 0
    assert log_score(1 - one, np.array([0]), np.array([7])) == 0
    assert log_score(1 - one, np.array([1]), np.array([7])) == np.inf
    half = -log(comb(4, 1) / 2**4)  # one sample explains the votes, the other cannot
    both = log_score(np.array([[0.5, 0.0]]), np.array([1]), np.array([4]))
    assert both == pytest.approx(half + log(2))
    tiny = log_score(np.array([[1e-300]]), np.array([400]), np.array([400]))
    assert tiny == pytest.approx(-400 * log(1e-300))


@pytest.mark.parametrize("elements", [1, 50, 10**6])
def test_pieces_do_not_change_a_result(monkeypatch, elements):
    samples, yes, total = drawn(23, 0.1)
    score, table = log_score(samples, yes, total), coverage(samples, yes, total)
    monkeypatch.setattr(metrics, "ELEMENTS", elements)
    assert log_score(samples, yes, total) == score
    np.testing.assert_allclose(coverage(samples, yes, total), table, rtol=1e-12, atol=1e-12)


def test_vote_chances_are_scipys_and_nothing_beyond_the_total():
    samples = np.array([[0.3, 0.0, 1.0, 1e-9], [0.5, 0.25, 0.125, 1.0], [0.1, 0.2, 0.3, 0.4]])
    total = np.array([7, 12, 0])
    expected = binom.pmf(np.arange(13), total[:, None, None], samples[:, :, None]).mean(1)
    probabilities = vote_chances(samples, total, np.arange(13))
    np.testing.assert_allclose(probabilities, expected, rtol=1e-12, atol=1e-300)
    assert (probabilities[0, 8:] == 0).all()
    assert probabilities[2, 0] == 1


def test_auc_counts_pairs_and_halves_ties():
    samples = np.array([[0.1], [0.4], [0.4], [0.9], [0.9], [0.3], [0.99]])
    yes, total = np.array([0, 1, 3, 4, 1, 3, 2]), np.full(7, 4)  # the last galaxy's votes are even
    true, rho = yes[:6] > 2, samples[:6, 0]
    wins = [float(p > q) + (p == q) / 2 for p in rho[true] for q in rho[~true]]
    assert auc(samples, yes, total) == pytest.approx(sum(wins) / len(wins))
    assert 0.5 < auc(samples, yes, total) < 1
    assert auc(np.full((7, 2), 0.3), yes, total) == 0.5


def test_auc_needs_both_kinds():
    assert auc(np.array([[0.3], [0.6]]), np.array([4, 3]), np.array([4, 4])) is None
    assert auc(np.array([[0.3], [0.6]]), np.array([4, 2]), np.array([4, 4])) is None


def test_confusion_and_accuracy_leave_even_votes_out():
    samples = np.array([[0.1], [0.9], [0.2], [0.8], [0.7], [0.5], [0.9], [0.9]])
    yes, total = np.array([0, 1, 3, 4, 4, 4, 2, 0]), np.array([4, 4, 4, 4, 4, 4, 4, 0])
    assert confusion(samples, yes, total) == [[1, 1], [2, 2]]  # exactly 1/2 says no
    assert accuracy(samples, yes, total) == pytest.approx(3 / 6)


def test_coverage_by_brute_force():
    samples, yes, total = drawn(9, 0.15)
    table = coverage(samples, yes, total)
    assert [row[0] for row in table] == list(range(total.max() + 1))
    for width in (0, 1, 5, 30):
        predicted, observed = 0.0, 0
        for rho, k, n in zip(samples, yes, total, strict=True):
            probabilities = [np.mean(binom.pmf(count, n, rho)) for count in range(n + 1)]
            middle = int(sum(count * chance for count, chance in enumerate(probabilities)))
            near = [count for count in range(n + 1) if abs(count - middle) <= width]
            predicted += sum(probabilities[count] for count in near)
            observed += k in near
        error = abs(predicted - observed) / observed if observed else np.nan
        assert table[width][1:3] == pytest.approx([predicted, observed])
        assert table[width][3] == pytest.approx(error, nan_ok=True)


def check_fractions(measure):
    """That `measure` is W+20's coverage within a share of each galaxy's own votes, by brute force."""
    samples, yes, total = drawn(9, 0.15)
    assert len({*total.tolist()}) > 1
    rows = {row[0]: row[1:] for row in measure(samples, yes, total)}
    assert tuple(rows) == DEVIATIONS
    for deviation, (predicted, observed, _) in rows.items():
        found = np.zeros(2)
        for rho, k, n in zip(samples, yes, total, strict=True):
            middle = int(n * np.mean(rho) + 1e-9)
            near = [
                count for count in range(n + 1) if abs(count - middle) <= int(deviation * n + 1e-9)
            ]
            found += sum(np.mean(binom.pmf(count, n, rho)) for count in near), k in near
        assert (predicted, observed) == pytest.approx(found)


def at_the_mean_number_of_votes(samples, yes, total):
    """The mistake of one width in votes for all galaxies."""
    table = coverage(samples, yes, total)
    return [[d, *table[int(d * total.mean())][1:]] for d in DEVIATIONS]


def test_coverage_of_fractions_is_at_each_galaxys_own_number_of_votes():
    check_fractions(fraction_coverage)
    with pytest.raises(AssertionError):
        check_fractions(at_the_mean_number_of_votes)


@pytest.mark.parametrize("votes", [1, 40, 1000, MOST_VOTES, 2**24, 2**31 - 1])
def test_any_number_of_votes_is_measured_in_bounded_memory(votes):
    samples = np.array([[0.2, 0.4, 0.31], [0.5, 0.50001, 0.4999], [0.0, 1.0, 0.0], [1e-6, 0, 0]])
    yes, total = np.array([votes // 3, votes // 2, 0, 1]), np.full(4, votes)
    tracemalloc.start()
    try:
        table, score = coverage(samples, yes, total), log_score(samples, yes, total)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    close = 1e-10 if votes < 10**5 else 1e-4  # ln N! has 1e-6 of rounding in it there
    with np.errstate(divide="ignore"):  # of votes that a sample has no chance of
        logs = binom.logpmf(yes[:, None], total[:, None], samples)
    assert score == pytest.approx(np.mean(log(3) - logsumexp(logs, axis=1)), rel=close)
    widths = [row[0] for row in table]
    assert widths == list(range(min(votes, 1000) + 1))
    n, middle = total[:, None], np.floor(samples.mean(1) * votes + 1e-9)[:, None]
    for width in {0, 1, len(widths) // 2, len(widths) - 1}:
        within = [binom.cdf(middle + edge, n, samples) for edge in (width, -width - 1)]
        predicted = (within[0] - within[1]).mean(1).sum()
        assert table[width][1] == pytest.approx(predicted, rel=close, abs=close)
        assert table[width][2] == (np.abs(yes - middle[:, 0]) <= width).sum()


def scattered(galaxies, seed=0):
    """Samples, concentrations, and votes drawn from the beta-binomial of one sample of each galaxy."""
    rng = np.random.default_rng(seed)
    samples = np.clip(
        rng.uniform(0.2, 0.8, (galaxies, 1)) + rng.normal(0, 0.1, (galaxies, 9)), 0.01, 1
    )
    own, total = np.exp(rng.uniform(1, 4, samples.shape)), rng.integers(1, 60, galaxies)
    one = np.arange(galaxies), rng.integers(9, size=galaxies)
    chance = rng.beta(samples[one] * own[one], np.maximum(1 - samples[one], 1e-9) * own[one])
    return samples, own, rng.binomial(total, chance), total


def test_with_concentrations_votes_are_beta_binomial():
    samples, own, yes, total = scattered(30)
    a, b = samples * own, np.maximum((1 - samples) * own, 1e-300)
    expected = betabinom.pmf(yes[:, None], total[:, None], a, b).mean(1)
    scores = log_scores(samples, yes, total, own)
    np.testing.assert_allclose(scores, -np.log(expected), rtol=1e-10, atol=1e-12)
    counts = np.arange(total.max() + 1)
    expected = betabinom.pmf(counts, total[:, None, None], a[..., None], b[..., None]).mean(1)
    chances = vote_chances(samples, total, counts, own)
    np.testing.assert_allclose(chances, expected, rtol=1e-9, atol=1e-13)
    assert (chances[counts > total[:, None]] == 0).all()


def test_coverage_of_scattered_votes_needs_their_concentrations():
    samples, own, yes, total = scattered(4000)
    honest, narrow = coverage(samples, yes, total, own), coverage(samples, yes, total)
    assert max(row[3] for row in honest[2:]) < 0.05
    assert narrow[3][1] > 1.2 * narrow[3][2]


def test_endless_concentrations_are_binomial():
    samples, _, yes, total = scattered(30)
    own = np.full(samples.shape, 1e15)
    np.testing.assert_allclose(
        log_scores(samples, yes, total, own), log_scores(samples, yes, total), rtol=1e-9
    )
    np.testing.assert_allclose(
        vote_chances(samples, total, np.arange(60), own),
        vote_chances(samples, total, np.arange(60)),
        rtol=1e-9,
        atol=1e-12,
    )


def test_the_expected_count_is_rounded_down_but_not_by_the_computers_error():
    rho = np.full((1, 3), 0.7)  # its mean is a little less
    assert coverage(rho, np.array([7]), np.array([10]))[0][2] == 1
    assert coverage(rho, np.array([7]), np.array([11]))[0][2] == 1  # 7.7


def test_coverage_sees_whether_a_posterior_is_honest():
    samples, yes, total = drawn(4000, 0.12)
    honest = coverage(samples, yes, total)
    overconfident = coverage(samples.mean(1, keepdims=True), yes, total)
    assert max(row[3] for row in honest[2:]) < 0.05
    assert overconfident[2][3] > 0.3
    assert overconfident[2][1] > overconfident[2][2]


def test_w20s_own_predictions(w20):
    """Their table has each galaxy's own N, about 44; with 44 for all it is nearly theirs."""
    samples, table = w20
    total = np.full(len(samples), 44)
    ours = np.array(coverage(samples, np.zeros(len(samples), int), total))
    assert samples.shape == (2500, 200)
    np.testing.assert_allclose(ours[:20, 1], table[:20, 1], rtol=3e-3)
    np.testing.assert_allclose(
        np.abs(table[:, 1] - table[:, 2]) / table[:, 2], np.abs(table[:, 4]), atol=1e-12
    )


def test_evaluate_gathers_what_the_functions_say():
    information = np.array([0.1, 0.2, 0.6, np.nan])
    found = evaluate(SAMPLES, YES, TOTAL, information)
    assert found["galaxies"] == 3
    assert found["votes"] == 12
    assert found["mean_mutual_information"] == pytest.approx(0.3)
    for name in (
        "rmse",
        "mae",
        "log_score",
        "loss",
        "auc",
        "accuracy",
        "confusion",
        "coverage",
        "fraction_coverage",
    ):
        alone = getattr(metrics, name)(SAMPLES, YES, TOTAL)
        assert np.array_equal(found[name], alone, equal_nan="coverage" in name), name
    assert evaluate(SAMPLES, YES, TOTAL)["mean_mutual_information"] is None


def test_evaluate_of_galaxies_without_votes():
    found = evaluate(SAMPLES, 0 * YES, 0 * TOTAL)
    assert found["galaxies"] == found["votes"] == 0
    assert np.isnan(found["rmse"])
    assert np.isnan(found["log_score"])
    assert found["auc"] is None
    assert found["confusion"] == [[0, 0], [0, 0]]
    assert found["coverage"] == []
    assert [row[1:3] for row in found["fraction_coverage"]] == [[0, 0]] * len(DEVIATIONS)


@pytest.mark.parametrize(
    ("samples", "yes", "total", "words"),
    [
        (SAMPLES[:, 0], YES, TOTAL, "galaxy, sample"),
        (SAMPLES[:, :0], YES, TOTAL, "galaxy, sample"),
        (SAMPLES, YES[:3], TOTAL, "one per galaxy"),
        (SAMPLES, YES, TOTAL[:3], "one per galaxy"),
        (SAMPLES, YES - 1, TOTAL, "galaxy 3 has -1 votes yes of 0"),
        (SAMPLES, YES + 1, TOTAL, "galaxy 2 has 3 votes yes of 2"),
        (SAMPLES + 0.1, YES, TOTAL, "samples of galaxy 2"),
        (SAMPLES - np.nan, YES, TOTAL, "samples of galaxy 0"),
    ],
)
def test_evaluate_refuses_what_cannot_be(samples, yes, total, words):
    with pytest.raises(ValueError, match=words):
        evaluate(samples, yes, total)
