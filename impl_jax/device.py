"""What the framework runs on, and how exactly."""

import os
import resource

import flax
import jax
import jax.numpy as jnp
import numpy as np

from shared.method.batches import Cutouts
from shared.run.cards import check_precision, old_card, ran_out
from shared.run.spec import BackendSpec

chosen: BackendSpec | None = None


def configure(spec: BackendSpec) -> None:
    """Choose device, precision, threads and compiler; ValueError if one of them cannot be used."""
    global chosen
    chosen = spec
    if spec.threads:
        os.environ["PJRT_NPROC"] = str(spec.threads)  # read once, when devices are first looked for
    if on_gpu():
        check_gpu()
    fast = spec.precision in ("tf32", "bfloat16")
    jax.config.update("jax_enable_x64", spec.precision == "float64")
    jax.config.update("jax_default_matmul_precision", "default" if fast else "highest")
    jax.config.update("jax_default_device", device())


def check_gpu() -> None:
    """Raise ValueError, with the fix, unless the framework can compute on a GPU."""
    fix = "set backend.device=cpu, or backend.python to an interpreter whose JAX has CUDA"
    try:
        card = jax.local_devices(backend="gpu")[0]
    except RuntimeError as error:
        raise ValueError(f"JAX {jax.__version__} finds no GPU; {fix}") from error
    try:
        jnp.ones(8, device=card).sum().item()
    except RuntimeError as error:
        raise ValueError(
            f"JAX {jax.__version__} cannot compute on {card.device_kind} ({error}); {fix}; "
            f"{old_card(settings().name)}"
        ) from error
    card, capability = card.device_kind, getattr(card, "compute_capability", None)
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
    found = jax.default_backend() == "gpu"
    return settings().device == "gpu" or (settings().device == "auto" and found)


def device():
    """The device that arrays are put on."""
    return jax.local_devices(backend="gpu" if on_gpu() else "cpu")[0]


def number_type():
    """The type of weights, losses and scores."""
    return jnp.float64 if settings().precision == "float64" else jnp.float32


def compute_type():
    """The type in which convolutions and the dense layer are computed."""
    return jnp.bfloat16 if settings().precision == "bfloat16" else number_type()


def to_device(array):
    """An array on the device; real numbers become the configured type."""
    real = np.issubdtype(array.dtype, np.floating)
    there = isinstance(array, jax.Array)
    return jnp.array(array, number_type() if real else None, copy=not there)


def cache_images(images: Cutouts) -> None:
    """Keep all `images` on the device, unless they are too many: they go there once, and not at every step."""
    parts = images.parts()
    if parts is not None:
        whole = jnp.concatenate([to_device(part) for part in parts])
        # whole[rows] would look after negative rows, by operations of their own, and take twenty times as long to start
        images.held = lambda rows: jnp.take(whole, rows, 0, mode="clip")


def to_numpy(array) -> np.ndarray:
    """An array of the device as numpy's; waits until it is computed."""
    return np.asarray(array)


def maybe_compile(call):
    """`call` as `backend.compiled` wants it."""

    def by_operation(*arrays):
        with jax.disable_jit():
            return call(*arrays)

    if settings().compiled == "eager":
        return by_operation
    # YNNPACK, which XLA takes for convolutions on CPU, computes them in one thread; Eigen, without it, in all. Of
    # float64 Eigen computes none: XLA would go through single numbers, 10 times slower than YNNPACK.
    others = on_gpu() or settings().precision == "float64"
    options = {} if others else {"xla_cpu_experimental_ynn_fusion_type": ""}
    try:
        jax.jit(jnp.sin, compiler_options=options)(0.0)
    except jax.errors.JaxRuntimeError:  # an XLA that is older than YNNPACK, or than this option
        options = {}
    return jax.jit(call, compiler_options=options)


def capture_graph(call, states: int):
    """`call`(*states, *arrays), `states` of the former, modules or dicts: on a GPU its kernels are launched all
    together.

    So they are wherever a call is compiled.
    """
    return maybe_compile(call)


def threads() -> int:
    """How many threads an operation is shared out among on a CPU."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count())
    wanted = os.environ.get("PJRT_NPROC", os.environ.get("NPROC", "0"))
    return int(wanted) or len(cores)


def describe() -> dict[str, str]:
    """The versions, the device and the settings behind a record."""
    gpu = on_gpu()
    return {
        "jax": jax.__version__,
        "flax": flax.__version__,
        "device": device().device_kind if gpu else "cpu",
        "cuda": device().client.platform_version if gpu else "none",
        "precision": settings().precision,
        "tf32": str(settings().precision == "tf32" and gpu),
        "threads": str(threads()),
        "compiled": "eager" if settings().compiled == "eager" else "jit",
    }


def peak_memory() -> int:
    """The most bytes held so far: of the GPU, or of the process."""
    if on_gpu():
        return device().memory_stats()["peak_bytes_in_use"]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the system, had no more memory to give."""
    return isinstance(error, MemoryError) or ran_out(error)
