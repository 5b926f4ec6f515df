"""What comes after the encoder, and is sampled: from units to answers."""

from shared.network.network import UNITS, Network, chain
from shared.network.operations import Dense, Dropout, Maxout


def dropout_head(rate: float, answers: int = 2) -> Network:
    """Dropout and a dense layer, as in W+20 (2 answers) and Zoobot (34)."""
    return chain(UNITS, ("dropout", Dropout(rate)), ("answer", Dense(answers)))


def maxout_head(rate: float, answers: int = 2, units: int = 2048) -> Network:
    """Dieleman's: two layers of pairs of linear units, and dropout before each of three."""
    return chain(
        UNITS,
        ("dropout0", Dropout(rate)),
        ("hidden0", Dense(2 * units, init=0.001, bias_init=0.01)),
        ("maxout0", Maxout(2)),
        ("dropout1", Dropout(rate)),
        ("hidden1", Dense(2 * units, init=0.001, bias_init=0.01)),
        ("maxout1", Maxout(2)),
        ("dropout2", Dropout(rate)),
        ("answer", Dense(answers, init=0.01, bias_init=0.1)),
    )
