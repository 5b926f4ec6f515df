"""Training, validation and test galaxies, told apart by a hash of their id.

Survey tables are ordered on the sky and by quality, so a split by row would not be random; a split by id is, and it
stays the same when rows are added, dropped or shuffled.
"""

import hashlib

import numpy as np

from shared.spec import SplitSpec

NAMES = ("train", "validation", "test")


def galaxy_hash(ids) -> np.ndarray:
    """The 64-bit hash (galaxy,) of each id, a string: the first 8 bytes of BLAKE2b, little endian."""
    digests = b"".join(hashlib.blake2b(str(name).encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def split(ids, spec: SplitSpec) -> np.ndarray:
    """Which of NAMES (galaxy,) each id belongs to."""
    place = galaxy_hash(ids) / 2.0**64
    held_out = np.where(place < spec.test + spec.validation, "validation", "train")
    return np.where(place < spec.test, "test", held_out)
