"""Training, the same for every backend: calls of many steps, with checkpoints that a killed run goes on from."""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shared.method.backend import Backend
from shared.method.batches import Cutouts, Labelled, Plan, batch_size, with_steps
from shared.method.ensemble import draw_plans
from shared.method.memory import lessened_again, said, within_memory
from shared.method.start import contents, standardised_start
from shared.network.weights import (
    PARTS,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
    save_weights,
    with_weights,
)
from shared.run.config import at, differences, identity, put
from shared.run.progress import say, track
from shared.run.spec import RunSpec, TrainingSpec, to_config

CHECKPOINT, BEST = "checkpoint.safetensors", "best.safetensors"
APART = ("task", "backend", "training.checkpoint_every")


class Call(NamedTuple):
    """One call into a framework."""

    state: Any
    losses: np.ndarray  # (step,) mean loss of each batch, in nats
    step: int  # how many steps were done after it, from the very first
    seconds: float
    chosen: list  # [whether activations were computed anew, the most steps that went to it at once]


class History(NamedTuple):
    """What training went through, from its very first step; plain lists, so that a checkpoint can hold it."""

    losses: list[float]  # of each step
    validation: list[list[float]]  # [step, loss]
    seconds: list[list[float]]  # of each call: [steps, seconds]
    memory: list[list]  # [step, recompute, steps at once] from where on it was so


def call_length(steps: int, wanted: int) -> int:
    """The largest divisor of `steps` up to `wanted`, so that every call is alike and compiled once.

    `wanted` itself where that would be less than half of it.
    """
    length = max(length for length in range(1, wanted + 1) if steps % length == 0)
    return length if 2 * length >= wanted else min(wanted, steps)


def calls(
    backend: Backend,
    run: RunSpec,
    state: Any,
    images: Cutouts,
    labelled: Labelled,
    origin: int,
    first: int,
    last: int,
    weights: np.ndarray | None = None,
) -> Iterator[Call]:
    """Steps `first` to `last` on galaxies that were labelled at step `origin`, call by call; by `weights` (galaxy,).

    While the framework is at one call, the images of the next are read (not of an ensemble, whose members read their
    own).
    """
    length = call_length(last - origin, run.backend.steps)
    batch = batch_size(run.training, len(labelled.rows))
    lesser = within_memory(run, batch)
    if run.backend.memory is not None:
        say(said(lesser, batch))
    if lesser.backend.recompute != run.backend.recompute:
        state = backend.init(lesser, backend.export_checkpoint(state))

    def planned(start: int, most: int) -> Plan | None:
        """The plan of the steps from `start` on that go in one piece: no more than so many, of one call."""
        end = min(start + length - (start - first) % length, last)
        if start >= last:
            return None
        most = min(most, end - start)
        return draw_plans(run, labelled, images.size, origin, start, most, weights)

    plan, at, proven = planned(first, lesser.backend.steps), first, set()
    for start in range(first, last, length):
        begun, end, parts = time.perf_counter(), min(start + length, last), []
        while at < end:
            steps = plan.steps.shape[-1]
            following = planned(at + steps, lesser.backend.steps)
            if following is not None and run.training.members == 1:
                images.prefetch(following.rows)
            # memory is found or wanting when a call of its length is made first: later ones need no more
            kept = None if steps in proven else copied(backend.export_checkpoint(state))
            try:
                state, found = backend.train_steps(state, images, plan)
            except Exception as error:
                if kept is None or not backend.out_of_memory(error):
                    raise
                lesser = lessened_again(lesser, steps)
                say(f"out of memory at step {at}; {said(lesser, batch)}")
                state, images.expected = backend.init(lesser, kept), []
                proven.clear()
                plan = planned(at, lesser.backend.steps)
                continue
            parts.append(found)
            proven.add(steps)
            at, plan = at + steps, following
        losses = np.concatenate(parts)
        if not np.isfinite(losses).all():
            bad = start + int(np.argmin(np.isfinite(losses)))
            raise ValueError(
                f"the loss is {losses[bad - start]} at step {bad}: training diverged; "
                f"lower training.learning_rate, which is {run.training.learning_rate}"
            )
        chosen = [lesser.backend.recompute, min(lesser.backend.steps, length)]
        yield Call(state, losses, start + len(losses), time.perf_counter() - begun, chosen)


def copied(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint whose arrays are its own, not those that training changes in place."""
    parts = {part: getattr(checkpoint, part) for part in PARTS}
    own = {part: {name: np.array(value) for name, value in parts[part].items()} for part in parts}
    return checkpoint._replace(**own)


def fit(
    backend: Backend, run: RunSpec, images: Cutouts, labelled: Labelled, validate, folder: Path
) -> tuple[Any, History]:
    """A model trained from the seed's own first weights, or on from a checkpoint in `folder`, to the last step.

    `validate` gives the validation loss of a state, None without galaxies. The checkpoint that is left in `folder` is
    that of the last step. With training.patience the model is that of the best validation, and training ends early when
    so many more have brought no better one.
    """
    spec, path = with_steps(run.training, len(labelled.rows)), folder / CHECKPOINT
    facts = made_of(run, images, labelled)
    start, about = resume_or_start(run, path, facts, images, labelled)
    if run.training.steps is None:
        say(
            f"{len(labelled.rows)} galaxies are trained with in {spec.steps} steps; training.steps=... sets others"
        )
    history = History(*(about.get(name, []) for name in History._fields))
    if start.step > spec.steps:
        raise ValueError(
            f"{path} is of step {start.step}, but training.steps is {spec.steps}; again=true begins anew"
        )
    if not start.step == len(history.losses) == sum(one[0] for one in history.seconds):
        raise ValueError(
            f"{path} is of step {start.step}, but tells of {len(history.losses)}; again=true begins anew"
        )
    if start.step:
        say(f"going on from step {start.step} of {spec.steps}")
    state = backend.init(run, start)
    last = start.step if out_of_patience(spec, history.validation) else spec.steps
    work = calls(backend, run, state, images, labelled, 0, start.step, last)
    seen = batch_size(spec, len(labelled.rows))
    total = (last - start.step) * seen
    how = f" in {last - start.step:,} steps"
    for call in track(
        work, "training", total, "images", weight=lambda call: len(call.losses) * seen, how=how
    ):
        before, state = call.step - len(call.losses), call.state
        history.losses.extend(call.losses.tolist())
        history.seconds.append([len(call.losses), call.seconds])
        if not history.memory or history.memory[-1][1:] != call.chosen:
            history.memory.append([before, *call.chosen])
        at_end = call.step == spec.steps
        if at_end or crossed(before, call.step, spec.validate_every):
            history.validation.append([call.step, validate(state)])
            if spec.patience and best_step(history.validation) == call.step:
                save_weights(folder / BEST, backend.export_weights(state), {"step": call.step})
            at_end = at_end or out_of_patience(spec, history.validation)
        if at_end or crossed(before, call.step, spec.checkpoint_every):
            kept = backend.export_checkpoint(state)
            save_checkpoint(path, kept, facts | history._asdict())
        if at_end:
            break
    if spec.patience:
        best, done = best_step(history.validation), len(history.losses)
        say(f"stopped after step {done} of at most {spec.steps}; best validation: step {best}")
        state = backend.init(run, with_weights(run, folder / BEST))
    return state, history


def best_step(validation: list[list[float]]) -> int:
    """The step of the first of the lowest validation losses, of [step, loss]; ValueError where there is none."""
    if any(loss is None for _, loss in validation):
        raise ValueError(
            "training.patience asks for validation, but no validation galaxy has votes; raise split.validation, or set "
            "training.patience=null"
        )
    return int(min(validation, key=lambda one: one[1])[0])


def out_of_patience(spec: TrainingSpec, validation: list[list[float]]) -> bool:
    """Whether as many validations as the run has patience for have brought no better loss."""
    if spec.patience is None or not validation:
        return False
    best = best_step(validation)
    return sum(step > best for step, _ in validation) >= spec.patience


def resume_or_start(
    run: RunSpec, path: Path, facts: dict, images: Cutouts, labelled: Labelled
) -> tuple[Checkpoint, dict]:
    """The checkpoint at `path` and what was written with it; where `run` starts on `labelled`, and {}, without one.

    Raises ValueError, saying what differs, if it was `made_of` anything else than `facts`: files of a dataset can
    change, and files of checkpoints can be moved.
    """
    if not path.exists():
        return standardised_start(run, images, labelled), {}
    start, about = load_checkpoint(path, run.model, run.training.members)
    if missing := [name for name in facts if name not in about]:
        raise ValueError(
            f"{path} does not say which {missing[0]} it was made of, as those of older versions; "
            "again=true begins anew"
        )
    if where := differences(about["settings"], facts["settings"]):
        raise ValueError(
            f"{path} was written by another run (it differs in {', '.join(where[:5])}); again=true begins anew"
        )
    for name, what in (("galaxies", "galaxies or their votes"), ("images", "images")):
        if about[name] != facts[name]:
            raise ValueError(
                f"the {what} have changed since {path} was written; again=true begins anew"
            )
    return start, about


def made_of(run: RunSpec, images: Cutouts, *galaxies: Labelled) -> dict:
    """All that decides training on `galaxies`, as plain data that a checkpoint keeps: "settings", "galaxies", "images".

    Not the framework, as checkpoints travel; nor how long training goes on and what is looked at on the way.
    """
    config = to_config(run)
    settings = identity(config)
    for key, digest in contents(config).items():
        put(settings, key, digest)
    apart = [*APART, *(["training.steps"] if run.training.schedule == "constant" else [])]
    apart.append("posterior")
    if run.training.patience is None:
        apart.append("training.validate_every")
    for key in apart:
        if at(settings, key, ...) is not ...:
            put(settings, key, ...)
    settings["dataset"] = {"crop": run.dataset.crop}
    if run.task.name == "active":  # by samples of its posterior it chooses: their method decides it
        settings["posterior"] = {"method": run.posterior.method}
    return {"settings": settings, "galaxies": fingerprint(*galaxies), "images": images.contents}


def fingerprint(*galaxies: Labelled) -> str:
    """A short name for galaxies and their votes: the same in the same order, the same name."""
    arrays = [np.asarray(array).astype("<u8") for part in galaxies for array in part[:4]]
    arrays += [part.votes.astype("<u8") for part in galaxies if part.votes.shape[1] > 2]
    named = b"".join(hashlib.sha256(array.tobytes()).digest() for array in arrays)
    return hashlib.sha256(named).hexdigest()[:16]


def crossed(before: int, after: int, every: int) -> bool:
    """Whether a multiple of `every` lies above `before` and not above `after`; never for 0."""
    return every > 0 and before // every < after // every
