import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import trizoo
from shared.data.crossmatch import cross_match
from shared.run.spec import RunSpec, from_config
from shared.tasks import match as task
from shared.tasks.match import match

ARCSEC = 1 / 3600


def table(ra, dec):
    return pd.DataFrame({"ra": np.asarray(ra, float), "dec": np.asarray(dec, float)})


def great_circles(one, other):
    """The separation of every pair (one, other) in arcseconds, by Vincenty's formula."""
    (ra, dec), (ra2, dec2) = (
        np.deg2rad(galaxies[["ra", "dec"]].to_numpy(np.longdouble).T) for galaxies in (one, other)
    )
    ra, dec, turn = ra[:, None], dec[:, None], ra2 - ra[:, None]
    across = np.hypot(
        np.cos(dec2) * np.sin(turn),
        np.cos(dec) * np.sin(dec2) - np.sin(dec) * np.cos(dec2) * np.cos(turn),
    )
    along = np.sin(dec) * np.sin(dec2) + np.cos(dec) * np.cos(dec2) * np.cos(turn)
    return np.rad2deg(np.arctan2(across, along)).astype(float) * 3600


def brutal(one, other, radius):
    """Every pair within `radius` of which each is the other's nearest, and its separation."""
    separations = great_circles(one, other)
    return {
        (i, j): separations[i, j]
        for i, j in enumerate(np.nanargmin(separations, axis=1))
        if np.nanargmin(separations[:, j]) == i and separations[i, j] <= radius
    }


def pairs(found):
    keys = zip(found["one_row"], found["other_row"], strict=True)
    return dict(zip(keys, found["separation"], strict=True))


@pytest.mark.parametrize("radius", [0.3, 1.0, 5.0, 3600.0])
def test_pairs_are_mutual_nearest_neighbours_over_the_whole_sky(radius):
    rng = np.random.default_rng(0)
    ra = rng.uniform(0, 360, 400)
    dec = np.rad2deg(np.arcsin(rng.uniform(-1, 1, 400)))
    ra[:60], dec[:60] = rng.uniform(-3, 3, 60) * ARCSEC, rng.uniform(-5, 5, 60) * ARCSEC
    dec[60:100] = 90 - rng.uniform(0, 5, 40) * ARCSEC
    dec[100:140] = -90 + rng.uniform(0, 5, 40) * ARCSEC
    one = table(ra, dec)
    order = rng.permutation(400)[:300]
    moved = dec + rng.normal(0, 0.5, 400) * ARCSEC
    moved = np.sign(moved) * (90 - np.abs(90 - np.abs(moved)))  # over a pole and down again
    away = rng.normal(0, 0.5, 400) * ARCSEC / np.maximum(np.cos(np.deg2rad(dec)), 1e-3)
    other = table(((ra + away) % 360)[order], moved[order])
    found, expected = pairs(cross_match(one, other, radius)), brutal(one, other, radius)
    assert found.keys() == expected.keys()
    assert len(found) > 50
    np.testing.assert_allclose(list(found.values()), [expected[key] for key in found], atol=1e-6)
    turned = other.assign(ra=np.where(other["ra"] > 180, other["ra"] - 360, other["ra"]))
    assert (turned["ra"] < 0).any()
    assert pairs(cross_match(one, turned, radius)).keys() == expected.keys()
    back = pairs(cross_match(other, one, radius))
    assert {(j, i) for i, j in back} == expected.keys()


def test_a_pair_may_lie_across_the_end_of_right_ascension():
    one, other = table([359.9999, -0.0001], [10, 60]), table([0.0, 359.9999 - 1e-5], [10, 60])
    found = cross_match(one, other, 1.0)
    assert found["one_row"].tolist() == found["other_row"].tolist() == [0, 1]
    across = 0.36 * np.cos(np.deg2rad(10))
    np.testing.assert_allclose(found["separation"][0], across, rtol=1e-6)


def test_the_radius_is_in_arcseconds():
    one, other = table([10], [0]), table([10], [0.9 * ARCSEC])
    assert len(cross_match(one, other, 1.0)) == 1
    assert cross_match(one, other, 0.8).empty
    assert cross_match(one, other, 0.8).columns.tolist() == ["one_row", "other_row", "separation"]


def test_only_the_nearest_of_several_is_a_partner():
    one = table([10, 10, 10], [0, 0.5 * ARCSEC, 0])
    found = cross_match(one, table([10], [0.4 * ARCSEC]), 1.0)
    assert list(pairs(found)) == [(1, 0)]
    assert len(cross_match(one, table([10, 10], [0, 0]), 1.0)) == 1


def test_galaxies_of_unknown_place_have_no_partner():
    one = table([np.nan, 10, 20, 30], [1, 2, np.nan, 4])
    other = table([10, np.nan, 30, 20], [2, 2, 4, np.nan])
    assert list(pairs(cross_match(one, other, 1.0))) == [(1, 0), (3, 2)]
    nowhere = table([np.nan, 3], [4, np.nan])
    for first, second, which in ((nowhere, one, "first"), (one, nowhere, "second")):
        with pytest.raises(ValueError, match=rf"no galaxy of the {which}.* dataset\.columns\.ra"):
            cross_match(first, second, 1.0)


# The task


def store(name, galaxies, **questions):
    return SimpleNamespace(galaxies=pd.DataFrame(galaxies), questions=questions, folder=name)


SDSS = store(
    "sdss",
    {
        **{"id": ["587722984435351614", "a", "b"], "ra": [10.0, np.nan, 30.0], "dec": [1.0, 2, 3]},
        **{"votes_from": "counted", "bar_yes": [3, 1, 2], "bar_no": [4, 1, 2]},
        **{"bar_total": [8, 2, 4], "how-rounded_round": 1, "how-rounded_total": 1},
    },
    bar=("yes", "no"),
    **{"how-rounded": ("round",)},
)
DECALS = store(
    "decals",
    {
        **{"id": ["J3", "J1"], "ra": [30.0001, 10.0], "dec": [3.0, 1.0]},
        **{"bar_strong": [5, 6], "bar_no": [7, 8], "bar_total": [12, 14], "odd_total": 0},
    },
    bar=("strong", "no"),
    odd=(),
    **{"how-rounded": ("round",)},
)


@pytest.fixture
def stores(monkeypatch):
    """SDSS, as if prepared, and DECALS, as if found in a folder."""
    monkeypatch.setattr(task, "prepare", lambda dataset: SDSS)
    monkeypatch.setattr(task, "open_store", {"decals": DECALS, "sdss": SDSS}.__getitem__)


def run(**changes):
    whole = from_config(RunSpec, trizoo.compose(["task=match"]))
    return dataclasses.replace(whole, match=dataclasses.replace(whole.match, **changes))


def test_a_match_writes_both_stores_votes_side_by_side(stores, tmp_path):
    done = match(run(store="decals"), tmp_path)
    table = pd.read_parquet(tmp_path / "matches.parquet")
    assert table.columns.tolist() == [
        *("id", "other_id", "separation", "ra", "dec"),
        *("this_bar_yes", "this_bar_no", "this_bar_total"),
        *("other_bar_strong", "other_bar_no", "other_bar_total"),
    ]
    assert table["id"].tolist() == ["587722984435351614", "b"]
    assert table["other_id"].tolist() == ["J1", "J3"]
    assert table[["this_bar_yes", "other_bar_strong"]].to_numpy().tolist() == [[3, 6], [2, 5]]
    assert table[["this_bar_total", "other_bar_total"]].to_numpy().tolist() == [[8, 14], [4, 12]]
    assert table["ra"].tolist() == [10, 30]
    np.testing.assert_allclose(table["separation"], [0, 0.36 * np.cos(np.deg2rad(3))], atol=1e-6)
    text = pd.read_csv(tmp_path / "matches.csv", dtype={"id": str})
    pd.testing.assert_frame_equal(text, table, check_dtype=False)
    results = done["results"]
    assert done["where"] == {}
    assert results["galaxies"] == [3, 2]
    assert results["without_place"] == [1, 0]
    assert (results["matches"], results["questions"]) == (2, ["bar"])
    assert results["summary"].startswith("2 of 3 galaxies are among the 2 of decals")


def test_columns_of_a_match_have_no_hyphens(stores, tmp_path):
    match(run(store="sdss", radius=10.0), tmp_path)
    table = pd.read_parquet(tmp_path / "matches.parquet")
    assert {"this_how_rounded_round", "other_how_rounded_total"} <= set(table)
    assert not [name for name in table if "-" in name]


def test_no_match_is_a_table_without_rows(stores, tmp_path, monkeypatch):
    far = store("far", {"id": ["x"], "ra": [200.0], "dec": [0.0]})
    monkeypatch.setattr(task, "open_store", {"far": far}.get)
    results = match(run(store="far"), tmp_path)["results"]
    assert (results["matches"], results["median_separation"]) == (0, None)
    assert pd.read_csv(tmp_path / "matches.csv").empty


def test_a_match_without_a_store_or_places_says_what_to_do(stores, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"match\.store is null; name the folder"):
        match(run(), tmp_path)
    lost = store("lost", {"id": ["x"], "ra": [np.nan], "dec": [np.nan]})
    monkeypatch.setattr(task, "open_store", {"lost": lost}.get)
    with pytest.raises(ValueError, match=r"no galaxy of lost has a place.*dataset\.columns\.ra"):
        match(run(store="lost"), tmp_path)
