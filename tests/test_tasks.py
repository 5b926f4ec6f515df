"""The tasks on real stores: by the command, and within this process with PyTorch where the command is not the point."""

import csv
import json
import os
import shutil
import sys
from dataclasses import is_dataclass
from hashlib import sha256
from importlib import import_module
from typing import get_type_hints

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from installed import needs
from PIL import Image, ImageOps
from quick import ONE_FRAMEWORK

import trizoo
from shared.data.inputs import changed_since, inputs
from shared.data.split import split
from shared.data.store import open_store, votes
from shared.method import sampling
from shared.network.weights import first_checkpoint, load_weights, save_weights
from shared.output.columns import friendly
from shared.output.exports import COLUMNS
from shared.output.posterior import read_facts, read_posterior
from shared.run.config import uses
from shared.run.launch import ROOT
from shared.run.records import sweep, unfinished, write_json
from shared.run.spec import COMPANION, RunSpec, from_config, to_config
from shared.tasks import POSTERIOR_FILES
from shared.tasks.fit import fit
from shared.tasks.predict import predict

torch = pytest.importorskip("torch")

SMALL = (
    "backend.threads=1",
    "backend.chunk=16",
    "backend.steps=4",
    "dataset.galaxies=120",
    "likelihood=binomial",  # what the method of the paper leaves
    "training=adam",
    "model.standardise=false",
    "model.image_size=16",
    "model.blocks=[[4],[4],[4],[4]]",
    "model.dense=16",
    "training.batch_size=16",
    "training.steps=12",
    "training.learning_rate=0.01",
    "training.validate_every=8",
    "posterior.samples=5",
    "acquisition.samples=4",
    "acquisition.initial=16",
    "acquisition.per_round=6",
    "acquisition.rounds=2",
    "acquisition.first_steps=8",
    "acquisition.round_steps=4",
)
MEAN = "smooth_or_featured_smooth_mean"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder for runs, which all use the same store of synthetic galaxies."""
    return tmp_path_factory.mktemp("tasks")


def command(place, task, name, *words):
    """The folder of a run of the command."""
    small = [word for word in SMALL if uses(task, trizoo.key_of(word))]
    words = [*small, f"outputs={place}", f"folder={place / name}", *words]
    assert trizoo.main([task, *words]) == 0
    return place / name


def here(place, task, name, *words):
    """The folder and the results of a run in this process."""
    words = [f"task={task}", *SMALL, f"outputs={place}", f"folder={place / name}", *words]
    config = trizoo.compose(words)
    config = trizoo.with_fit(config, words) if trizoo.TASKS[task].needs_fit else config
    write_json(place / name / "run.json", config)
    outcome = getattr(import_module(trizoo.TASKS[task].module), task)(
        from_config(RunSpec, config), place / name
    )
    return place / name, outcome["results"]


def record(folder):
    return json.loads((folder / "record.json").read_text())


def posterior(folder):
    return read_posterior(folder / "posterior.parquet")


def stored(results):
    return open_store(results["store"])


@pytest.fixture(scope="module")
def fitted(place):
    """A fit by the command."""
    return command(place, "fit", "fitted")


@pytest.fixture(scope="module")
def photos(place):
    """Eight images of 300 pixels, and three of them in another folder."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:300, :300] - 150.0
    for number in range(8):
        angle, size = random.uniform(0, 3), random.uniform(20, 60)
        along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        light = 220 * np.exp(-np.hypot(along, 2 * across) / size) + random.uniform(
            0, 20, (300, 300)
        )
        for folder in ("all", "some") if number in (2, 5, 6) else ("all",):
            (place / folder).mkdir(exist_ok=True)
            Image.fromarray(light.clip(0, 255).astype(np.uint8)).save(
                place / folder / f"00{number}.png"
            )
    return place


def test_other_formats_lie_beside_the_table(fitted, place):
    words = ("posterior.format=[fits,csv]", "posterior.columns=friendly")
    folder, _ = here(place, "predict", "formats", f"weights={fitted}", *words)
    files = {path.name for path in folder.iterdir() if path.name != "run.json"}
    assert files == {"posterior.parquet", "friendly.fits", "friendly.csv", f"friendly{COMPANION}"}
    made, whole = fits.getdata(folder / "friendly.fits"), posterior(folder)
    assert list(made.names) == friendly(whole)
    assert made[MEAN].tolist() == whole[MEAN].tolist()
    facts = json.loads(fits.getheader(folder / "friendly.fits", 1)["TRIZOO"])
    assert facts | {"commit": 0} == read_facts(fitted / "posterior.parquet") | {"commit": 0}
    assert (
        facts["weights_sha256"] == sha256((fitted / "weights.safetensors").read_bytes()).hexdigest()
    )
    assert (facts["survey"], facts["doi"]) == ("synthetic", "10.1093/mnras/stz2816")
    assert facts["doi"] in (ROOT / "CITATION.cff").read_text()


def on(folder, *words):
    """The words for a folder of images."""
    return ("dataset=folder", f"dataset.images={folder}", "dataset.galaxies=null", *words)


def test_a_fit_leaves_its_files_and_nothing_else(fitted):
    files = {path.name for path in fitted.iterdir()}
    usual = {*trizoo.TASKS["fit"].leaves} - {*POSTERIOR_FILES}
    usual = usual - {"best.safetensors", "laplace.safetensors"} | {"posterior.parquet"}
    assert files == {"run.json", "record.json", *usual}


def test_the_record_of_a_fit(fitted, place):
    made = record(fitted)
    assert set(made) == {
        *("command", "run", "inputs", "host", "where", "started", "seconds", "results")
    }
    results = made["results"]
    store = stored(results)
    assert made["inputs"] == {
        "store": {"where": results["store"], "sha256": store.source["sha256"]}
    }
    assert set(results) == {
        "store",
        "galaxies",
        "parameters",
        "steps",
        "train_seconds",
        "first_call_seconds",
        "images_per_second",
        "sample_seconds",
        "sampled_galaxies",
        "peak_memory_bytes",
        "memory",
        "validation",
        "test",
        "honesty",
        "summary",
    }
    parts = split(stored(results).galaxies["id"], from_config(RunSpec, made["run"]).split)
    numbers = {name: int((parts == name).sum()) for name in ("train", "validation", "test")}
    assert results["galaxies"] == numbers
    assert sum(numbers.values()) == results["sampled_galaxies"] == 120
    for name in ("validation", "test"):
        assert results[name]["galaxies"] == numbers[name]
        assert set(results[name]) == {
            "galaxies",
            "votes",
            "rmse",
            "mae",
            "log_score",
            "loss",
            "auc",
            "accuracy",
            "confusion",
            "coverage",
            "fraction_coverage",
            "mean_mutual_information",
        }
        assert results[name]["mean_mutual_information"] > 0
    assert results["parameters"] == 40 + 3 * 148 + 16 * 4 + 16 + 16 * 2 + 2
    assert results["images_per_second"] > 0
    assert 0 < results["first_call_seconds"] < results["train_seconds"] < made["seconds"]
    assert {"torch", "device", "precision", "threads", "allocator"} <= set(made["where"])


def test_the_files_of_a_fit(fitted):
    made, table, losses = (
        record(fitted),
        posterior(fitted),
        pd.read_parquet(fitted / "losses.parquet"),
    )
    store = stored(made["results"])
    assert pd.api.types.is_string_dtype(table["id"])
    assert table["id"].tolist() == store.galaxies["id"].tolist()
    answers = ("smooth_or_featured_smooth", "smooth_or_featured_featured_or_disk_or_artifact")
    measures = ("mean", "std", "p05", "p50", "p95", "votes_low", "votes_high")
    columns = [f"{answer}_{measure}" for answer in answers for measure in measures]
    assert [name for name in table if name not in ("ra", "dec")] == [
        "id",
        "in_training",
        *columns,
        "mutual_information",
    ]
    parts = split(table["id"], from_config(RunSpec, made["run"]).split)
    assert table["in_training"].tolist() == (parts == "train").tolist()
    assert losses["step"].tolist() == list(range(12))
    assert losses["loss"].notna().all()
    assert losses["validation_loss"].notna().to_numpy().nonzero()[0].tolist() == [7, 11]
    assert losses["validation_loss"].iloc[-1] == pytest.approx(
        made["results"]["validation"]["loss"]
    )
    shares = pd.read_parquet(fitted / "split.parquet").set_index("id")["part"]
    assert shares.loc[table["id"]].tolist() == parts.tolist()
    test = table[parts == "test"]
    yes, total = (
        array[parts == "test"] for array in votes(store, "smooth-or-featured", ("smooth",))
    )
    rmse = np.sqrt(np.mean((test[MEAN] - yes / total) ** 2))
    assert made["results"]["test"]["rmse"] == pytest.approx(rmse)
    assert read_facts(fitted / "posterior.parquet")["backend"] == "torch"


def test_predict_on_the_galaxies_of_a_fit_gives_the_posterior_of_the_fit(fitted, place):
    folder, results = here(place, "predict", "same", f"weights={fitted}")
    pd.testing.assert_frame_equal(posterior(folder), posterior(fitted), check_exact=True)
    assert results["galaxies"] == 120
    assert results["weights"] == str(fitted / "weights.safetensors")


def test_predict_measures_the_galaxies_with_votes_that_were_not_trained_with(fitted, place):
    _, results = here(place, "predict", "measured", f"weights={fitted}", "dataset.seed=1")
    table = posterior(place / "measured")
    yes, total = votes(open_store(results["store"]), "smooth-or-featured", ("smooth",))
    assert results["test"]["galaxies"] == 120
    wanted = np.sqrt(np.mean((table[MEAN] - yes / total) ** 2))
    assert results["test"]["rmse"] == pytest.approx(wanted)
    assert "test RMSE" in results["summary"]
    _, same = here(place, "predict", "same", f"weights={fitted}")
    parts = split(posterior(fitted)["id"], from_config(RunSpec, record(fitted)["run"]).split)
    assert same["test"]["galaxies"] == (parts != "train").sum()


def test_so_many_labels_are_learned_from_and_more_hold_the_fewer(place):
    trained = {}
    for labels in (20, 40, 500):
        words = (f"split.labels={labels}", "posterior.galaxies=test")
        folder, results = here(place, "fit", f"{labels} labels", *words)
        shares = pd.read_parquet(folder / "split.parquet")
        trained[labels] = set(shares["id"][shares["part"] == "train"])
        assert results["galaxies"]["train"] == len(trained[labels])
        assert results["galaxies"]["test"] == (shares["part"] == "test").sum() > 0
    assert [len(trained[labels]) for labels in (20, 40)] == [20, 40]
    assert trained[20] < trained[40] < trained[500]  # which is all there are
    folder, _ = here(place, "fit", "others", "split.labels=20", "seed=1", "posterior.galaxies=test")
    shares = pd.read_parquet(folder / "split.parquet")
    assert set(shares["id"][shares["part"] == "train"]) != trained[20]


def test_galaxies_are_sampled_in_blocks_that_change_nothing(fitted, place, monkeypatch):
    for seen in ("false", "true"):
        words = (f"weights={fitted}", f"augmentation.at_prediction={seen}")
        whole, _ = here(place, "predict", f"whole {seen}", *words)
        with monkeypatch.context() as patch:
            patch.setattr(sampling, "BLOCK", 7)  # the last block is a single galaxy
            blocks, _ = here(place, "predict", f"blocks {seen}", *words)
        pd.testing.assert_frame_equal(posterior(blocks), posterior(whole), check_exact=True)


def test_samples_differ_by_dropout_or_by_how_a_galaxy_is_seen_or_not_at_all(place):
    for words, seen in (("mode=faithful", True), ("mode=corrected", False)):
        folder, _ = here(place, "fit", f"no dropout {seen}", "model.dropout=0", words)
        spread = posterior(folder)[f"{MEAN[:-4]}std"]
        assert ((spread > 1e-6) == seen).all()


def test_a_galaxy_that_was_trained_with_is_known_though_its_posterior_was_not_written(
    fitted, place
):
    folder, results = here(place, "fit", "test only", "posterior.galaxies=test")
    table, whole = posterior(folder), posterior(fitted)
    parts = split(whole["id"], from_config(RunSpec, record(fitted)["run"]).split)
    assert table["id"].tolist() == whole["id"][parts == "test"].tolist()
    assert not table["in_training"].any()
    assert "validation" not in results
    # At another place of a chunk, and of an array, the last bits round otherwise.
    found, known = results["test"], record(fitted)["results"]["test"]
    assert found.keys() == known.keys()
    for name, value in known.items():
        assert np.asarray(found[name], float) == pytest.approx(
            np.asarray(value, float), rel=1e-4, abs=1e-5, nan_ok=True
        ), name
    again, _ = here(place, "predict", "after test only", f"weights={folder}")
    assert posterior(again)["in_training"].tolist() == (parts == "train").tolist()


def test_predict_on_a_folder_without_a_table_in_another_framework(fitted, photos):
    needs("jax")
    words = (f"weights={fitted}", *on(photos / "all"))
    one, _ = here(photos, "predict", "photos torch", *words)
    other = posterior(command(photos, "predict", "photos jax", *words, "backend=jax"))
    assert other["id"].tolist() == [f"00{number}" for number in range(8)]
    assert pd.api.types.is_string_dtype(other["id"])
    assert not other["in_training"].any()
    assert not {"ra", "dec"} & set(other)
    np.testing.assert_allclose(other[MEAN], posterior(one)[MEAN], atol=1e-5)
    assert other[MEAN].nunique() == 8
    results = record(photos / "photos jax")["results"]
    assert {"store", "galaxies", "weights", "sample_seconds", "peak_memory_bytes"} < set(results)


def test_a_posterior_depends_neither_on_the_other_galaxies_nor_on_their_order(fitted, photos):
    words = (f"weights={fitted}", "backend.chunk=4")
    all_galaxies, _ = here(photos, "predict", "everyone", *words, *on(photos / "all"))
    some, _ = here(photos, "predict", "three", *words, *on(photos / "some"))
    table = photos / "reversed.csv"
    names = [f"00{number}" for number in reversed(range(8))]
    pd.DataFrame({"id": names, "smooth": 1, "featured": 2}).to_csv(table, index=False)
    reverse, _ = here(
        photos,
        "predict",
        "reversed",
        *words,
        *on(photos / "all", f"dataset.table={table}", "dataset.columns.count='{answer}'"),
        "dataset.questions={smooth-or-featured:[smooth,featured]}",
    )
    whole = posterior(all_galaxies).set_index("id")
    for folder in (some, reverse):
        table = posterior(folder).set_index("id")
        assert len(table) in (3, 8)
        wanted = whole.loc[table.index]
        same = [name for name in whole if "_disk" not in name and "_featured_" not in name[10:]]
        pd.testing.assert_frame_equal(table[same], wanted[same], atol=1e-5)  # to rounding
    assert posterior(reverse)["id"].tolist() == names


def test_fit_on_a_folder_with_a_table(place):
    folder = place / "survey"
    folder.mkdir()
    random = np.random.default_rng(1)
    rows = []
    for number in range(60):
        bright = random.integers(0, 2)
        image = random.integers(0, 60, (256, 256)) + 150 * bright
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{number:018d}.png")
        rows.append([f"{number:018d}", number / 2, -1.5, 30 * bright, 30 - 30 * bright, number % 2])
    names = ["id", "ra", "dec", "smooth", "featured", "artifact"]
    pd.DataFrame(rows, columns=names).to_csv(place / "survey.csv", index=False)
    words = on(
        folder,
        f"dataset.table={place / 'survey.csv'}",
        "dataset.columns.ra=ra",
        "dataset.columns.dec=dec",
        "dataset.columns.count='{answer}'",
        "dataset.questions={smooth-or-featured:[smooth,featured,artifact]}",
    )
    fitted, results = here(place, "fit", "on survey", *words, "training.steps=40")
    table = posterior(fitted)
    assert table["id"].tolist() == [row[0] for row in rows]
    assert table["ra"].tolist() == [row[1] for row in rows]
    assert results["test"]["auc"] == 1  # bright is smooth
    assert results["test"]["votes"] in range(30 * results["galaxies"]["test"], 10_000)


@pytest.fixture(scope="module")
def survey(place):
    """The words for 40 images in colour, called by their ids, and a table of their votes; on the sky they are small."""
    folder, random = place / "small", np.random.default_rng(5)
    folder.mkdir()
    y, x = np.mgrid[:256, :256] - 128.0
    rows = []
    for number in range(40):
        smooth = number % 2
        light = np.exp(-np.hypot(x, (4 - 3 * smooth) * y) / 12)[..., None] * [200, 150, 100]
        light = light + random.uniform(0, 30, (256, 256, 3))
        Image.fromarray(light.clip(0, 255).astype(np.uint8)).save(folder / f"g{number:02d}.png")
        rows.append([f"g{number:02d}", 20 * smooth, 20 - 20 * smooth, 0])
    names = ["id", *(f"smooth-or-featured_{a}" for a in ("smooth", "featured-or-disk", "artifact"))]
    pd.DataFrame(rows, columns=names).to_csv(place / "small.csv", index=False)
    return on(folder, f"dataset.table={place / 'small.csv'}")


VIEW = ("dataset.crop=0.4", "dataset.channels=3", "augmentation=bar", "model.scale=raw")


def test_predict_without_a_word_of_the_view_gives_the_posterior_of_the_fit(place, survey, capsys):
    fit, _ = here(place, "fit", "small", *survey, *VIEW, "training.steps=8")
    network = [word for word in SMALL if not word.startswith("model.")]
    words = ["task=predict", *network, f"outputs={place}", f"weights={fit}", *survey[:3]]
    config = trizoo.with_fit(trizoo.compose(words), words)
    assert "as in the fit: dataset.crop=0.4, dataset.channels=3\n" in capsys.readouterr().out
    predict(from_config(RunSpec, config), place / "again")
    pd.testing.assert_frame_equal(posterior(place / "again"), posterior(fit), check_exact=True)
    assert posterior(fit)["in_training"].sum() > 20
    named = ("dataset.crop=1.0", "dataset.channels=3")
    other, _ = here(place, "predict", "wider", f"weights={fit}", *survey[:3], *named)
    assert "not as in the fit: dataset.crop=1.0 (there 0.4)\n" in capsys.readouterr().out
    assert (posterior(other)[MEAN] - posterior(fit)[MEAN]).abs().max() > 1e-6


def test_weights_say_themselves_whom_they_were_trained_with(place, fitted, capsys):
    copied = place / "copied"
    copied.mkdir()
    for name in ("run.json", "weights.safetensors"):
        shutil.copy(fitted / name, copied / name)
    known = posterior(fitted)["in_training"].tolist()
    folder, _ = here(place, "predict", "of a copy", f"weights={copied}")
    assert posterior(folder)["in_training"].tolist() == known
    run = from_config(RunSpec, json.loads((fitted / "run.json").read_text()))
    weights = load_weights(fitted / "weights.safetensors", run.model)
    save_weights(copied / "weights.safetensors", weights, {})  # as older versions wrote them
    capsys.readouterr()
    folder, _ = here(place, "predict", "of an older copy", f"weights={copied}")
    assert posterior(folder)["in_training"].isna().all()
    assert posterior(folder)[MEAN].tolist() == posterior(fitted)[MEAN].tolist()
    assert f"NOT KNOWN: which galaxies {copied / 'weights.safetensors'}" in capsys.readouterr().err
    shutil.copy(fitted / "split.parquet", copied)
    folder, _ = here(place, "predict", "of an older fit", f"weights={copied}")
    assert posterior(folder)["in_training"].tolist() == known


def test_a_fit_whose_images_or_votes_changed_does_not_go_on(place, survey):
    images, table = place / "small", place / "small.csv"
    words = (*survey, "dataset.stores=" + str(place / "changing"))
    folder, results = here(place, "fit", "changing run", *words)
    config = json.loads((folder / "run.json").read_text())
    made = {"inputs": inputs(config), "results": results}
    assert changed_since(made, config) == []

    def again():
        return fit(from_config(RunSpec, config), folder)

    image, votes_before = (images / "g03.png").read_bytes(), table.read_bytes()
    os.utime(images / "g03.png", ns=(0, 0))  # another time, the same bytes
    (images / "notes.txt").touch()
    assert changed_since(made, config) == []
    again()
    ImageOps.mirror(Image.open(images / "g04.png")).save(images / "g03.png")
    assert changed_since(made, config) == [f"dataset.images ({images}): g03.png"]
    with pytest.raises(ValueError, match=r"the images have changed since .*again=true"):
        again()
    (images / "g03.png").unlink()
    assert changed_since(made, config) == [f"dataset.images ({images}): 39 images, not 40"]
    (images / "g03.png").write_bytes(image)
    assert changed_since(made, config) == []
    table.write_bytes(votes_before.replace(b"g05,20,0,0", b"g05,0,20,0"))
    assert changed_since(made, config) == [f"dataset.table ({table})"]
    with pytest.raises(ValueError, match=r"votes have changed since .*again=true"):
        again()
    table.write_bytes(votes_before)
    again()


def test_every_key_that_a_task_reads_is_among_those_that_it_uses(place, fitted, monkeypatch):
    """Else it could not be named, nor would it be part of what a run is."""
    read = set()

    def noting(kind, prefix):
        plain = kind.__getattribute__

        def get(self, name):
            reader = sys._getframe(1).f_code  # not dataclasses, which copy and hash whole runs
            ours = reader.co_filename.startswith(str(ROOT)) and "post_init" not in reader.co_name
            if ours and name in kind.__dataclass_fields__ and name not in GROUPS:
                read.add(f"{prefix}{name}")
            return plain(self, name)

        monkeypatch.setattr(kind, "__getattribute__", get)

    GROUPS = {name for name, kind in get_type_hints(RunSpec).items() if is_dataclass(kind)}
    runs = {}
    for task in ("fit", "predict", "active", "calibrate"):
        words = [f"task={task}", *(word for word in SMALL if uses(task, trizoo.key_of(word)))]
        words += [f"outputs={place}", "posterior.samples=4"]
        words += [f"weights={fitted}"] if trizoo.TASKS[task].needs_fit else []
        config = trizoo.compose(words)
        config = trizoo.with_fit(config, words) if trizoo.TASKS[task].needs_fit else config
        runs[task] = from_config(RunSpec, config)
    monkeypatch.setattr("shared.data.prepare._identity", lambda dataset: {})
    kept = to_config(runs["fit"])  # both read all, to tell one run from another
    monkeypatch.setattr("shared.method.training.to_config", lambda run: kept)
    for name in (*sorted(GROUPS - {"task"}), ""):
        noting(get_type_hints(RunSpec)[name] if name else RunSpec, f"{name}." if name else "")
    for task, run in runs.items():
        read.clear()
        do = getattr(import_module(trizoo.TASKS[task].module), task)
        do(run, place / f"{task} read")
        own = {"training.steps"} if task == "active" else set()  # of a round, which it sets itself
        assert {key for key in read if not uses(task, key)} == own, task
        assert len(read) > 20, task


def test_galaxies_whom_nobody_asked_have_a_posterior_and_nothing_else(place):
    words = ("question=bar", "positive=[strong,weak]", "minimum_votes=3")
    folder, results = here(place, "fit", "bar", *words)
    _, total = votes(stored(results), "bar", ("strong", "weak"))
    assert (total < 3).any()
    assert sum(results["galaxies"].values()) == (total >= 3).sum()
    table = posterior(folder)
    assert len(table) == 120
    assert not table["in_training"][total < 3].any()
    assert set(pd.read_parquet(folder / "split.parquet")["id"]) == set(table["id"][total >= 3])


def test_a_fit_with_nothing_held_out(place):
    words = ("split.validation=0", "split.test=0")
    folder, results = here(place, "fit", "all in", *words)
    assert results["galaxies"] == {"train": 120, "validation": 0, "test": 0}
    assert not {"validation", "test"} & set(results)
    assert "no test galaxies" in results["summary"]
    assert pd.read_parquet(folder / "losses.parquet")["validation_loss"].isna().all()
    assert posterior(folder)["in_training"].all()
    folder, results = here(place, "fit", "none", *words, "posterior.galaxies=test")
    assert results["sampled_galaxies"] == len(posterior(folder)) == 0


def test_a_batch_larger_than_all_galaxies(place):
    folder, results = here(place, "fit", "batch", "training.batch_size=500", "training.steps=4")
    assert results["images_per_second"] > 0
    assert len(pd.read_parquet(folder / "losses.parquet")) == 4


def test_the_rounds_of_active_learning(place):
    folder = command(place, "active", "rounds", "minimum_votes=37")
    results, ids = record(folder)["results"], []
    store = stored(results)
    _, total = votes(store, "smooth-or-featured", ("smooth",))
    galaxies = store.galaxies["id"]
    parts = split(galaxies, from_config(RunSpec, record(folder)["run"]).split)
    assert [entry["labelled"] for entry in results["rounds"]] == [16, 22, 28]
    for entry in results["rounds"]:
        assert set(entry) == {
            "labelled",
            "acquired",
            "unanswered",
            "scores",
            "chances",
            "votes",
            "loss",
            "seconds",
            "test",
            "pool",
            "composition",
            "digest",
            "worth",
        }
        assert entry["chances"] == [1] * 6
        assert entry["test"]["truth_rmse"] > 0
        assert entry["test"]["galaxies"] == ((parts == "test") & (total >= 37)).sum()
        assert len(entry["acquired"]) == len(entry["scores"]) == 6
        ids += entry["acquired"]
    assert len(set(ids)) == 18
    known, unlabelled = (
        set(galaxies[(parts != "test") & (parts == "train") & (total >= 37)]),
        set(galaxies[(parts != "test") & (total < 37)]),
    )
    assert set(ids[:12]) <= known
    assert set(ids[12:]) <= unlabelled
    asked = pd.read_csv(folder / "ask_next.csv", dtype={"id": str})
    assert list(asked) == ["rank", "id", "ra", "dec", "score", "chance", "votes"]
    assert asked["votes"].tolist() == [40] * 6
    pools = [entry["pool"] for entry in results["rounds"]]
    assert [pool["galaxies"] for pool in pools[:2]] == [len(known) - 16, len(known) - 22]
    assert all(0 < pool["all"] < 50 and 0 < pool["plain"] < 50 for pool in pools[:2])
    assert pools[2]["all"] is pools[2]["plain"] is None
    assert asked["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    assert asked["id"].tolist() == ids[12:]
    np.testing.assert_allclose(asked["score"], results["rounds"][-1]["scores"])
    assert asked["score"].is_monotonic_decreasing


def test_active_learning_leaves_a_network_as_a_fit_does(place):
    """The files of a fit, of the last round's network, and a vote table of what it has learned from."""
    words = ("likelihood=dirichlet_multinomial", "posterior=laplace", "acquisition.rounds=1")
    folder = command(place, "active", "leaves", *words)
    results = record(folder)["results"]
    assert set(results["network"]) == {
        *("sample_seconds", "sampled_galaxies", "validation", "test", "laplace", "honesty")
    }
    files = {path.name for path in folder.iterdir()}
    assert files == {
        *("run.json", "record.json", "checkpoint.safetensors", "ask_next.csv", "votes.parquet"),
        "rounds.json",
        *("weights.safetensors", "laplace.safetensors", "split.parquet", "posterior.parquet"),
    }
    first = results["rounds"][0]
    learned, shares = (pd.read_parquet(folder / f"{name}.parquet") for name in ("votes", "split"))
    assert len(learned) == results["rounds"][1]["labelled"] == 22
    assert set(first["acquired"]) < set(learned["id"])
    assert set(shares["id"][shares["part"] == "train"]) == set(learned["id"])
    store = stored(results)
    known = store.galaxies.set_index("id").loc[learned["id"]]
    name = "smooth-or-featured"
    assert learned[f"{name}_smooth"].tolist() == known[f"{name}_smooth"].tolist()
    assert learned[f"{name}_total"].tolist() == known[f"{name}_total"].tolist()
    table = posterior(folder)
    assert set(table["id"][table["in_training"]]) == set(learned["id"])
    again, other = here(place, "predict", "of active", f"weights={folder}", words[0])
    pd.testing.assert_frame_equal(posterior(again), table, check_exact=True)
    tested = results["network"]["test"]["galaxies"] + results["network"]["validation"]["galaxies"]
    parts = split(table["id"], from_config(RunSpec, record(folder)["run"]).split)
    assert tested == (parts != "train").sum() < other["test"]["galaxies"] == 120 - 22
    _, calibrated = here(place, "calibrate", "calibrated", f"weights={folder}", words[0])
    assert calibrated["trained_with_known"]
    catalogued = command(place, "catalogue", "catalogued", f"run={folder}", "posterior.format=csv")
    assert len(pd.read_csv(catalogued / "posterior.csv")) == 120


@pytest.mark.parametrize(
    "word",
    [
        "acquisition=random",
        "acquisition=entropy",
        "acquisition=power",
        "acquisition=mixture",
        "acquisition=k_centre",
        "acquisition=batch_mutual_information",
        "acquisition=epig",
        "acquisition.shards=2",
        "mode=faithful",
    ],
)
def test_other_ways_to_acquire(place, word):
    small = ("acquisition.shard_size=9", "split.test=0.05")
    _, usual = here(place, "active", "usual", *small)
    folder, results = here(place, "active", word.replace("=", " "), word, *small)
    assert [entry["labelled"] for entry in results["rounds"]] == [16, 22, 28]
    ids = [name for entry in results["rounds"] for name in entry["acquired"]]
    assert len(set(ids)) == 18
    if word != "mode=faithful":  # another way to choose is the same way to learn
        assert results["rounds"][0]["test"]["loss"] == usual["rounds"][0]["test"]["loss"]
    assert results["rounds"][0]["acquired"] != usual["rounds"][0]["acquired"]
    assert len(pd.read_csv(folder / "ask_next.csv")) == 6


def test_a_survey_waits_for_volunteers_and_goes_on_by_the_command(place, capfd):
    words = ("oracle=volunteers", "minimum_votes=37", "acquisition.rounds=1")
    folder = command(place, "active", "asked of volunteers", *words)
    *_, last = capfd.readouterr().out.strip().splitlines()
    assert last.startswith(f"6 galaxies wait for volunteers: upload {folder / 'ask-01'}; collect")
    assert "give the same command again: it goes on from there; " in last
    assert " the next 6 labels are " in last
    assert not (folder / "record.json").exists()
    with (folder / "ask-01" / "manifest.csv").open() as file:
        asked = [row["!galaxy"] for row in csv.DictReader(file)]
    assert len(asked) == 6
    export = folder / "classifications" / "mine.csv"
    export.parent.mkdir()
    classify(export, {name: 38 for name in asked[:5]})
    assert command(place, "active", "asked of volunteers", *words) == folder
    output = capfd.readouterr()
    assert "going on after round 0 of 1" in output.err
    assert "done in" in output.out
    first, second = record(folder)["results"]["rounds"]
    assert first["acquired"] == asked
    assert first["unanswered"] == asked[5:]
    assert second["labelled"] == first["labelled"] + 5
    unfinished(folder / "ask-02").mkdir()
    sweep(folder)
    assert (folder / "ask-01" / "votes.csv").exists()
    with pytest.raises(ValueError, match=r"holds what volunteers were asked and said \(ask-01\)"):
        trizoo.clear(folder, "active")  # what again=true begins with
    assert (folder / "ask_next.csv").exists()
    (folder / "ask-01").rename(place / "asked")
    trizoo.clear(folder, "active")
    assert {path.name for path in folder.iterdir()} == {"run.json", "classifications"}
    assert export.exists()


def classify(path, people):
    """An export in which so many `people` say of each galaxy, in turn, that it is smooth or featured."""
    rows = []
    for place, (galaxy, count) in enumerate(people.items()):
        for person in range(count):
            answer = ("Smooth", "Featured or disk")[person % 2]
            task = [{"task": "T0", "task_label": "", "value": answer}]
            rows.append(
                {
                    "classification_id": 1000 * place + person,
                    "user_id": person + 1,
                    "created_at": f"2026-01-01 00:00:{person:02d} UTC",
                    "annotations": json.dumps(task),
                    "subject_data": json.dumps({"1": {"!galaxy": galaxy}}),
                }
            )
    pd.DataFrame(rows).reindex(columns=COLUMNS).to_csv(path, index=False)


def test_the_faithful_mode_is_another_and_predicts_as_it_fitted(place, fitted):
    folder, _ = here(place, "fit", "faithful", "mode=faithful")
    table, usual = posterior(folder), posterior(fitted)
    assert np.isfinite(table[MEAN]).all()
    assert (table[MEAN] - usual[MEAN]).abs().max() > 1e-3
    again, _ = here(place, "predict", "faithful again", f"weights={folder}")
    pd.testing.assert_frame_equal(posterior(again), table, check_exact=True)
    still, _ = here(
        place, "predict", "still", f"weights={folder}", "augmentation.at_prediction=false"
    )
    assert posterior(still)[f"{MEAN[:-4]}std"].mean() < table[f"{MEAN[:-4]}std"].mean()


@pytest.mark.parametrize(
    ("task", "words", "message"),
    [
        ("fit", ["minimum_votes=1000"], r"none of the \d+ training galaxies .*minimum_votes=1000"),
        ("active", ["minimum_votes=1000"], "none of the"),
        ("active", ["acquisition.rounds=20"], r"20 rounds ask about 136 galaxies, but only \d\d "),
        ("active", ["split.test=0"], "no test galaxy with votes; raise split.test"),
        ("fit", ["question=rings", "positive=[yes]"], "question is 'rings'"),
        ("fit", ["training.learning_rate=1e30"], r"diverged; lower training.learning_rate"),
        (
            "fit",
            ["training.steps=1", "training.learning_rate=1e38"],
            r"no finite logit for \d+ of \d+ galaxies: its training diverged; train anew with a lower",
        ),
        (
            "fit",
            ["split.test=0.98", "split.validation=0.019", "dataset.galaxies=9"],
            r"all of the 9 galaxies of .* are held out .*, none is left to train on; give more",
        ),
        ("active", ["oracle=volunteers"], "every galaxy that is not held out has votes on smooth"),
    ],
)
def test_what_cannot_be_done_is_said(place, task, words, message):
    with pytest.raises(ValueError, match=message):
        here(place, task, "refused", *words)
    assert not (place / "refused" / "weights.safetensors").exists()


def test_votes_are_needed_to_fit(photos):
    with pytest.raises(ValueError, match=r"without votes; set dataset"):
        here(photos, "fit", "no votes", *on(photos / "all"))


def test_weights_of_another_network_are_refused(place, fitted):
    run = from_config(RunSpec, json.loads((fitted / "run.json").read_text()))
    weights = load_weights(fitted / "weights.safetensors", run.model)
    strange = place / "strange"
    write_json(strange / "run.json", json.loads((fitted / "run.json").read_text()))
    weights["hidden/bias"] = np.zeros(17, np.float32)
    save_weights(strange / "weights.safetensors", weights, {})
    with pytest.raises(ValueError, match=r"hidden/bias has the shape \(17,\), but .* \(16,\)"):
        here(place, "predict", "of strange", f"weights={strange}")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_line_and_the_fix(place, capfd):
    words = [word for word in SMALL if not word.startswith("acquisition.")]
    words += [f"outputs={place}", f"folder={place / 'gpu'}", "backend.device=gpu"]
    assert trizoo.main(["fit", *words]) == 2
    output = capfd.readouterr().err.strip().splitlines()
    assert output[-1].startswith("trizoo: PyTorch")
    assert "backend.device=cpu" in output[-1]
    assert "Traceback" not in "".join(output)


@pytest.mark.parametrize("backend", ONE_FRAMEWORK)
@pytest.mark.parametrize(("precision", "near"), [("float64", 1e-3), ("bfloat16", 0.05)])
def test_every_precision_in_every_framework(place, fitted, backend, precision, near):
    needs(backend)
    words = (f"backend={backend}", f"backend.precision={precision}")
    folder = command(place, "fit", f"{backend} {precision}", *words)
    made = record(folder)
    assert made["where"]["precision"] == precision
    table, usual = posterior(folder), posterior(fitted)
    assert np.isfinite(table.filter(like="smooth_or_featured").to_numpy()).all()
    difference = (table[MEAN] - usual[MEAN]).abs().max()
    assert 0 < difference < near
    assert made["results"]["test"]["rmse"] == pytest.approx(
        record(fitted)["results"]["test"]["rmse"], abs=near
    )


def test_weights_begin_where_the_seed_says(place):
    folder, _ = here(place, "fit", "one step", "training.steps=1", "seed=5")
    run = from_config(RunSpec, json.loads((folder / "run.json").read_text()))
    before = first_checkpoint(run.model, 5).weights
    after = load_weights(folder / "weights.safetensors", run.model)
    moved = {name: np.abs(after[name] - before[name]).max() for name in before}
    assert all(0 < most < 0.0101 for most in moved.values())  # Adam's first step is the rate itself
