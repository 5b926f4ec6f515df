"""Where training starts: at the seed's first weights, or with what others, or an earlier fit, have learned.

`model.encoder` gives the encoder, and the head's first weights are the seed's; `weights` of a fit gives the whole
network. Steps are counted from 0 and Adam's moments are 0, whichever it is.
"""

import copy
import json
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from shared.data.sources.hub_models import fetch_model
from shared.method.batches import Cutouts, Labelled
from shared.network.model import INPUT, model_of
from shared.network.network import weight_shapes
from shared.network.preprocessing import check_shown, said_of_fit, shown
from shared.network.pretrained import (
    Encoder,
    content,
    read_encoder,
    weights_file,
    words_of_fit,
)
from shared.network.weights import Checkpoint, first_checkpoint, fitted, merge_members
from shared.run.config import at, put, uses
from shared.run.progress import say
from shared.run.spec import RunSpec

HUB = "hub:"
MEASURED = 1000  # galaxies whose pixels are averaged


def start_of(run: RunSpec) -> Checkpoint:
    """The checkpoint at step 0 that `run` starts from; ValueError if what it names is not there or does not fit."""
    if run.task.name == "fit" and run.weights is not None:
        return _network(run)[1]
    start = first_checkpoint(run.model, run.seed, run.training.members)
    if run.model.encoder is None:
        return start
    encoder = _encoder(run)[0]
    return start._replace(
        weights=start.weights | merge_members(encoder.weights),
        moments=merge_members(encoder.moments),
    )


def standardised_start(run: RunSpec, images: Cutouts, labelled: Labelled) -> Checkpoint:
    """`start_of`, by whose first layer the pixels of `labelled` galaxies have a mean of 0 and a variance of 1.

    The pixels are those that the network is shown of up to MEASURED galaxies, seen as they are. What has been trained
    elsewhere is shown what it was trained on.
    """
    start = start_of(run)
    elsewhere = run.model.encoder is not None or (
        run.task.name == "fit" and run.weights is not None
    )
    if not run.model.standardise or elsewhere or not isinstance(images, Cutouts):
        return start
    side = max(1, round(images.size * run.dataset.crop / (sum(run.augmentation.zoom) / 2)))
    first = (images.size - side) // 2
    centre = slice(first, first + side)
    pixels = images[labelled.some(MEASURED, "moments").rows][:, centre, centre].astype(np.int64)
    white, axes = 255 if run.model.scale == "unit" else 1, (0, 1, 2)
    mean, squares = pixels.mean(axes), (pixels**2).mean(axes)  # of integers: the same in any order
    variance = squares - mean**2
    found = {"mean": mean / white, "variance": np.where(variance > 0, variance, 1) / white**2}
    measured = {f"{INPUT}/{part}": value.astype(np.float32) for part, value in found.items()}
    members = merge_members([measured] * run.training.members)
    return start._replace(moments={**start.moments, **members})


def origin(run: RunSpec) -> dict[str, Any]:
    """What a record says of where `run` starts: {} of the seed's first weights, else "start" or "encoder"; and tells.

    Raises ValueError as `start_of` does, and so before any work is done.
    """
    if run.task.name == "fit" and run.weights is not None:
        path, _ = _network(run)
        digest = sha256(path.read_bytes()).hexdigest()
        say(f"training starts from the whole network of {path} (sha256 {digest[:12]}...)")
        return {"start": {"source": run.weights, "file": str(path), "sha256": digest}}
    if run.model.encoder is None:
        return {}
    encoder, found = _encoder(run)
    said, about = found["preprocessing"], encoder.about
    say(
        f"training starts from the encoder of {run.model.encoder}: {found['arrays']} arrays "
        f"(sha256 {found['sha256'][:12]}...), trained as {said['source']} has it"
    )
    if about["converted_from"]:
        say(f"its {about['converted_from']} numbers are read as float32")
    if about["folded"]:
        say("its normalisation of pixels is folded into its first convolution")
    if left := about["left_out"]:
        more = f" and {len(left) - 3} more" * (len(left) > 3)
        say(f"left out, as no part of the encoder: {', '.join(left[:3])}{more}")
    return {"encoder": found}


def contents(config: dict) -> dict[str, str]:
    """A digest of the files that a run of `config` starts from, by the key that names them: files may change."""
    found, task = {}, config["task"]["name"]
    if task == "fit" and (weights := config["weights"]) is not None:
        found["weights"] = sha256(weights_file(Path(weights)).read_bytes()).hexdigest()
    if (encoder := at(config, "model.encoder")) is not None and uses(task, "model.encoder"):
        timeout = at(config, "dataset.service.timeout")
        found["model.encoder"] = content(_place(encoder, timeout)[0])
    return found


def pinned(config: dict) -> dict:
    """`config` with an encoder of a hub named by its commit, so that all of a run is of the same files."""
    encoder = at(config, "model.encoder")
    if not (encoder or "").startswith(HUB) or not uses(config["task"]["name"], "model.encoder"):
        return config
    made = copy.deepcopy(config)
    fetched = fetch_model(encoder, at(config, "dataset.service.timeout"))
    put(made, "model.encoder", fetched.name)
    return made


def _place(encoder: str, timeout: float) -> tuple[Path, str, str | None]:
    """Where the files of `encoder` are, and the repository and commit that they come from, if they do."""
    if not encoder.startswith(HUB):
        return Path(encoder), "", None
    fetched = fetch_model(encoder, timeout)
    return fetched.file, fetched.repository, fetched.commit


def _encoder(run: RunSpec) -> tuple[Encoder, dict[str, Any]]:
    """The encoder that `run` names, which it shows what it was trained to see; and what a record says of it."""
    named = run.model.encoder or ""
    place, repository, commit = _place(named, run.dataset.service.timeout)
    encoder = read_encoder(place, run.model, run.training.members, repository)
    check_shown(encoder.said, run, named)
    said = encoder.said._asdict()
    now = shown(asdict(run.model), asdict(run.augmentation)) | {"crop": run.dataset.crop}
    return encoder, {
        "source": named,
        "revision": commit,
        **encoder.about,
        "preprocessing": said,
        "shown": now,
    }


def _network(run: RunSpec) -> tuple[Path, Checkpoint]:
    """The file of a whole network, and a checkpoint with it at step 0; ValueError if it is another's, or its head."""
    path, model = weights_file(Path(run.weights or "")), model_of(run.model)
    there, about = _shapes(path)
    wrong = [
        [name for name, shape in weight_shapes(part, start).items() if there.get(name) != shape]
        for part, start in ((model.encoder, model.image), (model.head, (model.units,)))
    ]
    if there and wrong[0]:
        raise ValueError(
            f"{path} holds another network than this {run.model.name}: its {wrong[0][0]} is "
            f"{there.get(wrong[0][0], 'not there')}; give {words_of_fit(path, about)}"
        )
    if there and wrong[1]:
        raise ValueError(
            f"the head of {path} is of other answers: its {wrong[1][0]} is {there.get(wrong[1][0], 'not there')}; "
            f"model.encoder={run.weights} instead of weights takes the encoder alone"
        )
    path, start = fitted(run)
    if (said := said_of_fit(path)) is not None:
        check_shown(said, run, str(path))
    return path, start


def _shapes(path: Path) -> tuple[dict[str, tuple[int, ...]], dict]:
    """The shapes in a safetensors file, of an ensemble those of its first member, and what it says of itself.

    Nothing of a file that is none: `fitted` says what is wrong with it.
    """
    try:
        with safe_open(path, "numpy") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except Exception:
        return {}, {}
    about = about if isinstance(about, dict) else {}
    return {name.removeprefix("member0/"): shape for name, shape in found.items()}, about
