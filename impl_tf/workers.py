"""Several workers: how their frameworks meet, and how each gets what all of them found."""

import json
import math
import os
from itertools import count

import tensorflow as tf

from shared.run.spec import BackendSpec

from .device import configure, on_gpu

GROUP = 1 << 20  # far from the keys that TensorFlow gives out itself
strategy: tf.distribute.Strategy | None = None
instances = count(GROUP)  # every gathering of a graph has a key of its own, the same on all workers


def join(spec: BackendSpec, number: int, addresses: list[str]) -> None:
    """Configure as worker `number`, from 0, of as many as there are `addresses`, HOST:PORT, and meet the others."""
    global strategy
    configure(spec)
    if on_gpu():
        tf.config.set_visible_devices(tf.config.list_physical_devices("GPU")[:1], "GPU")
    task = {"type": "worker", "index": number}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
    strategy = tf.distribute.MultiWorkerMirroredStrategy()  # it connects the workers' contexts


def leave() -> None:
    """Take leave of the other workers, which do the same."""


def worker_count() -> int:
    """How many workers share a batch."""
    return 1 if strategy is None else strategy.num_replicas_in_sync


def together(compiled, call, states: int):
    """`compiled`(call, states), a call of all workers at once: of the same states, and of arrays of their own."""
    return compiled(call, states)


def gather(found: dict) -> dict:
    """The arrays (shard, ...) of all shards by name, in their order, of those of this worker's own."""
    own = tf.concat([tf.reshape(value, (len(value), -1)) for value in found.values()], 1)
    every = tf.raw_ops.CollectiveGatherV2(
        input=own,
        group_size=worker_count(),
        group_key=GROUP,
        instance_key=next(instances),
        ordering_token=[],
        communication_hint="nccl" if on_gpu() else "ring",
    )
    widths = [math.prod(value.shape[1:]) for value in found.values()]
    parts = tf.split(every, widths, 1)
    return {
        name: tf.reshape(part, (-1, *value.shape[1:]))
        for (name, value), part in zip(found.items(), parts, strict=True)
    }
