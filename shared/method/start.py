"""Where training starts."""

from shared.network.weights import Checkpoint, first_checkpoint
from shared.run.spec import RunSpec


def start_of(run: RunSpec) -> Checkpoint:
    """The checkpoint at step 0 that `run` starts from: the seed's own first weights."""
    return first_checkpoint(run.model, run.seed, run.training.members)
