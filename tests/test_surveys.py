"""The surveys' configs against the official decision trees, the published columns and real rows; and the stand-ins."""

import json
import os
import re
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import surveys
from PIL import Image
from surveys import dataset, stand_in

import trizoo
from shared.data import schema
from shared.data.catalogue import read_catalogue
from shared.data.sources.opening import open_source
from shared.run.spec import RunSpec, from_config

REAL = Path(os.environ.get("TRIZOO_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
COLUMNS = REAL / "columns" / "columns"
OWN = ("folder", "synthetic", "sdss_gz1")
NAMES = sorted(file.stem for file in (trizoo.CONF / "dataset").glob("*.yaml"))
FILES = [name for name in NAMES if name not in OWN and not name.startswith("synthetic_")]

# Where volunteers went next, from every answer alike or from each: Willett et al. 2013 (GZ2), 2017 (Hubble), Simmons et
# al. 2017 (CANDELS), Walmsley et al. 2022 (DECaLS).
DISCS = {
    "disk-edge-on": {"yes": "edge-on-bulge", "no": "bar"},
    "bar": "has-spiral-arms",
    "has-spiral-arms": {"yes": "spiral-winding", "no": "bulge-size"},
    "spiral-winding": "spiral-arm-count",
    "spiral-arm-count": "bulge-size",
}
FIRST = {"smooth": "how-rounded", "featured-or-disk": "disk-edge-on", "artifact": None}
ODD = dict.fromkeys(("how-rounded", "edge-on-bulge", "bulge-size"), "something-odd")
GZ2 = {
    "smooth-or-featured": FIRST,
    **DISCS,
    **ODD,
    "something-odd": {"yes": "odd-feature", "no": None},
    "odd-feature": None,
}
DECALS = {
    "smooth-or-featured": FIRST,
    **DISCS,
    **dict.fromkeys(ODD, "merging"),
    "merging": None,
}
MANY = dict.fromkeys(("3", "4", "more-than-4", "cant-tell"), "clump-configuration")
CLUMPS = {
    "smooth-or-featured": {**FIRST, "featured-or-disk": "clumpy-appearance"},
    "clumpy-appearance": {"yes": "clump-count", "no": "disk-edge-on"},
    "clump-count": {"1": "galaxy-symmetrical", "2": "one-clump-brightest", **MANY},
    "one-clump-brightest": {"yes": "brightest-clump-central", "no": "galaxy-symmetrical"},
    "galaxy-symmetrical": "clumps-embedded",
}
LINED_UP = dict.fromkeys(("line", "chain", "cluster"), "one-clump-brightest")
TREES = {
    "gz2": GZ2,
    "gz2_hub": {q: to for q, to in GZ2.items() if q != "odd-feature"} | {"something-odd": None},
    "gz_hubble": {
        **GZ2,
        **CLUMPS,
        "clump-configuration": {**LINED_UP, "spiral": "bar"},
        "brightest-clump-central": "galaxy-symmetrical",
        "clumps-embedded": "something-odd",
    },
    "gz_candels": {
        **DECALS,
        **CLUMPS,
        "clump-configuration": "one-clump-brightest",
        "brightest-clump-central": {"yes": "galaxy-symmetrical", "no": "merging"},
        "clumps-embedded": "merging",
    },
    "gz_decals12": DECALS,
    "gz_decals5": DECALS,
}

# The tree of each as the project published it, and its tasks T00, T01, ...
OFFICIAL = {
    "gz2": ("gz2", """smooth-or-featured disk-edge-on bar has-spiral-arms bulge-size something-odd
        odd-feature how-rounded edge-on-bulge spiral-winding spiral-arm-count"""),
    "gz_hubble": ("gz3", """smooth-or-featured how-rounded clumpy-appearance clump-count clump-configuration
        one-clump-brightest brightest-clump-central galaxy-symmetrical clumps-embedded disk-edge-on edge-on-bulge bar
        has-spiral-arms spiral-winding spiral-arm-count bulge-size something-odd odd-feature"""),
    "gz_candels": ("gz4_c", """smooth-or-featured how-rounded clumpy-appearance clump-count clump-configuration
        one-clump-brightest brightest-clump-central galaxy-symmetrical clumps-embedded disk-edge-on edge-on-bulge bar
        has-spiral-arms spiral-winding spiral-arm-count bulge-size merging"""),
    "gz_decals12": ("gz4_d", """smooth-or-featured disk-edge-on bar has-spiral-arms bulge-size merging odd-features
        how-rounded edge-on-bulge spiral-winding spiral-arm-count"""),
}  # fmt: skip

PUBLISHED = [
    *(("gz2", name) for name in ("gz2_hart16_csv", "doc_gz2_hart16", "doc_zoo2MainSpecz", "doc_zoo2MainPhotoz",
        "doc_zoo2Stripe82Normal", "doc_zoo2Stripe82Coadd1", "doc_zoo2Stripe82Coadd2", "gz2_stripe82_coadd_table5_csv")),
    ("gz2_kaggle", "kaggle_training_solutions_rev1_csv"),
    ("gz2_hub", "galaxy_datasets_gz2_parquet"),
    ("gz_hubble", "doc_gz_hubble_main"),
    ("gz_candels", "doc_gzc_table2_description"),
    ("gz_decals12", "gz_decals_volunteers_1_and_2_csv"),
    ("gz_decals5", "gz_decals_volunteers_5_csv"),
    ("gz_decals_auto", "gz_decals_auto_posteriors_csv"),
]  # fmt: skip
RAW = {  # the columns of plain votes, or of plain shares of them
    "gz2": r"t\d\d.*_count",
    "gz2_kaggle": r"Class.*",
    "gz2_hub": r"[^_]*-gz2_(?!total-votes|semantic)[^_]*",
    "gz_hubble": r"t\d\d_.*(?<!weighted|debiased|..._best)_fraction|t\d\d.*_total_count",
    "gz_candels": r"t\d\d.*(?<!_weighted)_frac|t\d\d.*_count",
    "gz_decals12": r"[-a-z]+_[^_]+(?<!fraction|debiased)",
    "gz_decals5": r"[-a-z]+_(?!total-votes)[^_]+(?<!fraction|debiased)",
    "gz_decals_auto": r"[^\w\W]",
}
NO_VOTES = (
    r"elpetro.*|sersic.*|petro.*|upload_group|active.*|in_gzd.*|data_release|png_loc|wrong_size.*"
)


def real(path):
    if not path.exists():
        pytest.skip(f"{path} is not here; TRIZOO_REAL_DATA names the folder of real data")
    return path


def expanded(survey, tree):
    """(question, answer) -> the next question, None at the end."""
    return {
        (q, a): tree[q][a] if isinstance(tree[q], dict) else tree[q]
        for q, a in schema.answers(survey.questions)
    }


def ways(tree, questions, question="smooth-or-featured"):
    """Every way of a volunteer through a tree, {question: answer}."""
    if question is None:
        yield {}
        return
    for answer in questions[question]:
        for rest in ways(tree, questions, tree[question, answer]):
            yield {question: answer, **rest}


# Schemas


@pytest.mark.parametrize("name", TREES)
def test_leads_ask_whom_the_official_tree_asks(name):
    survey = dataset(name)
    assert set(TREES[name]) == set(survey.questions)
    asked = set()
    for way in ways(expanded(survey, TREES[name]), survey.questions):
        asked |= set(way)
        for question in survey.questions:
            froms = survey.leads.get(question)
            leading = [True] if froms is None else [way.get(e) in some for e, some in froms.items()]
            assert sum(leading) == (question in way), (question, way)
    assert asked == set(survey.questions)


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_official_tree_is_the_one_written_here(name):
    file, tasks = OFFICIAL[name]
    tasks = tasks.split()
    tree = json.loads(real(REAL / "columns" / "gz_trees" / f"{file}_tree.json").read_text())
    nodes, survey = tree["nodes"], dataset(name)
    onward = {link["source"]: link["target"] for link in tree["links"]}
    heads = {n["question"][5:]: n["question"][1:3] for n in nodes if n["question"][:1] == "T"}
    heads = {text: tasks[int(task)] for text, task in heads.items() if "discuss" not in text}
    assert len(heads) == len(tasks)
    given, found = {}, {}
    for number, node in enumerate(nodes):
        if not node["name"] or "discuss" in node["question"]:
            continue
        (head,) = get_close_matches(node["question"], heads, 1, 0)
        question = heads[head]
        place = given[question] = given.get(question, -1) + 1
        goal = onward[number]
        while nodes[goal]["question"] in ("cp", "gather"):
            goal = onward[goal]
        text = nodes[goal]["question"]
        following = None if text == "End" else tasks[int(text[1:3])]
        if question in survey.questions:
            answer = survey.questions[question][place]
            found[question, answer] = following if following in survey.questions else None
    assert found == expanded(survey, TREES[name])


def test_questions_that_are_reached_from_several_answers():
    hubble, candels = dataset("gz_hubble").leads, dataset("gz_candels").leads
    assert hubble["one-clump-brightest"] == {
        "clump-count": ("2",),
        "clump-configuration": ("line", "chain", "cluster"),
    }
    assert hubble["bar"] == {"disk-edge-on": ("no",), "clump-configuration": ("spiral",)}
    assert len(candels["galaxy-symmetrical"]) == 3
    for name in ("gz_decals12", "gz_decals5", "gz_candels"):
        assert dataset(name).leads["merging"] == {
            "smooth-or-featured": ("smooth", "featured-or-disk")
        }


def test_the_chance_of_a_clumpy_galaxys_questions():
    survey = dataset("gz_hubble")
    places = schema.slices(survey.questions)
    fractions = np.zeros((1, len(schema.answers(survey.questions))))
    for question, shares in {
        "smooth-or-featured": (0.2, 0.8, 0),
        "clumpy-appearance": (0.5, 0.5),
        "clump-count": (0.1, 0.2, 0.3, 0.2, 0.1, 0.1),
        "clump-configuration": (0.1, 0.2, 0.3, 0.4),
        "one-clump-brightest": (0.5, 0.5),
        "disk-edge-on": (0.25, 0.75),
    }.items():
        fractions[0, places[question]] = shares
    chance = dict(
        zip(survey.questions, schema.chance_asked(survey.questions, survey.leads, fractions)[0], strict=True)
    )  # fmt: skip
    clumps = 0.8 * 0.5
    assert chance["clump-configuration"] == pytest.approx(clumps * 0.7)
    assert chance["one-clump-brightest"] == pytest.approx(clumps * (0.2 + 0.7 * 0.6))
    assert chance["brightest-clump-central"] == pytest.approx(clumps * 0.62 * 0.5)
    assert chance["galaxy-symmetrical"] == pytest.approx(clumps * (0.3 + 0.7 * 0.6))
    assert chance["bar"] == pytest.approx(clumps * 0.7 * 0.4 + 0.8 * 0.5 * 0.75)


def test_the_same_idea_is_the_same_word_in_every_survey():
    answers = {}
    for name in [*TREES, "synthetic"]:
        for question, some in dataset(name).questions.items():
            answers.setdefault(question, set()).add(some)
    assert answers["smooth-or-featured"] == {("smooth", "featured-or-disk", "artifact")}
    assert answers["how-rounded"] == {("round", "in-between", "cigar-shaped")}
    assert answers["disk-edge-on"] == answers["has-spiral-arms"] == {("yes", "no")}
    assert answers["spiral-winding"] == {("tight", "medium", "loose")}
    assert answers["edge-on-bulge"] == {("rounded", "boxy", "none"), ("yes", "no")}
    assert {some[0] for some in answers["bulge-size"]} == {"none"}
    assert {some[-1] for some in answers["bulge-size"]} == {"dominant"}


# Configs


@pytest.mark.parametrize("name", FILES)
def test_every_survey_says_what_it_is_and_how_it_is_run(name):
    opening = []
    for line in (trizoo.CONF / "dataset" / f"{name}.yaml").read_text().splitlines():
        if not line.startswith("# ") and not line.startswith("#   "):
            break
        opening.append(line[1:].strip())
    text = " ".join(opening)
    assert "icence" in text or "rules of that competition" in text
    assert re.search(rf"trizoo (fit|predict|prepare) (\S+ )?dataset={name}\b", text)
    command = text[text.index("trizoo ") :].split(" dataset=", 1)[1]
    words = re.findall(r"(?<!\S)'?(\+?dataset[.][\w.]+=[^\s']+)'?", "dataset=" + command)
    survey = dataset(name, *words)
    assert survey.name == name
    assert survey.images
    assert survey.licence


def test_every_survey_composes_into_a_run():
    for name in FILES:
        survey = dataset(name)
        words = [f"dataset={name}", f"dataset.images='{survey.images}'", "dataset.table=t"]
        run = from_config(RunSpec, trizoo.compose(words))
        assert run.positive == ("smooth",)
        assert run.dataset.questions["smooth-or-featured"][0] == "smooth"


def test_addresses_ask_for_what_volunteers_saw():
    sdss, legacy = dataset("gz2_sdss"), dataset("gz_decals5_legacy")
    for survey in (sdss, legacy):
        assert survey.images.startswith("https://")
        assert set(re.findall(r"{(\w+)}", survey.images)) == {"ra", "dec", "scale", "width"}
        assert survey.service.width == 424
        assert survey.columns.file is None
    assert sdss.service.scale.columns == {"PETROR90_R|petroR90_r": 0.02}
    assert legacy.service.scale.columns == {"petro_th50": 0.04, "petro_th90": 0.02}
    assert legacy.service.scale.least == 0.1
    assert legacy.stretch == "grz"
    assert sdss.columns.names == dataset("gz2").columns.names
    assert legacy.questions == dataset("gz_decals5").questions


def wanted(survey):
    """The alternatives for each column that a config names: those of votes, and the others."""
    columns, others, votes = survey.columns, [], []
    for name in (columns.id, columns.file, columns.ra, columns.dec):
        others += [] if name is None else [name.split("|")]
    pattern = columns.count or columns.fraction
    for question, (own, answers) in surveys.named(survey).items() if pattern else ():
        names = survey.columns.names.get(question)
        assert names is None or len(names) == 1 + len(survey.questions[question])
        votes += [pattern.format(question=own, answer=theirs) for theirs in answers.values()]
        votes += [columns.total.format(question=own)] if columns.total else []
    return votes, others


@pytest.mark.parametrize(("name", "file"), PUBLISHED)
def test_configs_name_published_columns_and_leave_no_votes_out(name, file):
    there = real(COLUMNS / f"{file}.txt").read_text().split()
    votes, others = wanted(dataset(name))
    raw = {c for c in there if re.fullmatch(RAW[name], c) and not re.fullmatch(NO_VOTES, c)}
    assert set(votes) == raw
    assert len(votes) == len(set(votes))
    if name == "gz2":
        others.remove(["asset_id"])
    for names in others:
        assert set(names) & set(there), names


# What a table calls a thing, less its number: what it is called here, where that differs.
ALIAS = {
    "smooth-or-features": "smooth-or-featured",
    "edgeon": "disk-edge-on",
    "spiral": "has-spiral-arms yes",
    "spiral-pattern": "has-spiral-arms",
    "bar-feature": "bar",
    "bulge-prominence": "bulge-size",
    "odd": "something-odd",
    "rounded": "how-rounded",
    "bulge-shape": "edge-on-bulge",
    "arms-winding": "spiral-winding",
    "spiral-arm-winding": "spiral-winding",
    "arms-number": "spiral-arm-count",
    "clumpy": "clumpy-appearance",
    "bright-clump": "one-clump-brightest",
    "is-one-clump-brightest": "one-clump-brightest",
    "bright-clump-central": "brightest-clump-central",
    "clumps-arrangement": "clump-configuration",
    "clumps-count": "clump-count",
    "how-many-clumps": "clump-count",
    "clumps-symmetrical": "galaxy-symmetrical",
    "clumps-embedded-larger-object": "clumps-embedded",
    "merging-tidal-debris": "merging",
    "features-or-disk": "featured-or-disk",
    "features": "featured-or-disk",
    "star-or-artifact": "artifact",
    "bar": "yes",
    "no-bar": "no",
    "no-spiral": "no",
    "no-bulge": "none",
    "no": "none",
    "completely-round": "round",
    "completely": "round",
    "round": "rounded",
    "inbetween": "in-between",
    "cigarshaped": "cigar-shaped",
    "cigar": "cigar-shaped",
    "5-plus": "more-than-4",
    "straight-line": "line",
    "cluster-or-irregular": "cluster",
    "merging": "merger",
}


@pytest.mark.parametrize("name", ["gz2", "gz2_hub", "gz_hubble", "gz_candels", "gz_decals12"])
def test_names_mean_what_they_say(name):
    def means(theirs, ours):
        plain = re.sub(r"^[ta]\d+_|-gz2$", "", theirs).replace("_", "-")
        return plain == ours or ours in ALIAS.get(plain, "").split()

    for question, (own, answers) in surveys.named(dataset(name)).items():
        assert means(own, question), (own, question)
        for answer, theirs in answers.items():
            assert means(theirs, answer), (question, theirs, answer)


def test_the_challenge_numbers_questions_as_galaxy_zoo_2():
    gz2, kaggle = dataset("gz2").columns.names, dataset("gz2_kaggle").columns.names
    assert list(gz2) == list(kaggle)
    for question, (own, *answers) in kaggle.items():
        assert own == f"Class{int(gz2[question][0][1:3])}"
        assert answers == [str(i) for i in range(1, len(gz2[question]))]
        assert sorted(gz2[question][1:]) == list(gz2[question][1:])


def test_galaxy_zoo_1_is_in_the_order_of_its_answers():
    names = dataset("gz1").columns.names["smooth-or-featured"]
    assert names == ("NVOTE", "P_EL", "P_CW", "P_ACW", "P_EDGE", "P_DK", "P_MG")
    assert dataset("gz1").questions["smooth-or-featured"] == (
        "smooth", "clockwise", "anticlockwise", "edge-on", "dont-know", "merger"
    )  # fmt: skip


def test_joined_tables_have_the_columns_that_are_wanted_of_them():
    survey = dataset("gz2")
    mapping = real(COLUMNS / "gz2_filename_mapping_csv.txt").read_text().split(",")
    mapping = [name.strip() for part in mapping for name in part.split()]
    sizes = real(COLUMNS / "doc_gz2sample.txt").read_text().split()
    assert {survey.joins["mapping"].key, survey.columns.file} <= set(mapping)
    assert set(survey.joins["sizes"].key.split("|")) & set(sizes)
    for name in survey.service.scale.columns:
        assert set(name.split("|")) & set(sizes)


# Real rows


def real_totals(survey, count):
    """Votes on each question, and those of the answers that lead to it, (galaxy, question); `count`
    gives an answer's.
    """
    total = np.stack([sum(count(q, a) for a in some) for q, some in survey.questions.items()], 1)
    led = [
        sum(count(e, a) for e, some in survey.leads[q].items() for a in some)
        if q in survey.leads
        else total[:, i]
        for i, q in enumerate(survey.questions)
    ]
    return total, np.stack(led, 1)


def real_chances(survey, count):
    counts = np.stack([count(q, a) for q, a in schema.answers(survey.questions)], 1).astype(float)
    fractions = np.full_like(counts, np.nan)
    for place in schema.slices(survey.questions).values():
        total = counts[:, place].sum(1, keepdims=True)
        np.divide(counts[:, place], total, fractions[:, place], where=total > 0)
    return schema.chance_asked(survey.questions, survey.leads, fractions)


def test_real_votes_of_stripe_82_follow_the_schema():
    survey = dataset("gz2")
    table = pd.read_csv(real(REAL / "gz2_stripe82" / "table5_first8000.csv.gz"))
    called = surveys.named(survey)

    def count(question, answer):
        own, answers = called[question]
        return table[f"{own}_{answers[answer]}_count"].to_numpy()

    total, led = real_totals(survey, count)
    assert (np.abs(total - led) <= 3).all()  # repeated classifications were merged
    assert (total == led).mean(0).min() > 0.96
    chance = real_chances(survey, count)
    asked = total / total[:, :1]
    known = ~np.isnan(chance)
    assert known.mean() > 0.999
    assert np.abs(chance - asked)[known].mean() < 0.001
    assert (np.abs(chance - asked)[known] < 0.1).mean() > 0.999


def test_real_votes_of_decals_follow_the_schema():
    survey = dataset("gz_decals5")
    table = pd.read_csv(real(REAL / "gz_decals" / "all_questions_counts.csv"))
    # The first wording of the merging question had other answers.
    first = table[[f"merging_{a}-v1" for a in ("tidal-debris", "both", "neither")]].sum(axis=1)

    def count(question, answer):
        return table[f"{question}_{answer}"].to_numpy()

    total, led = real_totals(survey, count)
    total[:, list(survey.questions).index("merging")] += first.to_numpy()
    assert (total == led).all()
    some = total[:, 0] > 0
    chance = real_chances(survey, count)[some]
    np.testing.assert_allclose(chance, (total / np.maximum(total[:, :1], 1))[some], atol=1e-12)


# Stand-ins


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A stand-in of every survey, of 12 galaxies."""
    folder = tmp_path_factory.mktemp("surveys")
    return {name: stand_in(name, folder / name, 12, seed=3) for name in surveys.SURVEYS}


def value(words, key):
    (found,) = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    return found


HEADERS = dict(reversed([pair for pair in PUBLISHED if pair[0] in surveys.SURVEYS]))


@pytest.mark.parametrize(("name", "file"), HEADERS.items())
def test_stand_ins_have_the_published_columns(made, name, file):
    header = pd.read_csv(value(made[name].words, "dataset.table"), nrows=0).columns
    assert list(header) == real(COLUMNS / f"{file}.txt").read_text().split()


@pytest.mark.parametrize("name", surveys.SURVEYS)
def test_stand_ins_read_as_they_were_drawn(made, name):
    survey = dataset(name, *made[name].words[1:])
    votes = made[name].votes
    galaxies = read_catalogue(survey)
    kinds = {
        "gz2": "counted",
        "gz_decals12": "counted",
        "gz_decals5": "counted",
        "gz2_kaggle": "assumed",
    }
    if name != "gz_decals_auto":
        assert set(galaxies["votes_from"]) == {kinds.get(name, "fractions")}
        assert votes.filter(like="_total").max(axis=None) > 10
    pd.testing.assert_frame_equal(
        galaxies[votes.columns].reset_index(drop=True), votes, check_dtype=False
    )


@pytest.mark.parametrize("name", surveys.SURVEYS)
def test_stand_ins_have_an_image_of_every_galaxy(made, name):
    survey = dataset(name, *made[name].words[1:])
    source = open_source(survey)
    names = source.find(read_catalogue(survey))
    assert len(set(names)) == 12
    assert None not in names
    assert sorted(names) == source.names()
    with Image.open(Path(survey.images) / names[0]) as image:
        assert (image.size, image.mode) == ((424, 424), "RGB")


@pytest.mark.parametrize("name", surveys.SURVEYS)
def test_stand_ins_votes_follow_the_graph(name):
    survey = dataset(name)
    votes = surveys.draw_votes(survey, np.linspace(0.05, 0.95, 200), 1)
    first = votes["smooth-or-featured"]
    assert np.corrcoef(first[:, 0] / first.sum(1), np.linspace(0.05, 0.95, 200))[0, 1] > 0.9

    def count(question, answer):
        return votes[question][:, survey.questions[question].index(answer)]

    total, led = real_totals(survey, count)
    renamed = [q for q in survey.questions if name == "gz2_kaggle" and q == "something-odd"]
    same = [q not in renamed for q in survey.questions]
    assert (total == led)[:, same].all()
    assert (total.sum(0) > 0).all()


def test_the_same_seed_draws_the_same_survey(tmp_path):
    one, two, three = (
        stand_in("gz_candels", tmp_path / str(i), 3, seed) for i, seed in enumerate((5, 5, 6))
    )
    pd.testing.assert_frame_equal(one.votes, two.votes)
    assert (tmp_path / "0" / "table.csv").read_bytes() == (
        tmp_path / "1" / "table.csv"
    ).read_bytes()
    assert not one.votes.equals(three.votes)
