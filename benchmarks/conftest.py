"""What pytest-benchmark's JSON says of the machine: what a record says, and nothing that names it."""

import pytest

from shared.run.records import host


@pytest.hookimpl
def pytest_benchmark_generate_machine_info():
    """The machine's facts, as in every record."""
    facts = host()
    facts.pop("commit")
    return facts


@pytest.hookimpl
def pytest_benchmark_generate_commit_info():
    """The commit alone: neither author nor project."""
    return {"id": host()["commit"]}


@pytest.hookimpl
def pytest_benchmark_update_json(output_json):
    """The commit where the report looks for it, and none of the single times, which are thousands."""
    output_json["commit"] = host()["commit"]
    for one in output_json["benchmarks"]:
        one["stats"].pop("data", None)
