"""A run's settings as nested plain data: their full names, such as `training.steps`, and which task reads which.

The standard library is enough for it, so that the command line may ask before anything else is imported.
"""

import copy
import re
from collections.abc import Iterable, Mapping

from shared.run.questions import learned

# What each task reads of a run, by groups of keys and single ones; `~` leaves a part of a group out. It decides what a
# command line may name, and what a run is (`identity`).
LEARNS = (
    "seed",
    "question",
    "positive",
    "questions",
    "likelihood",
    "minimum_votes",
    "dataset",
    "split",
    "model",
)
LEARNS += ("augmentation", "training", "backend", "mode", "start")
HAS_FIT = (
    "weights",
    "question",
    "positive",
    "questions",
    "likelihood",
    "model",
    "~model.encoder",
    "augmentation",
    "training.members",
)
HAS_FIT += ("backend", "~backend.steps")
SAMPLED = ("posterior", "~posterior.expected_votes", "~posterior.galaxies")
SAMPLED += ("~posterior.format", "~posterior.columns", "~posterior.calibration")
SCHEDULE = (  # of rounds of training and asking
    *("expected_votes", "initial", "per_round", "rounds", "first_steps", "round_steps", "start"),
    *("target", "vote_choices", "vote_budget", "weighted", "least_gain"),
)
LABEL_PAGE = ("label.per_galaxy", "label.host", "label.port")
USES = {
    "inspect": (*LEARNS, "posterior", "~posterior.calibration"),
    "prepare": ("dataset",),
    "fit": (*LEARNS, "posterior", "~posterior.calibration", "weights"),
    "predict": (
        *HAS_FIT,
        *("seed", "dataset", "posterior", "~posterior.galaxies"),
        *("parts", "part", "stream", "engine"),
    ),
    "gather": ("run",),
    "catalogue": ("run", "posterior.format", "posterior.columns"),
    "votes": (
        "run",
        "oracle",
        *("~oracle.name", "~oracle.votes", "~oracle.project", "~oracle.show"),
    ),
    "calibrate": (
        *HAS_FIT,
        "seed",
        "dataset",
        "minimum_votes",
        "split",
        *SAMPLED,
    ),
    "active": (
        *LEARNS,
        "~training.steps",
        "~training.validate_every",
        "~training.checkpoint_every",
        "posterior",
        "~posterior.calibration",
        "acquisition",
        "oracle",
        *LABEL_PAGE,
        *("~oracle.exports", "~oracle.galaxy", "~oracle.questions"),
    ),
    "label": (
        *("seed", "question", "positive", "questions", "likelihood", "dataset", "model"),
        *("augmentation", "backend", "~backend.steps", "~backend.workers", "~backend.address"),
        *("posterior", "~posterior.calibration", "~posterior.galaxies", "acquisition"),
        *(f"~acquisition.{key}" for key in SCHEDULE),
        "label",
    ),
    "bench": (
        *(
            "seed",
            "question",
            "positive",
            "questions",
            "likelihood",
            "backend",
            "dataset",
            "~dataset.galaxies",
            "model",
            "~model.encoder",
        ),
        *("augmentation", "training", "~training.batch_size", "~training.validate_every"),
        *("~training.checkpoint_every", "mode", "posterior.samples", "acquisition", "bench"),
        *("~backend.workers", "~backend.address"),
    ),
    "conform": (
        *("seed", "backend", "model", "~model.encoder", "augmentation", "training", "mode"),
        "dataset.crop",
        *("dataset.questions", "dataset.leads"),
        *("question", "positive", "questions", "likelihood", "conform"),
        *("~backend.workers", "~backend.address"),
    ),
    "kit": ("seed",),
    "export": (
        *("weights", "question", "positive", "questions", "likelihood", "model", "augmentation"),
        *("~model.encoder", "training.members"),
        *("seed", "dataset.crop", "dataset.channels", "format"),
    ),
    "match": ("dataset", "match"),
    "show": ("dataset",),
    "report": (),
}
# Where a run is kept, and the process that does it: every task has these, and none of them is what a run is.
ALWAYS = ("task", "experiment", "outputs", "folder", "again", "hydra")
ALWAYS += ("backend.threads", "backend.python", "backend.environment")
ELSEWHERE = (  # no part of what a run is: where it is done, who uploads, how answers to come are read, advice
    "dataset.stores",
    "engine",
    "stream",
    "backend.python",
    "backend.memory",
    "backend.recompute",
    "backend.workers",
    "backend.address",
    "label",
    "acquisition.least_gain",
    "oracle.tasks",
    "oracle.answers",
    "oracle.project",
    "oracle.workflow",
    "oracle.version",
    "oracle.weighting",
    "oracle.show",
    "oracle.exports",
    "oracle.galaxy",
    "oracle.questions",
)


def at(config: Mapping, key: str, missing=None):
    """The value of `key`, a full name, in a nested `config`; `missing` if it is not there."""
    value = config
    for name in key.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return missing
        value = value[name]
    return value


def put(config: dict, key: str, value) -> None:
    """Give `key`, a full name, a copy of `value` in a nested `config`; take it out where `value` is `...`."""
    *groups, last = key.split(".")
    for name in groups:
        config = config.setdefault(name, {})
    if value is ...:
        config.pop(last, None)
    else:
        config[last] = copy.deepcopy(value)


def count_answers(config: Mapping) -> int:
    """How many answers a run learns, the network's outputs; names that are no questions are refused later."""
    asked, questions = at(config, "questions"), at(config, "dataset.questions", {})
    if asked is None:
        return 2
    return sum(len(questions[name]) for name in learned(asked, questions)) or 2


def differences(one, other, name: str = "") -> list[str]:
    """The full names of the keys in which two nested plain configs differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = []
        for key in [*one, *(key for key in other if key not in one)]:
            inner = f"{name}.{key}" if name else key
            found += differences(one.get(key, ...), other.get(key, ...), inner)
        return found
    return [] if one == other else [name]


def uses(task: str, key: str) -> bool:
    """Whether `task` reads `key`, the full name of a key or a group, or anything in it."""
    read = {name.removeprefix("~"): name[0] != "~" for name in (*ALWAYS, *USES[task])}
    parts = re.split(r"[./]", key)
    names = [".".join(parts[:end]) for end in range(len(parts), 0, -1)]
    return next((read[name] for name in names if name in read), False)


def check_used(task: str, keys: Iterable[str]) -> None:
    """Raise ValueError if `task` does not read one of `keys`: it would have been passed over silently."""
    if task not in USES:
        raise ValueError(f"task.name is {task!r}; choose one of {', '.join(USES)}")
    if strange := [key for key in dict.fromkeys(keys) if not uses(task, key)]:
        own = [name for name in USES[task] if name[0] != "~"]
        but = [name[1:] for name in USES[task] if name[0] == "~"]
        used = ", ".join([*own, "experiment", "outputs", "folder", "again"])
        used += f" (without {', '.join(but)})" if but else ""
        raise ValueError(
            f"{task} does not use {', '.join(strange)}; leave it out: {task} uses {used}"
        )


def identity(config: dict) -> dict:
    """What of `config` decides the result: what its task uses, but not where it is done and kept, nor by whom."""
    names = USES[config["task"]["name"]]
    kept = {"task": config["task"]}
    for name in (name for name in names if name[0] != "~"):
        if (value := at(config, name)) is not None:
            put(kept, name, value)
    for name in (*(name[1:] for name in names if name[0] == "~"), *ELSEWHERE):
        if at(kept, name, ...) is not ...:
            put(kept, name, ...)
    if (service := at(kept, "dataset.service")) is not None:  # neither where to nor how politely
        kept["dataset"]["service"] = {key: service[key] for key in ("width", "scale")}
    return kept
