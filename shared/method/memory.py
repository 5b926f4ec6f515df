"""What a run needs of memory, what it does with less, and how it goes on where a framework finds none.

`backend.memory` decides nothing about the result: activations are computed anew rather than kept, fewer steps travel in
one call, fewer images are read at once. A shard is never cut, nor a chunk: kernels round by their shapes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from shared.method.backend import Backend
from shared.network.memory import forward_peak, peak_of, plain_peak
from shared.network.model import model_of
from shared.network.network import activations
from shared.network.weights import parameters
from shared.run import memory
from shared.run.spec import RunSpec, parse_size, shard_count


class Cost(NamedTuple):
    """What a framework makes of a network's numbers on a CPU, measured: see docs/gpu.md."""

    fixed: (
        int  # bytes beyond what it holds after its import: its compiler, its buffers, its threads
    )
    factor: (
        float  # bytes in memory for each byte of activations and gradients that are needed at once
    )


COSTS = {
    "torch": Cost(fixed=60_000_000, factor=1.3),
    "jax": Cost(fixed=250_000_000, factor=1.4),
    "tf": Cost(fixed=120_000_000, factor=1.4),
}
COPIES = 10  # of the weights: themselves, gradients and their sum, both moments, the next of each, a way back
CALLS = 3  # of images, at once: those that are read, those on the way, those that are learned from
READ = 8  # of the memory that is asked for: the share of one that images to predict may take


def bytes_of(run: RunSpec) -> int:
    """The bytes of one number."""
    return 8 if run.backend.precision == "float64" else 4


def training_need(run: RunSpec, batch: int) -> int:
    """About how many bytes training on batches of so many galaxies takes, beyond the framework itself."""
    model, cost, item = model_of(run.model), COSTS[run.backend.name], bytes_of(run)
    shard = batch // shard_count(run.training, batch)
    numbers = (peak_of if run.backend.recompute else plain_peak)(model.encoder, model.image)
    pixels = run.model.image_size**2 * run.model.channels
    images = (
        CALLS * min(run.backend.steps, run.training.steps or run.backend.steps) * batch * pixels
    )
    weights = COPIES * run.training.members * parameters(run.model) * item
    return round(cost.fixed + cost.factor * shard * numbers * item + images + weights)


def prediction_need(run: RunSpec, samples: int) -> int:
    """About how many bytes samples of the posterior take, beyond the framework itself."""
    model, cost, item = model_of(run.model), COSTS[run.backend.name], bytes_of(run)
    head = samples * max(activations(model.head, (model.units,)).values())
    numbers = forward_peak(model.encoder, model.image) + 2 * head
    weights = COPIES * run.training.members * parameters(run.model) * item
    return round(cost.fixed + cost.factor * run.backend.chunk * numbers * item + weights)


def within_memory(run: RunSpec, batch: int) -> RunSpec:
    """The run with as much recomputation, and as few steps in one call, as `backend.memory` wants.

    Raises ValueError where even the least that it can do takes more.
    """
    if run.backend.memory is None:
        return run
    most = parse_size("backend.memory", run.backend.memory)
    for lesser in _lessened(run):
        if training_need(lesser, batch) <= most:
            return lesser
    raise ValueError(
        f"backend.memory is {run.backend.memory}, but training takes about {_said(training_need(lesser, batch))} with "
        f"recomputation and one step per call; {_ways_out(lesser, batch, most)}"
    )


def _lessened(run: RunSpec) -> Iterator[RunSpec]:
    """The run, and the same run with less and less memory; what costs no time comes first."""
    for recompute in (False, True) if not run.backend.recompute else (True,):
        steps = run.backend.steps
        while steps:
            yield with_backend(run, recompute=recompute, steps=steps)
            steps //= 2


def _ways_out(run: RunSpec, batch: int, most: int) -> str:
    """What else would help, which is the user's to choose as it decides the result."""
    for shards in range(shard_count(run.training, batch) + 1, batch + 1):
        if batch % shards or run.training.batch_size % shards:
            continue
        less = replace(run, training=replace(run.training, shards=shards))
        if training_need(less, batch) <= most:
            first = f"set training.shards={shards} (other last bits)"
            break
    else:
        first = "no training.shards would do"
    return f"{first}, or lower model.image_size, or raise backend.memory"


def lessened_again(run: RunSpec, steps: int) -> RunSpec:
    """The run with the next less memory, after `steps` in one call found too little; ValueError if there is no less."""
    if not run.backend.recompute:
        return with_backend(run, recompute=True)
    if steps > 1:
        return with_backend(run, steps=steps // 2)
    raise ValueError(
        "the framework found too little memory, even with recomputation and one step per call; set training.shards to "
        "more (other last bits), lower model.image_size or training.batch_size, or free some memory"
    )


def with_backend(run: RunSpec, **settings: Any) -> RunSpec:
    """The run with other settings of its backend."""
    return replace(run, backend=replace(run.backend, **settings))


def check_prediction(run: RunSpec, samples: int) -> None:
    """Raise ValueError if a chunk of prediction takes more than `backend.memory`."""
    if run.backend.memory is None:
        return
    need = prediction_need(run, samples)
    if need > parse_size("backend.memory", run.backend.memory):
        raise ValueError(
            f"backend.memory is {run.backend.memory}, but prediction takes about {_said(need)} with "
            f"backend.chunk={run.backend.chunk}; {_smaller_chunk(run)}"
        )


@contextmanager
def told_chunk(backend: Backend, run: RunSpec) -> Iterator[None]:
    """Make one clear ValueError of a framework's finding no memory in prediction."""
    try:
        yield
    except Exception as error:
        if not backend.out_of_memory(error):
            raise
        raise ValueError(
            f"{run.backend.name} found too little memory with backend.chunk={run.backend.chunk}; {_smaller_chunk(run)}"
        ) from error


def _smaller_chunk(run: RunSpec) -> str:
    return f"set backend.chunk={max(1, run.backend.chunk // 2)} or less (other last bits)"


def images_at_once(run: RunSpec, most: int) -> int:
    """How many images prediction may read together, of `most`."""
    if run.backend.memory is None:
        return most
    pixels = run.model.image_size**2 * run.model.channels
    share = parse_size("backend.memory", run.backend.memory) // READ
    return max(1, min(most, share // pixels))


def said(run: RunSpec, batch: int) -> str:
    """What was chosen, in one line."""
    how = "activations computed anew" if run.backend.recompute else "activations kept"
    return f"memory: {how}, {run.backend.steps} steps per call; training takes about {_said(training_need(run, batch))}"


def _said(size: int) -> str:
    return f"{max(1, round(size / 1e6))} MB"


def measured(backend: Backend) -> int | None:
    """The most bytes taken since the framework was imported: of the GPU, or of the process."""
    on_cpu = backend.describe().get("device") == "cpu"
    return memory.since_import() if on_cpu else backend.peak_memory()


def memory_record(backend: Backend, run: RunSpec, batch: int, chosen: list[list]) -> dict:
    """What a record says of memory, in bytes; `chosen` is a history's [step, recompute, steps at once]."""
    _, recompute, steps = chosen[-1] if chosen else [0, run.backend.recompute, run.backend.steps]
    done = with_backend(run, recompute=recompute, steps=steps)
    return {
        "asked": run.backend.memory,
        "estimated": max(training_need(done, batch), prediction_need(run, run.posterior.samples)),
        "measured": measured(backend),
        "recompute": recompute,
        "steps": steps,
        "changes": chosen,
    }
