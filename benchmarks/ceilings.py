"""The machine's own ceilings, measured beside the programs: a matrix product and a copy, by whoever does them fastest.

    python -m benchmarks.ceilings PRECISION DEVICE

answers each line of its standard input with a line of JSON: FLOP/s of a square matrix product, bytes/s of a copy (what
is read and what is written both counted), and who did them. On a CPU NumPy and, where it is there, PyTorch do both; on
a GPU PyTorch, else JAX. A precision that nobody here can multiply in has no ceiling.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec

# Set on some machines so that an old OpenBLAS computes right; a current one then computes slower than it could.
SLOWING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
SIZE = {"cpu": 2048, "gpu": 16384}  # rows of the matrices
COPIED = {"cpu": 1 << 28, "gpu": 1 << 31}  # bytes
TIMES = 3

Pair = tuple[Callable[[], object], Callable[[], object]]  # multiplies, copies


def main(words: list[str]) -> int:
    """Answer every line of standard input with the ceilings, until it ends."""
    precision, device = words
    known = makers(precision, device)
    for _ in sys.stdin:
        print(json.dumps(measured(known, device)), flush=True)
    return 0


def makers(precision: str, device: str) -> dict[str, Pair]:
    """Who can multiply and copy on `device` (cpu or gpu) in `precision`, by name."""
    known = {}
    if device == "cpu" and precision in ("float32", "float64", "tf32"):
        known["NumPy"] = numpy_pair("float64" if precision == "float64" else "float32")
    if find_spec("torch"):
        known["PyTorch"] = torch_pair(precision, device)
    elif device == "gpu" and find_spec("jax"):
        known["JAX"] = jax_pair(precision)
    return known


def measured(known: dict[str, Pair], device: str) -> dict:
    """The best FLOP/s and bytes/s of those who are `known`, and whose they are; None where nobody is."""
    work, moved = 2 * SIZE[device] ** 3, 2 * COPIED[device]
    rates = {
        name: (work / fastest(multiply), moved / fastest(copy))
        for name, (multiply, copy) in known.items()
    }
    best = [
        max(rates, key=lambda name, part=part: rates[name][part], default=None) for part in (0, 1)
    ]
    flops, copied = (rates[name][part] if name else None for part, name in enumerate(best))
    how = f"matrix product by {best[0]}, copy by {best[1]}" if rates else "nobody to measure by"
    return {"matmul_flops": flops, "copy_bytes": copied, "how": how}


def fastest(call: Callable[[], object]) -> float:
    """Seconds of the fastest of TIMES calls, after one that is not counted."""
    call()
    spent = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        call()
        spent.append(time.perf_counter() - begun)
    return min(spent)


def numpy_pair(kind: str) -> Pair:
    """What multiplies and copies by NumPy, on the CPU."""
    import numpy as np

    one = np.random.default_rng(0).random((SIZE["cpu"], SIZE["cpu"])).astype(kind)
    source = np.zeros(COPIED["cpu"], np.uint8)
    product, target = np.empty_like(one), np.ones_like(source)
    return lambda: np.matmul(one, one, out=product), lambda: np.copyto(target, source)


def torch_pair(precision: str, device: str) -> Pair:
    """What multiplies and copies by PyTorch, and waits for both."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    kind = {"float64": torch.float64, "bfloat16": torch.bfloat16}.get(precision, torch.float32)
    place = "cuda" if device == "gpu" else "cpu"
    one = torch.rand((SIZE[device], SIZE[device]), device=place).to(kind)
    source = torch.zeros(COPIED[device], dtype=torch.uint8, device=place)
    product, target = torch.empty_like(one), torch.ones_like(source)
    wait = torch.cuda.synchronize if device == "gpu" else lambda: None
    return (
        lambda: (torch.matmul(one, one, out=product), wait()),
        lambda: (target.copy_(source), wait()),
    )


def jax_pair(precision: str) -> Pair:
    """What multiplies and copies by JAX, on the GPU, and waits for both."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", precision == "float64")
    fast = precision in ("tf32", "bfloat16")
    jax.config.update("jax_default_matmul_precision", "default" if fast else "highest")
    kind = {"float64": jnp.float64, "bfloat16": jnp.bfloat16}.get(precision, jnp.float32)
    one = jnp.ones((SIZE["gpu"], SIZE["gpu"]), kind)
    source = jnp.zeros(COPIED["gpu"], jnp.uint8)
    multiply, copy = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1)
    return lambda: multiply(one, one).block_until_ready(), lambda: copy(source).block_until_ready()


if __name__ == "__main__":
    if slowing := [name for name in SLOWING if os.environ.pop(name, None)]:
        os.environ["TRIZOO_WITHOUT"] = ",".join(slowing)
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.ceilings", *sys.argv[1:]])
    sys.exit(main(sys.argv[1:]))
