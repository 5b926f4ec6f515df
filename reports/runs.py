"""Which records there are, and which of them may be averaged or compared.

group    records whose configuration differs in the seed alone: what a mean is taken over
setting  records that also differ in the backend: what a comparison is made within
"""

import json
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from reports.blocks import NOTHING
from shared.spec import digest

TITLES = {"tf": "TensorFlow", "torch": "PyTorch", "jax": "JAX"}
PLACES = ("folder", "outputs", "again", "dataset.stores")  # where things are kept
CHOSEN = (  # of an acquisition: how galaxies are chosen, not how many and when
    "name",
    "samples",
    "expected_votes",
    "of",
    "coldness",
    "share",
    "guard",
    "states",
    "targets",
    "target",
    "shards",
    "shard_size",
)
VERSIONS = ("tensorflow", "keras", "torch", "jax", "jaxlib", "flax", "optax", "numpy")


@dataclass(frozen=True, eq=False)
class Record:
    """One record.json: NUMBER counts from 1, PLACE is its folder below the folder of records."""

    number: int
    folder: Path
    place: str
    data: dict

    def text(self, path: str) -> str:
        """The entry at a dotted PATH as text."""
        value = self.at(path)
        return NOTHING if value is None else str(value)

    def at(self, path: str) -> Any:
        """The entry at a dotted PATH such as "results.test.rmse"; None where there is none."""
        value = self.data
        for key in path.split("."):
            if not isinstance(value, dict):
                return None
            value = value.get(key)
        return value

    @cached_property
    def entries(self) -> dict[str, str]:
        """Its configuration as one level, but for PLACES: dotted names to JSON."""
        return without(flat(self.at("run")), PLACES)

    @cached_property
    def setting(self) -> str:
        """The digest of all that was configured but the task, the backend, the seed and PLACES."""
        return digest([without(self.entries, ("task", "backend", "seed")), self.precision])

    @cached_property
    def group(self) -> str:
        """The digest of all configured but the seed and PLACES, and of device and precision."""
        return digest([without(self.entries, ("seed",)), self.precision, self.at("where.device")])

    @cached_property
    def simulation(self) -> str:
        """The digest of the setting but for how galaxies are chosen."""
        names = ("task", "backend", "seed", *(f"acquisition.{key}" for key in CHOSEN))
        return digest([without(self.entries, names), self.precision])

    @property
    def task(self) -> str:
        """What was done: fit, active, ..."""
        return self.text("run.task.name")

    @property
    def backend(self) -> str:
        """tf, torch or jax."""
        return self.text("run.backend.name")

    @property
    def title(self) -> str:
        """The backend's own name."""
        return TITLES.get(self.backend, self.backend)

    @property
    def precision(self) -> str:
        """The precision it ran in, else the one that was asked for."""
        return self.at("where.precision") or self.text("run.backend.precision")

    @property
    def machine(self) -> tuple[str, str, str]:
        """What it ran on: (device, processor, cores it might use)."""
        cores = f"{self.text('host.cores')} cores"
        return self.text("where.device"), self.text("host.processor"), cores


def read_runs(folder: Path) -> list[Record]:
    """Every record below FOLDER, those of earlier reports left out.

    Raises ValueError for a record.json that cannot be read, naming it, and if there is none.
    """
    paths = sorted(Path(folder).rglob("record.json"))
    found = [(path.parent, _read(path)) for path in paths]
    kept = [(place, data) for place, data in found if data["run"]["task"]["name"] != "report"]
    if not kept:
        raise ValueError(
            f"no record.json below {folder}; a report is made from records: run `trizoo fit` first"
        )
    return [
        Record(number, place, place.relative_to(folder).as_posix(), data)
        for number, (place, data) in enumerate(kept, 1)
    ]


def _read(path: Path) -> dict:
    again = "remove it, or do its run anew with again=true"
    try:
        data = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); {again}") from error
    names = data if isinstance(data, dict) else {}
    for key in ("run", "task"):
        names = names.get(key) if isinstance(names.get(key), dict) else {}
    if not isinstance(names.get("name"), str):
        raise ValueError(f"{path} does not say run.task.name, so it is no record of a run; {again}")
    return data


def home(records: list[Record]) -> Path:
    """The folder that all RECORDS lie below."""
    first = records[0]
    depth = 0 if first.place == "." else len(Path(first.place).parts)
    return [first.folder, *first.folder.parents][depth]


def files(book: "Book", name: str) -> dict[str, Any]:
    """Where below the folder of records -> what is there, of every JSON file called NAME.

    Raises ValueError, naming it, for one that is no JSON.
    """
    folder, found = home(book.records), {}
    for path in book.loose.get(name, ()):
        try:
            found[path.relative_to(folder).as_posix()] = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path} is not JSON ({error}); remove it, or make it anew") from error
    return found


def command(record: Record) -> str:
    """The command that made RECORD: in its own words, else put together from its configuration."""
    said = record.at("command")
    if said:
        return said if isinstance(said, str) else shlex.join(map(str, said))
    keys = ("question", "positive", "model.image_size", "backend.precision", "training.steps")
    values = {"backend": record.backend, "dataset": record.at("run.dataset.name")}
    values |= {"seed": record.at("run.seed")} | {key: record.at(f"run.{key}") for key in keys}
    texts = {
        key: f"[{','.join(map(str, value))}]" if isinstance(value, list) else value
        for key, value in values.items()
        if value is not None
    }
    return shlex.join(["trizoo", record.task, *(f"{key}={text}" for key, text in texts.items())])


def flat(value: Any, name: str = "") -> dict[str, str]:
    """Nested plain data as one level: dotted names to JSON."""
    if not isinstance(value, dict):
        return {name: json.dumps(value, ensure_ascii=False)}
    entries = {}
    for key, inner in value.items():
        entries |= flat(inner, f"{name}.{key}" if name else str(key))
    return entries


def setting(record: Record) -> str:
    """The digest of all that was configured but the task, the backend, the seed and PLACES."""
    return record.setting


def simulation(record: Record) -> str:
    """The setting but for how galaxies are chosen: what acquisitions are compared within."""
    return record.simulation


def group(record: Record) -> str:
    """The digest of all configured but the seed and PLACES, and of device and precision."""
    return record.group


def without(entries: dict[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """ENTRIES of a flat configuration but those called NAMES, or below them."""
    inside = tuple(f"{name}." for name in names)
    return {key: text for key, text in entries.items() if not f"{key}.".startswith(inside)}


def gathered(records: Iterable[Record], key: Callable[[Record], Any]) -> dict[Any, list[Record]]:
    """RECORDS by their KEY, in the order of the first of each."""
    found = defaultdict(list)
    for record in records:
        found[key(record)].append(record)
    return dict(found)


def rank(record: Record) -> tuple:
    """Where RECORD stands in a table: by dataset, question, image size, setting, backend, seed."""
    names = ("dataset.name", "question", "model.image_size")
    size = record.at("run.model.image_size") or 0
    dataset, question = (record.text(f"run.{name}") for name in names[:2])
    order = list(TITLES).index(record.backend) if record.backend in TITLES else len(TITLES)
    seed = record.at("run.seed") or 0
    return (
        dataset,
        question,
        size,
        record.precision,
        setting(record),
        order,
        record.backend,
        seed,
        record.number,
    )


def named_settings(records: list[Record]) -> dict[str, str]:
    """Digest of each setting -> its short name A, B, ... Z, AA, ... in the order of `rank`."""
    digests = dict.fromkeys(setting(record) for record in sorted(records, key=rank))
    return {key: _letters(number) for number, key in enumerate(digests)}


def _letters(number: int) -> str:
    return (_letters(number // 26 - 1) if number >= 26 else "") + chr(65 + number % 26)


def variations(records: Iterable[Record], shown: tuple[str, ...] = ()) -> dict[int, str]:
    """Record number -> the keys, but SHOWN, seed and PLACES, in which RECORDS differ."""
    entries = {record.number: without(record.entries, ("seed", *shown)) for record in records}
    names = sorted(set().union(*entries.values()))
    varying = [name for name in names if len({entry.get(name) for entry in entries.values()}) > 1]
    return {
        number: ", ".join(
            f"{name}={entry[name].strip(chr(34))}" for name in varying if name in entry
        )
        for number, entry in entries.items()
    }


def labels(records: list[Record]) -> dict[str, str]:
    """Group -> its backend, and what tells it from others of the same task, setting and backend."""
    found = {}
    for alike in gathered(records, lambda r: (r.task, setting(r), r.backend)).values():
        groups = gathered(alike, group)
        differing = variations(alike)
        devices = {record.at("where.device") for record in alike}
        for key, (first, *_) in groups.items():
            device = f"device={first.at('where.device')}" if len(devices) > 1 else ""
            extra = ", ".join(text for text in (device, differing[first.number]) if text)
            found[key] = f"{first.title} ({extra})" if extra else first.title
    return found


class Book(NamedTuple):
    """All records, with the names that settings and groups have in the report, and the other JSON files by name."""

    records: list[Record]
    settings: dict[str, str]
    labels: dict[str, str]
    loose: dict[str, list[Path]]

    def of(self, *tasks: str) -> list[Record]:
        """The records of TASKS in the order of tables."""
        return sorted((record for record in self.records if record.task in tasks), key=rank)

    def setting(self, record: Record) -> str:
        """The short name of the setting of RECORD."""
        return self.settings[setting(record)]

    def label(self, record: Record) -> str:
        """The backend of RECORD, as its row is called."""
        return self.labels[group(record)]

    def about(self, record: Record) -> str:
        """The setting of RECORD in words."""
        dataset, question, size = (
            record.text(f"run.{name}") for name in ("dataset.name", "question", "model.image_size")
        )
        return (
            f"setting {self.setting(record)} ({dataset}, {question}, {size} px, {record.precision})"
        )


def bound(records: list[Record]) -> Book:
    """RECORDS as a Book."""
    return Book(records, named_settings(records), labels(records), loose(records))


def loose(records: list[Record]) -> dict[str, list[Path]]:
    """Name -> the JSON files of that name below the folder of RECORDS, but for those that every run writes."""
    found = defaultdict(list)
    for path in sorted(home(records).rglob("*.json")):
        if path.name not in ("record.json", "run.json"):
            found[path.name].append(path)
    return dict(found)


def pairs(records: Iterable[Record]) -> list[tuple[Record, Record]]:
    """Every two records of different backends with the same task, setting and seed."""
    alike = gathered(sorted(records, key=rank), lambda r: (r.task, setting(r), r.at("run.seed")))
    return [
        (left, right)
        for found in alike.values()
        for left, right in combinations(found, 2)
        if left.backend != right.backend
    ]


def beside(record: Record, name: str) -> pd.DataFrame | None:
    """The Parquet table NAME in the folder of RECORD; None if there is none."""
    path = record.folder / name
    return pd.read_parquet(path) if path.is_file() else None
