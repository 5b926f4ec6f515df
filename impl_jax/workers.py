"""Several workers: how their frameworks meet, and how each gets what all of them found."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from shared.run.spec import BackendSpec

from .device import capture_graph, configure


def join(spec: BackendSpec, number: int, addresses: list[str]) -> None:
    """Configure as worker `number`, from 0, of as many as there are `addresses`, HOST:PORT, and meet the others."""
    # else the end of a process waits for minutes, should another have been killed
    jax.config.update("jax_enable_recoverability", True)
    jax.distributed.initialize(
        addresses[0], len(addresses), number, [0], coordinator_bind_address=addresses[0]
    )
    configure(spec)
    once = together(capture_graph, lambda array: gather({"": array})[""], 0)
    once(jnp.zeros((1, 1))).block_until_ready()  # here, as Gloo prints that it has met the others


def leave() -> None:
    """Take leave of the other workers, which do the same."""
    jax.distributed.shutdown()


def worker_count() -> int:
    """How many workers share a batch."""
    return jax.process_count()


def together(compiled, call, states: int):
    """`compiled`(call, states), a call of all workers at once: of the same states, and of arrays of their own."""
    if worker_count() == 1:
        return compiled(call, states)
    mesh = Mesh(np.array(jax.devices()), ("worker",))  # one of each worker
    programs: dict = {}

    def place(spec, array):
        shape = (mesh.size * len(array), *array.shape[1:]) if spec else array.shape
        return jax.make_array_from_single_device_arrays(shape, NamedSharding(mesh, spec), [array])

    def joint(*given):
        specs = (P(),) * states + tuple(P("worker") if one.ndim else P() for one in given[states:])
        if specs not in programs:
            each = partial(jax.shard_map, mesh=mesh, out_specs=P(), check_vma=False)
            programs[specs] = compiled(each(call, in_specs=specs), states)
        placed = map(lambda spec, one: jax.tree.map(partial(place, spec), one), specs, given)
        return jax.tree.map(lambda array: array.addressable_data(0), programs[specs](*placed))

    return joint


def gather(found: dict) -> dict:
    """The arrays (shard, ...) of all shards by name, in their order, of those of this worker's own."""
    own = jnp.concatenate([value.reshape(len(value), -1) for value in found.values()], 1)
    every = jax.lax.all_gather(own, "worker", tiled=True)
    widths = [math.prod(value.shape[1:]) for value in found.values()]
    parts = jnp.split(every, np.cumsum(widths)[:-1], 1)
    return {
        name: part.reshape(-1, *value.shape[1:])
        for (name, value), part in zip(found.items(), parts, strict=True)
    }
