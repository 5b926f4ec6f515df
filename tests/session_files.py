"""What takes long to make, made once for all the workers of a session of tests."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.run.locks import file_lock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The session's folder `name`, which `make` has filled: called by the first worker, while the others wait.

    If it raises, the next worker calls it again.
    """
    base = factory.getbasetemp()  # a worker's own, in that of the session
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    with file_lock(folder / "lock", waiting=lambda: None):
        if not (folder / "done").exists():
            make(folder)
            (folder / "done").touch()
    return folder
