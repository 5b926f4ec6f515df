"""What pytest-benchmark's JSON says of the machine: what a record says, and nothing that names it."""

import pytest

from shared.records import host


@pytest.hookimpl
def pytest_benchmark_generate_machine_info():
    """The same facts as in every record."""
    facts = host()
    facts.pop("commit")
    return facts


@pytest.hookimpl
def pytest_benchmark_generate_commit_info():
    """The commit alone: neither author nor project."""
    return {"id": host()["commit"]}
