"""The programs that are timed: ours, and their peers.

A program's module has two functions. `work(run, task)` opens a task and gives it as a `Work`; it raises ValueError,
naming the tasks there are, for one that the program has not. `describe(run)`, called after it, gives the versions, the
device, the precision, the threads and how it is compiled, all as text. RUN is that of `run_of`.
"""

from dataclasses import replace
from typing import NamedTuple

from shared.run.spec import RunSpec

OURS = "benchmarks.programs.ours"

# What each framework has to find when it is imported; the same as in conf/backend, which a test holds it to.
ENVIRONMENT = {
    "tf": {
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    },
    "torch": {"OMP_WAIT_POLICY": "PASSIVE"},
    "jax": {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
}


class Program(NamedTuple):
    """One program, and what it is told."""

    module: str
    backend: str  # tf | torch | jax: the framework it computes with, and whose environment it finds
    precision: str | None = None  # None: the run's
    compiled: str = "auto"  # see BackendSpec
    peer: bool = False  # not ours
    keras: str | None = None  # KERAS_BACKEND; None: as the framework's environment says


PROGRAMS = {
    "tf": Program(OURS, "tf"),
    "torch": Program(OURS, "torch"),
    "jax": Program(OURS, "jax"),
    "tf-eager": Program(OURS, "tf", compiled="eager"),
    "jax-eager": Program(OURS, "jax", compiled="eager"),
    "tf-full": Program(OURS, "tf", compiled="full"),
    "torch-full": Program(OURS, "torch", compiled="full"),
    "tf-bf16": Program(OURS, "tf", precision="bfloat16"),
    "torch-bf16": Program(OURS, "torch", precision="bfloat16"),
    "jax-bf16": Program(OURS, "jax", precision="bfloat16"),
    "keras-tf": Program("benchmarks.programs.keras", "tf", peer=True, keras="tensorflow"),
    "keras-torch": Program("benchmarks.programs.keras", "torch", peer=True, keras="torch"),
    "keras-jax": Program("benchmarks.programs.keras", "jax", peer=True, keras="jax"),
    "plain-torch": Program("benchmarks.programs.plain_torch", "torch", peer=True),
    "plain-flax": Program("benchmarks.programs.plain_flax", "jax", peer=True),
    "timm": Program("benchmarks.programs.timm", "torch", peer=True),
    "keras-applications": Program(
        "benchmarks.programs.keras_applications", "tf", peer=True, keras="tensorflow"
    ),
    "kimm": Program("benchmarks.programs.kimm", "tf", peer=True, keras="tensorflow"),
    "flax-networks": Program("benchmarks.programs.flax_networks", "jax", peer=True),
    "zoobot": Program("benchmarks.programs.zoobot", "torch", peer=True),
    "baal": Program("benchmarks.programs.baal", "torch", peer=True),
}


def program_of(name: str) -> Program:
    """The program called `name`; raises ValueError, naming all, if there is none."""
    if name not in PROGRAMS:
        raise ValueError(f"bench.programs has {name!r}; choose among {', '.join(PROGRAMS)}")
    return PROGRAMS[name]


def environment(program: Program) -> dict[str, str]:
    """The variables that `program`'s framework has to find when it is imported."""
    keras = {} if program.keras is None else {"KERAS_BACKEND": program.keras}
    return ENVIRONMENT[program.backend] | keras


def run_of(run: RunSpec, program: Program) -> RunSpec:
    """`run` with `program`'s framework, precision and way to compile; all else, size and batch among it,
    is the run's.
    """
    backend = replace(
        run.backend,
        name=program.backend,
        precision=program.precision or run.backend.precision,
        compiled=program.compiled if program.compiled != "auto" else run.backend.compiled,
        environment=environment(program),
    )
    return replace(run, backend=backend)
