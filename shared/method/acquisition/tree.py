"""What volunteers' answers to a whole tree of questions tell."""

from collections.abc import Mapping

import numpy as np


def tree_information(
    information: Mapping[str, np.ndarray], asked: Mapping[str, np.ndarray]
) -> np.ndarray:
    """The expected information (galaxy,), in nats: that of each question, by the probability that it is `asked`.

    `information` is question -> (galaxy,); so is `asked`, from `shared.data.schema.chance_asked`.
    """
    return sum(asked[question] * nats for question, nats in information.items())
