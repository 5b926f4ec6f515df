import hashlib
import tracemalloc

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy.stats import binom

from shared.method import metrics, mixture
from shared.output.columns import describe_columns
from shared.output.posterior import (
    column_prefix,
    least_sure,
    located,
    most_sure,
    posterior_table,
    read_facts,
    read_posterior,
    top_galaxies,
    tree_table,
    votes_interval,
    write_blocks,
    write_posterior,
)
from shared.run.spec import MOST_VOTES
from tests.trees import LEADS, QUESTIONS, drawn_samples

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
    monkeypatch.setattr(mixture, "CACHED", 60)
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


def tree(count=4, known=True, **changes):
    fractions, concentrations = drawn_samples(count, 6, seed=0)
    given = {
        "galaxies": galaxies(count),
        "questions": QUESTIONS,
        "leads": LEADS,
        "fractions": fractions.astype(np.float32),
        "concentrations": concentrations.astype(np.float32) if known else None,
        "expected_votes": 40,
        "in_training": np.arange(count) == 0,
        "walk_information": np.linspace(0, 1, count),
    }
    return tree_table(**given | changes)


def test_a_tree_has_the_columns_of_every_question_and_answer():
    parts = ["mean", "std", "p05", "p50", "p95", "votes_low", "votes_high"]
    expected = ["id", "ra", "dec", "in_training"]
    for question, answers in QUESTIONS.items():
        name = question.replace("-", "_")
        expected += [f"{name}_asked", f"{name}_information"]
        expected += [f"{name}_{answer}_{part}" for answer in answers for part in parts]
    assert list(tree()) == [*expected, "walk_information"]
    assert list(tree(walk_information=None)) == expected
    assert tree()["id"].tolist() == ["g0", "g1", "g2", "g3"]
    assert not tree().drop(columns="dec").isna().any(axis=None)


@pytest.mark.parametrize("known", [True, False])
def test_a_tree_says_what_the_mixture_does(known):
    out = tree(known=known)
    fractions, concentrations = (array.astype(np.float32) for array in drawn_samples(4, 6, seed=0))
    concentrations = concentrations if known else None
    summary = mixture.summarise_fractions(QUESTIONS, fractions, concentrations)
    low, high = mixture.summarise_votes(QUESTIONS, fractions, concentrations, 40)
    asked = mixture.mean_asked(QUESTIONS, LEADS, fractions)
    told = mixture.information(QUESTIONS, fractions)
    axis = 0
    for number, (question, answers) in enumerate(QUESTIONS.items()):
        name = question.replace("-", "_")
        np.testing.assert_allclose(out[f"{name}_asked"], asked[:, number], rtol=1e-6)
        np.testing.assert_allclose(out[f"{name}_information"], told[:, number], rtol=1e-6)
        for answer in answers:
            for part, values in summary._asdict().items():
                np.testing.assert_allclose(
                    out[f"{name}_{answer}_{part}"], values[:, axis], rtol=1e-6
                )
            assert out[f"{name}_{answer}_votes_low"].tolist() == low[:, axis].tolist()
            assert out[f"{name}_{answer}_votes_high"].tolist() == high[:, axis].tolist()
            axis += 1


def test_a_tree_of_one_yes_or_no_question_has_the_numbers_of_its_own_table(samples):
    """To the float32 that a tree's are kept in."""
    own = table(samples)
    both = np.stack([samples, 1 - samples.astype(np.float64)], 2)
    questions = {"smooth-or-featured": ("smooth", "featured-or-disk_or_artifact")}
    out = tree(questions=questions, leads={}, fractions=both, concentrations=None)
    shared = [name for name in own if name in out and name.startswith("smooth")]
    assert len(shared) == 14
    for name in shared:
        np.testing.assert_allclose(out[name], own[name], rtol=1e-6, err_msg=name)


def test_every_column_of_a_tree_says_what_it_means():
    described = describe_columns(tree())
    assert described["bar_asked"].description.startswith("bar: probability that a volunteer")
    assert "in nats" in described["bar_information"].description
    assert "in nats" in described["walk_information"].description
    assert all(column.ucd and column.description for column in described.values())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"in_training": np.zeros(3, bool)}, "in_training has 3 rows for 4 galaxies"),
        ({"walk_information": np.zeros(5)}, "walk_information has 5 rows for 4 galaxies"),
        ({"fractions": np.zeros((4, 6, 3))}, "they must be .galaxy, sample, answer."),
        ({"fractions": np.zeros((4, 0, 14))}, "one sample or more and 14 answers"),
        ({"concentrations": np.ones((4, 6, 4))}, "they must be .galaxy, sample, question."),
        ({"fractions": np.full((4, 6, 14), 1.1)}, "galaxy 0 are not all between 0 and 1"),
        ({"fractions": np.full((4, 6, 14), np.nan)}, "galaxy 0 are not all between 0 and 1"),
        ({"concentrations": np.zeros((4, 6, 5))}, "galaxy 0 are not all above 0"),
    ],
)
def test_a_tree_refuses_what_cannot_be(changes, words):
    with pytest.raises(ValueError, match=words):
        tree(**changes)


def test_places_that_no_galaxy_has_are_left_out_of_all_blocks():
    rows = galaxies(4).assign(ra=np.nan, votes=3)
    assert list(located(rows)) == ["id", "dec"]
    first = located(rows)[:1]  # whose galaxy has none, though others do
    assert "dec" in tree(1, galaxies=first, in_training=None)
    assert "ra" not in tree(1, galaxies=first, in_training=None)


def test_blocks_are_one_table_and_are_taken_one_by_one(tmp_path):
    path, whole, taken = tmp_path / "posterior.parquet", tree(5), []

    def blocks():
        for start in (0, 2, 4):
            (beside,) = tmp_path.iterdir()
            taken.append(beside.stat().st_size)
            yield whole[start : start + 2]

    write_blocks(path, blocks(), {"seed": 3}, 9)
    pd.testing.assert_frame_equal(read_posterior(path), whole)
    assert read_facts(path) == {"seed": 3}
    assert pq.read_metadata(path).num_row_groups == 3
    assert taken == sorted(set(taken))  # what came before is written when the next is asked for
    assert pq.read_schema(path).field("bar_asked").metadata[b"ucd"] == b"stat.probability;src.morph"


def test_blocks_must_have_the_same_columns_or_nothing_is_left(tmp_path):
    path = tmp_path / "posterior.parquet"
    with pytest.raises(ValueError, match=r"other columns than the first .*'walk_information'"):
        write_blocks(path, [tree(), tree(walk_information=None)], {}, 9)
    with pytest.raises(ValueError, match="there are no tables to write"):
        write_blocks(path, [], {}, 9)
    assert not list(tmp_path.iterdir())


def test_a_block_may_not_know_what_was_learned_from(tmp_path):
    path = tmp_path / "posterior.parquet"
    write_blocks(path, [tree(2, in_training=None), tree(2, in_training=None)], {}, 9)
    assert read_posterior(path)["in_training"].isna().all()
    assert len(read_posterior(path)) == 4
