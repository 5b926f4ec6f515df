"""How far 20 steps of training of every architecture are from the specification; a process of its own per framework.

`python -m tests.train_networks BACKEND` prints the errors as JSON.
"""

import json
import sys

from shared.proof import checks
from shared.proof.case import Case
from shared.run.spec import RunSpec, from_config
from trizoo import compose

STEPS = 20
COLOURS = ("dataset=folder", "dataset.images=photos", "dataset.channels=3", "model.channels=3")
NARROW = {
    "w20": ("model.blocks=[[4,4],[6],[6]]", "model.dense=8"),
    "dieleman": ("model.image_size=45", "model.widths=[2,2,2,2]", "model.dense=4", *COLOURS),
    "resnet18": ("model.widths=[4,6,6,8]", "model.depths=[1,2,1,1]"),
    "resnet50": ("model.widths=[4,4,4,4]", "model.depths=[2,1,1,1]"),
    # A bias before the next batch norm has no gradient but of rounding, 1e-15. Divided by Adam's usual 1e-8 it would
    # move by 1e-7 of a step, another way in each program.
    "efficientnet_b0": (
        "model.widths=[8,8,8,8,8,8,8,8,12]",
        "model.depths=[1,1,1,1,2,1,1]",
        "training.epsilon=1e-4",
    ),
    "convnext_atto": ("model.widths=[4,6,6,8]", "model.depths=[1,2,1,1]"),
}


def case(backend: str, name: str) -> Case:
    """A narrow network of the architecture, on small images."""
    words = ["task=conform", f"backend={backend}", "backend.precision=float64", f"model={name}"]
    words += ["backend.threads=1", "training.batch_size=8", "model.image_size=32", *NARROW[name]]
    return Case(from_config(RunSpec, compose(words)))


def main() -> None:
    """Print the errors of one framework."""
    cases = {name: case(sys.argv[1], name) for name in NARROW}
    found = {name: checks.trained(one, one.run.training, STEPS) for name, one in cases.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
