"""`trizoo inspect` on tiny folders and tables: what it tells, that its command composes, and that it writes nothing."""

import shlex

import numpy as np
import pytest
from PIL import Image

import trizoo
from shared.run.spec import RunSpec, from_config
from shared.tasks import inspect as task


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with photos of six galaxies, where nothing is timed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(task, "_time", lambda *_: "about 1 s")
    (tmp_path / "photos").mkdir()
    y, x = np.mgrid[-128:128, -128:128]
    for number in range(6):
        light = 20 + 200 * np.exp(-np.hypot(x, y) / (10 + number))
        noisy = np.clip(light + np.random.default_rng(number).normal(0, 5, x.shape), 0, 255)
        Image.fromarray(noisy.astype(np.uint8)).save(tmp_path / f"photos/g{number}.png")
    return tmp_path


def told(place, capsys, *lines, words=()):
    """What inspect prints of a table of `lines`, and the words of the command that it gives."""
    (place / "t.csv").write_text("\n".join(lines) + "\n")
    before = sorted(place.rglob("*"))
    assert trizoo.main(["inspect", "images=photos", "table=t.csv", *words]) == 0
    assert sorted(place.rglob("*")) == before
    text = capsys.readouterr().out
    (command,) = (line for line in text.splitlines() if line.startswith("  trizoo "))
    return text, shlex.split(command)[1:]


def composed(words):
    """The run that the words of a command spell out."""
    return from_config(RunSpec, trizoo.compose(trizoo.hydra_words(words)))


def test_counts_sentinels_and_places_are_understood(place, capsys):
    head = "objid;RA;DEC;bar_yes;bar_no;mag"
    rows = [f"g{i};{10 * i};{i};{i};3;{-99 if i == 2 else 17.5}" for i in range(5)]
    text, words = told(place, capsys, head, *rows, "nobody;1;2;3;4;18")
    assert "t.csv: CSV, semicolons between columns, in UTF-8; 6 rows, 6 columns" in text
    assert "numbers from -99 to 18, -99 in 1 (missing?)" in text
    assert "matches, by objid: 5 of 6 rows have an image; 1 of 6 images belong to no row" in text
    assert "no image for 'nobody'" in text
    assert "votes: bar (yes, no) may be a question" in text
    assert "about 1 s" in text
    assert words[0] == "fit"
    run = composed(words)
    assert run.dataset.questions == {"bar": ("yes", "no")}
    assert (run.question, run.positive) == ("bar", ("yes",))
    assert (run.dataset.columns.id, run.dataset.columns.ra) == ("objid", "RA")
    assert run.dataset.skip_bad_images


def test_shares_and_files_are_understood(place, capsys):
    head = "iauname,file_loc,arms_2_fraction,arms_3_fraction,arms_total"
    text, words = told(place, capsys, head, *(f"J{i},g{i}.png,0.5,0.25,8" for i in range(6)))
    assert "matches, by file_loc: 6 of 6" in text
    run = composed(words)
    assert run.dataset.columns.fraction == "{question}_{answer}_fraction"
    assert (run.dataset.columns.id, run.dataset.columns.file) == ("iauname", "file_loc")
    assert run.dataset.questions == {"arms": ("2", "3")}


def test_classes_are_understood(place, capsys):
    rows = [f"g{i},{'spiral' if i % 2 else 'round'}" for i in range(6)]
    text, words = told(place, capsys, "id,type", *rows)
    assert "classes: type may hold some" in text
    run = composed(words)
    assert run.dataset.questions == {"type": ("round", "spiral")}
    assert run.dataset.classes == {"round": ("round",), "spiral": ("spiral",)}
    assert (run.question, run.questions, run.model.answers) == ("type", ("type",), 2)
    text, _ = told(place, capsys, "id,type", "g0,E", "g1,e", words=["label=type"])
    assert "differ in case, spaces or hyphens alone: 'E' 1, 'e' 1" in text


def test_what_fits_already_is_said_to(place, capsys):
    head = "id," + ",".join(
        f"smooth-or-featured_{a}" for a in ("smooth", "featured-or-disk", "artifact")
    )
    text, words = told(place, capsys, head, *(f"g{i},1,2,3" for i in range(6)))
    assert "votes: smooth-or-featured (smooth, featured-or-disk, artifact)" in text
    assert words == ["fit", "backend=torch", "images=photos", "table=t.csv"]


def test_a_table_of_places_serves_predict(place, capsys):
    text, words = told(place, capsys, "id,ra,dec", *(f"g{i},{i}.5,1.5" for i in range(6)))
    assert "so the table serves predict alone" in text
    assert words[:2] == ["predict", "weights=outputs/fit/NAME"]
    assert {"dataset.columns.ra=ra", "dataset.columns.dec=dec"} <= set(words)


def test_a_table_or_images_alone_can_be_looked_at(place, capsys):
    (place / "t.csv").write_text("id,ra\ng0,1\n")
    assert trizoo.main(["inspect", "table=t.csv"]) == 0
    assert "no images: name a folder" in capsys.readouterr().out
    (place / "photos" / "bad.png").write_bytes(b"nonsense")
    assert trizoo.main(["inspect", "images=photos"]) == 0
    text = capsys.readouterr().out
    assert "images photos: 7 (7 .png)" in text
    assert "7 were read, 1 cannot be used:" in text
    assert "no table: ids are the names of the images" in text
