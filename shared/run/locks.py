"""Locks that keep processes apart: a lock is a file, and is held as long as its descriptor is open, here or in a child.

The system lets go of it when its last holder ends, however it ends, so that no lock is ever left over. The package
filelock cannot do that: it frees the lock while a child still holds it, and on a file system without locks it leaves
its file behind when it is killed. Only the standard library is imported here.
"""

import errno
import fcntl
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

UNKNOWN = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF}

NO_FEWER_LOCKS = {"fuse.glusterfs", "fuse.ceph-fuse", "fuse.juicefs"}  # pass them on
NO_FEWER_LOCKS |= {"fuseblk", "fuse.fuse-overlayfs"}  # a disk of this machine
_warned: set[Path] = set()


@contextmanager
def file_lock(path: Path, waiting: Callable[[], object] | None = None) -> Iterator[int | None]:
    """Hold the lock file at `path`, made if need be; gives its descriptor, or None if another process holds it.

    With `waiting`, which is called once if another process holds it, it is waited for. Whoever holds it may remove the
    file. On a file system without locks, a file in the user's temporary folder is locked in its place. Whoever watches
    is told what that does not keep apart, and likewise where locks are seen on this machine alone. Raises OSError if
    `path` cannot be opened, FileNotFoundError if its folder is gone.
    """
    descriptor = _hold(path, waiting)
    _warn(path)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def seen_here_alone(path: Path, mounts: str) -> str | None:
    """The file system of `path` as `mounts`, a mountinfo, has it, if other machines do not see a lock there; or None.

    NFS and Lustre pass flock on to their servers unless they are mounted otherwise; most of what is mounted by FUSE
    (buckets, sshfs) does not, and answers as if it did.
    """
    found, longest = None, -1
    for line in mounts.splitlines():
        mounted, _, rest = line.partition(" - ")
        place = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), mounted.split()[4])
        kind, _, options = rest.split(" ", 2)
        if path.is_relative_to(place) and len(place) >= longest:
            found, longest = (kind, set(options.split(","))), len(place)
    kind, options = found or ("", set())
    if kind.startswith("fuse"):
        return None if kind in NO_FEWER_LOCKS else kind
    by_kind = {"nfs": {"nolock", "local_lock=all", "local_lock=flock"}, "lustre": {"localflock"}}
    alone = options & by_kind.get(kind.rstrip("4"), set())
    return f"{kind}, {min(alone)}" if alone else None


def _warn(path: Path) -> None:
    """Say, once for a folder, that locks there are seen on this machine alone, where they are."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:  # not Linux
        return
    folder = path.parent.resolve()
    if (kind := seen_here_alone(folder, mounts)) and folder not in _warned:
        from shared.run.progress import say

        _warned.add(folder)
        say(
            f"{folder} is on a file system ({kind}) whose locks other machines do not see: let no other machine work "
            "in it meanwhile"
        )


def temporary_folder() -> Path:
    """The folder of this user's lock files on this machine; raises OSError if it is not the user's own."""
    folder = Path(tempfile.gettempdir(), f"trizoo-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user; set TMPDIR to a folder of yours")
    return folder


def try_lock(descriptor: int) -> bool:
    """Lock the file open as `descriptor`; False if another holds it. Raises OSError where there are no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _hold(path: Path, waiting: Callable[[], object] | None) -> int | None:
    while True:
        file = descriptor = _open(path)
        try:
            try:
                held = try_lock(file)
            except OSError as problem:
                if problem.errno not in UNKNOWN:
                    raise
                descriptor = _open(_substitute(path))
                held = try_lock(descriptor)
            if not held and waiting is not None:
                waiting()
                waiting = _nothing
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                held = True
            there = _is_at(
                file, path
            )  # its holder may have removed it meanwhile: then lock the next
        except BaseException:
            _close(file, descriptor)
            raise
        if held and there:
            if file != descriptor:
                os.close(file)
            return descriptor
        _close(file, descriptor)
        if not held:
            return None


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)


def _close(*descriptors: int) -> None:
    for descriptor in set(descriptors):
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _substitute(path: Path) -> Path:
    """The file of this machine that is locked in place of `path`, whose file system has no locks."""
    from shared.run.progress import say

    say(
        f"the file system of {path.parent} has no locks: only your own processes on this machine are kept apart there; "
        "let nobody else, and no other machine, work in it meanwhile"
    )
    return temporary_folder() / sha256(os.fsencode(path.resolve())).hexdigest()[:32]


def _nothing() -> None:
    pass
