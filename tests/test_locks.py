"""Locks keep processes apart, also where the file system has none, and go with their last holder."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

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


MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /home rw shared:2 - nfs4 server:/home rw,vers=4.2,local_lock=none,addr=10.0.0.1
31 22 0:41 / /old rw shared:3 - nfs server:/old rw,vers=3,local_lock=all,addr=10.0.0.1
32 22 0:42 / /scratch rw shared:4 - lustre mds:/scratch rw,flock
33 22 0:43 / /local rw shared:5 - lustre mds:/local rw,localflock
34 22 0:44 / /buck\040et rw shared:6 - fuse.rclone bucket: rw,user_id=0
35 22 0:45 / /gluster rw shared:7 - fuse.glusterfs volume rw
36 30 0:46 / /home/me/disk rw shared:8 - xfs /dev/sdb rw
""".strip()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/tmp/run", None),
        ("/home/me/run", None),
        ("/homes/me/run", None),
        ("/old/run", "nfs, local_lock=all"),
        ("/scratch/run", None),
        ("/local/run", "lustre, localflock"),
        ("/buck et/run", "fuse.rclone"),
        ("/gluster/run", None),
        ("/home/me/disk/run", None),
    ],
)
def test_it_is_known_where_locks_are_seen_on_this_machine_alone(path, kind):
    assert locks.seen_here_alone(Path(path), MOUNTS) == kind


def test_that_other_machines_do_not_see_a_lock_is_said_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(locks, "seen_here_alone", lambda path, mounts: "fuse.rclone")
    for _ in range(2):
        with file_lock(tmp_path / ".lock") as lock:
            assert lock is not None
    said = capsys.readouterr().err
    if sys.platform == "linux":
        assert said.count("(fuse.rclone) whose locks other machines do not see") == 1
