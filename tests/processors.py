"""The numerical tests as other processors would run them: `make test-processors`, or

    python -m tests.processors [NAME ...] [--whole] [-- WORDS FOR PYTEST]

Each name is a set of environment variables that keeps libraries from instructions this processor has, or gives tests
less of the machine. --whole runs every test and not the numerical ones alone. The last lines count what passed.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

ROOT = Path(__file__).parent.parent
ALONE = ("OMP", "MKL", "OPENBLAS", "TF_NUM_INTRAOP", "PJRT")
PROCESSORS: dict[str, dict[str, str]] = {
    "torch-avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "torch-default": {"ATEN_CPU_CAPABILITY": "default"},
    "onednn-avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "onednn-sse41": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "xla-avx2": {"XLA_FLAGS": "--xla_cpu_max_isa=AVX2"},
    "openblas-haswell": {"OPENBLAS_CORETYPE": "Haswell"},
    "openblas-sandybridge": {"OPENBLAS_CORETYPE": "Sandybridge"},
    "numpy-baseline": {
        "NPY_DISABLE_CPU_FEATURES": " ".join(
            name for name in __cpu_dispatch__ if __cpu_features__[name]
        )
    },
    "one-thread": {f"{name}_NUM_THREADS": "1" for name in ALONE},
    "busy": {},  # two processes that never rest beside the tests
}
NUMERICAL = (
    *("keys", "reference", "batches", "synthetic", "cutouts", "weights", "training"),
    *("conformance", "compiled", "held", "interchange", "kit", "export", "trajectories"),
    *("acquisition", "selection", "active", "equal_active", "ensemble", "oracle"),
    *("metrics", "posterior", "calibration", "tasks", "resume", "peers", "conclusions"),
)
BUSY = "while True: pass"


@contextmanager
def beside(name: str) -> Iterator[None]:
    """Keep two cores busy while tests run, where `name` asks for it."""
    loops = [
        subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(2 if name == "busy" else 0)
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def run(name: str, words: Sequence[str]) -> tuple[int, str]:
    """The exit status of the tests as processor `name` runs them, and the line that counts them."""
    command = [sys.executable, "-m", "pytest", "-q", *words]
    if name == "one-thread" and hasattr(os, "sched_setaffinity"):
        core = min(os.sched_getaffinity(0))
        place = f"import os, sys; os.sched_setaffinity(0, [{core}]); os.execv(sys.argv[1], sys.argv[1:])"
        command = [sys.executable, "-c", place, *command]
    environment = os.environ | PROCESSORS[name]
    lines = []
    with (
        beside(name),
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        ) as tests,
    ):
        for line in tests.stdout or ():
            print(line, end="", flush=True)
            lines.append(line.strip())
    counted = [line for line in lines if re.search(r"\d+ (passed|failed|error)", line)]
    return tests.returncode, counted[-1] if counted else "no test ran"


def main(words: list[str]) -> int:
    """Run what `words` name, by default everything; the worst exit status."""
    end = words.index("--") if "--" in words else len(words)
    words, rest = words[:end], words[end + 1 :]
    whole, names = "--whole" in words, [word for word in words if word != "--whole"]
    if strange := [name for name in names if name not in PROCESSORS]:
        print(f"no processor {strange[0]}; there are {', '.join(PROCESSORS)}", file=sys.stderr)
        return 2
    files = [] if whole else [f"tests/test_{name}.py" for name in NUMERICAL]
    found = {}
    for name in names or PROCESSORS:
        settings = " ".join(f"{key}={value!r}" for key, value in PROCESSORS[name].items())
        print(f"== {name} {settings}", flush=True)
        found[name] = run(name, [*files, *rest])
    for name, (status, counted) in found.items():
        print(f"{name:22} exit {status}  {counted}")
    return max(status for status, _ in found.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
