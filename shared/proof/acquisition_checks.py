"""The checks of acquisition: each gives the error of one score, or how many galaxies differ."""

import numpy as np

from shared.method.scoring import States
from shared.proof import reference
from shared.proof.case import Case, difference, relative_error


def mutual_information(case: Case) -> float:
    """Mutual information in nats, difference and not ratio: of one N for all, and of an N for each."""
    rho, random = case.rho(300, 16), np.random.default_rng(1)
    wrong = np.abs(
        case.backend.acquire("mutual_information", rho, 40) - reference.mutual_information(rho, 40)
    ).max()
    votes = random.integers(0, 41, len(rho))
    oracle = [
        reference.mutual_information(one[None], n)[0] for one, n in zip(rho, votes, strict=True)
    ]
    return float(
        max(wrong, np.abs(case.backend.acquire("mutual_information", rho, votes) - oracle).max())
    )


def entropy(case: Case) -> float:
    """Predictive entropy in nats, difference and not ratio."""
    rho = case.rho(300, 16)
    return float(
        np.abs(case.backend.acquire("entropy", rho, 40) - reference.entropy(rho, 40)).max()
    )


def batch_mutual_information(case: Case) -> float:
    """What votes would yet tell once others' have come in, in nats, difference and not ratio."""
    return _informed(case, "batch_mutual_information")


def epig(case: Case) -> float:
    """What votes would tell about others' votes, in nats, difference and not ratio."""
    return _informed(case, "epig")


def _informed(case: Case, name: str) -> float:
    rho, random = case.rho(300, 16), np.random.default_rng(2)
    states = States(random.dirichlet(np.ones(60)), random.dirichlet(np.full(16, 0.1), 60))
    got = case.backend.acquire(name, rho, 40, states=states)
    return difference(got, getattr(reference, name)(rho, 40, states))


def dirichlet_information(case: Case) -> float:
    """What votes on a question of three answers would tell, in nats, difference and not ratio."""
    concentrations = np.random.default_rng(3).gamma(1, 3, (400, 8, 3)).astype(np.float32)
    got = case.backend.dirichlet_information(concentrations, 12)
    return difference(got, reference.dirichlet_information(concentrations, 12))


def nearest(case: Case) -> float:
    """The distance to the nearest of many centres, and of one."""
    units = np.random.default_rng(4).gamma(1, 1, (200, 32)).astype(np.float32)
    exact = units.astype(np.float64)
    return max(
        relative_error(
            case.backend.nearest(units, units[:some]), reference.nearest(exact, exact[:some])
        )
        for some in (50, 1)
    )


def top_galaxies(case: Case) -> int:
    """How many of the 128 galaxies of the highest mutual information are others."""
    rho = case.rho(2000, 16)
    got, oracle = (
        set(np.argsort(-scores, kind="stable")[:128].tolist())
        for scores in (
            case.backend.acquire("mutual_information", rho, 40),
            reference.mutual_information(rho, 40),
        )
    )
    return len(oracle - got)
