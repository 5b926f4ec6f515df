"""Features of a frozen encoder: kept beside the store, whole, for whoever sees the same; what is fitted to them."""

import json
import shutil
import subprocess
import sys
import threading
import zlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from fake import TINY, Fake, Stopped, noise
from fake import run_of as compose_run
from quick import only

from shared.method import feature_store
from shared.method.ensemble import Ensemble
from shared.method.feature_store import (
    FOLDER,
    encoded_once,
    frozen_features,
    known_features,
    made_from,
)
from shared.method.features import MemberFeatures
from shared.method.views import still_views
from shared.network.weights import first_checkpoint, merge_members
from shared.run.locks import file_lock
from shared.run.spec import BACKENDS, RunSpec, from_config
from tests.feature_checks import NETWORKS
from trizoo import compose

ROOT = Path(__file__).parent.parent
WORDS = ("training.trainable=head", "backend.chunk=4")
NARROW = ("model=resnet18", "model.image_size=32", "model.widths=[4,4,4,4]")
COUNT = 22  # galaxies: five chunks, and one of two
run_of = cache(compose_run)


class Encoder(Fake):
    """A backend whose units are known, and which notes the galaxies that it is asked for; it stops at call `at`."""

    def __init__(self, at: int | None = None, before=lambda: None):
        super().__init__()
        self.at, self.before, self.asked = at, before, []

    def embed(self, state, images, views):
        if len(self.asked) == self.at:
            self.before()
            raise Stopped
        self.asked.append(len(images))
        light = images.mean((1, 2, 3))[:, None] / 255 * (1 + np.arange(4))
        return light + state.weights["hidden/kernel"].sum() + views.affine[:, 0, :1]


def stored(contents: str = "a"):
    """Images of a store."""
    images = noise(COUNT)
    images.contents = contents
    return images


def made(store: Path, encoder=None, rows=None, run=None, images=None):
    """The features, and what a record says of them."""
    run, encoder = run or run_of(*WORDS), encoder or Encoder()
    start = first_checkpoint(run.model, run.seed, run.training.members)
    rows = np.arange(COUNT) if rows is None else rows
    backend = encoder if run.training.members == 1 else Ensemble(encoder, run.training.members)
    return frozen_features(backend, run, start, images or stored(), store, rows)


def files(store: Path) -> dict[str, bytes]:
    """What is in the folder of features."""
    return {path.name: path.read_bytes() for path in (store / FOLDER).iterdir()}


def expected(run=None) -> np.ndarray:
    """The units of all galaxies."""
    run = run or run_of(*WORDS)
    start, views = first_checkpoint(run.model, run.seed), still_views(run, 16, COUNT)
    return Encoder().embed(start, stored()[np.arange(COUNT)], views)


@pytest.mark.parametrize(
    ("name", "networks"),
    only(
        [("torch", (*NETWORKS,)), *((name, ("w20",)) for name in BACKENDS if name != "torch")],
        *((name, (*NETWORKS,)) for name in BACKENDS if name != "torch"),
    ),
)
def test_a_head_on_kept_features_is_fitted_as_on_images(name, networks):
    """Weights, moments of Adam, losses, samples and units, also of an ensemble with an encoder for each member."""
    command = [sys.executable, "-m", "tests.feature_checks", name, *networks]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    mutants = [found.pop("another view"), found.pop("other masks and batches")]
    assert found.keys() == {*networks, "ensemble"}
    assert max(found.values()) <= 1e-10
    assert min(mutants) > 1e-3


def test_features_are_made_once_and_read_by_the_next(tmp_path, capsys):
    encoder = Encoder()
    features, about = made(tmp_path, encoder)
    assert encoder.asked == [4, 4, 4, 4, 4, 2]
    assert about["computed"] == about["galaxies"] == COUNT
    told = capsys.readouterr().err
    assert f"kept in {about['files'][0]}" in told
    assert "no augmentation" in told
    again = Encoder()
    later, about = made(tmp_path, again)
    assert not again.asked
    assert about["computed"] == 0
    assert f"features of {COUNT} galaxies: from {about['files'][0]}" in capsys.readouterr().err
    for some in (features, later):
        assert some[np.arange(COUNT)].dtype == np.float32
        np.testing.assert_allclose(some[np.arange(COUNT)], expected(), rtol=1e-5, atol=1e-6)
        assert some[np.array([[3, 1], [21, 0]])].shape == (2, 2, 4)
        assert (len(some), some.size, some.contents) == (COUNT, 16, "a, features")
    np.testing.assert_array_equal(np.load(about["files"][0]), later[np.arange(COUNT)])
    assert len(files(tmp_path)) == 2  # and no lock


@pytest.mark.parametrize("stop", range(6))
@pytest.mark.parametrize("commit", [0.0, 1e9])
def test_a_killed_embedding_goes_on_to_the_same_bytes(tmp_path, stop, commit, monkeypatch):
    """Killed: what is on the disk at that moment, half a line of the journal more, is all that is left."""
    monkeypatch.setattr(feature_store, "COMMIT", commit)
    made(tmp_path / "whole")
    store, left = tmp_path / "store", tmp_path / "left"
    with pytest.raises(Stopped):
        made(store, Encoder(stop, lambda: shutil.copytree(store, left)))
    with next((left / FOLDER).glob("*.jsonl")).open("ab") as journal:
        journal.write(b'{"chunk": 5, "crc')
    encoder = Encoder()
    _features, about = made(left, encoder)
    there = stop if commit == 0 else 0
    assert encoder.asked == [4, 4, 4, 4, 4, 2][there:]
    assert about["computed"] == COUNT - 4 * there
    shutil.rmtree(left / FOLDER / ".lock", ignore_errors=True)
    assert files(left) == files(tmp_path / "whole")
    stopped = Encoder()
    made(store, stopped)  # an error, and no kill, keeps all that was done
    assert stopped.asked == [4, 4, 4, 4, 4, 2][stop:]
    assert files(store) == files(tmp_path / "whole")


def test_only_chunks_that_are_needed_are_made_and_others_are_refused(tmp_path):
    encoder = Encoder()
    features, about = made(tmp_path, encoder, rows=np.array([9, 1, 21]))
    assert encoder.asked == [4, 4, 2]
    assert (about["galaxies"], about["computed"]) == (3, 10)
    np.testing.assert_allclose(features[np.array([9, 21])], expected()[[9, 21]], rtol=1e-5)
    with pytest.raises(IndexError, match="not embedded"):
        features[np.array([9, 4])]
    more = Encoder()
    made(tmp_path, more)
    assert more.asked == [4, 4, 4]
    made(tmp_path / "whole")
    (path,) = (tmp_path / FOLDER).glob("*.npy")
    assert path.read_bytes() == files(tmp_path / "whole")[path.name]


OTHERS = {  # what is otherwise -> the parts of the name in which it shows; with none, the features are the same
    ("seed=1",): {"encoder"},
    ("model.dense=5",): {"encoder", "units"},
    ("dataset.crop=0.5",): {"view"},
    ("augmentation.zoom=[1.5,1.5]",): {"view"},
    ("augmentation.border=zero",): {"view"},
    ("model.scale=raw",): {"view"},
    ("backend.precision=float64",): {"type"},
    ("backend.chunk=8",): {"chunk"},
    ("training.learning_rate=0.1", "training.steps=7", "model.dropout=0.1"): set(),
    ("positive=[featured-or-disk]", "posterior.samples=3", "backend.steps=3"): set(),
}


@pytest.mark.parametrize("words", OTHERS)
def test_another_encoder_or_view_has_other_features(tmp_path, words):
    usual = run_of(*WORDS)
    other = run_of(*WORDS, *words)
    parts = [
        made_from(Encoder(), run, first_checkpoint(run.model, run.seed), stored())
        for run in (usual, other)
    ]
    differ = {name for name in parts[0] if parts[0][name] != parts[1][name]}
    assert differ == OTHERS[words]
    made(tmp_path)
    encoder = Encoder()
    if "model.dense=5" not in words:
        made(tmp_path, encoder, run=other)
        assert bool(encoder.asked) == bool(differ)


def test_another_store_program_or_moment_has_other_features():
    run = from_config(RunSpec, compose([*NARROW, *WORDS]))
    start = first_checkpoint(run.model, run.seed)

    def names(start, images, backend):
        return made_from(backend, run, start, images)

    usual = names(start, stored(), Encoder())
    newer = Encoder()
    newer.describe = lambda: {"fake": "2", "device": "cpu", "threads": "7"}
    moments = {name: array + 0.5 for name, array in start.moments.items()}
    head = {**start.weights, "answer/bias": start.weights["answer/bias"] + 1}
    others = {
        "images": names(start, stored("b"), Encoder()),
        "program": names(start, stored(), newer),
        "encoder": names(start._replace(moments=moments), stored(), Encoder()),
    }
    for part, other in others.items():
        assert {name for name in usual if usual[name] != other[name]} == {part}
    assert usual == names(start._replace(weights=head), stored(), Encoder())
    more = Encoder()
    more.describe = lambda: Encoder().describe() | {"threads": "7"}
    assert usual == names(start, stored(), more)


def flipped(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


DAMAGE = {  # what happens to the .npy file and the journal -> the chunks that are made anew
    "a bit": (lambda npy, journal: flipped(npy, -1), [2]),
    "a bit of the first": (lambda npy, journal: flipped(npy, 128), [4]),
    "the header": (lambda npy, journal: flipped(npy, 20), [4, 4, 4, 4, 4, 2]),
    "cut": (lambda npy, journal: npy.write_bytes(npy.read_bytes()[:-3]), [4, 4, 4, 4, 4, 2]),
    "gone": (lambda npy, journal: npy.unlink(), [4, 4, 4, 4, 4, 2]),
    "no journal": (lambda npy, journal: journal.unlink(), [4, 4, 4, 4, 4, 2]),
    "of others": (lambda npy, journal: flipped(journal, 5), [4, 4, 4, 4, 4, 2]),
    "the last line": (
        lambda npy, journal: journal.write_bytes(journal.read_bytes()[:-4]),
        [2],
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_damaged_is_made_anew(tmp_path, what, capsys):
    made(tmp_path / "whole")
    _, about = made(tmp_path)
    npy = Path(about["files"][0])
    harm, again = DAMAGE[what]
    harm(npy, npy.with_suffix(".jsonl"))
    capsys.readouterr()
    encoder = Encoder()
    features, about = made(tmp_path, encoder)
    assert encoder.asked == again
    assert about["computed"] == sum(again)
    assert npy.read_bytes() == files(tmp_path / "whole")[npy.name]
    np.testing.assert_allclose(features[np.arange(COUNT)], expected(), rtol=1e-5, atol=1e-6)
    told = capsys.readouterr().err.count("are damaged")
    assert told == (what in ("a bit", "a bit of the first", "the header", "cut", "gone"))


def test_without_checksums_damage_would_be_learned_from(tmp_path, monkeypatch):
    monkeypatch.setattr(zlib, "crc32", lambda data: 7)
    _, about = made(tmp_path)
    flipped(Path(about["files"][0]), -1)
    encoder = Encoder()
    features, _ = made(tmp_path, encoder)
    assert not encoder.asked
    assert not np.allclose(features[np.array([21])], expected()[21])


def test_features_that_are_no_numbers_are_refused_and_not_kept(tmp_path):
    class Diverged(Encoder):
        def embed(self, state, images, views):
            return super().embed(state, images, views) * (np.nan if len(self.asked) == 2 else 1)

    with pytest.raises(ValueError, match="no finite feature for 4 of 4 galaxies"):
        made(tmp_path, Diverged())
    encoder = Encoder()
    made(tmp_path, encoder)
    assert sum(encoder.asked) == COUNT - 4


def test_a_second_run_waits_for_the_first_and_reads_what_it_made(tmp_path, monkeypatch):
    run, waiting, second = run_of(*WORDS), threading.Event(), Encoder()
    _, about = made(tmp_path)
    npy = Path(about["files"][0])
    kept = npy.read_bytes()
    npy.unlink()
    told = feature_store.say

    def say(text):
        told(text)
        if "waiting for it" in text:
            waiting.set()

    monkeypatch.setattr(feature_store, "say", say)
    with file_lock(npy.with_name(f".{npy.stem}.lock")):
        thread = threading.Thread(target=made, args=(tmp_path, second), kwargs={"run": run})
        thread.start()
        assert waiting.wait(60)
        assert not second.asked
        npy.write_bytes(kept)
    thread.join(60)
    assert not thread.is_alive()
    assert not second.asked


def test_members_have_features_of_their_own_where_their_encoders_differ(tmp_path):
    run = run_of(*WORDS, "training.members=2", "posterior.samples=4")
    features, about = made(tmp_path, run=run)
    assert isinstance(features, MemberFeatures)
    assert len(set(about["files"])) == 2
    assert len(features) == COUNT
    for number, units in enumerate(features[np.arange(COUNT)]):
        alone = replace(run, seed=run.seed + number)
        np.testing.assert_allclose(units, expected(alone), rtol=1e-5, atol=1e-6)
    one = first_checkpoint(run.model, run.seed)
    twice = one._replace(weights=merge_members([one.weights] * 2), first={}, second={})
    encoder = Encoder()
    given = (Ensemble(encoder, 2), run, twice, stored(), tmp_path, np.arange(COUNT))
    shared, about = frozen_features(*given)
    assert not isinstance(shared, MemberFeatures)
    assert not encoder.asked
    assert len(set(about["files"])) == 1


def test_prediction_takes_features_that_are_there_and_makes_none(tmp_path):
    run, images = run_of(*WORDS), stored()
    start = first_checkpoint(run.model, run.seed)

    def known(rows, run=run):
        return known_features(Encoder(at=0), run, start, images, tmp_path, rows)

    assert known(np.arange(3)) is None
    assert not (tmp_path / FOLDER).exists()
    made(tmp_path, rows=np.arange(8))
    found = known(np.arange(8))
    np.testing.assert_allclose(found[np.arange(8)], expected()[:8], rtol=1e-5)
    assert known(np.arange(9)) is None
    assert known(np.arange(3), run_of(*WORDS, "dataset.crop=0.5")) is None
    assert known(np.arange(3), run_of(*WORDS, "augmentation.at_prediction=true")) is None


@pytest.mark.parametrize(
    ("words", "once"),
    [
        (("training.trainable=head",), True),
        (("training.trainable=last:0",), True),
        (("training.trainable=answer",), True),
        (("training.trainable=last:1",), False),
        (("training.trainable=all",), False),
        (("training.trainable=head", "augmentation.at_prediction=true"), False),
        (("training.trainable=head", "model=convnext_atto", "model.image_size=32"), True),
        (("training.trainable=last:0", "model=convnext_atto", "model.image_size=32"), False),
    ],
)
def test_when_an_encoder_is_run_once(words, once):
    small = () if "model=convnext_atto" in words else TINY
    assert encoded_once(from_config(RunSpec, compose([*small, *words]))) is once
