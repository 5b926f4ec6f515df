"""`trizoo catalogue`: write the posterior table of a finished run in other formats, without a framework."""

from pathlib import Path

import pyarrow.parquet as pq

from shared.output.formats import check_formats, convert
from shared.run.spec import RunSpec


def catalogue(run: RunSpec, folder: Path) -> dict:
    """Write the table of run.run in each of posterior.format; ValueError if it has none, or one cannot be written."""
    if run.run is None:
        raise ValueError(
            "run is null; name the folder of a finished fit or predict: run=outputs/fit/NAME"
        )
    source = Path(run.run)
    source = source / "posterior.parquet" if source.is_dir() else source
    if not source.is_file():
        raise ValueError(
            f"there is no {source}; run needs the folder of a finished fit or predict, or its posterior.parquet"
        )
    places = [name for name in ("id", "ra", "dec") if name in pq.read_schema(source).names]
    galaxies = pq.read_table(source, columns=places).to_pandas()
    check_formats(run.posterior.format, galaxies)
    written = convert(source, folder, run.posterior.format, run.posterior.columns)
    results = {
        "galaxies": len(galaxies),
        "files": [path.name for path in written],
        "summary": f"{len(galaxies)} galaxies: {', '.join(map(str, written))}",
    }
    return {"where": {}, "results": results}
