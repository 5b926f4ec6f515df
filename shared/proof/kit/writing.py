"""The files of a kit."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save

from shared.network.model import model_of
from shared.network.network import to_json
from shared.proof.kit.arrays import Arrays, given, weight_axes
from shared.proof.kit.checks import CHECKS
from shared.proof.kit.fixtures import NETWORKS, Fixtures
from shared.run.records import write_json, write_whole
from shared.run.spec import ModelSpec

FORMAT = "trizoo conformance kit 3"
TEMPLATE = Path(__file__).with_name("readme.md")
WEIGHTS, LAYERS = "weights.safetensors", "networks.json"


def write_kit(folder: Path, seed: int = 0) -> None:
    """Write the kit of `seed`, and of nothing else, into `folder`.

    A safetensors file for each check has what goes in and what must come out, and another the weights; index.json says
    of each array what it is and how near an answer must be; networks.json has the networks' layers; README.md has
    every formula. All is computed by the specification, at 32 pixels.
    """
    folder, fixtures = Path(folder), Fixtures(seed)
    weights = {
        name: given(array, weight_axes(name), "a weight of the wide network")
        for name, array in fixtures.wide.items()
    }
    _write_arrays(folder / WEIGHTS, weights)
    checks = {}
    for name, (section, compute) in CHECKS.items():
        arrays, file = compute(fixtures), f"{name}.safetensors"
        _write_arrays(folder / file, arrays)
        checks[name] = {"section": section, "file": file, "arrays": _facts(arrays)}
    index = {
        "format": FORMAT,
        "seed": seed,
        "networks": LAYERS,
        "weights": {"file": WEIGHTS, "arrays": _facts(weights)},
        "checks": checks,
    }
    write_json(folder / LAYERS, {name: layers(spec) for name, spec in NETWORKS.items()})
    text = TEMPLATE.read_text(encoding="utf-8") + _tables(index)
    write_whole(
        folder / "README.md", lambda beside: beside.write_text(text, encoding="utf-8", newline="\n")
    )
    write_json(folder / "index.json", index)


def layers(spec: ModelSpec) -> dict:
    """The network of `spec` as plain data: the shape of its image, and the layers of its two parts."""
    model = model_of(spec)
    return {
        "image": list(model.image),
        "encoder": to_json(model.encoder),
        "head": to_json(model.head),
    }


def _write_arrays(path: Path, arrays: Arrays) -> None:
    values = {name: np.ascontiguousarray(array.values) for name, array in arrays.items()}
    data = save(values)
    write_whole(path, lambda beside: beside.write_bytes(data))


def _facts(arrays: Arrays) -> dict:
    """The entry of each array in index.json."""
    facts = {}
    for name, array in arrays.items():
        facts[name] = {
            "dtype": str(array.values.dtype),
            "shape": list(array.values.shape),
            "axes": array.axes,
            "what": array.what,
        }
        if array.rule:
            facts[name] |= {"rule": array.rule}
        if array.tolerances:
            facts[name] |= {"tolerance": array.tolerances}
    return facts


def _tables(index: dict) -> str:
    """The arrays of every file, as the last part of the README."""
    lines = []
    for part in (index["weights"], *index["checks"].values()):
        lines += ["", f"### {part['file']}", ""]
        lines += [
            "| array | dtype | shape | axes | what | tolerance |",
            "|---|---|---|---|---|---|",
        ]
        for name, fact in part["arrays"].items():
            shape = " x ".join(map(str, fact["shape"]))
            cells = (f"`{name}`", fact["dtype"], shape, fact["axes"], fact["what"], _allowed(fact))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _allowed(fact: dict) -> str:
    """How an array is compared, in a cell of the table."""
    rule = fact.get("rule", "given")
    bounds = ", ".join(
        f"{value:g} in {dtype}" for dtype, value in fact.get("tolerance", {}).items()
    )
    return f"{rule}: {bounds}" if bounds else rule
