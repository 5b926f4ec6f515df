"""A trained network as ONNX files, for programs in other languages: C#, Julia, C++, JavaScript.

The graphs are built from the shared weights alone, so there is one program for all three frameworks, and it needs none
of them. Images go in as a store holds them: the mean of colours, the box average, the centred view of prediction and
the scale of pixels are parts of the graph. There are three files:

    rho.onnx        image, kept -> rho      all of it
    features.onnx   image -> units          the encoder, once per galaxy
    head.onnx       units, kept -> rho      the rest, for any number of samples

    image   uint8 (galaxy, y, x, channel), 256 x 256 pixels
    kept    uint8 (galaxy, sample, unit), 0 where dropout drops a unit; not bool, which several bindings cannot pass.
            Of a head with several dropouts each has its own, called kept/dropout0 and so on
    units   float32 (galaxy, unit)
    rho     float32 (galaxy, sample)

A network of whole questions gives logits float32 (galaxy, sample, answer) in place of rho, in logits.onnx; the metadata
name the answers and say what their votes are drawn from.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors import safe_open

from shared.data.cutouts import SIZE
from shared.data.synthetic import draw_galaxies, render
from shared.method.batches import Cutouts
from shared.method.likelihood import likelihood_of, positive_fraction
from shared.method.views import reduction, still_views
from shared.network.model import model_of
from shared.network.network import Model, kept_shapes
from shared.network.weights import Weights
from shared.proof import reference
from shared.proof.onnx_layers import Part, graph, joined, node
from shared.run import keys
from shared.run.keys import galaxy_hash
from shared.run.records import host
from shared.run.spec import RunSpec

FILES = ("rho.onnx", "features.onnx", "head.onnx")  # of a yes-or-no question
OPSET, IR_VERSION = 13, 7  # ONNX Runtime 1.6 (2020) and later read them
GALAXIES, SAMPLES = 3, 20  # what the files are compared with the specification on

IMAGE = (
    "{colours}, uint8, rows from the top, 256 x 256 pixels: the central square of a galaxy's picture, reduced by "
    "Lanczos resampling. What the network sees of it (the middle of the zooms, not turned) is cut out by the graph."
)
MASKS = (
    "Each kept[galaxy, sample] gives one sample of the posterior. Its entries are 0 with the chance `dropout`, each by "
    "itself, and otherwise 1. For the very samples of `trizoo predict`: the hash of a galaxy is the BLAKE2b of its id, "
    "8 bytes, little endian; its key is the Threefry-2x32-20 of the counter (upper, lower 32 bits of the hash) under "
    "`posterior_key`; the two words of the counter (s, j + 2^24 d) under that key belong to units 2j and 2j + 1 of "
    "sample s, d being 0 for the first dropout of the network, 1 for the second and so on; a unit is kept if its "
    "word >> 8 is at least `keep_threshold`."
)


def models(run: RunSpec, weights: Weights, properties: dict[str, str]) -> dict[str, bytes]:
    """The bytes of each file by its name, with `properties` as their metadata.

    Raises ValueError if prediction shows each sample another view, as no graph of these does.
    """
    if run.augmentation.at_prediction:
        raise ValueError(
            "augmentation.at_prediction is true: each sample sees a galaxy in another view, which an ONNX file does "
            "not draw; augmentation.at_prediction=false exports the network with the centred view"
        )
    network = model_of(run.model)
    kinds = {
        "image": ("UINT8", ["galaxy", SIZE, SIZE, run.dataset.channels]),
        "units": ("FLOAT", ["galaxy", network.units]),
        "rho": ("FLOAT", ["galaxy", "sample"]),
        "logits": ("FLOAT", ["galaxy", "sample", run.model.answers]),
    }
    widths = mask_widths(network)
    kinds |= {name: ("UINT8", ["galaxy", "sample", width]) for name, width in widths.items()}
    result = "rho" if run.questions is None else "logits"
    body, top = units(run, weights), head(network, weights, result)
    graphs = {
        f"{result}.onnx": (joined(body, top), ("image", *widths), result),
        "features.onnx": (body, ("image",), "units"),
        "head.onnx": (top, ("units", *widths), result),
    }
    return {
        name: model(
            name, part, {key: kinds[key] for key in inputs}, {output: kinds[output]}, properties
        )
        for name, (part, inputs, output) in graphs.items()
    }


def apply_views(run: RunSpec) -> Part:
    """From image to seen (galaxy, channel, y, x): the rounded box average of `Cutouts`, then the centred view."""
    factor, stored, shown = reduction(run, SIZE), run.dataset.channels, run.model.channels
    size, count = SIZE // factor, factor**2 * stored // shown
    view = centred_view(run, size).astype(np.float32)
    constants = {
        "boxes/shape": np.array([0, size, factor, size, factor, shown, stored // shown]),
        "boxes/axes": np.array([2, 4, 6]),
        "boxes/half": np.float32(count // 2),
        "boxes/count": np.float32(count),
        "view/rows": view,
        "view/columns": view.T,
        "view/white": np.float32(255 if run.model.scale == "unit" else 1),
    }
    nodes = [
        node("Cast", "image", "pixels", to=1),  # to float32, in which these whole numbers are exact
        node("Reshape", "pixels boxes/shape", "boxes"),
        node("ReduceSum", "boxes boxes/axes", "sums", keepdims=0),
        node("Add", "sums boxes/half", "sums/up"),
        node("Div", "sums/up boxes/count", "means"),
        node("Floor", "means", "means/whole"),
        node("Transpose", "means/whole", "planes", perm=[0, 3, 1, 2]),
        node("MatMul", "view/rows planes", "sampled/rows"),
        node("MatMul", "sampled/rows view/columns", "sampled"),
        node("Div", "sampled view/white", "seen"),
    ]
    return nodes, constants


def centred_view(run: RunSpec, size: int) -> np.ndarray:
    """`still_views` of images `size` pixels wide as a matrix (pixel, stored pixel), for rows as for columns.

    It does not turn, so bilinear sampling is linear interpolation along each axis.
    """
    affine, crop, _ = (array[0] for array in still_views(run, size, 1))
    step, start = affine[0, [0, 2]].astype(np.float64)
    place = start + step * (
        crop[0] + np.arange(run.model.image_size) * crop[2] // run.model.image_size
    )
    if run.augmentation.border == "edge":
        place = np.clip(place, 0, size - 1)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(size)))


def mask_widths(network: Model) -> dict[str, int]:
    """The inputs that are masks of the head, and how many units each is for."""
    kept = kept_shapes(network.head, (network.units,))
    names = ["kept"] if len(kept) == 1 else [f"kept/{name}" for name in kept]
    return dict(zip(names, (shape[0] for shape in kept.values()), strict=True))


def units(run: RunSpec, weights: Weights) -> Part:
    """From image to units (galaxy, unit)."""
    network = model_of(run.model)
    return joined(apply_views(run), graph(network.encoder, weights, network.image, "seen"))


def head(network: Model, weights: Weights, result: str) -> Part:
    """From units (galaxy, unit) and masks (galaxy, sample, unit) to logits (galaxy, sample, answer) or rho.

    rho (galaxy, sample) is the second answer's share in a softmax of two.
    """
    before = [node("Unsqueeze", "units units/axis", "units/each")]
    if list(mask_widths(network)) == ["kept"]:
        (name,) = kept_shapes(network.head, (network.units,))
        before.append(node("Identity", "kept", f"kept/{name}"))
    last = network.head[-1].name
    after = [node("Identity", last, "logits")]
    if result == "rho":
        after = [
            node("Softmax", last, "fractions", axis=-1),
            node("Gather", "fractions rho/second", "rho", axis=-1),
        ]
    constants = {"units/axis": np.array([1])}
    if result == "rho":
        constants["rho/second"] = np.array(1)
    middle = graph(network.head, weights, (network.units,), "units/each")
    return joined((before, constants), middle, (after, {}))


def model(name: str, part: Part, inputs: dict, outputs: dict, properties: dict[str, str]) -> bytes:
    """A whole model of `part`; `inputs` and `outputs` give the number type and the axes of each."""
    from onnx import TensorProto, helper, numpy_helper

    sides = [
        [
            helper.make_tensor_value_info(key, getattr(TensorProto, kind), axes)
            for key, (kind, axes) in side.items()
        ]
        for side in (inputs, outputs)
    ]
    constants = [
        numpy_helper.from_array(
            np.asarray(array, np.int64 if array.dtype.kind == "i" else np.float32), key
        )
        for key, array in part[1].items()
    ]
    graph = helper.make_graph(part[0], Path(name).stem, *sides, constants)
    made = helper.make_model(
        graph,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="trizoo",
        producer_version=properties["trizoo"],
        doc_string=f"{', '.join(inputs)} -> {', '.join(outputs)}: {properties['result']}",
    )
    helper.set_model_props(made, properties)
    return made.SerializeToString(deterministic=True)


def about(run: RunSpec, path: Path) -> dict[str, str]:
    """What the files say of themselves; `path` is that of the weights."""
    with safe_open(path, "numpy") as file:
        trained = (file.metadata() or {}).get("about", "{}")
    colours = {1: "one channel, the mean of the colours", 3: "red, green and blue"}
    positive, negative = " or ".join(run.positive), " or ".join(run.negative)
    return {
        "trizoo": host()["trizoo"] or "not installed",
        "question": run.question,
        "positive": json.dumps(run.positive),
        "negative": json.dumps(run.negative),
        "result": f"the chance that a volunteer answers {run.question} with {positive}, not with {negative}"
        if run.questions is None
        else f"logits of the answers in this order, their votes being {likelihood_of(run).name}",
        "answers": json.dumps(run.asked),
        "likelihood": json.dumps(likelihood_of(run)[:2]),
        "image": IMAGE.format(colours=colours[run.dataset.channels]),
        "kept": MASKS,
        "dropout": repr(run.model.dropout),
        "keep_threshold": str(keys.keep_threshold(run.model.dropout)),
        "seed": str(run.seed),
        "posterior_key": json.dumps(keys.purpose_key(run.seed, "posterior").tolist()),
        "weights": hashlib.sha256(path.read_bytes()).hexdigest(),
        "trained": trained,
    }


def difference(run: RunSpec, weights: Weights, files: dict[str, bytes]) -> float:
    """The largest |difference| between the specification's rho and that of `files`, on a few synthetic galaxies."""
    drawn = draw_galaxies(GALAXIES, run.seed)
    grey = np.stack([render(row._asdict()) for row in drawn.itertuples(index=False)])
    images = np.concatenate([np.roll(grey, shift, 1) for shift in range(run.dataset.channels)], -1)
    cutouts = Cutouts(images, reduction(run, SIZE), channels=run.model.channels)
    galaxy_keys = keys.galaxy_keys(run.seed, "posterior", galaxy_hash(drawn["id"]))
    exact = {name: array.astype(np.float64) for name, array in weights.items()}
    views = still_views(run, cutouts.size, GALAXIES)
    oracle = reference.sample(run, exact, cutouts[:], views, galaxy_keys, 0, SAMPLES)
    if run.questions is None:
        oracle = positive_fraction(run, oracle)
    network = model_of(run.model)
    masks = reference.masks(network, network.head, galaxy_keys[:, None], np.arange(SAMPLES))
    kept = {
        name: mask.astype(np.uint8)
        for name, mask in zip(mask_widths(network), masks.values(), strict=True)
    }
    whole = compute(next(iter(files.values())), image=images, **kept)
    features = compute(files["features.onnx"], image=images)
    parts = compute(files["head.onnx"], units=features, **kept)
    return float(max(np.abs(whole - oracle).max(), np.abs(parts - oracle).max()))


def compute(data: bytes, **inputs: np.ndarray) -> np.ndarray:
    """The one output of the model in `data`, by onnxruntime on the CPU."""
    from onnxruntime import InferenceSession

    session = InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]
