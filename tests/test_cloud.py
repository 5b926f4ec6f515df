"""A run on a rented machine: what SkyPilot's file says, when it ends, what it costs; and the container's recipe."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import trizoo
from conf.compose import compose_cloud, read_yaml
from shared.run.cloud import CloudSpec, job
from shared.run.launch import ROOT
from shared.run.spec import from_config

PRICES = read_yaml(trizoo.CONF / "prices.yaml")
SKYPILOT = (
    "SkyPilot, in an environment of its own whose interpreter TRIZOO_SKYPILOT names, is not there"
)


def rented(*words: str) -> CloudSpec:
    return from_config(CloudSpec, compose_cloud(["cloud.bucket=my-galaxies", *words]))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(place: Path, *words: str) -> dict:
    """The job that `trizoo cloud` writes."""
    assert trizoo.main(["cloud", "cloud.bucket=my-galaxies", *words]) == 0
    (file,) = place.glob("**/cloud/*.yaml")
    return read_yaml(file)


@pytest.mark.parametrize(
    ("cloud", "infra", "store"), [("aws", "aws", "s3"), ("google", "gcp", "gcs")]
)
def test_a_job_is_written_that_begins_the_same_command_again(place, capfd, cloud, infra, store):
    made = written(place, "task=active", "experiment=w20", "seed=2", f"cloud={cloud}")
    said = capfd.readouterr().out
    assert made["resources"] == {
        "infra": infra,
        "accelerators": "H100:1",
        "use_spot": True,
        "disk_size": 200,
        "job_recovery": {"strategy": "EAGER_NEXT_REGION", "max_restarts_on_errors": 0},
        "autostop": {"idle_minutes": 10, "down": True},
    }
    outputs = made["file_mounts"]["/outputs"]
    assert (outputs["name"], outputs["store"], outputs["mode"]) == (
        "my-galaxies",
        store,
        "MOUNT_CACHED",
    )
    command = "trizoo active experiment=w20 seed=2 outputs=/outputs dataset.stores=/tmp/stores"
    assert command in made["run"]
    expected, most = (float(dollars) for dollars in re.findall(r"and ([\d.]+) dollars", said))
    assert 0 < expected < most <= 50
    assert "to launch it: sky jobs launch" in said


def test_a_run_that_no_record_tells_of_is_bounded_all_the_same(place, capfd):
    made = written(
        place,
        *("task=fit", "model=resnet18", "dataset=folder", "dataset.images=/data/photos"),
        *(
            "cloud.data=s3://photos",
            "cloud.hours=3",
            "cloud.image=me/trizoo:torch",
            "cloud.disk=50",
        ),
    )
    said = capfd.readouterr().out
    assert "expected: unknown" in said
    assert "at most 3 hours and 7.50 dollars" in said
    assert made["file_mounts"]["/data"] == "s3://photos"
    assert made["resources"]["image_id"] == "docker:me/trizoo:torch"
    assert "setup" not in made


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["fit"], "say which task"),
        (["task=fut"], "no task fut; did you mean fit"),
        (["task=fit", "oracle=catalogue"], "fit does not use oracle"),
        (["task=fit", "training.batch_size=0"], "training.batch_size is 0"),
        (["task=fit", "outputs=here"], "leave outputs=here out"),
        (["task=fit", "-m"], "not -m; a sweep"),
        (["task=fit", "cloud=azure"], "no cloud azure; .*aws, google"),
        (["task=fit", "cloud.bucket=My_Bucket"], "cloud.bucket is My_Bucket"),
        (["task=fit", "cloud.hours=100"], "may cost 250.00 dollars"),
        (["task=fit", "cloud.accelerators=B900:1"], "no price of B900 at aws"),
        (["task=fit", "cloud.accelerators=many"], "KIND:COUNT"),
        (["task=fit", "cloud.nonsense=1"], "cloud.nonsense"),
    ],
)
def test_what_cannot_be_rented_is_refused_before_anything_is_written(place, capfd, words, why):
    assert trizoo.main(["cloud", "cloud.bucket=my-galaxies", *words]) == 2
    error = capfd.readouterr().err
    assert re.search(why, error)
    assert error.count("\n") == 1
    assert not list(place.glob("**/*.yaml"))


def test_prices_can_be_changed():
    assert rented("cloud.accelerators=H100:2").price_per_hour(PRICES) == 5.0
    assert rented("cloud.spot=false").price_per_hour(PRICES) == 3.9
    assert rented("cloud.price=1.5", "cloud.accelerators=B900:8").price_per_hour(PRICES) == 1.5
    assert rented("cloud.accelerators=L4:1").price_per_hour(PRICES) == 1.1  # no spot price known


def test_the_time_is_counted_from_the_first_start(tmp_path):
    script = job(rented("cloud.hours=1"), "one", "7", ["fit", "seed=1"], "torch")["run"]
    script = script.replace("/outputs", str(tmp_path)).replace("~/trizoo-venv/bin/trizoo", "echo")
    script = script.replace("timeout --signal=INT --kill-after=60", "echo")
    begun = tmp_path / ".cloud" / "one-7"

    def start():
        return subprocess.run(["bash", "-c", script], capture_output=True, text=True)

    left = int(start().stdout.split()[0])
    assert 3590 <= left <= 3600
    begun.write_text(f"{int(begun.read_text()) - 3000}\n")
    assert int(start().stdout.split()[0]) <= 600
    begun.write_text(f"{int(begun.read_text()) - 3000}\n")
    late = start()
    assert (late.returncode, "cloud.hours are over" in late.stdout) == (1, True)


ACCEPTED = """
import sys
import sky
for file in sys.argv[1:]:
    task = sky.Task.from_yaml(file)
    (resources,) = task.resources
    assert resources.use_spot and "/outputs" in task.storage_mounts, file
"""


def test_skypilots_own_parser_accepts_every_file(place):
    python = os.environ.get("TRIZOO_SKYPILOT", sys.executable)
    if subprocess.run([python, "-c", "import sky"], capture_output=True).returncode:
        pytest.skip(SKYPILOT)
    machines = [
        ["backend=jax"],
        ["backend=tf", "cloud.image=me/trizoo:tf", "seed=1"],
        ["seed=2", "cloud.accelerators=null", "cloud.price=0.4", f"cloud.data={place}"],
    ]
    for cloud in ("aws", "google"):
        for words in machines:
            words = ["task=fit", f"cloud={cloud}", "cloud.bucket=my-galaxies", *words]
            assert trizoo.main(["cloud", *words]) == 0
        (place / "outputs").rename(place / cloud)
    files = sorted(map(str, place.glob("*/cloud/*.yaml")))
    assert len(files) == 6
    home = os.environ | {"HOME": str(place)}
    done = subprocess.run(
        [python, "-c", ACCEPTED, *files], capture_output=True, text=True, env=home
    )
    assert done.returncode == 0, done.stderr


def test_the_containers_recipe_is_linted():
    linter = os.environ.get("TRIZOO_HADOLINT") or shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint, which TRIZOO_HADOLINT can name, is not there")
    done = subprocess.run([linter, ROOT / "docker" / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_containers_recipe_takes_every_locked_version():
    recipe = (ROOT / "docker" / "Dockerfile").read_text()
    pattern = re.search(r"sed -nE '(s/.*?/p)' requirements", recipe)[1]
    files = [ROOT / "requirements.lock", ROOT / "requirements-torch.lock"]
    done = subprocess.run(["sed", "-nE", pattern, *files], capture_output=True, text=True)
    taken = done.stdout.splitlines()
    pinned = [line for file in files for line in file.read_text().splitlines() if "==" in line]
    assert len(taken) == len([line for line in pinned if line[0].isalpha()])
    assert not [line for line in taken if "\\" in line or "--hash" in line]
