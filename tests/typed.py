"""The packages, and an ensemble, satisfy the Protocol as they are, and trizoo's functions say what they give: for
pyright, which sees names and types.
"""

from pathlib import Path

import impl_jax
import impl_tf
import impl_torch
import trizoo
from shared.method.backend import Backend
from shared.method.ensemble import Ensemble

BACKENDS: list[Backend] = [impl_tf, impl_torch, impl_jax]
ENSEMBLE: Backend = Ensemble(BACKENDS[0], 2)


def from_python() -> tuple[Path, str, dict]:
    """What a call from Python gives."""
    run = trizoo.fit(
        "experiment=demo",
        {"training.steps": 3},
        dataset="folder",
        images=Path("photos"),
        questions=None,
    )
    others: trizoo.Run = trizoo.predict(weights=run)
    columns: int = len(others.posterior.columns)
    rounds: list[dict] = list(trizoo.active(rounds=columns))
    trizoo.show_galaxies(run, others.posterior.head(3), size=96).save("page.html")
    return run.weights, run.summary, rounds[-1]
