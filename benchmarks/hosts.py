"""One fit by three hosts, one of which is cut off and comes back; then the same by one process: are the bytes the same?

    sudo python -m benchmarks.hosts outputs/hosts torch,jax

The hosts are network namespaces of this machine (Linux, root, iproute2): each has an address of its own on a bridge,
and nothing in common but files. "Cut off" takes a host's cable out: no packet comes or goes, and nobody is told. Then
it is measured after how many seconds each process has ended, and what it said.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from shared.run.launch import program
from shared.run.records import host, write_json

HOSTS = 3
BRIDGE, ADDRESS = "trizoo0", "10.77.0.1:29400"  # of the first host
SMALL = (
    *("dataset.galaxies=600", "model.image_size=32", "model.blocks=[[8],[16],[16],[16]]"),
    *(
        "model.dense=16",
        "training.batch_size=96",
        "training.shards=3",
        "training.steps=300",
        "backend.steps=20",
    ),
    *("training.checkpoint_every=60", "training.validate_every=0", "posterior.samples=10"),
    *("backend.threads=1", "backend.chunk=64"),
)
MOST = 120  # seconds that a run may take to notice


def main(words: list[str]) -> int:
    outputs, backends = Path(words[0]), words[1].split(",")
    if os.geteuid() or not shutil.which("ip"):
        print("this needs root and iproute2 (ip) on Linux", file=sys.stderr)
        return 2
    with network():
        runs = [measured(outputs, backend) for backend in backends]
    write_json(outputs / "hosts.json", {"host": host(), "runs": runs})
    print(json.dumps(runs, indent=1))
    return int(not all(run["same"] for run in runs))


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def name(number: int) -> str:
    return f"trizoo-host{number}"


@contextmanager
def network() -> Iterator[None]:
    """So many hosts with addresses 10.77.0.1 and so on, which see one another."""
    remove()  # what a killed run has left
    try:
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("link", "set", BRIDGE, "up")
        for number in range(1, HOSTS + 1):
            ip("netns", "add", name(number))
            ip("link", "add", f"tz{number}", "type", "veth", "peer", "eth0", "netns", name(number))
            ip("link", "set", f"tz{number}", "master", BRIDGE, "up")
            ip("-n", name(number), "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                ip("-n", name(number), "link", "set", device, "up")
        yield
    finally:
        remove()


def remove() -> None:
    """Take the hosts away, with all their processes."""
    for number in range(1, HOSTS + 1):
        words = ["ip", "netns", "pids", name(number)]
        found = subprocess.run(words, capture_output=True, text=True, check=False).stdout.split()
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        for words in (["netns", "del", name(number)], ["link", "del", f"tz{number}"]):
            subprocess.run(["ip", *words], stderr=subprocess.DEVNULL, check=False)
    subprocess.run(["ip", "link", "del", BRIDGE], stderr=subprocess.DEVNULL, check=False)


def start(
    number: int, words: list[str], environment: dict[str, str], said: Path
) -> subprocess.Popen:
    command = ["ip", "netns", "exec", name(number), sys.executable, *program(), *words]
    with said.open("w") as file:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)


def measured(outputs: Path, backend: str) -> dict:
    """What a fit by three hosts came to, cut off once, and by one process."""
    environment = dict(os.environ) | {"TRIZOO_TOKEN": secrets.token_hex(16), "OMP_NUM_THREADS": "1"}
    folder = outputs / f"{backend}-hosts"
    own = [*SMALL, f"outputs={outputs}", f"backend={backend}"]
    shared = [*own, f"backend.workers={HOSTS}", f"backend.address={ADDRESS}"]
    shutil.rmtree(folder, ignore_errors=True)
    said = [outputs / f"{backend}-{number}.txt" for number in range(1, HOSTS + 1)]

    def begin() -> list[subprocess.Popen]:
        found = [start(1, ["fit", *shared, f"folder={folder}"], environment, said[0])]
        while "waiting for" not in said[0].read_text() and found[0].poll() is None:
            time.sleep(0.2)
        for number in range(2, HOSTS + 1):
            found.append(start(number, ["--worker", ADDRESS], environment, said[number - 1]))
        return found

    processes = begin()
    while not (folder / "checkpoint.safetensors").exists():
        if any(process.poll() is not None for process in processes):
            raise RuntimeError("\n".join(text.read_text() for text in said))
        time.sleep(0.2)
    time.sleep(1)
    ip("link", "set", f"tz{HOSTS}", "down")
    cut, ended = time.monotonic(), []
    for process, text in zip(processes, said, strict=True):
        status = process.wait(MOST)
        last = text.read_text().strip().splitlines()[-1:]
        ended.append({"status": status, "seconds": time.monotonic() - cut, "last": last})
    ip("link", "set", f"tz{HOSTS}", "up")
    again = [process.wait() for process in begin()]
    alone = outputs / f"{backend}-alone"
    shutil.rmtree(alone, ignore_errors=True)
    words = [sys.executable, *program(), "fit", *own, f"folder={alone}"]
    subprocess.run(words, env=environment, check=True)
    sums = {
        kind: [sha256((place / kind).read_bytes()).hexdigest() for place in (folder, alone)]
        for kind in ("weights.safetensors", "posterior.parquet")
    }
    return {
        "backend": backend,
        "cut_off": ended,
        "again": again,
        "same": all(one == other for one, other in sums.values()),
        "sha256": sums,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
