"""trizoo from Python: keyword arguments in, a run out, errors as exceptions; beside anybody's own folders."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from installed import needs
from notebooks import run_cell
from own_process import calls, stubbed

import trizoo
from conf.words import full_name, words_of
from shared.data.prepare import prepare
from shared.output.posterior import write_posterior
from shared.run.echo import Echo
from shared.run.launch import ROOT
from shared.run.spec import RunSpec, from_config

STUB = """
import json, os, shutil, signal, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
import trizoo

def task(run, folder):
    with Path("calls").open("a") as calls:
        calls.write(f"{{run.task.name}} {{run.backend.name}} {{run.seed}}\\n")
    ends = {{7: ValueError("no\\nluck"), 9: RuntimeError("a mistake")}}
    if run.seed in ends:
        raise ends[run.seed]
    if run.seed == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    if run.seed == 11 and not (folder / "checkpoint.safetensors").exists():
        (folder / "checkpoint.safetensors").touch()
        time.sleep(600)
    print("to standard output", flush=True)
    print("1 of 2\\r2 of 2", end="", file=sys.stderr, flush=True)
    (folder / "weights.safetensors").write_bytes(b"weights")
    if run.task.name in ("fit", "predict"):
        shutil.copy({posterior!r}, folder)
    rounds = []
    for number in range(3 if run.task.name == "active" else 0):
        while run.seed == 12 and not Path(f"go {{number}}").exists():
            time.sleep(0.02)
        rounds.append({{"labelled": number, "acquired": ["a"]}})
        (folder / "rounds.json").write_text(json.dumps({{"rounds": rounds}}))
    results = {{"summary": "all is well", "rounds": rounds}}
    return {{"where": {{}}, "results": results | ({{}} if run.task.name == "conform" else {{"store": {store!r}}})}}

sys.modules["stub"] = sys.modules[__name__]
fit = predict = active = conform = catalogue = task
trizoo.TASKS.update({{name: task._replace(module="stub") for name, task in trizoo.TASKS.items()}})
sys.exit(trizoo.main())
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A small store of synthetic galaxies."""
    place = tmp_path_factory.mktemp("stores")
    words = ["task=prepare", "dataset.galaxies=20", f"dataset.stores={place}"]
    return prepare(from_config(RunSpec, trizoo.compose(words)).dataset)


@pytest.fixture(scope="module")
def posterior(store, tmp_path_factory):
    """A table of posteriors of the galaxies of the store."""
    path = tmp_path_factory.mktemp("table") / "posterior.parquet"
    of_smooth = {"mean": 0.25, "p05": 0.125, "p95": 0.5}
    table = store.galaxies[["id"]].assign(ra=1.0)
    table = table.assign(
        **{f"smooth_or_featured_smooth_{part}": of_smooth[part] for part in of_smooth}
    )
    about = {"question": "smooth-or-featured", "positive": ["smooth"], "negative": ["artifact"]}
    write_posterior(path, table, about)
    return path


@pytest.fixture
def place(tmp_path, monkeypatch, store, posterior):
    """An empty working folder in which every task is the stub."""
    script = STUB.format(root=str(ROOT), store=str(store.folder), posterior=str(posterior))
    return stubbed(tmp_path, monkeypatch, script)


def composed(task="fit", *words, **keys) -> dict:
    """The config of a call from Python."""
    return trizoo.composed(task, words, keys)[0]


# Keys and values


@pytest.mark.parametrize(
    ("task", "short", "key"),
    [
        ("fit", "images", "dataset.images"),
        ("fit", "table", "dataset.table"),
        ("fit", "galaxies", "dataset.galaxies"),
        ("fit", "steps", "training.steps"),
        ("fit", "image_size", "model.image_size"),
        ("fit", "samples", "posterior.samples"),
        ("fit", "seed", "seed"),
        ("fit", "questions", "questions"),
        ("fit", "backend", "backend"),
        ("fit", "experiment", "experiment"),
        ("fit", "training.steps", "training.steps"),
        ("active", "rounds", "acquisition.rounds"),
        ("catalogue", "format", "posterior.format"),
        ("export", "format", "format"),
        ("fit", "weights", "weights"),
        ("prepare", "weights", "weights"),
    ],
)
def test_a_short_name_means_one_key(task, short, key):
    assert full_name(task, short) == key


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"imags": "x"}, "no key imags; did you mean images?"),
        ({"channels": 3}, "channels could be dataset.channels or model.channels; name it in full"),
        ({"images": "x", "dataset": {"images": "y"}}, "dataset.images is given twice"),
        ({"images": print}, "dataset.images: <built-in function print> is a builtin_function"),
        ({"table": pd.DataFrame({"id": []})}, "is a DataFrame; give a text, a path"),
        ({"dataset": {"select": {1: ["x"]}}}, "1 is the name of an entry; it must be a text"),
    ],
)
def test_a_name_or_a_value_that_means_nothing_is_refused(keys, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        words_of("fit", [], keys)


def test_keys_come_as_arguments_dicts_and_words():
    config = composed(
        "fit",
        "split.test=0.4",
        {"training.patience": 3},
        backend="jax",
        experiment="demo",
        training={"steps": 7, "warmup": 2},
        images=None,
        positive=("smooth", "artifact"),
        dataset={"questions": {"bar": ["yes", "no"]}, "columns": {"names": {"bar": ["b", "c"]}}},
        **{"model.dense": np.int64(4)},
    )
    assert (config["backend"]["name"], config["outputs"]) == ("jax", "outputs/demo")
    training = config["training"]
    assert (training["steps"], training["warmup"], training["patience"]) == (7, 2, 3)
    assert (config["split"]["test"], config["model"]["dense"]) == (0.4, 4)
    assert config["positive"] == ["smooth", "artifact"]
    assert config["dataset"]["questions"]["bar"] == ["yes", "no"]
    assert "smooth-or-featured" in config["dataset"]["questions"]
    assert config["dataset"]["columns"]["names"] == {"bar": ["b", "c"]}


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (np.float64(0.25), 0.25),
        (np.bool_(True), True),
        (np.str_("a, b"), "a, b"),
        (np.array([1, 2]), [1, 2]),
        (pd.Series(["a(", "b"]), ["a(", "b"]),
        (Path("my photos, [old]"), "my photos, [old]"),
        (10**30, 10**30),
        (-1e-300, -1e-300),
        (float("inf"), float("inf")),
        ((), []),
        ([None, True, [1, "1"]], [None, True, [1, "1"]]),
        ({"a b": {"c.d": 1, "e": []}}, {"a b": {"c.d": 1, "e": []}}),
    ],
)
def test_values_arrive_as_they_are(value, arrives):
    found = composed(labels=value)["split"]["labels"]
    assert found == arrives
    assert type(found) is type(arrives)


def test_the_home_folder_is_meant_as_on_the_command_line(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    config = composed(images="~/photos", question="~/x", positive=["~/x"])
    assert config["dataset"]["images"] == "/home/me/photos"
    assert config["positive"] == ["~/x"]


plain_texts = st.text() | st.text("\\${}\"'a0, :=.~[]()#\n\t")
some_texts = plain_texts.filter(lambda text: text != "???")  # which is how YAML leaves a value out
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | some_texts,
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None)
@given(
    st.none() | some_texts.filter(lambda text: text[:1] != "~"),
    st.lists(some_texts, max_size=8),
    values,
)
def test_any_value_arrives_in_the_config(image, texts, value):
    config = composed(images=image, positive=texts, labels=value)
    assert config["dataset"]["images"] == image
    assert config["positive"] == texts
    assert config["split"]["labels"] == value


# Runs


def test_a_run_is_done_once_and_says_what_the_command_line_does(place, capsys):
    run = trizoo.fit(dataset="synthetic", galaxies=100, outputs="my runs (1)", backend="jax")
    printed = capsys.readouterr().out
    words = "dataset=synthetic dataset.galaxies=100 'outputs=\"my runs (1)\"' backend=jax"
    shown = str(run.folder.relative_to(place))
    assert printed.splitlines()[:2] == [f"trizoo fit {words} -> {shown}", "to standard output"]
    assert "1 of 2\r2 of 2" in printed
    assert printed.splitlines()[-1].endswith(f"s: {shown}")
    assert calls(place) == ["fit jax 0"]
    assert run.record["command"] == f"trizoo fit {words}"
    assert run.record["results"]["summary"] == run.summary == "all is well"
    assert run.weights.read_bytes() == b"weights"
    assert repr(run) == f"trizoo.Run({shown!r})"
    assert Path(run) == Path(shown)
    assert (
        trizoo.main(
            [
                "fit",
                *words.replace("'", "").split(" ", 2)[:2],
                'outputs="my runs (1)"',
                "backend=jax",
            ]
        )
        == 0
    )
    again = trizoo.fit(dataset="synthetic", galaxies=100, outputs="my runs (1)", backend="jax")
    assert again.folder == run.folder
    assert capsys.readouterr().out.count("already done") == 2
    assert len(calls(place)) == 1
    assert trizoo.predict(weights=run, outputs="out").record["run"]["weights"] == shown
    assert trizoo.Run(run.folder).summary == "all is well"


def test_what_a_run_has_not_is_said(place):
    run = trizoo.do("conform", outputs="out")
    run.folder.joinpath("weights.safetensors").unlink()
    for name, message in [
        ("weights", "has no weights.safetensors; fit leaves one"),
        ("posterior", "has no posterior.parquet; fit and predict leave one"),
    ]:
        with pytest.raises(FileNotFoundError, match=message):
            getattr(run, name)
    with pytest.raises(ValueError, match="conform reads no images"):
        _ = run.store
    with pytest.raises(FileNotFoundError, match="there is no run in nowhere"):
        trizoo.Run("nowhere")


@pytest.mark.parametrize(
    ("task", "words", "keys"),
    [
        ("fitt", [], {}),
        ("fit", ["dataset=folder"], {"dataset": "folder"}),
        ("fit", ["backend=pytorch"], {"backend": "pytorch"}),
        ("fit", ["model.image_size=100"], {"image_size": 100}),
        ("fit", ["backend.python=/no/such/python"], {"python": "/no/such/python"}),
        ("predict", [], {}),
        ("predict", ["weights=nowhere"], {"weights": "nowhere"}),
        ("prepare", ["backend=jax"], {"backend": "jax"}),
        ("fit", ["dataset.name='a\x1bb'"], {"dataset.name": "a\x1bb"}),
        ("fit", ["seed=7"], {"seed": 7}),
        ("fit", ["seed=7"], {}),
    ],
)
def test_errors_are_those_of_the_command_line(task, words, keys, place, capfd):
    assert trizoo.main([task, *words]) == 2
    line = capfd.readouterr().err
    given = () if keys else words
    with pytest.raises(trizoo.Error) as raised:
        trizoo.do(task, *given, **keys)
    assert line == trizoo.printable(f"trizoo: {raised.value}\n")
    assert isinstance(raised.value, ValueError)
    assert raised.value.__cause__ is None
    assert "luck" not in capfd.readouterr().out  # not said twice


def test_what_only_the_command_line_does_is_refused():
    for task, word, message in [
        ("demo", "seed=1", "demo is several runs"),
        ("fit", "-m", "-m is for the command line; call trizoo once for each run"),
    ]:
        with pytest.raises(trizoo.Error, match=message):
            trizoo.do(task, word)


def test_a_fault_is_a_runtime_error_that_says_where_its_traceback_is(place):
    with pytest.raises(
        RuntimeError, match=r"a fault of trizoo \(RuntimeError: a mistake\)"
    ) as raised:
        trizoo.fit(seed=9, folder="mine")
    assert str(raised.value).endswith("please report it with mine/traceback.txt")
    assert "a mistake" in Path("mine/traceback.txt").read_text()
    with pytest.raises(RuntimeError, match=r"killed by SIGKILL \(was there enough memory"):
        trizoo.fit(seed=10)


def test_an_unexpected_error_here_is_one_too(place, monkeypatch):
    monkeypatch.setattr(trizoo, "run_folder", lambda config: {}["x"])
    with pytest.raises(RuntimeError, match="a fault of trizoo") as raised:
        trizoo.fit()
    assert isinstance(raised.value.__cause__, KeyError)


INTERRUPTED = """
import signal; signal.signal(signal.SIGINT, signal.default_int_handler)
import sys; sys.path.insert(0, {root!r})
import trizoo
trizoo.program = lambda: [{stub!r}]
try:
    trizoo.fit(seed=11, folder="mine")
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(trizoo.fit(seed=11, folder="mine").summary)
"""


def test_ctrl_c_stops_the_run_and_the_same_call_goes_on(place):
    script = INTERRUPTED.format(root=str(ROOT), stub=str(place.parent / "stub.py"))
    words = [sys.executable, "-c", script]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    wait_for(place / "mine/checkpoint.safetensors")
    os.killpg(process.pid, signal.SIGINT)  # as Jupyter does
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    lines = output.splitlines()
    assert "interrupted" in lines
    assert lines[-1] == "all is well"
    assert "Traceback" not in output
    assert calls(place) == ["fit torch 11"] * 2


def wait_for(path):
    """Wait until `path` is there."""
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Rounds


def test_rounds_come_as_they_are_done(place):
    rounds = trizoo.active(seed=12, folder="mine")
    for number in range(2):
        Path(f"go {number}").touch()
        assert next(rounds)["labelled"] == number
        assert not Path("mine/record.json").exists()
    Path("go 2").touch()
    assert rounds.run.record["results"]["rounds"][2] == {"labelled": 2, "acquired": ["a"]}
    assert next(rounds, None) is None
    assert [one["labelled"] for one in trizoo.active(seed=12, folder="mine")] == [0, 1, 2]
    assert len(calls(place)) == 1


def test_leaving_the_loop_stops_the_run_and_the_same_call_goes_on(place):
    Path("go 0").touch()
    for _ in (kept := trizoo.active(seed=12, folder="mine")):
        break
    again = trizoo.active(seed=12, folder="mine")  # the first is held, as by a traceback
    assert next(kept, None) is None
    for number in (1, 2):
        Path(f"go {number}").touch()
    assert [one["labelled"] for one in again] == [0, 1, 2]
    assert len(calls(place)) == 2
    for number in range(3):  # so that the next run waits, and is not done before it is stopped
        Path(f"go {number}").unlink()
    other = trizoo.active(seed=12, folder="other")
    other.stop()
    assert not Path("other/record.json").exists()
    with trizoo.folder_lock(Path("other")):
        pass


def test_rounds_that_fail_raise_as_any_run(place):
    with pytest.raises(trizoo.Error, match="no luck"):
        list(trizoo.active(seed=7))
    with pytest.raises(trizoo.Error, match="no acquisition xyzzy"):
        trizoo.active(acquisition="xyzzy")


# What is printed


def echoed(*parts: bytes, failed: bool, capsys) -> tuple[str, str | None]:
    """What is passed on of `parts` that come one after the other, and the complaint."""
    reading, writing = os.pipe()
    echo = Echo(os.fdopen(reading, "rb", 0))
    for part in parts:
        os.write(writing, part)
        time.sleep(0.01)
    os.close(writing)
    why = echo.ended(failed)
    return capsys.readouterr().out, why


@pytest.mark.parametrize(
    ("parts", "failed", "out", "why"),
    [
        ([b"a\nb\r", b"c\n"], False, "a\nb\rc\n", None),
        (["ä".encode()[:1], "ä".encode()[1:], b"\xff"], False, "ä\ufffd", None),
        ([b"said\ntriz", b"oo: no ", b"luck\n"], True, "said\n", "no luck"),
        ([b"trizoo: no luck\n", b"and more\n"], True, "trizoo: no luck\nand more\n", "no luck"),
        ([b"trizoo: one\ntrizoo: two\n"], True, "trizoo: one\n", "two"),
        ([b"trizoo: only a remark\n"], False, "trizoo: only a remark\n", None),
        ([b"a trizoo: b\ntrizoo -> c\ntri"], True, "a trizoo: b\ntrizoo -> c\ntri", None),
    ],
)
def test_a_last_complaint_becomes_the_error_and_all_else_is_passed_on(
    parts, failed, out, why, capsys
):
    assert echoed(*parts, failed=failed, capsys=capsys) == (out, why)


# Galaxies and tables


def test_a_posterior_is_a_table_with_units(place, store):
    run = trizoo.fit(dataset="synthetic")
    assert run.posterior["id"].tolist() == store.galaxies["id"].tolist()
    about = run.posterior.attrs
    assert (about["units"]["ra"], about["units"]["smooth_or_featured_smooth_mean"]) == ("deg", "")
    assert "posterior mean" in about["descriptions"]["smooth_or_featured_smooth_mean"]
    assert about["about"]["question"] == "smooth-or-featured"
    assert run.posterior.head().attrs["units"] == about["units"]
    html = trizoo.show_galaxies(run, run.posterior.head(2)).html
    assert html.count("smooth 0.25 (0.12 to 0.50)") == 2
    assert html.count("votes: ") == 2
    assert "smooth 0.25" not in trizoo.show_galaxies(run, question="bar").html
    assert "smooth 0.25" not in trizoo.show_galaxies(run.store).html


def test_galaxies_of_a_store_are_shown_by_row_id_and_table(store):
    ids = store.galaxies["id"].tolist()
    for which in ([0, 3], np.array([0, 3]), [ids[0], ids[3]], store.galaxies.iloc[[0, 3]]):
        shown = trizoo.show_galaxies(store.folder, which, size=32)
        html = shown._repr_html_()
        assert len(shown) == html.count("<img") == html.count("data:image/jpeg") == 2
        assert all(name in html for name in (ids[0], ids[3], "votes: "))
    assert len(trizoo.show_galaxies(store.folder)) == 12
    assert len(trizoo.show_galaxies(store.folder, ids[0])) == 1
    assert len(trizoo.show_galaxies(store.folder, [])) == 0


def test_galaxies_that_are_not_there_are_named(store):
    for which, message in [
        (["nobody"], "has no galaxy nobody"),
        ([20], "no row 20 in .*; its 20 galaxies are rows 0 to 19"),
        ([-1], "no row -1"),
    ]:
        with pytest.raises(ValueError, match=message):
            trizoo.show_galaxies(store.folder, which)
    with pytest.raises(ValueError, match="no question 'xyzzy'"):
        trizoo.show_galaxies(store.folder, question="xyzzy")


def test_a_page_of_galaxies_needs_no_other_file(store, tmp_path):
    trizoo.show_galaxies(store.folder, [0]).save(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "http" not in text


# The module itself


def test_what_is_public():
    assert [name for name in dir(trizoo) if name[0] != "_"] == trizoo.__all__
    for name in trizoo.__all__:
        assert getattr(trizoo, name).__doc__, name
    assert trizoo.Error.__module__ == trizoo.Run.__module__ == "trizoo"
    assert re.search(
        rf"(?m)^version: {re.escape(trizoo.__version__)}$", (ROOT / "CITATION.cff").read_text()
    )


def python(*words: str, cwd, **environment) -> subprocess.CompletedProcess:
    """What an interpreter does that finds trizoo as one where it is installed: after `cwd`."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}", **environment}
    words = [sys.executable, *words]
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True)


def test_importing_it_is_light(tmp_path):
    heavy = {
        "numpy",
        "pandas",
        "hydra",
        "omegaconf",
        "rich",
        "matplotlib",
        "torch",
        "tensorflow",
        "jax",
    }
    done = python("-c", f"import sys, trizoo; print({heavy} & set(sys.modules))", cwd=tmp_path)
    assert done.stdout == "set()\n", done.stderr


THEIRS = ("shared", "conf", "reports", "tests", "benchmarks", "impl_torch")


@pytest.fixture(params=["packages", "folders", "files"])
def beside(request, tmp_path):
    """A working folder where everything of ours has a namesake, which must not be imported."""
    for name in THEIRS:
        if request.param == "files":
            (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')")
            continue
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.py").write_text("raise SystemExit('the wrong one')")
        if request.param == "packages":
            (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong one')")
    return tmp_path


DRAW = """
import trizoo
run = trizoo.do("show", dataset="synthetic")
import shared.run.spec, conf.compose
print(run.folder.name, shared.__file__)
"""


def test_ours_are_found_beside_a_users_own(beside):
    both = f"{beside}{os.pathsep}{ROOT}"
    done = python("-c", DRAW, cwd=beside, PYTHONPATH=both)
    assert done.returncode == 0, done.stdout + done.stderr
    name, file = done.stdout.splitlines()[-1].split(" ", 1)
    assert file == str(ROOT / "shared/__init__.py")
    assert (beside / "outputs/show" / name / "schema.svg").exists()
    words = ["-m", "trizoo", "-m", "show", "dataset=synthetic,synthetic_tree"]
    done = python(*words, "hydra/launcher=parallel", cwd=beside, PYTHONPATH=both)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 runs, 0 failed" in done.stdout


def test_what_is_a_users_own_stays_theirs(beside):
    (beside / "mine.py").write_text("here = True")
    code = "import trizoo, mine, sys; assert mine.here; import reports"
    done = python("-c", code, cwd=beside)
    wrong = "the wrong one" in done.stderr
    assert wrong is any((beside / name).exists() for name in ("reports.py", "reports/__init__.py"))


@pytest.mark.parametrize("name", ["shared", "conf"])
def test_a_users_own_that_was_imported_before_is_named(name, tmp_path):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    code = f"import {name}, trizoo"
    done = python("-c", code, cwd=tmp_path)
    assert f"ImportError: trizoo has a package called {name}, but another" in done.stderr
    assert f"{tmp_path}/{name}/__init__.py; import trizoo first" in done.stderr


# Documentation


def test_the_examples_of_the_page_run(place):
    for name in ("my photos", "more photos"):
        (place / name).mkdir()
        (place / name / "a.png").write_bytes(b"a")
    (place / "votes.csv").write_text("id,votes\na,1\n")
    text = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        run_cell(block, names)
    assert {line.split()[0] for line in calls(place)} == {"fit", "predict", "catalogue", "active"}


NOTEBOOK = ROOT / "docs/notebook.ipynb"


def test_the_notebook_runs(tmp_path):
    needs("torch")
    done = python(str(ROOT / "tests/notebooks.py"), str(NOTEBOOK), cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.count("<figure") == 12
    assert done.stderr == ""


def test_the_notebook_was_run_in_order_and_tells_nothing_of_its_machine():
    text = NOTEBOOK.read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(out["output_type"] == "error" for cell in cells for out in cell["outputs"])
    assert len(text) < 200_000
    assert not re.search(r"/(home|root|tmp|work|Users)/", text)
