"""Files of ours: whole and on the disk or not there, swept up after a kill; and JSON, checked when it is read."""

import errno
import os
from pathlib import Path

import pytest

from shared.run import records
from shared.run.records import (
    make_folder,
    parse_json,
    publish_folder,
    read_json,
    sweep,
    unfinished,
    write_folder,
    write_json,
    write_whole,
)

FIX = "run it again"


def there(folder):
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def disk(monkeypatch):
    """What reached the disk, in order: ("sync", path), ("rename", from, to)."""
    done, sync, rename = [], records.sync, os.rename

    def noted_sync(path):
        done.append(("sync", Path(path)))
        sync(path)

    def noted(one, other, **_):
        done.append(("rename", Path(one), Path(other)))
        rename(one, other)

    monkeypatch.setattr(records, "sync", noted_sync)
    monkeypatch.setattr(os, "replace", noted)
    monkeypatch.setattr(os, "rename", noted)
    return done


def test_a_file_is_on_the_disk_before_it_has_its_name_and_its_name_after(tmp_path, disk):
    path = tmp_path / "new" / "folder" / "a.json"
    write_json(path, {"a": 1})
    made, (kind, beside, to), named = disk[:-3], disk[-2], disk[-1]
    assert made == [("sync", tmp_path / "new"), ("sync", tmp_path)]
    assert disk[-3] == ("sync", beside)
    assert (kind, to) == ("rename", path)
    assert named == ("sync", path.parent)
    assert there(path.parent) == {"a.json"}


def test_a_folder_is_on_the_disk_before_it_has_its_name_and_its_name_after(tmp_path, disk):
    beside, place = tmp_path / "work" / "beside", tmp_path / "place"
    (beside / "inner").mkdir(parents=True)
    for name in ("a", "inner/b"):
        (beside / name).touch()
    publish_folder(beside, place)
    at = disk.index(("rename", beside, place))
    inside = {beside / name for name in (".", "a", "inner", "inner/b")}
    assert {path for _, path in disk[:at]} == inside
    assert {path for _, path in disk[at + 1 :]} == {tmp_path, beside.parent}
    order = [path for _, path in disk[:at]]
    assert order.index(beside / "inner" / "b") < order.index(beside / "inner") < order.index(beside)


def test_folders_that_are_made_are_on_the_disk(tmp_path, disk):
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert disk == [("sync", tmp_path / "a"), ("sync", tmp_path)]


def test_a_file_system_that_syncs_no_folders_is_no_trouble_one_that_fails_is(tmp_path, monkeypatch):
    def failing(number):
        def flush(file):
            raise OSError(number, os.strerror(number))

        return flush

    monkeypatch.setattr(records, "flush", failing(errno.EINVAL))
    records.sync(tmp_path)
    monkeypatch.setattr(records, "flush", failing(errno.EIO))
    with pytest.raises(OSError, match=tmp_path.name):
        records.sync(tmp_path)


def test_what_fails_leaves_nothing_and_names_the_file(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("old")

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with pytest.raises(OSError, match=r"No space left.*/a'$"):
        write_whole(tmp_path / "a", full)
    with pytest.raises(OSError, match="No space left"):
        write_folder(tmp_path / "b", lambda beside: full(beside / "c"))
    monkeypatch.setattr(records, "sync", full)
    with pytest.raises(OSError, match=r"No space left.*/a'$"):
        write_whole(tmp_path / "a", lambda beside: beside.write_text("new"))
    assert there(tmp_path) == {"a"}
    assert (tmp_path / "a").read_text() == "old"


def test_a_file_may_be_read_by_whom_the_mask_lets(tmp_path):
    mask = os.umask(0o027)
    try:
        write_json(tmp_path / "a", {})
    finally:
        os.umask(mask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_what_a_kill_left_half_written_is_swept_away_and_nothing_else(tmp_path):
    kept = {".notes", ".trizoo-notes", "a.parquet", "inner", "run", "run.json"}
    for name in ("inner", "run"):
        (tmp_path / name).mkdir()
    (tmp_path / "run" / "run.json").touch()
    for name in kept - {"inner", "run"}:
        (tmp_path / name).touch()
    long = "x" * 200 + ".parquet"
    for path in (tmp_path / "a.parquet", tmp_path / long, tmp_path / "inner" / "b"):
        unfinished(path).touch()
    unfinished(tmp_path / "ask-01").mkdir()
    other = unfinished(tmp_path / "run" / "c")  # of a run of its own, which may be at work
    other.touch()
    sweep(tmp_path)
    assert there(tmp_path) == kept
    assert there(tmp_path / "inner") == set()
    assert other.exists()
    assert unfinished(tmp_path / long).suffix == ".parquet"


SHAPE = {
    "name": str,
    "count": int,
    "share?": (float, None),
    "rounds": [{"loss": float}],
    "sums": {str: str},
    "anything?": object,
}
GOOD = (
    b'{"name": "a", "count": 1, "share": 1, "rounds": [{"loss": 0.5}], "sums": {"x": "y"}, "z": []}'
)


def test_json_of_the_right_shape_is_read(tmp_path):
    (tmp_path / "a.json").write_bytes(GOOD)
    assert read_json(tmp_path / "a.json", SHAPE, FIX)["rounds"] == [{"loss": 0.5}]
    assert parse_json(GOOD.replace(b'"share": 1', b'"share": null'), SHAPE, "a", FIX)
    assert parse_json("[]", object, "a", FIX) == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (GOOD[:-5], "is damaged"),
        (b"\xff\xfe\xfa" + GOOD, "is damaged"),
        (b"[" * 200_000, "is damaged"),
        (b'{"name": ' * 100_000, "is damaged"),
        (b"9" * 5_000, "is damaged"),
        (GOOD.replace(b"0.5", b"NaN"), "NaN is no finite number"),
        (GOOD.replace(b"0.5", b"-Infinity"), "-Infinity is no finite number"),
        (GOOD.replace(b"0.5", b"1e999"), "1e999 is no finite number"),
        (GOOD.replace(b'"z"', b'"name"'), "a key is there twice"),
        (b"[]", r"it is \[\], not an object"),
        (b"null", "it is None, not an object"),
        (b'"name"', "it is 'name', not an object"),
        (GOOD.replace(b'"name"', b'"nome"'), "name is missing"),
        (GOOD.replace(b'"loss"', b'"less"'), r"rounds\[0\]\.loss is missing"),
        (GOOD.replace(b'"a"', b"7"), "name is 7, not a text"),
        (GOOD.replace(b'"count": 1', b'"count": true'), "count is True, not a whole number"),
        (GOOD.replace(b'"count": 1', b'"count": 1.0'), r"count is 1\.0, not a whole number"),
        (GOOD.replace(b'"share": 1', b'"share": "1"'), "share is '1', not a number"),
        (GOOD.replace(b'[{"loss": 0.5}]', b"{}"), "rounds is {}, not a list"),
        (GOOD.replace(b'"y"', b"[1]"), r"sums\.x is \[1\], not a text"),
    ],
)
def test_json_of_another_shape_is_refused_in_a_sentence(tmp_path, text, what):
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=what) as refusal:
        read_json(path, SHAPE, FIX)
    assert str(refusal.value).startswith(str(path))
    assert str(refusal.value).endswith(FIX)
    assert len(str(refusal.value)) < 500


def test_a_missing_json_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"there is no .*a.json; {FIX}"):
        read_json(tmp_path / "a.json", SHAPE, FIX)


def test_nothing_is_left_of_a_folder_that_cannot_be_filled(tmp_path):
    def fill(beside):
        (beside / "a").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "place", fill)
    assert there(tmp_path) == set()
