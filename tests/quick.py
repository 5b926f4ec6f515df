"""What a quick run of the tests takes of several: the rest is slow, and runs with `make test-all`."""

import pytest

from shared.run.spec import BACKENDS


def only(quick, *others) -> list:
    """Parameters of a test, of which only those that are `quick` run in a quick run."""
    return [
        *quick,
        *(
            pytest.param(*one if isinstance(one, tuple) else [one], marks=pytest.mark.slow)
            for one in others
            if one not in quick
        ),
    ]


# Of a claim that depends on what the frameworks share, while their own part has quick tests of its own elsewhere
ONE_FRAMEWORK = only(["torch"], *BACKENDS)
