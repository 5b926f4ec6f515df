import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from PIL import Image

import trizoo
from shared.data import cutouts, prepare, synthetic
from shared.data import store_writer as draft
from shared.data.cutouts import SIZE, cutout
from shared.data.sources.folder import Folder
from shared.data.store import GALAXIES, MANIFEST, open_store, shard_name, verify, votes
from shared.run.keys import galaxy_hash
from shared.run.locks import file_lock
from shared.run.progress import in_order
from shared.run.spec import DatasetSpec, RunSpec, SplitSpec, from_config, to_config
from shared.tasks.galaxies import parts_with_votes

ROOT = Path(__file__).parents[1]
REAL = Path(os.environ.get("TRIZOO_REAL_DATA", ROOT.parent / "shared" / "data"))
RUN = from_config(
    RunSpec,
    trizoo.compose(
        [
            "~dataset.questions.smooth-or-featured",
            "+dataset.questions.bar=[yes,no]",
            "dataset=folder",
            "dataset.images=x",
            "question=bar",
            "positive=[yes]",
            "minimum_votes=1",
        ]
    ),
)
FILES = [GALAXIES, shard_name(0), MANIFEST]


@pytest.fixture
def survey(tmp_path):
    """Five galaxies of one mean grey each, g1 to g5, and a table of their votes in another order."""
    (tmp_path / "images").mkdir()
    for number in range(1, 6):
        striped(10 * number).convert("RGB").save(tmp_path / "images" / f"g{number}.jpg")
    lines = [f"g{number},{number},{10 - number}" for number in (3, 1, 5, 2, 4)]
    (tmp_path / "t.csv").write_text("\n".join(["id,bar_yes,bar_no", *lines]) + "\n")
    return dataset(
        "dataset=folder",
        "dataset.name=test",
        f"dataset.stores={tmp_path / 'stores'}",
        f"dataset.images={tmp_path / 'images'}",
        f"dataset.table={tmp_path / 't.csv'}",
        "~dataset.questions.smooth-or-featured",
        "+dataset.questions.bar=[yes,no]",
    )


def striped(grey):
    """An image of that mean grey."""
    stripes = grey + 5 * np.sin(np.arange(300) * np.pi / 5)
    return Image.fromarray(np.rint(np.tile(stripes, (300, 1))).astype(np.uint8))


def dataset(*words):
    """The dataset of the run that `words` spell out."""
    config = trizoo.compose(["question=bar", "positive=[yes]", *words])
    return from_config(DatasetSpec, config["dataset"])


def left(survey):
    """What is in the folder of stores."""
    return sorted(path.name for path in Path(survey.stores).glob("*"))


def greys(store):
    """The mean grey of each galaxy's image."""
    return np.rint(np.asarray(store.images).mean((1, 2, 3))).astype(int).tolist()


def test_a_store_holds_the_galaxies_in_the_tables_order(survey):
    store = prepare.prepare(survey)
    assert store.galaxies["id"].tolist() == ["g3", "g1", "g5", "g2", "g4"]
    assert greys(store) == [30, 10, 50, 20, 40]
    yes, total = votes(store, "bar", ("yes",))
    assert yes.tolist() == [3, 1, 5, 2, 4]
    assert total.tolist() == [10] * 5
    assert "file" not in store.galaxies
    assert left(survey) == [store.folder.name]
    assert sorted(path.name for path in store.folder.iterdir()) == FILES
    verify(store.folder)


def test_the_same_again_opens_what_is_there(survey, monkeypatch):
    first = prepare.prepare(survey)
    monkeypatch.setattr(prepare, "_read", None)
    for again in (survey, dataclasses.replace(survey, crop=0.5)):
        assert prepare.prepare(again).folder == first.folder


def replaced(path, grey):
    """Another image with the same name, size and time."""
    before = path.stat()
    striped(grey).convert("RGB").save(path, quality=50)  # smaller, so that it can be filled up
    path.write_bytes(path.read_bytes().ljust(before.st_size, b"\0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_an_image_that_was_replaced_is_found_though_its_size_and_time_are_the_same(survey):
    prepare.prepare(survey)
    replaced(Path(survey.images, "g2.jpg"), 90)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"image g2\.jpg of .* is another .*touch"):
            prepare.prepare(survey)
    os.utime(Path(survey.images, "g2.jpg"))
    assert greys(prepare.prepare(survey))[3] != 20


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_that_was_replaced_is_found(survey, tmp_path, kind):
    def pack():
        path = tmp_path / f"a.{kind}"
        path.unlink(missing_ok=True)
        with zipfile.ZipFile(path, "w") if kind == "zip" else tarfile.open(path, "w") as archive:
            add = archive.write if kind == "zip" else archive.add
            for number in range(1, 6):
                add(Path(survey.images, f"g{number}.jpg"), f"g{number}.jpg")
        os.utime(path, ns=(1, 1))
        return path

    packed = dataclasses.replace(survey, images=str(pack()))
    prepare.prepare(packed)
    pack()
    prepare.prepare(packed)  # the same again
    replaced(Path(survey.images, "g2.jpg"), 90)
    pack()
    with pytest.raises(ValueError, match=r"image g2\.jpg of .* is another .*touch"):
        prepare.prepare(packed)


def test_images_that_were_touched_alone_are_read_again_once(survey, monkeypatch):
    prepare.prepare(survey)
    monkeypatch.setattr(prepare, "GRANULARITY", 0)
    time.sleep(0.01)
    Path(survey.images, "g2.jpg").chmod(0o600)
    prepare.prepare(survey)
    monkeypatch.setattr(Folder, "load", lambda source, names: (name for name in names))
    prepare.prepare(survey)
    Path(survey.images, "g2.jpg").chmod(0o644)
    with pytest.raises(ValueError, match="unpack"):
        prepare.prepare(survey)


def test_the_same_elsewhere_is_the_same_to_the_byte(survey, tmp_path):
    one = prepare.prepare(survey).folder
    two = prepare.prepare(dataclasses.replace(survey, stores=str(tmp_path / "others"))).folder
    assert one.name == two.name
    for name in FILES:
        assert (one / name).read_bytes() == (two / name).read_bytes()


def add_an_image(survey):
    striped(7).save(Path(survey.images, "g9.png"))
    return survey


def touch_an_image(survey):
    os.utime(Path(survey.images, "g1.jpg"), ns=(1, 1))
    return survey


def change_a_vote(survey):
    path = Path(survey.table)
    path.write_text(path.read_text().replace("g3,3,7", "g3,4,6"))
    return survey


def ask_otherwise(survey):
    return dataclasses.replace(survey, questions={"bar": ("no", "yes")})


@pytest.mark.parametrize("change", [add_an_image, touch_an_image, change_a_vote, ask_otherwise])
def test_changed_sources_make_another_store(survey, change):
    before = prepare.prepare(survey)
    after = prepare.prepare(change(survey))
    assert before.folder != after.folder
    assert open_store(before.folder).galaxies.equals(before.galaxies)


def test_another_format_makes_another_store(survey, monkeypatch):
    before = prepare.prepare(survey)
    for place in ("prepare", "store_writer", "store"):
        monkeypatch.setattr(f"shared.data.{place}.FORMAT", 99)
    assert prepare.prepare(survey).folder != before.folder


def test_sources_that_change_meanwhile_make_no_store(survey, monkeypatch):
    def meddle(*how):
        touch_an_image(survey)
        return cutout(*how)

    monkeypatch.setattr(cutouts, "cutout", meddle)
    with pytest.raises(ValueError, match="test changed while they were read; prepare again"):
        prepare.prepare(survey)
    assert left(survey) == []


def test_the_manifest_tells_what_was_made_of_what(survey):
    manifest = json.loads((prepare.prepare(survey).folder / MANIFEST).read_text())
    assert manifest["galaxies"] == 5
    assert manifest["skipped"] == []
    assert manifest["questions"] == {"bar": ["yes", "no"]}
    assert manifest["dataset"]["table"] == survey.table
    assert not {"stores", "crop", "skip_bad_images", "service"} & manifest["dataset"].keys()
    assert set(manifest["sources"]) == {"tables", "images", "scale"}
    assert manifest["sources"]["tables"].keys() == {survey.table}
    assert manifest["source"]["kind"] == "folder"
    assert manifest["source"]["rows"] == manifest["source"]["rows_with_image"] == 5
    assert manifest["source"]["images_without_row"] == 0


def test_each_galaxy_tells_where_its_image_came_from(survey):
    galaxies = prepare.prepare(survey).galaxies.set_index("id")
    assert galaxies["image"]["g5"] == "g5.jpg"
    data = Path(survey.images, "g5.jpg").read_bytes()
    assert galaxies["image_sha256"]["g5"] == hashlib.sha256(data).hexdigest()


def test_how_rows_and_images_correspond_is_told(survey, capsys):
    striped(7).save(Path(survey.images, "g9.png"))
    Path(survey.images, "g2.jpg").unlink()
    store = prepare.prepare(dataclasses.replace(survey, skip_bad_images=True))
    source = store.source["source"]
    assert (source["rows"], source["rows_with_image"]) == (5, 4)
    assert (source["images"], source["images_without_row"]) == (5, 1)
    message = "4 of 5 galaxies have an image; 1 of 5 images belong to no galaxy"
    assert message in capsys.readouterr().err


def test_an_image_of_another_folder_is_no_galaxys(survey):
    rows = ["id,file,bar_yes,bar_no"]
    for field, number in product((1, 2), (1, 2)):
        rows.append(f"g{field}{number},field{field}/cutout_{number}.png,{field},{number}")
        path = Path(survey.images, f"field{field}", f"cutout_{number}.png")
        path.parent.mkdir(exist_ok=True)
        striped(10 * field + number).save(path)
    Path(survey.images, "field2", "cutout_1.png").unlink()
    Path(survey.table).write_text("\n".join(rows) + "\n")
    columns = dataclasses.replace(survey.columns, file="file")
    survey = dataclasses.replace(survey, columns=columns)
    with pytest.raises(FileNotFoundError, match=r"galaxy g21 .*no image field2/cutout_1\.png"):
        prepare.prepare(survey)
    store = prepare.prepare(dataclasses.replace(survey, skip_bad_images=True))
    assert store.galaxies["id"].tolist() == ["g11", "g12", "g22"]
    assert greys(store) == [11, 12, 22]


def test_one_image_of_several_galaxies_is_told_and_split_as_one(survey, capsys):
    for copy in ("a", "b"):  # the bytes of g1's, and the pixels of g2's
        data = Path(survey.images, "g1.jpg").read_bytes()
        Path(survey.images, f"g1{copy}.jpg").write_bytes(data)
        with Image.open(Path(survey.images, "g2.jpg")) as picture:
            picture.save(Path(survey.images, f"g2{copy}.png"))
    with Path(survey.table).open("a") as table:
        table.write("g1b,0,1\ng1a,0,1\ng2a,0,1\ng2b,1,1\n")
    store = prepare.prepare(survey)
    assert store.source["same_image"] == [["g1", "g1b", "g1a"], ["g2", "g2a", "g2b"]]
    err = capsys.readouterr().err
    assert "6 galaxies of test share 2 images" in err
    assert "g1, g1b, g1a" in err
    for seed in range(10):  # of the shares, as good as of the hash
        run = dataclasses.replace(
            RUN, dataset=survey, split=SplitSpec(validation=0.25, test=seed / 14, labels=None)
        )
        parts = parts_with_votes(run, store, galaxy_hash(store.galaxies["id"]))
        side = {
            id: name for name, part in parts.items() for id in store.galaxies["id"].iloc[part.rows]
        }
        assert side["g1"] == side["g1a"] == side["g1b"]
        assert side["g2"] == side["g2a"] == side["g2b"]
    ids = dict(zip(store.galaxies["id"], store.split_ids, strict=True))
    assert ids == {"g3": "g3", "g5": "g5", "g4": "g4"} | {
        id: id[:2] for id in ("g1", "g1a", "g1b", "g2", "g2a", "g2b")
    }


def test_galaxies_with_an_image_each_are_split_by_their_own_ids(survey, capsys):
    store = prepare.prepare(survey)
    assert store.split_ids.tolist() == store.galaxies["id"].tolist()
    assert store.source["same_image"] == []
    assert "share" not in capsys.readouterr().err


def test_pixels_decide_where_their_checksums_agree(survey, monkeypatch):
    monkeypatch.setattr("shared.data.store_writer.zlib.crc32", lambda data: 7)
    store = prepare.prepare(survey)
    assert store.source["same_image"] == []


def test_images_without_data_are_left_out_and_listed(survey):
    Image.new("RGB", (300, 300)).save(Path(survey.images, "g1.jpg"))
    with pytest.raises(ValueError, match=r"galaxy g1 .*100% of it is constant .*skip_bad_images"):
        prepare.prepare(survey)
    store = prepare.prepare(dataclasses.replace(survey, skip_bad_images=True))
    assert [skip["id"] for skip in store.source["skipped"]] == ["g1"]


def test_the_image_of_a_fits_file_is_named(survey):
    light = np.asarray(striped(100), np.float32)
    light += np.random.default_rng(0).normal(0, 1, light.shape)
    units = [fits.PrimaryHDU(light), fits.ImageHDU(light.T.copy())]
    Path(survey.images, "g1.jpg").unlink()
    fits.HDUList(units).writeto(Path(survey.images, "g1.fits"))
    with pytest.raises(ValueError, match=r"galaxy g1 .*Name one in dataset\.hdu"):
        prepare.prepare(survey)
    stores = [prepare.prepare(dataclasses.replace(survey, hdu=hdu)) for hdu in ("0", "1")]
    one, two = (store.images[1, ..., 0].astype(int) for store in stores)
    assert np.abs(one - two.T).max() <= 1
    assert stores[0].folder != stores[1].folder


def spoil(survey):
    """Truncate g5 (row 3) and remove g2 (row 4)."""
    path = Path(survey.images, "g5.jpg")
    path.write_bytes(path.read_bytes()[:-100])
    Path(survey.images, "g2.jpg").unlink()


def test_the_first_bad_image_stops_the_work(survey):
    spoil(survey)
    message = r"galaxy g2 \(row 4 of .*t\.csv\): there is no image g2 in .*images\. .*skip_bad_images=true"
    with pytest.raises(FileNotFoundError, match=message):
        prepare.prepare(survey)
    Path(survey.images, "g2.png").write_bytes(b"")
    message = r"galaxy g5 \(row 3 of .*t\.csv\): image .*g5\.jpg: damaged .*skip_bad_images=true"
    with pytest.raises(ValueError, match=message):
        prepare.prepare(survey)
    assert all(name.startswith(".test-") for name in left(survey))  # what was good is kept


def test_missing_images_are_counted(survey):
    for name in ("g2.jpg", "g5.jpg"):
        Path(survey.images, name).unlink()
    with pytest.raises(FileNotFoundError, match=r"galaxy g5 .*2 of 5 galaxies have none"):
        prepare.prepare(survey)


def test_bad_images_are_left_out_and_listed(survey, capsys):
    spoil(survey)
    store = prepare.prepare(dataclasses.replace(survey, skip_bad_images=True))
    assert store.galaxies["id"].tolist() == ["g3", "g1", "g4"]
    assert greys(store) == [30, 10, 40]
    assert votes(store, "bar", ("yes",))[0].tolist() == [3, 1, 4]
    skipped = store.source["skipped"]
    assert [skip["id"] for skip in skipped] == ["g5", "g2"]
    assert skipped[0]["file"].endswith("g5.jpg")
    assert "damaged" in skipped[0]["reason"]
    assert "there is no image" in skipped[1]["reason"]
    err = capsys.readouterr().err
    assert "left out 2 of 5 galaxies of test" in err
    assert "g5: image" in err
    assert "g2: there is no image" in err
    verify(store.folder)


def test_what_was_good_before_a_bad_image_is_not_read_again(survey, monkeypatch):
    path = Path(survey.images, "g4.jpg")  # the last of the table
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="galaxy g4"):
        prepare.prepare(survey)
    (partial,) = left(survey)
    read = count_reads(monkeypatch)
    store = prepare.prepare(dataclasses.replace(survey, skip_bad_images=True))
    assert len(read) < 5
    assert greys(store) == [30, 10, 50, 20]
    assert left(survey) == [store.folder.name] == [partial[1:].removesuffix(prepare.PARTIAL)]


def test_a_store_with_gaps_is_opened_by_those_who_allow_them(survey):
    spoil(survey)
    allowing = dataclasses.replace(survey, skip_bad_images=True)
    folder = prepare.prepare(allowing).folder
    message = r"leaves out 2 galaxies .*g5 for one .*skip_bad_images=true, or delete"
    striped(20).save(Path(survey.images, "g2.png"))
    with pytest.raises(ValueError, match="galaxy g5"):  # other files, so another store
        prepare.prepare(survey)
    Path(survey.images, "g2.png").unlink()
    with pytest.raises(ValueError, match=message):
        prepare.prepare(survey)
    assert prepare.prepare(allowing).folder == folder


def count_reads(monkeypatch):
    """A list that grows with each image that is decoded."""
    read = []
    monkeypatch.setattr(cutouts, "cutout", lambda *how: read.append(1) or cutout(*how))
    return read


def test_no_good_image_at_all_makes_no_store(survey):
    for path in Path(survey.images).iterdir():
        path.write_bytes(b"nothing")
    with pytest.raises(
        ValueError, match=r"none of the 5 images can be used .*check dataset\.images"
    ):
        prepare.prepare(dataclasses.replace(survey, skip_bad_images=True))
    assert left(survey) == []


def test_images_without_a_table_have_no_votes(survey):
    store = prepare.prepare(dataclasses.replace(survey, table=None))
    assert store.galaxies["id"].tolist() == ["g1", "g2", "g3", "g4", "g5"]
    assert greys(store) == [10, 20, 30, 40, 50]
    with pytest.raises(ValueError, match="without votes"):
        votes(store, "bar", ("yes",))


def test_a_bad_image_without_a_table_is_named(survey):
    spoil(survey)
    with pytest.raises(ValueError, match=r"galaxy g5: image .*g5\.jpg: damaged"):
        prepare.prepare(dataclasses.replace(survey, table=None))


def test_sources_that_are_not_there_are_named(survey):
    with pytest.raises(FileNotFoundError, match=r"u\.csv is not a file; name a CSV"):
        prepare.prepare(dataclasses.replace(survey, table="u.csv"))
    with pytest.raises(FileNotFoundError, match=r"no folder or file nowhere; .*dataset\.images"):
        prepare.prepare(dataclasses.replace(survey, images="nowhere"))
    with pytest.raises(ValueError, match=r"dataset\.images is null, .*t\.csv; say where"):
        prepare.prepare(dataclasses.replace(survey, images=None, galaxies=3))


def test_a_damaged_store_is_not_used(survey):
    folder = prepare.prepare(survey).folder
    (folder / shard_name(0)).write_bytes(b"")
    with pytest.raises(ValueError, match=r"damaged .*delete the folder"):
        prepare.prepare(survey)


def test_synthetic_galaxies_keep_how_they_were_drawn(survey):
    asked = {"bar": synthetic.QUESTIONS["bar"]}
    spec = dataclasses.replace(survey, images=None, table=None, galaxies=3, questions=asked)
    store = prepare.prepare(spec)
    drawn = synthetic.draw_galaxies(3, 0)
    pd.testing.assert_frame_equal(store.galaxies[drawn.columns], drawn)
    assert store.galaxies[["ra", "dec"]].isna().all(axis=None)
    rows = drawn.to_dict("records")
    np.testing.assert_array_equal(store.images, [synthetic.render(row) for row in rows])
    assert prepare.prepare(dataclasses.replace(spec, seed=1)).folder != store.folder
    with pytest.raises(
        ValueError, match=r"asks bar: yes, no; synthetic galaxies know .*bar: strong"
    ):
        prepare.prepare(dataclasses.replace(spec, questions=survey.questions))


# Processes: a child that reads slowly is killed, waited for, or left alone.

SLOW = """
import json, os, sys, time
from shared.data import cutouts
from shared.data import store_writer as draft
from shared.data import prepare
from shared.run.spec import DatasetSpec, from_config
draft.COMMIT = 0
read = cutouts.cutout
def slow(*how):
    os.write(1, b"reading\\n")  # one write: print's text and line end part between threads
    time.sleep(float(sys.argv[2]))
    return read(*how)
cutouts.cutout = slow
prepare.prepare(from_config(DatasetSpec, json.loads(sys.argv[1])))
"""


def slow_child(survey, seconds):
    """A process that prepares `survey` and has begun to read images."""
    command = [sys.executable, "-c", SLOW, json.dumps(to_config(survey)), str(seconds)]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "reading\n"
    return child


def test_the_specification_survives_the_way_to_a_child(survey):
    assert from_config(DatasetSpec, to_config(survey)) == survey


def killed(survey, seconds, after):
    """Prepare `survey`, `seconds` an image, in a process that is killed after it began `after` images."""
    child = slow_child(survey, seconds)
    for _ in range(after - 1):
        child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.communicate()


def test_a_killed_prepare_is_taken_up_by_the_same_and_kept_for_a_week(survey, monkeypatch):
    killed(survey, 60, 1)
    (leftover,) = left(survey)
    assert leftover.startswith(".test-")
    assert leftover.endswith(prepare.PARTIAL)
    other = prepare.prepare(dataclasses.replace(survey, galaxies=2))
    assert left(survey) == [leftover, other.folder.name]
    monkeypatch.setattr(prepare, "KEPT", -1)
    third = prepare.prepare(dataclasses.replace(survey, galaxies=3))
    assert left(survey) == sorted([other.folder.name, third.folder.name])


def many(survey, count=60):
    """`survey` with `count` galaxies whose images differ, every tenth of them bad."""
    rng = np.random.default_rng(7)
    lines = ["id,bar_yes,bar_no"]
    for number in range(count):
        path = Path(survey.images, f"m{number}.png")
        Image.fromarray(rng.integers(0, 256, (260, 260), np.uint8)).save(path, compress_level=0)
        if number % 10 == 3:
            path.write_bytes(b"nothing")
        lines.append(f"m{number},{number},1")
    Path(survey.table).write_text("\n".join(lines) + "\n")
    return dataclasses.replace(survey, skip_bad_images=True)


def test_kills_change_no_byte_and_nothing_whole_is_read_twice(survey, tmp_path, monkeypatch):
    survey = many(survey)
    elsewhere = dataclasses.replace(survey, stores=str(tmp_path / "others"))
    wanted = prepare.prepare(elsewhere).folder
    rng, whole = np.random.default_rng(5), 0
    for number in range(60):
        if number >= 10 and whole > 5:  # sooner or later, by how busy the machine is
            break
        killed(survey, 0.02, int(rng.integers(2, 9)))
        (partial,) = Path(survey.stores).iterdir()
        lines = len((partial / draft.JOURNAL).read_bytes().splitlines())
        assert lines >= whole
        whole = lines
    assert whole > 5
    read = count_reads(monkeypatch)
    found = prepare.prepare(survey).folder
    assert len(read) <= 60 - whole + 1  # one line may be torn
    for name in FILES:
        assert (found / name).read_bytes() == (wanted / name).read_bytes()
    assert left(survey) == [found.name]
    assert len(open_store(found).source["skipped"]) == 6


@pytest.mark.parametrize("moment", ["finish", "rename"])
def test_an_end_at_the_last_moment_costs_nothing(survey, moment, monkeypatch):
    wanted = prepare.prepare(dataclasses.replace(survey, stores=survey.stores + "2")).folder
    finish = draft.StoreWriter.finish

    def stop(*how):
        finish(*how)
        raise KeyboardInterrupt

    def renamed(*how):
        finish(*how).rename(Path(survey.stores, wanted.name))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(draft.StoreWriter, "finish", stop if moment == "finish" else renamed)
        if moment == "rename":
            patch.setattr(prepare.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare(survey)
    read = count_reads(monkeypatch)
    found = prepare.prepare(survey).folder
    assert read == []
    assert left(survey) == [found.name]
    for name in FILES:
        assert (found / name).read_bytes() == (wanted / name).read_bytes()


def test_a_living_prepare_is_left_alone(survey, monkeypatch):
    alive = Path(survey.stores, ".other-0123456789.partial")
    alive.mkdir(parents=True)
    with file_lock(alive / prepare.LOCK):
        with monkeypatch.context() as patch:
            patch.setattr(prepare, "KEPT", -1)
            prepare.prepare(survey)
        assert alive.is_dir()
    prepare.prepare(dataclasses.replace(survey, galaxies=2))
    assert alive.exists()
    monkeypatch.setattr(prepare, "KEPT", -1)
    prepare.prepare(dataclasses.replace(survey, galaxies=3))
    assert not alive.exists()


def test_a_second_process_waits_for_the_first(survey, capsys):
    child = slow_child(survey, 0.3)
    store = prepare.prepare(survey)
    assert child.wait(60) == 0
    child.communicate()
    assert greys(store) == [30, 10, 50, 20, 40]
    assert f"another process is preparing {store.folder.name}; waiting" in capsys.readouterr().err
    assert left(survey) == [store.folder.name]


def test_many_at_once_read_every_image_once(survey, monkeypatch):
    read, stores = count_reads(monkeypatch), []
    threads = [
        threading.Thread(target=lambda: stores.append(prepare.prepare(survey))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({store.folder for store in stores}) == 1
    assert len(stores) == 8
    assert len(read) == 5
    assert left(survey) == [stores[0].folder.name]


def test_a_store_that_was_finished_meanwhile_is_opened(survey, monkeypatch, tmp_path):
    folder = prepare.prepare(survey).folder
    folder.rename(tmp_path / "aside")

    hold = prepare.file_lock

    def late(path, waiting=None):
        (tmp_path / "aside").rename(folder)
        return hold(path, waiting)

    monkeypatch.setattr(prepare, "file_lock", late)
    monkeypatch.setattr(prepare, "_read", None)
    assert prepare.prepare(survey).folder == folder
    assert left(survey) == [folder.name]


def test_an_error_passes_and_clears_up(survey, monkeypatch):
    monkeypatch.setattr(prepare, "read_catalogue", lambda dataset: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare.prepare(survey)
    assert left(survey) == []


def test_work_is_given_in_order_and_only_a_little_ahead():
    pulled = []

    def things():
        for number in range(10_000):
            pulled.append(number)
            yield number

    def work(number):
        time.sleep(0.002 if number % 3 else 0)
        return number

    results = in_order(work, things())
    assert [next(results) for _ in range(20)] == list(range(20))
    assert len(pulled) < 20 + 16 * (os.cpu_count() or 1) + 16
    results.close()
    assert list(in_order(work, range(50))) == list(range(50))
    assert list(in_order(work, [])) == []


def test_an_error_in_a_thread_reaches_the_reader():
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda number: 1 / (number - 3), range(1000)))


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data: set TRIZOO_REAL_DATA to their folder")
def test_real_galaxies_are_prepared(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIZOO_REAL_DATA", str(REAL))
    words = ["question=smooth-or-featured", "positive=[smooth]", f"dataset.stores={tmp_path}"]
    store = prepare.prepare(dataset("dataset=sdss_gz1", "dataset.galaxies=30", *words))
    assert store.images.shape == (30, SIZE, SIZE, 1)
    assert votes(store, "smooth-or-featured", ("featured",))[1].tolist() == [1] * 30
    images = np.asarray(store.images)
    centre = images[:, 112:144, 112:144].mean(axis=(1, 2, 3))
    assert (centre > images[:, :16].mean(axis=(1, 2, 3))).mean() > 0.9
    decals = dataset(
        "dataset=folder",
        f"dataset.images={REAL / 'gz_decals' / 'images'}",
        f"dataset.table={REAL / 'gz_decals' / 'image_votes.csv'}",
        "dataset.columns.id=id_str",
        "dataset.columns.file=filename",
        "dataset.columns.total='{question}_total-votes'",
        *words,
    )
    store = prepare.prepare(decals)
    yes, total = votes(store, "smooth-or-featured", ("featured-or-disk",))
    table = pd.read_csv(decals.table)
    np.testing.assert_array_equal(yes, table["smooth-or-featured_featured-or-disk"])
    np.testing.assert_array_equal(total, table["smooth-or-featured_total-votes"])
    first = Path(decals.images, table["filename"][0]).read_bytes()
    np.testing.assert_array_equal(store.images[0], cutout(first))
    fits = dataclasses.replace(decals, images=str(REAL / "gz_decals" / "fits"), table=None)
    for stretch, channels in (("noise", 1), ("grz", 3)):
        spec = dataclasses.replace(fits, stretch=stretch, channels=channels, skip_bad_images=True)
        store = prepare.prepare(spec)
        assert store.galaxies["id"].tolist() == ["good"]
        assert store.images.shape == (1, SIZE, SIZE, channels)
        why = {skip["id"]: skip["reason"] for skip in store.source["skipped"]}
        assert "225 x 225 pixels" in why["small_225px"]
        assert "damaged" in why["truncated"]
        assert "not finite" in why["bad_pixels"] or "exactly 0" in why["bad_pixels"]
