"""Texts that a processor's rounding may tell apart in the last digit of a number, and in nothing else."""

import re

# A number in text: 1,470 or -0.125 or 3.0e-07.
NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?")
FEW = 0.01  # the share of numbers that may stand at a rounding


def different(one: str, other: str) -> list[tuple[str, str]]:
    """The pairs of numbers in which two texts differ by more than one unit of the last digit written.

    Texts whose words differ, or more than `FEW` of whose numbers differ at all, are one pair: they themselves.
    """
    if NUMBER.sub("#", one) != NUMBER.sub("#", other):
        return [(one, other)]
    pairs = list(zip(NUMBER.findall(one), NUMBER.findall(other), strict=True))
    unlike = [pair for pair in pairs if pair[0] != pair[1]]
    if len(unlike) > FEW * len(pairs):
        return [(one, other)]
    return [
        pair
        for pair in unlike
        if abs(_value(pair[0]) - _value(pair[1])) > 1.001 * max(map(_unit, pair))
    ]


def _value(text: str) -> float:
    return float(text.replace(",", ""))


def _unit(text: str) -> float:
    """What one more in the last digit of a number adds to it."""
    digits, _, power = text.replace(",", "").lower().partition("e")
    return 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))
