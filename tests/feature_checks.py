"""How far a head that is fitted to kept features is from the same fit on images; one process for each framework.

`python -m tests.feature_checks BACKEND NETWORK ...` prints the errors of these networks as JSON; w20 is the last.
"""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from shared.method.active import join
from shared.method.backend import Backend
from shared.method.batches import Cutouts, Labelled
from shared.method.ensemble import open_networks
from shared.method.feature_store import frozen_features
from shared.method.sampling import embed_galaxies, sample_logits
from shared.method.training import calls
from shared.network.weights import Checkpoint, first_checkpoint
from shared.proof.case import by_layer, relative_error, unlike_any
from shared.run.keys import galaxy_hash
from shared.run.spec import RunSpec, from_config
from trizoo import compose

STEPS, GALAXIES = 7, 21
WORDS = (
    *("task=fit", "backend.precision=float64", "backend.threads=1", "backend.chunk=8"),
    *("backend.steps=3", "training.batch_size=8", "training.trainable=head", "augmentation=none"),
    *("training.shards=2", "training.learning_rate=0.05", "training.weight_decay=0.1"),
)
NETWORKS = {
    "resnet18": ("model.image_size=32", "model.widths=[4,4,4,6]", "model.depths=[1,1,1,1]"),
    "convnext_atto": (
        *("model.image_size=32", "model.widths=[4,4,4,6]", "model.depths=[1,1,1,1]"),
        "model.stochastic_depth=0.5",
    ),
    "w20": ("model.image_size=16", "model.blocks=[[2],[2]]", "model.dense=6"),
}


def labelled() -> Labelled:
    """Galaxies with votes, not in the order of the store, of which some rows are nobody's."""
    rows = np.array([row for row in range(GALAXIES + 4) if row % 7 != 3])
    hashes, total = galaxy_hash([f"galaxy {row}" for row in rows]), 5 + rows % 36
    parts = Labelled.yes_or_no(rows, hashes, rows * 7 % (total + 1), total)
    return join(parts.take(np.arange(10, len(rows))), parts.take(np.arange(10)))


def start_of(run: RunSpec) -> Checkpoint:
    """First weights, with running moments of no batch."""
    start = first_checkpoint(run.model, run.seed, run.training.members)
    return start if run.training.members > 1 else unlike_any(start, run.seed)


def fitted(backend: Backend, run: RunSpec, start: Checkpoint, images) -> dict:
    """The checkpoint after some steps, its losses, and samples and units of all galaxies with votes."""
    some, state, losses = labelled(), backend.init(run, start), []
    for call in calls(backend, run, state, images, some, 0, 0, STEPS):
        state = call.state
        losses += call.losses.tolist()
    found = sample_logits(backend, run, state, images, some.rows, some.hashes, 4)
    samples = np.concatenate([block for _, block in found])
    units = embed_galaxies(backend, run, state, images, some.rows)
    return {
        "checkpoint": backend.export_checkpoint(state),
        "losses": np.array(losses),
        "samples": samples,
        "units": units,
    }


def difference(one: dict, other: dict) -> float:
    """The worst error of `one` fit, in the scale of the `other`."""
    parts = [
        by_layer(getattr(one["checkpoint"], part), getattr(other["checkpoint"], part))
        for part in ("weights", "first", "second", "moments")
    ]
    return max(*parts, *(relative_error(one[name], other[name]) for name in list(one)[1:]))


def errors(name: str, networks: list[str]) -> dict[str, float]:
    """The error of each network's fit on features; of an ensemble's; and of fits that are not the same."""
    found = {}
    for model in networks:
        words = [f"backend={name}", f"model={model}", *WORDS, *NETWORKS[model]]
        run = from_config(RunSpec, compose(words))
        found[model] = _difference(run, run)
    found["ensemble"] = _difference(*[_members(run)] * 2)
    other_view = replace(run, augmentation=replace(run.augmentation, zoom=(1.2, 1.2)))
    other_masks = replace(run, seed=run.seed + 1)
    found["another view"] = _difference(run, other_view)
    found["other masks and batches"] = _difference(run, other_masks, start_of(run))
    return found


def _members(run: RunSpec) -> RunSpec:
    return replace(run, training=replace(run.training, members=2))


def _difference(run: RunSpec, on_features: RunSpec, start: Checkpoint | None = None) -> float:
    pixels = np.random.default_rng(3).integers(0, 256, (GALAXIES + 4, 32, 32, 1), np.uint8)
    backend, start = open_networks(run), start or start_of(run)
    images = Cutouts(pixels, 1, "noise")
    with tempfile.TemporaryDirectory() as folder:
        given = (backend, on_features, start, images, Path(folder), labelled().rows)
        features, _ = frozen_features(*given)
        return difference(
            fitted(backend, on_features, start, features), fitted(backend, run, start, images)
        )


def main() -> None:
    """Print the errors of one framework."""
    print(json.dumps(errors(sys.argv[1], sys.argv[2:])))


if __name__ == "__main__":
    main()
