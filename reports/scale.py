"""What millions of galaxies take on one CPU, one GPU and a partition of Slurm: a model made of measured pieces.

Pieces are rates and sizes from reports/records. A machine reads images with its cores while the network works, so the
slower of the two sets the pace; the catalogue is written at the end. What was not measured is a factor with its reason.
`python -m reports.scale` prints the table of docs/scale.md.
"""

import json
import math
from pathlib import Path
from statistics import median
from typing import NamedTuple

RECORDS = Path(__file__).parent / "records"
MILLION, HOUR = 1_000_000, 3600.0
SIZE = 128  # pixels across, of the network's images
SAMPLES = 30
# The H200 was timed in TF32 and bfloat16 alone. Its maker says 67 TFLOP/s in float32 and 495 in TF32.
FLOAT32 = 67 / 495


class Pieces(NamedTuple):
    """What was measured, each for one device or one core."""

    read: float  # galaxies/s that a core decodes and reduces
    image_bytes: float  # of a galaxy in a store
    row_bytes: float  # of a galaxy in the catalogue, HATS
    write: float  # galaxies/s that are written so
    cpu: float  # galaxies/s that a core gives 30 samples of
    gpu: float  # galaxies/s that an H200 does, in bfloat16
    cpu_train: float  # images/s that a core trains with
    gpu_train: float  # images/s that an H200 does, in TF32
    cpu_start: float  # seconds from the start of a part to its first galaxy
    gpu_start: float


class Machine(NamedTuple):
    """What predicts: so many nodes, each with cores and perhaps a GPU."""

    name: str
    nodes: int
    cores: int
    gpu: bool
    price: float  # dollars an hour, for all nodes


class Cost(NamedTuple):
    """Of a million galaxies, by one machine."""

    read: float  # seconds, were the network for nothing
    network: float  # seconds, were reading for nothing
    write: float  # seconds, by one process at the end
    seconds: float
    bottleneck: str
    bytes_read: float
    bytes_written: float
    dollars: float


def _json(name: str) -> dict:
    return json.loads((RECORDS / name).read_text())


def _rows(folder: str, **wanted) -> list[tuple[dict, dict]]:
    """The timings of this project's programs under speed/`folder` that are as `wanted`, and the machine of each."""
    found = []
    for file in sorted((RECORDS / "speed" / folder).glob("**/record.json")):
        record = json.loads(file.read_text())
        for row in record["results"].get("rows", []):
            if not row["peer"] and all(row[key] == value for key, value in wanted.items()):
                found.append((row, record["host"]))
    return found


def _rate(folder: str, **wanted) -> float:
    """Their median images/s of a core, or of a GPU."""
    return median(
        row["images_per_second"] / (host["cores"] if row["device"] == "cpu" else 1)
        for row, host in _rows(folder, **wanted)
    )


def _start(folder: str, **wanted) -> float:
    """The median seconds that they took to import their framework, and for a first call, which compiles."""
    return median(
        row["import_seconds"] + row["first_seconds"] for row, _ in _rows(folder, **wanted)
    )


def pieces() -> Pieces:
    """The pieces, from the records; a core's are of two-core machines, halved."""
    stores, files = _json("stores.json"), _json("files.json")
    hats = files["formats"]["hats"]
    small = {"image_size": 64, "batch_size": 128, "precision": "float32"}
    large = {"image_size": SIZE, "batch_size": 128}
    return Pieces(
        read=stores["images_per_second"]["prepare"] / stores["host"]["cores"],
        image_bytes=stores["store_bytes"] / stores["images"],
        row_bytes=hats["bytes"] / files["rows"],
        write=files["rows"] / hats["write"]["seconds"],
        # timed at 64 pixels: convolutions take as long as there are pixels
        cpu=_rate("fourth", task="posterior", samples=SAMPLES, **small) * (64 / SIZE) ** 2,
        gpu=_rate("gpu", task="posterior", samples=SAMPLES, precision="bfloat16", **large),
        cpu_train=_rate("fourth", task="train", precision="float32", **large),
        gpu_train=_rate("gpu", task="train", precision="tf32", **large),
        cpu_start=_start("fourth", task="posterior", samples=SAMPLES, **small),
        gpu_start=_start("gpu", task="posterior", samples=SAMPLES, precision="bfloat16", **large),
    )


def machines(prices: dict) -> tuple[Machine, ...]:
    """The three of docs/scale.md."""
    core = prices["cpu_core"]
    return (
        Machine("one CPU of 8 cores", 1, 8, False, 8 * core),
        Machine("one H200 with 16 cores", 1, 16, True, prices["on_demand"]["aws"]["H200"]),
        Machine("32 nodes of Slurm, of 8 cores each", 32, 8, False, 32 * 8 * core),
    )


def cost(machine: Machine, of: Pieces, parts: int = 64) -> Cost:
    """What a million galaxies in so many `parts` cost on `machine`."""
    cores = machine.nodes * machine.cores
    read = MILLION / (of.read * cores)
    network = MILLION / (of.gpu * machine.nodes if machine.gpu else of.cpu * cores)
    write = MILLION / of.write
    starts = (of.gpu_start if machine.gpu else of.cpu_start) * math.ceil(parts / machine.nodes)
    # cores that decode beside a GPU do nothing else; those of a CPU do one or the other
    both = max(read, network) if machine.gpu else read + network
    seconds = both + write + starts
    shares = {"reading": read, "the network": network, "writing": write, "starting parts": starts}
    return Cost(
        read,
        network,
        write,
        seconds,
        max(shares, key=shares.get),
        MILLION * of.image_bytes,
        MILLION * of.row_bytes,
        seconds / HOUR * machine.price,
    )


def images_of(config: dict) -> tuple[float, float] | None:
    """Images that a run of `config` trains with, and galaxies that it samples; None where they cannot be known."""
    task, galaxies = config["task"]["name"], config["dataset"]["galaxies"]
    training, asked = config["training"], config["acquisition"]
    if config["model"]["name"] != "w20" or config["model"]["encoder"] is not None:
        return None
    members = training["members"]
    if task == "active":
        steps = asked["first_steps"] + asked["rounds"] * asked["round_steps"]
        pool = asked["shards"] * asked["shard_size"] or galaxies
        pool = min(pool, galaxies) if pool and galaxies else pool
        return (
            None
            if pool is None
            else (members * steps * training["batch_size"], (asked["rounds"] + 1) * pool)
        )
    if galaxies is None:
        return None
    if task == "predict":
        return 0, members * galaxies
    if task == "fit":
        steps, size = training["steps"], training["batch_size"]
        images = steps * size if steps else max(4500 * math.sqrt(galaxies), 800 * size)
        return members * images, 2 * members * galaxies
    return None


def expected_hours(config: dict, speed: float, of: Pieces) -> float | None:
    """Hours that a run of `config` takes on a GPU of `speed` times an H200; None where no record tells."""
    counted = images_of(config)
    if counted is None:
        return None
    trained, sampled = counted
    pixels = (config["model"]["image_size"] / SIZE) ** 2
    precision = config["backend"]["precision"]
    if precision not in ("float32", "tf32", "bfloat16"):
        return None
    share = FLOAT32 if precision == "float32" else 1.0
    seconds = pixels * (trained / of.gpu_train + sampled / of.gpu) / (speed * share)
    return (seconds + sampled / (of.read * 8) + of.gpu_start) / HOUR


def table(prices: dict) -> str:
    """The table of docs/scale.md."""
    of = pieces()
    lines = [
        "| for a million galaxies | reading (s) | network (s) | writing (s) | all (s) | bottleneck | dollars |",
        "|---|---|---|---|---|---|---|",
    ]
    for machine in machines(prices):
        c = cost(machine, of)
        lines.append(
            f"| {machine.name} | {c.read:,.0f} | {c.network:,.0f} | {c.write:,.0f} | {c.seconds:,.0f} | "
            f"{c.bottleneck} | {c.dollars:.2f} |"
        )
    return "\n".join(lines)
