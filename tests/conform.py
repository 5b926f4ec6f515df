"""`python -m tests.conform FOLDER`: the run of FOLDER/run.json, but the oracle's trajectories are kept beside FOLDER.

They are the same for every framework and precision, so one process computes each, and the others of a session read it.
"""

import pickle
import sys
from hashlib import sha256
from pathlib import Path

import trizoo
from shared.proof import checks
from tests.session_files import filled


def kept(place: Path, compute):
    """`compute`, a trajectory's, asked once for each that it is given."""

    def trajectory(case, run, plan):
        told = (
            run.seed,
            run.model,
            run.augmentation,
            run.training,
            case.likelihood,
            len(plan.steps),
        )
        name = "trajectory-" + sha256(repr(told).encode()).hexdigest()[:16]

        def make(folder: Path) -> None:
            (folder / "after").write_bytes(pickle.dumps(compute(case, run, plan)))

        return pickle.loads((filled(place / name, make) / "after").read_bytes())

    return trajectory


if __name__ == "__main__":
    checks.trajectory = kept(Path(sys.argv[1]).parent, checks.trajectory)
    sys.exit(trizoo.main(["--run", sys.argv[1]]))
