"""How fast a dataset's images become a store, against what only decoding them costs.

    python -m benchmarks.stores record=stores.json rounds=5 dataset=sdss_gz1

`record` is the file for the JSON, `rounds` how often each is timed; all other words are those of `trizoo`. Three
ways over the same files, on the same cores, with as many threads: Pillow decodes them, and no more (the floor); Pillow
decodes them, numpy takes the mean of the colours and Pillow reduces it (what a few plain lines would do); and
`prepare`, which also reads the table, hashes, checks, writes and commits.
"""

import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from conf.compose import compose
from shared.data import prepare
from shared.data.catalogue import read_catalogue
from shared.data.cutouts import SIZE
from shared.data.sources.opening import open_source
from shared.run.launch import ALLOCATOR, ROOT
from shared.run.progress import in_order
from shared.run.records import host, write_json
from shared.run.spec import DatasetSpec, from_config, to_config

PEAK = """
import json, sys
from pathlib import Path
from shared.data.prepare import prepare
from shared.run.spec import DatasetSpec, from_config
def most():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
begun = most()
prepare(from_config(DatasetSpec, json.loads(sys.argv[1])))
print(begun, most())
"""


def main(words: list[str]) -> int:
    """Time the three ways for the dataset that `words` spell out and print what was found."""
    if not ALLOCATOR.items() <= os.environ.items():  # as `trizoo` does it for its runs
        command = [sys.executable, "-m", "benchmarks.stores", *words]
        return subprocess.call(command, env={**os.environ, **ALLOCATOR})
    given = dict(word.split("=", 1) for word in words)
    record, rounds = given.pop("record", None), int(given.pop("rounds", 5))
    overrides = [f"{key}={value}" for key, value in given.items()]
    dataset = from_config(DatasetSpec, compose(overrides)["dataset"])
    found = measure(dataset, rounds)
    if record:
        write_json(Path(record), found)
    print(json.dumps(found, indent=1))
    return 0


def measure(dataset: DatasetSpec, rounds: int) -> dict:
    """Seconds of the three ways over `dataset`, each `rounds` times in turn, and what a store of it takes."""
    source = open_source(dataset)
    names = [name for name in source.find(read_catalogue(dataset)) if name is not None]
    seconds = {"decode": [], "decode_and_reduce": [], "prepare": []}
    with tempfile.TemporaryDirectory() as place:
        for number in range(rounds):
            stores = replace(dataset, stores=str(Path(place, str(number))))
            for way, work in {
                "decode": lambda: run(source, names, decode),
                "decode_and_reduce": lambda: run(source, names, decode_and_reduce),
                "prepare": lambda stores=stores: prepare.prepare(stores),
            }.items():
                begun = time.perf_counter()
                work()
                seconds[way].append(time.perf_counter() - begun)
        size = sum(path.stat().st_size for path in Path(place, "0").rglob("*") if path.is_file())
        before, peak = peak_memory(replace(dataset, stores=str(Path(place, "apart"))))
    medians = {way: statistics.median(spent) for way, spent in seconds.items()}
    ratios = {
        way: statistics.median(
            ours / other for ours, other in zip(seconds["prepare"], seconds[way], strict=True)
        )
        for way in ("decode", "decode_and_reduce")
    }
    return {
        "dataset": to_config(dataset),
        "images": len(names),
        "seconds": seconds,
        "images_per_second": {way: len(names) / spent for way, spent in medians.items()},
        "prepare_against": ratios,
        "store_bytes": size,
        "imported_memory_bytes": before,
        "peak_memory_bytes": peak,
        "host": host(),
    }


def run(source, names: list[str], work) -> None:
    """Do `work` on each image's bytes, from threads."""
    for _ in in_order(lambda loaded: work(loaded[1]()), source.load(names)):
        pass


def decode(data: bytes) -> None:
    """The floor."""
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()


def decode_and_reduce(data: bytes) -> np.ndarray:
    """What a store holds, in the plainest way; square images only."""
    with Image.open(io.BytesIO(data)) as picture:
        grey = np.asarray(picture.convert("RGB")).mean(2, dtype=np.float32)
    small = Image.fromarray(grey).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    return np.clip(np.rint(np.asarray(small)), 0, 255).astype(np.uint8)


def peak_memory(dataset: DatasetSpec) -> tuple[int, int]:
    """The most bytes of memory that a process of its own held before and after it prepared `dataset` (Linux)."""
    words = [sys.executable, "-c", PEAK, json.dumps(to_config(dataset))]
    child = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True)
    before, after = child.stdout.split()
    return int(before), int(after)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
