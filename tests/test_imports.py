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
    modules = ", ".join(f"shared.{path.stem}" for path in (ROOT / "shared").glob("[!_]*.py"))
    code = f"import sys, {modules}; print(*sys.modules.keys() & {FRAMEWORKS})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == ""
