"""Exports of any project as vote tables: whose subjects, which version, who seldom agrees; and what volunteers see."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from PIL import Image
from test_volunteers import QUESTIONS, oracle, put, row

from shared.data.prepare import prepare
from shared.output.agreement import FEW, outliers
from shared.output.subject_images import drawn
from shared.output.subject_sets import write_subject_set
from shared.output.volunteers import count_exports, count_votes
from shared.run.records import write_json
from shared.run.spec import OracleSpec, RunSpec, ShowSpec, from_config
from shared.tasks.votes import votes
from trizoo import compose

BAR = "Is there a bar?"


def of(subject, number, text, label=BAR, version="16.10", task="T1", **other):
    """A row of an export of somebody else's project, whose subject has the metadata `subject`."""
    annotations = [{"task": task, "task_label": label, "value": text}]
    about = json.dumps({"77": {"retired": None, **subject}})
    more = {"subject_data": about, "workflow_version": version} | other
    return row(number, None, annotations, account=str(number), **more)


def exported(tmp_path, rows, name="export.csv"):
    put(tmp_path, rows, name)
    return [tmp_path / "classifications" / name]


def asking(**settings):
    return OracleSpec("volunteers", None, {}, {}, None, None, **settings)


def test_subjects_that_somebody_else_uploaded_become_a_table(tmp_path):
    rows = []
    for number, (name, text) in enumerate(
        [("J1", "Yes"), ("J1", "No"), ("J2", "Yes"), ("J2", "Yes")]
    ):
        subject = {"iauname": f" {name} ", "#RA": str(10 + number), "//Dec": -3.5, "file": "x.png"}
        rows.append(of(subject, number, text))
    rows.append(of({"file": "y.png"}, 9, "Yes"))
    paths = exported(tmp_path, rows)
    with pytest.raises(
        ValueError,
        match=r"no subject has a field !galaxy.*oracle.galaxy, of #RA, //Dec, f",
    ):
        count_exports(paths, asking())
    table, questions = count_exports(paths, asking(galaxy="iauname"))
    assert questions == {"is-there-a-bar": ("no", "yes")}
    assert table.index.tolist() == ["J1", "J2"]
    assert table.columns.tolist() == [
        *("ra", "dec", "is-there-a-bar_no", "is-there-a-bar_yes", "is-there-a-bar_total")
    ]
    assert table["ra"].tolist() == [10, 12]  # of whoever was classified first
    assert table["dec"].tolist() == [-3.5, -3.5]
    assert table["is-there-a-bar_yes"].tolist() == [1, 2]
    assert table["is-there-a-bar_total"].tolist() == [2, 2]
    assert (
        "1 classifications are of subjects without a field iauname; left out"
        in table.attrs["messages"]
    )
    named = asking(galaxy="iauname", questions={"bar": ("yes", "no", "perhaps")})
    table, _ = count_exports(paths, named)
    assert table.iloc[:, 2:].to_numpy().tolist() == [[1, 1, 0, 2], [2, 0, 0, 2]]


def test_positions_that_are_none_are_left_empty(tmp_path):
    places = [
        {"ra": "", "dec": "3"},
        {"ra": "400", "dec": "3"},
        {"ra": "12h", "dec": "3"},
        {"ra": 5, "dec": 3},
    ]
    rows = [of({"id": f"g{n}", **place}, 2 * n, "Yes") for n, place in enumerate(places)]
    rows += [of({"id": f"g{n}", **place}, 2 * n + 1, "No") for n, place in enumerate(places)]
    table, _ = count_exports(exported(tmp_path, rows), asking(galaxy="id"))
    assert table["ra"].isna().tolist() == [True, True, True, False]
    table, _ = count_exports(exported(tmp_path, rows[:3] + rows[4:7]), asking(galaxy="id"))
    assert "ra" not in table


def test_ids_that_have_lost_digits_are_refused(tmp_path):
    rows = [of({"id": 5.8772298173612e17}, n, text) for n, text in enumerate(("Yes", "No"))]
    with pytest.raises(ValueError, match="floating-point number, which has lost digits"):
        count_exports(exported(tmp_path, rows), asking(galaxy="id"))


def test_questions_are_named_as_they_are_worded(tmp_path):
    g = {"!galaxy": "g"}
    rows = [
        of(g, n, text, "How many *arms*?", task="T2")
        for n, text in enumerate(("4", "4+", "More than 4", "1-2"))
    ]
    rows += [
        of(g, 10 + n, text, "", task="T3") for n, text in enumerate(("![x](y) Yes", "No", "NO"))
    ]
    rows += [of(g, 20, ["Yes", "No"], "Which?", task="T4"), of(g, 21, "so what", "Text", task="T5")]
    table, questions = count_exports(exported(tmp_path, rows), asking())
    assert questions == {"how-many-arms": ("1-2", "4", "4+", "more-than-4"), "T3": ("no", "yes")}
    assert table["T3_no"].tolist() == [2]
    assert table[
        [f"how-many-arms_{answer}" for answer in questions["how-many-arms"]]
    ].to_numpy().tolist() == [[1] * 4]
    with pytest.raises(
        ValueError, match=r"was answered '4\.', for which there is no name of its own"
    ):
        count_exports(
            exported(tmp_path, [*rows, of(g, 30, "4.", "How many *arms*?", task="T2")]), asking()
        )
    with pytest.raises(
        ValueError, match="no task of the 1 classifications that count was answered in two ways"
    ):
        count_exports(exported(tmp_path, rows[:1]), asking())


def test_one_version_of_a_workflow_counts_where_it_is_named(tmp_path):
    g = {"!galaxy": "g"}
    rows = [of(g, n, "Yes", "Is there a ring?", "15.2") for n in range(3)]
    rows += [
        of(g, 10, "Yes", version="16.1"),
        of(g, 11, "No", version="16.10"),
        of(g, 12, "No", version="160.1"),
    ]
    paths = exported(tmp_path, rows)
    bar = {"bar": ("yes", "no")}
    with pytest.raises(
        ValueError, match=r"several wordings.*or count one version .*oracle\.version=160"
    ):
        count_exports(paths, asking(questions=bar))
    for version, expected in {
        "16": [1, 1],
        "16.1": [1, 0],
        "16.10": [0, 1],
        "160": [0, 1],
        "15": [3, 0],
    }.items():
        table, _ = count_exports(paths, asking(questions=bar, version=version))
        assert table[["bar_yes", "bar_no"]].to_numpy().tolist() == [expected]
        left = (
            f"{6 - sum(expected)} classifications are of other versions of the workflow; left out"
        )
        assert left in table.attrs["messages"]
    with pytest.raises(
        ValueError, match=r"oracle.version is '1', of which nothing .* 15.2 \(3\), 16.1 \(1\)"
    ):
        count_exports(paths, asking(questions=bar, version="1"))


def test_answers_that_a_later_version_added_are_told(tmp_path):
    def rows(version, *texts, first=0):
        label = "How many arms?"
        return [
            of({"!galaxy": "g"}, first + n, text, label, version) for n, text in enumerate(texts)
        ]

    arms = {"arms": ("1", "4", "more-than-4")}
    old, new = rows("9.1", "1", "4"), rows("10.1", "1", "4", "More than 4", first=9)
    table, _ = count_exports(exported(tmp_path, old + new), asking(questions=arms))
    (told,) = [line for line in table.attrs["messages"] if "never in version" in line]
    assert "was answered more than 4 in version 10 of the workflow, but never in version 9" in told
    for some in (old, new, rows("9.1", "1", "4") + rows("9.2", "1", "4", "More than 4", first=9)):
        table, _ = count_exports(exported(tmp_path, some), asking(questions=arms))
        assert not any("never in version" in line for line in table.attrs["messages"])


def crowd(galaxies=12, good=9, bad=2):
    """Votes on a question of two answers: most people are right nine times of ten, `bad` ones are wrong as often."""
    random, rows = np.random.default_rng(5), []
    for galaxy in range(galaxies):
        for person in range(good + bad):
            right = random.random() < (0.9 if person < good else 0.1)
            truth = galaxy % 2
            rows.append(
                (f"p{person}", f"g{galaxy}", "bar", ("yes", "no")[truth if right else 1 - truth])
            )
    rows += [
        ("rare", f"g{galaxy}", "bar", ("yes", "no")[1 - galaxy % 2]) for galaxy in range(FEW - 1)
    ]
    return pd.DataFrame(rows, columns=["person", "galaxy", "question", "answer"])


def by_hand(votes, answers):
    """The weights of Willett et al. 2013, vote by vote."""
    rows = [(one.person, one.galaxy, one.answer) for one in votes.itertuples()]
    weights = dict.fromkeys(votes["person"], 1.0)
    for _ in range(3):
        found = {person: [] for person in weights}
        for person, galaxy, answer in rows:
            others = [(who, said) for who, where, said in rows if where == galaxy]
            total = sum(weights[who] for who, _ in others)
            agree = []
            for each in answers:
                share = sum(weights[who] for who, said in others if said == each) / total
                agree.append(share if each == answer else 1 - share)
            found[person].append(np.mean(agree))
        weights = {who: min(1, (np.mean(own) / 0.6) ** 8.5) for who, own in found.items()}
    return weights


def test_who_seldom_agrees_is_found():
    votes = crowd()
    assert outliers(votes, {"bar": ("yes", "no")}) == {"p9", "p10"}
    weights = by_hand(votes, ("yes", "no"))
    assert {person for person, weight in weights.items() if weight < 0.5} == {"p9", "p10", "rare"}
    few = votes[votes["person"] != "p10"]
    assert outliers(few, {"bar": ("yes", "no")}) == {"p9"}
    assert outliers(votes[:0], {"bar": ("yes", "no")}) == set()
    three = votes.assign(
        answer=np.where(np.arange(len(votes)) % 7 == 0, "perhaps", votes["answer"])
    )
    answers = ("yes", "no", "perhaps")
    wanted = {
        name for name, weight in by_hand(three, answers).items() if weight < 0.5 and name != "rare"
    }
    assert outliers(three, {"bar": answers}) == wanted


def test_nobody_is_left_out_for_disagreeing_unless_it_is_asked_for(tmp_path):
    given = crowd()
    people = {name: number for number, name in enumerate(given["person"].unique())}
    rows = [
        of({"!galaxy": vote.galaxy}, number, vote.answer, user_id=str(1 + people[vote.person]))
        for number, vote in enumerate(given.itertuples())
    ]
    paths, bar = exported(tmp_path, rows), {"bar": ("yes", "no")}
    everybody, _ = count_exports(paths, asking(questions=bar))
    assert everybody["bar_total"].sum() == len(given)
    table, _ = count_exports(paths, asking(questions=bar, weighting="agreement"))
    assert table["bar_total"].sum() == len(given) - 24
    assert (
        "24 answers by 2 people who seldom agree with others; left out" in table.attrs["messages"]
    )


def run_of(*words):
    return from_config(RunSpec, compose(["task=votes", *words]))


def test_the_task_says_what_it_needs(tmp_path):
    for words in ((), (f"run={tmp_path}", "oracle.exports=[a.csv]")):
        with pytest.raises(
            ValueError, match=r"name what holds the votes: run=FOLDER.*oracle\.exports"
        ):
            votes(run_of(*words), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no .*nowhere\.csv; oracle\.exports"):
        votes(run_of(f"oracle.exports=[{tmp_path}/nowhere.csv]"), tmp_path)
    held = compose(["task=active"])
    write_json(tmp_path / "run.json", held)
    with pytest.raises(
        ValueError,
        match=r"run of active that asks nobody; what it learned from is in .*votes.parquet",
    ):
        votes(run_of(f"run={tmp_path}"), tmp_path)
    write_json(tmp_path / "run.json", held | {"task": {"name": "fit"}})
    with pytest.raises(
        ValueError, match="a run of fit that asks nobody; name one of active with oracle=volunteers"
    ):
        votes(run_of(f"run={tmp_path}"), tmp_path)
    held = compose(
        ["task=active", "oracle=volunteers", "oracle.version=16", "+oracle.tasks={T1: bar}"]
    )
    write_json(tmp_path / "run.json", held)
    with pytest.raises(ValueError, match="nobody has answered a question yet"):
        votes(run_of(f"run={tmp_path}"), tmp_path)


def test_a_run_is_read_as_it_reads_itself_or_as_is_said_now(tmp_path):
    write_subject_set(Painted(), [0], ["g"], tmp_path, 0)
    bar = (
        "~dataset.questions.smooth-or-featured",
        "+dataset.questions.bar=[yes,no]",
        "question=bar",
        "positive=[yes]",
    )
    held = [
        "task=active",
        "oracle=volunteers",
        "oracle.version=16",
        "dataset=folder",
        "dataset.images=x",
        *bar,
    ]
    write_json(tmp_path / "run.json", compose(held))
    g = {"!galaxy": "g"}
    put(
        tmp_path,
        [
            of(g, 1, "Yes", version="16.1"),
            of(g, 2, "Yes", version="16.2"),
            of(g, 3, "No", version="17.1"),
        ],
    )
    for words, expected in (((), [2, 0]), (("oracle.version=17",), [0, 1])):
        votes(run_of(f"run={tmp_path}", *words), tmp_path)
        table = pd.read_csv(tmp_path / "votes.csv")
        assert table[["bar_yes", "bar_no"]].to_numpy().tolist() == [expected]


class Painted:
    """A store of one grey image."""

    images = np.zeros((1, 8, 8, 1), np.uint8)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    """A run on three galaxies in colour, of which the store keeps the mean: JPEG, PNG and three bands of FITS."""
    place = tmp_path_factory.mktemp("coloured")
    (place / "photos").mkdir()
    y, x = np.mgrid[:600, :800] - 300.0
    light = 220 * np.exp(-np.hypot(x - 100, y) / 60) + np.random.default_rng(0).uniform(
        0, 9, x.shape
    )
    colours = (light[..., None] * np.array([1, 0.7, 0.3])).clip(0, 255).astype(np.uint8)
    Image.fromarray(colours).save(place / "photos" / "a.jpg", quality=95)
    Image.fromarray(colours[:300, :300]).save(place / "photos" / "b.png")
    flux = np.moveaxis(colours[200:500, 250:550], -1, 0) / 100
    fits.writeto(place / "photos" / "c.fits", flux.astype(np.float32))
    pd.DataFrame({"id": ["a", "b", "c"], "ra": [1.5, 2, 3], "dec": [-9, 0.25, 9]}).to_csv(
        place / "t.csv", index=False
    )
    words = [
        "dataset=folder",
        f"dataset.images={place / 'photos'}",
        f"dataset.table={place / 't.csv'}",
    ]
    words += ["dataset.columns.ra=ra", "dataset.columns.dec=dec", "dataset.columns.count=null"]
    words += ["dataset.licence=CC BY 4.0", f"dataset.stores={place / 'stores'}"]
    dataset = from_config(RunSpec, compose(words)).dataset
    return place, dataset, prepare(dataset)


def shown(coloured, folder, **show):
    """The manifest of an ask about a, b and c, and their pictures."""
    _, dataset, store = coloured
    place = write_subject_set(
        store, [0, 1, 2], ["a", "b", "c"], folder, 0, dataset, ShowSpec(**show)
    )
    table = pd.read_csv(place / "manifest.csv")
    return table, [Image.open(io.BytesIO((place / name).read_bytes())) for name in table["image"]]


def test_volunteers_see_the_colours_that_the_store_has_not(coloured, tmp_path):
    assert coloured[2].images.shape[-1] == 1
    table, pictures = shown(coloured, tmp_path / "usual")
    assert [(one.mode, one.size) for one in pictures] == [
        ("RGB", (512, 384)),
        ("RGB", (300, 300)),
        ("RGB", (256, 256)),
    ]
    for one, (x, y) in zip(pictures, [(256, 192), (250, 250), (128, 128)], strict=True):
        red, green, blue = one.getpixel((x, y))
        assert red > green > blue
    assert list(table) == ["image", "!galaxy", "!ra", "!dec", "!survey", "!licence"]
    assert table["!ra"].tolist() == [1.5, 2, 3]
    assert table["!dec"].tolist() == [-9, 0.25, 9]
    assert table["!survey"][1] == (
        "https://www.legacysurvey.org/viewer?ra=2.000000&dec=0.250000&layer=ls-dr10&zoom=15"
    )
    assert set(table["!licence"]) == {"CC BY 4.0"}
    _, pictures = shown(coloured, tmp_path / "grey", colour=False, width=100)
    assert [(one.mode, one.size) for one in pictures] == [
        ("L", (100, 75)),
        ("L", (100, 100)),
        ("L", (100, 100)),
    ]
    _, pictures = shown(coloured, tmp_path / "store", image="store")
    assert {(one.mode, one.size) for one in pictures} == {("L", (256, 256))}


def test_the_original_files_are_shown_as_they_are_unless_no_browser_can(coloured, tmp_path):
    photos, dataset, store = coloured[0] / "photos", *coloured[1:]
    show = ShowSpec(image="original")
    place = write_subject_set(store, [1, 0], ["b", "a"], tmp_path, 0, dataset, show)
    files = pd.read_csv(place / "manifest.csv")["image"].tolist()
    assert files == ["images/00000-b.png", "images/00001-a.jpg"]
    for name, source in zip(files, ("b.png", "a.jpg"), strict=True):
        assert (place / name).read_bytes() == (photos / source).read_bytes()
    with pytest.raises(
        ValueError, match=r"galaxy c cannot be made: it is FITS, .*oracle\.show\.image=store"
    ):
        write_subject_set(store, [2], ["c"], tmp_path, 1, dataset, show)
    assert not (tmp_path / "ask-01").exists()


def test_a_file_that_is_gone_or_another_is_named(coloured, tmp_path):
    place, dataset, store = coloured
    file = place / "photos" / "b.png"
    whole = file.read_bytes()
    try:
        Image.new("RGB", (300, 300)).save(file)
        with pytest.raises(
            ValueError, match=r"galaxy b cannot be made: image b\.png has changed since"
        ):
            write_subject_set(store, [1], ["b"], tmp_path, 0, dataset, ShowSpec())
        file.unlink()
        with pytest.raises(ValueError, match=r"galaxy b cannot be made: .*b\.png"):
            write_subject_set(store, [1], ["b"], tmp_path, 0, dataset, ShowSpec())
        assert not list(tmp_path.iterdir())
        write_subject_set(store, [1], ["b"], tmp_path, 0, dataset, ShowSpec(image="store"))
    finally:
        file.write_bytes(whole)


def test_an_ask_of_an_older_version_goes_on(coloured, tmp_path):
    """Its manifest has no more than images and galaxies."""
    _, dataset, store = coloured
    place = write_subject_set(store, [0], ["a"], tmp_path, 0)
    before = (place / "manifest.csv").read_bytes()
    assert before.decode().splitlines()[0] == "image,!galaxy"
    assert write_subject_set(store, [0], ["a"], tmp_path, 0, dataset, ShowSpec()) == place
    assert (place / "manifest.csv").read_bytes() == before
    put(tmp_path, [of({"!galaxy": "a"}, 1, "Yes")])
    table = count_votes(tmp_path, oracle({"T1": "bar"}), QUESTIONS)
    assert table["bar_yes"].tolist() == [1]
    assert "ra" not in table


def test_other_pictures_are_drawn_right(coloured):
    def picture(image):
        file = io.BytesIO()
        image.save(file, "PNG")
        found = Image.open(io.BytesIO(drawn(file.getvalue(), coloured[1], ShowSpec())))
        return found.mode, np.asarray(found, float).mean((0, 1)).round().tolist()

    deep = np.full((300, 300), 40000, np.uint16)
    assert picture(Image.fromarray(deep)) == ("L", 156)
    assert picture(Image.new("L", (300, 300), 77)) == ("L", 77)
    assert picture(Image.new("RGB", (300, 300), (77, 77, 77))) == ("L", 77)
    assert picture(Image.new("RGBA", (300, 300), (200, 100, 50, 255)))[0] == "RGB"
    assert picture(Image.new("RGB", (300, 300), (200, 100, 50)).quantize(4))[0] == "RGB"
