"""How far a framework is from the specification: one error per rung, from random words up to posterior samples.

Every framework is compared with `shared.proof.reference`, alone in its process, never with another framework. An error
is max |difference| / max |oracle|, or, for what must be bit-identical, how many numbers differ.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from shared.proof import acquisition_checks, checks
from shared.proof.case import Case
from shared.run.spec import RunSpec

RUNGS: dict[str, Callable[[Case], float]] = {
    rung.__name__: rung
    for rung in (
        checks.words,
        checks.masks,
        checks.batches,
        checks.seen,
        checks.seen_faithfully,
        checks.layers,
        checks.features,
        checks.answers,
        checks.likelihood,
        checks.loss,
        checks.gradient,
        checks.tied_gradient,
        checks.training,
        checks.long_training,
        checks.samples,
        checks.batch_invariance,
        checks.place_invariance,
        acquisition_checks.mutual_information,
        acquisition_checks.entropy,
        acquisition_checks.scores,
        acquisition_checks.batch_mutual_information,
        acquisition_checks.epig,
        acquisition_checks.dirichlet_information,
        acquisition_checks.nearest,
        acquisition_checks.most_wanted,
        acquisition_checks.random_scores,
    )
}


EXACT = frozenset({"words", "masks", "batches", "batch_invariance", "most_wanted", "random_scores"})
UNBOUNDED = float("inf")
BUDGETS = {  # max |difference| / max |oracle|; of EXACT rungs how many numbers may differ
    "float64": {rung: 0 if rung in EXACT else 1e-12 for rung in RUNGS}
    | {"training": 1e-10, "long_training": 1e-10},
    # Adam divides by the size of the slope itself, so in float32 a rounding error of a slope near zero moves its weight
    # by a whole step: float64 shows that the algorithm is the same, and float32 has no budget for training.
    "float32": {rung: 0 if rung in EXACT else 1e-5 for rung in RUNGS} | {"training": UNBOUNDED},
}
DOUBLE = frozenset({"long_training"})  # rungs that only float64 can climb


class Verdict(NamedTuple):
    """What became of one rung."""

    rung: str
    error: float
    budget: float
    verdict: str  # ok | over
    seconds: float


def climb(run: RunSpec) -> list[Verdict]:
    """The error of every rung that the run's precision can climb, against its budget."""
    case, found = Case(run), []
    budgets = BUDGETS["float64" if run.backend.precision == "float64" else "float32"]
    for name, rung in RUNGS.items():
        if name in DOUBLE and run.backend.precision != "float64":
            continue
        begun = time.perf_counter()
        error = float(rung(case))
        verdict = "ok" if error <= budgets[name] else "over"
        found.append(Verdict(name, error, budgets[name], verdict, time.perf_counter() - begun))
    return found


def ladder(verdicts: list[Verdict]) -> str:
    """The verdicts as a table of text."""
    lines = [f"{'rung':20} {'error':>9} {'budget':>9} {'':5} seconds"]
    for rung, error, budget, verdict, seconds in verdicts:
        lines.append(f"{rung:20} {error:9.1e} {budget:9.1e} {verdict:5} {seconds:7.1f}")
    return "\n".join(lines)
