"""Encoders from files: timm's, as Zoobot's encoders are kept, or those of a fit of ours; and back into timm's layout.

A file is safetensors or, read as tensors alone, a pickle of PyTorch. What architecture it is of is found from the names
and shapes of its arrays; what it was trained to see, by `preprocessing`.
"""

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import deserialize, safe_open
from safetensors.numpy import save

from shared.network.model import INPUT, model_of
from shared.network.model import encoder as encoder_network
from shared.network.network import moment_shapes, weight_shapes
from shared.network.pickles import read_pickled, widened
from shared.network.preprocessing import BESIDE, EXAMPLE, Preprocessing, told
from shared.network.timm_names import LEFT_OUT, family_of, from_timm, timm_shapes, to_timm
from shared.network.weights import TRAINED_WITH, Weights, init_moments, member
from shared.run.records import RUN, parse_json, read_json
from shared.run.spec import WEIGHT_FILES, ModelSpec

CONFIG = {  # what is read of timm's config.json
    "architecture?": (str, None),
    "model_args?": (dict, None),
    "pretrained_cfg?": (dict, None),
}
STANDARD = (64, 128, 256, 512)
ARCHITECTURES = {  # timm's name -> our model.name, widths and depths
    "resnet18": ("resnet18", STANDARD, (2, 2, 2, 2)),
    "resnet34": ("resnet18", STANDARD, (3, 4, 6, 3)),
    "resnet50": ("resnet50", STANDARD, (3, 4, 6, 3)),
    "resnet101": ("resnet50", STANDARD, (3, 4, 23, 3)),
    "resnet152": ("resnet50", STANDARD, (3, 8, 36, 3)),
    "efficientnet_b0": (
        "efficientnet_b0",
        (32, 16, 24, 40, 80, 112, 192, 320, 1280),
        (1, 2, 2, 3, 3, 4, 1),
    ),
    "convnext_atto": ("convnext_atto", (40, 80, 160, 320), (2, 2, 6, 2)),
    "convnext_femto": ("convnext_femto", (48, 96, 192, 384), (2, 2, 6, 2)),
    "convnext_pico": ("convnext_pico", (64, 128, 256, 512), (2, 2, 6, 2)),
    "convnext_nano": ("convnext_nano", (80, 160, 320, 640), (2, 2, 8, 2)),
    "convnext_tiny": ("convnext_tiny", (96, 192, 384, 768), (3, 3, 9, 3)),
    "convnext_small": ("convnext_small", (96, 192, 384, 768), (3, 3, 27, 3)),
    "convnext_base": ("convnext_small", (128, 256, 512, 1024), (3, 3, 27, 3)),
    "convnext_large": ("convnext_small", (192, 384, 768, 1536), (3, 3, 27, 3)),
}
HALVES = {"F16": "float16", "<f2": "float16", "BF16": "bfloat16", "bfloat16": "bfloat16"}
TYPES = {"BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8"}
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
COUNTS = re.compile(r"num_batches_tracked$")  # of timm's batch norms; nothing here needs them
# under which names those who train a network keep its encoder: none, Lightning's and Zoobot's, torch.compile's, ...
PREFIXES = ("", "encoder.", "model.", "backbone.", "module.", "model.encoder.", "_orig_mod.")
STEMS = {"resnet": "conv1.weight", "convnext": "stem.0.weight", "efficientnet": "conv_stem.weight"}


class Sizes(NamedTuple):
    """What a file's names and shapes say of its network."""

    family: str
    name: str  # our model.name; of ConvNeXts, whose variants differ in size alone, the one of this size or any
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    channels: int

    @property
    def architecture(self) -> str | None:
        """timm's name; None: it has none of this size."""
        sizes = (self.name, self.widths, self.depths)
        return next((name for name, known in ARCHITECTURES.items() if known == sizes), None)

    @property
    def words(self) -> str:
        """What of the command line makes a model of this."""
        words = [f"model={self.name}"]
        usual = ARCHITECTURES[self.name]
        for key, value, default in zip(("widths", "depths"), self[2:4], usual[1:], strict=True):
            words += [f"model.{key}=[{','.join(map(str, value))}]"] if value != default else []
        return " ".join(words)


class Encoder(NamedTuple):
    """The encoder in a file, under our names: of each member of an ensemble, which may all have the same."""

    weights: list[Weights]
    moments: list[Weights]
    about: dict[str, Any]  # for a record
    said: Preprocessing | None  # what it was trained to see, if anybody says


def weights_file(place: Path) -> Path:
    """The file of weights that `place`, a file or a folder, means; ValueError if there is none."""
    for path in (place, *(place / name for name in WEIGHT_FILES)):
        if path.is_file():
            return path
    raise ValueError(
        f"there is no encoder at {place}; give a file of weights, or a folder with {' or '.join(WEIGHT_FILES)}"
    )


def content(place: Path) -> str:
    """The SHA-256 of all that `read_encoder` reads at `place`, so that what changes there is seen."""
    file = weights_file(place)
    beside = [file.with_name(name) for name in (BESIDE, "config.json", "run.json")]
    there = [path for path in (file, *beside) if path.is_file()]
    sums = [sha256(path.read_bytes()).hexdigest() for path in there]
    return sha256("".join(sums).encode()).hexdigest()


def read_encoder(place: Path, spec: ModelSpec, members: int = 1, repository: str = "") -> Encoder:
    """The encoder at `place`, a file or a folder, for `members` networks of `spec`; `repository`: its name on a hub.

    Raises ValueError if it cannot be read, or is another network's: then it names the model that would fit.
    """
    file = weights_file(place)
    arrays, kinds, about = _read(file)
    found: dict[str, Any] = {
        "file": str(file),
        "sha256": sha256(file.read_bytes()).hexdigest(),
        "converted_from": next((HALVES[kind] for kind in kinds.values() if kind in HALVES), None),
    }
    if any("/" in name for name in arrays):
        weights, moments = _ours(file, arrays, about, spec, members)
        found |= {"layout": "trizoo", "architecture": spec.name, "left_out": []}
        said, folded = told(file, about, repository, {}), False
    else:
        state, left = _under_prefix(file, arrays)
        sizes, config = _sizes(file, state), _config(file)
        _check_same(file, sizes, config, spec)
        try:
            one = from_timm(sizes.family, encoder_network(spec), model_of(spec).image, state)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        said = told(file, about, repository, config)
        given = _normalisation(said, sizes.channels) if spec.standardise else {}
        folded = said is not None and not given and _fold(file, sizes, one[0], said)
        weights, moments = [one[0]] * members, [one[1] | given] * members
        found |= {"layout": "timm", "architecture": sizes.architecture, "left_out": left}
    for name, array in (pair for part in weights + moments for pair in part.items()):
        if not np.isfinite(array).all():
            raise ValueError(f"{file}: {name} holds values that are not finite; give another file")
    found |= {"arrays": len(weights[0]) + len(moments[0]), "folded": folded}
    return Encoder(weights, moments, found, said)


def _read(file: Path) -> tuple[Weights, dict[str, str], dict]:
    """The arrays in a file, float32 or float64, their types there, and what it says of itself."""
    with file.open("rb") as opened:
        pickled = opened.read(2) == b"PK" or file.suffix in PICKLES
    arrays, kinds, about = (*read_pickled(file), {}) if pickled else _read_safetensors(file)
    arrays = {name: array for name, array in arrays.items() if not COUNTS.search(name)}
    if strange := [name for name, array in arrays.items() if array.dtype.kind != "f"]:
        raise ValueError(
            f"{file}: {strange[0]} is of the type {kinds[strange[0]]}, which no weights are; give another file"
        )
    small = {name: array.astype("<f4") for name, array in arrays.items() if array.itemsize == 2}
    return arrays | small, {name: kinds[name] for name in arrays}, about


def _read_safetensors(file: Path) -> tuple[Weights, dict[str, str], dict]:
    arrays, kinds = {}, {}
    try:
        with safe_open(file, "numpy") as opened:
            text = (opened.metadata() or {}).get("about", "{}")
        for name, one in deserialize(file.read_bytes()):
            kinds[name] = one["dtype"]
            if name != TRAINED_WITH:
                numbers = np.frombuffer(one["data"], TYPES.get(one["dtype"], "u1"))
                numbers = widened(numbers) if one["dtype"] == "BF16" else numbers
                arrays[name] = numbers.reshape(one["shape"] if one["dtype"] in TYPES else -1)
    except Exception as error:
        raise ValueError(
            f"{file} is not a whole safetensors file ({error}); copy it again, or give one of PyTorch's "
            f"as {', '.join(PICKLES)}"
        ) from error
    return arrays, kinds, parse_json(text, dict, f"what {file} says of itself", "save it anew")


def _under_prefix(file: Path, arrays: Weights) -> tuple[Weights, list[str]]:
    """The arrays of an encoder under timm's names, without what they all begin with; and what is no part of it."""
    found = [
        prefix for prefix in PREFIXES if any(prefix + stem in arrays for stem in STEMS.values())
    ]
    if len(found) != 1:
        what = (
            f"several encoders ({', '.join(found)})" if found else "no encoder that is known here"
        )
        raise ValueError(
            f"{file} holds {what}; its arrays are {', '.join(sorted(arrays)[:4])}, ...: give the weights of one of "
            f"timm's {', '.join(name for name in ARCHITECTURES)}, or of a fit"
        )
    state = {
        name.removeprefix(found[0]): array
        for name, array in arrays.items()
        if name.startswith(found[0]) and not re.search(LEFT_OUT, name.removeprefix(found[0]))
    }
    return state, sorted(arrays.keys() - {found[0] + name for name in state})


def _sizes(file: Path, state: Weights) -> Sizes:
    """What network the names and shapes of timm's arrays are of."""
    family = next(family for family, stem in STEMS.items() if stem in state)
    blocks = {
        "resnet": r"layer(\d+)\.(\d+)\.conv1\.weight",
        "convnext": r"stages\.(\d+)\.blocks\.(\d+)\.conv_dw\.weight",
        "efficientnet": r"blocks\.(\d+)\.(\d+)\.conv_dw\.weight",
    }[family]
    there = [found for name in state if (found := re.fullmatch(blocks, name))]
    stages = sorted({int(found[1]) for found in there})
    depths = tuple(sum(int(found[1]) == stage for found in there) for stage in stages)
    last = {
        "resnet": "layer{}.0.conv1.weight",
        "convnext": "stages.{}.blocks.0.conv_dw.weight",
        "efficientnet": "blocks.{}.0.conv_pwl.weight",
    }[family]
    names = [last.format(stage) for stage in stages]
    if family == "efficientnet":
        names = ["conv_stem.weight", "blocks.0.0.conv_pw.weight", *names[1:], "conv_head.weight"]
    wide = len(stages) == {"efficientnet": 7}.get(family, 4)
    stem = state[STEMS[family]]
    if not wide or stem.ndim != 4 or any(name not in state for name in names):
        raise ValueError(
            f"{file} holds a {family} of another make than those known here; give the weights of one of timm's "
            f"{', '.join(ARCHITECTURES)}"
        )
    name = {"convnext": "convnext_nano", "efficientnet": "efficientnet_b0"}.get(family, "resnet18")
    if "layer1.0.conv3.weight" in state:
        name = "resnet50"
    widths = tuple(len(state[name]) for name in names)
    for known in ARCHITECTURES.values():
        if known[1:] == (widths, depths) and family == family_of(known[0]):
            name = known[0] if family == "convnext" else name
    return Sizes(family, name, widths, depths, stem.shape[1])


def _config(file: Path) -> dict:
    """timm's config.json beside `file`; {} if there is none."""
    path = file.with_name("config.json")
    return read_json(path, CONFIG, "copy it again") if path.is_file() else {}


def _check_same(file: Path, sizes: Sizes, config: dict, spec: ModelSpec) -> None:
    """Raise ValueError, which names the model that fits, unless the network in `file` is that of `spec`."""
    is_block = {"resnet18": "resnet18", "resnet50": "resnet50"}
    kind, wanted = (is_block.get(name, name.split("_")[0]) for name in (sizes.name, spec.name))
    colours = f"{sizes.channels} channel{'s' * (sizes.channels > 1)}"
    if (kind, sizes.widths, sizes.depths) != (wanted, spec.widths, spec.depths):
        what = sizes.architecture or f"a {sizes.name} of other sizes"
        raise ValueError(
            f"{file} holds {what} for {colours}, but the model is {spec.name}; give {sizes.words}"
        )
    if sizes.channels != spec.channels:
        more = {1: "model.channels=1", 3: "model.channels=3 dataset.channels=3"}
        if sizes.channels not in more:
            raise ValueError(f"{file} is of a network for {colours}; images here have 1 or 3")
        raise ValueError(
            f"{file} is of a network for {colours}, but model.channels is {spec.channels}; give "
            f"{more[sizes.channels]}, for its first convolution is not made into another"
        )
    named = (config.get("architecture") or sizes.architecture or "").split(".")[0]
    known = ARCHITECTURES.get(named)
    if named and (known is None or (not config.get("model_args") and named != sizes.architecture)):
        raise ValueError(
            f"{file.with_name('config.json')} says that this is {named}, which is not known here: its arrays are as "
            f"those of {sizes.architecture or sizes.words}, but it may compute otherwise; give one of timm's "
            f"{', '.join(ARCHITECTURES)}"
        )


def _fold(file: Path, sizes: Sizes, weights: Weights, said: Preprocessing) -> bool:
    """Have the first convolution take pixels from 0 to 1 where the encoder was given (x - mean) / std; whether it did.

    w' = w / std and b' = b - sum(w x mean / std): exact, in float64, where the convolution pads nothing. The others pad
    what is normalised already with zeros, so that no weights do the same to pixels as they are.
    """
    if said.plain:
        return False
    if sizes.family != "convnext":
        raise ValueError(
            f"{file} was trained on pixels normalised by mean {list(said.mean)} and std {list(said.std)} "
            f"({said.source}), which a {sizes.family}, whose first convolution pads, cannot do by itself; give "
            f"model.standardise=true, or, if it was trained without, write {BESIDE}: {EXAMPLE}"
        )
    _check_channels(said, sizes.channels)
    kernel, bias = weights["stem/conv/kernel"], weights["stem/conv/bias"]
    wide = kernel.astype(np.float64) / np.array(said.std)[:, None]
    shift = (wide * np.array(said.mean)[:, None]).sum((0, 1, 2))
    weights["stem/conv/kernel"] = wide.astype(kernel.dtype)
    weights["stem/conv/bias"] = (bias - shift).astype(bias.dtype)
    return True


def _normalisation(said: Preprocessing | None, channels: int) -> Weights:
    """The moments of the layer that standardises images, by which they become what an encoder was given."""
    mean, std = ((0.0,), (1.0,)) if said is None else (said.mean, said.std)
    if said is not None:
        _check_channels(said, channels)
    found = {"mean": mean, "variance": np.square(std)}
    return {f"{INPUT}/{part}": np.full(channels, value, "<f4") for part, value in found.items()}


def _check_channels(said: Preprocessing, channels: int) -> None:
    for values in (said.mean, said.std):
        if len(values) not in (1, channels):
            raise ValueError(
                f"{said.source} has {len(values)} numbers for {channels} channels; write one for each in {BESIDE}"
            )


def _ours(
    file: Path, arrays: Weights, about: dict, spec: ModelSpec, members: int
) -> tuple[list[Weights], list[Weights]]:
    """The encoders in a file of ours, of each member; those of one network for all."""
    there = len({name.split("/")[0] for name in arrays if name.startswith("member")}) or 1
    if there not in (1, members):
        raise ValueError(
            f"{file} holds {there} networks, but training.members is {members}; give training.members={there}, or "
            "the file of a fit of one"
        )
    networks = [arrays] if there == 1 else [member(arrays, number) for number in range(there)]
    model = model_of(spec)
    if f"{INPUT}/mean" in networks[0] and not spec.standardise:
        raise ValueError(
            f"the encoder in {file} was trained on standardised pixels, but model.standardise is false; set it to true"
        )
    if spec.standardise:  # where it was not, pixels are left as they are
        first = init_moments(spec)
        as_is = {name: first[name] for name in first if name.startswith(f"{INPUT}/")}
        networks = [as_is | one for one in networks]
    parts = [make(model.encoder, model.image) for make in (weight_shapes, moment_shapes)]
    for name, shape in (parts[0] | parts[1]).items():
        if any(name not in one or one[name].shape != shape for one in networks):
            raise ValueError(
                f"{file} holds the encoder of another network than {spec.name}: its {name} is not there, or not "
                f"{shape}; give {words_of_fit(file, about)}"
            )
    weights, moments = (
        [{name: one[name] for name in part} for one in networks * (members // there)]
        for part in parts
    )
    return weights, moments


def words_of_fit(file: Path, about: dict) -> str:
    """What of the command line makes the model of a fit, as its file or the run.json beside it says."""
    model, fit = about.get("model"), file.with_name("run.json")
    if not isinstance(model, dict) and fit.is_file():
        model = read_json(fit, RUN, "copy the whole folder of the run")["model"]
    if not isinstance(model, dict):
        return (
            "the model group (model=..., image_size, channels and so on) of the run that wrote it"
        )
    keys = ("image_size", "channels", "blocks", "dense", "widths", "depths")
    words = [f"model.{key}={json.dumps(model[key])}" for key in keys if model.get(key) is not None]
    return " ".join([f"model={model.get('name')}", *(word.replace(" ", "") for word in words)])


def timm_files(spec: ModelSpec, weights: Weights, moments: Weights, said: dict) -> dict[str, bytes]:
    """The encoder of a network in the two files of a folder that timm reads: model.safetensors and config.json.

    `said` is what it was trained to see, which the file of weights keeps too. ValueError for a network that timm has
    not.
    """
    family, model = family_of(spec.name), model_of(spec)
    sizes = Sizes(family, spec.name, spec.widths or (), spec.depths or (), spec.channels)
    name, arguments = sizes.architecture or spec.name, {"in_chans": spec.channels}
    if sizes.architecture is None and family == "efficientnet":
        raise ValueError(
            "timm has no EfficientNet-B0 of other widths and depths; export the network as onnx"
        )
    if sizes.architecture is None:
        keys = ("dims", "depths") if family == "convnext" else ("channels", "layers")
        arguments |= {key: list(value) for key, value in zip(keys, sizes[2:4], strict=True)}
    shapes = timm_shapes(spec.name, model.encoder, model.image)
    named = weights | moments
    parts = weight_shapes(model.encoder, model.image) | moment_shapes(model.encoder, model.image)
    if spec.standardise:
        del parts[f"{INPUT}/mean"], parts[f"{INPUT}/variance"]
        mean, std = named[f"{INPUT}/mean"], np.sqrt(named[f"{INPUT}/variance"])
        said = said | {"mean": mean.tolist(), "std": std.tolist()}
    each = 1 if spec.standardise else spec.channels
    white = 255 if said.get("scale") == "raw" else 1
    state = to_timm(family, {part: named[part] for part in parts}, shapes)
    state |= {
        key.replace("running_mean", "num_batches_tracked"): np.zeros((), np.int64)
        for key in state
        if key.endswith("running_mean")
    }
    state = {key: np.ascontiguousarray(array) for key, array in state.items()}
    config = {
        "architecture": name,
        "num_classes": 0,
        "num_features": model.units,
        "global_pool": "avg",
        "model_args": arguments,
        "pretrained_cfg": {
            "tag": "trizoo",
            "custom_load": False,
            "input_size": [spec.channels, spec.image_size, spec.image_size],
            "fixed_input_size": False,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": [value / white for value in said.get("mean", [0.0])] * each,
            "std": [value / white for value in said.get("std", [1.0])] * each,
            "num_classes": 0,
            "first_conv": STEMS[family].removesuffix(".weight"),
            "classifier": {"convnext": "head.fc", "resnet": "fc"}.get(family, "classifier"),
        },
        "trizoo": {"preprocessing": said},
    }
    about = {"about": json.dumps({"preprocessing": said}), "format": "pt"}
    return {
        "model.safetensors": save(state, about),
        "config.json": (json.dumps(config, indent=1) + "\n").encode(),
        BESIDE: (json.dumps(said, indent=1) + "\n").encode(),
    }
