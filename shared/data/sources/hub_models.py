"""The files of a model on a hub, such as Zoobot's encoders: fetched once, checked, and named by their commit.

They come by huggingface_hub into its own cache, where those that other programs fetched are found too; a commit whose
files are there is read without a network. HF_ENDPOINT names another hub, HF_HOME another cache.
"""

import hashlib
import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

from shared.data.sources.hub import ask, in_time, library
from shared.run.credentials import redacted
from shared.run.spec import WEIGHT_FILES

FORM = re.compile(r"hub:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
COMMIT = re.compile(r"[0-9a-f]{40}")
BESIDE = ("preprocessing.json", "config.json")  # what else of a repository is fetched, first
KEY = ("model.encoder", "weights and their config.json")


class Fetched(NamedTuple):
    """A model's files on this machine."""

    repository: str
    commit: str
    file: Path  # of its weights; others lie beside it

    @property
    def name(self) -> str:
        """What names exactly these files."""
        return f"hub:{self.repository}@{self.commit}"


def fetch_model(named: str, timeout: float) -> Fetched:
    """The weights, and what lies beside them, of hub:OWNER/NAME[@REVISION]; REVISION: a branch, tag or commit.

    Raises ValueError for another form, a repository that is not there or has no weights, or files that are not what the
    hub says; ConnectionError if the hub cannot be reached and the commit is not here.
    """
    if (form := FORM.fullmatch(named)) is None:
        raise ValueError(f"model.encoder is {named}; write hub:OWNER/NAME or hub:OWNER/NAME@COMMIT")
    (repository, revision), hub = form.groups(), library(*KEY)
    whole = revision is not None and COMMIT.fullmatch(revision)
    if whole and (file := _kept(hub, repository, revision)) is not None:
        return Fetched(repository, revision, file)
    info = ask("model", repository, revision, timeout, KEY[0], partial(_commits, hub, repository))
    commit = info.sha
    sums = {file.rfilename: file.lfs and file.lfs.sha256 for file in info.siblings or []}
    weights = next((name for name in WEIGHT_FILES if name in sums), None)
    if weights is None:
        raise ValueError(
            f"{repository} has no {' or '.join(WEIGHT_FILES)}; name a model with one of these"
        )
    for name in (*(name for name in BESIDE if name in sums), weights):  # the weights last
        file = _fetch(hub, repository, commit, name, timeout)
        with file.open("rb") as data:
            found = hashlib.file_digest(data, "sha256").hexdigest()
        if sums[name] not in (None, found):
            file.resolve().unlink()
            file.unlink(missing_ok=True)
            raise ValueError(
                f"{name} of {repository} came with another checksum than the hub gives; it was removed, and the same "
                "command fetches it again"
            )
    return Fetched(repository, commit, file)


def _kept(hub, repository: str, commit: str) -> Path | None:
    """The weights of a commit in the cache; None unless what timm keeps beside them is there as well."""
    there = {
        name: hub.try_to_load_from_cache(repository, name, revision=commit)
        for name in (*WEIGHT_FILES, "config.json")
    }
    files = [there[name] for name in WEIGHT_FILES if isinstance(there[name], str)]
    return Path(files[0]) if files and isinstance(there["config.json"], str) else None


def _commits(hub, repository: str) -> str:
    """What names the commits of a repository whose weights are in the cache."""
    folder = _folder(hub, repository)
    kept = [path.name for path in sorted(folder.glob("snapshots/*")) if COMMIT.fullmatch(path.name)]
    kept = [commit for commit in kept if _kept(hub, repository, commit) is not None]
    return ", ".join(f"hub:{repository}@{commit}" for commit in kept) or "(none is)"


def _folder(hub, repository: str) -> Path:
    """Where huggingface_hub keeps a repository."""
    return Path(hub.constants.HF_HUB_CACHE, f"models--{repository.replace('/', '--')}")


def _fetch(hub, repository: str, commit: str, name: str, timeout: float) -> Path:
    fetch = partial(
        hub.hf_hub_download,
        repository,
        name,
        revision=commit,
        library_name="trizoo",
        etag_timeout=timeout,
    )
    try:
        return Path(in_time([fetch], 1, timeout, _folder(hub, repository))[0])
    except Exception as problem:
        raise ConnectionError(
            f"{name} of {repository} did not come whole from the hub ({redacted(str(problem))}); the same command goes "
            "on"
        ) from problem
