"""A run on a rented machine, as a managed job of SkyPilot: a plain dict of what its YAML file says.

SkyPilot finds a machine, mounts the bucket, begins the same command again after every preemption, and gives the machine
back. The command goes on by itself, as every task does; what bounds the price is the `timeout` that is counted from the
job's first start.
"""

import math
import re
import shlex
from dataclasses import dataclass

from shared.run.launch import ROOT, in_checkout
from shared.run.spec import at_least, one_of

CLOUDS = {
    "aws": ("aws", "s3"),
    "google": ("gcp", "gcs"),
}  # -> what SkyPilot calls it, and its buckets
WITH_CUDA = {"tf": "tensorflow[and-cuda]", "torch": "torch", "jax": "jax[cuda13]"}


@dataclass(frozen=True)
class CloudSpec:
    """What is rented, for how long, and at what price at most."""

    name: str  # aws | google
    bucket: str | None  # where the outputs are kept
    data: str | None  # a bucket, or a folder of this machine, that the run finds as /data
    accelerators: str | None  # KIND:COUNT; null: none
    spot: bool  # machines that can be taken away, at about half the price
    region: str | None  # null: wherever it is cheapest
    disk: int  # GB
    hours: float  # after which the job ends, done or not
    dollars: float  # more than that is refused beforehand
    price: float | None  # dollars an hour; null: as conf/prices.yaml has it
    image: str | None  # a container image that has trizoo; null: it is installed at the start
    launch: bool  # whether SkyPilot launches it, or its file is written alone

    def __post_init__(self):
        one_of("cloud.name", self.name, tuple(CLOUDS))
        if self.bucket is None or not re.fullmatch(
            r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", self.bucket
        ):
            raise ValueError(
                f"cloud.bucket is {self.bucket}; name the bucket that keeps the outputs: 3 to 63 of a-z, 0-9, - and ."
            )
        if self.accelerators is not None and not re.fullmatch(
            r"[\w-]+:[1-9]\d*", self.accelerators
        ):
            raise ValueError(
                f"cloud.accelerators is {self.accelerators!r}; give KIND:COUNT, such as H100:1, or null"
            )
        at_least("cloud.disk", self.disk, 20)
        if not 0 < self.hours < math.inf:
            raise ValueError(f"cloud.hours is {self.hours}; it must be more than 0")
        at_least("cloud.dollars", self.dollars, 0)
        if self.price is not None:
            at_least("cloud.price", self.price, 0)

    def price_per_hour(self, prices: dict) -> float:
        """Dollars an hour, as said or by `prices`; ValueError where neither has it."""
        if self.price is not None:
            return self.price
        if self.accelerators is None:
            raise ValueError(
                "cloud.price is null, and machines without accelerators have no price; give cloud.price"
            )
        kind, count = self.accelerators.split(":")
        offers = [prices["spot"][self.name]] if self.spot else []
        for offer in (*offers, prices["on_demand"][self.name]):
            if kind in offer:
                return offer[kind] * int(count)
        raise ValueError(
            f"conf/prices.yaml has no price of {kind} at {self.name}; add it, or give cloud.price"
        )

    def most_dollars(self, prices: dict) -> float:
        """What the job costs at most; ValueError if that is more than `dollars`."""
        most = self.hours * self.price_per_hour(prices)
        if most > self.dollars:
            raise ValueError(
                f"cloud.hours is {self.hours:g}, which may cost {most:.2f} dollars, and cloud.dollars "
                f"{self.dollars:g}; lower the one or raise the other"
            )
        return most


def job(spec: CloudSpec, name: str, token: str, words: list[str], backend: str) -> dict:
    """The managed job `name` that does `trizoo` with `words`; its time is counted from the first start with `token`."""
    infra, store = CLOUDS[spec.name]
    resources = {
        "infra": infra if spec.region is None else f"{infra}/{spec.region}",
        "accelerators": spec.accelerators,
        "use_spot": spec.spot,
        "disk_size": spec.disk,
        "image_id": None if spec.image is None else f"docker:{spec.image}",
        "job_recovery": {"strategy": "EAGER_NEXT_REGION", "max_restarts_on_errors": 0},
        "autostop": {"idle_minutes": 10, "down": True},
    }
    # One upload at a time, in the order of writing: record.json, which says that all is there, comes last.
    outputs = {"name": spec.bucket, "store": store, "mode": "MOUNT_CACHED"}
    outputs["config"] = {"mount_cached": {"transfers": 1}}
    mounts = {"/outputs": outputs}
    if spec.data is not None:
        mounts["/data"] = spec.data
    made = {
        "name": name,
        "resources": {key: value for key, value in resources.items() if value is not None},
        "file_mounts": mounts,
        "run": _run(spec, f"/outputs/.cloud/{name}-{token}", words),
    }
    if spec.image is None:
        made["setup"] = _setup(backend)
        if in_checkout():
            made["workdir"] = str(ROOT)
    return made


def _setup(backend: str) -> str:
    package = "." if in_checkout() else "trizoo"
    return "\n".join(
        [
            "set -e",
            "python3 -m pip install --quiet uv",
            "python3 -m uv venv --quiet --allow-existing --python 3.12 ~/trizoo-venv",
            f"python3 -m uv pip install --quiet --python ~/trizoo-venv '{package}[{backend}]' '{WITH_CUDA[backend]}'",
            "",
        ]
    )


def _run(spec: CloudSpec, begun: str, words: list[str]) -> str:
    program = "trizoo" if spec.image is not None else "~/trizoo-venv/bin/trizoo"
    return "\n".join(
        [
            "set -e",
            f"mkdir -p {shlex.quote(begun.rpartition('/')[0])}",
            f"[ -s {begun} ] || date +%s > {begun}",
            f"left=$(( $(cat {begun}) + {round(spec.hours * 3600)} - $(date +%s) ))",
            'if [ "$left" -lt 1 ]; then echo "trizoo: cloud.hours are over"; exit 1; fi',
            f'timeout --signal=INT --kill-after=60 "$left" {program} {shlex.join(words)}',
            "",
        ]
    )
