"""What a run was made of, kept in its record, so that the same command later finds out whether that has changed.

Of every file that a run's keys name, a digest of names, sizes and times of change is kept, and the SHA-256 of their
bytes. Only where the first differs is the second asked. Images are many: of those the store keeps each one's SHA-256.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared.run.config import uses
from shared.run.records import read_json
from shared.run.spec import WEIGHT_FILES, digest

IMAGES = "dataset.images"
READ = {  # of a folder, where a key names one
    "weights": WEIGHT_FILES[:1],
    "model.encoder": WEIGHT_FILES,
    "run": ("posterior.parquet",),
    "posterior.calibration": ("recalibration.json",),
}
NAMED = 3  # images named in a message


def inputs(config: dict) -> dict[str, dict]:
    """What the record of a run of `config` keeps of each key that names files: where, how they look, what they hold."""
    return {
        key: {"where": where, "look": look(files), "sha256": None if key == IMAGES else sums(files)}
        for key, where in places(config)
        if (files := listed(key, where))
    }


def store_inputs(results: dict) -> dict[str, dict]:
    """What a record keeps of the store that its `results` name: its folder, and its checksums of votes and pixels."""
    if results.get("store") is None:
        return {}
    manifest = Path(results["store"]) / "store.json"
    sums = read_json(manifest, {"sha256": {str: str}}, "prepare it anew")["sha256"]
    return {"store": {"where": results["store"], "sha256": sums}}


def changed_since(record: dict, config: dict) -> list[str]:
    """What of the files behind a finished run has changed since its `record` was written; quick where nothing has.

    `config` is that of the same command given again. Files that are not there any more are passed over: without them
    nothing could be made anew. A record of a version that kept no inputs tells nothing.
    """
    held, changed = record.get("inputs") or {}, []
    for key, where in places(config):
        before, files = held.get(key), listed(key, where)
        if before is None or not files or look(files) == before.get("look"):
            continue
        if key == IMAGES:
            changed += [f"{key} ({where}): {what}" for what in changed_images(record, config)]
        elif sums(files) != before.get("sha256"):
            changed.append(f"{key} ({where})")
    return changed


def places(config: dict) -> Iterator[tuple[str, str]]:
    """Every key of `config` that names files on this machine and that its task reads, and what it names."""
    task, dataset = config["task"]["name"], config["dataset"]
    named: dict[str, Any] = {
        "weights": config["weights"],
        "model.encoder": config["model"].get("encoder"),
        "run": config["run"],
        "posterior.calibration": config["posterior"].get("calibration"),
        "dataset.table": dataset["table"],
        **{f"dataset.joins.{name}.table": join["table"] for name, join in dataset["joins"].items()},
        IMAGES: dataset["images"],
        "acquisition.target": config["acquisition"]["target"],
        "conform.kit": config["conform"]["kit"],
        "conform.answers": config["conform"]["answers"],
    }
    for key, where in named.items():
        if (
            where is not None
            and uses(task, key)
            and not where.startswith(("http:", "https:", "hub:"))
        ):
            if key in READ and (folder := Path(where)).is_dir():
                names = [name for name in READ[key] if (folder / name).exists()] or READ[key]
                where = str(folder / names[0])
            yield key, where


def listed(key: str, where: str) -> dict[str, os.stat_result]:
    """The files that `where`, the value of `key`, means: a file, those in a folder, or what a pattern (*) matches."""
    path = Path(where)
    if path.is_dir() and key == IMAGES:
        from shared.data.sources.folder import list_images

        try:
            return list_images(path)
        except ValueError:  # there is none
            return {}
    if path.is_dir():
        found = path.rglob("*")
    elif path.is_file():
        found = [path]
    else:
        found = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
    return {str(file): file.stat() for file in sorted(found) if file.is_file()}


def look(files: dict[str, os.stat_result]) -> str:
    """A digest of the names, sizes and times of change of `files`."""
    return digest([[name, stat.st_size, stat.st_mtime_ns] for name, stat in files.items()], 64)


def sums(files: dict[str, os.stat_result]) -> str:
    """A digest of the names and the bytes of `files`."""
    found = hashlib.sha256()
    for name in files:
        with Path(name).open("rb") as file:
            inner = hashlib.file_digest(file, "sha256").hexdigest()
        found.update(json.dumps([Path(name).name, inner]).encode())
    return found.hexdigest()


def changed_images(record: dict, config: dict) -> list[str]:
    """How the images of `config` differ from those in the store that `record` names, by their bytes."""
    from shared.data.sources.opening import open_source
    from shared.data.store import open_store
    from shared.run.spec import DatasetSpec, from_config

    dataset = from_config(DatasetSpec, config["dataset"])
    try:
        store = open_store(record["results"]["store"])
        source = open_source(dataset)
        wanted = dict(zip(store.galaxies["image"], store.galaxies["image_sha256"], strict=True))
        names, before = source.names(), store.source["source"]["images"]
    except (ValueError, OSError, KeyError):  # the store is gone, or tells less
        return ["other sizes or times of change"]
    if store.source["skipped"] or (dataset.table is None and source.table() is not None):
        return ["other sizes or times of change"]  # of images left out, or of votes beside images
    if len(names) != before:
        return [f"{len(names)} images, not {before}"]
    other, there = sorted(wanted.keys() - set(names)), sorted(wanted.keys() & set(names))
    for number, load in source.load(there):
        if hashlib.sha256(load()).hexdigest() != wanted[there[number]]:
            other.append(there[number])
    more = f" and {len(other) - NAMED} more" if len(other) > NAMED else ""
    return [f"{', '.join(sorted(other)[:NAMED])}{more}"] if other else []
