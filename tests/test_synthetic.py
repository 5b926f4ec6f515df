import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from shared.data.synthetic import QUESTIONS, Telescope, chances, draw_galaxies, render, visible

FIRST = "smooth-or-featured"


@pytest.fixture(scope="module")
def galaxies():
    return draw_galaxies(3000, 5)


def rows(table):
    return table.to_dict("records")


def light(image):
    """Linear light, in sky noises, of a galaxy's uint8 image (y, x)."""
    return 3 * np.sinh((image[:, :, 0] - 14.0) * np.arcsinh(260 / 3) / 241)


def changed(galaxy, **parameters):
    return galaxy | parameters


PLAIN = {  # a face-on disc in the middle of a clear image
    "seed": 1,
    "number": 1,
    "bulge_share": 0.1,
    "sersic": 2.0,
    "bulge_size": 0.2,
    "bulge_axis": 0.9,
    "size": 18.0,
    "signal": 20.0,
    "cos_inclination": 0.95,
    "thickness": 0.12,
    "angle": 0.4,
    "x": 127.5,
    "y": 127.5,
    "arm_contrast": 0.0,
    "arm_count": 2,
    "pitch": 0.35,
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
}


def test_a_galaxy_does_not_depend_on_how_many_are_drawn():
    few, many = draw_galaxies(10, 3), draw_galaxies(100, 3)
    pd.testing.assert_frame_equal(few, many[:10])
    assert (render(rows(few)[7]) == render(rows(many)[7])).all()


def test_a_galaxy_depends_on_seed_and_number():
    a, b = draw_galaxies(3, 3), draw_galaxies(3, 4)
    assert a["id"].tolist() == ["synthetic-3-0", "synthetic-3-1", "synthetic-3-2"]
    assert not (a["size"] == b["size"]).any()
    assert a["size"].nunique() == 3
    assert (render(rows(a)[0]) != render(rows(b)[0])).any()
    again = PLAIN | {"number": 2}  # the same galaxy under another sky
    assert (render(PLAIN) != render(again)).mean() > 0.3


def test_seeds_have_64_bits():
    largest = draw_galaxies(1, 2**64 - 1)
    assert largest["id"][0] == f"synthetic-{2**64 - 1}-0"
    assert render(rows(largest)[0]).shape == (256, 256, 1)
    for seed in (-1, 2**64):
        with pytest.raises(ValueError, match="seed"):
            draw_galaxies(1, seed)


def test_no_galaxies_have_all_the_columns():
    assert list(draw_galaxies(0, 1)) == list(draw_galaxies(2, 1))


def test_images_are_dark_skies_with_something_in_the_middle(galaxies):
    for galaxy in rows(galaxies[:12]):
        image = render(galaxy)
        assert image.shape == (256, 256, 1)
        assert image.dtype == np.uint8
        assert 5 < np.median(image[:40]) < 40
        assert image[118:138, 118:138].mean() > 2 * np.median(image[:40])


def test_chances_sum_to_one_and_are_never_certain(galaxies):
    for question, answers in QUESTIONS.items():
        true = galaxies[[f"true_{question}_{answer}" for answer in answers]].to_numpy()
        np.testing.assert_allclose(true.sum(1), 1, atol=1e-12)
        assert true.min() > 0


def test_each_question_is_asked_of_those_it_concerns(galaxies):
    featured = galaxies[f"{FIRST}_featured-or-disk"]
    for question, answers in QUESTIONS.items():
        votes = galaxies[[f"{question}_{answer}" for answer in answers]]
        assert (votes.sum(axis=1) == galaxies[f"{question}_total"]).all()
        assert {str(kind) for kind in votes.dtypes} == {"int32"}
    assert (galaxies["disk-edge-on_total"] == featured).all()
    assert (galaxies["bar_total"] == galaxies["disk-edge-on_no"]).all()
    assert (galaxies["has-spiral-arms_total"] == galaxies["disk-edge-on_no"]).all()
    assert galaxies[f"{FIRST}_total"].min() >= 5
    assert galaxies[f"{FIRST}_total"].mean() == pytest.approx(40, abs=0.5)
    assert (galaxies["bar_total"] == 0).any()


def test_votes_follow_the_true_chances(galaxies):
    for question, answers in QUESTIONS.items():
        total = galaxies[f"{question}_total"]
        for answer in answers:
            true = galaxies[f"true_{question}_{answer}"]
            surplus = (galaxies[f"{question}_{answer}"] - total * true).sum()
            assert abs(surplus) < 4 * np.sqrt((total * true * (1 - true)).sum()), (question, answer)
            spread = (galaxies[f"{question}_{answer}"] - total * true) ** 2
            assert spread.sum() == pytest.approx((total * true * (1 - true)).sum(), rel=0.2)


def test_the_sky_holds_some_of_every_kind(galaxies):
    assert 0.35 < (2 * galaxies[f"{FIRST}_smooth"] > galaxies[f"{FIRST}_total"]).mean() < 0.6
    assert 0.02 < (galaxies[f"true_{FIRST}_artifact"] > 0.4).mean() < 0.08
    featured = galaxies[galaxies[f"true_{FIRST}_featured-or-disk"] > 0.5]
    assert 0.15 < (featured["true_disk-edge-on_yes"] > 0.5).mean() < 0.45
    open_discs = featured[featured["true_disk-edge-on_no"] > 0.5]
    assert 0.15 < (open_discs["true_bar_no"] < 0.5).mean() < 0.4
    assert 0.4 < (open_discs["true_has-spiral-arms_yes"] > 0.5).mean() < 0.8


@pytest.mark.parametrize(
    ("parameter", "low", "high", "question", "answer"),
    [
        ("arm_contrast", 0.0, 1.0, "has-spiral-arms", 0),
        ("arm_contrast", 0.0, 1.0, FIRST, 1),
        ("bar_strength", 0.0, 1.0, "bar", 0),
        ("bar_strength", 1.0, 0.0, "bar", 2),
        ("cos_inclination", 1.0, 0.0, "disk-edge-on", 0),
        ("star", 0.0, 2000.0, FIRST, 2),
        ("trail", 0.0, 70.0, FIRST, 2),
    ],
)
def test_chances_rise_with_what_they_are_of(parameter, low, high, question, answer):
    galaxy = {name: np.full(50, value) for name, value in PLAIN.items()}
    galaxy[parameter] = np.linspace(low, high, 50)
    chance = chances(visible(galaxy))[question][:, answer]
    assert (np.diff(chance) > 0).all()
    assert chance[-1] > 0.7
    assert np.abs(np.diff(chance)).max() < 0.25 or parameter in ("star", "trail")


@pytest.mark.parametrize("hidden", [{"signal": 2.0}, {"cos_inclination": 0.2}, {"psf": 6.0}])
def test_what_cannot_be_seen_is_not_voted_for(hidden):
    spiral = PLAIN | {"arm_contrast": 0.6, "bar_strength": 0.6}
    clear, poor = chances(visible(spiral)), chances(visible(spiral | hidden))
    assert poor["has-spiral-arms"][0] < clear["has-spiral-arms"][0] - 0.1
    assert poor["bar"][2] > clear["bar"][2] + 0.1


def test_a_star_leaves_no_galaxy_to_be_judged():
    star = PLAIN | {"star": 1000.0}
    other = chances(visible(star | {"arm_contrast": 1.0, "bar_strength": 1.0, "angle": 0.1}))
    for question, chance in chances(visible(star)).items():
        np.testing.assert_array_equal(chance, other[question])


def wave(galaxy, radius, turns):
    """The complex strength of the wave with so many `turns` around a ring, against its mean light."""
    angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    x, y = 127.5 + radius * np.cos(angle), 127.5 + radius * np.sin(angle)
    ring = light(render(galaxy))[np.rint(y).astype(int), np.rint(x).astype(int)]
    return (ring * np.exp(-1j * turns * angle)).mean() / ring.mean()


def test_arms_are_in_the_image():
    face_on = PLAIN | {"cos_inclination": 1.0, "clumps": 0.0}
    arms = face_on | {"arm_contrast": 0.9}
    assert abs(wave(face_on, 28, 2)) < 0.05
    assert abs(wave(arms, 28, 2)) > 0.3
    assert abs(wave(arms, 28, 3)) < 0.1
    assert abs(wave(arms | {"arm_count": 3}, 28, 3)) > 0.3


@pytest.mark.parametrize("turn", [1, -1])
def test_arms_wind_out_from_where_a_bar_ends(turn):
    arms = {"cos_inclination": 1.0, "angle": 0.0, "arm_contrast": 0.9, "clumps": 0.0, "turn": turn}
    bar_end = PLAIN["bar_length"] * PLAIN["size"]
    for radius in (bar_end, 1.4 * bar_end):
        wound = PLAIN["arm_phase"] + np.log(radius / bar_end) / np.tan(PLAIN["pitch"])
        crest = -np.angle(wave(PLAIN | arms, radius, 2)) / 2
        assert np.cos(2 * (crest - turn * wound)) > 0.95


def test_a_bar_is_in_the_image_where_the_arms_begin():
    axes = {"cos_inclination": 1.0, "angle": 0.0, "turn": -1, "arm_phase": -0.6}  # along +0.6
    difference = light(render(PLAIN | axes | {"bar_strength": 1.0})) - light(render(PLAIN | axes))
    along = 14 * np.array([np.cos(0.6), np.sin(0.6)])
    ends = [127.5 + along, 127.5 - along]
    beside = [127.5 + along[::-1] * [1, -1], 127.5 - along[::-1] * [1, -1]]

    def at(point):
        x, y = np.rint(point).astype(int)
        return difference[y - 1 : y + 2, x - 1 : x + 2].mean()

    assert min(map(at, ends)) > max(map(at, beside)) + 5


def test_inclination_flattens_the_image():
    def height_over_width(cos):
        image = light(render(PLAIN | {"angle": 0.0, "cos_inclination": cos}))[78:178, 78:178]
        y, x = np.mgrid[-49.5:50, -49.5:50]
        return np.sqrt((image * y**2).sum() / (image * x**2).sum())

    tall = [height_over_width(cos) for cos in (0.05, 0.5, 1.0)]
    assert tall[0] < 0.5 < tall[1] < 0.9 < tall[2] < 1.1


def test_the_chance_of_arms_can_be_told_from_pixels(galaxies):
    """A crude statistic, the light's scatter within rings, follows the true chance."""
    y, x = np.mgrid[-127.5:128, -127.5:128]
    ring = (np.hypot(x, y) / 3).astype(int)
    face_on = galaxies[(galaxies["cos_inclination"] > 0.6) & (galaxies["star"] == 0)]
    face_on = face_on[(face_on["bulge_share"] < 1) & (face_on["trail"] == 0)][:120]

    def scatter(galaxy):
        image = light(render(galaxy))
        rings = [image[ring == number] for number in range(4, 12)]
        inner = [np.percentile(r, 90) - np.percentile(r, 10) for r in rings]
        return np.mean(inner) / np.mean([r.mean() for r in rings])

    measured = [scatter(galaxy) for galaxy in rows(face_on)]
    assert spearmanr(measured, face_on["true_has-spiral-arms_yes"]).statistic > 0.5


def test_another_telescope_sees_the_same_galaxies_less_well():
    usual, poor = draw_galaxies(200, 5), draw_galaxies(200, 5, Telescope(seeing=2.0, depth=0.25))
    assert poor["id"].tolist() == usual["id"].tolist()
    np.testing.assert_allclose(poor["psf"], 2 * usual["psf"])
    for name in ("signal", "star", "trail"):
        np.testing.assert_allclose(poor[name], usual[name] / 4)
    same = ["size", "bar_strength", "arm_contrast", "cos_inclination", "x"]
    pd.testing.assert_frame_equal(poor[same], usual[same])
    plain = usual.index[usual["star"] + usual["trail"] == 0]
    featured = [f"true_{FIRST}_featured-or-disk", "true_bar_strong"]
    assert (poor.loc[plain, featured] <= usual.loc[plain, featured]).to_numpy().all()
    one, other = (light(render(rows(table)[plain[0]])) for table in (usual, poor))
    assert other.max() < one.max() / 2
