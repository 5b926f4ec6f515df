"""Our own files, damaged by four hundred hands: each is read, or refused in words, never with a trace.

Every file of JSON that one run writes and another reads has other keys, other types, numbers that are none, or no JSON
at all. All are read by one child process at the doors where users meet them; the draws are fixed.
"""

import copy
import io
import json
import random
import shutil
import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from fuzzing import MEMORY, child, tried, unclear

PER_FILE = 40  # damaged ones of each
DEEP = 100_000  # brackets in brackets
PHOTOS = ("dataset=folder", "dataset.images=photos", "dataset.table=votes.csv")


class Own(NamedTuple):
    """A file of ours that a later run reads."""

    name: str
    text: bytes  # whole
    put: Callable[[bytes], object]  # where it is read
    read: Callable[[], object]


# What damages JSON


NOT_JSON = (
    b"",
    b"{",
    b"\xff\xfe\x00",
    b"[" * DEEP,
    b'{"a":' * DEEP,
    b"9" * 5000,
    b"null",
    b"[]",
    b"{}",
    b"3",
    b'"text"',
    b"true",
    b"NaN",
    b"\0" * 4096,  # what a power cut leaves of a file
)
STRANGE = (
    None,
    True,
    -1,
    0,
    2**70,
    1e308,
    float("nan"),
    float("inf"),
    0.5,
    "",
    "x" * 5000,
    "../../up",
    "\udcff",
    [],
    {},
    [None],
    [[[[1]]]],
    {"a": {"b": {}}},
)


def damaged(text: bytes, draw: random.Random) -> tuple[str, bytes]:
    """`text` with one place of it changed, and what that is called."""
    how = draw.choice(("cut", "flip", "remove", "replace", "replace", "replace", "wrap", "add"))
    if how == "cut":
        return how, text[: draw.randrange(len(text))]
    if how == "flip":
        data, place = bytearray(text), draw.randrange(len(text))
        data[place] ^= 1 << draw.randrange(8)
        return f"flip {place}", bytes(data)
    whole = {"": json.loads(text)}
    holder, key = draw.choice(list(places(whole)))
    name = f"{how} {key}"
    if how == "remove":
        del holder[key]
        return name, json.dumps(whole.get("")).encode()
    if how == "wrap":
        holder[key] = draw.choice(([holder[key]], {"a": holder[key]}, [holder[key]] * 3))
    elif how == "add" and isinstance(holder[key], dict | list):
        extra = draw.choice(STRANGE)
        holder[key] = (
            {**holder[key], "one more": extra}
            if isinstance(holder[key], dict)
            else [*holder[key], extra]
        )
    else:
        holder[key] = copy.deepcopy(draw.choice(STRANGE))
        name += f" by {str(holder[key])[:20]!a}"
    return name, json.dumps(whole[""]).encode()


def places(inside) -> Iterator[tuple]:
    """Every (holder, key) in nested plain data."""
    for key in list(inside) if isinstance(inside, dict) else range(min(len(inside), 3)):
        yield inside, key
        if isinstance(inside[key], dict | list):
            yield from places(inside[key])


def cases(own: list[Own]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each file as it is, then each as it must not be."""

    def case(one: Own, text: bytes) -> None:
        one.put(text)
        one.read()

    for one in own:
        yield f"{one.name}: whole", partial(case, one, one.text)
    for one in own:
        for text in NOT_JSON:
            yield f"{one.name}: is {text[:20]!a}", partial(case, one, text)
        for number in range(PER_FILE - len(NOT_JSON)):
            how, text = damaged(one.text, random.Random(f"{one.name} {number}"))
            yield f"{one.name}: {number} {how}", partial(case, one, text)
        one.put(one.text)


# The files, and who reads them


def written(path: Path) -> Callable[[bytes], object]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.write_bytes


def one_line(call: Callable[[], int]) -> None:
    """`call` a command that says in one line what is wrong; what it says becomes a ValueError, as it was."""
    errors, quiet = io.StringIO(), io.StringIO()
    with redirect_stderr(errors), redirect_stdout(quiet):
        status = call()
    lines = errors.getvalue().splitlines()
    if status:
        assert [status, len(lines)] == [2, 1], lines
        raise ValueError(lines[0])


def of_runs(folder: Path) -> Iterator[Own]:
    """run.json, which the run itself, a run in the same folder and every run with its weights read."""
    import trizoo

    trizoo.TASKS.update({name: task._replace(module="stub") for name, task in trizoo.TASKS.items()})
    stub = types.ModuleType("stub")
    stub.fit = lambda run, folder: {"where": {}, "results": {}}
    sys.modules["stub"] = stub
    config = trizoo.compose(["task=fit", *PHOTOS])
    text = json.dumps(config).encode()
    run, trained = folder / "run", folder / "trained"
    put = written(run / "run.json")

    def begin() -> int:
        (run / "record.json").unlink(missing_ok=True)
        return trizoo.run_here(run, "trizoo fit")

    yield Own("run.json of a run", text, put, partial(one_line, begin))
    yield Own("run.json in a folder", text, put, partial(trizoo.write_config, run, config))
    (put := written(trained / "run.json"))(text)
    (trained / "weights.safetensors").touch()
    for task in ("predict", "calibrate", "export"):
        given = trizoo.compose([f"task={task}", f"weights={trained}"])
        read = partial(trizoo.with_fit, given, [f"task={task}", f"weights={trained}"])
        yield Own(f"run.json for {task}", text, put, read)


def of_records(folder: Path) -> Iterator[Own]:
    """record.json, of which the report is made."""
    import test_report as of

    from reports.report import usable
    from reports.runs import find_runs, index

    for name, record in (
        ("fit", of.fit("jax")),
        ("active", of.record("jax", 0, "active", rounds=[{"labelled": 4, "test": of.METRICS}])),
        ("bench", of.record("jax", 0, "bench", training={"images_per_second": [1.0, 2.0]})),
    ):
        place = folder / "records" / name
        of.keep(place / "right", of.fit("torch"))
        put = written(place / "other" / "record.json")
        read = partial(lambda place: usable(index(*find_runs(place))), place)
        yield Own(f"record.json of {name}", json.dumps(record).encode(), put, read)


def of_stores(folder: Path) -> Iterator[Own]:
    """store.json, the journal of a store in the making and the list of downloads."""
    import test_report as of

    import trizoo
    from shared.data.prepare import PARTIAL, prepare
    from shared.data.sources.downloads import (
        MANIFEST,
        MISSING,
        file_name,
        kept_images,
        read_lines,
        stem,
    )
    from shared.data.store import verify
    from shared.data.store_writer import JOURNAL
    from shared.run.spec import RunSpec, from_config

    store = of.store(folder / "a store", 4)
    path = store / "store.json"
    yield Own("store.json", path.read_bytes(), path.write_bytes, partial(verify, store))

    words = ["dataset.galaxies=4", f"dataset.stores={folder / 'drawn'}"]
    dataset = from_config(RunSpec, trizoo.compose(words)).dataset
    made = prepare(dataset).folder
    beside = made.with_name(f".{made.name}{PARTIAL}")
    sums = prepare(dataset).galaxies["pixels_crc32"].tolist()
    line = json.dumps({"row": 1, "pixels_crc32": sums[1]}).encode()

    def begun(text: bytes) -> None:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        shutil.copy(whole / "images-00000.npy", beside)
        more = json.dumps({"row": 0, "pixels_crc32": sums[0]}).encode()
        (beside / JOURNAL).write_bytes(
            more + b"\n" + text + b"\n" + more.replace(b"0", b"2", 1) + b"\n"
        )

    def go_on() -> None:
        shutil.rmtree(made, ignore_errors=True)
        opened = prepare(dataset)
        verify(opened.folder)
        assert (made / "images-00000.npy").read_bytes() == (whole / "images-00000.npy").read_bytes()

    whole = folder / "drawn before"
    made.rename(whole)
    yield Own("journal.jsonl", line, begun, go_on)

    downloads = folder / "downloads"
    names = [file_name(stem(address), ".jpg") for address in ("a", "b")]
    for name in names:
        written(downloads / name)(b"image")
    lines = [
        json.dumps({"file": name, "sha256": "0" * 64, "address": "a"}).encode() for name in names
    ]

    def put(path: Path, text: bytes) -> None:
        path.write_bytes(lines[0] + b"\n" + text + b"\n" + lines[0] + b"\n")

    yield Own(
        "manifest.jsonl",
        lines[1],
        partial(put, downloads / MANIFEST),
        lambda: kept_images(downloads)[stem("a")],
    )
    yield Own(
        "missing.jsonl",
        lines[1],
        partial(put, downloads / MISSING),
        lambda: [line["address"] for line in read_lines(downloads / MISSING, {"address": str})],
    )


def of_checkpoints(folder: Path) -> Iterator[Own]:
    """The facts in a checkpoint, of a fit and of active learning."""
    import test_active
    import test_training
    from fake import Fake
    from safetensors import safe_open
    from safetensors.numpy import save_file

    from shared.method.training import CHECKPOINT

    for name, play in (
        ("fit", lambda place: test_training.trained(place, Fake(), "training.checkpoint_every=6")),
        ("active", lambda place: test_active.played(place)),
    ):
        place = folder / f"{name} of a fake"
        place.mkdir()
        play(place)
        with safe_open(place / CHECKPOINT, "numpy") as file:
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            facts = file.metadata()["about"].encode()

        def put(text: bytes, path=place / CHECKPOINT, arrays=arrays) -> None:
            save_file(arrays, path, {"about": text.decode(errors="replace")})

        yield Own(f"checkpoint of {name}", facts, put, partial(play, place))


def of_volunteers(folder: Path) -> Iterator[Own]:
    """uploaded.json: what of an ask is on Zooniverse."""
    from shared.output.subject_sets import UPLOADED, upload

    asked = folder / "ask-00"
    note = {"project": 7, "subject_set": "12", "subjects": {"g1": "5"}, "whole": True}
    put = written(asked / UPLOADED)
    (asked / "manifest.csv").write_text("image,!galaxy\nimages/0.jpg,g1\n")
    yield Own("uploaded.json", json.dumps(note).encode(), put, partial(upload, asked, 7))


def of_kits(folder: Path) -> Iterator[Own]:
    """index.json: what a conformance kit holds."""
    from safetensors.numpy import save_file

    from shared.proof.kit.checking import check_kit
    from shared.proof.kit.checks import CHECKS
    from shared.proof.kit.writing import FORMAT

    kit, answers = folder / "kit", folder / "answers"
    put = written(kit / "index.json")
    answers.mkdir()
    array = {"dtype": "float64", "shape": [2], "axes": "", "what": "", "rule": "largest"}
    array["tolerance"] = {"float64": 1e-12, "float32": 1e-5}
    checks = {name: {"file": f"{name}.safetensors", "arrays": {"a": array}} for name in CHECKS}
    for name in CHECKS:
        for place in (kit, answers):
            save_file({"a": np.ones(2)}, place / f"{name}.safetensors")
    text = json.dumps({"format": FORMAT, "checks": checks}).encode()
    yield Own("index.json", text, put, partial(check_kit, kit, answers))


def work(folder: Path) -> None:
    """Damage and read every file of ours, in `folder`."""
    own = []
    for some in (of_records, of_stores, of_checkpoints, of_volunteers, of_kits, of_runs):
        own += some(folder)
    tried(cases(own))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """What became of each case."""
    return child(__file__, tmp_path_factory.mktemp("fuzz"))


def test_our_own_files_are_read_or_refused_in_words(done):
    assert len(done) > 400
    assert unclear(done) == []


def test_whole_files_are_read_and_most_damage_is_noticed(done):
    whole = [case for case in done if case["case"].endswith(": whole")]
    assert [case for case in whole if case["outcome"] != "read"] == []
    outcomes = Counter(case["outcome"] for case in done)
    assert outcomes["ValueError"] > 200


def test_no_damaged_file_takes_much_memory(done):
    assert [case for case in done if case["memory"] > MEMORY] == []


if __name__ == "__main__":
    work(Path(sys.argv[1]))
