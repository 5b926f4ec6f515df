"""However many workers share it, a run has the same bytes; when one of them is lost it ends soon, and can go on.

As a program of its own, `python tests/test_workers.py JOB NAME PRECISION WORKERS STEPS FOLDER` does what the tests
compare, and prints it as JSON.
"""

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from fake import galaxies, noise
from installed import needs
from quick import ONE_FRAMEWORK, only
from train_networks import NARROW

from shared.method.batches import draw_plan
from shared.method.ensemble import open_networks
from shared.method.sampling import embed_galaxies, sample_galaxies
from shared.method.training import CHECKPOINT, fit
from shared.method.workers import digest
from shared.network.weights import first_checkpoint, load_checkpoint
from shared.run import channel, launch
from shared.run.channel import TOKEN, accept, connect, listen
from shared.run.config import identity
from shared.run.spec import BACKENDS, RunSpec, from_config
from trizoo import child_environment, compose

ROOT = Path(__file__).parent.parent
NETWORKS = ("w20", "resnet18", "convnext_atto")
WORDS = (
    "backend.threads=1",
    "backend.chunk=4",
    "backend.steps=4",
    "model.image_size=32",
    "training.batch_size=16",
    "training.shards=4",
    "training.learning_rate=0.01",
    "training.validate_every=0",
    "training.checkpoint_every=4",
    "posterior.samples=3",
)


def run_for(name, precision, workers, network, *words):
    """A run of a narrow network."""
    network = (f"model={network}", *NARROW[network])
    own = (f"backend={name}", f"backend.precision={precision}", f"backend.workers={workers}")
    return from_config(RunSpec, compose(["task=fit", *network, *own, *WORDS, *words]))


# In a process of its own: a framework and a precision


def results(name, precision, workers, steps, folder):
    """Digests of what each network comes to after so many steps, its samples and its features."""
    found, backend = {}, None
    for network in NETWORKS if steps > 10 else ("resnet18",):
        run = run_for(name, precision, workers, network)
        backend = backend or open_networks(run)
        images, some = noise(40), galaxies(0, 37)
        state = backend.init(run, first_checkpoint(run.model, run.seed, 1))
        for first in range(0, steps, steps // 2):
            plan = draw_plan(run, some, images.size, 0, first, steps // 2)
            state, losses = backend.train_steps(state, images, plan)
        given = (backend, run, state, images, some.rows)
        found[network] = {
            "checkpoint": digest(backend.export_checkpoint(state)),
            "losses": losses.tobytes().hex(),
            "samples": sample_galaxies(*given, some.hashes, 3).tobytes().hex(),
            "features": embed_galaxies(*given).tobytes().hex()[:256],
        }
        if steps > 10:
            loss, gradients = backend.gradients(state, images, plan)
            named = {part: array.tobytes().hex()[:64] for part, array in gradients.items()}
            found[network] |= {"loss": loss, "gradients": named}
    return found


def interrupted(name, precision, workers, steps, folder):
    """What a fit says of whom it lost when a worker is killed at its third call, how soon, and who is left."""
    run = run_for(name, precision, workers, "w20", f"training.steps={steps}")
    backend = open_networks(run)
    started, train_steps, begun = backend.crew.started, backend.train_steps, []

    def killing(*given):
        begun.append(time.monotonic())
        if len(begun) == 3:
            threading.Timer(0.01, started[-1].kill).start()
        return train_steps(*given)

    backend.train_steps = killing
    try:
        fit(backend, run, noise(40), galaxies(0, 37), lambda _: 0.0, Path(folder))
    except OSError as error:
        seconds = time.monotonic() - begun[-1]
        backend.crew.end()
        left = [child.poll() is None for child in started]
        return {"said": str(error), "seconds": seconds, "left": sum(left), "calls": len(begun)}


def fitted(name, precision, workers, steps, folder):
    """The digest of a fit's last checkpoint, and what was found in the folder before."""
    run = run_for(name, precision, workers, "w20", f"training.steps={steps}")
    before = sorted(path.name for path in Path(folder).iterdir())
    fit(open_networks(run), run, noise(40), galaxies(0, 37), lambda _: 0.0, Path(folder))
    checkpoint, _ = load_checkpoint(Path(folder) / CHECKPOINT, run.model, 1)
    return {"checkpoint": digest(checkpoint), "before": before}


def own_first(name, precision, workers, steps, folder):
    """What is said where the first worker adds the shards of others before its own."""
    run = run_for(name, precision, workers, "w20")
    backend = open_networks(run)
    train = import_module(f"impl_{name}.train")
    gather = train.gather
    train.gather = lambda found: {part: array.flip(0) for part, array in gather(found).items()}
    state = backend.init(run, first_checkpoint(run.model, run.seed, 1))
    plan = draw_plan(run, galaxies(0, 37), 32, 0, 0, steps)
    state, _ = backend.train_steps(state, noise(40), plan)
    with suppress(ValueError):
        backend.export_checkpoint(state)
        return {"seen": False}
    return {"seen": True}


JOBS = {job.__name__: job for job in (results, interrupted, fitted, own_first)}


def job(what, name, precision, workers, steps, folder="-"):
    """What a job finds, in a process of its own."""
    needs(name)
    words = [what, name, precision, str(workers), str(steps), str(folder)]
    backend = compose(["task=fit", f"backend={name}", *WORDS[:3]])["backend"]
    done = subprocess.run(
        [sys.executable, __file__, *words],
        cwd=ROOT,
        env=child_environment(backend),
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


# The tests


def test_the_interface_of_an_address_is_named():
    assert channel.interface_of("127.0.0.1:29400") in ("lo", "lo0")
    assert channel.interface_of("192.0.2.1:29400") is None  # an address of documentation
    assert channel.interface_of("[::1]:29400") is None


@pytest.mark.parametrize(
    ("precision", "counts", "steps"),
    only([("float32", (2,), 4)], ("float32", (2, 4), 50), ("float64", (2, 4), 50)),
)
@pytest.mark.parametrize("name", BACKENDS)
def test_any_number_of_workers_gives_the_same_bytes(name, precision, counts, steps):
    alone = job("results", name, precision, 1, steps)
    assert all(len(set(alone[network])) > 1 for network in alone)
    for count in counts:
        assert job("results", name, precision, count, steps) == alone


@pytest.mark.parametrize("name", ONE_FRAMEWORK)
def test_a_run_that_loses_a_worker_ends_and_goes_on_with_fewer(name, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    lost = job("interrupted", name, "float32", 2, 16, broken)
    assert "worker 2 of 2 has ended" in lost["said"]
    assert "goes on where it stopped" in lost["said"]
    assert lost["calls"] == 3
    assert lost["left"] == 0
    again = job("fitted", name, "float32", 1, 16, broken)
    assert again["before"] == [CHECKPOINT]
    assert again["checkpoint"] == job("fitted", name, "float32", 1, 16, whole)["checkpoint"]


def test_sums_in_another_order_are_seen():
    assert job("own_first", "torch", "float32", 2, 4) == {"seen": True}


def meeting(token, other):
    """Both ends of a connection, None where one is refused; the worker's first."""
    ends = {}

    def join(address):
        try:
            ends["worker"] = connect(address, other)
        except OSError as error:
            ends["said"] = str(error)

    with listen(None) as door:
        thread = threading.Thread(target=join, args=[f"127.0.0.1:{door.getsockname()[1]}"])
        thread.start()
        run = accept(door, token, 10)
        thread.join()
    return ends.get("worker"), run, ends.get("said")


def test_numbers_travel_as_they_are():
    worker, run, _ = meeting("secret", "secret")
    heard, lost = [], threading.Event()
    worker.watch(lambda message: heard.append(message.what) or message.what == "aside", lost.set)
    sent = {
        "none": np.zeros((0, 3), np.float32),
        "one": np.float64(0.1)[None],
        "turned": np.arange(6, dtype=np.uint32).reshape(2, 3).T,
    }
    run.send("aside")
    run.send("call", {"first": 0.1, "name": "\u03c1"}, sent)
    message = worker.receive()
    assert heard == ["aside", "call"]
    assert message.facts == {"first": 0.1, "name": "\u03c1"}
    for name, array in sent.items():
        assert message.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(message.arrays[name], array)
    run.close()
    assert lost.wait(10)
    with pytest.raises(ConnectionError):
        worker.receive()
    worker.close()


def test_objects_are_not_read():
    worker, run, _ = meeting("secret", "secret")
    lost = threading.Event()
    worker.watch(lambda message: False, lost.set)
    head = json.dumps(["call", {}, [["object", "|O", [1]]]]).encode()
    run.connection.sendall(struct.pack("<Q", len(head)) + head + bytes(8))
    assert lost.wait(10)
    worker.close()
    run.close()


def test_a_worker_with_another_token_is_refused():
    worker, run, said = meeting("secret", "another")
    assert worker is run is None
    assert "does not take this worker; give both the same TRIZOO_TOKEN" in said


def test_a_stranger_is_passed_over(monkeypatch):
    monkeypatch.setattr(channel, "PATIENCE", 0.1)
    with listen(None) as door, socket.create_connection(door.getsockname()):
        assert accept(door, "secret", 10) is None
        assert accept(door, "secret", 0.01) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["backend.workers=3"],
            "make training.batch_size a multiple of 3 and set training.shards=3",
        ),
        (["backend.workers=8"], "set training.shards=8, or backend.workers to what divides 4"),
        (["backend.workers=0"], "backend.workers is 0; it must be at least 1"),
        (["backend.address=here"], "backend.address is here; it must be HOST:PORT"),
        (["backend=tf", "backend.workers=2", "backend.compiled=full"], "tf cannot share work"),
        (["backend=jax", "backend.workers=2", "backend.compiled=eager"], "jax cannot share work"),
    ],
)
def test_what_cannot_be_shared_is_refused(words, message):
    with pytest.raises(ValueError, match=message):
        from_config(RunSpec, compose(["task=fit", *WORDS, *words]))


def test_workers_are_no_part_of_what_a_run_is():
    one = compose(["task=fit"])
    several = compose(["task=fit", "backend.workers=4", "backend.address=node7:29400"])
    assert identity(one) == identity(several)


def test_cores_are_shared_out(monkeypatch):
    monkeypatch.setattr(launch, "_allowed", list(range(6)))
    given = {"threads": 0, "workers": 4, "address": None}
    assert launch.thread_count(given) == 1
    assert launch.thread_count({**given, "workers": 2}) == 3
    assert launch.thread_count({**given, "address": "node7:29400"}) == 6
    assert launch.thread_count({**given, "threads": 2}) == 2


def test_a_worker_wants_to_know_its_run():
    environment = {name: value for name, value in os.environ.items() if name != TOKEN}
    done = subprocess.run(
        [sys.executable, "trizoo.py", "--worker", "127.0.0.1:9"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"set the variable {TOKEN}" in done.stderr


if __name__ == "__main__":
    what, name, precision, workers, steps, folder = sys.argv[1:]
    print(json.dumps(JOBS[what](name, precision, int(workers), int(steps), folder)))
