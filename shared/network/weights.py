"""Weights under framework-free names, their first values, and their files.

Convolution kernels are (row, column, input, output), dense kernels (input, output); an image is flattened in the order
row, column, channel. Files are safetensors: arrays and text, nothing that could be executed. Those of an ensemble hold
every member's arrays, under member0/conv0/kernel and so on; those of one network have the names as they are. The file
of a fit also holds the hashes of the galaxies that it was trained with.
"""

import json
from collections.abc import Sequence
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save
from scipy.special import ndtri

from shared.network.model import model_of
from shared.network.network import moment_shapes, starts, weight_shapes
from shared.network.operations import Shape, Shapes, Start
from shared.run import keys
from shared.run.records import parse_json, plain, write_whole
from shared.run.spec import ModelSpec, RunSpec

Weights = dict[str, np.ndarray]
TRAINED_WITH = "trained_with"  # in the file of a fit: uint64 (galaxy,), rising
TYPES = {"F32": "float32", "F64": "float64"}  # in which weights are kept
PARTS = ("weights", "first", "second", "moments")  # of a checkpoint, in its file
FACTS = {  # what a checkpoint says of itself
    "step": int,
    "settings?": dict,
    "galaxies?": str,
    "images?": (str, None),
    "losses?": [float],
    "validation?": [[(float, None)]],
    "seconds?": [[float]],
    "rounds?": [{"seconds": float}],
}


class Checkpoint(NamedTuple):
    """All that training changes."""

    weights: Weights
    first: Weights  # Adam's first moments
    second: Weights  # and its second
    step: int
    moments: Weights = MappingProxyType({})  # running ones, of batch norms


def model_shapes(spec: ModelSpec) -> Shapes:
    """The shape of every weight, in the order in which an image meets them."""
    model = model_of(spec)
    return weight_shapes(model.whole, model.image)


def state_shapes(spec: ModelSpec) -> Shapes:
    """The shape of every weight, and of every running moment: all that prediction needs."""
    model = model_of(spec)
    return model_shapes(spec) | moment_shapes(model.whole, model.image)


def parameters(spec: ModelSpec) -> int:
    """How many numbers are learned."""
    return sum(map(prod, model_shapes(spec).values()))


def init_weights(spec: ModelSpec, seed: int) -> Weights:
    """The first weights, float32, each drawn as its operation has it; W+20's layers have Glorot's uniform kernels."""
    model, key = model_of(spec), keys.purpose_key(seed, "weights")
    begin = starts(model.whole, model.image)
    return {
        name: draw(begin[name], key, number, shape)
        for number, (name, shape) in enumerate(model_shapes(spec).items())
    }


def draw(start: Start, key: np.ndarray, number: int, shape: Shape) -> np.ndarray:
    """The first values float32 of array `number`."""
    if start.law == "constant":
        return np.full(shape, start.size, np.float32)
    u = keys.uniforms(key, number, prod(shape))
    values = 2 * u - 1 if start.law == "uniform" else ndtri(u + 2.0**-25)
    return (start.size * values).astype(np.float32).reshape(shape)


def init_moments(spec: ModelSpec) -> Weights:
    """The first running moments, float32: means of 0 and variances of 1."""
    model = model_of(spec)
    return {
        name: np.full(shape, name.endswith("variance"), np.float32)
        for name, shape in moment_shapes(model.whole, model.image).items()
    }


def merge_members(members: Sequence[Weights]) -> Weights:
    """The arrays of all `members` of an ensemble, each under its member's name; those of one network as they are."""
    if len(members) == 1:
        return members[0]
    return {
        f"member{number}/{name}": array
        for number, weights in enumerate(members)
        for name, array in weights.items()
    }


def member(weights: Weights, number: int) -> Weights:
    """The arrays of member `number` of an ensemble, under the names that one network has."""
    prefix = f"member{number}/"
    return {
        name.removeprefix(prefix): array
        for name, array in weights.items()
        if name.startswith(prefix)
    }


def first_checkpoint(spec: ModelSpec, seed: int, members: int = 1) -> Checkpoint:
    """Where training starts; `members` of an ensemble have the first weights of `seed`, `seed` + 1, ..."""
    weights = merge_members([init_weights(spec, seed + number) for number in range(members)])
    zeros = {name: np.zeros_like(array) for name, array in weights.items()}
    return Checkpoint(weights, zeros, zeros, 0, merge_members([init_moments(spec)] * members))


def save_weights(path: Path, weights: Weights, about: dict) -> None:
    """Write `weights`, and the facts `about` them, to a safetensors file."""
    arrays = {name: np.ascontiguousarray(weights[name]) for name in sorted(weights)}
    data = save(arrays, {"about": json.dumps(plain(about), sort_keys=True, allow_nan=False)})
    write_whole(path, lambda beside: beside.write_bytes(data))


def load_arrays(path: Path, shape: Any) -> tuple[Weights, dict]:
    """The arrays in a safetensors file, and the facts `about` them, of that `shape` (see `parse_json`)."""
    return _read(path, shape)


def load_weights(path: Path, spec: ModelSpec, members: int = 1) -> Weights:
    """The weights and running moments in a safetensors file.

    Raises ValueError if they do not fit the model, or are not of so many `members`.
    """
    arrays, _ = _read(path, dict)
    arrays.pop(TRAINED_WITH, None)
    return _fitting(path, arrays, state_shapes(spec), members, "")


def trained_with(path: Path) -> np.ndarray | None:
    """The hashes uint64 (galaxy,) of the galaxies that the weights at `path` were trained with; None if it has none."""
    return _read(path, dict)[0].get(TRAINED_WITH)


def save_checkpoint(path: Path, checkpoint: Checkpoint, about: dict) -> None:
    """Write a checkpoint to one safetensors file."""
    arrays = {
        f"{part}/{name}": array
        for part in PARTS
        for name, array in getattr(checkpoint, part).items()
    }
    save_weights(path, arrays, {**about, "step": checkpoint.step})


def fitted(run: RunSpec) -> tuple[Path, Checkpoint]:
    """The file that run.weights means, a run's folder or a file, and a checkpoint with its weights, at step 0.

    Raises ValueError if they do not fit the run's model or number of members.
    """
    path = Path(run.weights or "")
    path = path / "weights.safetensors" if path.is_dir() else path
    return path, with_weights(run, path)


def with_weights(run: RunSpec, path: Path) -> Checkpoint:
    """A checkpoint at step 0 with the weights of a file; ValueError if they do not fit the run's model or members."""
    start = first_checkpoint(run.model, run.seed, run.training.members)
    arrays = load_weights(path, run.model, run.training.members)
    weights, moments = (
        {name: arrays[name] for name in part} for part in (start.weights, start.moments)
    )
    return start._replace(weights=weights, moments=moments)


def load_checkpoint(path: Path, spec: ModelSpec, members: int = 1) -> tuple[Checkpoint, dict]:
    """A checkpoint and the facts written with it; ValueError if it does not fit the model, or `members`."""
    arrays, about = _read(path, FACTS)
    shapes = dict.fromkeys(PARTS, model_shapes(spec))
    shapes["moments"] = {name: state_shapes(spec)[name] for name in init_moments(spec)}
    parts = {part: _fitting(path, arrays, shapes[part], members, f"{part}/") for part in PARTS}
    if any((array < 0).any() for array in parts["second"].values()) or about["step"] < 0:
        raise ValueError(f"{path} holds second moments or a step below 0; again=true begins anew")
    return Checkpoint(step=about["step"], **parts), about


def _read(path: Path, shape: Any) -> tuple[Weights, dict]:
    """The arrays in a safetensors file, and the facts in it, of that `shape`."""
    try:
        with safe_open(path, "numpy") as file:
            text = (file.metadata() or {}).get("about", "{}")
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            strange = {
                name: kind
                for name, kind in kinds.items()
                if kind not in (["U64"] if name == TRAINED_WITH else TYPES)
            }
            arrays = {} if strange else {name: file.get_tensor(name) for name in kinds}
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}; `trizoo fit` writes one") from None
    except Exception as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); fit again or copy it again"
        ) from error
    for name, kind in strange.items():
        raise ValueError(
            f"{path}: {name} is of the type {kind}, but weights are {' or '.join(TYPES.values())}; "
            "save them as such, or fit again"
        )
    return arrays, parse_json(text, shape, f"what {path} says of itself", "fit again")


def _fitting(path: Path, arrays: Weights, shapes: Shapes, members: int, prefix: str) -> Weights:
    wanted = merge_members([shapes] * members)
    found = {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
    there = max(len({name.split("/")[0] for name in found if name.startswith("member")}), 1)
    if wanted and there != members:
        raise ValueError(
            f"{path} holds {there} network{'s' if there > 1 else ''}, but training.members is {members}; "
            f"give training.members={there}, or the file of another fit"
        )
    if found.keys() != wanted.keys():
        raise ValueError(
            f"{path} has the arrays {', '.join(sorted(found)) or 'of no weights'}, but the model has "
            f"{', '.join(wanted)}; give the model group of the run that wrote it"
        )
    for name, shape in wanted.items():
        if found[name].shape != shape:
            raise ValueError(
                f"{path}: {name} has the shape {found[name].shape}, but the model needs {shape}; "
                "give the model group (image_size, blocks, dense and so on) of the run that wrote it"
            )
        if not np.isfinite(found[name]).all():
            raise ValueError(
                f"{path}: {name} holds values that are not finite; training diverged: lower the learning rate"
            )
    return {name: found[name] for name in wanted}
