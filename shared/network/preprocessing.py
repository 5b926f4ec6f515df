"""What an encoder was trained to see, by whoever says so, and whether a run shows it that.

Views of ours give pixels from 0 to 1 (model.scale=unit), enlarged about the centre (augmentation.zoom), sampled
bilinearly. dataset.crop brings the images of a survey into the usual frame before that, and is no part of it.
"""

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import safe_open

from shared.run.records import RUN, parse_json, read_json
from shared.run.spec import RunSpec

BESIDE = "preprocessing.json"
SHAPE = {"scale?": str, "mean?": [float], "std?": [float], "zoom?": (float, None)}
SHAPE["resampling?"] = (str, None)
EXAMPLE = '{"scale": "unit", "mean": [0], "std": [1], "zoom": 1.2, "resampling": "bilinear"}'
# Zoobot's encoders: pixels from 0 to 1, not normalised, though timm's config.json beside them gives ImageNet's moments;
# a zoom of 1.2 (galaxy-datasets, GZ Evo)
ZOOBOT = re.compile(r"(^|[/-])zoobot-encoder-")
OF_ZOOBOT = {"scale": "unit", "mean": [0.0], "std": [1.0], "zoom": 1.2, "resampling": "bilinear"}


class Preprocessing(NamedTuple):
    """What an encoder was trained to see; None: not known, and anything will do."""

    scale: str  # unit: pixels from 0 to 1, less `mean`, over `std` | raw: from 0 to 255
    mean: tuple[float, ...]  # of each channel, or one number
    std: tuple[float, ...]
    zoom: float | None  # how far images were enlarged about their centre
    resampling: str | None
    source: str  # who says so

    @property
    def plain(self) -> bool:
        """Whether pixels go in as they are."""
        return not any(self.mean) and all(value == 1 for value in self.std)


def told(file: Path, about: dict, repository: str, config: dict) -> Preprocessing | None:
    """What is said of the encoder in `file`; None if nobody says anything.

    By the file itself (`about`), preprocessing.json or a fit's run.json beside it, and what is known of the
    `repository` it comes from: ValueError if two of these disagree. Whatever none of them says is as in `config`,
    timm's config.json, which those who train an encoder anew often leave as it was.
    """
    said: dict[str, dict] = {}
    if "preprocessing" in about:
        said[f"{file} itself"] = checked(about["preprocessing"], f"what {file} says of itself")
    if (beside := file.with_name(BESIDE)).is_file():
        said[str(beside)] = checked(read_json(beside, dict, f"write {EXAMPLE}"), str(beside))
    fit = file.with_name("run.json")
    if not said and file.name == "weights.safetensors" and fit.is_file():
        held = read_json(fit, RUN, "copy the whole folder of the run")
        said[str(fit)] = shown(held["model"], held["augmentation"])
    if ZOOBOT.search(repository or file.parent.as_posix()):
        said["what is known of Zoobot's encoders"] = OF_ZOOBOT
    for one, other in combinations(said, 2):
        for key in said[one].keys() & said[other].keys():
            if said[one][key] != said[other][key]:
                raise ValueError(
                    f"{one} says that the encoder was shown {key}={said[one][key]}, but {other} says "
                    f"{said[other][key]}; correct whichever is wrong"
                )
    of_timm, name = config.get("pretrained_cfg") or {}, str(file.with_name("config.json"))
    of_timm = {key: of_timm[key] for key in ("mean", "std") if of_timm.get(key) is not None}
    of_timm = checked(of_timm, name)
    if not said and not of_timm:
        return None
    merged = {key: value for one in said.values() for key, value in one.items()}
    source = " and ".join([*said, *([name] if of_timm.keys() - merged.keys() else [])])
    if other := [
        f"{key} {of_timm[key]}"
        for key in of_timm.keys() & merged.keys()
        if set(of_timm[key]) != set(merged[key])
    ]:
        source += f", though {name} has {' and '.join(sorted(other))}"
    merged = of_timm | merged
    return Preprocessing(
        merged.get("scale", "unit"),
        tuple(merged.get("mean", (0.0,))),
        tuple(merged.get("std", (1.0,))),
        merged.get("zoom"),
        merged.get("resampling"),
        source,
    )


def said_of_fit(file: Path) -> Preprocessing | None:
    """What the network in a fit's `file` of weights was shown, as the file or the run.json beside it says."""
    with safe_open(file, "numpy") as opened:
        text = (opened.metadata() or {}).get("about", "{}")
    return told(file, parse_json(text, dict, f"what {file} says of itself", "fit again"), "", {})


def checked(said: Any, name: str) -> dict:
    """What somebody called `name` has `said`, without what is null; ValueError if it cannot be."""
    said = parse_json(json.dumps(said), SHAPE, name, f"write {EXAMPLE}")
    known = [key.removesuffix("?") for key in SHAPE]
    if strange := sorted(said.keys() - set(known)):
        raise ValueError(f"{name} has {strange[0]}; there are {', '.join(known)}")
    said = {key: value for key, value in said.items() if value not in (None, [])}
    wrong = said.get("scale", "unit") not in ("unit", "raw") or min(said.get("std", [1])) <= 0
    if wrong or said.get("zoom", 1) < 1:
        raise ValueError(f"{name} says {json.dumps(said)}, which cannot be; write {EXAMPLE}")
    return said


def shown(model: dict, augmentation: dict) -> dict:
    """What the network of a run with these groups of settings is shown."""
    return {
        "scale": model["scale"],
        "mean": [0.0],
        "std": [1.0],
        "zoom": round(sum(augmentation["zoom"]) / 2, 6),
        "resampling": augmentation["resampling"],
    }


def check_shown(said: Preprocessing | None, run: RunSpec, name: str) -> None:
    """Raise ValueError unless `run` shows an encoder, whose file is called `name`, what it was trained to see."""
    if said is None:
        raise ValueError(
            f"nothing says what the encoder {name} was trained to see; write {BESIDE} beside it, such as {EXAMPLE} "
            "(scale: unit: pixels from 0 to 1, raw: 0 to 255; mean and std: of each channel, if it was normalised; "
            "zoom: how far images were enlarged about their centre)"
        )
    if said.scale != run.model.scale:
        raise ValueError(
            f"the encoder {name} was trained with model.scale={said.scale} ({said.source}), but model.scale is "
            f"{run.model.scale}; give model.scale={said.scale}"
        )
    ways = ("bilinear", "nearest")
    if said.resampling in ways and said.resampling != run.augmentation.resampling:
        raise ValueError(
            f"the encoder {name} was trained on images sampled by {said.resampling} ({said.source}), but "
            f"augmentation.resampling is {run.augmentation.resampling}; give augmentation.resampling={said.resampling}"
        )
    low, high = run.augmentation.zoom
    if said.zoom is not None and not low - 1e-6 <= said.zoom <= high + 1e-6:
        raise ValueError(
            f"the encoder {name} was trained on images enlarged {said.zoom:g} times ({said.source}), but augmentation."
            f"zoom is [{low:g}, {high:g}]; give one around it, such as augmentation.zoom=[{said.zoom:g},{said.zoom:g}]"
        )
