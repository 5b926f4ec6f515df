"""How far a framework is from the specification: one error per check, from random bits up to posterior samples.

Every framework is compared with `shared.proof.reference`, alone in its process, never with another framework. An error
is max |difference| / max |oracle|, or, for what must be bit-identical, how many numbers differ.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from shared.proof import acquisition_checks, checks
from shared.proof.case import Case
from shared.run.spec import RunSpec

CHECKS: dict[str, Callable[[Case], float]] = {
    check.__name__: check
    for check in (
        checks.random_bits,
        checks.masks,
        checks.batches,
        checks.augmented_images,
        checks.augmented_images_as_w20,
        checks.layers,
        checks.features,
        checks.probabilities,
        checks.likelihood,
        checks.multinomial,
        checks.dirichlet_multinomial,
        checks.dirichlet_multinomial_sigmoid,
        checks.gradient_of_votes,
        checks.loss,
        checks.gradient,
        checks.tied_gradient,
        checks.training,
        checks.fine_tuning,
        checks.long_training,
        checks.samples,
        checks.batch_invariance,
        checks.place_invariance,
        acquisition_checks.mutual_information,
        acquisition_checks.entropy,
        acquisition_checks.batch_mutual_information,
        acquisition_checks.epig,
        acquisition_checks.dirichlet_information,
        acquisition_checks.walk_information,
        acquisition_checks.nearest,
        acquisition_checks.top_galaxies,
    )
}


EXACT = frozenset({"random_bits", "masks", "batches", "batch_invariance", "top_galaxies"})
UNBOUNDED = float("inf")
TOLERANCES = {  # max |difference| / max |oracle|; of EXACT checks how many numbers may differ
    "float64": {check: 0 if check in EXACT else 1e-12 for check in CHECKS}
    | {"training": 1e-10, "fine_tuning": 1e-10, "long_training": 1e-10},
    # Adam divides by the size of the gradient itself, so in float32 a rounding error of one near zero moves its weight
    # by a whole step: float64 shows that the algorithm is the same, and float32 has no tolerance for training.
    "float32": {check: 0 if check in EXACT else 1e-5 for check in CHECKS}
    | {"training": UNBOUNDED, "fine_tuning": UNBOUNDED},
}
DOUBLE = frozenset({"long_training"})  # checks that only float64 can run_checks


class Verdict(NamedTuple):
    """What became of one check."""

    check: str
    error: float
    tolerance: float
    verdict: str  # ok | over
    seconds: float


def run_checks(run: RunSpec) -> list[Verdict]:
    """The error of every check that the run's precision can run_checks, against its tolerance."""
    case, found = Case(run), []
    tolerances = TOLERANCES["float64" if run.backend.precision == "float64" else "float32"]
    for name, check in CHECKS.items():
        if name in DOUBLE and run.backend.precision != "float64":
            continue
        begun = time.perf_counter()
        error = float(check(case))
        verdict = "ok" if error <= tolerances[name] else "over"
        found.append(Verdict(name, error, tolerances[name], verdict, time.perf_counter() - begun))
    return found


def suite(verdicts: list[Verdict]) -> str:
    """The verdicts as a table of text."""
    lines = [f"{'check':30} {'error':>9} {'tolerance':>9} {'':5} seconds"]
    for check, error, tolerance, verdict, seconds in verdicts:
        lines.append(f"{check:30} {error:9.1e} {tolerance:9.1e} {verdict:5} {seconds:7.1f}")
    return "\n".join(lines)
