"""The timed process: one program and one task, which waits while others have their turn.

    python -m benchmarks.timed RUN.json PROGRAM TASK

It needs no Hydra and no other framework, so it runs wherever one framework is. It opens the task, says in a line of
JSON that it has (or, under "missing", why it cannot), and then does what each line of its standard input says: first |
warm N | turn N | about. Whatever libraries print goes to standard error.
"""

import json
import os
import resource
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from benchmarks.clock import seconds, warm_up
from benchmarks.programs import program_of, run_of
from benchmarks.work import Work
from shared.method.backend import suppress_stderr
from shared.run.records import allocator
from shared.run.spec import RunSpec, from_config

BEGUN = "TRIZOO_BEGUN"  # time.monotonic() when the process was asked for, which all processes share
STARTUP = "startup"  # of any program: its own training task, one step, in a process that does nothing else


def main(words: list[str]) -> int:
    """Serve the program and the task that `words` name until standard input ends."""
    path, name, task = words
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)

        def tell(answer: dict) -> None:
            print(json.dumps(answer), file=answers, flush=True)

        program = program_of(name)
        run = run_of(from_config(RunSpec, json.loads(Path(path).read_text())), program)
        if task == STARTUP:
            run, task = replace(run, backend=replace(run.backend, steps=1)), "train"
        try:
            with suppress_stderr():
                module = import_module(program.module)
                work = module.work(run, task)
        except (ImportError, ValueError) as error:
            tell({"missing": " ".join(str(error).split())})
            return 0
        tell({"import_seconds": time.monotonic() - float(os.environ[BEGUN])})
        for line in sys.stdin:
            try:
                tell(answer(work, *line.split()) or about(module, run, work))
            except ValueError as error:
                tell({"missing": " ".join(str(error).split())})
    return 0


def answer(work: Work, what: str, count: str = "0") -> dict:
    """What `work`'s clock says: of its first call, of calls until it is steady, or of a turn; nothing
    for other words.
    """
    if what == "first":
        return {"seconds": seconds(work)}
    if what == "warm":
        return dict(zip(("calls", "steady"), warm_up(work, int(count)), strict=True))
    if what == "turn":
        begun = time.process_time()
        spent = [seconds(work) for _ in range(int(count))]
        return {"seconds": spent, "processor_seconds": time.process_time() - begun}
    return {}


def about(module, run: RunSpec, work: Work) -> dict:
    """How much work a call is, what did it, and the memory that this took."""
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    host = held if sys.platform == "darwin" else 1024 * held  # macOS counts bytes, others KiB
    card = device_memory()
    return {
        "images": work.images,
        "flops": work.flops or None,
        "bytes": work.bytes or None,
        "peak_memory_bytes": host if card is None else card,
        "host_memory_bytes": host,
        "where": {**module.describe(run), "allocator": allocator()},
    }


def device_memory() -> int | None:
    """The most bytes that whichever framework is imported has held of a GPU; None where it uses none."""
    torch, tensorflow, jax = map(sys.modules.get, ("torch", "tensorflow", "jax"))
    if torch and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    if tensorflow:  # which imports JAX where it finds it, but does not use it
        cards = tensorflow.config.list_logical_devices("GPU")
        return tensorflow.config.experimental.get_memory_info("GPU:0")["peak"] if cards else None
    if jax and jax.default_backend() == "gpu":
        return jax.devices()[0].memory_stats()["peak_bytes_in_use"]
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
