"""Parts done by the workers of Dask: lost workers, a lost scheduler, Ctrl-C, and nothing that is left running."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import trizoo
from shared.run.engine import run_parts, shared_fairly, slurm_cluster
from shared.run.launch import ROOT
from shared.run.spec import EngineSpec, from_config

WITHOUT = "the workers of Dask need the package distributed"


def engine(*words: str) -> EngineSpec:
    return from_config(
        EngineSpec, trizoo.compose(["task=predict", "engine=dask", *words])["engine"]
    )


def parts(place: Path, *seeds: int) -> list[dict]:
    """Runs of the stub, which are told apart by their seeds, as parts are by their numbers."""
    words = ["task=fit", f"outputs={place}/out", "dataset.galaxies=100", "model.image_size=16"]
    return [trizoo.compose([*words, f"seed={seed}"]) for seed in seeds]


# What a worker starts in place of trizoo: runs end as their seeds say, and the first try of some dies.
STUB = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
import trizoo

def task(run, folder):
    place = Path({place!r})
    with (place / "calls").open("a") as calls:
        calls.write(f"{{run.seed}} {{os.getpid()}} {{run.backend.threads}}\\n")
    tries = sum(line.split()[0] == str(run.seed) for line in (place / "calls").read_text().splitlines())
    if run.seed == 7:
        raise ValueError("no luck")
    if run.seed == 8 and tries == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if run.seed == 9 and tries == 1:  # the worker itself, whose grandchild this is
        parent = int(Path(f"/proc/{{os.getppid()}}/stat").read_text().rsplit(")", 1)[1].split()[1])
        os.kill(parent, signal.SIGKILL)
        time.sleep(600)
    if run.seed == 11:
        time.sleep(600)
    return {{"where": {{}}, "results": {{"summary": "all is well"}}}}

trizoo.program = lambda: [__file__]
sys.modules["shared.tasks.fit"] = type("Stub", (), {{"fit": staticmethod(task)}})
if __name__ == "__main__":
    sys.exit(trizoo.main())
"""

DRIVER = """
import json, sys
from pathlib import Path
sys.path[:0] = [{root!r}, {tests!r}]
from shared.run import engine as module
module.program = lambda: [{stub!r}]
if __name__ == "__main__":
    from test_engine import engine, parts
    place = Path({place!r})
    configs = parts(place, *json.loads(sys.argv[1]))
    try:
        print(module.run_parts(configs, len(configs), engine(*sys.argv[2:]), "trizoo part"))
    except OSError as error:
        sys.exit(str(error))
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder, whose workers run the stub: Dask starts them anew, so the stub's place is told by a module."""
    pytest.importorskip("distributed", reason=WITHOUT)
    stub, driver = tmp_path / "stub.py", tmp_path / "driver.py"
    given = {"root": str(ROOT), "place": str(tmp_path), "stub": str(stub)}
    stub.write_text(STUB.format(**given))
    driver.write_text(DRIVER.format(**given, tests=str(ROOT / "tests")))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def drive(place: Path, seeds: list[int], *words: str) -> subprocess.Popen:
    """The driver at work on parts of `seeds`."""
    command = [sys.executable, str(place / "driver.py"), json.dumps(seeds), *words]
    # its workers import the driver as their main module, and so know the stub
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def calls(place: Path) -> list[list[str]]:
    file = place / "calls"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(true, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_parts_are_done_failures_named_and_what_was_killed_tried_again(place):
    driver = drive(place, [0, 7, 8, 9, 1])
    out, error = driver.communicate(timeout=300)
    assert out.strip() == "[0, 2, 0, 0, 0]", error
    assert "part 1: exit 2: trizoo: no luck" in error
    assert re.search(r"5 parts, 1 failed, in .*; \d+\.\d% of the time of 2 workers", error)
    seeds = [seed for seed, *_ in calls(place)]
    assert {seed: seeds.count(seed) for seed in "01789"} == {
        **dict.fromkeys("017", 1),
        **dict.fromkeys("89", 2),
    }
    records = {file.parent.name for file in place.glob("out/fit/*/record.json")}
    assert {re.search(r"seed(\d)", name)[1] for name in records} == {*"0189"}


def test_ctrl_c_ends_parts_and_workers(place):
    driver = drive(place, [11, 11, 0])
    wait_until(lambda: calls(place))
    driver.send_signal(signal.SIGINT)
    driver.communicate(timeout=120)
    assert driver.returncode != 0
    wait_until(lambda: not any(alive(int(process)) for _, process, _ in calls(place)))


@pytest.fixture
def scheduler(place):
    """A scheduler with a worker, as they are started on machines of a cluster; its address, and their processes."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(place), str(ROOT)])}
    (place / "preload.py").write_text(
        f"from shared.run import engine\nengine.program = lambda: [{str(place / 'stub.py')!r}]\n"
    )
    file = place / "scheduler.json"
    dask, said = (
        [sys.executable, "-m", "distributed.cli.dask_scheduler"],
        (place / "said").open("w"),
    )
    one = subprocess.Popen(
        [*dask, f"--scheduler-file={file}", "--host=127.0.0.1", "--port=0", "--no-dashboard"],
        stdout=said,
        stderr=said,
        env=environment,
    )
    wait_until(file.exists)
    address = json.loads(file.read_text())["address"]
    dask[-1] = "distributed.cli.dask_worker"
    words = [address, "--nthreads=1", "--no-dashboard", "--preload=preload.py", "--no-nanny"]
    other = subprocess.Popen(
        [*dask, *words, f"--local-directory={place}", "--death-timeout=30"],
        stdout=said,
        stderr=said,
        env=environment,
        cwd=place,
    )
    yield address, one, other
    for process in (one, other):
        process.kill()
        process.wait()
    said.close()


def test_a_scheduler_that_is_lost_ends_it_in_a_line(place, scheduler):
    address, process, _ = scheduler
    driver = drive(place, [0, 11], f"engine.scheduler={address}")
    wait_until(lambda: any(seed == "11" for seed, *_ in calls(place)))
    process.kill()
    _, error = driver.communicate(timeout=120)
    assert driver.returncode == 1
    assert (
        error.strip().splitlines()[-1].startswith("the scheduler of Dask is lost; the same command")
    )
    assert "Traceback" not in error
    wait_until(lambda: not any(alive(int(process)) for _, process, _ in calls(place)))


def test_parts_of_another_machine_end_with_the_command_that_wanted_them(place, scheduler):
    address, _, worker = scheduler
    driver = drive(place, [11], f"engine.scheduler={address}")
    wait_until(lambda: calls(place))
    driver.kill()
    driver.communicate()
    wait_until(lambda: not any(alive(int(process)) for _, process, _ in calls(place)))
    assert worker.poll() is None


def test_a_scheduler_that_is_not_there_is_refused(place, monkeypatch):
    monkeypatch.setattr("shared.run.engine.ANSWERS", 1)
    with pytest.raises(ValueError, match=r"no scheduler of Dask answers at 127\.0\.0\.1:9"):
        run_parts([], 0, engine("engine.scheduler=127.0.0.1:9"), "trizoo part")


def test_processes_of_one_machine_share_its_cores(monkeypatch):
    monkeypatch.setattr("shared.run.engine.allowed_cores", lambda: list(range(8)))
    config = {"backend": {"threads": 0, "name": "jax"}}
    assert shared_fairly(config, engine("engine.workers=3"))["backend"]["threads"] == 2
    assert shared_fairly(config, engine("engine.scheduler=slurm")) == config
    named = {"backend": {"threads": 5}}
    assert shared_fairly(named, engine("engine.workers=3")) == named


def test_the_script_of_a_worker_on_slurm():
    pytest.importorskip("dask_jobqueue", reason="Dask's workers on Slurm need dask-jobqueue")
    asked = ["engine.scheduler=slurm", "engine.slurm.partition=gpu", "engine.slurm.account=me"]
    cluster = slurm_cluster(engine(*asked, 'engine.slurm.options=["--gres=gpu:1"]'))
    script = cluster.job_script()
    cluster.close()
    for line in [
        "-J trizoo",
        "-p gpu",
        "-A me",
        "-n 1",
        "--cpus-per-task=8",
        "--mem=30G",
        "-t 24:00:00",
        "--gres=gpu:1",
    ]:
        assert f"#SBATCH {line}\n" in script
    assert f"export PYTHONPATH={ROOT}" in script
    assert f"{sys.executable} -m distributed.cli.dask_worker" in script
    assert "--nthreads 1" in script


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("engine.scheduler=nonsense", "give HOST:PORT, slurm, or null"),
        ("engine.workers=0", "at least 1"),
        ("engine.name=ray", "choose one of none, dask"),
        ("engine.slurm.time=soon", "HOURS:MINUTES:SECONDS"),
        ("engine.slurm.memory=much", "such as 512MB"),
    ],
)
def test_an_engine_of_no_sense_is_refused(word, why):
    with pytest.raises(ValueError, match=why):
        engine(word)


def test_an_engine_does_the_parts_of_a_prediction_alone(tmp_path, capfd):
    words = [f"outputs={tmp_path}", "dataset.galaxies=100"]
    assert trizoo.main(["fit", *words, "engine=dask"]) == 2
    assert "fit does not use engine" in capfd.readouterr().err


def test_without_dask_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"pip install 'trizoo\[cluster\]'"):
        run_parts([], 0, engine(), "trizoo part")
