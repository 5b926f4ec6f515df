"""Training, validation and test galaxies, told apart by a hash of their id.

Survey tables are ordered on the sky and by quality, so a split by row would not be random; a split by id is, and it
stays the same when rows are added, dropped or shuffled.
"""

import hashlib
from functools import partial

import numpy as np

from shared.spec import SplitSpec

NAMES = ("train", "validation", "test")


def galaxy_hash(ids, purpose: str = "") -> np.ndarray:
    """The 64-bit hash (galaxy,) of each id, a string: the first 8 bytes of BLAKE2b, little endian.

    The split is by the hash of no PURPOSE. What else is decided by the hash itself has a purpose of its own (at most
    16 bytes, BLAKE2b's `person`), or it would be decided together with the split; `shared.keys` has others.
    """
    blake = partial(hashlib.blake2b, digest_size=8, person=purpose.encode())
    digests = b"".join(blake(str(name).encode()).digest() for name in ids)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def split(ids, spec: SplitSpec) -> np.ndarray:
    """Which of NAMES (galaxy,) each id belongs to."""
    place = galaxy_hash(ids) / 2.0**64
    held_out = np.where(place < spec.test + spec.validation, "validation", "train")
    return np.where(place < spec.test, "test", held_out)
