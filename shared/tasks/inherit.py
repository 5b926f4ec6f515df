"""What a run that is given weights takes from the fit that made them."""

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path

from shared.run.config import at, differences, put, uses
from shared.run.progress import printable
from shared.run.questions import learned
from shared.run.records import read_run
from shared.run.spec import RunSpec, completed
from shared.tasks import TASKS

SETTLED = (
    "model",
    "question",
    "positive",
    "questions",
    "likelihood",
)  # by the weights: no word changes them
VIEW = ("dataset.crop", "dataset.stretch", "dataset.channels")  # of a galaxy, by the network
FRAMING = ("dataset.service.scale", "dataset.service.width")  # of one service's cutouts
FRAMEWORK = ("backend.name", "backend.precision", "backend.environment", "backend.python")


def inherit(config: dict, named: Sequence[str], usual: dict) -> dict:
    """`config` of a task that needs a fit, with the network, its view of a galaxy and its question as trained.

    The keys and groups `named` on the command line keep their value, but for the network's shape and question, which
    the weights have settled; the dropout rate is no part of the shape. Choosing a dataset (`dataset=NAME`) says where
    galaxies come from, not how the network sees them, unless it is another survey whose configuration sets a crop or a
    stretch other than the `usual` configuration of a folder. Prints what it took of the view and the framework, and
    what is not as in the fit.

    Raises ValueError if there are no weights, no run.json beside them, or another network or question is asked for.
    """
    task, weights = config["task"]["name"], config["weights"]
    if weights is None:
        raise ValueError(
            f"{task} needs weights, a run folder of fit or its weights.safetensors: "
            "weights=outputs/fit/NAME"
        )
    trained = trained_run(weights_file(weights).parent / "run.json", config)
    for key in named:
        settled = key.split(".")[0] in SETTLED and key != "model.dropout"
        if settled and (where := differences(at(config, key), at(trained, key), key)):
            raise ValueError(f"{where[0]} is not what {weights} was trained with; leave it out")
    made = copy.deepcopy(config)
    framework = FRAMEWORK if uses(task, "backend") else ()
    for key in (*TASKS[task].inherits, "augmentation", *framework, "training.members"):
        if not {key, key.split(".")[0]} & set(named):
            put(made, key, at(trained, key))
    for key in (*SETTLED, *view(config, trained, usual)):
        put(made, key, at(trained, key))
    for key in named:  # a group that was chosen as a whole has been passed over above
        value, chosen = at(config, key, ...), isinstance(at(config, key), dict) and "." not in key
        if not chosen and (value is not ... or at(made, key, ...) is not ...):
            put(made, key, value)
    if not shutil.which(made["backend"]["python"] or ""):
        made["backend"]["python"] = config["backend"]["python"]  # that of the fit is not here
    dataset = made["dataset"]
    without_votes = dataset["images"] is not None and dataset["table"] is None
    theirs, here = at(trained, "dataset.questions", {}), dataset["questions"]
    other = any(
        here.get(name) != theirs.get(name) for name in learned(made["questions"] or (), theirs)
    )
    if without_votes or other or made["question"] not in here:
        for key in ("dataset.questions", "dataset.leads"):
            put(made, key, at(trained, key))
    tell_inherited(config, made, trained)
    return made


def view(config: dict, trained: dict, usual: dict) -> tuple[str, ...]:
    """The keys of the dataset that say how the network sees a galaxy, and that are the fit's in a run of `config`.

    Not those that another survey's configuration sets for itself; and the framing of cutouts of the same service alone.
    """
    other = at(config, "dataset.name") != at(trained, "dataset.name")
    keys = tuple(key for key in VIEW if not (other and at(config, key) != at(usual, key)))
    same_place = at(config, "dataset.images") == at(trained, "dataset.images")
    return (*keys, *(FRAMING if same_place else ()))


def trained_run(path: Path, config: dict) -> dict:
    """The run.json at `path` of a fit, with keys that are newer than it as `config` has them.

    Raises ValueError if it is no such file, or has keys that this version does not know.
    """
    needed = (*SETTLED, "dataset", "augmentation", "training", "backend")
    wanted = {*needed, *(key for each in TASKS.values() for key in each.inherits)}
    try:
        held = read_run(path.parent)
        if missing := [key for key in needed if key not in held]:
            raise ValueError(f"{missing[0]} is missing")
        return completed(RunSpec, {key: held[key] for key in wanted & held.keys()}, config)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} does not hold the settings of a fit as this version of trizoo knows them "
            f"({error}); copy it anew, or fit again"
        ) from error


def tell_inherited(config: dict, made: dict, trained: dict) -> None:
    """Print what of a network's view and framework a run took from the fit, and what is not as there."""
    every = (*VIEW, *FRAMING, "backend.name", "backend.precision", "posterior.method")
    keys = [key for key in every if uses(config["task"]["name"], key)]
    taken = [f"{key}={at(made, key)}" for key in keys if at(made, key) != at(config, key)]
    if taken:
        print(printable(f"as in the fit: {', '.join(taken)}"), flush=True)
    seen = [key for key in keys if key not in FRAMING]
    other = [
        f"{key}={at(made, key)} (there {at(trained, key)})"
        for part in (*seen, "augmentation", "model.dropout")
        for key in differences(at(made, part), at(trained, part), part)
    ]
    if other:
        print(printable(f"not as in the fit: {', '.join(other)}"), flush=True)


def weights_file(weights: str) -> Path:
    """The file that `weights`, a run folder or a file, means; raises ValueError if it or its run.json is not there."""
    path = Path(weights)
    path = path / "weights.safetensors" if path.is_dir() else path
    for needed in (path, path.parent / "run.json"):
        if not needed.is_file():
            raise ValueError(
                f"weights is {weights}, but there is no {needed}; give a finished run folder of fit"
            )
    return path
