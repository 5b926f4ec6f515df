"""`trizoo kit`: write the conformance kit, what a port in any language must give."""

import time
from pathlib import Path

from shared.proof.kit.writing import write_kit
from shared.run.spec import RunSpec


def kit(run: RunSpec, folder: Path) -> dict:
    """Write the conformance kit of the run's seed into `folder`/kit."""
    begun, place = time.perf_counter(), folder / "kit"
    write_kit(place, run.seed)
    size = sum(path.stat().st_size for path in place.iterdir())
    results = {
        "kit": str(place),
        "bytes": size,
        "seconds": time.perf_counter() - begun,
        "summary": f"{size / 1e6:.1f} MB for ports to other languages: {place / 'README.md'}",
    }
    return {"where": {}, "results": results}
