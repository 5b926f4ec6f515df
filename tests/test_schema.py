import dataclasses
import itertools
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from surveys import dataset

import trizoo
from shared.data import schema
from shared.run.questions import check, layers
from shared.run.spec import RunSpec, from_config
from shared.tasks.show import show

FILES = sorted(file.stem for file in (trizoo.CONF / "dataset").glob("*.yaml"))
GRAPHS = ["gz2", "gz2_hub", "gz_hubble", "gz_candels", "gz_decals12", "gz_decals5"]

# A diamond: d is reached from two answers of b, and from one of c; nobody gives both b and c.
QUESTIONS = {"d": ("x", "y"), "a": ("x", "y", "z"), "b": ("x", "y", "z"), "c": ("x", "y")}
LEADS = {"b": {"a": ("x",)}, "c": {"a": ("y",)}, "d": {"b": ("x", "z"), "c": ("y",)}}


def volunteers(questions, leads):
    """Every way through a schema: what a volunteer answers, {question: answer}, independent of our own code."""

    def on(given, left):
        ready = [q for q in left if all(e not in left for e in leads.get(q, {}))]
        if not ready:
            assert not left
            yield given
            return
        question, froms = ready[0], leads.get(ready[0])
        rest = [q for q in left if q != question]
        asked = froms is None or any(given.get(e) in some for e, some in froms.items())
        for answer in questions[question] if asked else ():
            yield from on({**given, question: answer}, rest)
        if not asked:
            yield from on(given, rest)

    return on({}, list(questions))


def draw_fractions(questions, galaxies, seed):
    rng = np.random.default_rng(seed)
    return np.hstack([rng.dirichlet(np.ones(len(some)), galaxies) for some in questions.values()])


def graph(seed):
    """A schema drawn at random, in which no volunteer comes to a question twice: a question follows answers to one
    question, or those to two that nobody is asked both of.
    """
    rng = np.random.default_rng(seed)
    names = [f"q{i}" for i in rng.permutation(12)]
    questions = {q: tuple("abcd"[: rng.integers(3, 5)]) for q in sorted(names)}
    leads = {}
    for i, question in enumerate(names[1:], 1):
        one = names[rng.integers(i)]
        froms = {one: some(rng, questions[one])}
        for other in rng.permutation(names[:i]).tolist():
            if not asked_together(questions, leads, one, other):
                froms[other] = some(rng, questions[other])
                break
        leads[question] = froms
    return questions, leads


def some(rng, answers):
    return tuple(rng.permutation(answers)[: rng.integers(1, len(answers) - 1)].tolist())


def asked_together(questions, leads, one, other):
    """Whether a volunteer may be asked both; only of questions that lead to them, to be quick."""
    needed = {one, other} | {
        q for name in (one, other) for q, _ in schema.relevant(questions, leads, name)
    }
    few = {q: questions[q] for q in questions if q in needed}
    ways = volunteers(few, {q: leads[q] for q in few if q in leads})
    return any(one in given and other in given for given in ways)


def test_axes():
    pairs = schema.answers(QUESTIONS)
    assert pairs[:3] == [("d", "x"), ("d", "y"), ("a", "x")]
    assert schema.columns(QUESTIONS) == [f"{q}_{a}" for q, a in pairs]
    assert schema.slices(QUESTIONS) == {
        "d": slice(0, 2),
        "a": slice(2, 5),
        "b": slice(5, 8),
        "c": slice(8, 10),
    }
    assert schema.slices({}) == {}


def test_layers_are_the_longest_ways():
    assert layers(QUESTIONS, LEADS) == {"d": 2, "a": 0, "b": 1, "c": 1}
    assert layers(QUESTIONS, {**LEADS, "c": {"b": ("y",)}})["d"] == 3


@pytest.mark.parametrize(
    ("leads", "message"),
    [
        ({"bee": {"a": ("x",)}}, "'bee', which is none of d, a, b, c"),
        ({"b": {"alpha": ("x",)}}, r"leads\.b\.alpha is led from by 'alpha', which is none of"),
        ({"b": {"a": ("w",)}}, r"leads\.b\.a has the answer 'w', which is none of x, y, z"),
        ({"b": {}}, r"leads\.b is empty, so nobody would be asked; name .* or leave it out"),
        ({"b": {"a": ()}}, r"leads\.b\.a is \[\]; it must hold one or more of the answers x, y, z"),
        ({"b": {"a": ("x", "x")}}, r"leads\.b\.a is \['x', 'x'\].* each once"),
        ({"b": {"b": ("x",)}}, "circle, b -> b"),
        ({"b": {"a": ("x",)}, "c": {"b": ("x",)}, "a": {"c": ("y",)}},
         r"circle, (a -> b -> c|b -> c -> a|c -> a -> b) -> [abc]:"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(leads, message):
    with pytest.raises(ValueError, match=message):
        check(QUESTIONS, leads)


def test_the_nearest_name_is_offered():
    questions = {"has-spiral-arms": ("yes", "no"), "spiral-winding": ("tight", "loose")}
    for leads in ({"spiral-windng": {}}, {"spiral-winding": {"has-spiral-arm": ("yes",)}}):
        with pytest.raises(
            ValueError, match=r"\(the nearest is '(spiral-winding|has-spiral-arms)'\)"
        ):
            check(questions, leads)
    with pytest.raises(ValueError, match=r"'yess', .*the nearest is 'yes'"):
        check(questions, {"spiral-winding": {"has-spiral-arms": ("yess",)}})


@pytest.mark.parametrize("name", FILES)
def test_every_dataset_passes(name):
    survey = dataset(name)
    check(survey.questions, survey.leads)


@pytest.mark.parametrize("name", GRAPHS)
def test_no_volunteer_comes_to_a_question_twice(name):
    """So the sum over paths is a probability."""
    survey = dataset(name)
    count = 0
    for given in volunteers(*without_dead_ends(survey.questions, survey.leads)):
        for froms in survey.leads.values():
            ways = sum(given.get(earlier) in some for earlier, some in froms.items())
            assert ways <= 1
        count += 1
    assert count >= 5


def without_dead_ends(questions, leads):
    """The questions that lead to others: the answers to the rest make more ways, but none to a question."""
    needed = {earlier for froms in leads.values() for earlier in froms}
    few = {q: some for q, some in questions.items() if q in needed}
    return few, {q: froms for q, froms in leads.items() if q in few}


def enumerated(questions, leads, fractions):
    """chance_asked, way by way: the product of what a volunteer answers, summed over the volunteers who are asked."""
    few, few_leads = without_dead_ends(questions, leads)
    axis = {pair: i for i, pair in enumerate(schema.answers(questions))}
    chance = np.zeros((len(fractions), len(questions)))
    for given in volunteers(few, few_leads):
        product = np.prod([fractions[:, axis[pair]] for pair in given.items()], axis=0)
        for i, question in enumerate(questions):
            froms = leads.get(question)
            if froms is None or any(given.get(e) in some for e, some in froms.items()):
                chance[:, i] += product
    return chance


@pytest.mark.parametrize("name", GRAPHS)
def test_chances_of_the_surveys_are_those_of_their_volunteers(name):
    survey = dataset(name)
    fractions = draw_fractions(survey.questions, 5, 1)
    chance = schema.chance_asked(survey.questions, survey.leads, fractions)
    expected = enumerated(survey.questions, survey.leads, fractions)
    np.testing.assert_allclose(chance, expected, rtol=1e-12)
    assert expected.max() <= 1 + 1e-12
    assert (chance <= 1).all()


@pytest.mark.parametrize("seed", range(25))
def test_chances_of_any_graph_are_those_of_its_volunteers(seed):
    questions, leads = graph(seed)
    check(questions, leads)
    fractions = draw_fractions(questions, 3, seed)
    chance = schema.chance_asked(questions, leads, fractions)
    np.testing.assert_allclose(chance, enumerated(questions, leads, fractions), rtol=1e-12)


def test_random_graphs_have_questions_of_several_answers():
    several = [len(froms) > 1 for seed in range(25) for froms in graph(seed)[1].values()]
    assert sum(several) > 10


def test_where_nobody_comes_fractions_may_be_anything():
    nan = np.nan
    #             d.x  d.y   a.x  a.y  a.z   b.x  b.y  b.z   c.x  c.y
    fractions = [[0.5, 0.5,  0.0, 0.4, 0.6,  nan, nan, nan,  0.5, 0.5],
                 [nan, nan,  0.0, 0.0, 1.0,  nan, nan, nan,  nan, nan],
                 [0.5, 0.5,  0.5, 0.5, 0.0,  nan, nan, nan,  0.5, 0.5],
                 [0.5, 0.5,  nan, nan, nan,  0.5, 0.5, 0.0,  0.5, 0.5]]  # fmt: skip
    chance = schema.chance_asked(QUESTIONS, LEADS, np.array(fractions))
    expected = [[0.2, 1, 0, 0.4], [0, 1, 0, 0], [nan, 1, 0.5, 0.5], [nan, 1, nan, nan]]
    np.testing.assert_allclose(chance, expected)


def test_paths_that_overlap_are_cut_at_one():
    leads = {"b": {"a": ("x", "y")}, "c": {"a": ("x",), "b": ("x",)}}
    fractions = draw_fractions(QUESTIONS, 1, 0)
    fractions[0] = [0.5, 0.5, 1, 0, 0, 1, 0, 0, 0.5, 0.5]
    assert schema.chance_asked(QUESTIONS, leads, fractions).tolist() == [[1, 1, 1, 1]]


def test_no_galaxies_have_no_chances():
    empty = np.zeros((0, 10), np.float32)
    assert schema.chance_asked(QUESTIONS, LEADS, empty).shape == (0, 4)


def test_relevant_answers():
    assert schema.relevant(QUESTIONS, LEADS, "a") == []
    assert schema.relevant(QUESTIONS, LEADS, "b") == [("a", "x")]
    assert schema.relevant(QUESTIONS, LEADS, "d") == [
        ("a", "x"), ("a", "y"), ("b", "x"), ("b", "z"), ("c", "y")
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no question 'e'"):
        schema.relevant(QUESTIONS, LEADS, "e")


@pytest.mark.parametrize("name", ["gz2", "gz_candels", "gz_decals5"])
def test_relevant_answers_are_those_of_volunteers_who_are_asked(name):
    survey = dataset(name)
    few, leads = without_dead_ends(survey.questions, survey.leads)
    for question in few:
        needed = {q for q, _ in schema.relevant(few, leads, question)}
        seen = {
            (q, a)
            for given in volunteers(few, leads)
            if question in given
            for q, a in given.items()
            if q in needed
        }
        on_paths = set(schema.relevant(few, leads, question))
        assert on_paths <= seen
        # Whoever gives none of them is not asked.
        for given in volunteers(few, leads):
            if question in given and question in leads:
                assert any(given.get(q) == a for q, a in on_paths)


# Drawings


def test_mermaid():
    text = schema.mermaid({"a": ("x", "y"), "b-c": ("yes", "no")}, {"b-c": {"a": ("x", "y")}})
    assert text == (
        'flowchart LR\n  q0["a<br>x, y"]\n  q1["b-c<br>yes, no"]\n  q0 -->|"x or y"| q1\n'
    )


def test_mermaid_keeps_what_would_break_it_inside_quotes():
    text = schema.mermaid({'a"<b>': ("]", "50;%")}, {})
    assert text == 'flowchart LR\n  q0["a#34;#60;b#62;<br>], 50#59;%"]\n'


SVG = "{http://www.w3.org/2000/svg}"


def drawn(name):
    survey = dataset(name)
    return survey, ElementTree.fromstring(schema.svg(survey.questions, survey.leads, name))


def number(element, *names):
    return [float(element.get(name)) for name in names]


@pytest.mark.parametrize("name", [*GRAPHS, "gz1", "synthetic", "folder"])
def test_drawings_hold_everything_and_nothing_overlaps(name):
    survey, tree = drawn(name)
    _, _, width, height = map(float, tree.get("viewBox").split())
    texts = [text for text in tree.iter(f"{SVG}text") if text.get("class") != "title"]
    names = [word for question, some in survey.questions.items() for word in (question, *some)]
    assert [text.text for text in texts] == names
    boxes = [number(box, "x", "y", "width", "height") for box in tree.iter(f"{SVG}rect")]
    assert len(boxes) == len(survey.questions)
    for (x, y, w, h), (x2, y2, w2, h2) in itertools.combinations(boxes, 2):
        assert x + w < x2 or x2 + w2 < x or y + h < y2 or y2 + h2 < y
    within = iter(texts)
    for (x, y, w, h), some in zip(boxes, survey.questions.values(), strict=True):
        assert x > 0
        assert y > 0
        assert x + w < width
        assert y + h < height
        baselines = []
        for text in itertools.islice(within, len(some) + 1):
            left, baseline = number(text, "x", "y")
            baselines.append(baseline)
            assert x < left
            assert (
                left + 7.3 * len(text.text) < x + w
            )  # the widest of the fonts named is 0.602 x 12
            assert y + 9 < baseline < y + h - 3
        assert (np.diff(baselines) >= 14).all()


@pytest.mark.parametrize("name", GRAPHS)
def test_curves_run_from_every_leading_answer_to_its_question_and_behind_no_box(name):
    survey, tree = drawn(name)
    boxes = [number(box, "x", "y", "width", "height") for box in tree.iter(f"{SVG}rect")]
    place = dict(zip(survey.questions, boxes, strict=True))
    ends, passing = set(), {}
    for path in tree.iter(f"{SVG}path"):
        places = re.findall(r"[-\d.]+", path.get("d"))
        level = re.search(r"H([-\d.]+)$", path.get("d"))
        x0, y0, x1, y1 = map(float, [*places[:2], *places[-3:-1]])
        assert float(level[1]) == x1  # the last curve ends at its question, and goes no further
        ends.add((x0, y0, x1, y1))
        # Where it passes a column it is level, no box of that column is there, and no other questions' curve is.
        for x, y, right in re.findall(r"([-\d.]+) ([-\d.]+)H([-\d.]+)", path.get("d")):
            if x != right:
                passing.setdefault((x, y), set()).add((x1, y1))
            for left, top, wide, high in boxes:
                crosses = float(x) < left + wide and left < float(right)
                assert not (crosses and top < float(y) < top + high)
    assert all(len(goals) == 1 for goals in passing.values())
    expected = set()
    for question, froms in survey.leads.items():
        for earlier, some in froms.items():
            x, y, wide, _ = place[earlier]
            for answer in some:
                row = y + 18 * (survey.questions[earlier].index(answer) + 1.5)
                expected.add((x + wide, row, place[question][0], place[question][1] + 9))
    assert ends == expected


def test_drawings_escape_what_xml_would_read():
    text = schema.svg({"a<b": ("x&y", "'")}, {}, '<"title">')
    tree = ElementTree.fromstring(text)
    assert [t.text for t in tree.iter(f"{SVG}text")] == ['<"title">', "a<b", "x&y", "'"]


@pytest.mark.parametrize("name", FILES)
def test_every_dataset_can_be_shown_by_its_name_alone(name):
    run = from_config(RunSpec, trizoo.compose(["task=show", f"dataset={name}"]))
    assert run.dataset.questions == dataset(name).questions


def test_show_writes_both_drawings_and_says_the_words(tmp_path, capsys):
    config = trizoo.compose(["task=show", "dataset=gz2"])  # no images, no table
    run = from_config(RunSpec, config)
    assert run.task.name == "show"
    done = show(run, tmp_path / "new")
    survey = run.dataset
    words = schema.mermaid(survey.questions, survey.leads)
    assert capsys.readouterr().out == words
    assert (tmp_path / "new" / "schema.mmd").read_text("utf-8") == words
    title = "gz2: 37 answers to 11 questions"
    picture = (tmp_path / "new" / "schema.svg").read_text("utf-8")
    assert picture == schema.svg(survey.questions, survey.leads, title)
    assert done == {
        "where": {},
        "results": {
            "questions": 11,
            "answers": 37,
            "summary": f"{title}: {tmp_path / 'new' / 'schema.svg'}",
        },
    }


def test_a_schema_without_leads_can_be_drawn(tmp_path):
    run = from_config(RunSpec, trizoo.compose(["task=show"]))
    run = dataclasses.replace(run, dataset=dataset("gz1"))
    assert show(run, tmp_path)["results"]["answers"] == 6
