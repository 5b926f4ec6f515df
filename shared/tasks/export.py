"""`trizoo export`: write the network of a fit as ONNX, for other languages, or as a framework's own file."""

import os
import shutil
from importlib import import_module
from pathlib import Path

from shared.network.model import model_of
from shared.network.preprocessing import said_of_fit
from shared.network.pretrained import timm_files
from shared.network.weights import fitted
from shared.proof.export import OPSET, about, difference, models
from shared.run.records import write_folder, write_whole
from shared.run.spec import RunSpec

TIMM = "encoder_timm"  # the folder of format=timm
NATIVE = {  # the package of each framework's own file, its framework as it is imported, and the file's name
    "torch": ("torch", "torch", "network.pt2"),
    "keras": ("tf", "keras", "network.keras"),
    "flax": ("jax", "flax", "network.jaxexp"),
}


def export(run: RunSpec, folder: Path) -> dict:
    """Write a fit's network in the run's format; ValueError for weights that do not fit, or for want of a library."""
    make = {"onnx": _onnx, "timm": _timm}.get(run.format, _native)
    return make(run, folder)


def _timm(run: RunSpec, folder: Path) -> dict:
    """The encoder as a folder that timm reads."""
    path, checkpoint = fitted(run)
    said = said_of_fit(path)
    seen = {} if said is None else said._asdict()
    seen.pop("source", None)
    files = timm_files(run.model, checkpoint.weights, checkpoint.moments, seen)
    place = folder / TIMM

    def fill(beside: Path) -> None:
        for name, data in files.items():
            (beside / name).write_bytes(data)

    if place.exists():
        shutil.rmtree(place)
    write_folder(place, fill)
    results = {
        "weights": str(path),
        "bytes": {f"{TIMM}/{name}": len(data) for name, data in files.items()},
        "summary": f"the encoder, as timm reads it, in {place}: timm.create_model('local-dir:{place}')",
    }
    return {"where": {}, "results": results}


def _native(run: RunSpec, folder: Path) -> dict:
    """The file of a framework: any fit's, for weights have the same names in all three."""
    package, framework, name = NATIVE[run.format]
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        import_module(framework)
        native = import_module(f"impl_{package}.module")
    except ImportError as error:
        raise ValueError(
            f"format is {run.format}, but {framework} cannot be imported ({error}); pip install 'trizoo[{package}]'"
        ) from error
    path, checkpoint = fitted(run)
    model = model_of(run.model)
    module = native.as_module(model, checkpoint.weights, checkpoint.moments)
    data = native.to_bytes(module, model)
    write_whole(folder / name, lambda beside: beside.write_bytes(data))
    results = {
        "weights": str(path),
        "bytes": {name: len(data)},
        "summary": f"{name} in {folder}: images as the network sees them in, {run.model.answers} logits out, "
        "without dropout",
    }
    return {"where": {}, "results": results}


def _onnx(run: RunSpec, folder: Path) -> dict:
    """Write the ONNX files of a fit's weights, checked, and compared with the specification if onnxruntime is there.

    Raises ValueError without onnx, for weights that do not fit the model, and where each sample has its own view.
    """
    try:
        import onnx
    except ImportError as error:
        raise ValueError(
            f"onnx cannot be imported ({error}); pip install 'trizoo[onnx]'"
        ) from error
    path, start = fitted(run)
    weights = {**start.weights, **start.moments}
    files = models(run, weights, about(run, path))
    for data in files.values():
        onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    try:
        import onnxruntime
    except ImportError:
        far, compared = None, "not compared with the specification, for want of onnxruntime"
    else:
        far = difference(run, weights, files)
        what = "rho" if run.questions is None else "logits"
        compared = (
            f"{what} is the specification's to {far:.1e} in onnxruntime {onnxruntime.__version__}"
        )
    for name, data in files.items():
        write_whole(folder / name, lambda beside, data=data: beside.write_bytes(data))
    results = {
        "weights": str(path),
        "bytes": {name: len(data) for name, data in files.items()},
        "opset": OPSET,
        "difference": far,
        "summary": f"{', '.join(files)} in {folder}; {compared}",
    }
    return {"where": {}, "results": results}
