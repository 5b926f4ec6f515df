"""A run that is done, for Python: its record and its table of posteriors, read from its folder."""

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from shared.run.records import read_record

if TYPE_CHECKING:
    import pandas as pd


class Run(os.PathLike):
    """A finished run: what it left in its folder.

    It stands for its folder wherever a path does: `weights=run`, `Path(run)`. `Run("outputs/fit/NAME")` opens an
    earlier one. Everything is read when it is first asked for.
    """

    __module__ = "trizoo"

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder: Path = Path(folder).absolute()
        self._paths_from = Path.cwd()  # where the record's relative paths begin
        if not (self.folder / "run.json").is_file():
            raise FileNotFoundError(
                f"there is no run in {folder}: it has no run.json; give a run's folder"
            )

    def __fspath__(self) -> str:
        here = Path.cwd()
        inside = self.folder.is_relative_to(here)
        return str(self.folder.relative_to(here) if inside else self.folder)

    def __repr__(self) -> str:
        return f"trizoo.Run({os.fspath(self)!r})"

    @cached_property
    def record(self) -> dict:
        """record.json: the settings ("run"), versions, the machine, and what was measured ("results").

        Raises FileNotFoundError for a run that is not done: that was stopped, or waits for volunteers.
        """
        return read_record(self.folder)

    @property
    def summary(self) -> str:
        """What the run printed at its end, in a line."""
        return self.record["results"].get("summary", "")

    @property
    def weights(self) -> Path:
        """The file of weights that the run left. Raises FileNotFoundError for one that leaves none."""
        return self._left("weights.safetensors", "fit leaves one; predict uses those it is given")

    @cached_property
    def posterior(self) -> "pd.DataFrame":
        """The table of posteriors, a row per galaxy.

        `.attrs["units"]` has each column's unit ("" for a pure number or a text), `.attrs["descriptions"]` what it
        holds, and `.attrs["about"]` the question, the method and what else the file says of itself.
        Raises FileNotFoundError for a run that leaves none.
        """
        path = self._left("posterior.parquet", "fit and predict leave one")
        from shared.output.columns import describe_columns
        from shared.output.posterior import read_facts, read_posterior

        table = read_posterior(path)
        columns = describe_columns(table)
        table.attrs["units"] = {name: column.unit for name, column in columns.items()}
        table.attrs["descriptions"] = {name: column.description for name, column in columns.items()}
        table.attrs["about"] = read_facts(path)
        return table

    @property
    def store(self) -> Path:
        """The folder of the images and votes that the run read."""
        results = self.record["results"]
        if "store" not in results:
            raise ValueError(
                f"{self.record['run']['task']['name']} reads no images; give another run"
            )
        return self._paths_from / results["store"]

    def _left(self, name: str, who: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise FileNotFoundError(f"{self.folder} has no {name}; {who}")
        return path
