"""Weights under framework-free names, their first values, and their files.

Convolution kernels are (row, column, input, output), dense kernels (input, output); an image is flattened in the order
row, column, channel. Files are safetensors: arrays and text, nothing that could be executed. Those of an ensemble hold
every member's arrays, under member0/conv0/kernel and so on; those of one network have the names as they are. The file
of a fit also holds the hashes of the galaxies that it was trained with.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from shared.run import keys
from shared.run.records import parse_json, plain, write_whole
from shared.run.spec import ModelSpec, RunSpec

Weights = dict[str, np.ndarray]
TRAINED_WITH = "trained_with"  # in the file of a fit: uint64 (galaxy,), rising
TYPES = {"F32": "float32", "F64": "float64"}  # in which weights are kept
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


def layer_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """The shape of every array, in the order in which an image meets them."""
    shapes: dict[str, tuple[int, ...]] = {}
    channels, width, number = 1, spec.image_size, 0
    for block in spec.blocks:
        for filters in block:
            shapes[f"conv{number}/kernel"], shapes[f"conv{number}/bias"] = (
                (3, 3, channels, filters),
                (filters,),
            )
            channels, number = filters, number + 1
        width //= 2
    shapes["hidden/kernel"], shapes["hidden/bias"] = (
        (width * width * channels, spec.dense),
        (spec.dense,),
    )
    shapes["answer/kernel"], shapes["answer/bias"] = (spec.dense, 2), (2,)
    return shapes


def parameters(spec: ModelSpec) -> int:
    """How many numbers are learned."""
    return sum(int(np.prod(shape)) for shape in layer_shapes(spec).values())


def init_weights(spec: ModelSpec, seed: int) -> Weights:
    """The first weights, float32: Glorot and Bengio's (2010) uniform kernels, as W+20's layers had, and zero biases."""
    weights, key = {}, keys.purpose_key(seed, "weights")
    for number, (name, shape) in enumerate(layer_shapes(spec).items()):
        weights[name] = np.zeros(shape, np.float32)
        if name.endswith("kernel"):
            field = int(np.prod(shape[:-2]))
            limit = np.sqrt(6 / (field * (shape[-2] + shape[-1])))
            u = keys.uniforms(key, number, int(np.prod(shape)))
            weights[name] = (limit * (2 * u - 1)).astype(np.float32).reshape(shape)
    return weights


def together(members: Sequence[Weights]) -> Weights:
    """The arrays of all MEMBERS of an ensemble, each under its member's name; those of one network as they are."""
    if len(members) == 1:
        return members[0]
    return {
        f"member{number}/{name}": array
        for number, weights in enumerate(members)
        for name, array in weights.items()
    }


def member(weights: Weights, number: int) -> Weights:
    """The arrays of member NUMBER of an ensemble, under the names that one network has."""
    prefix = f"member{number}/"
    return {
        name.removeprefix(prefix): array
        for name, array in weights.items()
        if name.startswith(prefix)
    }


def first_checkpoint(spec: ModelSpec, seed: int, members: int = 1) -> Checkpoint:
    """Where training starts; MEMBERS of an ensemble have the first weights of SEED, SEED + 1, ..."""
    weights = together([init_weights(spec, seed + number) for number in range(members)])
    zeros = {name: np.zeros_like(array) for name, array in weights.items()}
    return Checkpoint(weights, zeros, zeros, 0)


def save_weights(path: Path, weights: Weights, about: dict) -> None:
    """Write WEIGHTS, and the facts ABOUT them, to a safetensors file."""
    arrays = {name: np.ascontiguousarray(weights[name]) for name in sorted(weights)}
    data = save(arrays, {"about": json.dumps(plain(about), sort_keys=True, allow_nan=False)})
    write_whole(path, lambda beside: beside.write_bytes(data))


def load_weights(path: Path, spec: ModelSpec, members: int = 1) -> Weights:
    """The weights in a safetensors file; ValueError if they do not fit the model, or are not of so many MEMBERS."""
    arrays, _ = _read(path, dict)
    arrays.pop(TRAINED_WITH, None)
    return _fitting(path, arrays, spec, members, "")


def trained_with(path: Path) -> np.ndarray | None:
    """The hashes uint64 (galaxy,) of the galaxies that the weights at `path` were trained with; None if it has none."""
    return _read(path, dict)[0].get(TRAINED_WITH)


def save_checkpoint(path: Path, checkpoint: Checkpoint, about: dict) -> None:
    """Write a checkpoint to one safetensors file."""
    parts = {"weights": checkpoint.weights, "first": checkpoint.first, "second": checkpoint.second}
    arrays = {
        f"{part}/{name}": array for part, named in parts.items() for name, array in named.items()
    }
    save_weights(path, arrays, {**about, "step": checkpoint.step})


def fitted(run: RunSpec) -> tuple[Path, Checkpoint]:
    """The file that run.weights means, a run's folder or a file, and a checkpoint with its weights, at step 0.

    Raises ValueError if they do not fit the run's model or number of members.
    """
    path = Path(run.weights or "")
    path = path / "weights.safetensors" if path.is_dir() else path
    start = first_checkpoint(run.model, run.seed, run.training.members)
    return path, start._replace(weights=load_weights(path, run.model, run.training.members))


def load_checkpoint(path: Path, spec: ModelSpec, members: int = 1) -> tuple[Checkpoint, dict]:
    """A checkpoint and the facts written with it; ValueError if it does not fit the model, or MEMBERS."""
    arrays, about = _read(path, FACTS)
    parts = [
        _fitting(path, arrays, spec, members, f"{part}/") for part in ("weights", "first", "second")
    ]
    if any((array < 0).any() for array in parts[2].values()) or about["step"] < 0:
        raise ValueError(f"{path} holds second moments or a step below 0; again=true begins anew")
    return Checkpoint(*parts, about["step"]), about


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


def _fitting(path: Path, arrays: Weights, spec: ModelSpec, members: int, prefix: str) -> Weights:
    shapes = layer_shapes(spec)
    wanted = together([shapes] * members)
    found = {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
    there = max(len({name.split("/")[0] for name in found if name.startswith("member")}), 1)
    if there != members:
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
                "give the model group (image_size, blocks, dense) of the run that wrote it"
            )
        if not np.isfinite(found[name]).all():
            raise ValueError(
                f"{path}: {name} holds values that are not finite; training diverged: lower the learning rate"
            )
    return {name: found[name] for name in wanted}
