"""Random bits that depend on seed, purpose, galaxy, step and index, and on nothing else."""

import numpy as np
import pytest

from shared.run import keys


@pytest.mark.parametrize(
    ("key", "counter", "words"),
    [  # the known answers that the Random123 library distributes for threefry2x32, 20 rounds
        ([0, 0], [0, 0], [0x6B200159, 0x99BA4EFE]),
        ([2**32 - 1] * 2, [2**32 - 1] * 2, [0x1CB996FC, 0xBB002BE7]),
        ([0x13198A2E, 0x03707344], [0x243F6A88, 0x85A308D3], [0xC4923A9C, 0x483DF7A0]),
    ],
)
def test_known_answers(key, counter, words):
    key, counter = np.array(key, np.uint32), np.array([counter, counter], np.uint32)
    np.testing.assert_array_equal(keys.threefry2x32(key, counter), [words, words])


def test_every_galaxy_purpose_seed_step_and_unit_has_words_of_its_own():
    ids = ["a", "b"]
    words = [
        keys.bits(keys.galaxy_keys(seed, purpose, ids), np.array([step, step]), 8)
        for seed in (0, 1, 2**63)
        for purpose in ("dropout", "posterior")
        for step in (0, 1)
    ]
    assert len(np.unique(np.concatenate([word.ravel() for word in words]))) == 3 * 2 * 2 * 2 * 8


def test_a_galaxys_words_do_not_depend_on_its_company():
    alone = keys.bits(keys.galaxy_keys(3, "dropout", ["b"]), 5, 7)
    together = keys.bits(keys.galaxy_keys(3, "dropout", ["a", "b", "c"]), 5, 9)
    np.testing.assert_array_equal(alone[0], together[1, :7])


def test_hashes_stand_for_ids():
    hashes = keys.galaxy_hash(["588848901537202306", "x"])
    by_hash = keys.galaxy_keys(0, "order", hashes)
    np.testing.assert_array_equal(
        by_hash, keys.galaxy_keys(0, "order", ["588848901537202306", "x"])
    )
    assert hashes[0] == 15594027709787684757


def test_uniforms_are_uniform():
    u = keys.uniforms(keys.purpose_key(0, "weights"), 0, 100_000)
    counts, _ = np.histogram(u, 20, (0, 1))
    assert ((counts - 5000) ** 2 / 5000).sum() < 43.8  # chi squared, 19 degrees of freedom, 0.1 %
    assert (u * 2**24 == np.floor(u * 2**24)).all()


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5])
def test_dropout_keeps_its_share(rate):
    kept = keys.keep(keys.purpose_key(1, "dropout"), 0, 100_000, rate)
    assert abs(kept.mean() - (1 - rate)) < 0.005
    assert rate or kept.all()
