"""Sweeps as jobs of a cluster: by submitit's local executor, and by scripts that stand for Slurm's commands."""

import json
import os
import re
import stat
import sys

import pytest

import trizoo
from conf import compose as composing
from shared.run.launch import ROOT

SIX = "synthetic,synthetic_tree,synthetic_gz2,synthetic_gz_hubble,synthetic_gz_candels"
SIX += ",synthetic_gz_decals12"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder to work in, for jobs that find trizoo by a path that is put back afterwards."""
    pytest.importorskip("submitit", reason="sweeps on a cluster need submitit")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    return tmp_path


def records(place) -> list[dict]:
    return [json.loads(file.read_text()) for file in place.glob("out/show/*/record.json")]


def test_submitit_does_a_sweep_of_six_each_in_a_process_of_its_own(place, capfd):
    words = ["-m", "show", "outputs=out", f"dataset={SIX}", "hydra/launcher=submitit"]
    assert trizoo.main(words) == 0
    said = capfd.readouterr()
    assert "6 runs, 0 failed" in said.out
    assert "6 jobs, from " in said.err
    assert {record["run"]["dataset"]["name"] for record in records(place)} == set(SIX.split(","))
    assert {path.name for path in (place / "out/.sweep").iterdir()} == {
        "multirun.yaml",
        ".submitit",
    }


SBATCH = """
import os, re, subprocess, sys
script = open(sys.argv[-1]).read()
if "BEHIND" not in os.environ:
    open("submitted.sh", "w").write(script)
    said = open("said", "w")
    subprocess.Popen([sys.executable, *sys.argv], env=os.environ | {"BEHIND": "1"}, stdout=said, stderr=said)
    print("Submitted batch job 70")
    sys.exit()
for task in range(int(re.search(r"--array=0-(\\d+)", script)[1]) + 1):
    own = {"SLURM_JOB_ID": f"{70 + task}", "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": str(task)}
    own |= {"SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "here", "SLURM_NODEID": "0"}
    own |= {"SLURM_NTASKS": "1", "SLURM_LOCALID": "0", "SLURM_PROCID": "0", "SLURM_JOB_NODES": "1"}
    code = subprocess.call(["bash", sys.argv[-1]], env=os.environ | own)
    with open("states", "a") as states:
        states.write(f"70_{task}|{'FAILED' if code else 'COMPLETED'}|here\\n")
"""
SRUN = """
import os, sys
if os.environ["SLURM_ARRAY_TASK_ID"] in os.environ["LOST"]:
    sys.exit("slurmstepd: error: Detected 1 oom_kill event in StepId=70.0")
words = sys.argv[1:]
os.execvp(words[5], words[5:])
"""
SACCT = """
import os
print("JobID|State|NodeList")
print(open("states").read() if os.path.exists("states") else "", end="")
"""


@pytest.fixture
def slurm(place, monkeypatch):
    """The commands of Slurm, as scripts that run the jobs here, one after the other."""
    commands = place / "bin"
    commands.mkdir()
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT, "scancel": ""}.items():
        file = commands / name
        file.write_text(f"#!{sys.executable}\n{text}")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LOST", "none")
    return place


def test_slurm_is_given_one_array_of_jobs_that_a_job_which_dies_does_not_end(
    slurm, monkeypatch, capfd
):
    words = ["-m", "show", "outputs=out", "dataset=synthetic,synthetic_tree"]
    words += [
        "hydra/launcher=slurm",
        "hydra.launcher.partition=gpu",
        "hydra.launcher.setup=[hostname]",
    ]
    words += ["hydra.launcher.gpus_per_node=1", "+hydra.launcher.additional_parameters.nice=100"]
    monkeypatch.setenv("LOST", "1")
    assert trizoo.main(words) == 2
    said = capfd.readouterr()
    assert re.search(r"1 of 2 jobs ended without a word: 70_1 \(.*same command", said.err, re.S)
    assert "Traceback" not in said.err.split("1 of 2 jobs")[0]
    assert "1 runs, 0 failed" in said.out
    assert len(records(slurm)) == 1
    script = (slurm / "submitted.sh").read_text()
    for line in [
        "partition=gpu",
        "time=1440",
        "cpus-per-task=8",
        "mem=32GB",
        "gpus-per-node=1",
        "nodes=1",
        "ntasks-per-node=1",
        "array=0-1%2",
        "signal=USR2@120",
        "nice=100",
        "open-mode=append",
    ]:
        assert f"#SBATCH --{line}\n" in script
    assert f"{slurm}/out/.sweep/.submitit/%A_%a/%A_%a_%t_log.out" in script
    assert "\n# setup\nhostname\n" in script
    assert "-m submitit.core._submit" in script


def test_each_setting_of_slurm_is_explained():
    lines = (ROOT / "conf/hydra/launcher/slurm.yaml").read_text().splitlines()
    keys = [line for line in lines if ":" in line and line[0] != "#" and "defaults" not in line]
    assert len(keys) >= 15
    assert [line for line in keys if " # " not in line] == []


def test_a_cluster_without_submitit_is_refused_in_a_line(place, monkeypatch, capfd):
    monkeypatch.setattr(composing, "find_spec", lambda name: None)
    assert trizoo.main(["-m", "show", "hydra/launcher=slurm", "dataset=synthetic"]) == 2
    error = capfd.readouterr().err
    assert "pip install 'trizoo[cluster]'" in error
    assert error.count("\n") == 1
