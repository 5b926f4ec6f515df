"""The power may fail as soon as a task says that it is done: nothing that it reported is missing then."""

import json
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from disk import unsafe_disk
from PIL import Image

import trizoo
from shared.data import store
from shared.data import store_writer as draft
from shared.data.prepare import prepare
from shared.data.store import open_store
from shared.output.subject_sets import write_subject_set
from shared.run.records import write_whole
from shared.run.spec import RunSpec, from_config

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

SMALL = (
    "backend=torch",
    "backend.threads=0",
    "dataset.galaxies=60",
    "model.image_size=16",
    "model.blocks=[[2],[2],[2],[2]]",
    "model.dense=4",
    "training.batch_size=8",
    "training.steps=4",
    "training.checkpoint_every=2",
    "posterior.samples=3",
    "acquisition.samples=3",
    "acquisition.initial=8",
    "acquisition.per_round=4",
    "acquisition.rounds=1",
    "acquisition.first_steps=2",
    "acquisition.round_steps=2",
)


@pytest.fixture
def disk():
    with unsafe_disk() as disk:
        yield disk


def done(place, task, *words):
    """The folder of a run that was done in this process, from run.json to record.json."""
    words = [
        *SMALL,
        f"outputs={place / 'new' / 'out'}",
        f"dataset.stores={place / 'new' / 's'}",
        *words,
    ]
    config = trizoo.compose([f"task={task}", *words])
    config = trizoo.with_fit(config, words) if trizoo.TASKS[task].needs_fit else config
    folder = trizoo.run_folder(config)
    with trizoo.folder_lock(folder), patch.dict(os.environ):
        trizoo.write_config(folder, config)
        assert trizoo.run_here(folder, "trizoo") == 0
    return folder


def test_the_disk_loses_what_was_not_synced(tmp_path, disk):
    (tmp_path / "a").write_text("text")
    write_whole(tmp_path / "b", lambda path: path.write_text("text"))
    write_whole(tmp_path / "c" / "d", lambda path: path.write_text("text"))
    (tmp_path / "e").mkdir()
    (tmp_path / "c" / "d").rename(tmp_path / "e" / "d")
    assert disk.lost(tmp_path) == {"a", "e/d"}


def test_a_store_that_was_prepared(tmp_path, disk):
    folder = done(tmp_path, "prepare")
    found = json.loads((folder / "record.json").read_text())["results"]["store"]
    assert len(list(tmp_path.rglob("*.*"))) > 4
    assert not disk.lost(tmp_path)
    assert {path.name for path in Path(found).parent.iterdir()} == {Path(found).name}


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("bad", [True, False])
def test_a_store_of_image_files(tmp_path, disk, monkeypatch, links, bad):
    random = np.random.default_rng(0)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(5):
        pixels = random.integers(0, 255, (300, 300), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{number}.png")
    if bad:
        (photos / "2.png").write_bytes(b"no image")
    if not links:
        monkeypatch.delattr(draft.os, "link")
        monkeypatch.setattr(draft.os, "link", no_links, raising=False)
    monkeypatch.setattr(store, "SHARD", 2 * store.SIZE**2)
    words = [f"dataset.images={photos}", "dataset.skip_bad_images=true", "dataset.galaxies=null"]
    config = trizoo.compose(["dataset=folder", f"dataset.stores={tmp_path / 's'}", *words])
    found = prepare(from_config(RunSpec, config).dataset)
    assert len(found.galaxies) == 5 - bad
    shutil.rmtree(photos)
    assert not disk.lost(tmp_path)


def no_links(*_):
    raise OSError("no links here")


def test_the_draft_goes_when_the_store_is_on_the_disk(tmp_path, disk, monkeypatch):
    removed = []

    def remove(place, **_):
        if Path(place).name.endswith(".partial"):
            removed.append(disk.lost(tmp_path))

    monkeypatch.setattr(shutil, "rmtree", remove)
    done(tmp_path, "prepare")
    stores = {name for lost in removed for name in lost if "new/s/" in name}
    assert len(removed) == 1
    assert not stores


@pytest.mark.parametrize("task", ["fit", "active"])
def test_a_run_that_trained(tmp_path, disk, task):
    pytest.importorskip("torch")
    folder = done(tmp_path, task)
    names = {"run.json", "record.json", "checkpoint.safetensors"}
    names |= {
        "fit": {
            "weights.safetensors",
            "laplace.safetensors",
            "losses.parquet",
            "split.parquet",
            "posterior.parquet",
        },
        "active": {
            "ask_next.csv",
            "rounds.json",
            "votes.parquet",
            "weights.safetensors",
            "laplace.safetensors",
            "split.parquet",
            "posterior.parquet",
        },
    }[task]
    assert {path.name for path in folder.iterdir()} == names
    assert not disk.lost(tmp_path)


def test_what_is_made_of_weights(tmp_path, disk):
    pytest.importorskip("torch")
    weights = done(tmp_path, "fit")
    done(tmp_path, "predict", f"weights={weights}")
    done(tmp_path, "calibrate", f"weights={weights}")
    if find_spec("onnx"):
        done(tmp_path, "export", f"weights={weights}")
    done(tmp_path, "report")
    assert not disk.lost(tmp_path)


@pytest.mark.parametrize("task", ["kit", "show"])
def test_what_is_made_of_nothing(tmp_path, disk, task):
    done(tmp_path, task)
    assert not disk.lost(tmp_path)


def test_what_volunteers_are_asked(tmp_path, disk):
    done(tmp_path, "prepare")
    (folder,) = (tmp_path / "new" / "s").iterdir()
    found = open_store(folder)
    write_subject_set(found, [1, 3], found.galaxies["id"].iloc[[1, 3]], tmp_path / "new", 1)
    assert not disk.lost(tmp_path)
