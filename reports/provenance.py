"""What ran, on what, and where every number of the report came from."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from reports.blocks import NOTHING, Section, Table, from_files, prose, ranges, table
from reports.runs import (
    VERSIONS,
    Record,
    RecordSet,
    command,
    files,
    gathered,
    setting,
    variations,
)

HOME = ("backend", "versions", "device", "precision", "threads", "processor", "Python", "commit")
FILES = {  # what lies beside the records, and what writes it
    "labels_saved.json": "python -m reports.savings",
    "agreement.json": "python -m reports.publish",
    "trajectories.json": "python -m benchmarks.trajectories",
    "equivalence.json": "python -m benchmarks.equivalence",
    "mutants.json": "python -m tests.mutants",
    "stores.json": "python -m benchmarks.stores",
    "pieces.json": "make bench",
    "kills.json": "python -m benchmarks.kills",
}
SHOWN = (
    "dataset.name",
    "question",
    "positive",
    "model.image_size",
    "training.steps",
    "training.batch_size",
)


def ran(record_set: RecordSet) -> Section:
    """The settings, what the records ran on, and every record."""
    homes = gathered(record_set.records, _home)
    places = {home: place for place, home in enumerate(homes, 1)}
    rows = [
        {
            "record": record.number,
            "task": record.task,
            "setting": record_set.setting(record),
            "backend": record.title,
            "seed": record.at("run.seed"),
            "dataset": record.at("run.dataset.name"),
            "place": places[_home(record)],
            "time (s)": record.at("seconds"),
        }
        for record in record_set.records
    ]
    where = [
        {"place": places[home]}
        | dict(zip(HOME, home, strict=True))
        | {"records": ranges(record.number for record in records)}
        for home, records in homes.items()
    ]
    words = prose(
        "A setting is all that was configured but the task, the backend and the seed; a place is "
        "where it ran and what ran it. Means are taken over seeds only: two runs that differ in "
        "anything else are two rows."
    )
    numbers = [record.number for record in record_set.records]
    tables = {"Settings": _settings(record_set), "Places": where, "Records": rows}
    if record_set.left_out:
        tables["Left out"] = [
            {"file": name, "why": why} for name, why in record_set.left_out.items()
        ]
    return Section("What ran", (words, *(table(name, tables[name], numbers) for name in tables)))


def _home(record: Record) -> tuple:
    return (
        record.title,
        versions(record.at("where") or {}),
        record.at("where.device"),
        record.precision,
        record.at("where.threads"),
        record.at("host.processor"),
        record.at("host.python"),
        record.at("host.commit"),
    )


def _settings(record_set: RecordSet) -> list[dict]:
    found = gathered(
        record_set.of(*dict.fromkeys(record.task for record in record_set.records)), setting
    )
    firsts = {key: records[0] for key, records in found.items()}
    others: dict[int, str] = {}
    for alike in gathered(firsts.values(), lambda r: (r.task, r.at("run.dataset.name"))).values():
        others |= variations(alike, ("task", "backend", *SHOWN))
    rows = []
    for key, name in record_set.settings.items():
        first = firsts[key]
        rows.append(
            {
                "setting": name,
                "dataset": first.at("run.dataset.name"),
                "question": first.at("run.question"),
                "yes": ", ".join(map(str, first.at("run.positive") or ())),
                "image size (px)": first.at("run.model.image_size"),
                "precision": first.precision,
                "steps": first.at("run.training.steps"),
                "batch": first.at("run.training.batch_size"),
                "besides": others[first.number],
                "records": ranges(record.number for record in found[key]),
            }
        )
    return rows


def versions(where: dict) -> str:
    """The versions of frameworks in `where`, those of VERSIONS only."""
    inner = where.get("versions") if isinstance(where.get("versions"), dict) else where
    return ", ".join(f"{name} {inner[name]}" for name in VERSIONS if inner.get(name))


def provenance(record_set: RecordSet, made: Iterable[Section]) -> Section:
    """Where every table and figure of the sections `made` came from: records, files, their commands and commits."""
    by_number = {record.number: record for record in record_set.records}
    contents = {name: read for path in FILES for name, read in files(record_set, path).items()}
    rows = [
        _origin(section, block, by_number, contents)
        for section in made
        for block in section.blocks
        if block.kind != "prose"
    ]
    numbers = [record.number for record in record_set.records]
    words = prose(
        "Below each table and figure stand the numbers of the records it was made from. "
        "Folders are below the folder of records; the run.json in each holds its whole "
        "configuration. A command that its record does not hold is put "
        "together from the configuration's main keys.",
    )
    of_blocks = table("Tables and figures", rows, numbers, code=("command",))
    blocks = [words, of_blocks, *_files(contents), _records(record_set)]
    return Section("Where it came from", tuple(blocks))


def _origin(section: Section, block, by_number: dict[int, Record], contents: dict) -> dict:
    records = [by_number[number] for number in block.records]
    inside = [commit for name in block.files for commit in commits(contents.get(name))]
    first = [command(records[0])] if records else [maker(name) for name in block.files[:1]]
    more = max(len(records), len(block.files)) - 1
    return {
        "section": section.title,
        "kind": block.kind,
        "what": block.caption,
        "records": ranges(block.records),
        "files": ", ".join(block.files),
        "commits": ", ".join(dict.fromkeys([*(r.text("host.commit") for r in records), *inside])),
        "command": "".join(first),
        "more commands": more if more > 0 else None,
    }


def commits(value: Any) -> list[str]:
    """Every commit that is named somewhere in `value`, nested plain data."""
    if isinstance(value, list):
        return list(dict.fromkeys(found for inner in value for found in commits(inner)))
    if not isinstance(value, dict):
        return []
    here = [value["commit"]] if isinstance(value.get("commit"), str) else []
    return list(dict.fromkeys([*here, *commits(list(value.values()))]))


def maker(name: str) -> str:
    """The command that writes a file called `name`."""
    return FILES.get(name.rpartition("/")[2], NOTHING)


def _files(contents: dict) -> list[Table]:
    rows = [
        {"file": name, "command": maker(name), "commits": ", ".join(commits(read)) or NOTHING}
        for name, read in contents.items()
    ]
    made = table("Files beside the records", rows, [], code=("file", "command"))
    return [from_files(made, *contents)] if rows else []


def _records(record_set: RecordSet) -> Table:
    rows = [
        {
            "record": record.number,
            "folder": record.place,
            "command": command(record),
            "commit": record.at("host.commit"),
            "started": record.at("started"),
        }
        for record in record_set.records
    ]
    numbers = [record.number for record in record_set.records]
    made = table("Records", rows, numbers, code=("folder", "command"))
    return replace(made, anchored="record")
