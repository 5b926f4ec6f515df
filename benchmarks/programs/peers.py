"""What the peers share: the galaxies as their users would hold them, and the doors that refuse what they have not.

Every peer has W+20's network as run.model spells it, begins at the weights that ours begin at, and knows a galaxy's
votes as counts (galaxy, answer) of no and yes.
"""

import os
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from benchmarks.material import labelled
from shared.method.views import still_views
from shared.proof import reference
from shared.run.spec import RunSpec


class Galaxies(NamedTuple):
    """A batch, in memory."""

    cutouts: (
        np.ndarray
    )  # uint8 (galaxy, y, x, 1), box-averaged as ours are: what is turned and zoomed
    images: (
        np.ndarray
    )  # float32 (galaxy, y, x, 1), of the network's size and scale: what is shown as it is
    votes: np.ndarray  # float32 (galaxy, answer): no, yes


def galaxies(run: RunSpec) -> Galaxies:
    """The galaxies that ours work on, cut to the field that the network sees at zoom 1."""
    cutouts, known = labelled(run)
    pixels = cutouts[known.rows]
    images = reference.apply_views(run, pixels, still_views(run, cutouts.size, len(cutouts)))
    edge = (cutouts.size - round(run.dataset.crop * cutouts.size)) // 2
    field = pixels[:, edge : cutouts.size - edge, edge : cutouts.size - edge]
    votes = known.votes
    return Galaxies(field, images.astype(np.float32), votes.astype(np.float32))


def epoch(run: RunSpec, array: np.ndarray) -> np.ndarray:
    """`array` (galaxy, ...) as often as there are steps in a call, so that a call is one epoch, as ours is."""
    return np.concatenate([array] * run.backend.steps)


def check(
    run: RunSpec, task: str, tasks: Iterable[str], networks: Iterable[str] = ("w20",)
) -> None:
    """Raise ValueError unless `task` is one of `tasks`, the network one of `networks`, and the precision a peer's."""
    if task not in tasks:
        raise ValueError(f"no task {task}; there are {', '.join(sorted(tasks))}")
    if run.model.name not in networks:
        raise ValueError(f"no network {run.model.name}; there are {', '.join(sorted(networks))}")
    if run.backend.precision not in ("float32", "bfloat16"):
        raise ValueError(
            f"backend.precision is {run.backend.precision}; a peer computes in float32 or bfloat16"
        )


def threads(run: RunSpec) -> int:
    """How many threads a framework is to compute with."""
    there = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return run.backend.threads or there
