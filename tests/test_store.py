import json
import zlib

import numpy as np
import pandas as pd
import pytest

from shared.data import store
from shared.data import store_writer as draft
from shared.data.cutouts import SIZE
from shared.data.store import (
    GALAXIES,
    MANIFEST,
    open_store,
    shard_name,
    shard_rows,
    verify,
    votes,
)
from shared.data.store_writer import JOURNAL, StoreWriter

QUESTIONS = {"shape": ["smooth", "disk", "star"]}
FACTS = {"questions": QUESTIONS, "leads": {}, "skipped": [], "source": {}}


def table(count=3):
    ids = ["a", "b", "587722984435351614", *(f"g{number}" for number in range(3, count))]
    galaxies = pd.DataFrame(
        {"id": ids[:count], "ra": 0.0, "dec": np.nan}, index=range(1, count + 1)
    )
    for number, name in enumerate(["smooth", "disk", "star", "total"]):
        votes = np.zeros(count, np.int32)
        votes[:2] = number, 10 * number
        galaxies[f"shape_{name}"] = votes
    return galaxies


def pictures(count=3, channels=1):
    rng = np.random.default_rng(count)
    return rng.integers(0, 256, (count, SIZE, SIZE, channels), dtype=np.uint8)


def made(place, count=3, channels=1, rows=None):
    """A finished store of `count` galaxies, or of the `rows` of them, in a folder in `place`."""
    images = pictures(count, channels)
    (place / "draft").mkdir(parents=True)
    with StoreWriter(place / "draft", count, channels) as building:
        for row in reversed(range(count) if rows is None else rows):
            building.note(
                row, {"image": f"{row}.jpg", "pixels_crc32": building.put(row, images[row])}
            )
        whole = building.finish(table(count), FACTS)
    return whole.rename(place / "store")


@pytest.fixture
def folder(tmp_path):
    return made(tmp_path)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(store, "SHARD", 2 * SIZE * SIZE)


def test_a_store_is_read_through_a_map(folder):
    found = open_store(str(folder))
    (shard,) = found.images.shards
    assert isinstance(shard, np.memmap)
    assert not shard.flags.writeable
    assert found.images.shape == (3, SIZE, SIZE, 1)
    np.testing.assert_array_equal(found.images, pictures())
    assert found.galaxies["id"].tolist() == ["a", "b", "587722984435351614"]
    assert found.galaxies["image"].tolist() == ["0.jpg", "1.jpg", "2.jpg"]
    assert found.questions == {"shape": ("smooth", "disk", "star")}
    assert found.folder == folder
    assert found.source["format"] == store.FORMAT
    assert sorted(path.name for path in folder.iterdir()) == [GALAXIES, shard_name(0), MANIFEST]
    verify(folder)


def test_shards_are_read_as_one_array(tmp_path, small_shards):
    found = open_store(made(tmp_path, 7))
    images = pictures(7)
    assert [len(shard) for shard in found.images.shards] == [2, 2, 2, 1]
    assert len(found.images) == 7
    np.testing.assert_array_equal(found.images, images)
    none = np.array([], int)
    for rows in (3, -1, slice(1, 6, 2), [6, 0, 3, 3], [-7, 5], np.array([[0, 6], [5, 2]]), none):
        np.testing.assert_array_equal(found.images[rows], images[rows])
    every_other = np.arange(7) % 2 == 0
    np.testing.assert_array_equal(found.images[every_other], images[every_other])
    for beyond in (7, -8, [0, 7]):
        with pytest.raises(IndexError):
            found.images[beyond]
    verify(tmp_path / "store")


@pytest.mark.usefixtures("small_shards")
def test_colours_make_shards_of_fewer_galaxies(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHARD", 6 * SIZE * SIZE)
    assert (shard_rows(1), shard_rows(3)) == (6, 2)
    found = open_store(made(tmp_path, 5, channels=3))
    assert found.images.shape == (5, SIZE, SIZE, 3)
    assert len(found.images.shards) == 3
    np.testing.assert_array_equal(found.images, pictures(5, 3))
    verify(tmp_path / "store")


@pytest.mark.usefixtures("small_shards")
def test_galaxies_left_out_leave_no_gap(tmp_path):
    found = open_store(made(tmp_path, 7, rows=[0, 2, 3, 4, 6]))
    np.testing.assert_array_equal(found.images, pictures(7)[[0, 2, 3, 4, 6]])
    assert found.galaxies["id"].tolist() == ["a", "587722984435351614", "g3", "g4", "g6"]
    assert found.galaxies["image"].tolist() == ["0.jpg", "2.jpg", "3.jpg", "4.jpg", "6.jpg"]
    verify(tmp_path / "store")


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("torn", [b"", b'{"row": 3, "image"'])
def test_a_draft_is_taken_up_where_it_was_left(tmp_path, torn):
    images = pictures(5)
    with StoreWriter(tmp_path, 5, 1) as first:
        for row in (4, 0):
            first.note(row, {"image": "x", "pixels_crc32": first.put(row, images[row])})
        first.put(3, images[0])  # not noted, so not there
    (tmp_path / JOURNAL).write_bytes((tmp_path / JOURNAL).read_bytes() + torn)
    (tmp_path / "whole").mkdir()
    with StoreWriter(tmp_path, 5, 1) as second:
        assert sorted(second.done) == [0, 4]
        for row in (1, 2, 3):
            second.note(row, {"image": "x", "pixels_crc32": second.put(row, images[row])})
        whole = second.finish(table(5), FACTS)
    np.testing.assert_array_equal(open_store(whole).images, images)
    verify(whole)


def test_a_draft_notes_nothing_before_its_pixels_are_on_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(draft, "flush", lambda file: synced.append(journal.stat().st_size))
    journal = tmp_path / JOURNAL
    with StoreWriter(tmp_path, 2, 1) as building:
        building.note(1, {"pixels_crc32": building.put(1, pictures(2)[1])})
        assert journal.stat().st_size == 0
        building.commit()
    assert synced[0] == 0
    assert synced[1] == journal.stat().st_size > 0


def test_votes_for_several_answers_are_added_and_the_total_is_the_tables(folder):
    found = open_store(folder)
    yes, total = votes(found, "shape", ("disk", "star"))
    assert yes.tolist() == [3, 30, 0]
    assert total.tolist() == [3, 30, 0]
    assert votes(found, "shape", ("disk",))[0].tolist() == [1, 10, 0]
    assert votes(found, "shape", ("disk", "disk"))[0].tolist() == [1, 10, 0]
    assert yes.dtype == total.dtype == np.int64


def test_votes_that_are_not_there_are_refused(folder):
    found = open_store(folder)
    with pytest.raises(ValueError, match=r"no question 'bar'.*it has shape"):
        votes(found, "bar", ("yes",))
    with pytest.raises(ValueError, match="no answer 'yes' to shape; it has smooth, disk, star"):
        votes(found, "shape", ("yes",))
    del found.galaxies["shape_total"]
    with pytest.raises(ValueError, match=r"without votes.*dataset\.table"):
        votes(found, "shape", ("smooth",))


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("look", [open_store, verify])
def test_a_table_that_was_altered_is_found(folder, look):
    changed = table()
    changed["shape_smooth"] = changed["shape_disk"]
    changed.assign(image="x", pixels_crc32=0).to_parquet(folder / GALAXIES, index=False)
    with pytest.raises(ValueError, match=rf"{GALAXIES} is not what was written.*prepare it anew"):
        look(folder)


@pytest.mark.usefixtures("small_shards")
def test_pixels_that_were_altered_are_found_in_a_sample_when_a_store_is_opened(
    tmp_path, monkeypatch
):
    folder = made(tmp_path, 7)
    flip(folder / shard_name(1), -1)
    with pytest.raises(ValueError, match=r"images of g3 are not what was written.*anew"):
        open_store(folder)
    monkeypatch.setattr(store, "LOOKED_AT", 3)
    looked, crc32 = [], zlib.crc32
    monkeypatch.setattr(store.zlib, "crc32", lambda data: looked.append(data) or crc32(data))
    flip(folder / shard_name(1), -1)
    open_store(folder)
    first, looked[:] = sorted(map(bytes, looked)), []  # threads look in any order
    open_store(folder)
    assert len(first) == 3
    assert sorted(map(bytes, looked)) == first
    for number in range(4):
        flip(folder / shard_name(number), -1)
    flip(folder / shard_name(0), 200)
    flip(folder / shard_name(1), 200)
    flip(folder / shard_name(2), 200)
    with pytest.raises(ValueError, match="are not what was written"):
        open_store(folder)


@pytest.mark.usefixtures("small_shards")
def test_damage_to_images_names_the_galaxies(tmp_path, monkeypatch):
    folder = made(tmp_path, 7)
    monkeypatch.setattr(store, "LOOKED_AT", 1)
    flip(folder / shard_name(1), -1)
    flip(folder / shard_name(0), 128)
    with pytest.raises(ValueError, match=r"images of a, g3 are not what was written.*anew"):
        verify(folder)


@pytest.mark.parametrize("name", [shard_name(0), GALAXIES, MANIFEST])
def test_what_is_missing_or_cut_short_is_named(folder, name):
    data = (folder / name).read_bytes()
    for left in (data[:-100], data[: len(data) // 2], b""):
        (folder / name).write_bytes(left)
        with pytest.raises(ValueError, match=rf"({name}|store {folder}) is .*prepare it anew"):
            open_store(folder)
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"lacks {name}.*prepare it anew"):
        open_store(folder)


def test_images_and_galaxies_must_be_as_many(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    np.save(folder / shard_name(0), pictures()[:2])
    with pytest.raises(ValueError, match=r"3 galaxies, but images \(2, 256, 256, 1\)"):
        open_store(folder)
    np.save(folder / shard_name(0), pictures().astype(float))
    with pytest.raises(ValueError, match="float64"):
        open_store(folder)
    np.save(folder / shard_name(0), np.asfortranarray(pictures()))
    with pytest.raises(ValueError, match="prepare it anew"):
        open_store(folder)
    (folder / MANIFEST).write_text(json.dumps(manifest | {"format": 1}))
    with pytest.raises(ValueError, match=rf"has format 1, not {store.FORMAT}; delete"):
        open_store(folder)
    with pytest.raises(FileNotFoundError, match=r"no store .*nowhere; make it with trizoo prepare"):
        open_store(folder / "nowhere")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"shards": ["../store/images-00000.npy"]}, "names other files than shards"),
        ({"shards": []}, "names other files than shards"),
        ({"shards": "images-00000.npy"}, "shards is 'images-00000.npy', not a list"),
        ({"questions": {"shape": "smooth"}}, r"questions\.shape is 'smooth', not a list"),
        ({"sha256": {}}, r"sha256\.galaxies\.parquet is missing"),
        ({"channels": "1"}, "channels is '1', not a whole number"),
        ({"skipped": {}}, "skipped is {}, not a list"),
    ],
)
def test_a_manifest_of_another_shape_is_refused(folder, change, what):
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | change))
    with pytest.raises(ValueError, match=rf"{MANIFEST} .*{what}.*prepare it anew"):
        open_store(folder)
    (folder / MANIFEST).write_text(json.dumps([manifest]))
    with pytest.raises(ValueError, match=rf"{MANIFEST} .*not an object.*prepare it anew"):
        open_store(folder)


JUNK = [b"\0" * 50 + b"\n", b"[]\n", b'{"row": 9, "pixels_crc32": 0}\n', b'{"row": 1}\n', b"{\n"]


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("junk", JUNK)
def test_a_draft_believes_nothing_that_is_not_there(tmp_path, junk):
    images = pictures(5)
    with StoreWriter(tmp_path, 5, 1) as first:
        for row in (4, 0, 2):
            first.note(row, {"image": "x", "pixels_crc32": first.put(row, images[row])})
    flip(tmp_path / shard_name(0), -SIZE * SIZE - 1)  # of galaxy 0
    (tmp_path / shard_name(2)).unlink()  # with galaxy 4
    lines = (tmp_path / JOURNAL).read_bytes().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_bytes(b"".join(lines) + junk + lines[0])
    with StoreWriter(tmp_path, 5, 1) as second:
        assert sorted(second.done) == [2]
        for row in (0, 1, 3, 4):
            second.note(row, {"image": "x", "pixels_crc32": second.put(row, images[row])})
        whole = second.finish(table(5), FACTS)
    verify(whole)
    with StoreWriter(tmp_path, 5, 1) as third:
        assert sorted(third.done) == [0, 1, 2, 3, 4]


def test_a_whole_survey_is_opened_by_a_few_of_its_images(tmp_path, monkeypatch):
    count = 300_000
    for file in draft.write_shards(tmp_path, count, 1):
        file.close()
    blank = zlib.crc32(bytes(SIZE * SIZE))
    galaxies = pd.DataFrame({"id": np.arange(count).astype(str), "pixels_crc32": blank})
    for number in range(50):
        galaxies[f"shape_{number}"] = np.int32(number)
    galaxies.to_parquet(tmp_path / GALAXIES, index=False)
    shards = sorted(path.name for path in tmp_path.glob("*.npy"))
    manifest = FACTS | {"format": store.FORMAT, "galaxies": count, "channels": 1, "shards": shards}
    manifest |= {"sha256": {GALAXIES: store.sha256(tmp_path / GALAXIES)}}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    looked, crc32 = [], zlib.crc32
    monkeypatch.setattr(store.zlib, "crc32", lambda data: looked.append(data) or crc32(data))
    found = open_store(tmp_path)
    assert len(looked) == store.LOOKED_AT
    assert found.images.shape == (count, SIZE, SIZE, 1)
    assert len(shards) == 5
    assert not found.images[count - 1].any()
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert size < 20.5e9
    assert sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir()) < 50e6  # sparse here
