"""What the framework runs on, and how exactly."""

import os
import resource
import shutil
import sys
from copy import deepcopy

import numpy as np
import torch

from shared.method.batches import Cutouts
from shared.run.cards import check_precision, old_card, ran_out
from shared.run.spec import BackendSpec

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
    """Raise ValueError, with the fix, unless the framework can compute on a GPU."""
    fix = "set backend.device=cpu, or backend.python to an interpreter whose PyTorch has CUDA"
    if not torch.cuda.is_available():
        raise ValueError(f"PyTorch {torch.__version__} finds no GPU; {fix}")
    try:
        torch.ones(8, device="cuda").sum().item()
    except RuntimeError as error:
        card = torch.cuda.get_device_name()
        raise ValueError(
            f"PyTorch {torch.__version__} cannot compute on {card} ({error}); {fix}; "
            f"{old_card(settings().name)}"
        ) from error
    card, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    check_precision(settings().precision, card, capability)


def settings() -> BackendSpec:
    """What was configured; RuntimeError if nothing was."""
    if chosen is None:
        raise RuntimeError(
            "the backend is not configured; open it with shared.method.backend.load_backend"
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


def to_device(array):
    """An array on the device; real numbers become the configured type."""
    tensor = (
        array
        if isinstance(array, torch.Tensor)
        else torch.from_numpy(np.require(array, requirements=["C", "W"]))
    )
    return tensor.to(device(), number_type() if tensor.is_floating_point() else None)


def cache_images(images: Cutouts) -> None:
    """Keep all `images` on the device, unless they are too many: they go there once, and not at every step."""
    parts = images.parts()
    if parts is not None:
        whole = torch.cat([to_device(part) for part in parts])
        images.held = lambda rows: whole[to_device(rows)]


def to_numpy(array) -> np.ndarray:
    """An array of the device as numpy's; waits until it is computed."""
    array = array.detach().cpu()
    return (array.float() if array.dtype == torch.bfloat16 else array).numpy()


def maybe_compile(call):
    """`call` as `backend.compiled` wants it."""
    return torch.compile(call) if settings().compiled == "full" else call


def capture_graph(call, states: int):
    """`call`(*states, *arrays), `states` of the former, modules or dicts: on a GPU its kernels are launched all
    together.

    They are recorded once for each shape of the arrays, in a CUDA graph. It works on memory of its own, so states and
    arrays are copied there, and states back.
    """
    if not on_gpu() or settings().compiled == "eager":
        return call
    recordings: dict = {}

    def replay(*given):
        shapes = tuple((array.shape, array.dtype) for array in given[states:])
        if shapes not in recordings:
            recordings[shapes] = record(given)
        graph, own, result = recordings[shapes]
        moved, arrays = tensors(given[:states]), given[states:]
        with torch.no_grad():
            for place, tensor in zip(own, [*moved, *arrays], strict=True):
                place.copy_(tensor)
            graph.replay()
            for place, tensor in zip(moved, own, strict=False):
                place.copy_(tensor)
        return result.clone()

    def record(given):
        own = deepcopy(given[:states]) + tuple(array.clone() for array in given[states:])
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            call(*own)  # it chooses its kernels, which cannot be recorded
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = call(*own)
        return graph, [*tensors(own[:states]), *own[states:]], result

    def tensors(parts):
        return [
            tensor
            for part in parts
            for tensor in (part.values() if isinstance(part, dict) else part.parameters())
        ]

    return replay


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
        "compiled": {
            "auto": "CUDA graph" if gpu else "eager",
            "eager": "eager",
            "full": "torch.compile, CUDA graph" if gpu else "torch.compile",
        }[settings().compiled],
    }


def peak_memory() -> int:
    """The most bytes held so far: of the GPU, or of the process."""
    if on_gpu():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the system, had no more memory to give."""
    return isinstance(error, torch.OutOfMemoryError) or ran_out(error)
