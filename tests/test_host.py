"""A record names the commit of trizoo's own checkout, and of no other repository."""

import shutil
import subprocess

import pytest

from shared.run import records
from shared.run.launch import ROOT

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder, *words):
    given = ("-c", "user.name=me", "-c", "user.email=me@here")
    subprocess.run(["git", "-C", folder, *given, *words], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path):
    """A repository with a commit in it."""
    git(tmp_path, "init")
    (tmp_path / "pyproject.toml").touch()
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    return tmp_path


def test_a_checkout_of_trizoo_names_its_commit(checkout, monkeypatch):
    monkeypatch.setattr(records, "ROOT", checkout)
    commit = records.host()["commit"]
    assert len(commit) == 12
    (checkout / "pyproject.toml").write_text("changed")
    assert records.host()["commit"] == f"{commit}-dirty"


def test_the_checkout_is_that_of_the_door():
    assert records.ROOT == ROOT


@pytest.mark.parametrize("place", [".venv/lib/site-packages", "vendored"])
def test_what_is_installed_within_a_repository_names_no_commit(checkout, monkeypatch, place):
    (checkout / place).mkdir(parents=True)
    (checkout / place / "pyproject.toml").touch()  # some packages leave one among the others
    monkeypatch.setattr(records, "ROOT", checkout / place)
    assert records.host()["commit"] is None


def test_the_repository_of_a_hook_is_not_ours(checkout, monkeypatch, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    monkeypatch.setattr(records, "ROOT", other)
    monkeypatch.setenv("GIT_DIR", str(checkout / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    (other / "pyproject.toml").touch()
    assert records.host()["commit"] is None
