"""A disk that fails, is full, or loses power: one clear line, no litter, and the same bytes as soon as it can.

Of every task and framework, and at random moments: python -m benchmarks.kills.
"""

import subprocess
import sys

import crash_recovery
import pytest
from faults import Runs, spread
from quick import only

import trizoo
from benchmarks import kills
from benchmarks.faults import Disk
from conf.compose import with_fit

TORCH = ["impl_torch.train", "impl_torch.predict", "impl_torch.weights"]


@pytest.fixture
def place(tmp_path_factory, tmp_path):
    """Where cases begin that need no fit."""
    return able(crash_recovery.begin(tmp_path_factory, tmp_path))


@pytest.fixture
def fitted(tmp_path_factory, tmp_path):
    """Where cases begin that need one."""
    pytest.importorskip("torch")
    return able(crash_recovery.begin(tmp_path_factory, tmp_path, fitted=True))


def able(place):
    if place.faults is None:
        pytest.skip("disks are made to fail on Linux alone, with a C compiler")
    return place


# The disk itself

CHANGES = """
import os
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from safetensors.numpy import save_file

def synced(path):
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.close(file)

os.mkdir("folder")
Path("folder/renamed.old").write_text("x")
synced("folder/renamed.old")
os.rename("folder/renamed.old", "folder/renamed")
synced("folder")
Path("folder/nameless").write_text("x")
synced("folder/nameless")
os.mkdir("kept")
pq.write_table(pa.table({"a": [1.5]}), "kept/table.parquet")
save_file({"a": np.ones(3)}, "kept/arrays.safetensors")
Path("kept/empty").write_text("never synced")
for name in ("table.parquet", "arrays.safetensors"):
    synced("kept/" + name)
open("removed", "a").close()
os.unlink("removed")
Path("changed").write_text("new")
for name in ("kept", "."):
    synced(name)
os.rename("kept/table.parquet", "kept/later")
os.unlink("kept/arrays.safetensors")
Path("kept/arrays.safetensors").write_text("another file")
"""


def changed(place, tmp_path, how="none", at=0):
    """A disk, after CHANGES to what is on it, and what they printed."""
    root = tmp_path / f"root-{how}-{at}"
    root.mkdir()
    (root / "removed").write_text("old")
    (root / "changed").write_text("old")
    disk = Disk(place.faults, root, tmp_path / f"disk-{how}-{at}", forgets=True)
    disk.arm(how, at)
    words = [sys.executable, "-c", CHANGES]
    environment = kills.os.environ | disk.environment
    done = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True)
    return disk, done.stderr


def test_power_leaves_what_was_synced_and_nothing_else(place, tmp_path):
    disk, output = changed(place, tmp_path)
    assert not output
    after = tmp_path / "after"
    disk.after_power_cut(after)
    found = {str(path.relative_to(after)): path for path in after.rglob("*") if path.is_file()}
    assert set(found) == {
        "changed",
        "folder/renamed",
        "kept/arrays.safetensors",
        "kept/empty",
        "kept/table.parquet",
    }
    assert found["changed"].read_text() == "old"  # its new bytes were not synced
    assert found["folder/renamed"].read_text() == "x"
    assert found["kept/empty"].read_bytes() == b""
    real = disk.root / "kept" / "later"
    assert found["kept/table.parquet"].read_bytes() == real.read_bytes()
    assert b"another" not in found["kept/arrays.safetensors"].read_bytes()


def test_every_change_is_counted_and_can_fail(place, tmp_path):
    disk, _ = changed(place, tmp_path)
    assert disk.changes > 30
    kinds = set()
    for at in spread(disk.changes, 4):
        one, output = changed(place, tmp_path, "EIO", at)
        assert "Input/output error" in output or "I/O error" in output, one.struck
        kinds.add(one.struck.split()[0])
    assert len(kinds) > 1
    one, output = changed(place, tmp_path, "full", 1)
    assert "No space left" in output
    assert one.struck.startswith("write")


# What is on it


def problems(runs, count):
    """What is wrong after each kind of error, at `count` places."""
    return [
        problem
        for number, how in enumerate(kills.ERRORS)
        for at in spread(runs.changes - number, count)
        for problem in runs.interrupted(how, at + number)
    ]


@pytest.mark.parametrize("count", only([1], 4))
def test_prepare_minds_no_disk_that_fails(place, tmp_path, count):
    config = trizoo.compose(["task=prepare", *kills.PHOTOS])
    base = place.folder / "base"
    with Runs(place.faults, tmp_path / "runs", base, config, ["shared.tasks"]) as runs:
        assert problems(runs, count) == []


def test_predict_minds_no_disk_that_fails(fitted, tmp_path, monkeypatch):
    words, base = ["task=predict", *kills.GIVEN, *kills.MORE], fitted.folder / "fitted"
    monkeypatch.chdir(base)
    config = with_fit(trizoo.compose(words), words)
    modules = ["shared.tasks", *TORCH]
    with Runs(fitted.faults, tmp_path / "runs", base, config, modules) as runs:
        assert problems(runs, 2) == []


def test_commands_mind_neither_kills_nor_errors_nor_power_cuts(place):
    interruptions = [("kill", "parent", 0.7), ("error", "full", 0.3), ("cut", "cut", 0.6)]
    crash_recovery.campaign(place, "prepare", *interruptions)


def test_what_a_command_reported_done_outlives_a_power_cut(fitted):
    assert kills.uninterrupted(fitted, "export", kills.CASES["export"]).lost == []
