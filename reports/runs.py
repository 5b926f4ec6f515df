"""Which records there are, and which of them may be averaged or compared.

group    records whose configuration differs in the seed alone: what a mean is taken over
setting  records that also differ in the backend: what a comparison is made within
"""

import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pandas as pd

from reports.numbers import NOTHING
from shared.run.records import parse_json
from shared.run.spec import digest

Thing = TypeVar("Thing")
TITLES = {"tf": "TensorFlow", "torch": "PyTorch", "jax": "JAX"}
NOT_IDENTITY = ("folder", "outputs", "again", "dataset.stores")  # where things are kept
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
PERHAPS = (float, None)  # a number, or null where it was none
PAIR = {"mean": float, "interval": [float], "equivalent": bool}
MUTANTS = [{"mutant": str, "check": str, "error": PERHAPS}]
SHAPES = {  # of the JSON files that the report reads
    "record.json": {
        "run": {"task": {"name": str}},
        "host?": dict,
        "where?": dict,
        "results?": dict,
        "seconds?": PERHAPS,
    },
    "agreement.json": {"pairs": [{"backends": [str]}]},
    "equivalence.json": {"pairs": {str: PAIR}, "margin": float},
    "mutants.json": (MUTANTS, {"mutants": MUTANTS}),
    "trajectories.json": {
        "steps": [int],
        "seeds": int,
        "factor": float,
        "median": {str: {str: PERHAPS}},
        "ratio": {str: {str: PERHAPS}},
        "where": {str: dict},
        "hosts": {str: dict},
        "seconds": {str: PERHAPS},
    },
    "labels_saved.json": {
        "runs": [
            {
                "problem": str,
                "about": dict,
                "acquisition": str,
                "seed": int,
                "seconds": PERHAPS,
                "labelled": [int],
                "measures": {str: [float]},
                "coverage": PERHAPS,
                "pool": {str: PERHAPS},
            }
        ]
    },
}
VERSIONS = ("tensorflow", "keras", "torch", "jax", "jaxlib", "flax", "optax", "numpy")


@dataclass(frozen=True, eq=False)
class Record:
    """One record.json: `number` counts from 1, `place` is its folder below the folder of records."""

    number: int
    folder: Path
    place: str
    data: dict

    def text(self, path: str) -> str:
        """The entry at a dotted `path` as text."""
        value = self.at(path)
        return NOTHING if value is None else str(value)

    def at(self, path: str) -> Any:
        """The entry at a dotted `path` such as "results.test.rmse"; None where there is none."""
        value = self.data
        for key in path.split("."):
            if not isinstance(value, dict):
                return None
            value = value.get(key)
        return value

    @cached_property
    def entries(self) -> dict[str, str]:
        """Its configuration as one level, but for NOT_IDENTITY: dotted names to JSON."""
        return without(flat(self.at("run")), NOT_IDENTITY)

    @cached_property
    def setting(self) -> str:
        """The digest of all that was configured but the task, the backend, the seed and NOT_IDENTITY."""
        return digest([without(self.entries, ("task", "backend", "seed")), self.precision])

    @cached_property
    def group(self) -> str:
        """The digest of all configured but the seed and NOT_IDENTITY, and of device and precision."""
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
    def about(self) -> str:
        """What was asked of which galaxies."""
        parts = [self.at("run.dataset.name"), self.at("run.question")]
        size = self.at("run.model.image_size")
        return ", ".join(
            [*(str(part) for part in parts if part), *([f"{size} px"] if size else [])]
        )

    @property
    def precision(self) -> str:
        """The precision it ran in, else the one that was asked for."""
        ran = self.text("where.precision")
        return self.text("run.backend.precision") if ran == NOTHING else ran

    @property
    def computer(self) -> str:
        """What it ran on: the GPU, or the processor and the cores that it might use."""
        device, cores = self.text("where.device"), self.at("host.cores")
        if device not in (NOTHING, "auto", "cpu"):
            return device
        counted = f"{cores} core{'s' if cores != 1 else ''}" if cores else None
        known = [self.at("host.processor"), counted]
        return ", ".join(str(part) for part in known if part) or NOTHING


def read_runs(folder: Path) -> list[Record]:
    """Every record below `folder`, those of earlier reports left out; ValueError for one that cannot be read."""
    records, left_out = find_runs(folder)
    for reason in left_out.values():
        raise ValueError(f"{folder}: {reason}")
    return records


def find_runs(folder: Path) -> tuple[list[Record], dict[str, str]]:
    """Every record below `folder` but those of earlier reports; and, by their paths, why others cannot be read.

    Raises ValueError if there is none.
    """
    folder = Path(folder)
    found, left_out = _read_all(folder, sorted(folder.rglob("record.json")))
    kept = [
        (Path(path).parent, data)
        for path, data in found.items()
        if data["run"]["task"]["name"] != "report"
    ]
    if not kept:
        but = f" (but {'; '.join(left_out.values())})" if left_out else ""
        raise ValueError(
            f"no record.json below {folder}{but}; a report is made from records: run `trizoo fit` first"
        )
    records = [
        Record(number, folder / place, place.as_posix(), data)
        for number, (place, data) in enumerate(kept, 1)
    ]
    return records, left_out


def _read_all(folder: Path, paths: Iterable[Path]) -> tuple[dict[str, Any], dict[str, str]]:
    """What the files at `paths` below `folder` say, and why others cannot be read, by their paths from there."""
    found, left_out = {}, {}
    for path in paths:
        name = path.relative_to(folder).as_posix()
        try:
            if not path.is_file():
                raise ValueError(f"{name} is no file; remove it")
            found[name] = parse_json(
                path.read_bytes(), SHAPES[path.name], name, "remove it, or make it anew"
            )
        except (OSError, ValueError) as error:
            left_out[name] = str(error)
    return found, left_out


def home(records: list[Record]) -> Path:
    """The folder that all `records` lie below."""
    first = records[0]
    depth = 0 if first.place == "." else len(Path(first.place).parts)
    return [first.folder, *first.folder.parents][depth]


def files(record_set: "RecordSet", name: str) -> dict[str, Any]:
    """Where below the folder of records -> what is there, of every JSON file called `name`."""
    return {
        path: content for path, content in record_set.unindexed.items() if Path(path).name == name
    }


def command(record: Record) -> str:
    """The command that made `record`: in its own words, else put together from its configuration."""
    words = record.at("command")
    if words:
        return words if isinstance(words, str) else shlex.join(map(str, words))
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


def without(entries: dict[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """`entries` of a flat configuration but those called `names`, or below them."""
    inside = tuple(f"{name}." for name in names)
    return {key: text for key, text in entries.items() if not f"{key}.".startswith(inside)}


def gathered(things: Iterable[Thing], key: Callable[[Thing], Any]) -> dict[Any, list[Thing]]:
    """`things` by their `key`, in the order of the first of each."""
    found = defaultdict(list)
    for thing in things:
        found[key(thing)].append(thing)
    return dict(found)


def rank(record: Record) -> tuple:
    """Where `record` stands in a table: by dataset, question, image size, setting, backend, seed."""
    dataset, question = (record.text(f"run.{name}") for name in ("dataset.name", "question"))
    order = list(TITLES).index(record.backend) if record.backend in TITLES else len(TITLES)
    size, seed = record.at("run.model.image_size") or 0, record.at("run.seed") or 0
    setting = (record.precision, record.setting, order, record.backend, seed, record.number)
    return (dataset, question, size, *setting)


def variations(records: Iterable[Record], shown: tuple[str, ...] = ()) -> dict[int, str]:
    """Record number -> the keys, but `shown`, seed and NOT_IDENTITY, in which `records` differ."""
    entries = {record.number: without(record.entries, ("seed", *shown)) for record in records}
    names = sorted(set().union(*entries.values()))
    varying = [name for name in names if len({entry.get(name) for entry in entries.values()}) > 1]
    return {
        number: ", ".join(
            f"{name}={entry[name].strip(chr(34))}" for name in varying if name in entry
        )
        for number, entry in entries.items()
    }


SAID = ("task", "backend", "dataset", "question", "positive", "model.image_size")  # by any name


def names(records: list[Record]) -> dict[str, str]:
    """Group -> what its runs are called: what was asked of which galaxies by which framework, and what tells it from
    others of that name.

    A folder that somebody named is the name.
    """
    found: dict[str, str] = {}
    firsts = {(record.task, record.group): record for record in reversed(records)}.values()
    for alike in gathered(reversed(list(firsts)), lambda r: (r.task, r.about, r.title)).values():
        differing = variations(alike, SAID) if len(alike) > 1 else {alike[0].number: ""}
        devices = {record.at("where.device") for record in alike}
        precisions = {record.precision for record in alike}
        for record in alike:
            extra = [record.text("where.device")] if len(devices) > 1 else []
            extra += [record.precision] if len(precisions) > 1 else []
            extra += [differing[record.number]] if differing[record.number] else []
            told = f" ({shortened(', '.join(extra))})" if extra else ""
            given = record.at("run.folder")
            own = Path(given).name if isinstance(given, str) and given else ""
            found[record.group] = own or f"{record.about}, {record.title}{told}"
    tasks = {record.group: record.task for record in records}
    counts = Counter((tasks[key], name) for key, name in found.items())
    places = {record.group: Path(record.place).name for record in reversed(records)}
    return {
        key: name if counts[tasks[key], name] == 1 else f"{name} ({places[key]})"
        for key, name in found.items()
    }


def shortened(text: str, most: int = 90) -> str:
    """`text`, cut where it is too long for a name; the table of records has all of it."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


class RecordSet(NamedTuple):
    """All records, the names of their groups, the other JSON files, what is left out."""

    records: list[Record]
    names: dict[str, str]
    unindexed: dict[str, Any]  # what each says, by its path below the folder of records
    left_out: dict[str, str]  # the reason, by the path of a file that cannot be used

    def of(self, *tasks: str) -> list[Record]:
        """The records of `tasks` in the order of tables."""
        return sorted((record for record in self.records if record.task in tasks), key=rank)

    def name(self, record: Record) -> str:
        """What the runs are called that differ from `record` in the seed alone."""
        return self.names[record.group]


def index(records: list[Record], left_out: dict[str, str] | None = None) -> RecordSet:
    """`records` and the JSON files beside them as a RecordSet, which also tells what was `left_out` before."""
    folder = home(records)
    paths = [
        path
        for path in sorted(folder.rglob("*.json"))
        if path.name in SHAPES and path.name != "record.json"
    ]
    unindexed, damaged = _read_all(folder, paths)
    return named(records, unindexed, (left_out or {}) | damaged)


def named(records: list[Record], unindexed: dict[str, Any], left_out: dict[str, str]) -> RecordSet:
    """`records` with names for their groups, counted from 1."""
    counted = [replace(record, number=number) for number, record in enumerate(records, 1)]
    return RecordSet(counted, names(counted), unindexed, left_out)


def pairs(records: Iterable[Record]) -> list[tuple[Record, Record]]:
    """Every two records of different backends with the same task, setting and seed."""
    alike = gathered(sorted(records, key=rank), lambda r: (r.task, r.setting, r.at("run.seed")))
    return [
        (left, right)
        for found in alike.values()
        for left, right in combinations(found, 2)
        if left.backend != right.backend
    ]


def beside(record: Record, name: str) -> pd.DataFrame | None:
    """The Parquet table `name` in the folder of `record`; None if there is none."""
    path = record.folder / name
    if not path.is_file():
        return None
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as problem:
        raise ValueError(f"{name} beside it is damaged: {problem}") from problem


def versions(where: dict) -> str:
    """The versions of frameworks in `where`, those of VERSIONS only."""
    inner = where.get("versions") if isinstance(where.get("versions"), dict) else where
    return ", ".join(f"{name} {inner[name]}" for name in VERSIONS if inner.get(name))
