"""Train with one framework, then go on from where the others were half-way: the child of test_interchange.

`python tests/interchange.py FOLDER NAME` reads FOLDER/NAME.json, writes NAME-50 and NAME-100, says so, waits for a line,
and writes OTHER-NAME for each of the other names: OTHER's first 50 steps and NAME's last 50. PyTorch also writes what
becomes of its own first 50 steps if their moments are lost.
"""

import json
import sys
from pathlib import Path

from shared.batches import draw_plan
from shared.conformance import Case
from shared.spec import BACKENDS, RunSpec, from_config
from shared.weights import Checkpoint, load_checkpoint, save_checkpoint

HALF, WHOLE, CALL = 50, 100, 25


def trained(case: Case, start: Checkpoint, last: int) -> Checkpoint:
    """The checkpoint at step LAST of a run that goes on from START."""
    state = case.backend.init(case.run, start)
    for first in range(start.step, last, CALL):
        plan = draw_plan(case.run, case.labelled, case.cutouts.size, 0, first, CALL)
        state, _ = case.backend.train_steps(state, case.cutouts, plan)
    return case.backend.export_checkpoint(state)


def main(folder: Path, name: str) -> None:
    case = Case(from_config(RunSpec, json.loads((folder / f"{name}.json").read_text())))
    half = trained(case, case.start, HALF)
    save_checkpoint(folder / f"{name}-{HALF}.safetensors", half, {"by": name})
    # from the first step again, so that the whole is one run that nothing was saved from
    whole = trained(case, case.start, WHOLE)
    save_checkpoint(folder / f"{name}-{WHOLE}.safetensors", whole, {"by": name})
    print("half-way", flush=True)
    sys.stdin.readline()
    for other in BACKENDS:
        if other != name:
            start, about = load_checkpoint(folder / f"{other}-{HALF}.safetensors", case.run.model)
            assert (start.step, about["by"]) == (HALF, other)
            path = folder / f"{other}-{name}.safetensors"
            save_checkpoint(path, trained(case, start, WHOLE), {"by": f"{other}, {name}"})
    if name == "torch":
        lost = half._replace(first=case.start.first, second=case.start.second)
        save_checkpoint(folder / f"{name}-lost.safetensors", trained(case, lost, WHOLE), {})


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
