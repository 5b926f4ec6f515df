"""How far fine-tuning in a framework is from the specification; a process of its own for each framework.

`python -m tests.fine_tuning_checks BACKEND` prints the errors as JSON, those of planted mistakes among them.
"""

import json
import sys
from dataclasses import replace
from unittest import mock

from shared.method.fine_tuning import tuning_of
from shared.proof import checks, reference
from tests.train_networks import case

STEPS = 3


def errors(backend: str) -> dict[str, float]:
    """The error of each way to train a narrow ResNet, and of the specification with a mistake in it."""
    one = case(backend, "resnet18")
    shards = replace(one.run.training, shards=2)
    head = replace(shards, trainable="head", weight_decay=0.1)
    last = replace(head, trainable="last:1", layer_decay=0.5)

    def without_head_dropout(network, spec):
        tuning = tuning_of(network, spec)
        return tuning._replace(still=tuning.still | {"dropout"})

    def moments_move(network, spec):
        return tuning_of(network, spec)._replace(still=frozenset())

    found = {
        "shards": checks.trained(one, shards, STEPS),
        "head": checks.trained(one, head, STEPS),
        "last": checks.trained(one, last, STEPS),
    }
    with mock.patch.object(reference, "shard_count", return_value=1):
        found["mistake: moments of the batch"] = checks.trained(one, shards, STEPS)
    with mock.patch.object(reference, "tuning_of", without_head_dropout):
        found["mistake: nothing drops in a head"] = checks.trained(one, head, STEPS)
    with mock.patch.object(reference, "tuning_of", moments_move):
        found["mistake: moments move everywhere"] = checks.trained(one, last, STEPS)
    return found


if __name__ == "__main__":
    print(json.dumps(errors(sys.argv[1])))
