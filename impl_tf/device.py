"""What the framework runs on, and how exactly."""

import os
import resource

import keras
import numpy as np
import tensorflow as tf

from shared.method.batches import Cutouts
from shared.run.cards import check_precision, old_card, ran_out
from shared.run.spec import BackendSpec

chosen: BackendSpec | None = None


def configure(spec: BackendSpec) -> None:
    """Choose device, precision, threads and compiler; ValueError if one of them cannot be used."""
    global chosen
    chosen = spec
    if spec.threads:
        tf.config.threading.set_intra_op_parallelism_threads(spec.threads)
    if on_gpu():
        check_gpu()
    fast = spec.precision in ("tf32", "bfloat16")
    tf.config.experimental.enable_tensor_float_32_execution(fast)
    # it reorders products and sums as their surroundings allow, so that what is computed twice would differ
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    if on_gpu():
        tf.config.experimental.enable_op_determinism()


def check_gpu() -> None:
    """Raise ValueError, with the fix, unless the framework can compute on a GPU."""
    fix = "set backend.device=cpu, or backend.python to an interpreter whose TensorFlow has CUDA"
    cards = tf.config.list_physical_devices("GPU")
    if not cards:
        raise ValueError(f"TensorFlow {tf.__version__} finds no GPU; {fix}")
    try:
        with tf.device("GPU:0"):
            tf.reduce_sum(tf.ones(8)).numpy()
    except (RuntimeError, tf.errors.OpError) as error:
        card = tf.config.experimental.get_device_details(cards[0]).get("device_name", "the GPU")
        raise ValueError(
            f"TensorFlow {tf.__version__} cannot compute on {card} ({error}); {fix}; "
            f"{old_card(settings().name)}"
        ) from error
    details = tf.config.experimental.get_device_details(cards[0])
    card, capability = details.get("device_name", "the GPU"), details.get("compute_capability")
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
    found = bool(tf.config.list_physical_devices("GPU"))
    return settings().device == "gpu" or (settings().device == "auto" and found)


def device():
    """The device that arrays are put on."""
    return tf.device("GPU:0" if on_gpu() else "CPU:0")


def number_type():
    """The type of weights, losses and scores."""
    return tf.float64 if settings().precision == "float64" else tf.float32


def compute_type():
    """The type in which convolutions and the dense layer are computed."""
    return tf.bfloat16 if settings().precision == "bfloat16" else number_type()


def to_device(array):
    """An array on the device; real numbers become the configured type."""
    with device():
        tensor = tf.convert_to_tensor(array)
        return tf.cast(tensor, number_type()) if tensor.dtype.is_floating else tf.identity(tensor)


def cache_images(images: Cutouts) -> None:
    """Keep all `images` on the device, unless they are too many: they go there once, and not at every step."""
    parts = images.parts()
    if parts is not None:
        whole = tf.concat([to_device(part) for part in parts], 0)
        images.held = lambda rows: tf.gather(whole, to_device(rows))


def to_numpy(array) -> np.ndarray:
    """An array of the device as numpy's; waits until it is computed."""
    return array.numpy()


def maybe_compile(call):
    """`call` as `backend.compiled` wants it."""
    if settings().compiled == "eager":
        return call
    return tf.function(call, jit_compile=settings().compiled == "full" or None)


def capture_graph(call, states: int):
    """`call`(*states, *arrays), `states` of the former, modules or dicts: on a GPU its kernels are launched all
    together.

    So they are wherever a call is compiled.
    """
    return maybe_compile(call)


def threads() -> int:
    """How many threads an operation is shared out among on a CPU."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count())
    wanted = os.environ.get("TF_NUM_INTRAOP_THREADS", "0")
    return tf.config.threading.get_intra_op_parallelism_threads() or int(wanted) or len(cores)


def describe() -> dict[str, str]:
    """The versions, the device and the settings behind a record."""
    cards = tf.config.list_physical_devices("GPU") if on_gpu() else []
    details = tf.config.experimental.get_device_details(cards[0]) if cards else {}
    return {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "device": details.get("device_name", "cpu"),
        "cuda": tf.sysconfig.get_build_info().get("cuda_version", "none") if cards else "none",
        "precision": settings().precision,
        "tf32": str(tf.config.experimental.tensor_float_32_execution_enabled() and bool(cards)),
        "threads": str(threads()),
        "compiled": {"auto": "tf.function", "eager": "eager", "full": "XLA"}[settings().compiled],
    }


def peak_memory() -> int:
    """The most bytes held so far: of the GPU, or of the process."""
    if on_gpu():
        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device, or the system, had no more memory to give."""
    return isinstance(error, tf.errors.ResourceExhaustedError) or ran_out(error)
