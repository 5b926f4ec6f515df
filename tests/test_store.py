import json

import numpy as np
import pandas as pd
import pytest

from shared.cutouts import SIZE
from shared.store import GALAXIES, IMAGES, MANIFEST, open_store, sha256, verify, votes

QUESTIONS = {"shape": ["smooth", "disk", "star"]}


@pytest.fixture
def folder(tmp_path):
    """A store of three galaxies, made by hand."""
    galaxies = pd.DataFrame({"id": ["a", "b", "587722984435351614"], "ra": 0.0, "dec": np.nan})
    for number, name in enumerate(["smooth", "disk", "star", "total"]):
        galaxies[f"shape_{name}"] = np.array([number, 10 * number, 0], np.int32)
    write(tmp_path, galaxies, np.arange(3 * SIZE * SIZE, dtype=np.uint8).reshape(3, SIZE, SIZE, 1))
    return tmp_path


def write(folder, galaxies, images, **manifest):
    galaxies.to_parquet(folder / GALAXIES, index=False)
    np.save(folder / IMAGES, images)
    sums = {name: sha256(folder / name) for name in (IMAGES, GALAXIES)}
    told = {"format": 1, "questions": QUESTIONS, "sha256": sums} | manifest
    (folder / MANIFEST).write_text(json.dumps(told))


def test_a_store_is_read_through_a_map(folder):
    store = open_store(str(folder))
    assert isinstance(store.images, np.memmap)
    assert not store.images.flags.writeable
    assert store.images.shape == (3, SIZE, SIZE, 1)
    assert store.images[1, 0, 7, 0] == 7
    assert store.galaxies["id"].tolist() == ["a", "b", "587722984435351614"]
    assert store.questions == {"shape": ("smooth", "disk", "star")}
    assert store.folder == folder
    assert store.source["format"] == 1
    verify(folder)


def test_votes_for_several_answers_are_added_and_the_total_is_the_tables(folder):
    store = open_store(folder)
    yes, total = votes(store, "shape", ("disk", "star"))
    assert yes.tolist() == [3, 30, 0]
    assert total.tolist() == [3, 30, 0]
    assert votes(store, "shape", ("disk",))[0].tolist() == [1, 10, 0]
    assert votes(store, "shape", ("disk", "disk"))[0].tolist() == [1, 10, 0]
    assert yes.dtype == total.dtype == np.int64


def test_votes_that_are_not_there_are_refused(folder):
    store = open_store(folder)
    with pytest.raises(ValueError, match=r"no question 'bar'.*it has shape"):
        votes(store, "bar", ("yes",))
    with pytest.raises(ValueError, match="no answer 'yes' to shape; it has smooth, disk, star"):
        votes(store, "shape", ("yes",))
    without = store._replace(galaxies=store.galaxies[["id", "ra", "dec"]])
    with pytest.raises(ValueError, match="made without a table, so it has no votes; set dataset"):
        votes(without, "shape", ("smooth",))


@pytest.mark.parametrize("name", [IMAGES, GALAXIES])
def test_verify_sees_one_changed_byte(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ValueError, match=f"{name} is not what was written.*prepare"):
        verify(folder)


@pytest.mark.parametrize("name", [IMAGES, GALAXIES, MANIFEST])
def test_a_missing_or_truncated_file_is_named(folder, name):
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-40])
    with pytest.raises(
        ValueError, match=r"(?s)damaged.*delete the folder and prepare it anew"
    ) as told:
        open_store(folder)
    assert str(folder) in str(told.value)
    (folder / name).write_bytes(b"")
    with pytest.raises(ValueError, match="damaged"):
        open_store(folder)
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"lacks {name}; delete the folder"):
        open_store(folder)


def test_files_that_do_not_fit_together_are_refused(folder):
    galaxies = pd.read_parquet(folder / GALAXIES)
    for images in (
        np.zeros((2, SIZE, SIZE, 1), np.uint8),
        np.zeros((3, SIZE, SIZE), np.uint8),
        np.zeros((3, SIZE, SIZE, 1), np.int8),
    ):
        write(folder, galaxies, images)
        with pytest.raises(ValueError, match=r"has 3 galaxies, but images .*prepare it anew"):
            open_store(folder)


def test_another_format_and_no_store_are_refused(folder, tmp_path):
    write(folder, pd.read_parquet(folder / GALAXIES), np.load(folder / IMAGES), format=99)
    with pytest.raises(ValueError, match="has format 99, not 1; delete the folder and prepare"):
        open_store(folder)
    with pytest.raises(FileNotFoundError, match=r"no store .*nowhere; make it with trizoo prepare"):
        open_store(tmp_path / "nowhere")
