import hashlib
import tracemalloc

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy.stats import binom

from shared.method import metrics
from shared.output.columns import describe_columns
from shared.output.posterior import (
    column_prefix,
    least_sure,
    most_sure,
    posterior_table,
    read_facts,
    read_posterior,
    top_galaxies,
    votes_interval,
    write_posterior,
)
from shared.run.spec import MOST_VOTES

SMOOTH = "smooth_or_featured_smooth"
OTHER = "smooth_or_featured_featured_or_disk_or_artifact"


def galaxies(count=4):
    return pd.DataFrame(
        {
            "id": [f"g{number}" for number in range(count)],
            "ra": 10.0 + np.arange(count),
            "dec": [np.nan, *np.linspace(-5, 5, count - 1)],
        },
        index=np.arange(count)[::-1],  # as when rows were chosen from a larger table
    )


def table(samples, expected_votes=40, rows=None):
    rows = galaxies(len(samples)) if rows is None else rows
    information = np.linspace(0.5, 0.1, len(samples))
    question, negative = "smooth-or-featured", ("featured-or-disk", "artifact")
    return posterior_table(
        rows,
        samples,
        question,
        ("smooth",),
        negative,
        expected_votes,
        information,
        np.arange(len(samples)) == 0,
    )


@pytest.fixture
def samples():
    return np.random.default_rng(0).beta(2, 3, (4, 57)).astype(np.float32)


def test_columns_and_their_order(samples):
    parts = ["mean", "std", "p05", "p50", "p95", "votes_low", "votes_high"]
    assert list(table(samples)) == [
        *("id", "ra", "dec", "in_training"),
        *(f"{SMOOTH}_{part}" for part in parts),
        *(f"{OTHER}_{part}" for part in parts),
        "mutual_information",
    ]
    assert column_prefix("bar", ("strong", "weak")) == "bar_strong_or_weak"


def test_rows_are_the_galaxies_in_their_order(samples):
    out = table(samples)
    assert out["id"].tolist() == ["g0", "g1", "g2", "g3"]
    assert out["ra"].tolist() == [10, 11, 12, 13]
    assert np.isnan(out["dec"][0])
    assert out["in_training"].tolist() == [True, False, False, False]
    assert out["mutual_information"].tolist() == pytest.approx(np.linspace(0.5, 0.1, 4))


def test_fractions_are_those_of_the_samples(samples):
    out, rho = table(samples), samples.astype(np.float64)
    for prefix, values in ((SMOOTH, rho), (OTHER, 1 - rho)):
        np.testing.assert_allclose(out[f"{prefix}_mean"], values.mean(1), rtol=1e-12)
        np.testing.assert_allclose(out[f"{prefix}_std"], values.std(1), rtol=1e-12)
        for name, share in (("p05", 0.05), ("p50", 0.5), ("p95", 0.95)):
            np.testing.assert_allclose(out[f"{prefix}_{name}"], np.quantile(values, share, 1))


def test_one_sample_gives_scipys_interval():
    rho = np.array([[0.0], [1.0], [0.5], [0.02], [0.31], [0.97]])
    low, high = votes_interval(rho, 40)
    expected_low, expected_high = binom.interval(0.9, 40, rho[:, 0])
    assert low.tolist() == np.maximum(expected_low, 0).tolist()
    assert high.tolist() == expected_high.tolist()
    assert (low[0], high[0], low[1], high[1]) == (0, 0, 40, 40)


def test_interval_of_a_mixture_by_brute_force(samples):
    low, high = votes_interval(samples, 11)
    for rho, start, end in zip(samples.astype(float), low, high, strict=True):
        within = [binom.cdf(count, 11, rho).mean() for count in range(12)]
        assert start == next(count for count in range(12) if within[count] >= 0.05)
        assert end == next(count for count in range(12) if within[count] >= 0.95)


def test_interval_of_two_minds_spans_both():
    low, high = votes_interval(np.array([[0.0, 1.0]]), 10)
    assert (low[0], high[0]) == (0, 10)


def test_counts_of_no_mirror_counts_of_yes(samples):
    out = table(samples, expected_votes=25)
    assert (out[f"{OTHER}_votes_low"] == 25 - out[f"{SMOOTH}_votes_high"]).all()
    assert (out[f"{OTHER}_votes_high"] == 25 - out[f"{SMOOTH}_votes_low"]).all()
    low, high = votes_interval(1 - samples.astype(np.float64), 25)
    assert out[f"{OTHER}_votes_low"].tolist() == low.tolist()
    assert out[f"{OTHER}_votes_high"].tolist() == high.tolist()


def test_pieces_do_not_change_the_table(samples, monkeypatch):
    whole = table(samples)
    monkeypatch.setattr(metrics, "ELEMENTS", 60)
    pd.testing.assert_frame_equal(table(samples), whole)


def test_coordinates_that_no_galaxy_has_are_left_out(samples):
    assert "ra" not in table(samples, rows=galaxies().assign(ra=np.nan))
    assert "dec" in table(samples, rows=galaxies().assign(ra=np.nan))
    assert list(table(samples, rows=galaxies()[["id"]]))[:2] == ["id", "in_training"]


def test_arrays_must_belong_together(samples):
    with pytest.raises(ValueError, match="samples has 3 rows for 4 galaxies"):
        table(samples[:3], rows=galaxies(4))


def test_a_file_gives_back_table_and_facts(samples, tmp_path):
    out, facts = table(samples), {"seed": 3, "backend": "jax", "nested": {"votes": 40}}
    write_posterior(tmp_path / "new" / "posterior.parquet", out, facts)
    pd.testing.assert_frame_equal(read_posterior(tmp_path / "new" / "posterior.parquet"), out)
    assert read_facts(tmp_path / "new" / "posterior.parquet") == facts
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["posterior.parquet"]


def test_the_same_table_gives_the_same_bytes(samples, tmp_path):
    digests = set()
    for name, facts in (("a", {"x": 1, "y": 2}), ("b", {"y": 2, "x": 1})):
        write_posterior(tmp_path / name, table(samples), facts)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1


def test_every_column_says_what_it_means_in_the_file(samples, tmp_path):
    out = table(samples)
    write_posterior(tmp_path / "posterior.parquet", out, {})
    schema = pq.read_schema(tmp_path / "posterior.parquet")
    for name, column in describe_columns(out).items():
        held = {key.decode(): value.decode() for key, value in schema.field(name).metadata.items()}
        assert held == column._asdict()
        assert column.description
    assert describe_columns(out)["ra"] == ("deg", "pos.eq.ra;meta.main", "right ascension")
    assert describe_columns(out)[f"{OTHER}_votes_low"].description.startswith(OTHER + ": least")


def test_a_strange_column_is_refused(samples, tmp_path):
    with pytest.raises(ValueError, match="redshift"):
        write_posterior(tmp_path / "posterior.parquet", table(samples).assign(redshift=1), {})
    assert not list(tmp_path.iterdir())


def test_galaxies_in_order_of_interest():
    rho = np.array([[0.2], [0.9], [0.5], [0.9]])
    out = table(rho)
    assert top_galaxies(out, SMOOTH, 3)["id"].tolist() == ["g1", "g3", "g2"]
    assert top_galaxies(out[::-1], SMOOTH, 3)["id"].tolist() == ["g1", "g3", "g2"]
    assert top_galaxies(out, OTHER, 1)["id"].tolist() == ["g0"]
    assert least_sure(out, 2)["id"].tolist() == ["g0", "g1"]
    assert most_sure(out, 2)["id"].tolist() == ["g3", "g2"]


@pytest.mark.parametrize("votes", [1, 40, 1000, MOST_VOTES])
def test_the_interval_of_any_number_of_votes_is_that_of_scipys_mixture(votes):
    """In memory that does not grow with votes and samples together."""
    random = np.random.default_rng(votes)
    samples = np.vstack(
        [random.random((3, 800)), random.beta(40, 60, (2, 800)), np.zeros((1, 800))]
    )
    tracemalloc.start()
    try:
        low, high = votes_interval(samples, votes)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    for rho, least, most in zip(samples, low, high, strict=True):
        for share, found in ((0.05, least), (0.95, most)):
            reached = binom.cdf([found - 1, found], votes, rho[:, None]).mean(0)
            assert reached[0] < share + 1e-9
            assert reached[1] > share - 1e-9
