import dataclasses
import hashlib

import numpy as np
import pandas as pd
import pytest

import trizoo
from shared.data import prepare, synthetic
from shared.data.schema import chance_asked, columns, slices
from shared.data.synthetic_tree import draw_galaxies, render, visible
from shared.data.synthetic_votes import KNOWN, fractions, vote
from shared.run.spec import DatasetSpec, from_config

SURVEYS = ("tree", "gz2", "gz_hubble", "gz_candels", "gz_decals12")
CHANGES = {
    "bulge_share": (0.02, 0.55),
    "arm_count": (1, 5),
    "pitch": (0.2, 0.6),
    "tails": (0.0, 0.8),
    "companion": (0.0, 0.5),
    "bar_strength": (0.0, 1.0),
}
PLAIN = {  # a face-on spiral in the middle of a clear image
    "id": "one",
    "bulge_share": 0.2,
    "sersic": 2.0,
    "bulge_size": 0.25,
    "bulge_axis": 0.9,
    "boxiness": 0.0,
    "size": 22.0,
    "signal": 25.0,
    "cos_inclination": 0.95,
    "thickness": 0.12,
    "angle": 0.4,
    "x": 127.5,
    "y": 127.5,
    "arm_contrast": 0.8,
    "arm_count": 2,
    "pitch": 0.4,
    "turn": 1,
    "arm_phase": 1.0,
    "clumps": 0.2,
    "bar_strength": 0.0,
    "bar_length": 1.4,
    "bar_axis": 0.25,
    "dust": 0.3,
    "psf": 1.3,
    "wings": 0.1,
    "star": 0.0,
    "trail": 0.0,
    "tails": 0.0,
    "tail_angle": 1.0,
    "tail_width": 0.5,
    "companion": 0.0,
    "companion_distance": 2.0,
    "companion_angle": 2.0,
    "companion_axis": 0.8,
}


def dataset(name, *words):
    """The dataset of the run that `words` spell out."""
    config = trizoo.compose(["task=prepare", f"dataset={name}", *words])["dataset"]
    return from_config(DatasetSpec, config)


def drawn(spec, count, seed=0):
    return draw_galaxies(count, seed, spec.questions, spec.leads, spec.overdispersion)


def counted(galaxies, questions):
    """True fractions and votes, (galaxy, answer) each."""
    names = columns(questions)
    true = galaxies[[f"true_{name}" for name in names]].to_numpy()
    return true, galaxies[names].to_numpy(np.int64)


@pytest.fixture(scope="module", params=SURVEYS)
def survey(request):
    """A survey's questions and leads, and galaxies that vote on them."""
    spec = dataset(f"synthetic_{request.param}")
    return spec, drawn(spec, 1500)


def test_the_usual_tree_is_that_of_gz_decals():
    ours, theirs = dataset("synthetic_tree"), dataset("gz_decals5", "dataset.images=x")
    assert (ours.questions, ours.leads) == (theirs.questions, theirs.leads)
    assert (len(ours.questions), len(columns(ours.questions))) == (10, 34)
    seen = visible({name: np.full(1, value) for name, value in PLAIN.items() if name != "id"})
    for question, answers in ours.questions.items():  # none is made up
        assert set(answers) <= set(KNOWN[question](seen))


def test_fractions_are_shares_and_never_certain(survey):
    spec, galaxies = survey
    true, _ = counted(galaxies, spec.questions)
    for part in slices(spec.questions).values():
        np.testing.assert_allclose(true[:, part].sum(1), 1, atol=1e-12)
    assert true.min() > 0.004
    assert (np.ptp(true, axis=0) > 0.1).all()  # each depends on the galaxy


def test_as_many_are_asked_as_gave_an_answer_that_leads_there(survey):
    spec, galaxies = survey
    for question, answers in spec.questions.items():
        some = [f"{question}_{answer}" for answer in answers]
        assert {str(kind) for kind in galaxies[some].dtypes} == {"int32"}
        assert (galaxies[some].sum(axis=1) == galaxies[f"{question}_total"]).all()
        froms = spec.leads.get(question)
        led = galaxies["volunteers"]
        if froms is not None:
            led = galaxies[[f"{q}_{a}" for q, answers in froms.items() for a in answers]].sum(
                axis=1
            )
        assert (led == galaxies[f"{question}_total"]).all(), question
    assert galaxies["volunteers"].min() >= 5
    assert galaxies["volunteers"].mean() == pytest.approx(40, abs=1)


def test_votes_follow_the_true_fractions(survey):
    spec, galaxies = survey
    true, votes = counted(galaxies, spec.questions)
    for part in slices(spec.questions).values():
        total = votes[:, part].sum(1, keepdims=True)
        surplus, variance = deviations(true[:, part], votes[:, part], total)
        assert (np.abs(surplus.sum(0)) < 4 * np.sqrt(variance.sum(0))).all()
        assert (surplus**2).sum() == pytest.approx(variance.sum(), rel=0.25)


def deviations(true, votes, total, overdispersion=0.0):
    """What votes are beyond what was expected, and the variance of that."""
    return votes - total * true, total * true * (1 - true) * (1 + (total - 1) * overdispersion)


def test_the_chance_to_be_asked_is_that_of_the_true_fractions(survey):
    spec, galaxies = survey
    true, _ = counted(galaxies, spec.questions)
    chance = chance_asked(spec.questions, spec.leads, true)
    totals = galaxies[[f"{question}_total" for question in spec.questions]].to_numpy()
    volunteers = galaxies["volunteers"].to_numpy()[:, None]
    surplus, variance = deviations(chance, totals, volunteers)
    assert (np.abs(surplus.sum(0)) <= 4 * np.sqrt(variance.sum(0))).all()
    assert (chance.mean(0) > 0.003).all()


@pytest.mark.parametrize("overdispersion", [0.0, 0.05, 0.4])
def test_overdispersed_votes_have_the_mean_and_variance_of_a_dirichlet_multinomial(overdispersion):
    questions = {"q": ("a", "b", "c"), "then": ("yes", "no")}
    leads = {"then": {"q": ("a", "b")}}
    true = np.tile([0.5, 0.3, 0.2, 0.8, 0.2], (4000, 1))
    ids = [str(number) for number in range(4000)]
    volunteers, votes = vote(questions, leads, true, overdispersion, ids)
    assert (votes[:, :3].sum(1) == volunteers).all()
    assert (votes[:, 3:].sum(1) == votes[:, :2].sum(1)).all()
    for part in (slice(0, 3), slice(3, 5)):
        total = votes[:, part].sum(1, keepdims=True)
        surplus, variance = deviations(true[:, part], votes[:, part], total, overdispersion)
        assert (np.abs(surplus.sum(0)) < 4 * np.sqrt(variance.sum(0))).all()
        squares = surplus**2
        error = squares.std(0) * np.sqrt(len(ids))
        assert (np.abs(squares.sum(0) - variance.sum(0)) < 4 * error).all()


def test_a_walk_passes_a_question_once_whatever_ways_lead_there():
    questions = {"q": ("a", "b"), "r": ("a", "b"), "then": ("yes", "no")}
    leads = {"then": {"q": ("a",), "r": ("a",)}}
    volunteers, votes = vote(questions, leads, np.full((200, 6), 0.5), 0.0, [*map(str, range(200))])
    asked = votes[:, 4:].sum(1)
    assert (asked <= volunteers).all()
    assert asked.sum() == pytest.approx(0.75 * volunteers.sum(), rel=0.04)


def test_a_galaxy_depends_on_its_own_id_alone():
    spec = dataset("synthetic_tree", "dataset.overdispersion=0.1")
    few, many = drawn(spec, 10, 3), drawn(spec, 100, 3)
    pd.testing.assert_frame_equal(few, many[:10])
    same = [render(some.to_dict("records")[7]) for some in (few, many)]
    assert (same[0] == same[1]).all()
    other = drawn(spec, 10, 4)
    assert not (other["size"] == few["size"]).any()
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match="seed"):
            drawn(spec, 1, seed)
    assert list(drawn(spec, 0)) == list(few)


def test_galaxies_and_their_answers_are_the_same_on_another_tree():
    """A question has random numbers of its own, so votes on what comes before or beside another stay as they are."""
    spec = dataset("synthetic_tree")
    fewer = {q: spec.questions[q] for q in ("merging", "smooth-or-featured", "how-rounded")}
    leads = {question: spec.leads[question] for question in ("merging", "how-rounded")}
    whole, part = drawn(spec, 50), draw_galaxies(50, 0, fewer, leads, 0.0)
    pd.testing.assert_frame_equal(part, whole[part.columns])


def test_an_answer_called_like_a_property_is_refused():
    with pytest.raises(ValueError, match="column bulge_size, which is a property"):
        draw_galaxies(2, 0, {"bulge": ("size", "none")}, {}, 0.0)


def test_what_cannot_be_seen_is_not_voted_for():
    """A disc without arms is voted on alike, however they would be wound and whatever their number."""
    questions = dataset("synthetic_tree").questions
    galaxy = {name: np.full(2, value) for name, value in PLAIN.items() if name != "id"}
    galaxy |= {"arm_contrast": np.zeros(2), "clumps": np.zeros(2)}
    galaxy |= {"pitch": np.array([0.2, 0.6]), "arm_count": np.array([2, 5])}
    one, other = fractions(questions, visible(galaxy))
    np.testing.assert_allclose(one, other, atol=1e-12)
    star = galaxy | {"star": np.full(2, 1000.0), "bulge_share": np.array([0.1, 1.0])}
    one, other = fractions(questions, visible(star))
    np.testing.assert_allclose(one, other, atol=1e-12)


def test_made_up_answers_are_of_their_names_and_follow_what_is_seen():
    spec = dataset("synthetic_gz_candels")
    asked = {"clumpy-appearance": ("yes", "no"), "strange": ("yes", "no")}
    names = [f"true_{name}" for name in columns(asked)]
    galaxies = draw_galaxies(300, 0, asked, {}, 0.0)[names]
    first = drawn(spec, 300)[["true_clumpy-appearance_yes", "true_clumpy-appearance_no"]]
    pd.testing.assert_frame_equal(galaxies[names[:2]], first)
    assert abs(np.corrcoef(galaxies[names[0]], galaxies[names[2]])[0, 1]) < 0.95
    assert galaxies[names[0]].std() > 0.1


def small(galaxy, pixels=64):
    """The image as a network of so many pixels sees it, in grey levels."""
    image = render(galaxy).astype(np.float64)[:, :, 0]
    return image.reshape(pixels, 256 // pixels, pixels, 256 // pixels).mean((1, 3))


def noise(pixels):
    """The standard deviation of a pixel's noise, in grey levels, from the same galaxy under two skies."""
    difference = small(PLAIN, pixels) - small(PLAIN | {"id": "another"}, pixels)
    return 1.4826 * np.median(np.abs(difference)) / np.sqrt(2)


@pytest.mark.parametrize("pixels", [64, 128])
@pytest.mark.parametrize("name", CHANGES)
def test_properties_show_in_images(name, pixels):
    """Of a filter that knew what to look for, the signal would be many times the noise."""
    one, other = (small(PLAIN | {name: value}, pixels) for value in CHANGES[name])
    assert np.sqrt(((one - other) ** 2).sum()) > 20 * noise(pixels)


def test_bulges_show_whether_they_are_boxy():
    edge_on = PLAIN | {"cos_inclination": 0.05, "bulge_share": 0.5, "bulge_size": 0.4}
    one, other = (small(edge_on | {"boxiness": value}, 128) for value in (0.0, 1.0))
    assert np.abs(one - other)[44:84, 44:84].mean() > 4
    face_on = PLAIN | {"bulge_share": 0.5}
    assert (render(face_on) == render(face_on | {"boxiness": 1.0})).all()


@pytest.mark.parametrize(
    ("name", "low", "high", "question", "answer"),
    [
        ("bulge_share", 0.02, 0.55, "bulge-size", "large"),
        ("pitch", 0.2, 0.6, "spiral-winding", "loose"),
        ("arm_count", 2, 4, "spiral-arm-count", "4"),
        ("tails", 0.0, 1.0, "merging", "major-disturbance"),
        ("companion", 0.0, 0.6, "merging", "merger"),
        ("arm_contrast", 0.8, 0.05, "spiral-arm-count", "cant-tell"),
    ],
)
def test_fractions_rise_with_what_they_are_of(name, low, high, question, answer):
    spec = dataset("synthetic_tree")
    galaxy = {key: np.full(2, value) for key, value in PLAIN.items() if key != "id"}
    seen = visible(galaxy | {name: np.array([low, high])})
    true = fractions(spec.questions, seen)
    place = columns(spec.questions).index(f"{question}_{answer}")
    assert true[1, place] > true[0, place] + 0.2


def test_a_dataset_is_prepared_as_any_other(tmp_path):
    words = ["dataset.galaxies=4", f"dataset.stores={tmp_path}"]
    spec = dataset("synthetic_tree", *words)
    store = prepare.prepare(spec)
    galaxies = drawn(spec, 4)
    pd.testing.assert_frame_equal(store.galaxies[galaxies.columns], galaxies)
    rows = galaxies.to_dict("records")
    np.testing.assert_array_equal(store.images, [render(row) for row in rows])
    other = prepare.prepare(dataclasses.replace(spec, overdispersion=0.2))
    assert other.folder != store.folder
    assert (np.asarray(other.images) == np.asarray(store.images)).all()
    any_survey = dataset("gz2", "dataset.images=null", "dataset.overdispersion=0", *words)
    gz2 = prepare.prepare(any_survey)
    assert "odd-feature_dust-lane" in gz2.galaxies


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["dataset.overdispersion=-0.1"],
            r"overdispersion is -0\.1; it must be at least 0 and below 1",
        ),
        (
            ["dataset.overdispersion=1"],
            r"overdispersion is 1\.0; it must be at least 0 and below 1",
        ),
        (["dataset.images=photos"], r"overdispersion is 0\.0, but dataset\.images is photos"),
        (["dataset.galaxies=null"], "galaxies is null"),
        (["dataset.channels=3"], "channels is 3"),
    ],
)
def test_what_cannot_be_drawn_is_refused(words, told):
    with pytest.raises(ValueError, match=told):
        dataset("synthetic_tree", *words)


def test_galaxies_of_four_questions_are_what_they_always_were():
    """Of `dataset=synthetic`, which records and tests rest on: the votes exactly, the images to a grey level or so, as
    another processor may round otherwise.
    """
    galaxies = synthetic.draw_galaxies(20, 0)
    names = [name for name in galaxies if galaxies[name].dtype == np.int32]
    votes = galaxies[names].to_numpy("<i4").tobytes()
    assert hashlib.sha256(votes).hexdigest().startswith("1d477752fb56d616")
    images = np.stack([synthetic.render(row) for row in galaxies.to_dict("records")])
    assert images.mean() == pytest.approx(22.01681137, abs=1e-3)
