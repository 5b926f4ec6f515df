"""The interface to a framework: a backend is a package with these names."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np

from shared.method.batches import Cutouts, Plan
from shared.method.likelihood import likelihood_of
from shared.method.scoring import States
from shared.method.views import Views
from shared.method.walks import Walks
from shared.network.weights import Checkpoint, Weights
from shared.run.memory import give_back, note_import
from shared.run.spec import BACKENDS, BackendSpec, RunSpec, digest, one_of, to_config

DEFAULT = BackendSpec(
    "torch",
    "auto",
    "float32",
    "auto",
    threads=0,
    chunk=64,
    steps=16,
    memory=None,
    recompute=False,
    python=None,
    environment={},
    workers=1,
    address=None,
)


class Backend(Protocol):
    """What loops, benchmarks and tests may ask of a framework; the packages satisfy it as they are.

    Arrays come in and go out as numpy arrays. A state and features stay on the device; only the package looks inside.
    """

    def configure(self, spec: BackendSpec) -> None: ...

    def init(self, run: RunSpec, start: Checkpoint) -> Any: ...

    def train_steps(self, state: Any, images: Cutouts, plan: Plan) -> tuple[Any, np.ndarray]: ...

    def gradients(self, state: Any, images: Cutouts, plan: Plan) -> tuple[float, Weights]: ...

    def seen(self, state: Any, images: np.ndarray, views: Views) -> np.ndarray: ...

    def features(self, state: Any, images: np.ndarray, views: Views) -> Any: ...

    def logits(self, state: Any, units: Any, kept: dict[str, np.ndarray]) -> np.ndarray: ...

    def sample(
        self,
        state: Any,
        images: np.ndarray,
        views: Views,
        keys: np.ndarray,
        first: int,
        samples: int,
    ) -> np.ndarray: ...

    def acquire(
        self,
        name: str,
        samples: np.ndarray,
        expected_votes: int | np.ndarray,
        states: States | None = None,
    ) -> np.ndarray: ...

    def dirichlet_information(
        self, concentrations: np.ndarray, expected_votes: int
    ) -> np.ndarray: ...

    def walk_information(self, fractions: np.ndarray, walks: Walks) -> np.ndarray: ...

    def embed(self, state: Any, images: np.ndarray, views: Views) -> np.ndarray: ...

    def nearest(self, units: np.ndarray, centres: np.ndarray) -> np.ndarray: ...

    def export_weights(self, state: Any) -> Weights: ...

    def export_checkpoint(self, state: Any) -> Checkpoint: ...

    def describe(self) -> dict[str, str]: ...

    def peak_memory(self) -> int: ...

    def out_of_memory(self, error: BaseException) -> bool: ...


def compiled_once(make: Callable) -> Callable:
    """`make`(run, settings), a run's compiled calls, but made once for all runs whose calls are alike.

    They are where network, views, optimiser, settings and recomputation are; the seed, and what else a run says, plays
    no part.
    """
    made: dict[str, Any] = {}

    @wraps(make)
    def shared(run: RunSpec, settings: BackendSpec) -> Any:
        parts = (run.model, run.augmentation, run.training, settings)
        name = digest([*map(to_config, parts), likelihood_of(run), run.backend.recompute], 64)
        if name not in made:
            made[name] = make(run, settings)
        return made[name]

    return shared


def load_backend(name: str, precision: str = "float32") -> Backend:
    """Import the framework called `name`, and no other, and configure it: one framework and precision per process."""
    one_of("backend", name, BACKENDS)
    return open_backend(replace(DEFAULT, name=name, precision=precision))


def open_backend(spec: BackendSpec) -> Backend:
    """Import the framework of `spec` and configure it.

    Raises ValueError, with the fix, if it cannot be imported or has not the device that `spec` wants.
    """
    backend = import_backend(spec.name)
    with suppress_stderr():
        backend.configure(spec)
    note_import()
    if spec.memory is not None:
        give_back()
    return backend


def import_backend(name: str) -> Backend:
    """The package of the framework called `name`; ValueError, with the fix, if it cannot be imported."""
    try:
        with suppress_stderr():
            return cast(Backend, import_module(f"impl_{name}"))
    except ImportError as error:
        missing = f"the backend {name} cannot be imported ({error})"
        raise ValueError(
            f"{missing}; install trizoo[{name}], or set backend.python to an interpreter that has it"
        ) from error


@contextmanager
def suppress_stderr() -> Iterator[None]:
    """Keep back what libraries write to standard error (TensorFlow finds no GPU in ten lines), unless they fail."""
    with tempfile.TemporaryFile() as kept:
        shown = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except (ImportError, ValueError):
            raise
        except BaseException:
            kept.seek(0)
            os.write(shown, kept.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)
