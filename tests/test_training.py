"""Training's calls, checkpoints and history, with a backend that is exact; tests/test_resume.py kills real ones."""

import numpy as np
import pytest
from fake import Fake, Stopped, galaxies, noise, run_of

from shared.method.training import (
    CHECKPOINT,
    call_length,
    calls,
    crossed,
    fingerprint,
    fit,
    made_of,
    resume_or_start,
)
from shared.network.weights import first_checkpoint, load_checkpoint, save_checkpoint

WORDS = ("training.steps=34", "backend.steps=6", "training.batch_size=8")


def trained(folder, backend, *words, labelled=None, contents="a"):
    """The result of fit, with a validation loss that tells the state; `contents` names the pixels of its images."""
    run, labelled, images = run_of(*WORDS, *words), labelled or galaxies(0, 21), noise(40)
    images.contents = contents

    def validate(state):
        return float(state.weights["answer/bias"][0])

    return fit(backend, run, images, labelled, validate, folder)


@pytest.mark.parametrize(
    ("steps", "wanted", "length"),
    [
        (1875, 16, 15),
        (750, 16, 15),
        (48, 16, 16),
        (16, 16, 16),
        (16, 8, 8),
        (34, 16, 16),
        (17, 16, 16),
        (5, 16, 5),
        (1, 16, 1),
        (9, 1, 1),
    ],
)
def test_calls_are_alike_where_they_can_be(steps, wanted, length):
    assert call_length(steps, wanted) == length


@pytest.mark.parametrize(
    ("before", "after", "every", "expected"),
    [
        (0, 5, 5, True),
        (0, 4, 5, False),
        (5, 9, 5, False),
        (5, 10, 5, True),
        (4, 16, 5, True),
        (0, 99, 0, False),
    ],
)
def test_when_a_multiple_is_passed(before, after, every, expected):
    assert crossed(before, after, every) is expected


def test_calls_cover_every_step_once_and_time_each():
    run, labelled, backend = run_of(*WORDS), galaxies(0, 21), Fake()
    state = first_checkpoint(run.model, run.seed)._replace(step=7)
    done = list(calls(backend, run, state, noise(40), labelled, 7, 7, 20))
    assert [call.step for call in done] == [13, 19, 20]
    assert [len(call.losses) for call in done] == [6, 6, 1]
    assert all(call.seconds > 0 for call in done)
    assert np.concatenate([plan.steps for plan in backend.plans]).tolist() == list(range(7, 20))


def test_history_and_checkpoint_are_those_of_the_last_step(tmp_path):
    words = ("training.validate_every=10", "training.checkpoint_every=0")
    state, history = trained(tmp_path, Fake(), *words)
    assert len(history.losses) == 34
    assert all(np.float32(loss) == loss for loss in history.losses)
    assert [step for step, _ in history.validation] == [12, 24, 30, 34]
    assert [steps for steps, _ in history.seconds] == [6, 6, 6, 6, 6, 4]
    kept, about = load_checkpoint(tmp_path / CHECKPOINT, run_of().model)
    assert kept.step == state.step == about["step"] == 34
    assert about["losses"] == history.losses
    assert about["validation"] == history.validation
    for part in ("weights", "first", "second"):
        for name, array in getattr(kept, part).items():
            np.testing.assert_array_equal(array, getattr(state, part)[name])


@pytest.mark.parametrize("checkpoint_every", [0, 1, 10])
def test_a_run_that_stopped_anywhere_ends_as_one_that_did_not(tmp_path, checkpoint_every):
    words = (f"training.checkpoint_every={checkpoint_every}", "training.validate_every=7")
    whole, history = trained(tmp_path / "whole", Fake(), *words)
    for stop in range(0, 34, 6):
        folder, backend = tmp_path / f"{stop}", Fake()
        with pytest.raises(Stopped):
            trained(folder, Fake(stop=stop), *words)
        again, history_again = trained(folder, backend, *words)
        assert again.step == 34
        np.testing.assert_array_equal(again.weights["answer/bias"], whole.weights["answer/bias"])
        assert history_again.losses == history.losses
        assert history_again.validation == history.validation
        assert [steps for steps, _ in history_again.seconds] == [6, 6, 6, 6, 6, 4]
        kept = {0: 0, 1: stop, 10: 12 * (stop >= 12) + 12 * (stop >= 24) + 6 * (stop >= 30)}
        assert backend.begun == [kept[checkpoint_every]]


def test_a_run_that_was_done_takes_no_step_more(tmp_path):
    state, history = trained(tmp_path, Fake())
    backend = Fake()
    again, history_again = trained(tmp_path, backend)
    assert not backend.plans
    assert history_again == history
    np.testing.assert_array_equal(again.weights["answer/bias"], state.weights["answer/bias"])


def test_a_checkpoint_is_there_only_once_a_step_is_due(tmp_path):
    with pytest.raises(Stopped):
        trained(tmp_path, Fake(stop=20), "training.checkpoint_every=0")
    assert not (tmp_path / CHECKPOINT).exists()
    with pytest.raises(Stopped):
        trained(tmp_path, Fake(stop=20), "training.checkpoint_every=18")
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
    assert load_checkpoint(tmp_path / CHECKPOINT, run_of().model)[0].step == 18


def test_a_loss_that_is_no_number_is_told_with_its_step_and_the_fix(tmp_path):
    with pytest.raises(ValueError, match=r"nan at step 20: .* training\.learning_rate.* 0\.001"):
        trained(tmp_path, Fake(bad=20), "training.checkpoint_every=6")
    assert load_checkpoint(tmp_path / CHECKPOINT, run_of().model)[0].step == 18


def test_fewer_galaxies_than_a_batch_are_one_batch(tmp_path):
    backend = Fake()
    trained(tmp_path, backend, "training.batch_size=64")
    for plan in backend.plans:
        for rows in plan.rows:
            assert sorted(rows) == list(range(21))


def test_a_checkpoint_of_other_galaxies_or_votes_is_refused(tmp_path):
    labelled = galaxies(0, 21)
    trained(tmp_path, Fake())
    others = (
        galaxies(0, 20),
        galaxies(1, 21),
        labelled._replace(yes=labelled.yes + (labelled.rows == 3)),
        labelled.take(np.arange(21)[::-1]),
    )
    assert len({fingerprint(one) for one in (labelled, *others)}) == 5
    assert fingerprint(labelled) != fingerprint(labelled, labelled.take(np.arange(0)))
    for other in others:
        with pytest.raises(ValueError, match=r"changed since .* again=true"):
            trained(tmp_path, Fake(), labelled=other)


def test_a_checkpoint_of_other_images_or_settings_is_refused(tmp_path):
    with pytest.raises(Stopped):
        trained(tmp_path, Fake(stop=20), "training.checkpoint_every=6")
    with pytest.raises(ValueError, match=r"images have changed since .* again=true"):
        trained(tmp_path, Fake(), contents="b")
    for word in (
        "seed=1",
        "training.learning_rate=0.1",
        "training.batch_size=9",
        "training.schedule=cosine",
        "model.dropout=0.1",
        "model.scale=raw",
        "augmentation.border=zero",
        "dataset.crop=0.5",
        "split.test=0.5",
        "minimum_votes=2",
        "positive=[artifact]",
    ):
        key = word.split("=")[0]
        with pytest.raises(ValueError, match=rf"another run \(it differs in .*{key}.*again=true"):
            trained(tmp_path, Fake(), word)
    backend = Fake()
    trained(tmp_path, backend, "backend=jax", "training.validate_every=5", "training.steps=40")
    assert backend.begun == [18]  # where it stopped: of another framework, and longer


def test_a_checkpoint_that_says_less_or_is_of_a_later_step_is_refused(tmp_path):
    state, _ = trained(tmp_path, Fake())
    with pytest.raises(ValueError, match=r"is of step 34, but training\.steps is 12"):
        trained(tmp_path, Fake(), "training.steps=12")
    kept, about = load_checkpoint(tmp_path / CHECKPOINT, run_of(*WORDS).model)
    for name in ("losses", "seconds"):
        less = {**about, name: about[name][:-1]}
        save_checkpoint(tmp_path / CHECKPOINT, kept, less)
        with pytest.raises(ValueError, match=r"is of step 34, but tells of .* again=true"):
            trained(tmp_path, Fake())
    save_checkpoint(tmp_path / CHECKPOINT, state, {"galaxies": fingerprint(galaxies(0, 21))})
    with pytest.raises(ValueError, match=r"does not say which settings .* again=true"):
        trained(tmp_path, Fake())


def test_a_run_begins_at_the_weights_of_its_seed(tmp_path):
    for seed in (0, 1):
        run = run_of(f"seed={seed}")
        shown = (noise(3), galaxies(0, 3))
        facts = made_of(run, *shown)
        start, about = resume_or_start(run, tmp_path / CHECKPOINT, facts, *shown)
        assert about == {}
        assert start.step == 0
        kernel = first_checkpoint(run.model, seed).weights["hidden/kernel"]
        np.testing.assert_array_equal(start.weights["hidden/kernel"], kernel)


@pytest.mark.parametrize("members", [1, 2])
def test_the_images_of_the_next_call_are_read_while_this_one_is_at_work(members, monkeypatch):
    run, labelled, images = (
        run_of(*WORDS, f"training.members={members}"),
        galaxies(0, 21),
        noise(40),
    )
    begun, waiting = [], []
    monkeypatch.setattr(images, "prefetch", lambda rows: begun.append(rows))

    class Watching(Fake):
        def train_steps(self, state, images, plan):
            waiting.append(len(begun))
            return state, np.ones(plan.steps.shape[-1])

        def export_checkpoint(self, state):
            return first_checkpoint(run.model, run.seed, members)

    done = list(calls(Watching(), run, None, images, labelled, 0, 0, 18))
    assert [call.step for call in done] == [6, 12, 18]
    assert waiting == ([1, 2, 2] if members == 1 else [0, 0, 0])
