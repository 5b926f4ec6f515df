"""Images without votes to a catalogue, with volunteers between: ask, export, the same command again, predict, fit."""

import csv
import json
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
from installed import needs
from PIL import Image
from quick import ONE_FRAMEWORK

import trizoo
from conf.compose import hydra_words
from shared.output.exports import COLUMNS
from shared.output.posterior import read_posterior
from shared.run.records import write_json
from shared.run.spec import RunSpec, from_config
from shared.tasks.votes import fit_words

GALAXIES = 36
NETWORK = (
    *("backend.threads=1", "backend.chunk=16", "backend.steps=4", "model.image_size=16"),
    *("model.blocks=[[4],[4],[4],[4]]", "model.dense=8", "training.batch_size=8"),
    *("posterior.samples=4", "minimum_votes=3", "split={validation: 0, test: 0.1}"),
)
ASKING = (
    *("oracle=volunteers", "acquisition.initial=8", "acquisition.per_round=4"),
    *("acquisition.rounds=1", "acquisition.first_steps=8", "acquisition.round_steps=4"),
    "acquisition.samples=4",
)
BARS = ("~dataset.questions.smooth-or-featured", "+dataset.questions.bar=[yes,no]")
BARS += ("question=bar", "positive=[yes]")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of images in colour, every third one of a bar, and a table of where they are without any votes."""
    place = tmp_path_factory.mktemp("survey")
    (place / "photos").mkdir()
    random = np.random.default_rng(0)
    y, x = np.mgrid[:300, :300] - 150.0
    for number in range(GALAXIES):
        width = 12 if number % 3 == 0 else 40
        light = 200 * np.exp(-np.hypot(x / 40, y / width)) + random.uniform(0, 20, x.shape)
        colours = light[..., None] * np.array([1, 0.8, 0.5])
        name = place / "photos" / f"g{number:02d}.png"
        Image.fromarray(colours.clip(0, 255).astype(np.uint8)).save(name)
    rows = [(f"g{number:02d}", 10 + number / 7, -5 + number / 9) for number in range(GALAXIES)]
    pd.DataFrame(rows, columns=["id", "ra", "dec"]).to_csv(place / "sky.csv", index=False)
    return place


def go(photos, task, name, *words):
    """The folder and the outcome of a run in this process; its run.json is there before it begins."""
    of_images = ("dataset=folder", f"dataset.images={photos / 'photos'}")
    words = [f"task={task}", *words, f"outputs={photos}", f"folder={photos / name}"]
    words += of_images if task != "votes" else ()
    config = trizoo.compose(words)
    config = trizoo.with_fit(config, words) if trizoo.TASKS[task].needs_fit else config
    write_json(photos / name / "run.json", config)
    do = getattr(import_module(trizoo.TASKS[task].module), task)
    return photos / name, do(from_config(RunSpec, config), photos / name)


def manifest(folder, number):
    with (folder / f"ask-{number:02d}" / "manifest.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


BAR, CENTRED = "Is there a bar through the centre?", "Is the image well centred?"


def classify(path, galaxies, first):
    """An export of a project, as it comes when five people have looked at each of `galaxies`; and their votes for yes.

    Four answer, one passes the task over. Beside them: another workflow whose task has the same number, an older
    version that asked for a ring, what was tried before the launch, a second answer by everybody, and lines twice.
    """
    rows, yes = [], {}

    def add(galaxy, person, answer, version="16.55", label=BAR, workflow=("10", "bars"), live=True):
        number = first + len(rows)
        task = {"task": "T0", "task_label": label, "value": answer}
        rows.append(
            {
                "classification_id": number,
                "user_name": f"v{person}",
                "user_id": person + 1,
                "workflow_id": workflow[0],
                "workflow_name": workflow[1],
                "workflow_version": version,
                "created_at": f"2026-05-01 {number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d} UTC",
                "metadata": json.dumps({"live_project": live}),
                "annotations": json.dumps([task]),
                "subject_data": json.dumps({"1": {"retired": None, **galaxy}}),
            }
        )

    for galaxy in galaxies:
        name = galaxy["!galaxy"]
        bar = int(name[1:]) % 3 == 0
        yes[name] = 3 if bar else 1
        add(galaxy, 0, "Yes", version="15.2", label="Is there a ring?")
        add(galaxy, 1, "No" if bar else "Yes", live=False)
        for person in range(4):
            add(galaxy, person, "Yes" if person < yes[name] else "No")
        add(galaxy, 4, None)
        for person in range(4):
            add(galaxy, person, "No" if bar else "Yes")  # their second answers
            add(
                galaxy,
                person,
                "No",
                label=CENTRED,
                workflow=("11", "quality check"),
                version="16.55",
            )
    table = pd.DataFrame([*rows, *rows[::3]], dtype=object).reindex(columns=COLUMNS)
    path.parent.mkdir(exist_ok=True)
    table.to_csv(path, index=False)
    return yes


@pytest.mark.parametrize("backend", ONE_FRAMEWORK)
def test_images_without_votes_become_a_catalogue_by_volunteers(photos, backend, capfd):
    needs(backend)
    words = (f"backend={backend}", *NETWORK, *BARS)
    sky = (f"dataset.table={photos / 'sky.csv'}", "dataset.columns.count=null")
    sky += ("dataset.columns.ra=ra", "dataset.columns.dec=dec")
    ask = ("active", f"asked {backend}", *words, *ASKING, *sky)
    folder, outcome = go(photos, *ask)
    assert outcome["waiting"].startswith("8 galaxies wait for volunteers: upload")
    first = manifest(folder, 0)
    export = folder / "classifications" / "first.CSV"
    yes = classify(export, first, 1000)

    with pytest.raises(ValueError, match=r"several workflows.* 10 \(bars, .* 11 \(quality check"):
        go(photos, *ask)
    with pytest.raises(
        ValueError, match=r"several wordings.*or count one version .*oracle\.version=16"
    ):
        go(photos, *ask, "oracle.workflow=10")
    ask = (*ask, "oracle.workflow=10", "oracle.version=16")
    folder, outcome = go(photos, *ask)
    assert outcome["waiting"].startswith("4 galaxies wait for volunteers")
    assert "whether the next 4 labels are worth their votes is not known yet" in outcome["waiting"]
    learned = pd.read_parquet(folder / "votes.parquet").set_index("id")
    assert learned["bar_yes"].to_dict() == yes
    assert set(learned["bar_total"]) == {4}
    first_network = (folder / "weights.safetensors").read_bytes()
    waiting, _ = go(photos, "predict", f"while waiting {backend}", f"weights={folder}")
    assert len(read_posterior(waiting / "posterior.parquet")) == GALAXIES

    before = (folder / "posterior.parquet").stat().st_mtime_ns
    go(photos, *ask)  # nobody has answered: nothing is done again
    assert (folder / "posterior.parquet").stat().st_mtime_ns == before

    second = manifest(folder, 1)
    yes |= classify(folder / "classifications" / "second.csv", second, 5000)
    capfd.readouterr()
    folder, outcome = go(photos, *ask)
    told = capfd.readouterr().err
    assert "are of other workflows; left out" in told
    assert "are of other versions of the workflow; left out" in told
    assert "were made before the project went live; left out" in told
    assert "were there twice" in told
    assert [entry["labelled"] for entry in outcome["results"]["rounds"]] == [8, 12]
    assert all(entry["worth"]["verdict"] == "unknown" for entry in outcome["results"]["rounds"])
    assert pd.read_parquet(folder / "votes.parquet").set_index("id")["bar_yes"].to_dict() == yes
    assert (folder / "weights.safetensors").read_bytes() != first_network

    predicted, _ = go(photos, "predict", f"predicted {backend}", f"weights={folder}")
    table = read_posterior(predicted / "posterior.parquet").set_index("id")
    own = read_posterior(folder / "posterior.parquet").set_index("id")
    pd.testing.assert_series_equal(table["bar_yes_mean"], own["bar_yes_mean"])
    assert set(table.index[table["in_training"]]) == set(yes)

    counted, outcome = go(photos, "votes", f"votes {backend}", f"run={folder}")
    votes = pd.read_csv(counted / "votes.csv").set_index("id")
    assert list(votes) == ["ra", "dec", "bar_yes", "bar_no", "bar_total"]
    assert votes["bar_yes"].to_dict() == yes
    at = pd.read_csv(photos / "sky.csv").set_index("id").loc[votes.index]
    np.testing.assert_allclose(votes[["ra", "dec"]], at[["ra", "dec"]], atol=1e-6)
    words = (
        f"backend={backend}",
        *NETWORK,
        *fit_words(counted / "votes.csv", {"bar": ("yes", "no")}),
    )
    _, outcome = go(photos, "fit", f"fitted {backend}", *words, "training.steps=8", "split.test=0")
    assert outcome["results"]["galaxies"] == {"train": 12, "validation": 0, "test": 0}


def test_volunteers_see_colours_and_where_a_galaxy_is(photos):
    (asked,) = list(photos.glob("asked torch"))[:1] or [None]
    if asked is None:
        pytest.skip("the round trip did not run")
    rows = manifest(asked, 0)
    assert list(rows[0]) == ["image", "!galaxy", "!ra", "!dec", "!survey"]
    assert rows[0]["!survey"].startswith("https://www.legacysurvey.org/viewer?ra=1")
    for row in rows:
        with Image.open(asked / "ask-00" / row["image"]) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (300, 300))


def test_the_words_that_are_told_compose(tmp_path):
    questions = {
        "how-many-arms": ("4", "4+", "<4", "can't", "more than 4"),
        "bar": ("yes", "no"),
    }

    def composed(questions):
        own = fit_words(tmp_path / "v.csv", questions)
        words = ["fit", "dataset=folder", "dataset.images=photos", *own]
        return from_config(RunSpec, trizoo.compose(hydra_words(words)))

    run = composed(questions)
    assert run.dataset.questions == questions
    assert (run.question, run.positive) == ("how-many-arms", ("4",))
    usual = {"smooth-or-featured": ("smooth", "odd")}
    assert composed(usual).dataset.questions == usual
