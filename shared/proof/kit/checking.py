"""Whether the answers of a port to a kit are right."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import safe_open

from shared.proof.kit.checks import CHECKS
from shared.proof.kit.rules import RULES
from shared.proof.kit.writing import FORMAT
from shared.run.records import read_json


class Verdict(NamedTuple):
    """How one array of an answer compares; `error` is infinite where nothing can be measured."""

    check: str
    array: str
    error: float
    tolerance: float
    verdict: str  # ok | over | missing | wrong shape (or kind of number)


def check_kit(kit: Path, answers: Path) -> list[Verdict]:
    """A verdict on every array that the port which wrote the folder `answers` should have written.

    Raises ValueError for a kit or an answer that is not whole, and for a folder that is not there.
    """
    kit, answers = Path(kit), Path(answers)
    if answers.resolve() == kit.resolve():
        raise ValueError(f"{answers} is the kit itself; name the folder that the port wrote into")
    if not answers.is_dir():
        raise ValueError(f"there is no folder {answers}; name the one that the port wrote into")
    verdicts = []
    for check, entry in _index(kit)["checks"].items():
        expected = _expected(kit / entry["file"], entry["arrays"])
        path = answers / f"{check}.safetensors"
        got = _read(path, "have the port write it again") if path.exists() else {}
        verdicts += [
            _verdict(check, name, fact, expected[name], got.get(name))
            for name, fact in entry["arrays"].items()
            if "rule" in fact
        ]
    return verdicts


def table(verdicts: list[Verdict]) -> str:
    """The verdicts as a table: a line per check, with its worst array, then what is missing and what is wrong."""
    lines = [f"{'check':16} {'ok':>7}  {'error':>8} {'tolerance':>9}  worst array"]
    for check in dict.fromkeys(one.check for one in verdicts):
        some = [one for one in verdicts if one.check == check]
        worst = max(some, key=_badness)
        passed = f"{sum(one.verdict == 'ok' for one in some)}/{len(some)}"
        lines.append(
            f"{check:16} {passed:>7}  {worst.error:8.1e} {worst.tolerance:9.0e}  {worst.array}"
        )
    missing = [one for one in verdicts if one.verdict == "missing"]
    for check in dict.fromkeys(one.check for one in missing):
        names = [one.array for one in missing if one.check == check]
        lines.append(f"missing: {len(names)} of {check}, {names[0]} the first")
    wrong = [one for one in verdicts if one.verdict not in ("ok", "missing")]
    lines += [
        f"{one.verdict}: {one.check} {one.array}, error {one.error:.2g}, tolerance {one.tolerance:.0e}"
        for one in wrong
    ]
    failed = len(missing) + len(wrong)
    return "\n".join(
        [*lines, f"{failed} of {len(verdicts)} arrays are not ok" if failed else "all is ok"]
    )


def _badness(one: Verdict) -> float:
    return one.error / one.tolerance if one.tolerance else one.error * np.inf if one.error else 0


def _verdict(check: str, name: str, fact: dict, expected: np.ndarray, got) -> Verdict:
    precision = "float64" if got is None else str(got.dtype)
    tolerances = fact.get("tolerance", {"float64": 0.0, "float32": 0.0})
    tolerance = tolerances.get(precision, tolerances["float64"])
    if got is None or (precision == "float32" and precision not in tolerances):
        return Verdict(check, name, np.inf, tolerance, "missing")
    real = expected.dtype.kind == "f"
    right = precision in ("float32", "float64") if real else got.dtype.kind in "uib"
    if got.shape != expected.shape or not right:
        return Verdict(check, name, np.inf, tolerance, "wrong shape")
    error = RULES[fact["rule"]](got, expected)
    return Verdict(check, name, error, tolerance, "ok" if error <= tolerance else "over")


def _index(kit: Path) -> dict:
    path = kit / "index.json"
    fix = "write the kit again (trizoo kit)"
    try:
        index = read_json(path, {"format?": object}, fix)
    except FileNotFoundError as error:
        raise ValueError(str(error)) from None
    if index.get("format") != FORMAT:
        raise ValueError(f"{path} does not say that its format is {FORMAT!r}; {fix}")
    array = {
        "dtype": str,
        "shape": [int],
        "axes": str,
        "what": str,
        "rule?": str,
        "tolerance?": {str: float},
    }
    index = read_json(path, {"checks": {str: {"file": str, "arrays": {str: array}}}}, fix)
    arrays = [fact for entry in index["checks"].values() for fact in entry["arrays"].values()]
    if strange := {fact.get("rule", "exact") for fact in arrays} - RULES.keys():
        raise ValueError(f"{path} names the rule {min(strange)}, which is none; {fix}")
    if index["checks"].keys() != CHECKS.keys():
        raise ValueError(f"{path} does not have the checks {', '.join(CHECKS)}; {fix}")
    return index


def _expected(path: Path, facts: dict) -> dict[str, np.ndarray]:
    """The arrays of a file of the kit; ValueError where they are not as index.json has them."""
    arrays = _read(path, "write the kit again")
    for name, fact in facts.items():
        found = arrays.get(name)
        if found is None or [*found.shape] != fact["shape"] or str(found.dtype) != fact["dtype"]:
            raise ValueError(f"{path} has no {name} as index.json has it; write the kit again")
    return arrays


def _read(path: Path, fix: str) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, "numpy") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            strange = [
                kind for kind in kinds.values() if kind.startswith(("BF", "F8_", "F6_", "F4"))
            ]
            arrays = {} if strange else {name: file.get_tensor(name) for name in kinds}
    except Exception as error:  # the library has no error class of its own for every kind of damage
        raise ValueError(f"{path} is not a whole safetensors file ({error}); {fix}") from error
    if strange:
        raise ValueError(
            f"{path} holds numbers of the type {strange[0]}; write them as float32 or float64"
        )
    return arrays
