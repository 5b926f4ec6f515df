"""`trizoo inspect`: what images and a table hold, as they are understood, and the command to go on with."""

import copy
import io
import os
import shlex
from collections.abc import Mapping
from contextlib import redirect_stderr
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from shared.data import cutouts
from shared.data.classes import MOST_CLASSES, classes_of, quoted
from shared.data.columns import has_votes, usual_places
from shared.data.ids import NOTHING
from shared.data.rows import PLACEHOLDERS, as_numbers, few_of
from shared.data.sources.images import Source
from shared.data.sources.opening import open_source
from shared.data.tables import Table, as_text, open_table, reading
from shared.method.rates import rates
from shared.run.config import put
from shared.run.launch import bind_cores, settings
from shared.run.progress import span
from shared.run.spec import DatasetSpec, RunSpec, from_config

NONE = "none"  # what conf/task/inspect.yaml calls images that nobody has named
SHOWN = 30  # columns that are described
LOOKED_AT = 24  # images that are read
FEW = 3  # names in a line
SHARES = ("_fraction", "_frac", "_share")
USUAL_IDS = (
    "id",
    "iauname",
    "objid",
    "object_id",
    "dr7objid",
    "specobjid",
    "name",
    "galaxy",
    "galaxy_id",
)
TOTALS = ("total", "total-votes", "votes", "count", "n")


class Seen(NamedTuple):
    """A column of the table."""

    name: str
    texts: pa.ChunkedArray
    numbers: np.ndarray | None  # None: it is text
    about: str  # in words


def inspect(config: Mapping) -> str:
    """What is told of the images and the table of `config`, the settings of a fit; nothing is written."""
    config = copy.deepcopy(dict(config))
    if config["dataset"]["images"] is None:
        put(config, "dataset.images", NONE)
    spec = from_config(DatasetSpec, config["dataset"])
    lines: list[str] = []
    words: dict[str, str] = {}  # what the command needs to name, by key
    source, names = _images(spec, lines)
    if spec.images != NONE:
        words["images"] = spec.images
    voted = False
    if spec.table is not None:
        words["table"] = spec.table
        if spec.table_hdu is not None:
            words["dataset.table_hdu"] = spec.table_hdu
        voted = _table(config, spec, source, names, lines, words)
    elif source is not None:
        lines.append("no table: ids are the names of the images, and there are no votes")
    _advise(config, words, voted, lines, len(names))
    return "\n".join(lines) + "\n"


def _images(spec: DatasetSpec, lines: list[str]) -> tuple[Source | None, list[str]]:
    if spec.images == NONE:
        lines.append("no images: name a folder, or a zip, tar or Parquet file of them: images=...")
        return None, []
    source = open_source(spec)
    try:
        names = source.names()
    except ValueError:
        lines.append(f"images {spec.images}: a service, asked for each galaxy of the table")
        return source, []
    kinds = pd.Series([PurePosixPath(name).suffix.lower() for name in names]).value_counts()
    told = ", ".join(f"{count:,} {kind or 'without an ending'}" for kind, count in kinds.items())
    lines.append(f"images {spec.images}: {len(names):,} ({told})")
    chosen = [names[i] for i in np.unique(np.linspace(0, len(names) - 1, LOOKED_AT).astype(int))]
    bad = []
    for number, load in source.load(chosen):
        try:
            cutouts.cutout(load(), spec.channels, spec.stretch, spec.hdu)
        except (ValueError, FileNotFoundError) as problem:
            bad.append(f"  {chosen[number]}: {problem}")
    lines.append(f"  {len(chosen)} were read, {len(bad)} cannot be used" + ":" * bool(bad))
    lines += bad[:FEW]
    return source, names


def _table(config, spec: DatasetSpec, source, names: list[str], lines, words) -> bool:
    """Describe the table and what is missing; gives whether it has votes or classes that can be learned."""
    table = open_table(spec.table, "dataset.table", spec.table_hdu)
    columns = _columns(table)
    rows = len(columns[0].texts) if columns else 0
    lines.append(f"table {spec.table}: {table.kind}; {rows:,} rows, {len(table.names)} columns")
    lines += [f"  {one.name:24} {one.about}" for one in columns]
    if len(table.names) > SHOWN:
        lines.append(f"  ... and {len(table.names) - SHOWN} more")
    _identify(config, spec, columns, source, names, lines, words)
    if spec.columns.ra is None and (places := usual_places(table.names)):
        for key, name in places.items():
            words[f"dataset.columns.{key}"] = name
        lines.append(f"places: {' and '.join(places.values())}")
    return _votes(config, spec, table, columns, lines, words)


def _columns(table: Table) -> list[Seen]:
    found = []
    for name in dict.fromkeys(table.names[:SHOWN]):
        try:
            with reading(table.path):
                values = table.read([name], [])[name]
            texts = as_text(values)
            found.append(Seen(name, texts, *_described(texts, table.units.get(name))))
        except ValueError as problem:
            found.append(Seen(name, pa.chunked_array([[]], pa.string()), None, str(problem)))
    return found


def _described(texts: pa.ChunkedArray, unit: str | None) -> tuple[np.ndarray | None, str]:
    """The numbers in a column, None for one of text, and what it holds in words."""
    none = pc.match_substring_regex(texts, NOTHING, ignore_case=True)
    negative = pc.match_substring_regex(texts, r"^-[\d.]+$")
    none = pc.and_(none, pc.invert(negative))  # a number may be below 0
    empty = pc.or_(pc.equal(texts, ""), none)
    held = texts.filter(pc.invert(empty))
    numbers = as_numbers(held)
    missing = f", {len(texts) - len(held):,} empty" if len(held) < len(texts) else ""
    if not len(held):
        return None, "empty"
    of = f" {unit}" if unit else ""
    if np.isfinite(numbers).all():
        below, odd = np.unique(numbers[numbers < 0], return_counts=True), ""
        if len(below[0]) == 1 and f"{below[0][0]:g}" in PLACEHOLDERS:
            odd = f", {below[0][0]:g} in {below[1][0]:,} (missing?)"
        kind = "whole numbers" if (numbers == np.floor(numbers)).all() else "numbers"
        return numbers, f"{kind} from {numbers.min():g} to {numbers.max():g}{of}{odd}{missing}"
    different = pc.unique(held)
    shown = few_of(different.slice(0, FEW).to_pylist())
    return None, f"text, {len(different):,} different: {shown}{missing}"


def _identify(config, spec, columns: list[Seen], source, names, lines, words) -> None:
    """Find the column of ids, and how many images its galaxies have."""
    stems = {PurePosixPath(name).name.rpartition(".")[0] or name for name in names} | {*names}
    stems |= {PurePosixPath(name).name for name in names}
    share = {
        one.name: sum(text in stems for text in pc.unique(one.texts).to_pylist()) for one in columns
    }
    called = next((one for one in spec.columns.id.split("|") if one in share), None)
    usual = [one for one in share if one.lower() in USUAL_IDS]
    best = max(share, key=share.__getitem__, default=None)
    ids, file = called or (usual or [best])[0], spec.columns.file
    if ids != spec.columns.id and ids is not None:
        words["dataset.columns.id"] = ids
    if ids and best and file is None and share[best] > share.get(ids, 0):
        file = best
    if file is not None:
        words["dataset.columns.file"] = file
    for key, value in (("id", ids), ("file", file)):
        put(config, f"dataset.columns.{key}", value)
    if ids is None:
        lines.append("no column of ids is recognised: name it in dataset.columns.id")
        return
    by_name = {one.name: one.texts for one in columns}
    if not names or ids not in by_name:
        return
    wanted = by_name.get(file or ids, by_name[ids])
    galaxies = pd.DataFrame({"id": by_name[ids].to_pylist(), "file": wanted.to_pylist()})
    galaxies[["ra", "dec"]] = np.nan
    found = source.find(galaxies)
    missing = [name for name, image in zip(galaxies["file"], found, strict=True) if image is None]
    lines.append(
        f"matches, by {file or ids}: {len(found) - len(missing):,} of {len(found):,} rows have an image; "
        f"{len(names) - len({*found} - {None}):,} of {len(names):,} images belong to no row"
    )
    put(config, "dataset.galaxies", max(1, len(found) - len(missing)))
    if missing:
        lines.append(f"  no image for {few_of(missing[:FEW])}")
        words["dataset.skip_bad_images"] = "true"


def _votes(config, spec: DatasetSpec, table: Table, columns: list[Seen], lines, words) -> bool:
    """Say what can be learned from the table: its votes, shares of votes or classes; else propose what may be."""
    if spec.columns.label is not None and spec.classes is None:
        try:
            column, classes = classes_of(config["dataset"])
        except ValueError as problem:
            lines.append(f"classes: {problem}")
            return False
        lines.append(f"classes: {column}, {len(classes)} of them: {few_of(list(classes))}")
        words["label"] = column
        return True
    if has_votes(spec):
        for question, answers in spec.questions.items():
            lines.append(f"votes: {question} ({', '.join(answers)})")
        return True
    if proposed := _counted(columns, words):
        lines.append(proposed)
        return True
    labels = [one for one in columns if _is_label(one)]
    if labels:
        lines.append(f"classes: {', '.join(one.name for one in labels)} may hold some")
        words["label"] = labels[0].name
        return True
    lines.append("votes: none are recognised, so the table serves predict alone")
    return False


def _is_label(one: Seen) -> bool:
    values = pc.unique(one.texts.filter(pc.not_equal(one.texts, ""))).to_pylist()
    few = 2 <= len(values) <= MOST_CLASSES and len(values) < len(one.texts)
    whole = one.numbers is None or (
        len(values) <= 10 and (one.numbers == np.floor(one.numbers)).all()
    )
    return few and whole


def _counted(columns: list[Seen], words: dict) -> str:
    """Add the words for the first group of columns QUESTION_ANSWER of counts or shares; "" where there is none."""
    for endings in (("",), SHARES):
        groups: dict[tuple[str, str], list[str]] = {}
        for one in columns:
            if one.numbers is None or one.numbers.min() < 0:
                continue
            ending = next((end for end in endings if one.name.endswith(end)), None)
            if ending is None:
                continue
            question, _, answer = one.name.removesuffix(ending).rpartition("_")
            fits = (
                one.numbers.max() <= 1 if ending else (one.numbers == np.floor(one.numbers)).all()
            )
            if question and fits and answer not in TOTALS:
                groups.setdefault((question, ending), []).append(answer)
        for (question, ending), answers in groups.items():
            if len(answers) < 2:
                continue
            words["~dataset.questions.smooth-or-featured"] = ""
            words[f"+dataset.questions.{question}"] = f"[{','.join(map(quoted, answers))}]"
            words["question"], words["positive"] = question, f"[{quoted(answers[0])}]"
            if ending:
                words["dataset.columns.fraction"] = "{question}_{answer}" + ending
            kind = "shares of votes" if ending else "votes"
            return f"{kind}: {question} ({', '.join(answers)}) may be a question"
    return ""


def _advise(config: dict, words: dict, voted: bool, lines: list[str], images: int) -> None:
    """The command to go on with, and how long that takes here."""
    task = "fit" if voted else "predict"
    if not words:
        return
    start = [] if voted else ["weights=outputs/fit/NAME"]
    command = ["trizoo", task, *start, f"backend={config['backend']['name']}"]
    command += [key + "=" * bool(value) + value for key, value in words.items()]
    lines += ["", "go on with", f"  {' '.join(map(shlex.quote, command))}"]
    galaxies = config["dataset"]["galaxies"] or images
    if not galaxies:
        return
    try:
        lines.append(_time(config, galaxies, voted))
    except (ValueError, ImportError) as problem:
        lines.append(f"how long that takes cannot be told: {problem}")


def _time(config: dict, galaxies: int, voted: bool) -> str:
    config = copy.deepcopy(config)
    config["task"]["name"] = "fit"
    for key in ("images", "table"):
        put(config, f"dataset.{key}", None)
    put(config, "dataset.galaxies", galaxies)
    os.environ.update(
        settings(config["backend"])
    )  # as a run has them, before its framework is imported
    bind_cores(config["backend"])
    with redirect_stderr(io.StringIO()):
        found = rates(from_config(RunSpec, config), galaxies)
    told = f"reading {span(galaxies / found.reading)}, predicting {span(galaxies / found.sampling)}"
    whole = galaxies / found.reading + galaxies / found.sampling
    if voted:
        told += f", training {span(found.steps / found.training)} ({found.steps:,} steps)"
        whole += found.steps / found.training
    return f"  about {span(whole)} on this machine, an estimate from a few steps: {told}"
