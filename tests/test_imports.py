"""Which package may import which."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FRAMEWORKS = {"tensorflow", "keras", "torch", "jax", "flax", "optax", "hydra", "omegaconf"}
OWN = {"trizoo", "shared", "impl_tf", "impl_torch", "impl_jax", "benchmarks", "reports", "tests"}


PEERS = ROOT / "benchmarks" / "programs"  # each imports its own library
CEILINGS = (
    ROOT / "benchmarks" / "ceilings.py"
)  # and this asks whoever is there for a matrix product


def imports(package, but=()):
    for path in (ROOT / package).rglob("*.py"):
        if path in but:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            if isinstance(node, ast.ImportFrom):
                yield package if node.level else node.module.split(".")[0]


@pytest.mark.parametrize(
    ("package", "frameworks", "own"),
    [
        ("shared", set(), {"shared"}),
        ("impl_tf", {"tensorflow", "keras"}, {"shared", "impl_tf"}),
        ("impl_torch", {"torch"}, {"shared", "impl_torch"}),
        ("impl_jax", {"jax", "flax"}, {"shared", "impl_jax"}),
        ("reports", set(), {"shared", "reports"}),
    ],
)
def test_who_imports_whom(package, frameworks, own):
    found = set(imports(package))
    assert found & FRAMEWORKS == frameworks
    assert found & OWN == own


def test_benchmarks_import_no_framework():
    but = {CEILINGS, *PEERS.glob("[!_]*.py")} - {PEERS / "ours.py"}
    assert not set(imports("benchmarks", but)) & FRAMEWORKS


def test_the_process_that_conducts_loads_no_framework():
    code = f"import sys, benchmarks.bench, benchmarks.ceilings; print(*sys.modules.keys() & {FRAMEWORKS})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == ""


def test_shared_loads_neither_framework_nor_hydra():
    modules = ", ".join(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "shared").rglob("[!_]*.py")
    )
    code = f"import sys, {modules}; print(*sys.modules.keys() & {FRAMEWORKS})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == ""


ROOMS = {  # which rooms of shared/ each may import from, beside itself
    "run": set(),
    "data": {"run"},
    "network": {"run"},
    "method": {"run", "data", "network"},
    "output": {"run", "data", "network", "method"},
    "proof": {"run", "data", "network", "method", "output"},
    "tasks": {"run", "data", "network", "method", "output", "proof"},
}


def modules(file):
    """The modules that a file imports, whole names; what its functions import too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_between_rooms_go_one_way(room):
    found = {
        f"{file.name}: {name}"
        for file in (ROOT / "shared" / room).rglob("*.py")
        for name in modules(file)
        if name.startswith("shared.") and name.split(".")[1] not in ROOMS[room] | {room}
    }
    assert not found


def test_every_file_of_shared_is_in_a_room():
    assert {path.name for path in (ROOT / "shared").glob("*.py")} == {"__init__.py"}
    rooms = {path.name for path in (ROOT / "shared").iterdir() if path.name[0] not in "_."}
    assert rooms == set(ROOMS)


def test_no_two_modules_import_each_other():
    """At the top of the file or in a function: a circle is one either way."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / "shared").rglob("*.py")
    }
    wanted = {}
    for name, path in files.items():
        found = {n if n in files else n.rpartition(".")[0] for n in modules(path)}
        wanted[name] = (found & files.keys()) - {name}
    left = dict(wanted)
    while ends := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in ends:
            del left[name]
    assert not left
