"""Synthetic galaxies like a survey's: rare artifacts, its vote fractions, crowds that scatter."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta

import trizoo
from benchmarks.population import DECALS, STRIPE82, apart, between_twins, fractions, read
from benchmarks.population import measure as compare
from shared.data import prepare
from shared.data.population import CONCENTRATION, POPULATIONS
from shared.data.store import open_store
from shared.data.synthetic import ARTIFACTS, QUESTIONS, draw_galaxies
from shared.method.baselines import baselines, constant_nll, uniform_nll
from shared.method.tree_metrics import question_nll
from shared.output.oracle import true_chances
from shared.run.spec import SKIES, DatasetSpec, RunSpec, from_config

ROOT = Path(__file__).parent.parent
REAL = Path(os.environ.get("TRIZOO_REAL_DATA", ROOT.parent / "shared" / "data"))
FIRST = "smooth-or-featured"
# the median and the standard deviation of the fraction smooth, published for galaxies with 20 votes or more
PUBLISHED = {"decals": (0.61, 0.27), "stripe82": (0.75, 0.24)}
COUNT = 4000
PINNED = {
    "discs": 139,
    "stars": [5, 17, 69, 96, 106, 127, 155],
    "trails": [27, 62, 72, 82, 90, 126, 136, 140, 180],
    "votes": [[40, 6, 3], [41, 5, 0], [44, 2, 0], [37, 2, 0]],
    "bars": [[0, 0, 5], [0, 0, 5], [0, 0, 2], [0, 0, 2]],
}


@pytest.fixture(scope="module", params=sorted(POPULATIONS))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def galaxies(name):
    return draw_galaxies(COUNT, 5, population=POPULATIONS[name])


def counts(table, question, prefix=""):
    return table[[f"{prefix}{question}_{answer}" for answer in QUESTIONS[question]]].to_numpy()


def dataset(*words):
    return from_config(DatasetSpec, trizoo.compose(["task=prepare", *words])["dataset"])


def test_without_a_population_galaxies_are_those_they_were():
    """Numbers of the generator before there were populations."""
    plain = draw_galaxies(200, 5)
    assert not {"artifact", "concentration"} & {*plain}
    assert (plain["bulge_share"] < 1).sum() == PINNED["discs"]
    assert np.flatnonzero(plain["star"]).tolist() == PINNED["stars"]
    assert np.flatnonzero(plain["trail"]).tolist() == PINNED["trails"]
    assert counts(plain, FIRST)[:4].tolist() == PINNED["votes"]
    assert counts(plain, "bar")[:4].tolist() == PINNED["bars"]


def test_the_sky_of_a_survey_has_the_same_galaxies_but_for_what_is_rarer(name, galaxies):
    plain, population = draw_galaxies(COUNT, 5), POPULATIONS[name]
    same = ["id", "size", "cos_inclination", "arm_contrast", "psf", "x"]
    pd.testing.assert_frame_equal(galaxies[same], plain[same])
    spoilt = (plain["star"] > 0) | (plain["trail"] > 0)
    assert (~galaxies["artifact"] | spoilt).all()
    if population.discs == 0.7:
        assert (galaxies["bulge_share"] == plain["bulge_share"]).all()
    few = draw_galaxies(20, 5, population=population)
    pd.testing.assert_frame_equal(few, galaxies[:20])


def test_artifacts_are_as_rare_as_in_stripe_82(galaxies):
    artifact = galaxies["artifact"]
    assert abs(artifact.mean() - 0.007) < 4 * (0.007 / COUNT) ** 0.5 < ARTIFACTS / 4
    assert (artifact == ((galaxies["star"] > 0) | (galaxies["trail"] > 0))).all()
    assert galaxies.loc[artifact, f"expected_{FIRST}_artifact"].min() > 0.3
    assert galaxies.loc[~artifact, f"expected_{FIRST}_artifact"].max() < 0.13


def test_fractions_smooth_are_the_surveys(name, galaxies):
    share = galaxies[f"{FIRST}_smooth"] / galaxies[f"{FIRST}_total"]
    median, spread = PUBLISHED[name]
    assert abs(share.median() - median) < 0.03
    assert abs(share.std() - spread) < 0.02
    assert galaxies[f"{FIRST}_total"].mean() == pytest.approx(40, abs=0.5)
    assert (galaxies["disk-edge-on_total"] == galaxies[f"{FIRST}_featured-or-disk"]).all()
    assert (galaxies["bar_total"] == galaxies["disk-edge-on_no"]).all()


@pytest.mark.parametrize("question", QUESTIONS)
def test_crowds_scatter_about_what_images_tell(galaxies, question):
    """By a Dirichlet's variance; and votes are those of the galaxy's own crowd, not of the expected fractions."""
    expected, own = counts(galaxies, question, "expected_"), counts(galaxies, question, "true_")
    votes, total = counts(galaxies, question), galaxies[f"{question}_total"].to_numpy()[:, None]
    np.testing.assert_allclose(expected.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(own.sum(1), 1, atol=1e-12)
    variance = expected * (1 - expected)
    scatter = np.square(own - expected).sum() / variance.sum()
    assert scatter == pytest.approx(1 / (1 + CONCENTRATION), rel=0.1)
    own_variance = total * own * (1 - own)
    assert np.square(votes - total * own).sum() == pytest.approx(own_variance.sum(), rel=0.1)
    wider = (total * variance * (1 + (total - 1) / (1 + CONCENTRATION))).sum()
    assert np.square(votes - total * expected).sum() == pytest.approx(wider, rel=0.1)
    assert galaxies["concentration"].unique().tolist() == [CONCENTRATION]


def test_an_honest_posterior_covers_the_true_chance(galaxies):
    """The Beta of the expected fraction is the posterior of whoever sees all that images tell."""
    expected = galaxies[f"expected_{FIRST}_smooth"].to_numpy()
    a, b = CONCENTRATION * expected, CONCENTRATION * (1 - expected)
    low, high = beta.ppf(0.05, a, b), beta.ppf(0.95, a, b)
    true = galaxies[f"true_{FIRST}_smooth"]
    assert abs(((low < true) & (true < high)).mean() - 0.9) < 0.02


@pytest.mark.parametrize(
    ("question", "positive", "fewest"),
    [(FIRST, ("smooth",), 1), ("bar", ("strong", "weak"), 10), (FIRST, None, 1)],
)
def test_what_no_network_can_be_better_than_is_known(galaxies, question, positive, fewest):
    found = baselines(galaxies, QUESTIONS, question, positive, fewest)
    assert found.oracle + 0.5 < found.constant < found.uniform
    assert found.galaxies == (galaxies[f"{question}_total"] >= fewest).sum()
    for wrong in (CONCENTRATION / 6, CONCENTRATION * 100):  # the true scatter is the likeliest
        other = galaxies.assign(concentration=wrong)
        assert baselines(other, QUESTIONS, question, positive, fewest).oracle > found.oracle + 0.005


def test_constants_on_record_are_found_again(name, galaxies):
    record = json.loads((ROOT / "reports" / "records" / "population.json").read_text())
    for question, (positive, fewest) in {
        FIRST: (("smooth",), 1),
        "bar": (("strong", "weak"), 10),
    }.items():
        kept = record["baselines"][name][question]
        again = baselines(galaxies, QUESTIONS, question, positive, fewest)
        for key in ("uniform", "constant", "oracle"):  # of 20,000 galaxies, and of 4,000 others
            assert abs(kept[key] - getattr(again, key)) < 0.12, (question, key)


def test_of_plain_galaxies_the_oracle_is_the_multinomial():
    plain = draw_galaxies(500, 5)
    found = baselines(plain, QUESTIONS, FIRST)
    true, votes = counts(plain, FIRST, "true_"), counts(plain, FIRST)
    assert found.oracle == pytest.approx(question_nll(true[:, None], None, votes).mean())
    assert uniform_nll(np.array([[3, 1], [0, 4]])) == pytest.approx(np.log(5))
    assert constant_nll(votes) <= uniform_nll(votes)


def test_a_store_keeps_what_is_an_artifact_and_what_was_expected(tmp_path):
    words = ["dataset.galaxies=300", f"dataset.stores={tmp_path}"]
    like, plain = dataset(*words, "dataset.population=decals"), dataset(*words)
    store = open_store(prepare.prepare(like).folder)
    drawn = draw_galaxies(300, 0, population=POPULATIONS["decals"])
    for column in ("artifact", f"expected_{FIRST}_smooth", f"true_{FIRST}_smooth", "concentration"):
        assert (store.galaxies[column].to_numpy() == drawn[column].to_numpy()).all()
    run = from_config(RunSpec, trizoo.compose(["task=active", "dataset.population=decals"]))
    assert (true_chances(store, run) == drawn[f"true_{FIRST}_smooth"].to_numpy()).all()
    # stores of plain galaxies are where they were before there were populations
    assert "population" not in prepare._identity(plain)
    assert prepare._identity(like)["population"] == "decals"


def test_populations_have_one_list_of_names():
    assert tuple(POPULATIONS) == SKIES


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset.population=hubble"], r"dataset\.population is 'hubble'; choose one of decals, "),
        (["dataset=folder", "dataset.images=photos"], r"is of dataset=synthetic alone"),
        (["dataset=synthetic_tree"], r"dataset\.overdispersion scatters them\): set it to null"),
    ],
)
def test_a_population_of_other_galaxies_is_refused(words, message):
    with pytest.raises(ValueError, match=message):
        dataset("dataset.population=stripe82", *words)


def test_a_comparison_without_surveys_has_the_synthetic_half(tmp_path):
    found = compare(tmp_path, 200)
    assert found["surveys"] == found["fitted"] == {}
    assert found["scatter"] == {"w20": None, "twins": None}
    assert set(found["synthetic"]) == {"plain", *POPULATIONS}


@pytest.mark.parametrize("name", POPULATIONS)
def test_real_tables_have_these_fractions(name):
    survey = read(REAL, name)
    if survey is None:
        pytest.skip(f"no real data: {REAL} has no table of {name}; set TRIZOO_REAL_DATA")
    published = fractions(survey[{"decals": DECALS, "stripe82": STRIPE82}[name]].to_numpy())
    drawn = fractions(counts(draw_galaxies(COUNT, 5, population=POPULATIONS[name]), FIRST))
    assert apart(drawn, published) ** 0.5 < 0.03
    assert apart(fractions(counts(draw_galaxies(COUNT, 5), FIRST)), published) ** 0.5 > 0.06
    assert abs(np.median(published[:, 0]) - PUBLISHED[name][0]) < 0.005
    if name == "decals":
        twins = between_twins(REAL)
        assert abs(twins["correlation"]) < 2 * twins["standard_error"]
