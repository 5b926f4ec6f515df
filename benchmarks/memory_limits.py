"""Peak memory measured against asked for, and whether the result stays the same: `python -m benchmarks.memory_limits`.

Each line is a `trizoo fit` of its own, of W+20's network on batches of 256 galaxies of 128 pixels; it writes the record
that docs cite. An hour on two cores.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

from shared.run.records import host, read_record, write_json
from shared.run.spec import BACKENDS

RECORD = Path(__file__).parent.parent / "reports" / "records" / "memory" / "memory.json"
ASKED = ("null", "512MB", "1GB", "2GB")
WORDS = (
    "dataset=synthetic",
    "dataset.galaxies=400",
    "model.image_size=128",
    "training.batch_size=256",
    "training.steps=2",
    "posterior.galaxies=test",
    "posterior.samples=5",
)


def line(backend: str, asked: str, outputs: Path) -> dict:
    """What one fit took and gave; the reason, where it was refused."""
    folder = outputs / f"{backend}-{asked}"
    words = ["fit", f"backend={backend}", f"backend.memory={asked}", f"folder={folder}", *WORDS]
    command = [sys.executable, "trizoo.py", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    row = {"backend": backend, "asked": asked}
    if done.returncode:
        return row | {"refused": done.stderr.strip().splitlines()[-1]}
    results = read_record(folder)["results"]
    weights = hashlib.sha256((folder / "weights.safetensors").read_bytes())
    seconds = {"seconds": results["train_seconds"], "weights": weights.hexdigest()[:16]}
    return row | results["memory"] | seconds


def main(outputs: str = "outputs/memory_limits") -> None:
    """Do every line, one after the other, and keep what came out after each."""
    rows: list[dict] = []
    for backend in BACKENDS:
        for asked in ASKED:
            rows.append(line(backend, asked, Path(outputs)))
            print(json.dumps(rows[-1]), flush=True)
            RECORD.parent.mkdir(parents=True, exist_ok=True)
            write_json(RECORD, {"words": WORDS, "host": host(), "lines": rows})


if __name__ == "__main__":
    main(*sys.argv[1:])
