"""What the framework runs on, and how exactly."""

import os
import resource
import shutil
import sys

import numpy as np
import torch

from shared.spec import BackendSpec

chosen: BackendSpec | None = None


def configure(spec: BackendSpec) -> None:
    """Choose device, precision, threads and compiler; ValueError if one of them cannot be used."""
    global chosen
    chosen = spec
    if spec.threads:
        torch.set_num_threads(spec.threads)
    if on_gpu():
        check_gpu()
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if spec.compiled == "full" and not shutil.which(compiler):
        raise ValueError(
            f"backend.compiled is full, but torch.compile finds no C++ compiler {compiler}; "
            "install one, name one in the variable CXX, or set backend.compiled=auto"
        )
    fast = spec.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = fast
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def check_gpu() -> None:
    """Raise ValueError, with the way out, unless the framework can compute on a GPU."""
    way_out = "set backend.device=cpu, or backend.python to an interpreter whose PyTorch has CUDA"
    if not torch.cuda.is_available():
        raise ValueError(f"PyTorch {torch.__version__} finds no GPU; {way_out}")
    try:
        torch.ones(8, device="cuda").sum().item()
    except RuntimeError as error:
        card = torch.cuda.get_device_name()
        raise ValueError(
            f"PyTorch {torch.__version__} cannot compute on {card} ({error}); {way_out}"
        ) from error


def settings() -> BackendSpec:
    """What was configured; RuntimeError if nothing was."""
    if chosen is None:
        raise RuntimeError(
            "the backend is not configured; open it with shared.backend.load_backend"
        )
    return chosen


def on_gpu() -> bool:
    """Whether a GPU is wanted, or would be taken as there is one."""
    found = torch.cuda.is_available()
    return settings().device == "gpu" or (settings().device == "auto" and found)


def device():
    """The device that arrays are put on."""
    return torch.device("cuda" if on_gpu() else "cpu")


def number_type():
    """The type of weights, losses and scores."""
    return torch.float64 if settings().precision == "float64" else torch.float32


def compute_type():
    """The type in which convolutions and the dense layer are computed."""
    return torch.bfloat16 if settings().precision == "bfloat16" else number_type()


def put(array):
    """An array on the device; real numbers become the configured type."""
    tensor = (
        array
        if isinstance(array, torch.Tensor)
        else torch.from_numpy(np.require(array, requirements=["C", "W"]))
    )
    return tensor.to(device(), number_type() if tensor.is_floating_point() else None)


def fetch(array) -> np.ndarray:
    """An array of the device as numpy's; waits until it is computed."""
    return array.detach().cpu().numpy()


def compiled(call):
    """CALL as `backend.compiled` wants it."""
    return torch.compile(call) if settings().compiled == "full" else call


def threads() -> int:
    """How many threads an operation is shared out among on a CPU."""
    return torch.get_num_threads()


def describe() -> dict[str, str]:
    """The versions, the device and the settings behind a record."""
    gpu = on_gpu()
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "cuda": torch.version.cuda if gpu else "none",
        "precision": settings().precision,
        "tf32": str(torch.backends.cuda.matmul.allow_tf32 and gpu),
        "threads": str(threads()),
        "compiled": "torch.compile" if settings().compiled == "full" else "eager",
    }


def peak_memory() -> int:
    """The most bytes held so far: of the GPU, or of the process."""
    if on_gpu():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
