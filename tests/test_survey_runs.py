"""Whole surveys, from published tables and images to a fit in each framework; and stores made under fire."""

import json
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import server
from quick import ONE_FRAMEWORK
from surveys import stand_in
from test_service import Troubled

import trizoo
from shared.data.prepare import prepare
from shared.data.store import GALAXIES, MANIFEST, open_store, shard_name, verify
from shared.run.spec import DatasetSpec, from_config, to_config

ROOT = Path(__file__).parents[1]
SURVEYS = ("gz2", "gz_hubble", "gz_candels", "gz_decals12", "gz_decals5")
SMALL = (
    "model.image_size=32",
    "model.blocks=[[4],[4],[8],[8]]",
    "model.dense=8",
    "training.batch_size=8",
    "training.steps=6",
    "posterior.samples=4",
    "backend.steps=3",
    "split.test=0.3",
)
# One process imports the framework once and does every run.
FITS = """
import sys, trizoo
from pathlib import Path
sys.exit(max(trizoo.run_here(Path(folder), "trizoo fit") for folder in sys.argv[1:]))
"""


@pytest.fixture(scope="session")
def surveys(tmp_path_factory):
    """For each survey the words that make a run of a table in its published format."""
    place = tmp_path_factory.mktemp("surveys")
    return {name: stand_in(name, place / name, 24).words for name in SURVEYS}


@pytest.mark.parametrize("backend", ONE_FRAMEWORK)
def test_every_survey_is_fitted_in_every_framework(surveys, backend, tmp_path):
    folders = []
    for name, words in surveys.items():
        folders.append(tmp_path / name)
        own = [f"backend={backend}", f"outputs={tmp_path}", f"folder={folders[-1]}"]
        config = trizoo.compose(["task=fit", *words, *SMALL, *own])
        folders[-1].mkdir()
        (folders[-1] / "run.json").write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-c", FITS, *folders],
        cwd=ROOT,
        env=trizoo.child_environment(config["backend"]),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for name, folder in zip(surveys, folders, strict=True):
        record = json.loads((folder / "record.json").read_text())
        assert record["results"]["sampled_galaxies"] == 24
        assert record["results"]["galaxies"]["train"] > 8
        posterior = pd.read_parquet(folder / "posterior.parquet")
        assert posterior["smooth_or_featured_smooth_mean"].between(0, 1).all()
        store = open_store(record["results"]["store"])
        assert store.folder.name.startswith(f"{name}-")
        assert store.galaxies["image_sha256"].str.len().eq(64).all()


# A service that misbehaves, and a process that is killed: one process imports everything and forks at each line it
# reads; the fork prepares.
NURSERY = """
import json, os, sys
from shared.data import store_writer as draft
from shared.data.prepare import prepare
from shared.data.sources import fetch
from shared.run.spec import DatasetSpec, from_config
fetch.BACK_OFF, draft.COMMIT = 0.01, 0.05
dataset = from_config(DatasetSpec, json.loads(sys.stdin.readline()))
while sys.stdin.readline():
    child = os.fork()
    if child == 0:
        try:
            prepare(dataset)
        finally:
            os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@contextmanager
def nursery(dataset):
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", NURSERY]
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as children:
        print(json.dumps(to_config(dataset)), file=children.stdin, flush=True)
        yield children
        children.stdin.close()


def test_ten_kills_of_prepare_from_a_service_that_misbehaves(tmp_path, monkeypatch):
    monkeypatch.setattr("shared.data.sources.fetch.BACK_OFF", 0.01)
    count, draw = 200, random.Random(3)
    trouble = dict.fromkeys(["500", "cut", "short", "html", "size", "reset", "slow"], 0.06)
    gone = {f"{number}.0000000,1.0000000": ["404"] * 99 for number in (3, 150)}
    lines = [f"g{number},{number},1,{number},{count - number}" for number in range(count)]
    (tmp_path / "t.csv").write_text("\n".join(["id,ra,dec,bar_yes,bar_no", *lines]) + "\n")
    with Troubled(trouble, seed=4, most=1, script=gone) as sky:
        config = trizoo.compose(
            [
                "question=bar",
                "positive=[yes]",
                "dataset=folder",
                f"dataset.stores={tmp_path / 'stores'}",
                f"dataset.images='{sky.address}{server.SDSS}'",
                f"dataset.table={tmp_path / 't.csv'}",
                "dataset.columns.ra=ra",
                "dataset.columns.dec=dec",
                "~dataset.questions.smooth-or-featured",
                "+dataset.questions.bar=[yes,no]",
                "dataset.skip_bad_images=true",
                f"dataset.service.downloads={tmp_path / 'downloads'}",
                "dataset.service.width=256",
                "dataset.service.scale.fixed=0.4",
                "dataset.service.per_second=200",
            ]
        )
        survey = from_config(DatasetSpec, config["dataset"])
        kills = 0
        with nursery(survey) as children:
            while kills < 10:
                wanted = len(sky.log) + draw.randrange(4, 16)
                print(file=children.stdin, flush=True)
                child, end = int(children.stdout.readline()), time.monotonic() + 30
                while len(sky.log) < wanted and time.monotonic() < end:
                    time.sleep(0.002)
                kill(child)
                assert int(children.stdout.readline()) == -signal.SIGKILL
                kills += 1
        killed = prepare(survey)
        served = sum(sky.asked("ok", "slow").values())
        elsewhere = replace(survey.service, downloads=str(tmp_path / "others"))
        whole = prepare(replace(survey, stores=str(tmp_path / "whole"), service=elsewhere))
    # no more was served twice than was under way when a kill came
    assert served - (count - 2) <= kills * survey.service.at_once
    skipped = {skip["id"] for skip in killed.source["skipped"]}
    assert skipped == {"g3", "g150"}
    assert set(killed.galaxies["id"]) == {f"g{n}" for n in range(count)} - skipped
    for name in (shard_name(0), GALAXIES):
        assert (killed.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    one, other = (json.loads((store.folder / MANIFEST).read_text()) for store in (killed, whole))
    assert one["source"].pop("downloads") != other["source"].pop("downloads")
    assert one == other
    verify(killed.folder)


def kill(child):
    subprocess.run(["kill", "-KILL", str(child)], check=True)
