"""The fair timing: its clock, its turns, its floor, what it says of the machine, and who may be compared."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import yaml
from fake import Fake, run_of
from quick import only

import benchmarks
from benchmarks import bench, ceilings, child, clock, floor, load, material, timed
from benchmarks.programs import ENVIRONMENT, PROGRAMS, program_of
from benchmarks.programs import run_of as run_as
from benchmarks.work import Work
from shared.network.weights import model_shapes
from shared.run.spec import to_config

FOLDER = Path(benchmarks.__file__).parent
TASKS = sorted(path.stem for path in (FOLDER / "tasks").glob("[!_]*.py"))
W20 = run_of(
    "model.image_size=128", "model.blocks=[[32,32],[64,64],[128],[128]]", "model.dense=128"
)
WORDS = (
    "bench.batch_size=6",
    "bench.warmup=4",
    "bench.rounds=2",
    "bench.repeats=3",
    "backend.steps=2",
)
TIMED = ["startup", "train", "predict", "posterior", "augment"]


# The clock


def spending(*seconds):
    """Work whose calls take `seconds` each, and a clock to read them by."""
    now, left = [0.0], list(seconds)

    def call():
        now[0] += left.pop(0)

    def before():
        now[0] += 1000  # what comes before a call is in no number

    return Work(call, 1, before=before), lambda: now[0], left


def test_a_call_is_timed_without_what_comes_before_it(monkeypatch):
    work, now, _ = spending(3, 5)
    monkeypatch.setattr(clock.time, "perf_counter", now)
    assert [clock.seconds(work), clock.seconds(work)] == [3, 5]


@pytest.mark.parametrize(
    ("taken", "most", "calls", "is_steady"),
    [
        ((9, 5, 1, 1.05, 1.09, 7), 10, 5, True),
        ((9, 5, 1, 1.2, 1, 7), 5, 5, False),
        ((1, 1, 1, 1), 2, 2, False),
        ((1, 1.2, 1), 3, 3, False),
    ],
)
def test_warming_up_ends_when_calls_take_the_same_time(monkeypatch, taken, most, calls, is_steady):
    work, now, left = spending(*taken)
    monkeypatch.setattr(clock.time, "perf_counter", now)
    assert clock.warm_up(work, most) == (calls, is_steady)
    assert len(left) == len(taken) - calls


# The floor


def test_the_work_of_the_network_is_counted_from_its_shapes():
    shapes = model_shapes(W20.model)
    widths = {"conv0": 128, "conv1": 128, "conv2": 64, "conv3": 64, "conv4": 32, "conv5": 16}
    convolutions = sum(
        2 * np.prod(shapes[f"{name}/kernel"]) * width**2 for name, width in widths.items()
    )
    dense = 2 * (8 * 8 * 128 * 128 + 128 * 2)
    assert floor.forward_flops(W20.model) == convolutions + dense
    assert floor.forward_flops(W20.model, 30) - floor.forward_flops(W20.model) == 29 * 2 * 128 * 2
    assert floor.forward_flops(W20.model) == pytest.approx(
        0.993e9, rel=0.01
    )  # design notes of W+20's network
    without_first = 2 * 9 * 32 * 128**2
    assert floor.training_flops(W20.model) == 3 * (convolutions + dense) - without_first


def test_the_traffic_is_what_each_layer_reads_and_writes():
    model = run_of("model.image_size=4", "model.blocks=[[2]]", "model.dense=3").model
    image, conv, pooled, dense, weights = 16, 32, 8, 3, 9 * 2 + 2 + 8 * 3 + 3 + 3 * 2 + 2
    forward = 64 + 4 * ((image + conv + pooled + dense) + (image + conv + pooled))
    assert floor.forward_bytes(model, "float32", 64, 1) == forward + 4 * weights
    backward = 4 * ((conv + pooled + dense) + 2 * (image + conv + pooled))
    expected = 5 * (forward + backward) + 4 * weights + 8 * 4 * weights
    assert floor.training_bytes(model, "float32", 64, 5) == expected
    assert floor.training_bytes(model, "bfloat16", 64, 5) < expected


def test_the_floor_is_the_longer_of_arithmetic_and_traffic():
    roof = {"matmul_flops": 100.0, "copy_bytes": 10.0}
    assert floor.floor_seconds(1000, 50, roof) == 10
    assert floor.floor_seconds(1000, 500, roof) == 50
    assert floor.floor_seconds(None, 500, roof) == 50
    assert floor.floor_seconds(None, None, roof) is None
    assert floor.floor_seconds(1000, None, {"matmul_flops": None, "copy_bytes": 1}) is None


def test_ceilings_are_the_best_of_whoever_is_there(monkeypatch):
    monkeypatch.setattr(ceilings, "SIZE", {"cpu": 10})
    monkeypatch.setattr(ceilings, "COPIED", {"cpu": 100})
    monkeypatch.setattr(ceilings, "fastest", lambda call: call())
    known = {"slow": (lambda: 4.0, lambda: 1.0), "fast": (lambda: 2.0, lambda: 5.0)}
    assert ceilings.measured(known, "cpu") == {
        "matmul_flops": 1000.0,
        "copy_bytes": 200.0,
        "how": "matrix product by fast, copy by slow",
    }
    assert ceilings.measured({}, "cpu")["matmul_flops"] is None


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_machine_is_measured(monkeypatch, precision):
    monkeypatch.setattr(ceilings, "SIZE", {"cpu": 256})
    monkeypatch.setattr(ceilings, "COPIED", {"cpu": 1 << 20})
    monkeypatch.setattr(ceilings, "find_spec", lambda _: None)
    found = ceilings.measured(ceilings.makers(precision, "cpu"), "cpu")
    assert found["matmul_flops"] > 1e8
    assert found["copy_bytes"] > 1e7
    assert "by NumPy" in found["how"]


# The machine


def machine(tmp_path, busy, own, joules):
    """Stand-ins of /proc and /sys."""
    stat = tmp_path / "stat"
    stat.write_text(f"cpu  {busy} 0 0 700 5 0 0 0 0 0\ncpu0 1 2 3\n")
    (tmp_path / "7").mkdir(exist_ok=True)
    (tmp_path / "7" / "stat").write_text(f"7 (a ) b) S {'0 ' * 10}{own} 0 0 0 20 0 1\n")
    package = tmp_path / "class/powercap/intel-rapl:0"
    package.mkdir(parents=True, exist_ok=True)
    (package / "energy_uj").write_text(str(joules * 10**6))


@pytest.mark.parametrize(("others", "disturbed"), [(0, False), (10, False), (40, True)])
def test_what_others_use_is_all_that_is_busy_but_the_timed(
    tmp_path, monkeypatch, others, disturbed
):
    ticks = os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(load, "PROC", tmp_path)
    monkeypatch.setattr(load, "SYS", tmp_path)
    monkeypatch.setattr(load, "_card", lambda: None)
    now = iter((0.0, 2.0))
    monkeypatch.setattr(load.time, "perf_counter", lambda: next(now))
    machine(tmp_path, 1000, 500, 3)
    before = load.read([7])
    machine(tmp_path, 1000 + 300 + others, 500 + 300, 10)
    turn = load.between(before, load.read([7]))
    assert turn.other_cores == pytest.approx(others / ticks / 2)
    assert turn.disturbed == disturbed
    assert turn.joules == 7


@pytest.mark.parametrize(("wall", "joules"), [(0.9, None), (1.5, 40.0)])
def test_energy_of_a_turn_too_short_for_the_counter_is_none(wall, joules):
    before, after = load.Reading(10.0, 5.0, 2.0, 100.0), load.Reading(10.0 + wall, 5.0, 2.0, 140.0)
    assert load.between(before, after).joules == joules


def test_clock_and_heat_are_the_gpus_where_there_is_one(monkeypatch):
    class Library:
        NVML_CLOCK_SM, NVML_TEMPERATURE_GPU = "sm", "gpu"

        def nvmlDeviceGetClockInfo(self, handle, kind):
            return {("card", "sm"): 1980}[handle, kind]

        def nvmlDeviceGetTemperature(self, handle, kind):
            return {("card", "gpu"): 41}[handle, kind]

    monkeypatch.setattr(load, "_card", lambda: (Library(), "card"))
    assert (load.clock_mhz(), load.celsius()) == (1980.0, 41.0)


def test_what_the_machine_does_not_tell_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "PROC", tmp_path)
    monkeypatch.setattr(load, "SYS", tmp_path)
    monkeypatch.setattr(load, "_card", lambda: None)
    reading = load.read([7])
    assert (reading.busy, reading.own, reading.joules) == (None, None, None)
    assert load.between(reading, load.read([7])) == load.Turn(None, False, None)
    assert (load.clock_mhz(), load.celsius()) == (None, None)


def test_clock_and_heat_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "PROC", tmp_path)
    monkeypatch.setattr(load, "SYS", tmp_path)
    monkeypatch.setattr(load, "_card", lambda: None)
    (tmp_path / "cpuinfo").write_text("cpu MHz\t\t: 2000.5\nother : 1\ncpu MHz : 3000.5\n")
    for zone, milli in ((0, 41000), (1, 56500)):
        (tmp_path / f"class/thermal/thermal_zone{zone}").mkdir(parents=True)
        (tmp_path / f"class/thermal/thermal_zone{zone}/temp").write_text(str(milli))
    assert (load.clock_mhz(), load.celsius()) == (2500.5, 56.5)


# Turns


def answering(path, lines):
    """An interpreter that is none: it says each of `lines`, the first unasked, and then ends."""
    answers = "".join(f"echo '{json.dumps(line)}'; read word || exit 0\n" for line in lines)
    path.write_text(f"#!/bin/sh\n{answers}echo last words >&2\nexit 3\n")
    path.chmod(0o755)
    return str(path)


def about(precision, images, flops):
    where = {"device": "cpu", "precision": precision, "compiled": "fully", "threads": "2"}
    memory = {"peak_memory_bytes": 9, "host_memory_bytes": 9}
    numbers = {"images": images, "flops": flops, "bytes": None, **memory}
    return numbers | {"where": where}


def program(path, *turns, precision="float32", images=12, flops=24.0):
    """A program that takes `turns`, warm after 3 calls."""
    opened = [{"import_seconds": 2.0}, {"seconds": 9.0}, {"calls": 3, "steady": True}]
    spent, facts = [{"seconds": list(turn)} for turn in turns], about(precision, images, flops)
    return answering(path, [*opened, facts, *spent, facts])


@pytest.fixture
def told_roof(monkeypatch):
    """Ceilings that cost nothing."""
    answer = json.dumps({"matmul_flops": 8.0, "copy_bytes": 4.0, "how": "told"})
    script = f"import sys\nfor _ in sys.stdin: print({answer!r}, flush=True)"

    def roof_process(run, devices):
        assert set(devices) == {"cpu"}
        return child.child([sys.executable, "-c", script], dict(os.environ))

    monkeypatch.setattr(bench, "roof_process", roof_process)


def test_programs_take_turns_and_are_compared_within_a_round(tmp_path, told_roof):
    pythons = {
        "torch": program(tmp_path / "torch", (1, 1, 4), (2, 2, 2)),
        "jax": program(tmp_path / "jax", (2, 2, 2), (6, 6, 6)),
        "keras-jax": program(tmp_path / "keras", (4, 4, 4), (6, 6, 6), images=6, flops=None),
        "jax-bf16": program(tmp_path / "bf16", (1, 1, 1), (1, 1, 1), precision="bfloat16"),
        "zoobot": answering(tmp_path / "zoobot", [{"missing": "no zoobot here"}]),
        "baal": answering(tmp_path / "baal", [{"import_seconds": 2.0}]),
    }
    words = ",".join(f"{name}: {path}" for name, path in pythons.items())
    run = run_of(
        *WORDS,
        f"bench.programs=[{','.join(pythons)}]",
        "bench.tasks=[train]",
        f"+bench.pythons={{{words}}}",
    )
    outcome = bench.bench(run, tmp_path)
    found = outcome["results"]
    rows = {row["program"]: row for row in found["rows"]}
    assert list(rows) == ["torch", "jax", "keras-jax", "jax-bf16"]
    assert rows["torch"]["seconds"] == [[1, 1, 4], [2, 2, 2]]
    assert rows["torch"]["median_seconds"] == 2
    assert rows["torch"]["images_per_second"] == 6
    assert (rows["torch"]["floor_seconds"], rows["torch"]["floor_share"]) == (3.0, 1.5)
    assert (rows["torch"]["first_seconds"], rows["torch"]["import_seconds"]) == (9, 2)
    assert (rows["torch"]["warmup_calls"], rows["torch"]["steady"]) == (3, True)
    assert (rows["keras-jax"]["peer"], rows["jax"]["peer"]) == (True, False)
    assert rows["torch"]["energy_joules"] is None
    assert rows["keras-jax"]["flops"] == 12  # of half as many galaxies, the same job
    assert rows["keras-jax"]["bytes"] is None
    pairs = {(one["program"], one["against"]): one for one in found["ratios"]}
    assert set(pairs) == {
        ("torch", "jax"),
        ("jax", "keras-jax"),
    }  # neither bfloat16 nor PyTorch with Keras on JAX
    one = pairs["torch", "jax"]
    assert (one["low"], one["median"], one["high"]) == (2, 2.5, 3)
    missing = {entry["program"]: entry["reason"] for entry in found["missing"]}
    assert missing["zoobot"] == "no zoobot here"
    assert "ended with status 3: last words" in missing["baal"]
    assert found["ceilings"] == {
        "matmul_flops": 8.0,
        "copy_bytes": 4.0,
        "how": "told",
        "rounds": [[8.0, 4.0]] * 2,
    }
    assert outcome["where"]["device"] == "cpu"


def test_who_does_not_answer_is_missing_and_the_others_go_on(tmp_path, told_roof):
    slow = tmp_path / "jax"
    slow.write_text("#!/bin/sh\necho '{\"import_seconds\": 2.0}'\nexec sleep 100\n")
    slow.chmod(0o755)
    pythons = {"torch": program(tmp_path / "torch", (1,), (2,)), "jax": str(slow)}
    words = ("bench.tasks=[train]", "bench.programs=[jax,torch]", "bench.patience=1")
    run = run_of(*WORDS, *words)
    found = bench.bench(replace(run, bench=replace(run.bench, pythons=pythons)), tmp_path)
    assert [row["program"] for row in found["results"]["rows"]] == ["torch"]
    (missing,) = found["results"]["missing"]
    assert missing["program"] == "jax"
    assert "not answered after 1 s; raise bench.patience" in missing["reason"]


def test_what_a_task_costs_is_told_within_the_rounds_of_another(tmp_path, told_roof):
    run = run_of(*WORDS, "bench.tasks=[posterior,predict]", "bench.repeats=1")
    turns = {"posterior": (6, 3), "predict": (2, 2)}
    script = tmp_path / "torch"
    for task, (one, other) in turns.items():
        program(tmp_path / task, (one,), (other,))
    script.write_text(f'#!/bin/sh\nexec "{tmp_path}/$5"\n')
    script.chmod(0o755)
    run = replace(run, bench=replace(run.bench, pythons={"torch": str(script)}))
    found = bench.bench(run, tmp_path)["results"]
    assert [row["task"] for row in found["rows"]] == ["posterior", "predict"]
    (cost,) = found["costs"]
    assert (cost["program"], cost["task"], cost["against_task"]) == (
        "torch",
        "posterior",
        "predict",
    )
    assert (cost["low"], cost["high"]) == (2 / 6, 2 / 3)
    assert found["ratios"] == []  # two tasks are no ratio of programs
    assert len(found["ceilings"]["rounds"]) == 2  # both tasks in the same rounds


def test_who_ends_before_the_last_turn_is_missing_and_the_others_go_on(tmp_path, told_roof):
    opened = [{"import_seconds": 2.0}, {"seconds": 9.0}, {"calls": 3, "steady": True}]
    pythons = {
        "torch": program(tmp_path / "torch", (1,), (2,)),
        "jax": answering(tmp_path / "jax", [*opened, about("float32", 12, 24.0), {"seconds": [1]}]),
    }
    run = run_of(*WORDS, "bench.tasks=[train]", "bench.programs=[jax,torch]")
    found = bench.bench(replace(run, bench=replace(run.bench, pythons=pythons)), tmp_path)[
        "results"
    ]
    assert [row["program"] for row in found["rows"]] == ["torch"]
    (entry,) = found["missing"]
    assert entry["program"] == "jax"
    assert "ended with status 3: last words" in entry["reason"]


def test_tasks_go_together_only_with_what_they_are_told_against():
    tasks = ("train", "posterior", "predict", "epoch", "round")
    assert bench.task_groups(tasks) == [
        ("train",),
        ("posterior", "predict"),
        ("epoch",),
        ("round",),
    ]


def test_if_nobody_can_be_timed_it_says_why(tmp_path, told_roof):
    path = answering(tmp_path / "torch", [{"missing": "no torch here"}])
    run = run_of("bench.tasks=[train]", f"+bench.pythons.torch={path}")
    with pytest.raises(ValueError, match="nothing could be timed: no torch here"):
        bench.bench(run, tmp_path)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("bench.tasks=[trian]", r"bench.tasks is 'trian'; choose one of acquisition, "),
        ("bench.programs=[tensorflow]", r"bench.programs has 'tensorflow'; choose among tf, torch"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_starts(tmp_path, word, says):
    with pytest.raises(ValueError, match=says):
        bench.bench(run_of(word), tmp_path)


@pytest.mark.parametrize("tasks", only([TIMED[:2]], TIMED), ids=len)
def test_a_real_program_is_timed_in_its_process(tmp_path, tasks):
    pytest.importorskip("torch")
    run = run_of(
        *WORDS, f"bench.tasks=[{','.join(tasks)}]", "backend.threads=1", "posterior.samples=5"
    )
    found = bench.bench(run, tmp_path)["results"]
    rows = {row["task"]: row for row in found["rows"]}
    assert list(rows) == tasks
    images = {"startup": 6, "train": 12, "predict": 6, "posterior": 6, "augment": 6}
    assert {task: rows[task]["images"] for task in tasks} == {task: images[task] for task in tasks}
    assert {task for task in tasks if rows[task]["samples"] is not None} == {"posterior"} & {*tasks}
    assert rows.get("posterior", {"samples": 5})["samples"] == 5
    for row in rows.values():
        assert row["program"] == row["backend"] == "torch"
        assert 0 < row["p10_seconds"] <= row["median_seconds"] <= row["p90_seconds"]
        assert 0 < row["floor_share"] < 1
        assert (row["precision"], row["device"]) == ("float32", "cpu")
        assert row["peak_memory_bytes"] == row["host_memory_bytes"] > 1e7
        assert row["where"]["torch"]
    assert [len(part) for part in rows["train"]["seconds"]] == [3, 3]
    assert [len(part) for part in rows["startup"]["seconds"]] == [1, 1]
    assert rows["startup"]["median_seconds"] > rows["startup"]["import_seconds"] > 0
    assert found["missing"] == []
    assert found["ceilings"]["matmul_flops"] > 1e8


def test_a_timed_process_refuses_what_its_program_has_not(tmp_path):
    pytest.importorskip("torch")
    file = tmp_path / "run.json"
    file.write_text(json.dumps(to_config(run_of("bench.batch_size=6"))))
    words = [sys.executable, "-m", "benchmarks.timed", str(file), "torch", "startle"]
    environment = {
        **os.environ,
        timed.BEGUN: str(time.monotonic()),
        "PYTHONPATH": str(FOLDER.parent),
    }
    done = subprocess.run(
        words, input="", env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["missing"].startswith("no task startle; there are acquisition, ")


# Programs


def test_programs_find_the_environment_that_runs_of_their_framework_find():
    for name, wanted in ENVIRONMENT.items():
        conf = yaml.safe_load((FOLDER.parent / f"conf/backend/{name}.yaml").read_text())
        assert wanted == conf["environment"]


def test_a_program_has_its_own_framework_precision_and_compilation_and_nothing_else():
    run = run_of("backend.threads=1", "backend.compiled=eager")
    for name, one in PROGRAMS.items():
        own = run_as(run, program_of(name))
        assert own.backend.name == one.backend
        assert own.backend.precision == (one.precision or "float32")
        assert own.backend.compiled == (one.compiled if one.compiled != "auto" else "eager")
        environment = dict(own.backend.environment)
        assert environment.pop("KERAS_BACKEND", None) == (
            one.keras or {"tf": "tensorflow"}.get(one.backend)
        )
        same = replace(own, backend=run.backend)
        assert same == run
    assert {one.module for one in PROGRAMS.values()} == {
        f"benchmarks.programs.{path.stem}"
        for path in (FOLDER / "programs").glob("[!_]*.py")
        if "def work(" in path.read_text()
    }


# Tasks


def test_training_goes_on_from_call_to_call_and_every_call_does_the_work():
    run = run_of(*WORDS)
    for name, done in (
        ("train", [2, 2, 2]),
        ("train_plain", [2, 2, 2]),
        ("predict", 1),
        ("posterior", 30),
    ):
        backend = Fake()
        work = import_module(f"benchmarks.tasks.{name}").work(backend, run)
        given = [work.call() for _ in range(3)]
        if name.startswith("train"):
            assert [len(losses) for losses in given] == done
            steps = np.concatenate([plan.steps for plan in backend.plans])
            assert steps.tolist() == [0, 1, 2, 3, 4, 5]
            assert backend.plans[0].rows.shape == (2, 6)
            assert (work.images, work.flops) == (12, 12 * floor.training_flops(run.model))
            still = np.ptp(
                np.concatenate([plan.views.affine for plan in backend.plans]).reshape(-1, 6), 0
            )
            assert (still.max() < 1e-6) == (name == "train_plain")
        else:
            assert [samples.shape for samples in given] == [(6, done, 2)] * 3
            assert (work.images, work.flops) == (6, 6 * floor.forward_flops(run.model, done))


def test_views_are_seen_anew_at_every_call():
    backend, run = Fake(), run_of(*WORDS)
    work = import_module("benchmarks.tasks.augment").work(backend, run)
    one, other = work.call(), work.call()
    assert len(one) == work.images == 6
    assert not np.array_equal(one, other)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    return tmp_path_factory.mktemp("outputs")


def of_store(outputs, *words):
    return run_of(
        f"dataset.stores={outputs}",
        "bench.galaxies=14",
        "bench.batch_size=6",
        "backend.steps=1",
        *words,
    )


def test_an_epoch_takes_every_whole_batch_once_from_disk_as_from_memory(outputs):
    learned = {}
    for name in ("epoch", "epoch_memory"):
        backend = Fake()
        work = import_module(f"benchmarks.tasks.{name}").work(backend, of_store(outputs))
        for _ in range(2):
            work.before()
            work.call()
        assert work.images == 12
        assert [plan.steps.tolist() for plan in backend.plans] == [[0], [1], [2], [3]]
        for epoch in (backend.plans[:2], backend.plans[2:]):
            rows = np.concatenate([plan.rows.ravel() for plan in epoch])
            assert len(set(rows.tolist())) == 12
        learned[name] = backend.plans[-1].rows
    np.testing.assert_array_equal(learned["epoch"], learned["epoch_memory"])


def test_a_round_trains_samples_and_chooses(outputs):
    backend = Fake()
    words = ("acquisition.initial=4", "acquisition.per_round=3", "acquisition.round_steps=2")
    work = import_module("benchmarks.tasks.round").work(backend, of_store(outputs, *words))
    for _ in range(2):
        assert len(work.call().rows) == 7
    assert work.images == 10
    assert np.concatenate([plan.steps for plan in backend.plans]).tolist() == [0, 1, 2, 3]
    assert backend.sampled == [10, 10]
    with pytest.raises(ValueError, match=r"a round needs acquisition.initial=12"):
        import_module("benchmarks.tasks.round").work(
            backend, of_store(outputs, "acquisition.initial=12")
        )


def test_quality_trains_until_its_target_and_says_where_it_does_not_come_to_it(outputs):
    task = import_module("benchmarks.tasks.quality")
    words = ("training.steps=80", "backend.steps=40")
    work = task.work(backend := Fake(), of_store(outputs, *words, "bench.target=100"))
    assert work.call() == 40
    assert sum(len(plan.steps) for plan in backend.plans) == 40
    held = np.arange(14)[::4]
    assert not np.isin(held, np.concatenate([plan.rows for plan in backend.plans])).any()
    work = task.work(Fake(), of_store(outputs, *words, "bench.target=0.001"))
    with pytest.raises(ValueError, match=r"bench.target is 0.001 nat, and 80 steps came to \d"):
        work.call()


def test_a_store_that_does_not_fill_a_batch_is_refused(outputs):
    with pytest.raises(ValueError, match=r"a batch needs bench.batch_size=15"):
        material.stored(of_store(outputs, "bench.batch_size=15"))


@pytest.mark.skipif(
    not Path("/proc/self/io").exists(), reason="only Linux tells what is read from disk"
)
def test_what_is_forgotten_is_not_in_memory(outputs):
    store, _ = material.stored(of_store(outputs))
    wanted = np.array(store.images[:])
    shard = store.images.shards[0]

    def mapped():
        lines = (
            Path("/proc/self/smaps")
            .read_text()
            .split(str(store.folder / store.source["shards"][0]))[1]
        )
        return int(lines.split("Rss:")[1].split()[0])

    assert mapped() > 0
    material.forget(store)
    assert mapped() == 0
    np.testing.assert_array_equal(shard, wanted)
