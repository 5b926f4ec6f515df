"""Acquisition: what is refused at the door, W+20's own scores, and a survey's worth in bounded memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shared import reference
from shared.acquisition import ELEMENTS, pieces
from shared.keys import galaxy_keys
from shared.spec import BACKENDS
from trizoo import child_environment

ROOT = Path(__file__).parent.parent
REAL = Path(os.environ.get("TRIZOO_REAL_DATA", ROOT.parent / "shared" / "data"))
SCORED = """
import json, resource, sys, time
import numpy as np
from shared.backend import load_backend
name, precision, stored = sys.argv[1:]
backend, found = load_backend(name, precision), {}
if stored != "none":
    file = np.load(stored)
    scores = backend.acquire("mutual_information", file["samples"], 40)
    found["stored"] = float(np.abs(scores - file["acquisitions"]).max())
    best, theirs = np.argsort(-scores)[:128], np.argsort(-file["acquisitions"])[:128]
    found["best"] = len(set(best) & set(theirs))
found["single"] = float(np.abs(backend.acquire("mutual_information", np.random.rand(50, 1), 40)).max())
found["alike"] = float(np.abs(backend.acquire("mutual_information", np.full((5, 15), 0.3), 40)).max())
if precision == "float32":
    pool = np.random.default_rng(0).random((300_000, 15), np.float32)
    backend.acquire("mutual_information", pool[:20_000], 40)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    scores = backend.acquire("mutual_information", pool, 40)
    found["seconds"] = time.perf_counter() - start
    found["megabytes"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    found["negative"] = float(-scores.min())
    found["shape"] = scores.shape
print(json.dumps(found))
"""


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("name", BACKENDS)
def test_scores_in_each_framework(name, precision):
    stored = REAL / "w20_posteriors" / "smooth.npz"
    command = [sys.executable, "-c", SCORED, name, precision, stored if stored.exists() else "none"]
    environment = child_environment({"threads": 0, "environment": {"TF_CPP_MIN_LOG_LEVEL": "3"}})
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    tolerance = {"float64": 1e-9, "float32": 1e-5}[precision]
    assert found["single"] == 0
    assert found["alike"] <= tolerance
    if precision == "float32":
        assert found["shape"] == [300_000]
        assert found["megabytes"] < 1024
        assert found["negative"] < 1e-6
    if "stored" not in found:
        pytest.skip("the rest needs W+20's stored posteriors (TRIZOO_REAL_DATA)")
    assert found["stored"] <= tolerance
    assert found["best"] == 128


def door(samples=((0.1, 0.2),), votes=40, name="mutual_information", keys=None):
    return list(pieces(name, np.array(samples), votes, keys))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "bald"}, "choose one of mutual_information"),
        ({"samples": [0.1, 0.2]}, "must be .galaxy, sample."),
        ({"samples": np.zeros((3, 0))}, "a sample or more"),
        ({"samples": [[0.1, 0.2], [0.3, np.nan]]}, "of galaxy 1 are not all between 0 and 1"),
        ({"samples": [[-0.1, 0.2]]}, "of galaxy 0"),
        ({"votes": 40.0}, "one whole number"),
        ({"votes": -1}, "one whole number"),
        ({"votes": np.array([40, 40])}, "each of the 1 galaxies"),
        ({"name": "random"}, "needs keys"),
        ({"name": "random", "keys": galaxy_keys(0, "acquisition", ["a", "b"])}, "needs keys"),
    ],
)
def test_refusals(wrong, message):
    with pytest.raises(ValueError, match=message):
        door(**wrong)


def test_pieces_are_alike_bounded_and_complete():
    samples = np.random.default_rng(0).random((30_000, 15))
    found = list(pieces("entropy", samples, 40, None))
    assert len({piece.samples.shape for piece in found}) == 1
    assert all(piece.samples.size * 41 <= ELEMENTS for piece in found)
    np.testing.assert_array_equal(np.concatenate([p.samples[: p.count] for p in found]), samples)


def test_no_galaxies_have_no_pieces():
    assert door(np.zeros((0, 5))) == []


def test_information_of_a_coin_by_hand():
    """Half the samples say surely yes, half surely no: one vote or forty tell one bit, no vote tells nothing."""
    samples = np.array([[0.0, 1.0]])
    for votes, nats in ((1, np.log(2)), (40, np.log(2)), (0, 0)):
        np.testing.assert_allclose(reference.mutual_information(samples, votes), [nats], atol=1e-15)


def test_information_does_not_mind_which_answer_is_yes():
    samples = np.random.default_rng(0).random((20, 7))
    one, other = (reference.mutual_information(rho, 11) for rho in (samples, 1 - samples))
    np.testing.assert_allclose(one, other, rtol=1e-12)
    assert (one > 0).all()
