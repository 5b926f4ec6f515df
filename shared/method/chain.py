"""Rounds as a chain: each has a digest of itself, of the network it left and of the round before it.

So two runs whose last digests are equal went through the same rounds, and a checkpoint that is not what the run left
is found before anything is learned on top of it.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from shared.network.weights import PARTS, Checkpoint
from shared.run.records import plain

FORMAT = 1  # raise it when a round says other things, or says them in other words
UNSEALED = ("seconds", "digest")  # of a round, what its digest does not cover


def sealed(entry: dict, before: list[dict], identity: dict) -> dict:
    """`entry`, a round after those `before`, with its "digest": SHA-256 over the digest before it, `identity` and
    itself.

    `identity` is what else decides a run, as plain data; `entry` names its network by "network", see `network_digest`.
    """
    entry = plain(entry)  # as it comes back from a checkpoint
    kept = {key: value for key, value in entry.items() if key not in UNSEALED}
    whole = {
        "format": FORMAT,
        "before": before[-1]["digest"] if before else None,
        "identity": identity,
        "round": kept,
    }
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"))
    return {**entry, "digest": hashlib.sha256(text.encode()).hexdigest()}


def network_digest(checkpoint: Checkpoint) -> str:
    """The SHA-256 of a checkpoint's weights, moments and step, in hexadecimal."""
    whole = hashlib.sha256(str(checkpoint.step).encode())
    for part in PARTS:
        for name, array in sorted(getattr(checkpoint, part).items()):
            array = np.ascontiguousarray(array)
            whole.update(f"{part}/{name} {array.dtype.str} {array.shape}".encode())
            whole.update(array.tobytes())
    return whole.hexdigest()


def verified(path: Path, rounds: list[dict], checkpoint: Checkpoint, identity: dict) -> list[dict]:
    """`rounds`, as the checkpoint at `path` holds them.

    Raises ValueError if a round is not what its digest was made from, or if `checkpoint` is not the last one's network.
    """
    for number, entry in enumerate(rounds):
        if sealed(entry, rounds[:number], identity)["digest"] != entry.get("digest"):
            raise ValueError(
                f"round {number} in {path} is not what this run left there: it was edited, or comes from another run "
                "or an older version; again=true begins anew"
            )
    if rounds and rounds[-1].get("network") != network_digest(checkpoint):
        raise ValueError(
            f"the network in {path} is not the one that round {len(rounds) - 1} left there; again=true begins anew"
        )
    return rounds
