"""Training, validation and test galaxies, told apart by a hash of their id.

Survey tables are ordered on the sky and by quality, so a split by row would not be random; a split by id is, and it
stays the same when rows are added, dropped or shuffled.
"""

import numpy as np

from shared.run.keys import galaxy_hash
from shared.run.spec import SplitSpec

NAMES = ("train", "validation", "test")


def split(ids, spec: SplitSpec) -> np.ndarray:
    """Which of NAMES (galaxy,) each id belongs to."""
    place = galaxy_hash(ids) / 2.0**64
    held_out = np.where(place < spec.test + spec.validation, "validation", "train")
    return np.where(place < spec.test, "test", held_out)
