"""Train with one framework, then go on from where the others were half-way: the child of test_interchange.

`python tests/interchange.py FOLDER NAME` reads FOLDER/NAME.json, writes NAME-50 and NAME-100, says so, waits for a
line, and writes OTHER-NAME for each of the other names: OTHER's first 50 steps and NAME's last 50. PyTorch also writes
what becomes of its own first 50 steps if their moments are lost.
"""

import json
import sys
from pathlib import Path

from shared.method.batches import draw_plan
from shared.network.weights import Checkpoint, load_checkpoint, save_checkpoint
from shared.proof.case import Case
from shared.run.spec import BACKENDS, RunSpec, from_config

HALF, WHOLE, CALL = 50, 100, 25


def train(case: Case, state, first: int, last: int):
    """`state` after steps `first` to `last`."""
    for step in range(first, last, CALL):
        plan = draw_plan(case.run, case.labelled, case.cutouts.size, 0, step, CALL)
        state, _ = case.backend.train_steps(state, case.cutouts, plan)
    return state


def resumed(case: Case, start: Checkpoint) -> Checkpoint:
    """The checkpoint at the last step of a run that goes on from `start`."""
    state = train(case, case.backend.init(case.run, start), start.step, WHOLE)
    return case.backend.export_checkpoint(state)


def main(folder: Path, name: str) -> None:
    case = Case(from_config(RunSpec, json.loads((folder / f"{name}.json").read_text())))
    state = train(case, case.backend.init(case.run, case.start), 0, HALF)
    half = case.backend.export_checkpoint(state)
    save_checkpoint(folder / f"{name}-{HALF}.safetensors", half, {"by": name})
    whole = case.backend.export_checkpoint(train(case, state, HALF, WHOLE))  # the same state
    save_checkpoint(folder / f"{name}-{WHOLE}.safetensors", whole, {"by": name})
    print("half-way", flush=True)
    sys.stdin.readline()
    for other in BACKENDS:
        if other != name:
            start, about = load_checkpoint(folder / f"{other}-{HALF}.safetensors", case.run.model)
            assert (start.step, about["by"]) == (HALF, other)
            path = folder / f"{other}-{name}.safetensors"
            save_checkpoint(path, resumed(case, start), {"by": f"{other}, {name}"})
    if name == "torch":
        lost = half._replace(first=case.start.first, second=case.start.second)
        save_checkpoint(folder / f"{name}-lost.safetensors", resumed(case, lost), {})


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
