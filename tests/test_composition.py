"""What a round asked about, by hand."""

import numpy as np
import pytest

from shared.method.composition import composition, foretelling, near_duplicates

VOTES = np.array([1, 0, 3, 0]), np.array([4, 0, 4, 2])


def test_fractions_are_the_true_ones_where_these_are_known_and_else_those_of_votes():
    true = np.array([0.1, 0.2, 0.3, 0.8])
    found = composition(true, VOTES, true > 0.25, 1, None)
    assert found["fractions"] == {
        "of": "truth",
        "mean": pytest.approx(0.35),
        "quartiles": pytest.approx([0.175, 0.25, 0.425]),
    }
    assert (found["galaxies"], found["artifacts"], found["near_duplicates"]) == (4, 2, 1)
    voted = composition(None, VOTES, None, 0, None)
    assert voted["fractions"]["of"] == "votes"
    assert voted["fractions"]["mean"] == pytest.approx((0.25 + 0.75 + 0) / 3)
    assert voted["artifacts"] is voted["foretold"] is None
    none = composition(None, (VOTES[0] * 0, VOTES[1] * 0), None, 0, None)
    assert none["fractions"] is None


def test_a_score_foretells_loss_and_error_by_rank():
    scores, losses = np.array([0.1, 0.5, 0.4, 9.0]), np.array([1.0, 3.0, 2.0, 4e9])
    told = foretelling("pool", scores, losses, -losses)
    assert told == {
        "over": "pool",
        "galaxies": 4,
        "spearman": {"log_score": pytest.approx(1), "error": pytest.approx(-1)},
    }
    one_off = foretelling("asked", scores, np.array([1.0, 2.0, 3.0, 4.0]), np.ones(4))
    assert one_off["spearman"] == {"log_score": pytest.approx(0.8), "error": None}
    few = foretelling("pool", scores[:2], losses[:2], losses[:2])
    assert few["spearman"] == {"log_score": None, "error": None}


def test_near_duplicates_are_of_others_that_were_asked_about_or_labelled():
    random = np.random.default_rng(0)
    asked, labelled = random.normal(size=(6, 20)) + 100, random.normal(size=(30, 20)) + 100
    assert near_duplicates(asked, labelled) == 0
    asked[1] = asked[0] + 1e-3
    assert near_duplicates(asked, labelled) == 2
    asked[5] = labelled[7] + 1e-3
    assert near_duplicates(asked, labelled) == 3
    assert near_duplicates(1e3 * asked + 7, 1e3 * labelled + 7) == 3
    assert near_duplicates(asked[:0], labelled) == near_duplicates(asked[:1], labelled[:0]) == 0


def test_near_is_an_angle_about_the_mean():
    """Four units in pairs, opposite: their mean is the origin."""
    for cosine, count in ((0.9995, 1), (0.9985, 0)):
        turned = np.array([[cosine, np.sqrt(1 - cosine**2)]])
        away = np.array([[-1.0, 0.0]]) - turned + 7
        assert near_duplicates(turned * [[1, 1]] + 7, np.vstack([[[8.0, 7.0]], away])) == count
