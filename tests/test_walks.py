"""A volunteer's walks through a schema of questions: all of them, and what one tells about the network."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from fake import Fake
from scipy.special import entr, softmax

from shared.data.schema import answers, chance_asked, slices
from shared.method.walks import MOST_WALKS, check_fractions, information_bound, walks_of
from shared.proof import reference
from shared.run.questions import layers
from shared.run.spec import BACKENDS
from trizoo import child_environment, compose

ROOT = Path(__file__).parent.parent
WALKS = {  # through each survey's questions
    "gz1": 6,
    "gz2": 1265,
    "gz2_hub": 317,
    "gz2_kaggle": 1265,
    "gz2_sdss": 1265,
    "gz_candels": 1105,
    "gz_decals12": 409,
    "gz_decals5": 1165,
    "gz_decals5_legacy": 1165,
    "gz_decals_auto": 1165,
    "gz_hubble": 7409,
    "sdss_gz1": 2,
    "synthetic": 9,
    "synthetic_gz2": 1265,
    "synthetic_gz_candels": 1105,
    "synthetic_gz_decals12": 409,
    "synthetic_gz_hubble": 7409,
    "synthetic_tree": 1165,
}
SCORED = """
import json, sys
sys.path.insert(0, "tests")
import numpy as np
from shared.method.backend import load_backend
from shared.method.walks import walks_of
from shared.proof import reference
from test_walks import draw, random_schema, survey
backend, random, found = load_backend(sys.argv[1], "float64"), np.random.default_rng(0), []
for schema, samples in ((random_schema(random), 9), (survey("gz_decals5"), 30)):
    fractions = draw(random, schema[0], 12, samples)
    fractions[3] = fractions[3, :1]
    scores = backend.walk_information(fractions, walks_of(*schema))
    assert scores.shape == (12,)
    found.append([float(np.abs(scores - reference.walk_information(*schema, fractions)).max()), float(scores[3])])
assert backend.walk_information(fractions[:0], walks_of(*schema)).shape == (0,)
print(json.dumps(found))
"""


def survey(name):
    """The questions of a file of conf/dataset, and what leads to them."""
    spec = compose([f"dataset={name}", "dataset.images=photos"])["dataset"]
    return spec["questions"], spec["leads"]


def random_schema(random):
    """Up to six questions of two or three answers; some are asked of everybody, some after several questions."""
    questions = {f"q{n}": [f"a{k}" for k in range(random.integers(2, 4))] for n in range(6)}
    leads = {}
    for number, question in enumerate(questions):
        earlier = [q for q in list(questions)[:number] if random.random() < 0.4]
        some = {
            q: random.permutation(questions[q])[: random.integers(1, len(questions[q]))].tolist()
            for q in earlier
        }
        leads |= {question: some} if some else {}
    shuffled = random.permutation(list(questions)).tolist()
    return {question: questions[question] for question in shuffled}, leads


def draw(random, questions, galaxies, samples):
    """Vote fractions (galaxy, sample, answer) of samples that differ in all questions together; some are 0 and 1."""
    count = len(answers(questions))
    shared = random.normal(0, 1, count) * random.normal(0, 1, (galaxies, samples, 1))
    logits = random.normal(0, 2, (galaxies, 1, count)) + shared
    logits[:2, :, 1::2] = -np.inf
    for place in slices(questions).values():
        logits[:2, :, place.start] = 0
    return np.concatenate([softmax(logits[..., p], -1) for p in slices(questions).values()], -1)


def brute_force(questions, leads, fractions):
    """Of every walk its probability (..., walk): each is what is asked under some answers to all questions."""
    axis, depth = {pair: n for n, pair in enumerate(answers(questions))}, layers(questions, leads)
    walks = set()
    for given in product(*questions.values()):
        given, asked = dict(zip(questions, given, strict=True)), set()
        for question in sorted(questions, key=depth.get):
            froms = leads.get(question, {})
            if not froms or any(q in asked and given[q] in some for q, some in froms.items()):
                asked.add(question)
        walks.add(frozenset(axis[question, given[question]] for question in asked))
    return np.stack([fractions[..., sorted(walk)].prod(-1) for walk in walks], -1)


@pytest.fixture(params=range(12))
def schema(request):
    return random_schema(np.random.default_rng(request.param))


def test_every_walk_is_there_once(schema):
    fractions = draw(np.random.default_rng(1), schema[0], 5, 4)
    each = brute_force(*schema, fractions)
    np.testing.assert_allclose(each.sum(-1), 1)
    found = np.stack(reference.walk_probabilities(*schema, fractions), -1)
    np.testing.assert_allclose(np.sort(found), np.sort(each), atol=1e-15)
    assert walks_of(*schema).count == each.shape[-1]


def test_what_a_walk_tells(schema):
    fractions = draw(np.random.default_rng(2), schema[0], 20, 5)
    each = brute_force(*schema, fractions)
    told = entr(each.mean(1)).sum(1) - entr(each).sum(2).mean(1)
    np.testing.assert_allclose(
        reference.walk_information(*schema, fractions), told, atol=1e-13, rtol=0
    )
    got = Fake().walk_information(fractions, walks_of(*schema))
    np.testing.assert_allclose(got, told, atol=1e-13, rtol=0)
    assert told.min() > -1e-14


def test_a_branch_leads_to_a_node_before_its_own(schema):
    walks = walks_of(*schema)
    for node, branches in enumerate(walks.nodes):
        assert all(branch.next < node for branch in branches)
    assert hash(walks) == hash(walks_of(*schema))


def test_one_question_tells_what_one_vote_on_it_does():
    rho = np.random.default_rng(3).random((30, 7))
    fractions = np.stack([rho, 1 - rho], -1)
    told = reference.walk_information({"bar": ["yes", "no"]}, {}, fractions)
    np.testing.assert_allclose(told, reference.mutual_information(rho, 1), atol=1e-14)


def test_walks_of_every_survey():
    names = {path.stem for path in (ROOT / "conf" / "dataset").glob("[!_]*.yaml")} - {"folder"}
    assert {name: walks_of(*survey(name)).count for name in sorted(names)} == WALKS


def test_too_many_walks_are_refused():
    questions = {f"q{n}": ["yes", "no"] for n in range(40)}
    with pytest.raises(
        ValueError, match=f"{2**40} ways or more through these 40 .* at most {MOST_WALKS}"
    ):
        walks_of(questions, {})


def test_a_graph_that_is_too_large_is_refused_before_it_is_made():
    """Twenty questions, each of whose answers decides of two later ones."""
    first = {f"a{n}": ["yes", "no"] for n in range(20)}
    second = {f"b{n}": ["yes", "no"] for n in range(20)}
    leads = {f"b{n}": {f"a{n}": ["yes"], f"a{19 - n}": ["no"]} for n in range(20)}
    with pytest.raises(ValueError, match="ways or more through these 40"):
        walks_of(first | second, leads)


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        (np.ones((3, 2)), r"shape \(3, 2\)"),
        (np.ones((3, 0, 5)), r"shape \(3, 0, 5\)"),
        (np.full((3, 2, 4), 0.5), "5 answers"),
        (np.full((3, 2, 5), 0.5), "galaxy 0"),
        (np.tile([0.5, 0.5, 1.5, -0.5, 0], (3, 2, 1)), "galaxy 0"),
        (np.tile([0.5, np.nan, 1, 0, 0], (3, 2, 1)), "galaxy 0"),
    ],
)
def test_fractions_that_are_none_are_refused(fractions, message):
    walks = walks_of({"a": ["x", "y"], "b": ["u", "v", "w"]}, {})
    with pytest.raises(ValueError, match=message):
        check_fractions(fractions, walks)


# The bound


def test_a_walk_never_tells_more_than_the_bound(schema):
    """Where several answers lead to one question at once, the probability to be asked is not their sum."""
    questions, leads = schema
    leads = {question: dict(list(froms.items())[:1]) for question, froms in leads.items()}
    fractions = draw(np.random.default_rng(4), questions, 200, 5)
    bound = information_bound(questions, leads, fractions)
    told = reference.walk_information(questions, leads, fractions)
    assert (told <= bound + 1e-12).all()


def test_answers_that_tell_nothing_alike_tell_the_bound():
    """Four networks, of which each of two questions tells two from two."""
    fractions = np.array([[a, 1 - a, b, 1 - b] for a in (0.1, 0.8) for b in (0.3, 0.6)])[None]
    questions = {"a": ["yes", "no"], "b": ["yes", "no"]}
    told = reference.walk_information(questions, {}, fractions)
    np.testing.assert_allclose(told, information_bound(questions, {}, fractions))


def test_the_mean_chance_of_being_asked_makes_no_bound():
    """Two of a hundred networks ask a question, and only they differ in it."""
    questions, leads = {"a": ["yes", "no"], "b": ["yes", "no"]}, {"b": {"a": ["yes"]}}
    fractions = np.tile([0.0, 1.0, 0.5, 0.5], (100, 1))
    fractions[:2] = [[1, 0, 1, 0], [1, 0, 0, 1]]
    asked = chance_asked(questions, leads, fractions).mean(0)
    alone = [entr(f.mean(0)).sum() - entr(f).sum(1).mean() for f in np.split(fractions, 2, 1)]
    told = reference.walk_information(questions, leads, fractions[None])
    assert asked @ alone < 0.9 * told < information_bound(questions, leads, fractions[None])


# In each framework


@pytest.mark.parametrize("name", BACKENDS)
def test_frameworks(name):
    """In float64; float32 is a matter of the conformance suite."""
    command = [sys.executable, "-W", "ignore", "-c", SCORED, name]
    environment = child_environment({"threads": 1, "environment": {}})
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    for error, alike in json.loads(done.stdout.splitlines()[-1]):
        assert error <= 1e-12
        assert 0 <= alike <= 1e-12
