"""Runs that are parts of one whole, done by the workers of Dask: on this machine, on Slurm, or wherever a scheduler is.

A part is a run like any other: a process of its own, started beside a worker. So a worker stays small, and when it is
lost, its part ends with it and another worker begins the part anew. Only this module knows Dask, which is imported when
it is needed.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from shared.run.launch import (
    GOES_ON,
    allowed_cores,
    end_with_parent,
    found_from_anywhere,
    program,
)
from shared.run.progress import say, span, track
from shared.run.spec import EngineSpec

AT_ONCE = 1000  # parts that the scheduler knows of: with millions, its memory and this process's stay as they are
RETRIES = 2  # of a part whose process was killed, or whose worker was
ANSWERS = 30  # seconds within which a scheduler must answer
LAST_LINES = 2000  # bytes of what a part printed, of which the last line says why it failed


class Done(NamedTuple):
    """How a part ended."""

    status: int
    said: str  # the last line it printed
    seconds: float


class Killed(RuntimeError):
    """A part's process was killed: by the system for its memory, or by a person. It is worth another try."""


def run_parts(configs: Iterable[dict], count: int, engine: EngineSpec, command: str) -> list[int]:
    """Have each of the `count` runs of `configs` done by the workers of `engine`; their exit statuses, in order.

    What failed is named, and the others are done. Raises OSError if the scheduler is lost, KeyboardInterrupt after
    Ctrl-C; in both cases the parts end, and the same command goes on with those that are missing.
    """
    statuses, busy = [0] * count, 0.0
    with opened(engine) as client:
        begun = time.perf_counter()
        workers = max(1, len(client.nthreads()) or engine.workers)
        for number, done in track(_done(client, configs, engine, command), "parts", count, "parts"):
            statuses[number], busy = done.status, busy + done.seconds
            if done.status:
                say(f"part {number}: exit {done.status}: {done.said}")
        seconds = time.perf_counter() - begun
    if count:
        share = busy / (seconds * workers)
        say(
            f"{count} parts, {sum(map(bool, statuses))} failed, in {span(seconds)}; {share:.1%} of the time of "
            f"{workers} workers went into them"
        )
    return statuses


def _done(client, configs, engine: EngineSpec, command: str) -> Iterator[tuple[int, Done]]:
    """The number of each part and how it ended, as they end."""
    from distributed import as_completed

    waiting, known = enumerate(configs), {}

    def submit(most: int) -> list:
        futures = []
        for number, config in waiting:
            config = shared_fairly(config, engine)
            future = client.submit(
                do_part, config, command, str(Path.cwd()), pure=False, retries=RETRIES
            )
            known[future.key] = number
            futures.append(future)
            if len(futures) == most:
                break
        return futures

    ended = as_completed(submit(AT_ONCE))
    try:
        for future in ended:
            if future.status in ("cancelled", "lost") or client.status != "running":
                raise ConnectionError(f"the scheduler of Dask is lost; {GOES_ON}")
            yield known.pop(future.key), _ended(future)
            ended.update(submit(1))
    finally:
        if known and client.status == "running":
            with suppress(Exception):
                client.cancel([*ended.futures], force=True)


def _ended(future) -> Done:
    """How the part of `future` ended; that it could not be done at all counts as a failure, too."""
    if (error := future.exception()) is None:
        return Done(*future.result())
    if isinstance(error, ImportError) or "deserialization" in str(error):
        return Done(
            2, "the scheduler or a worker cannot import trizoo; start both where it is", 0.0
        )
    return Done(2, " ".join(f"{type(error).__name__}: {error}".split())[:300], 0.0)


def shared_fairly(config: dict, engine: EngineSpec) -> dict:
    """`config`, with its part of this machine's cores where several workers of `engine` share them."""
    backend = config["backend"]
    if engine.scheduler is not None or backend["threads"]:
        return config
    threads = max(1, len(allowed_cores()) // engine.workers)
    return config | {"backend": backend | {"threads": threads}}


@contextmanager
def opened(engine: EngineSpec):
    """A client of the scheduler that `engine` names, or of one of its own, which ends with it.

    Raises ValueError where Dask is not installed, or no scheduler answers.
    """
    try:
        import distributed
    except ImportError as error:
        raise ValueError("engine=dask needs Dask; pip install 'trizoo[cluster]'") from error
    for name in list(logging.root.manager.loggerDict):  # what matters is said in a line
        if name.startswith("distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as place:
        cluster = None
        if engine.scheduler is None:
            os.environ["PYTHONPATH"] = found_from_anywhere(os.environ)
            cluster = distributed.LocalCluster(
                n_workers=engine.workers,
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address=None,
                local_directory=place,
                silence_logs=logging.CRITICAL,
            )
        elif engine.scheduler == "slurm":
            cluster = slurm_cluster(engine)
            # not `scale`, which submits no other job for one that has ended, at its time say
            cluster.adapt(minimum_jobs=engine.workers, maximum_jobs=engine.workers)
        try:
            address = cluster or engine.scheduler
            client = distributed.Client(address, timeout=ANSWERS)
        except (OSError, TimeoutError) as error:
            raise ValueError(
                f"no scheduler of Dask answers at {engine.scheduler}; start one (dask scheduler), or leave "
                "engine.scheduler out"
            ) from error
        try:
            yield client
        finally:
            for one in filter(None, (client, cluster)):
                with suppress(Exception):
                    one.close(timeout=10)


def slurm_cluster(engine: EngineSpec):
    """Dask's workers as jobs of Slurm, each of which does one part at a time; none is submitted yet."""
    from dask_jobqueue import SLURMCluster

    asked = engine.slurm
    return SLURMCluster(
        queue=asked.partition,
        account=asked.account,
        walltime=asked.time,
        memory=asked.memory,
        cores=1,
        processes=1,
        job_cpu=asked.cores,
        job_extra_directives=list(asked.options),
        job_script_prologue=[f"export PYTHONPATH={found_from_anywhere(os.environ)}"],
        job_name="trizoo",
        python=sys.executable,
    )


def do_part(config: dict, command: str, place: str) -> Done:
    """On a worker: do the run of `config` in a process of its own, in the folder `place`; how it ended.

    The process ends when the worker does, or when nobody wants the part any more. Raises Killed if it was killed.
    """
    from distributed import get_worker

    worker, begun = get_worker(), time.perf_counter()
    key = worker.get_current_task()
    reading, writing = os.pipe()
    try:
        with tempfile.TemporaryFile("w+") as asked, tempfile.TemporaryFile() as said:
            json.dump({"config": config, "command": command}, asked)
            asked.seek(0)
            child = subprocess.Popen(
                [sys.executable, *program(), f"--part={reading}"],
                stdin=asked,
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd=place,
                pass_fds=[reading],
                start_new_session=True,
            )
            status = _watched(child, worker, key)
            size = said.seek(0, os.SEEK_END)
            said.seek(max(0, size - LAST_LINES))
            lines = said.read().decode(errors="replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "")
    finally:
        os.close(reading)
        os.close(writing)
    if status == 128 + signal.SIGKILL:
        raise Killed(f"{last} (killed {RETRIES + 1} times)")
    return Done(status, last, time.perf_counter() - begun)


def _watched(child: subprocess.Popen, worker, key: str) -> int:
    """The exit status of `child`, which is ended if the task `key` of `worker` is cancelled."""
    while True:
        try:
            status = child.wait(0.1)
            return status if status >= 0 else 128 - status
        except subprocess.TimeoutExpired:
            task = worker.state.tasks.get(key)
            if task is None or task.state != "executing":
                child.terminate()
                return 128 - child.wait()


def read_part(pipe: int) -> tuple[dict, str]:
    """In a part's process: what it is to do, from its standard input; it ends when its worker, at `pipe`, does."""
    end_with_parent(pipe)
    asked = json.load(sys.stdin)
    return asked["config"], asked["command"]
