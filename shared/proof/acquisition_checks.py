"""The checks of acquisition: each gives the error of one score, or how many galaxies differ."""

import numpy as np
from scipy.special import softmax

from shared.data.schema import slices
from shared.method.scoring import States
from shared.method.walks import walks_of
from shared.proof import reference
from shared.proof.case import Case, difference, relative_error

# questions that everybody is asked, that several answers lead to, and answers to several questions
TREE = {
    "kind": ("smooth", "disk", "star"),
    "edge-on": ("yes", "no"),
    "round": ("round", "oval", "cigar"),
    "bulge": ("none", "small", "large"),
    "arms": ("yes", "no", "cannot-tell"),
    "winding": ("tight", "loose"),
    "count": ("1", "2", "3", "more"),
    "odd": ("yes", "no"),
    "oddity": ("ring", "merger"),
    "seen-before": ("yes", "no"),
}
TREE_LEADS = {
    "edge-on": {"kind": ("disk",)},
    "round": {"kind": ("smooth",)},
    "bulge": {"edge-on": ("yes",), "arms": ("yes", "cannot-tell")},
    "arms": {"edge-on": ("no",)},
    "winding": {"arms": ("yes",)},
    "count": {"arms": ("yes",)},
    "odd": {"kind": ("smooth", "disk")},
    "oddity": {"odd": ("yes",)},
}


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


def walk_information(case: Case) -> float:
    """What a volunteer's walk through a tree with joins would tell, in nats, difference and not ratio."""
    random, answers = np.random.default_rng(5), sum(map(len, TREE.values()))
    of_all = random.normal(0, 1, answers)  # samples that differ in one question differ in others
    logits = random.normal(0, 2, (200, 1, answers)) + of_all * random.normal(0, 2, (200, 8, 1))
    logits[:9, :, slices(TREE)["kind"]] = [
        0,
        -np.inf,
        -np.inf,
    ]  # no doubt, and answers that nobody gives
    logits[9:18] = logits[9:18, :1]  # all samples are of one mind
    fractions = np.concatenate(
        [softmax(logits[..., place], -1) for place in slices(TREE).values()], -1
    )
    got = case.backend.walk_information(fractions, walks_of(TREE, TREE_LEADS))
    return difference(got, reference.walk_information(TREE, TREE_LEADS, fractions))


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
