"""`trizoo conform`: how far a framework, or another program's answers, are from the specification."""

from pathlib import Path

from shared.method.backend import open_backend
from shared.proof.conformance import run_checks, suite
from shared.run.spec import RunSpec


def conform(run: RunSpec, folder: Path) -> dict:
    """How far the run's backend, or another program's answers to a kit, are from the specification."""
    if run.conform.kit is not None:
        return _conform_kit(run)
    verdicts = run_checks(run)
    print(suite(verdicts), flush=True)
    over = [verdict.check for verdict in verdicts if verdict.verdict != "ok"]
    backend = open_backend(run.backend)
    results = {
        "checks": [verdict._asdict() for verdict in verdicts],
        "seconds": sum(verdict.seconds for verdict in verdicts),
        "summary": f"{len(verdicts) - len(over)} of {len(verdicts)} checks of {run.backend.name} in "
        f"{run.backend.precision} are within their tolerance"
        + (f"; not {', '.join(over)}" if over else ""),
    }
    return {"where": backend.describe(), "results": results, "status": 1 if over else 0}


def _conform_kit(run: RunSpec) -> dict:
    from shared.proof.kit.checking import check_kit, table

    verdicts = check_kit(Path(run.conform.kit or ""), Path(run.conform.answers or ""))
    print(table(verdicts), flush=True)
    wrong = sum(verdict.verdict != "ok" for verdict in verdicts)
    results = {
        "arrays": [  # in the words of the records that there are
            {
                "check": one.check,
                "array": one.array,
                "error": one.error,
                "tolerance": one.tolerance,
                "verdict": one.verdict,
            }
            for one in verdicts
        ],
        "summary": f"{len(verdicts) - wrong} of {len(verdicts)} arrays are as the specification has them",
    }
    return {"where": {}, "results": results, "status": 1 if wrong else 0}
