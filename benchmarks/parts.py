"""Many galaxies predicted in parts by Dask, which loses a worker and a scheduler: is the catalogue that of one process?

    python -m benchmarks.parts outputs/parts reports/records/parts.json galaxies=1000000

Images are as few synthetic ones as `images` says, in a zip, and streamed: many rows of the table name each. A small
network is fitted first. Then one process does all parts, and the workers of a scheduler do them again: one worker is
killed after a quarter of the parts, the scheduler after half, and the command is given again. Both are gathered.
"""

import io
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pandas as pd
from PIL import Image

from shared.data import synthetic
from shared.run.channel import free_port
from shared.run.launch import found_from_anywhere, program
from shared.run.records import host, write_json

PARTS, WORKERS, EVERY = 64, 2, 1.0  # seconds between looks at the processes' memory
NETWORK = (
    *("backend=jax", "backend.threads=1", "model.image_size=32", "model.dense=32"),
    *("model.blocks=[[8],[8],[16],[16]]", "posterior.samples=30"),
)


def main(words: list[str]) -> int:
    outputs, record = Path(words[0]).absolute(), Path(words[1])
    given = {"galaxies": 1_000_000, "images": 1000} | {
        key: int(value) for key, value in (word.split("=") for word in words[2:])
    }
    outputs.mkdir(parents=True, exist_ok=True)
    table = make_dataset(outputs, given["galaxies"], given["images"])
    fitted = outputs / "fitted"
    trizoo("fit", "dataset.galaxies=600", *NETWORK, f"outputs={outputs}", f"folder={fitted}")
    wanted = (
        *(f"weights={fitted}", f"images={outputs / 'images.zip'}", f"table={table}"),
        *("dataset=folder", "dataset.columns.file=file", "dataset.columns.count=null"),
        *("stream=true", f"parts={PARTS}", f"outputs={outputs}"),
    )
    runs = {
        "one process": alone(outputs / "one", wanted),
        "Dask": by_dask(outputs / "dask", wanted),
    }
    files = {name: catalogue(outputs / f"{name}-all") for name in ("one", "dask")}
    results = {
        **given,
        "parts": PARTS,
        "workers": WORKERS,
        "runs": runs,
        "files": len(files["one"]),
        "same": files["one"] == files["dask"],
    }
    write_json(record, {"host": host(), **results})
    print(results)
    return int(not results["same"])


def make_dataset(outputs: Path, galaxies: int, images: int) -> Path:
    """The zip of images, and the table of galaxies; where the latter is."""
    table = outputs / "table.parquet"
    with zipfile.ZipFile(outputs / "images.zip", "w") as archive:
        for values in synthetic.draw_galaxies(images, 7).to_dict("records"):
            data = io.BytesIO()
            Image.fromarray(synthetic.render(values)[..., 0]).save(data, "JPEG", quality=90)
            archive.writestr(f"{values['number']}.jpg", data.getvalue())
    random = np.random.default_rng(0)
    number = np.arange(galaxies)
    frame = pd.DataFrame({"id": [f"g{one}" for one in number], "file": number % images})
    frame["file"] = frame["file"].astype(str) + ".jpg"
    frame["ra"] = random.uniform(0, 360, galaxies)
    frame["dec"] = np.degrees(np.arcsin(random.uniform(-1, 1, galaxies)))
    frame.to_parquet(table)
    return table


def command(*words: str) -> list[str]:
    return [sys.executable, *program(), *words]


def trizoo(*words: str) -> subprocess.CompletedProcess:
    """Do a command, which must succeed; what it printed is also passed on."""
    done = subprocess.run(command(*words), capture_output=True, text=True)
    print(done.stdout, done.stderr, sep="\n", flush=True)
    done.check_returncode()
    return done


def alone(folder: Path, wanted: tuple[str, ...]) -> dict:
    """All parts by one process."""
    with memory("--run") as seen:
        begun = time.perf_counter()
        trizoo("predict", *wanted, f"folder={folder}")
        seconds = time.perf_counter() - begun
    return {"seconds": seconds, **gathered(folder), "memory": quarters(seen)}


def gathered(folder: Path) -> dict:
    begun = time.perf_counter()
    with memory("--run") as seen:
        trizoo("gather", f"run={folder}", f"folder={folder}-all")
    return {"gather_seconds": time.perf_counter() - begun, "gather_memory": quarters(seen)}


def by_dask(folder: Path, wanted: tuple[str, ...]) -> dict:
    """The parts by workers that are killed on the way, and their scheduler too."""
    begun, told = time.perf_counter(), []
    words = [*wanted, f"folder={folder}", "engine=dask", "engine.scheduler=127.0.0.1:{port}"]
    with memory("--part") as seen:
        for kill_scheduler in (True, False):
            with scheduler() as (port, services):
                asked = [word.format(port=port) for word in words]
                client = subprocess.Popen(
                    command("predict", *asked),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                if kill_scheduler:
                    wait_for(folder, PARTS // 4, client)
                    services[1].send_signal(signal.SIGKILL)
                    services.append(worker(port))
                    wait_for(folder, PARTS // 2, client)
                    services[0].send_signal(signal.SIGKILL)
                out, _ = client.communicate()
                told.append({"status": client.returncode, "last": out.strip().splitlines()[-3:]})
                share = re.search(r"([\d.]+)% of the time of", out)
        seconds = time.perf_counter() - begun
    return {
        "seconds": seconds,
        "told": told,
        "share_of_workers_in_parts": None if share is None else float(share[1]) / 100,
        **gathered(folder),
        "memory": quarters(seen),
    }


def wait_for(folder: Path, parts: int, client: subprocess.Popen) -> None:
    while len(list(folder.glob("part-*/record.json"))) < parts:
        if client.poll() is not None:
            raise RuntimeError(client.communicate()[0])
        time.sleep(0.2)


@contextmanager
def scheduler() -> Iterator[tuple[int, list[subprocess.Popen]]]:
    """A scheduler of Dask and its workers; its port, and their processes."""
    port = free_port("127.0.0.1")
    services = [service("scheduler", f"--port={port}", "--host=127.0.0.1", "--no-dashboard")]
    services += [worker(port) for _ in range(WORKERS)]
    try:
        yield port, services
    finally:
        for one in services:
            one.kill()
            one.wait()


def worker(port: int) -> subprocess.Popen:
    return service(
        "worker",
        f"127.0.0.1:{port}",
        "--nthreads=1",
        "--no-dashboard",
        "--memory-limit=0",
        "--no-nanny",
    )


def service(kind: str, *words: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": found_from_anywhere(os.environ)}
    line = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *words]
    return subprocess.Popen(line, env=environment, stderr=subprocess.DEVNULL)


@contextmanager
def memory(word: str) -> Iterator[list[tuple[float, int]]]:
    """Looks, as (seconds, bytes), at the resident memory of the largest process whose command has a `word`."""
    seen: list[tuple[float, int]] = []
    over, begun = Event(), time.perf_counter()

    def look() -> None:
        while not over.wait(EVERY):
            sizes = [resident(place, word) for place in Path("/proc").glob("[0-9]*")]
            seen.append((time.perf_counter() - begun, max(sizes, default=0)))

    thread = Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def resident(place: Path, word: str) -> int:
    try:
        if word.encode() not in (place / "cmdline").read_bytes():
            return 0
        found = re.search(r"VmRSS:\s+(\d+) kB", (place / "status").read_text())
        return 1024 * int(found[1]) if found else 0
    except OSError:  # it has ended
        return 0


def quarters(seen: list[tuple[float, int]]) -> list[int]:
    """The most memory, in bytes, in each quarter of the time."""
    if not seen:
        return []
    edges = np.linspace(0, seen[-1][0], 5)[1:]
    found = [[size for at, size in seen if at <= edge] for edge in edges]
    return [
        max(some[len(before) :], default=0)
        for before, some in zip([[], *found], found, strict=False)
    ]


def catalogue(folder: Path) -> dict[str, bytes]:
    """Every file of the catalogue, by its path in it."""
    place = folder / "posterior_hats"
    return {
        str(file.relative_to(place)): file.read_bytes()
        for file in sorted(place.rglob("*"))
        if file.is_file()
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
