"""A prediction in parts, images that are streamed, and the catalogue that is gathered."""

import json
import shutil
import tarfile
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

import trizoo
from shared.data import streaming
from shared.run.config import uses
from shared.run.records import read_json, write_json
from shared.run.spec import RunSpec, from_config
from shared.tasks import gather as gathering
from shared.tasks.folder import part_folder
from shared.tasks.gather import gather
from shared.tasks.parts import part_rows

pytest.importorskip("torch")
TABLE = "posterior.parquet"
SMALL = (
    *("backend.threads=1", "backend.chunk=16", "backend.steps=4", "dataset.galaxies=120"),
    *("model.image_size=16", "model.blocks=[[4],[4],[4],[4]]", "model.dense=16"),
    *("training.batch_size=16", "training.steps=12", "posterior.samples=5"),
)
PARTS = ("parts=3", "stream=true")


def here(place, task, name, *words):
    """The folder and the results of a run in this process."""
    small = [word for word in SMALL if uses(task, trizoo.key_of(word))]
    words = [f"task={task}", *small, f"outputs={place}", f"folder={place / name}", *words]
    config = trizoo.compose(words)
    config = trizoo.with_fit(config, words) if task == "predict" else config
    write_json(place / name / "run.json", config)
    run = from_config(RunSpec, config)
    outcome = getattr(import_module(trizoo.TASKS[task].module), task)(run, place / name)
    return place / name, outcome


def finish(folder, outcome):
    """Write the record of the part that was done in `folder` in this process."""
    config = read_json(folder / "run.json", dict, "")
    facts = {"host": {}, "where": {}, "started": "", "seconds": 1.0}
    write_json(folder / "record.json", {**facts, "run": config, "results": outcome["results"]})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("parts")


@pytest.fixture(scope="module")
def fitted(place):
    return here(place, "fit", "fitted")[0]


@pytest.fixture(scope="module")
def parts(place, fitted):
    """The folder of a prediction in three parts, the second of which was done before the others."""
    second = part_folder(place / "parts", 1, 3)
    finish(*here(place, "predict", second, f"weights={fitted}", *PARTS, "part=1"))
    before = (second / TABLE).stat()
    here(place, "predict", "parts", f"weights={fitted}", *PARTS)
    assert (second / TABLE).stat() == before
    return place / "parts"


def gathered(folder, where):
    run = from_config(RunSpec, trizoo.compose(["task=gather", f"run={folder}"]))
    return gather(run, where)["results"]


@pytest.mark.parametrize("galaxies", [0, 1, 7, 8, 100, 101])
@pytest.mark.parametrize("parts", [1, 2, 5, 64])
def test_every_row_is_in_one_part_which_begins_with_a_chunk(galaxies, parts):
    run = SimpleNamespace(parts=parts, backend=SimpleNamespace(chunk=8))
    rows = [part_rows(SimpleNamespace(part=part, **vars(run)), galaxies) for part in range(parts)]
    assert [row for some in rows for row in some] == list(range(galaxies))
    assert all(some.start % 8 == 0 or not some for some in rows)


def test_parts_that_are_streamed_make_the_catalogue_of_all_at_once(place, fitted, parts):
    whole, _ = here(place, "predict", "whole", f"weights={fitted}")
    found = gathered(parts, place / "gathered")
    assert (found["parts"], found["galaxies"], found["left_out"]) == (3, 120, [])
    one, other = (pq.read_table(folder / TABLE) for folder in (whole, place / "gathered"))
    assert one.equals(other)
    assert one.schema.equals(other.schema, check_metadata=True)
    sizes = [pq.read_metadata(file).num_rows for file in sorted(parts.glob(f"*/{TABLE}"))]
    assert sizes == [32, 48, 40]
    assert not any(place.glob("stores/.*"))


def test_a_part_is_done_by_the_command_where_the_whole_looks_for_it(place, fitted):
    small = [word for word in SMALL if uses("predict", trizoo.key_of(word))]
    words = [*small, f"outputs={place}", f"weights={fitted}", *PARTS]
    assert trizoo.main(["predict", *words, "part=2"]) == 0
    (part,) = place.glob("predict/*/part-00002-of-00003")
    before = (part / TABLE).stat()
    assert trizoo.main(["predict", *words]) == 0
    assert (part / TABLE).stat() == before
    assert json.loads((part.parent / "record.json").read_text())["results"]["done_here"] == 2
    assert trizoo.main(["gather", f"run={part.parent}", f"outputs={place}"]) == 0
    (catalogue,) = place.glob(f"gather/*/{TABLE}")
    assert pq.read_metadata(catalogue).num_rows == 120


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("missing", r"1 of 3 parts in .* are not done: part-00001-of-00003; "),
        ("number", "holds parts of several numbers, .*part-00000-of-00002"),
        ("bytes", "part-00000-of-00003 has another posterior.parquet than was written there; "),
        (
            "seed",
            r"part-00002-of-00003 is of another run than the first part \(it differs in seed\)",
        ),
        ("dataset", r"is of another run than the first part \(it differs in dataset\)"),
        (
            "rows",
            "part-00001-of-00003 has the rows 40 to 80 of 120, and the parts before end at 32",
        ),
        (
            "end",
            "part-00002-of-00003 has the rows 80 to 120 of 121, and the parts before end at 80",
        ),
        ("lost", "part-00000-of-00003 has 32 galaxies, and 1 that were left out, of 32; "),
        ("none", "there are no parts in "),
    ],
)
def test_parts_that_do_not_make_a_whole_are_named(parts, tmp_path, spoil, message):
    copy = tmp_path / "parts"
    shutil.copytree(parts, copy)

    def change(part, edit):
        file = part_folder(copy, part, 3) / "record.json"
        record = json.loads(file.read_text())
        edit(record)
        file.write_text(json.dumps(record))

    if spoil == "missing":
        (part_folder(copy, 1, 3) / "record.json").unlink()
    elif spoil == "number":
        shutil.copytree(part_folder(copy, 0, 3), part_folder(copy, 0, 2))
    elif spoil == "bytes":
        with (part_folder(copy, 0, 3) / TABLE).open("ab") as file:
            file.write(b" ")
    elif spoil == "seed":
        change(2, lambda record: record["run"].update(seed=7))
    elif spoil == "dataset":
        change(1, lambda record: record["results"]["part"].update(dataset="other"))
    elif spoil == "rows":
        change(1, lambda record: record["results"]["part"].update(rows=[40, 80]))
    elif spoil == "end":
        for part in range(3):
            change(part, lambda record: record["results"]["part"].update(of=121))
    elif spoil == "lost":
        change(0, lambda record: record["results"].update(left_out=[{"id": "a", "reason": "b"}]))
    else:
        copy = tmp_path / "none"
    with pytest.raises(ValueError, match=message):
        gathered(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_galaxy_that_is_there_twice_is_named(parts, monkeypatch):
    files = sorted(parts.glob(f"*/{TABLE}"))
    gathering.check_once(files)
    monkeypatch.setattr(gathering, "AT_ONCE", 50)  # several passes
    gathering.check_once(files)
    with pytest.raises(ValueError, match=r"galaxies are there twice, synthetic-0-0, .* for some; "):
        gathering.check_once([*files, files[0]])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twenty images with a table of places, one of which is damaged and one missing."""
    place, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(1)
    for number in range(20):
        pixels = random.integers(0, 256, (256, 256), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"g{number:02d}.png")
    (place / "g13.png").write_bytes((place / "g13.png").read_bytes()[:2000])
    (place / "g05.png").unlink()
    ids = [f"g{number:02d}" for number in range(20)]
    table = pd.DataFrame(
        {"id": ids, "ra": np.linspace(0, 350, 20), "dec": np.linspace(-80, 80, 20)}
    )
    table.to_csv(place / "table.csv", index=False)
    return place


def words_of(photos, fitted):
    own = ("dataset=folder", f"dataset.images={photos}", f"dataset.table={photos / 'table.csv'}")
    where = ("dataset.columns.ra=ra", "dataset.columns.dec=dec", "dataset.galaxies=null")
    return (f"weights={fitted}", *own, *where, "dataset.columns.count=null", "backend.chunk=4")


def test_images_that_cannot_be_used_are_left_out_of_a_stream_and_told(
    place, fitted, photos, capsys
):
    words = words_of(photos, fitted)
    with pytest.raises(FileNotFoundError, match=r"there is no image g05 .*skip_bad_images"):
        here(place, "predict", "stopped", *words, "stream=true")
    skip = "dataset.skip_bad_images=true"
    folder, outcome = here(place, "predict", "s", *words, "stream=true", skip)
    results = outcome["results"]
    assert [one["id"] for one in results["left_out"]] == ["g13"]
    assert "g13.png" in results["left_out"][0]["reason"]
    assert "left out 1 of 19 galaxies, g13: image g13.png" in capsys.readouterr().err
    whole, _ = here(place, "predict", "w", *words, skip)
    one, other = (pd.read_parquet(where / TABLE) for where in (folder, whole))
    assert (
        one["id"].tolist()
        == other["id"].tolist()
        == [f"g{n:02d}" for n in range(20) if n not in (5, 13)]
    )
    numbers = one.select_dtypes("number").columns
    np.testing.assert_allclose(one[numbers], other[numbers], rtol=1e-4, atol=1e-6)


def test_a_damaged_image_stops_a_stream_unless_it_may_be_left_out(place, fitted, photos):
    some = "dataset.select.id=[g12,g13]"
    with pytest.raises(ValueError, match=r"galaxy g13 .*: image g13\.png: "):
        here(place, "predict", "d", *words_of(photos, fitted), "stream=true", f"+{some}")


def test_a_packed_archive_is_not_streamed(place, fitted, photos, tmp_path):
    with tarfile.open(tmp_path / "photos.tar.gz", "w:gz") as archive:
        archive.add(photos / "g00.png", "g00.png")
    words = (f"weights={fitted}", "dataset=folder", f"dataset.images={tmp_path / 'photos.tar.gz'}")
    with pytest.raises(
        ValueError, match=r"packed as a whole.* unpack it to a \.tar, or make a store"
    ):
        here(place, "predict", "packed", *words, "stream=true")


def test_a_stream_reads_what_is_asked_for_and_keeps_nothing():
    asked = []

    def load(rows):
        asked.append(rows)
        yield from (
            (place, np.full((256, 256, 1), row, np.uint8)) for place, row in enumerate(rows)
        )

    images = streaming.StreamedImages(10, 1, load)
    assert images[np.array([3, 1])][:, 0, 0, 0].tolist() == [3, 1]
    assert images[2:4].shape == (2, 256, 256, 1)
    assert images[5].shape == (256, 256, 1)
    assert asked == [[3, 1], [2, 3], [5]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["part=1"], "part is 1, but parts is null; say of how many"),
        (["parts=0"], "parts is 0; it must be at least 1"),
        (["parts=4", "part=4"], "part is 4; of parts=4 it must be from 0 to 3"),
    ],
)
def test_parts_that_cannot_be_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        from_config(RunSpec, trizoo.compose(["task=predict", *words]))
