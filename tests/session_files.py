"""What takes long to make, made once for all the workers of a session of tests."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.run.locks import file_lock


def session_folder(factory: pytest.TempPathFactory) -> Path:
    """The folder of a session of tests, which all its workers share."""
    base = factory.getbasetemp()  # a worker's own, in that of the session
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The session's folder `name`, which `make` has filled: called by the first worker, while the others wait."""
    return filled(session_folder(factory) / name, make)


def filled(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, which `make` has filled: called by the first process that asks, while the others wait.

    If it raises, the next calls it again.
    """
    folder.mkdir(exist_ok=True)
    with file_lock(folder / "lock", waiting=lambda: None):
        if not (folder / "done").exists():
            make(folder)
            (folder / "done").touch()
    return folder
