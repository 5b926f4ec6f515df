"""The tasks on real stores: through the door, and within this process with PyTorch where the door is not the point."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import trizoo
from shared import sampling, tasks
from shared.posterior import read_facts, read_posterior
from shared.records import sweep, unfinished, write_json
from shared.spec import BACKENDS, RunSpec, from_config
from shared.split import split
from shared.store import open_store, votes
from shared.volunteers import COLUMNS
from shared.weights import first_checkpoint, load_weights, save_weights

torch = pytest.importorskip("torch")

SMALL = (
    "backend.threads=1",
    "backend.chunk=16",
    "backend.steps=4",
    "dataset.galaxies=120",
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


def door(place, task, name, *words):
    """The folder of a run that the door did."""
    words = [*SMALL, f"outputs={place}", f"folder={place / name}", *words]
    assert trizoo.main([task, *words]) == 0
    return place / name


def here(place, task, name, *words):
    """The folder and the results of a run in this process."""
    words = [f"task={task}", *SMALL, f"outputs={place}", f"folder={place / name}", *words]
    config = trizoo.compose(words)
    config = trizoo.inherit(config, words) if task == "predict" else config
    write_json(place / name / "run.json", config)
    outcome = getattr(tasks, task)(from_config(RunSpec, config), place / name)
    return place / name, outcome["results"]


def record(folder):
    return json.loads((folder / "record.json").read_text())


def posterior(folder):
    return read_posterior(folder / "posterior.parquet")


def stored(results):
    return open_store(results["store"])


@pytest.fixture(scope="module")
def fitted(place):
    """A fit that the door did."""
    return door(place, "fit", "fitted")


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


def on(folder, *words):
    """The words for a folder of images."""
    return ("dataset=folder", f"dataset.images={folder}", "dataset.galaxies=null", *words)


def test_a_fit_leaves_its_files_and_nothing_else(fitted):
    files = {path.name for path in fitted.iterdir()}
    assert files == {"run.json", "record.json", *trizoo.OUTPUT_FILES["fit"]}


def test_the_record_of_a_fit(fitted, place):
    made = record(fitted)
    assert set(made) == {"command", "run", "host", "where", "started", "seconds", "results"}
    results = made["results"]
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
        "validation",
        "test",
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
    found, known = results["test"], record(fitted)["results"]["test"]
    # The samples are the same to the last bit; a galaxy's information rounds otherwise at another place of its array.
    information = [told.pop("mean_mutual_information") for told in (found, known)]
    assert information[0] == pytest.approx(information[1], rel=1e-6)
    assert found == known
    again, _ = here(place, "predict", "after test only", f"weights={folder}")
    assert posterior(again)["in_training"].tolist() == (parts == "train").tolist()


def test_predict_on_a_folder_without_a_table_in_another_framework(fitted, photos):
    pytest.importorskip("jax")
    words = (f"weights={fitted}", *on(photos / "all"))
    one, _ = here(photos, "predict", "photos torch", *words)
    other = posterior(door(photos, "predict", "photos jax", *words, "backend=jax"))
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
    everyone, _ = here(photos, "predict", "everyone", *words, *on(photos / "all"))
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
    whole = posterior(everyone).set_index("id")
    for folder in (some, reverse):
        table = posterior(folder).set_index("id")
        assert len(table) in (3, 8)
        wanted = whole.loc[table.index]
        same = [name for name in whole if "_disk" not in name and "_featured_" not in name[10:]]
        pd.testing.assert_frame_equal(table[same], wanted[same], check_exact=True)
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
    folder = door(place, "active", "rounds", "minimum_votes=37")
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
            "digest",
        }
        assert entry["chances"] == [1] * 6
        assert entry["test"]["truth_rmse"] > 0
        assert entry["test"]["galaxies"] == ((parts == "test") & (total >= 37)).sum()
        assert len(entry["acquired"]) == len(entry["scores"]) == 6
        ids += entry["acquired"]
    assert len(set(ids)) == 18
    known, silent = (
        set(galaxies[(parts != "test") & (parts == "train") & (total >= 37)]),
        set(galaxies[(parts != "test") & (total < 37)]),
    )
    assert set(ids[:12]) <= known
    assert set(ids[12:]) <= silent
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


def test_a_survey_waits_for_volunteers_and_goes_on_through_the_door(place, capfd):
    words = ("oracle=volunteers", "minimum_votes=37", "acquisition.rounds=1")
    folder = door(place, "active", "asked of volunteers", *words)
    *_, last = capfd.readouterr().out.strip().splitlines()
    assert last.startswith(f"6 galaxies wait for volunteers: upload {folder / 'ask-01'}; collect")
    assert last.endswith("give the same command again: it goes on from there")
    assert not (folder / "record.json").exists()
    with (folder / "ask-01" / "manifest.csv").open() as file:
        asked = [row["!galaxy"] for row in csv.DictReader(file)]
    assert len(asked) == 6
    heard = folder / "classifications" / "mine.csv"
    heard.parent.mkdir()
    classify(heard, {name: 38 for name in asked[:5]})
    assert door(place, "active", "asked of volunteers", *words) == folder
    said = capfd.readouterr()
    assert "going on after round 0 of 1" in said.err
    assert "done in" in said.out
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
    assert heard.exists()


def classify(path, people):
    """An export in which so many PEOPLE say of each galaxy, in turn, that it is smooth or featured."""
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
    ("task", "words", "said"),
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
            r"no finite chance for \d+ of \d+ galaxies: its training diverged; train anew with a lower",
        ),
        (
            "fit",
            ["split.test=0.98", "split.validation=0.019", "dataset.galaxies=9"],
            r"all of the 9 galaxies of .* are held out .*, none is left to train on; give more",
        ),
        ("active", ["oracle=volunteers"], "every galaxy that is not held out has votes on smooth"),
    ],
)
def test_what_cannot_be_done_is_said(place, task, words, said):
    with pytest.raises(ValueError, match=said):
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
def test_a_gpu_that_is_not_there_is_one_line_and_the_way_out(place, capfd):
    words = [*SMALL, f"outputs={place}", f"folder={place / 'gpu'}", "backend.device=gpu"]
    assert trizoo.main(["fit", *words]) == 2
    said = capfd.readouterr().err.strip().splitlines()
    assert said[-1].startswith("trizoo: PyTorch")
    assert "backend.device=cpu" in said[-1]
    assert "Traceback" not in "".join(said)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("precision", "near"), [("float64", 1e-3), ("bfloat16", 0.05)])
def test_every_precision_in_every_framework(place, fitted, backend, precision, near):
    pytest.importorskip({"tf": "tensorflow"}.get(backend, backend))
    words = (f"backend={backend}", f"backend.precision={precision}")
    folder = door(place, "fit", f"{backend} {precision}", *words)
    made = record(folder)
    assert made["where"]["precision"] == precision
    table, usual = posterior(folder), posterior(fitted)
    assert np.isfinite(table.filter(like="smooth_or_featured").to_numpy()).all()
    apart = (table[MEAN] - usual[MEAN]).abs().max()
    assert 0 < apart < near
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
