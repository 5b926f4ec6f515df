"""`trizoo prepare`: read images and votes into a store."""

import resource
import time
from pathlib import Path

from shared.data.prepare import prepare as prepare_store
from shared.data.store import verify
from shared.run.spec import RunSpec


def prepare(run: RunSpec, folder: Path) -> dict:
    """Make the store of a dataset, and check every byte of it."""
    begun = time.perf_counter()
    store = prepare_store(run.dataset)
    seconds = time.perf_counter() - begun
    verify(store.folder)
    left_out = len(store.source["skipped"])
    results = {
        "store": str(store.folder),
        "galaxies": len(store.galaxies),
        "skipped": store.source["skipped"],
        "source": store.source["source"],
        "bytes": sum(path.stat().st_size for path in store.folder.iterdir() if path.is_file()),
        "seconds": seconds,
        "peak_memory_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "summary": f"{len(store.galaxies)} galaxies in {store.folder}, {left_out} left out",
    }
    return {"where": {}, "results": results}
