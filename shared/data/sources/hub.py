"""A data set of a dataset hub: its Parquet files, fetched once and checked, then read like any others.

They come by huggingface_hub, a package that is not needed otherwise; it goes on where a download
was broken off, and HF_ENDPOINT names another hub than its own.
"""

import hashlib
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pandas as pd

from shared.data.sources.downloads import inside
from shared.data.sources.fetch import WHOLE_ANSWER
from shared.data.sources.images import Loaded
from shared.data.sources.table import Tables
from shared.run.credentials import redacted
from shared.run.records import read_json, write_json
from shared.run.spec import DatasetSpec, digest

FORM = re.compile(r"hub:([\w.-]+/[\w.-]+)((?:/[\w.-]+)*)(?:@([\w./-]+))?")
DEFAULT = "data"  # the folder of a data set's default configuration
DONE = "hub.json"  # beside whole and checked files: what they are
LEAST = 2**20  # bytes that come in WHOLE_ANSWER timeouts, or a file, or the hub is given up
WORDS = {"dataset": "data set", "model": "model"}
SHAPE = {
    "repository": str,
    "commit": str,
    "licence": object,
    "files": {str: {"bytes": int, "sha256": str}},
}


def open_hub(dataset: DatasetSpec) -> "Hub":
    """The images in the data set that dataset.images names: hub:OWNER/NAME[/FOLDER][@REVISION].

    Raises ValueError for another form.
    """
    form = FORM.fullmatch(str(dataset.images))
    if form is None:
        raise ValueError(
            f"dataset.images is {dataset.images}; write hub:OWNER/NAME, hub:OWNER/NAME/FOLDER or "
            "hub:OWNER/NAME@REVISION"
        )
    repository, below, revision = form.groups()
    return Hub(dataset, repository, below[1:], revision)


@dataclass(frozen=True)
class Hub:
    """A Source: the Parquet files of one folder of `repository` at one commit."""

    dataset: DatasetSpec
    repository: str
    below: str  # the folder of the repository; empty: the one that has Parquet files, or DEFAULT
    revision: str | None  # a branch, tag or commit; None: the newest

    def identity(self) -> Any:
        """The repository, its folder and the commit."""
        return [self.repository, self.below, self._found["commit"]]

    def changed_since(self, moment: int) -> list[str]:
        """None: a commit does not change."""
        return []

    def about(self) -> dict[str, Any]:
        """Where the images come from, exactly, and the licence that the data set names."""
        return {
            "kind": "hub",
            "where": self.dataset.images,
            "commit": self._found["commit"],
            "licence": self._found["licence"],
            "files": len(self._found["files"]),
            "downloads": str(self._folder),
        }

    def table(self) -> str:
        """The Parquet files, which hold the votes as well."""
        return str(self._parquet[0].with_name("*.parquet"))

    def names(self) -> list[str]:
        """The ids in the files."""
        return self._tables.names()

    def find(self, galaxies: pd.DataFrame) -> list[str | None]:
        """Those of `galaxies` that the files have."""
        return self._tables.find(galaxies)

    def load(self, names: Sequence[str]) -> Iterator[Loaded]:
        """The images of `names`, file by file."""
        return self._tables.load(names)

    @cached_property
    def _tables(self) -> Tables:
        return Tables(self.table(), self._parquet, self.dataset.columns.id)

    @cached_property
    def _found(self) -> dict[str, Any]:
        """The commit, its licence and its files: {name: {"bytes": ..., "sha256": ...}}.

        A whole commit that is there already is not asked for.
        """
        if self.revision is not None and re.fullmatch(r"[0-9a-f]{40}", self.revision):
            done = _read_done(self._place(self.revision) / DONE)
            if done is not None:
                return done
        return _ask(self.repository, self.below, self.revision, self.dataset)

    def _place(self, commit: str) -> Path:
        name = f"{self.dataset.name}-{digest([self.repository, self.below, commit])}"
        return Path(self.dataset.service.downloads) / name

    @property
    def _folder(self) -> Path:
        return self._place(self._found["commit"])

    @cached_property
    def _parquet(self) -> list[Path]:
        """The files, fetched if they are not there, and whole."""
        files = self._found["files"]
        paths = dict(zip(files, inside(self._folder, list(files)), strict=True))
        kept = (_read_done(self._folder / DONE) or {"files": {}})["files"]
        if kept.keys() != files.keys() or any(
            not path.is_file() or path.stat().st_size != kept[name]["bytes"]
            for name, path in paths.items()
        ):
            (self._folder / DONE).unlink(missing_ok=True)
            _fetch(self.repository, self._found["commit"], list(files), self._folder, self.dataset)
            for name, path in paths.items():
                _check(path, files[name])
            write_json(self._folder / DONE, self._found)
        return list(paths.values())


def _read_done(path: Path) -> dict[str, Any] | None:
    """What the whole and checked files beside `path` are; None: nothing says so, or not as it is written here."""
    with suppress(OSError, ValueError):
        return read_json(path, SHAPE, "the data set is fetched again")
    return None


def library(key: str = "dataset.images", files: str = "Parquet files"):
    """huggingface_hub; ValueError, which says what to do for `key`, if it is not installed."""
    try:
        import huggingface_hub
    except ImportError:
        raise ValueError(
            f"{key} begins with hub:, which needs a package more: pip install "
            f"huggingface_hub. Or fetch the {files} yourself and name them in {key}"
        ) from None
    return huggingface_hub


def in_time(calls: Sequence[Callable], at_once: int, timeout: float, folder: Path | None) -> list:
    """The results of `calls`, in the order in which they end; raises what one of them raised.

    The library waits `timeout` for each byte, so a hub whose bytes drip would hold it for ever. So it works in threads
    that the program need not wait for, and is given up once nothing ends and `folder`, if any, does not grow.
    """
    todo, done, patience = deque(calls), SimpleQueue(), WHOLE_ANSWER * timeout

    def work() -> None:
        with suppress(IndexError):
            while True:
                call = todo.popleft()
                try:
                    done.put((call(), None))
                except BaseException as problem:  # goes on in the thread that waits
                    todo.clear()
                    done.put((None, problem))

    for _ in range(min(at_once, len(calls))):
        threading.Thread(target=work, name="hub", daemon=True).start()
    found, size = [], _size(folder)
    while len(found) < len(calls):
        try:
            result, problem = done.get(timeout=patience)
        except Empty:
            before, size = size, _size(folder)
            if size - before < LEAST:
                todo.clear()
                raise TimeoutError(f"too little came in {patience:.0f} s") from None
            continue
        if problem is not None:
            raise problem
        found.append(result)
    return found


def _size(folder: Path | None) -> int:
    """The bytes in `folder`, in which files come and go."""
    total = 0
    for path in folder.rglob("*") if folder else ():
        with suppress(OSError):
            total += path.stat().st_size
    return total


def ask(
    kind: str,
    repository: str,
    revision: str | None,
    timeout: float,
    key: str,
    already: Callable[[], str],
) -> Any:
    """What the hub says of a `repository` of a `kind`, dataset or model, that `key` names, at a revision.

    Raises ValueError for a repository or revision that is not there; ConnectionError, which says what is here
    `already`, if the hub cannot be reached.
    """
    hub = library()
    call = partial(
        getattr(hub.HfApi(library_name="trizoo"), f"{kind}_info"),
        repository,
        revision=revision,
        timeout=timeout,
        files_metadata=True,
    )
    try:
        return in_time([call], 1, timeout, None)[0]
    except hub.errors.RevisionNotFoundError:
        raise ValueError(f"{repository} has no revision {revision}; check {key}") from None
    except hub.errors.RepositoryNotFoundError:
        raise ValueError(
            f"there is no {WORDS[kind]} {repository} on the hub, or only for those it knows; check {key}, or log in "
            "with: hf auth login"
        ) from None
    except Exception as problem:  # of whichever HTTP library this version of it uses
        raise ConnectionError(
            f"the hub did not say what is in {repository} ({redacted(str(problem))}); check the network. Without one, "
            f"name a commit that is there already: {already()}"
        ) from problem


def _ask(repository: str, below: str, revision: str | None, dataset: DatasetSpec) -> dict[str, Any]:
    info = ask(
        "dataset",
        repository,
        revision,
        dataset.service.timeout,
        "dataset.images",
        lambda: "hub:OWNER/NAME@COMMIT",
    )
    sizes = {
        file.rfilename: {"bytes": file.size, "sha256": file.lfs and file.lfs.sha256}
        for file in info.siblings or []
        if file.rfilename.endswith(".parquet")
    }
    chosen = _chosen(repository, below, sorted(sizes))
    card = info.card_data or {}
    return {
        "repository": repository,
        "commit": info.sha,
        "licence": card.get("license"),
        "files": {name: sizes[name] for name in chosen},
    }


def _chosen(repository: str, below: str, names: list[str]) -> list[str]:
    """Those of `names` that lie in the folder `below`, or in the only folder or DEFAULT if it is empty."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(name.rpartition("/")[0], []).append(name)
    if not folders:
        raise ValueError(f"{repository} has no Parquet files; name another data set")
    if not below and (len(folders) == 1 or DEFAULT in folders):
        return folders.get(DEFAULT) or next(iter(folders.values()))
    if below not in folders:
        there = ", ".join(f"hub:{repository}/{folder}".rstrip("/") for folder in folders)
        raise ValueError(
            f"{repository} has no Parquet files in {below or 'its top folder'}; write one of {there}"
        )
    return folders[below]


def _fetch(
    repository: str, commit: str, names: list[str], folder: Path, dataset: DatasetSpec
) -> None:
    service = dataset.service
    fetch = partial(
        library().hf_hub_download,
        repository,
        repo_type="dataset",
        revision=commit,
        local_dir=folder,
        library_name="trizoo",
        etag_timeout=service.timeout,
    )
    calls = [partial(fetch, filename=name) for name in names]
    try:
        in_time(calls, service.at_once, service.timeout, folder)
    except Exception as problem:  # of whichever HTTP library this version of it uses
        raise ConnectionError(
            f"{repository} did not come whole from the hub ({redacted(str(problem))}); the same "
            "command goes on"
        ) from problem


def _check(path: Path, file: dict[str, Any]) -> None:
    """Note the checksum of the file at `path`; raises ValueError, and removes it, if it is another."""
    with path.open("rb") as data:
        found = hashlib.file_digest(data, "sha256").hexdigest()
    length = path.stat().st_size
    if file["sha256"] not in (None, found) or file["bytes"] not in (None, length):
        path.unlink()
        raise ValueError(
            f"{path} came with another checksum than the hub gives; it was removed, and the same "
            "command fetches it again"
        )
    file |= {"bytes": length, "sha256": found}
