"""The command line: words in, one folder and one record per run out. A stub plays the tasks themselves."""

import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import types
from dataclasses import is_dataclass
from importlib.util import find_spec
from typing import get_type_hints

import pyarrow
import pytest
from own_process import calls, stubbed

import trizoo
from shared.run import launch
from shared.run.explain import keys_of, meanings
from shared.run.launch import ROOT
from shared.run.records import unfinished
from shared.run.spec import RunSpec, from_config
from shared.tasks import Task

SMALL = ["dataset.galaxies=100", "model.image_size=16", "outputs=out"]
STORED = ["dataset.galaxies=100", "outputs=out"]  # what prepare uses of it

STUB = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
import trizoo

def task(run, folder):
    with Path("calls").open("a") as calls:
        calls.write(f"{{run.task.name}} {{run.backend.name}} {{run.seed}}\\n")
    ends = {{7: ValueError("no\\nluck"), 8: OSError("no disk"), 9: RuntimeError("a \\x1b]0;mistake\\x07")}}
    if run.seed in ends:
        raise ends[run.seed]
    if run.seed == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    if run.seed == 11:
        Path("asleep").touch()
        time.sleep(600)
    (folder / "weights.safetensors").write_bytes(b"weights of seed %d" % run.seed)
    seen = {{name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "NPROC", "MALLOC_TOP_PAD_", "MARK")}}
    said = "all is well" + "\\x1b[2J" * (run.seed == 12)
    return {{"where": seen | {{"cores": len(os.sched_getaffinity(0)), "hydra": "hydra" in sys.modules}},
             "results": {{"summary": said, "model": run.model.image_size}}}}

sys.modules["stub"] = sys.modules[__name__]
fit = predict = active = prepare = bench = report = conform = task
trizoo.TASKS.update({{name: task._replace(module="stub") for name, task in trizoo.TASKS.items()}})
sys.exit(trizoo.main())
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working folder in which every task is the stub."""
    script = STUB.format(root=str(ROOT))
    return stubbed(tmp_path, monkeypatch, script)


def folders(place, task: str) -> list:
    """The run folders of `task`."""
    return sorted((place / "out" / task).iterdir())


def record(folder) -> dict:
    """The record of a run."""
    return json.loads((folder / "record.json").read_text())


DAMAGE = ["", "[]", '{"results": {}}']


@pytest.mark.parametrize("text", DAMAGE)
def test_a_run_whose_record_is_damaged_is_not_done(place, text, capfd):
    assert trizoo.main(["fit", *SMALL]) == 0
    (folder,) = folders(place, "fit")
    whole = record(folder)
    (folder / "record.json").write_text(text)
    assert trizoo.main(["fit", *SMALL]) == 0
    assert len(calls(place)) == 2
    assert "record.json" in capfd.readouterr().err
    assert record(folder)["results"] == whole["results"]
    assert trizoo.main(["fit", *SMALL]) == 0
    assert len(calls(place)) == 2


@pytest.mark.parametrize("text", DAMAGE)
def test_a_damaged_run_json_is_refused_in_a_line(place, text, capfd):
    assert trizoo.main(["fit", *SMALL]) == 0
    (folder,) = folders(place, "fit")
    (folder / "run.json").write_text(text)
    for words in (["fit", *SMALL], ["predict", *SMALL, f"weights={folder}"]):
        assert trizoo.main(words) == 2
        error = capfd.readouterr().err
        assert f"{folder.relative_to(place)}/run.json" in error
        assert error.count("\n") == 1


def test_what_a_kill_left_half_written_goes_with_the_next_start(place):
    assert trizoo.main(["fit", *SMALL]) == 0
    (folder,) = folders(place, "fit")
    unfinished(folder / "run.json").touch()
    kept = {"run.json", "record.json", "weights.safetensors"}
    assert trizoo.main(["fit", *SMALL]) == 0
    assert {path.name for path in folder.iterdir()} == kept


def test_help_imports_nothing_heavy():
    look = (
        "import sys, trizoo; trizoo.main(['--help']); "
        "sys.exit(bool({'hydra', 'numpy', 'pandas', 'torch', 'tensorflow', 'jax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for task in trizoo.TASKS:
        assert f"\n  {task} " in done.stdout
    assert "--hydra-help" in done.stdout


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"]])
def test_help_however_it_is_asked_for(words, capsys):
    assert trizoo.main(words) == 0
    assert capsys.readouterr().out == trizoo.help_text()


@pytest.mark.parametrize("columns", [60, 100])
@pytest.mark.parametrize("task", [*trizoo.TASKS, "demo"])
def test_the_help_of_a_task_lists_its_keys(task, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert trizoo.main([task, "--help"]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0].startswith(f"trizoo {task}: ")
    assert max(map(len, lines[3:])) <= columns
    listed = {line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "}
    wanted = set(keys_of("fit" if task == "demo" else task))
    assert wanted <= listed
    assert "outputs" in listed
    if task == "fit":
        assert "steps in all; null: 4,500" in " ".join(text.split())
        assert "[0.002]" in text
        assert "(short: images=)" in text
        assert trizoo.main(["help", "fit"]) == 0
        assert capsys.readouterr().out == text


def test_every_key_says_what_it_means():
    silent = [key for key, text in meanings().items() if not text]
    groups = {name for name, kind in get_type_hints(RunSpec).items() if is_dataclass(kind)}
    groups |= {f"dataset.{name}" for name in ("columns", "service", "service.scale")}
    groups |= {"engine.slurm"}
    assert set(silent) - groups == {"task.name"}


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("trizoo pre", "prepare predict"),
        ("trizoo fit training.ste", "training.steps="),
        ("trizoo fit backend=t", "backend=tf backend=torch"),
        ("trizoo -m predict weights=a posterior.for", "posterior.format="),
        ("trizoo catalogue posterior.sam", ""),
        ("trizoo fit ima", "images="),
        ("trizoo fit images=ph", "images=photos/"),
    ],
)
def test_a_shell_completes(line, offered, place, capsys, monkeypatch):
    (place / "photos").mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("COMP_LINE", line)
    assert trizoo.main(["-sc", "query=bash"]) == 0
    assert capsys.readouterr().out.strip() == offered


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fitt"], "no task fitt; did you mean fit?"),
        (["xyzzy"], "no task xyzzy; there are inspect"),
        (["backend=jax"], "name a task first"),
        (["-m", "backend=jax,tf"], "name a task first"),
        (["fit", "jax"], "jax is not key=value"),
        (["fit", "folder=my", "runs"], "a value with spaces needs quotes"),
        (["fit", "positive=[glatt (1)]"], "needs double quotes, and all of it single ones"),
        (["fit", "seed=" + 3000 * "["], "cannot be read"),
        (["fit", "dataset.name=../../evil"], "dataset.name is '../../evil'; it begins the name"),
        (["prepare", "dataset.name=.hidden"], "dataset.name is '.hidden'"),
        (["prepare", "dataset.name=a\x1bb"], r"dataset.name is 'a\x1bb'"),
        (["fit", "task.name=../../evil"], "task.name is '../../evil'"),
        (["demo", "backnd=jax"], "backnd"),
        (["-m", "demo", "seed=0,1"], "demo takes key=value, not -m"),
        (["fit", "backend.threads=9999"], "there are"),
        (["fit", "backend.python=/no/such/python"], "is no program"),
        (["fit", "model.image_size=100"], "multiple of 16"),
        (["fit", "dataset=folder"], "dataset.images has no value"),
        (["predict"], "predict needs weights"),
        (["calibrate"], "calibrate needs weights"),
        (["predict", "weights=nowhere"], "there is no nowhere"),
        (["fit", "run=outputs/fit/NAME"], "fit does not use run; leave it out: fit uses"),
        (["fit", "match.radius=2", "acquisition=random"], "not use match.radius, acquisition;"),
        (["prepare", "posterior.samples=5"], "prepare does not use posterior.samples"),
        (["prepare", "backend=jax"], "prepare does not use backend; "),
        (["predict", "mode=faithful", "weights=nowhere"], "predict does not use mode"),
        (["fit", "~training.beta1", "+oracle.tasks.T0=bar"], "fit does not use oracle.tasks.T0"),
        (["demo", "run=nowhere"], "does not use run"),
        (
            ["fit", "experiment=labels_savd"],
            "no experiment labels_savd; did you mean labels_saved?",
        ),
        (["fit", "backend=pytorch"], "no backend pytorch; did you mean torch?"),
        (["-m", "fit", "backend=tf,jaxx"], "no backend jaxx; did you mean jax?"),
        (["task=fitt", "seed=1"], "no task fitt; did you mean fit?"),
        (["demo", "mode=xyzzy"], "no mode xyzzy; there are corrected, faithful, today"),
        (
            ["fit", "training.learning_rate=inf"],
            "training.learning_rate is inf; it must be a finite",
        ),
        (
            ["fit", "training.learning_rate=nan"],
            "training.learning_rate is nan; it must be a finite",
        ),
    ],
)
def test_what_cannot_be_run_is_one_line_and_status_2(words, message, place, capsys):
    assert trizoo.main(words) == 2
    assert message in (error := capsys.readouterr().err)
    assert error.startswith("trizoo: ")
    assert error.count("\n") == 1
    assert not calls(place)


@pytest.mark.parametrize("word", ["nonsense=1", "backend=cobol", "seed=[", "training.stepz=1"])
def test_what_hydra_refuses_is_short_and_status_2(word, place, capsys):
    assert trizoo.main(["fit", word]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert 0 < error.count("\n") < 20


@pytest.mark.parametrize(
    "path",
    [
        *("my folder", "my folder (1)", "fotos/äöü", "фото", "photos/{id}.jpg", "2020_01", "1e5"),
        *("true", "a,b", "a=b", "it's here", 'the "best"', "R&D; 50% #3!", "[old]", "<new>^`"),
        *("C:\\photos (1)\\", "https://x.org/?ra={ra}&dec={dec}&scale={scale}", "hub:owner/name"),
    ],
)
def test_a_path_is_taken_as_it_stands(path):
    words = trizoo.hydra_words(["fit", "dataset=folder", f"dataset.images={path}"])
    assert trizoo.compose(words)["dataset"]["images"] == path
    words = trizoo.hydra_words(["predict", f"weights={path}", "seed=1"])
    assert trizoo.compose(words)["weights"] == path


def test_what_is_hydras_stays_hydras(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    for word, value in [
        ("dataset.images=~/photos", "/home/me/photos"),
        ("dataset.images='quoted (1)'", "quoted (1)"),
        ("dataset.images=${outputs}/photos", "outputs/photos"),
        ("dataset.images=null", None),
    ]:
        assert trizoo.compose(trizoo.hydra_words(["fit", word]))["dataset"]["images"] == value
    sweep = ["-m", "fit", "dataset.images=a,b", "seed=1,2", "question=(x),y"]
    with pytest.raises(
        ValueError, match=r"question=\(x\),y cannot be read .*'question=\"\(x\),y\"'"
    ):
        trizoo.hydra_words(sweep)
    folder = ["task=fit", "dataset=folder"]
    assert trizoo.hydra_words(sweep[:-1]) == [*folder, *sweep[2:-1], "-m"]


def test_short_names_mean_a_folder_of_ones_own():
    long = ["dataset.images=photos", "dataset.table=votes.csv", "dataset.columns.label=type"]
    for short in (long, ["images=photos", "table=votes.csv", "label=type"]):
        assert trizoo.hydra_words(["fit", *short]) == ["task=fit", "dataset=folder", *long]
    words = ["dataset=gz2", "dataset.images=photos"]
    assert trizoo.hydra_words(["fit", "dataset=gz2", "images=photos"]) == ["task=fit", *words]
    assert trizoo.hydra_words(["calibrate", "images=photos"]) == ["task=calibrate", words[1]]
    assert trizoo.hydra_words(["fit", "images=null"]) == ["task=fit", "dataset.images=null"]


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("training.step", "training.steps?"),
        ("dataset.column.id", "dataset.columns.id?"),
        ("trainning.steps", "training.steps?"),
        ("learning_rate", "training.learning_rate?"),
        ("+dataset.colums.ra", "dataset.columns.ra?"),
        ("~posterior.sample", "posterior.samples?"),
        ("image", "images?"),
        ("expriment", "experiment?"),
        ("xyzzy", "lists all keys"),
    ],
)
def test_a_misspelt_key_gets_the_nearest(key, meant):
    with pytest.raises(ValueError, match=f"no key {key.lstrip('+~')}; .*{re.escape(meant)}"):
        trizoo.hydra_words(["fit", f"{key}=1"])


def test_a_path_with_signs_of_hydras_comes_through_the_command_line(place):
    assert trizoo.main(["fit", *SMALL, "folder=my runs (ä)"]) == 0
    made = record(place / "my runs (ä)")
    assert made["run"]["folder"] == "my runs (ä)"
    again = shlex.split(made["command"])[1:]
    assert trizoo.main(again) == 0
    assert len(calls(place)) == 1


def test_the_task_may_stand_anywhere_and_flags_keep_their_values():
    assert trizoo.hydra_words(["-m", "seed=0,1", "fit"]) == ["task=fit", "seed=0,1", "-m"]
    assert trizoo.hydra_words(["--cfg", "job", "fit"]) == ["task=fit", "--cfg", "job"]
    assert trizoo.hydra_words(["--info", "fit"]) == ["task=fit", "--info"]
    assert trizoo.hydra_words(["-m", "task=fit,active"]) == ["task=fit,active", "-m"]
    assert trizoo.hydra_words(["--hydra-help"]) == ["--hydra-help"]


def test_a_run_leaves_its_config_and_its_record(place, capfd):
    assert trizoo.main(["fit", *SMALL, "seed=3", "backend=jax"]) == 0
    (folder,) = folders(place, "fit")
    config = json.loads((folder / "run.json").read_text())
    run = from_config(RunSpec, config)
    assert (run.seed, run.backend.name, run.model.image_size) == (3, "jax", 16)
    made = record(folder)
    assert made["run"] == config
    assert made["results"] == {"summary": "all is well", "model": 16}
    assert made["command"] == f"trizoo fit {' '.join(SMALL)} seed=3 backend=jax"
    assert made["where"]["hydra"] is False
    assert made["host"]["cores"] > 0
    assert made["seconds"] > 0
    output = capfd.readouterr().out
    assert "all is well" in output
    assert str(folder.relative_to(place)) in output.splitlines()[-1]
    assert {path.name for path in place.iterdir()} == {"out", "calls"}


def test_a_done_run_is_not_done_again_unless_told(place, capfd):
    assert trizoo.main(["fit", *SMALL]) == 0
    (folder,) = folders(place, "fit")
    (folder / "notes.txt").write_text("mine")
    (folder / "checkpoint.safetensors").touch()
    assert trizoo.main(["fit", *SMALL]) == 0
    assert len(calls(place)) == 1
    assert f"already done: {folder.relative_to(place)}" in capfd.readouterr().out
    assert trizoo.main(["fit", *SMALL, "again=true"]) == 0
    assert len(calls(place)) == 2
    assert (folder / "notes.txt").exists()
    assert not (folder / "checkpoint.safetensors").exists()
    assert folders(place, "fit") == [folder]


def test_again_removes_what_a_run_wrote_and_nothing_of_the_user(place):
    assert trizoo.main(["fit", *SMALL]) == 0
    (folder,) = folders(place, "fit")
    for name in trizoo.TASKS["fit"].leaves:
        (folder / name).touch()
    mine = {
        *("checkpoint-best.pt", "posterior.png", "posterior.parquet.old", "mine.onnx", "rho.onnx"),
        *("matches.csv", "suite.txt", "calibration.json", "schema.svg", "ask_next.csv"),
    }
    for name in mine:
        (folder / name).write_text("mine")
    (folder / "ask-01").mkdir()
    assert trizoo.main(["fit", *SMALL, "again=true"]) == 0
    left = {path.name for path in folder.iterdir()}
    assert left == {*mine, "ask-01", "run.json", "record.json", "weights.safetensors"}
    assert len(calls(place)) == 2


def test_again_does_not_lose_what_volunteers_were_asked(place, capfd):
    words = ["active", *SMALL, "folder=mine", "oracle=volunteers"]
    assert trizoo.main(words) == 0
    (place / "mine/ask-01").mkdir()
    (place / "mine/ask-01/votes.csv").touch()
    assert trizoo.main([*words, "again=true"]) == 2
    assert "mine holds what volunteers were asked and said (ask-01)" in capfd.readouterr().err
    assert (place / "mine/ask-01/votes.csv").exists()
    assert (place / "mine/record.json").exists()
    assert len(calls(place)) == 1


def test_a_run_that_did_not_end_goes_on_with_its_files(place):
    assert trizoo.main(["fit", *SMALL]) == 0
    (folder,) = folders(place, "fit")
    (folder / "record.json").unlink()
    (folder / "checkpoint.safetensors").touch()
    assert trizoo.main(["fit", *SMALL]) == 0
    assert (folder / "checkpoint.safetensors").exists()
    assert (folder / "record.json").exists()


def test_reports_and_stores_are_made_anew_each_time(place):
    for words in (["report", "outputs=out"], ["prepare", *STORED]):
        assert trizoo.main(words) == trizoo.main(words) == 0
    assert calls(place) == ["report torch 0"] * 2 + ["prepare torch 0"] * 2
    assert trizoo.main(["report", "experiment=demo", "outputs=out"]) == 0
    assert (place / "out/report/record.json").exists()


def named(*overrides: str):
    """The folder that a run of `overrides` gets."""
    return trizoo.run_folder(trizoo.compose(list(overrides)))


def test_the_folder_is_named_by_what_decides_the_result():
    name = named("task=fit")
    assert name.parent.as_posix() == "outputs/fit"
    assert name.name.startswith("smooth-or-featured-torch-seed0-")
    assert len(name.name.rsplit("-", 1)[1]) == 10
    assert named("task=fit", "backend.python=/usr/bin/python3", "again=true") == name
    assert named("task=fit", "outputs=elsewhere").name == name.name
    others = (
        "backend.threads=1",
        "seed=1",
        "training.steps=9",
        "dataset.galaxies=9",
        "task=active",
    )
    assert len({named("task=fit", other).name for other in others} | {name.name}) == 6
    assert named("task=fit", "folder=here").as_posix() == "here"


def test_a_store_is_named_by_its_dataset_alone():
    assert named("task=prepare").name.startswith("synthetic-")
    assert named("task=prepare") == named("task=prepare", "seed=5", "backend=jax")
    assert named("task=prepare") != named("task=prepare", "dataset.seed=5")


def test_a_folder_of_something_else_is_refused(place, capsys):
    assert trizoo.main(["fit", *SMALL, "folder=mine"]) == 0
    for words, message in [
        (["fit", *SMALL, "folder=mine", "seed=1", "training.steps=2"], "training.steps"),
        (["active", *SMALL, "folder=mine"], "holds a run of fit"),
        (["prepare", *STORED, "folder=mine"], "holds a run of fit"),
        (["fit", *SMALL, "folder=.", "again=true"], "holds files, but no run.json"),
    ]:
        assert trizoo.main(words) == 2
        assert message in capsys.readouterr().err
    assert len(calls(place)) == 1
    assert (place / "mine/record.json").exists()


def test_a_folder_serves_one_process_at_a_time(place, capsys):
    with trizoo.folder_lock(place / "mine"):
        assert trizoo.main(["fit", *SMALL, "folder=mine"]) == 2
    assert "another process is at work" in capsys.readouterr().err
    assert trizoo.main(["fit", *SMALL, "folder=mine"]) == 0


def test_threads_allocator_and_environment_reach_the_child(place, monkeypatch):
    monkeypatch.setenv("MALLOC_TOP_PAD_", "12345")
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    assert trizoo.main(["fit", *SMALL, "backend.threads=1", "+backend.environment.MARK=x"]) == 0
    (folder,) = folders(place, "fit")
    where = record(folder)["where"]
    assert (where["OMP_NUM_THREADS"], where["NPROC"], where["cores"]) == ("1", "1", 1)
    assert (where["MALLOC_TOP_PAD_"], where["MARK"]) == ("12345", "x")


def test_all_cores_and_the_kept_memory_are_the_default(monkeypatch):
    for name in launch.ALLOCATOR:
        monkeypatch.delenv(name, raising=False)
    environment = trizoo.child_environment(trizoo.compose(["backend=tf"])["backend"])
    cores = str(len(os.sched_getaffinity(0)))
    assert environment["TF_NUM_INTRAOP_THREADS"] == environment["PJRT_NPROC"] == cores
    assert environment["TF_NUM_INTEROP_THREADS"] == "1"
    assert environment["KERAS_BACKEND"] == "tensorflow"
    assert launch.ALLOCATOR.items() <= environment.items()
    assert environment["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)


@pytest.mark.parametrize(
    ("seed", "status", "message"),
    [
        (7, 2, "trizoo: no luck\n"),
        (8, 2, "trizoo: no disk\n"),
        (9, 70, r"a fault of trizoo (RuntimeError: a \x1b]0;mistake\x07); please report it"),
        (10, 137, "killed by SIGKILL"),
    ],
)
def test_how_a_run_ends_badly(seed, status, message, place, capfd):
    assert trizoo.main(["fit", *SMALL, f"seed={seed}"]) == status
    error = capfd.readouterr().err
    assert message in error
    assert "Traceback" not in error
    (folder,) = folders(place, "fit")
    assert not (folder / "record.json").exists()
    kept = folder / "traceback.txt"
    assert kept.exists() is (status == 70)
    if status == 70:
        assert str(kept.relative_to(place)) in error
        assert "RuntimeError: a \x1b]0;mistake" in kept.read_text()


def test_the_traceback_of_a_run_that_failed_goes_as_it_goes_on(place):
    assert trizoo.main(["fit", *SMALL]) == 0
    (folder,) = folders(place, "fit")
    (folder / "record.json").unlink()
    (folder / "traceback.txt").touch()
    assert trizoo.main(["fit", *SMALL]) == 0
    assert not (folder / "traceback.txt").exists()


def test_a_summary_cannot_steer_the_terminal(place, capfd):
    assert trizoo.main(["fit", *SMALL, "seed=12"]) == 0
    assert "all is well\\x1b[2J\n" in capfd.readouterr().out


class ResourceExhaustedError(Exception):
    """Named as the error that TensorFlow raises."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            MemoryError("Unable to allocate 8 PiB"),
            "out of memory (Unable to allocate 8 PiB); lower",
        ),
        (MemoryError(), "out of memory (MemoryError); lower backend.chunk"),
        (RuntimeError("CUDA out of memory.\nTried to"), "out of memory (CUDA out of memory. Tried"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory (Default"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of"), "out of memory (RESOURCE"),
        (ResourceExhaustedError("OOM when allocating"), "out of memory (OOM when"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), "the disk is full"),
        (RecursionError("too deep"), "nested too deeply"),
        (pyarrow.ArrowTypeError("strange"), "a Parquet file cannot be read or written (strange)"),
        (
            ModuleNotFoundError("No module named 'numpy'"),
            "cannot import what this needs (No module",
        ),
    ],
)
def test_what_is_known_to_fail_is_one_line_that_says_what_to_do(
    error, message, place, monkeypatch, capsys
):
    def fail(*_):
        raise error

    assert trizoo.main(["fit", *SMALL, "folder=mine", "seed=7"]) == 2
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, "failing", types.SimpleNamespace(fit=fail))
    monkeypatch.setitem(trizoo.TASKS, "fit", Task("", "failing"))
    monkeypatch.setattr(trizoo, "settings", lambda backend: {})
    monkeypatch.setattr(trizoo.signal, "signal", lambda *_: None)
    assert trizoo.main(["--run", "mine"]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.startswith("trizoo: ")
    assert printed.count("\n") == 1
    assert not (place / "mine" / "traceback.txt").exists()


ALLOCATE = {
    "torch": "import torch; torch.empty(1 << 50)",
    "jax": "import jax.numpy as jnp; jnp.zeros((1 << 40, 64)).block_until_ready()",
    "tf": "import tensorflow as tf; tf.function(lambda: tf.random.uniform((1 << 40,)), autograph=False)()",
}


@pytest.mark.parametrize("name", list(ALLOCATE))
def test_a_framework_that_runs_out_of_memory_is_understood(name):
    if (
        find_spec({"tf": "tensorflow"}.get(name, name)) is None
    ):  # not imported: it would stay in this process
        pytest.skip(f"{name} is not installed")
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import trizoo\n"
        f"try:\n    {ALLOCATE[name]}\n"
        "except Exception as error:\n    sys.exit(trizoo.complain(error))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "trizoo: out of memory (" in done.stderr


def test_a_fault_before_there_is_a_folder_is_one_line_too(place, monkeypatch, capsys):
    monkeypatch.setattr(trizoo, "run_folder", lambda config: {}["x"])
    assert trizoo.main(["fit", *SMALL]) == 70
    error = capsys.readouterr().err
    assert error.startswith("trizoo: a fault of trizoo (KeyError: 'x'); please report it")
    assert error.count("\n") == 1


def test_a_traceback_can_be_asked_for(place, capfd, monkeypatch):
    monkeypatch.setenv("TRIZOO_TRACEBACK", "1")
    assert trizoo.main(["fit", *SMALL, "seed=7"]) == 2
    assert "Traceback" in capfd.readouterr().err


SCRIPT = (
    # where the tests run in the background, Ctrl-C and SIGQUIT are ignored, and would be by this process and its own
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "signal.signal(signal.SIGQUIT, signal.SIG_DFL); signal.signal(signal.SIGHUP, signal.SIG_DFL); {first}"
    "import sys; sys.path.insert(0, {root!r}); import trizoo; "
    "trizoo.program = lambda: [{stub!r}]; sys.exit(trizoo.main())"
)


def door_words(place, first="") -> list[str]:
    """The command to start `trizoo` with the tasks of the stub, after `first`."""
    script = SCRIPT.format(root=str(ROOT), stub=str(place.parent / "stub.py"), first=first)
    return [sys.executable, "-c", script]


def asleep(place, first="") -> subprocess.Popen:
    """`trizoo` in a process group of its own, whose run sleeps."""
    words = [*door_words(place, first), "fit", *SMALL, "seed=11"]
    child = subprocess.Popen(words, start_new_session=True, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (place / "asleep").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return child


def test_ctrl_c_ends_the_run_and_says_how_it_goes_on(place):
    process = asleep(place)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "goes on where it stopped" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT", "SIGKILL", "SIGQUIT"])
def test_a_command_that_is_ended_ends_its_run(place, name):
    number = signal.Signals[name]
    process = asleep(place)
    process.send_signal(number)
    _, error = process.communicate(
        timeout=120
    )  # until the run, which holds the pipe too, has ended
    handled = name in ("SIGTERM", "SIGHUP", "SIGINT")
    assert process.returncode == (128 + number if handled else -number)
    assert "Traceback" not in error
    (folder,) = folders(place, "fit")
    with trizoo.folder_lock(folder):
        pass
    assert {path.name for path in folder.iterdir()} == {"run.json"}


def test_a_command_that_shall_outlive_its_terminal_does(place):
    process = asleep(place, "signal.signal(signal.SIGHUP, signal.SIG_IGN); ")
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.communicate(timeout=1)
    process.terminate()
    process.communicate(timeout=120)
    assert process.returncode == 143


@pytest.mark.parametrize("closed", ["<&-", "<&- >&- 2>&-"])
def test_a_run_is_done_where_standard_streams_are_closed(place, closed):
    line = f"exec {shlex.join([*door_words(place), 'fit', *SMALL, 'folder=mine'])} {closed}"
    assert subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE).returncode == 0
    assert record(place / "mine")["results"]["summary"] == "all is well"
    assert {path.name for path in (place / "mine").iterdir()} == {
        *("run.json", "record.json", "weights.safetensors"),
    }


def test_a_reader_who_leaves_ends_it_without_a_word():
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, str(ROOT / "trizoo.py"), "help"]
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_a_sweep_does_all_its_runs_and_names_those_that_failed(place, capfd):
    words = ["-m", "fit", *SMALL, "backend=tf,torch", "seed=7,1"]
    assert trizoo.main(words) == 2
    assert calls(place) == ["fit tf 7", "fit tf 1", "fit torch 7", "fit torch 1"]
    error = capfd.readouterr().err
    assert "4 runs, 2 failed" in error
    assert "seed=7" in error
    assert "seed=1" not in error
    assert trizoo.main([*words[:-1], "seed=1"]) == 0
    assert len(calls(place)) == 4
    assert "2 runs, 0 failed" in capfd.readouterr().out
    assert {path.name for path in (place / "out").iterdir()} == {"fit", ".sweep"}


def test_runs_in_parallel_are_counted_too(place, capfd):
    words = ["-m", "fit", *SMALL, "hydra/launcher=parallel", "model.image_size=17,18"]
    assert trizoo.main(words) == 2
    assert "2 runs, 2 failed" in capfd.readouterr().err


def test_a_sweep_may_name_what_its_task_uses_and_an_experiment_what_it_likes(place, capfd):
    words = ["-m", "active", "outputs=out", "acquisition=random,margin", "hydra.verbose=false"]
    assert trizoo.main(words) == 0
    assert trizoo.main(["prepare", "outputs=out", "experiment=demo", "backend.threads=1"]) == 0
    assert calls(place) == ["active torch 0"] * 2 + ["prepare torch 0"]
    capfd.readouterr()
    assert trizoo.main(["-m", "fit", *SMALL, "acquisition=random,margin"]) == 2
    assert "fit does not use acquisition" in capfd.readouterr().err
    words = [
        "-m",
        "fit",
        *SMALL,
        "experiment=labels_saved",
        "seed=0,1",
    ]  # its sweep names acquisition
    assert trizoo.main(words) == 0
    assert calls(place)[3:] == ["fit torch 0", "fit torch 1"]


def test_the_demo_gives_each_run_what_its_task_uses(place):
    assert trizoo.main(["demo", "outputs=out", "acquisition=random", "training.steps=9"]) == 0
    (fit, *_), (active, *_) = (folders(place, task) for task in ("fit", "active"))
    fit, active = (json.loads((one / "run.json").read_text()) for one in (fit, active))
    assert (fit["acquisition"]["name"], active["acquisition"]["name"]) == (
        "mutual_information",
        "random",
    )
    assert (fit["training"]["steps"], active["training"]["steps"]) == (9, 120)


@pytest.fixture
def survey(place):
    """The words for a folder of images and a table of votes, which are there."""
    (place / "photos").mkdir()
    (place / "photos" / "a.png").write_bytes(b"a")
    (place / "votes.csv").write_text("id,votes\na,1\n")
    return ["outputs=out", "dataset=folder", "dataset.images=photos", "dataset.table=votes.csv"]


def touched(path, data=None):
    """`path` with a later time of change, and other `data`."""
    if data is not None:
        path.write_bytes(data)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))


def test_a_run_is_done_only_as_long_as_its_files_are_what_they_were(place, survey, capfd):
    words = ["fit", *survey]
    assert trizoo.main(words) == trizoo.main(words) == 0
    table = place / "votes.csv"
    touched(table)  # another time, the same votes
    assert trizoo.main(words) == 0
    assert capfd.readouterr().out.count("already done") == 2
    touched(table, b"id,votes\na,2\n")
    assert trizoo.main(words) == 2
    error = capfd.readouterr().err
    assert "is done, but since then has changed: dataset.table (votes.csv); again=true" in error
    assert len(calls(place)) == 1
    assert trizoo.main([*words, "again=true"]) == trizoo.main(words) == 0
    assert len(calls(place)) == 2
    touched(place / "photos" / "a.png", b"another image")
    assert trizoo.main(words) == 2
    assert "has changed: dataset.images (photos)" in capfd.readouterr().err
    shutil.rmtree(place / "photos")  # what is gone cannot be read anew
    assert trizoo.main(words) == 0


def test_weights_targets_and_answers_are_files_of_a_run_too(place, survey, capfd):
    assert trizoo.main(["fit", *SMALL, "folder=trained"]) == 0
    for name in ("target.csv", "kit/index.json", "answers/sub/one.bin"):
        (place / name).parent.mkdir(exist_ok=True, parents=True)
        (place / name).write_bytes(b"one")
    for words, key, path in [
        (["predict", "weights=trained"], "weights", "trained/weights.safetensors"),
        (["active", "acquisition.target=target.csv"], "acquisition.target", "target.csv"),
        (
            ["conform", "conform.kit=kit", "conform.answers=answers"],
            "conform.answers",
            "answers/sub/one.bin",
        ),
        (
            ["conform", "conform.kit=kit", "conform.answers=answers"],
            "conform.kit",
            "kit/index.json",
        ),
    ]:
        words = [*words, f"folder={words[0]}"]
        assert trizoo.main([*words, "again=true"]) == trizoo.main(words) == 0
        touched(place / path, b"other")
        assert trizoo.main(words) == 2
        assert f"has changed: {key} (" in capfd.readouterr().err
    (place / "answers" / "new.bin").touch()
    assert trizoo.main(words) == 2
    record = place / "conform" / "record.json"  # of a version that kept no inputs
    record.write_text(json.dumps({**json.loads(record.read_text()), "inputs": None}))
    assert trizoo.main(words) == 0


@pytest.fixture
def trained(place):
    """A finished fit with a network, a view and a question of its own."""
    words = ["question=bar", "positive=[strong,weak]", "augmentation=bar", "folder=trained"]
    assert trizoo.main(["fit", *SMALL, *words]) == 0
    return place / "trained"


def inherited(*overrides: str) -> dict:
    """The config of a predict run of `overrides`."""
    words = ["task=predict", *overrides]
    return trizoo.with_fit(trizoo.compose(words), words)


def test_predict_takes_network_view_and_question_from_the_fit(trained):
    for weights in ("trained", "trained/weights.safetensors"):
        config = inherited(f"weights={weights}", "dataset=folder", "dataset.images=photos")
        assert config["model"]["image_size"] == 16
        assert config["augmentation"]["zoom"] == [2.0, 2.2]
        assert (config["question"], config["positive"]) == ("bar", ["strong", "weak"])
        assert config["dataset"]["questions"]["bar"] == ["strong", "weak", "no"]
        assert config["dataset"]["images"] == "photos"
        from_config(RunSpec, config)


def test_predict_keeps_what_the_command_line_names(trained):
    config = inherited("weights=trained", "augmentation.at_prediction=true", "question=bar")
    assert config["augmentation"]["at_prediction"] is True
    assert config["augmentation"]["zoom"] == [2.0, 2.2]
    assert config["positive"] == ["strong", "weak"]
    assert inherited("weights=trained", "augmentation=none")["augmentation"]["zoom"] == [1.0, 1.0]


def test_predict_refuses_another_network(trained):
    inherited("weights=trained", "model.image_size=16")
    with pytest.raises(ValueError, match=r"model\.image_size is not what trained was trained with"):
        inherited("weights=trained", "model.image_size=32")
    with pytest.raises(ValueError, match=r"model\.image_size"):
        inherited("weights=trained", "model=w20")


@pytest.mark.parametrize("other", ["question=smooth-or-featured", "positive=[strong]"])
def test_predict_refuses_another_question(trained, other):
    with pytest.raises(ValueError, match="is not what trained was trained with"):
        inherited("weights=trained", other)


VIEW = ["dataset.crop=0.8", "dataset.stretch=grz", "dataset.channels=3", "augmentation=none"]
ON_PHOTOS = ["dataset=folder", "dataset.images=photos"]


def fit_of(place, *words):
    """A folder that holds what runs that are given its weights read of a fit of `words`."""
    (place / "trained").mkdir(exist_ok=True)
    config = trizoo.compose(["task=fit", *words])
    (place / "trained" / "run.json").write_text(json.dumps(config))
    (place / "trained" / "weights.safetensors").write_bytes(b"weights")
    return config


@pytest.mark.parametrize("task", ["predict", "calibrate", "export"])
def test_all_of_the_networks_view_of_a_galaxy_is_the_fits(place, task, capsys):
    jax = ["backend=jax", "backend.precision=float64", "+backend.environment.MARK=x"]
    fit = fit_of(place, *ON_PHOTOS, *VIEW, *jax, "model.scale=raw")
    words = [f"task={task}", "weights=trained", *(ON_PHOTOS if task == "predict" else ())]
    config = trizoo.with_fit(trizoo.compose(words), words)
    for key in ("crop", "stretch", "channels"):
        assert config["dataset"][key] == fit["dataset"][key]
    assert (config["model"], config["augmentation"]) == (fit["model"], fit["augmentation"])
    for key in ("name", "precision", "environment"):  # which an export does without
        assert (config["backend"][key] == fit["backend"][key]) == (task != "export")
    from_config(RunSpec, config)
    inherited = ["dataset.crop=0.8", "dataset.stretch=grz", "dataset.channels=3"]
    inherited += ["backend.name=jax", "backend.precision=float64"]
    inherited = [inherited[0], inherited[2]] if task == "export" else inherited
    assert capsys.readouterr().out == f"as in the fit: {', '.join(inherited)}\n"


def test_what_the_command_line_names_of_the_view_wins_and_is_told(place, capsys):
    fit_of(place, *ON_PHOTOS, *VIEW, "backend=jax", "backend.precision=float64")
    named = ["dataset.crop=0.5", "dataset.channels=3", "backend=torch", "augmentation.border=zero"]
    config = inherited("weights=trained", *ON_PHOTOS, *named, "model.dropout=0.7")
    assert (config["dataset"]["crop"], config["dataset"]["stretch"]) == (0.5, "grz")
    assert (config["backend"]["name"], config["backend"]["precision"]) == ("torch", "float32")
    assert "OMP_WAIT_POLICY" in config["backend"]["environment"]
    assert config["augmentation"]["zoom"] == [1.0, 1.0]
    taken, other = capsys.readouterr().out.splitlines()
    assert taken == "as in the fit: dataset.stretch=grz"
    assert other == (
        "not as in the fit: dataset.crop=0.5 (there 0.8), backend.name=torch (there jax), "
        "backend.precision=float32 (there float64), augmentation.border=zero (there edge), "
        "model.dropout=0.7 (there 0.5)"
    )
    inherited("weights=trained", *ON_PHOTOS, *VIEW[:3], "backend=jax", "backend.precision=float64")
    assert capsys.readouterr().out == ""


def test_another_survey_keeps_the_view_that_its_own_configuration_sets(place, capsys):
    fit_of(place, *ON_PHOTOS, "dataset.crop=0.8")
    assert inherited("weights=trained", "dataset=sdss_gz1")["dataset"]["crop"] == 0.5
    assert "not as in the fit: dataset.crop=0.5 (there 0.8)" in capsys.readouterr().out
    legacy = ["dataset=gz_decals5_legacy", "dataset.table=votes.csv"]
    assert inherited("weights=trained", *legacy)["dataset"]["crop"] == 0.8
    assert inherited("weights=trained", *legacy)["dataset"]["stretch"] == "grz"
    fit_of(place, "dataset=sdss_gz1", "dataset.crop=0.7")
    assert inherited("weights=trained", "dataset=sdss_gz1")["dataset"]["crop"] == 0.7
    assert inherited("weights=trained", *ON_PHOTOS)["dataset"]["crop"] == 0.7


def test_the_framing_of_a_services_cutouts_is_the_fits(place):
    sdss = ["dataset=gz2_sdss", "dataset.table=votes.csv"]
    fit_of(place, *sdss, "dataset.service.scale.fixed=0.4", "dataset.service.width=512")
    service = inherited("weights=trained", *sdss)["dataset"]["service"]
    assert (service["scale"]["fixed"], service["width"]) == (0.4, 512)
    own = ["dataset.service.scale.fixed=0.3", "dataset.service.width=300"]
    service = inherited("weights=trained", *sdss, *own)["dataset"]["service"]
    assert (service["scale"]["fixed"], service["width"]) == (0.3, 300)
    legacy = inherited("weights=trained", "dataset=gz_decals5_legacy", "dataset.table=votes.csv")
    assert legacy["dataset"]["service"]["scale"]["fixed"] is None
    assert len({named("task=fit", f"dataset.service.width={width}") for width in (300, 424)}) == 2


def test_one_key_of_what_is_inherited_leaves_the_others_as_they_were(place):
    fit_of(
        place, *ON_PHOTOS, "dataset.table=votes.csv", "posterior.expected_votes=7", "split.test=0.4"
    )
    words = ["task=calibrate", "weights=trained", "dataset.skip_bad_images=true"]
    words += ["posterior.samples=9", "split.validation=0.3"]
    config = trizoo.with_fit(trizoo.compose(words), words)
    assert (config["dataset"]["images"], config["dataset"]["skip_bad_images"]) == ("photos", True)
    posterior = {"method": "laplace", "samples": 9, "expected_votes": 7, "galaxies": "all"}
    posterior |= {"calibration": None}
    assert config["posterior"] == {**posterior, "format": ["parquet"], "columns": "full"}
    assert config["split"] == {"validation": 0.3, "test": 0.4, "labels": None}


def test_the_interpreter_of_the_fit_is_taken_where_there_is_one(place):
    fit_of(place, *ON_PHOTOS, f"backend.python={sys.executable}")
    assert inherited("weights=trained", *ON_PHOTOS)["backend"]["python"] == sys.executable
    fit_of(place, *ON_PHOTOS, "backend.python=/no/such/python")
    assert inherited("weights=trained", *ON_PHOTOS)["backend"]["python"] is None


def test_a_fit_of_an_older_version_is_used_or_refused_in_a_sentence(place):
    config, path = fit_of(place, *ON_PHOTOS, *VIEW), place / "trained" / "run.json"
    for group, key in (
        ("dataset", "stretch"),
        ("augmentation", "at_prediction"),
        ("training", "members"),
    ):
        del config[group][key]
    path.write_text(json.dumps(config))
    made = inherited("weights=trained", *ON_PHOTOS)
    from_config(RunSpec, made)
    assert (made["dataset"]["crop"], made["dataset"]["stretch"]) == (0.8, "noise")
    for damage in (
        "[]",
        "null",
        "{",
        "{}",
        json.dumps({**config, "model": 3}),
        json.dumps({**config, "augmentation": {**config["augmentation"], "sharpen": 1}}),
    ):
        path.write_text(damage)
        with pytest.raises(ValueError, match=r"run\.json does not hold the settings of a fit"):
            inherited("weights=trained", *ON_PHOTOS)


def test_new_weights_make_a_new_prediction(trained, place):
    words = ["predict", "outputs=out", "weights=trained"]
    assert trizoo.main(words) == trizoo.main(words) == 0
    assert len(folders(place, "predict")) == 1
    (trained / "weights.safetensors").write_bytes(b"other weights")
    assert trizoo.main(words) == 0
    assert len(folders(place, "predict")) == 2


def test_the_demo_is_every_framework_twice_and_a_report(place, capfd):
    assert trizoo.main(["demo"]) == 0
    expected = [f"{task} {name} 0" for task in ("fit", "active") for name in ("tf", "torch", "jax")]
    assert calls(place) == [*expected, "report torch 0"]
    assert (place / "outputs/demo/report/record.json").exists()
    assert "[7/7] " in capfd.readouterr().out
    assert trizoo.main(["demo"]) == 0
    assert calls(place)[7:] == ["report torch 0"]


def test_the_demo_stops_at_a_failure(place):
    assert trizoo.main(["demo", "seed=7"]) == 2
    assert calls(place) == ["fit tf 7"]


CORES = """
import os, sys, time
os.sched_getaffinity = lambda _: {3, 5}
sys.path.insert(0, sys.argv[1])
from shared.run import launch
print(*launch.cores(int(sys.argv[2])), flush=True)
sys.stdin.read()
"""


def test_runs_side_by_side_are_bound_to_different_cores(tmp_path):
    held = []

    def cores_of(count):
        words = [sys.executable, "-c", CORES, str(ROOT), str(count)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        held.append(subprocess.Popen(words, env={**os.environ, "TMPDIR": str(tmp_path)}, **pipes))
        return held[-1].stdout.readline().split()

    assert cores_of(1) == ["3"]
    assert cores_of(1) == ["5"]
    assert cores_of(1) == ["3"]  # none is free
    held.pop(0).communicate()
    assert cores_of(2) == ["3", "5"]  # not two, so the first
    held.pop().communicate()
    assert cores_of(1) == ["3"]  # that of the one that ended
    for child in held:
        child.communicate()
