"""Locks keep processes apart, also where the file system has none, and go with their last holder."""

import errno
import fcntl
import os
import subprocess
import sys
import threading

import pytest

from shared.run import locks
from shared.run.launch import ROOT
from shared.run.locks import file_lock

HOLDER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from shared.run.locks import file_lock
with file_lock(Path(sys.argv[2])) as lock:
    print(lock is not None, flush=True)
    sys.stdin.read()
"""


def holder(path, temporary):
    """A process that holds the lock at `path` until its standard input ends."""
    words = [sys.executable, "-c", HOLDER, str(ROOT), str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    child = subprocess.Popen(words, env=os.environ | {"TMPDIR": str(temporary)}, **pipes)
    assert child.stdout.readline() == "True\n"
    return child


@pytest.fixture
def without_locks(tmp_path, monkeypatch):
    """A folder on what acts like a file system without locks, and no temporary folder but the test's own."""
    place = tmp_path / "no locks"
    place.mkdir()
    flock = fcntl.flock

    def refuse(descriptor, how):
        named = [path for path in place.iterdir() if _same(descriptor, path)]
        if named:
            raise OSError(errno.ENOLCK, "No locks available")
        flock(descriptor, how)

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    monkeypatch.setattr(locks.tempfile, "tempdir", str(tmp_path))
    return place


def _same(descriptor, path):
    return os.path.samestat(os.fstat(descriptor), path.stat())


def test_one_process_holds_a_lock_and_its_end_frees_it(tmp_path):
    path = tmp_path / ".lock"
    child = holder(path, tmp_path)
    with file_lock(path) as lock:
        assert lock is None
    child.kill()
    child.communicate()
    with file_lock(path) as lock:
        assert lock is not None
        with file_lock(path) as second:
            assert second is None


def test_a_lock_can_be_waited_for(tmp_path):
    path, waiting, got = tmp_path / ".lock", threading.Event(), []

    def wait():
        with file_lock(path, waiting.set) as lock:
            got.append(lock)

    with file_lock(path):
        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(60)
        assert not got
    thread.join(60)
    assert got[0] is not None


def test_whoever_waited_for_a_file_that_was_removed_holds_the_next(tmp_path):
    path, waiting, there = tmp_path / ".lock", threading.Event(), []

    def wait():
        with file_lock(path, waiting.set) as lock:
            there.append(_same(lock, path))

    with file_lock(path):
        thread = threading.Thread(target=wait)
        thread.start()
        assert waiting.wait(60)
        path.unlink()
    thread.join(60)
    assert there == [True]


def test_a_folder_that_is_gone_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), file_lock(tmp_path / "gone" / ".lock"):
        pass


def test_without_locks_processes_of_a_machine_are_kept_apart_and_it_is_said(without_locks, capsys):
    path = without_locks / ".lock"
    with file_lock(path) as lock:
        assert lock is not None
        assert "has no locks: only your own processes" in capsys.readouterr().err
        with file_lock(path) as second:
            assert second is None
        with file_lock(without_locks / "other") as other:
            assert other is not None
    with file_lock(path) as lock:
        assert lock is not None


def test_an_error_of_the_disk_is_none_of_the_locks(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(locks.fcntl, "flock", fail)
    with pytest.raises(OSError, match="Input/output"), file_lock(tmp_path / ".lock"):
        pass
