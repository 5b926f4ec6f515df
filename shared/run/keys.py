"""Randomness without state: every number is a function of (seed, purpose, galaxy, step or sample, index).

The generator is Threefry-2x32 with 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), a
counter-based one: a key and a counter of two 32-bit words each give two words of random bits. `impl_*/keys.py` write
the same function in each framework, equal to this one bit for bit. So a galaxy's dropout masks and warps do not depend
on the batch it is in, on the order of the table or on the framework.

    seed -> key of a purpose -> key of a galaxy (by the hash of its id) -> words at (step or sample, index)
"""

import hashlib
from functools import partial

import numpy as np

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA
PURPOSES = (
    "weights",
    "order",
    "zoom",
    "view",
    "dropout",
    "posterior view",
    "posterior",
    "acquisition",
    "start",
    "shards",
    "draw",
    "states",
    "targets",
    "votes",
    "calibration",
)


def galaxy_hash(ids, purpose: str = "") -> np.ndarray:
    """The 64-bit hash (galaxy,) of each id, a string: the first 8 bytes of BLAKE2b, little endian.

    The split is by the hash of no `purpose`. What else is decided by the hash itself has a purpose of its own (at most
    16 bytes, BLAKE2b's `person`), or it would be decided together with the split; `PURPOSES` has others.
    """
    blake = partial(hashlib.blake2b, digest_size=8, person=purpose.encode())
    digests = b"".join(blake(str(name).encode()).digest() for name in ids)
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def threefry2x32(key: np.ndarray, counter: np.ndarray) -> np.ndarray:
    """Random bits, uint32 (..., 2), of key uint32 (..., 2) and counter uint32 (..., 2), broadcast."""
    key, counter = np.broadcast_arrays(np.asarray(key, np.uint32), np.asarray(counter, np.uint32))
    keys = (key[..., 0], key[..., 1], key[..., 0] ^ key[..., 1] ^ np.uint32(PARITY))
    with np.errstate(
        over="ignore"
    ):  # numpy warns of single words that wrap around, though never of arrays
        x, y = counter[..., 0] + keys[0], counter[..., 1] + keys[1]
        for group in range(5):
            for rotation in ROTATIONS[group % 2]:
                x = x + y
                y = ((y << np.uint32(rotation)) | (y >> np.uint32(32 - rotation))) ^ x
            x = x + keys[(group + 1) % 3]
            y = y + keys[(group + 2) % 3] + np.uint32(group + 1)
    return np.stack([x, y], -1)


def words(value: int | np.ndarray) -> np.ndarray:
    """The high and the low word, uint32 (..., 2), of 64-bit values."""
    value = np.asarray(value, np.uint64)
    return np.stack([value >> np.uint64(32), value & np.uint64(0xFFFFFFFF)], -1).astype(np.uint32)


def purpose_key(seed: int, purpose: str) -> np.ndarray:
    """The key uint32 (2,) of a purpose, one of PURPOSES."""
    return threefry2x32(words(seed), np.array([0, PURPOSES.index(purpose)], np.uint32))


def galaxy_keys(seed: int, purpose: str, ids) -> np.ndarray:
    """The key uint32 (galaxy, 2) of each galaxy for a purpose; `ids` are strings, or their uint64 hashes."""
    hashes = ids if isinstance(ids, np.ndarray) and ids.dtype == np.uint64 else galaxy_hash(ids)
    return threefry2x32(purpose_key(seed, purpose), words(hashes))


LAYER_SHIFT = 24  # bits of a counter's second word below the layer's number


def bits(keys: np.ndarray, index: np.ndarray | int, count: int, layer: int = 0) -> np.ndarray:
    """`count` words of random bits, uint32 (..., count), for keys (..., 2) at each index (...), a step or a sample.

    Words 2j and 2j + 1 are the two of the counter (index, j + 2^24 x `layer`): each layer has words of its own.
    """
    keys, index = np.asarray(keys, np.uint32), np.asarray(index, np.uint32)
    counters = np.zeros((*index.shape, (count + 1) // 2, 2), np.uint32)
    counters[..., 0] = index[..., None]
    counters[..., 1] = np.arange((count + 1) // 2) + (layer << LAYER_SHIFT)
    pairs = threefry2x32(keys[..., None, :], counters)
    return pairs.reshape(*pairs.shape[:-2], 2 * pairs.shape[-2])[..., :count]


def uniforms(keys: np.ndarray, index: np.ndarray | int, count: int) -> np.ndarray:
    """`count` uniform numbers float64 (..., count) in [0, 1), multiples of 2^-24."""
    return (bits(keys, index, count) >> np.uint32(8)) * 2.0**-24


def keep_threshold(rate: float) -> int:
    """Dropout keeps a unit if the upper 24 bits of its word are at least this."""
    return round(rate * 2**24)


def keep(
    keys: np.ndarray, index: np.ndarray | int, units: int, rate: float, layer: int = 0
) -> np.ndarray:
    """Which units bool (..., unit) of a layer dropout at `rate` keeps, for keys (..., 2) at each index (...)."""
    return bits(keys, index, units, layer) >> np.uint32(8) >= keep_threshold(rate)
