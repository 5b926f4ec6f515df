"""Several workers: how their frameworks meet, and how each gets what all of them found."""

import math
import os

import torch
from torch import distributed

from shared.run.channel import interface_of
from shared.run.spec import BackendSpec

from .device import configure, on_gpu


def join(spec: BackendSpec, number: int, addresses: list[str]) -> None:
    """Configure as worker `number`, from 0, of as many as there are `addresses`, HOST:PORT, and meet the others."""
    configure(spec)
    if (
        interface := interface_of(addresses[number])
    ) is not None:  # else that of the machine's name
        for library in ("GLOO", "NCCL"):
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", interface)
    meeting = {"init_method": f"tcp://{addresses[0]}", "rank": number, "world_size": len(addresses)}
    distributed.init_process_group("nccl" if on_gpu() else "gloo", **meeting)


def leave() -> None:
    """Take leave of the other workers, which do the same."""
    distributed.destroy_process_group()


def worker_count() -> int:
    """How many workers share a batch."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def together(compiled, call, states: int):
    """`compiled`(call, states), a call of all workers at once: of the same states, and of arrays of their own."""
    return compiled(call, states)


def gather(found: dict) -> dict:
    """The arrays (shard, ...) of all shards by name, in their order, of those of this worker's own."""
    own = torch.cat([value.reshape(len(value), -1) for value in found.values()], 1)
    every = [torch.empty_like(own) for _ in range(worker_count())]
    distributed.all_gather(every, own)
    widths = [math.prod(value.shape[1:]) for value in found.values()]
    parts = torch.split(torch.cat(every), widths, 1)
    return {
        name: part.reshape(-1, *value.shape[1:])
        for (name, value), part in zip(found.items(), parts, strict=True)
    }
