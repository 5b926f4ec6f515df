"""`trizoo export`: write the networks of a fit as ONNX, for other languages."""

from pathlib import Path

from shared.network.weights import fitted
from shared.proof.export import OPSET, about, difference, models
from shared.run.records import write_whole
from shared.run.spec import RunSpec


def export(run: RunSpec, folder: Path) -> dict:
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
        far, told = None, "not compared with the specification, for want of onnxruntime"
    else:
        far = difference(run, weights, files)
        told = f"rho is the specification's to {far:.1e} in onnxruntime {onnxruntime.__version__}"
    for name, data in files.items():
        write_whole(folder / name, lambda beside, data=data: beside.write_bytes(data))
    results = {
        "weights": str(path),
        "bytes": {name: len(data) for name, data in files.items()},
        "opset": OPSET,
        "difference": far,
        "summary": f"{', '.join(files)} in {folder}; {told}",
    }
    return {"where": {}, "results": results}
