"""Whether the next batch is worth its votes: curves whose law is known, flat ones, and too few rounds."""

import numpy as np
import pytest

from shared.method.stopping import FEWEST, next_gain, sentence, worth

LABELS = 64 + 32 * np.arange(8.0)
FALLING = 1 + 5 * LABELS**-0.5


def gain_of(floor, drop, power, batch=32):
    """What the next batch gains by the law itself."""
    del floor
    return drop * (LABELS[-1] ** -power - (LABELS[-1] + batch) ** -power)


@pytest.mark.parametrize("law", [(1, 5, 0.5), (3, 8, 0.3), (0.2, 40, 1)])
def test_the_gain_of_a_power_law_is_foretold(law):
    floor, drop, power = law
    found = next_gain(LABELS, floor + drop * LABELS**-power, 32)
    assert found.mean == pytest.approx(gain_of(*law), rel=0.02)
    assert found.high - found.low < 0.02 * found.mean
    twice = next_gain(LABELS, floor + drop * LABELS**-power, 64)
    assert twice.mean == pytest.approx(gain_of(*law, batch=64), rel=0.03)


@pytest.mark.parametrize(
    ("law", "noise"), [((1, 5, 0.5), 0.01), ((3, 8, 0.3), 0.03), ((1, 0, 0.5), 0.02)]
)
def test_the_interval_holds_as_often_as_it_says(law, noise):
    floor, drop, power = law
    random, held = np.random.default_rng(0), []
    for _ in range(200):
        nlls = floor + drop * LABELS**-power + noise * random.standard_normal(len(LABELS))
        found = next_gain(LABELS, nlls, 32)
        held.append(found.low <= gain_of(*law) <= found.high)
    assert 0.83 <= np.mean(held) <= 0.97  # 0.9, by 200 curves


def test_a_batch_is_worth_its_votes_or_not_or_that_is_not_known():
    def verdict(nlls, least, information=None):
        nlls = [*nlls]
        return worth(LABELS[: len(nlls)], nlls, [information] * len(nlls), 32, least)["verdict"]

    random = np.random.default_rng(1)
    noise = 0.01 * random.standard_normal(len(LABELS))
    assert verdict(FALLING + noise, 0.005) == "worth"
    assert verdict(FALLING + noise, 0.1) == "not worth"
    assert verdict(FALLING + noise, gain_of(1, 5, 0.5)) == "unknown"
    assert verdict(2 + noise, 0.01) == "not worth"  # flat
    assert verdict(np.full(8, 2.0), 0.01) == "not worth"
    assert verdict(2 - 0.01 * np.arange(8.0)[::-1], 0.01) == "not worth"  # it rises
    assert verdict(2 + 30 * noise, 0.01) == "unknown"
    assert verdict(FALLING[: FEWEST - 1], 0.01) == "unknown"
    assert verdict(FALLING[: FEWEST - 1], 0.01, 0.2) == "unknown"
    assert verdict(FALLING[: FEWEST - 1], 0.01, 0.003) == "not worth"
    assert verdict(FALLING + noise, 0.005, 0.003) == "worth"  # what is measured counts more


def test_what_is_told():
    found = worth(LABELS, FALLING, [0.3] * 8, 32, 0.01)
    assert found.keys() == {"batch", "gain", "information", "rounds", "least", "verdict"}
    assert found["gain"].keys() == {"mean", "low", "high"}
    told = sentence(found)
    assert told.startswith(
        "the next 32 labels are worth their votes: by the learning curve they lower the test NLL by"
    )
    assert told.endswith(
        "0.01 is asked for; a galaxy's votes are expected to tell 0.300 nats more of the network"
    )
    few = sentence(worth(LABELS[:2], FALLING[:2], [None, None], 32, 0.01))
    assert few == (
        "whether the next 32 labels are worth their votes is not known yet: 2 rounds are too few for a learning curve, "
        "which takes 5"
    )
    none = worth(LABELS, [None] * 8, [None] * 8, 32, 0.01)
    assert none["verdict"] == "unknown"
    assert "without test galaxies that have votes there is no learning curve" in sentence(none)
    same = worth([64] * 8, FALLING, [None] * 8, 32, 0.01)  # nobody answered: one point, eight times
    assert (same["gain"], same["verdict"]) == (None, "unknown")
