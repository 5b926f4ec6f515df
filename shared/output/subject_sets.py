"""What volunteers are shown: a subject set's manifest and images, and its upload to Zooniverse."""

import csv
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from shared.data.store import Store
from shared.output.subject_images import STORE, subject_images
from shared.run.progress import say, track
from shared.run.records import read_json, write_folder, write_json
from shared.run.spec import DatasetSpec, ShowSpec
from shared.run.spreadsheet import as_csv, from_cell, to_cell

MANIFEST = "manifest.csv"
UPLOADED = "uploaded.json"
NOTE = {"project": int, "subject_set": (str, None), "subjects": {str: str}, "whole": bool}
IMAGE = "image"  # the manifest's columns
GALAXY = "!galaxy"
MOST_BYTES = 1_000_000  # of an image that Zooniverse takes
SURVEY = "https://www.legacysurvey.org/viewer?ra={ra:.6f}&dec={dec:.6f}&layer=ls-dr10&zoom=15"


def write_subject_set(
    store: Store,
    rows: Sequence[int] | np.ndarray,
    ids: Iterable,
    folder: Path,
    number: int,
    dataset: DatasetSpec | None = None,
    show: ShowSpec = STORE,
) -> Path:
    """The folder ask-NN in `folder`, of that `number`, with what volunteers are shown: `rows` (galaxy,) of `store` and
    their `ids` (galaxy,), in this order, as `show` says; their manifest says where they are and, of a `dataset`, under
    which licence.

    It appears whole or not at all, and is left alone if it is there. Raises ValueError if it is there and about other
    galaxies.
    """
    place, names = folder / f"ask-{number:02d}", [str(name) for name in ids]
    if len(names) != len(rows):
        raise ValueError(f"{len(names)} ids for {len(rows)} galaxies; give one each")
    _as_uploaded(names)
    if place.exists():
        if [row[GALAXY] for row in _manifest(place)] != [to_cell(name) for name in names]:
            raise ValueError(
                f"{place} asks about other galaxies than this run; give the run a folder of its own"
            )
        return place

    def fill(beside: Path) -> None:
        (beside / "images").mkdir()
        files, heavy = [""] * len(names), 0
        images = subject_images(store, rows, dataset, show)
        for order, data in track(images, "writing what volunteers see", len(names)):
            suffix = ".png" if data.startswith(b"\x89PNG") else ".jpg"
            files[order] = f"images/{order:05d}-{_safe(names[order])}{suffix}"
            (beside / files[order]).write_bytes(data)
            heavy += len(data) > MOST_BYTES
        if heavy:
            say(
                f"{heavy} of {len(names)} images have more than 1 MB, which Zooniverse refuses; set oracle.show.image="
                "source, or a lower oracle.show.width, and delete the folder"
            )
        table = pd.DataFrame({IMAGE: files, GALAXY: names}, dtype=object)
        about = (
            {} if dataset is None else _about(store.galaxies.iloc[list(map(int, rows))], dataset)
        )
        (beside / MANIFEST).write_bytes(as_csv(table.assign(**about)))

    return write_folder(place, fill)


def _about(galaxies: pd.DataFrame, dataset: DatasetSpec) -> dict[str, list[str]]:
    """Further columns of a manifest of `galaxies`, which volunteers see where they talk about one, as far as known."""
    known = np.isfinite(galaxies[["ra", "dec"]].to_numpy(np.float64)).all(1)
    columns = {}
    if known.any():
        places = list(zip(galaxies["ra"], galaxies["dec"], known, strict=True))
        columns["!ra"] = [f"{ra:.7f}" if some else "" for ra, _, some in places]
        columns["!dec"] = [f"{dec:.7f}" if some else "" for _, dec, some in places]
        columns["!survey"] = [
            SURVEY.format(ra=ra, dec=dec) if some else "" for ra, dec, some in places
        ]
    if dataset.licence is not None:
        columns["!licence"] = [dataset.licence] * len(galaxies)
    return columns


def upload(asked: Path, project: int) -> str:
    """The subject set of Zooniverse's `project` that holds what is in the folder `asked`, uploaded now unless it is
    there.

    The account is that of the environment's PANOPTES_USERNAME and PANOPTES_PASSWORD. uploaded.json notes each galaxy as
    it arrives, so that an upload which was stopped goes on. Raises ValueError if the client is not installed, the
    account not named, or the upload stopped.
    """
    note = {"project": project, "subject_set": None, "subjects": {}, "whole": False}
    if (asked / UPLOADED).exists():
        note = read_json(asked / UPLOADED, NOTE, "delete it to upload the folder again")
    if note["project"] != project:
        raise ValueError(
            f"{asked} was uploaded to project {note['project']}, not {project}; set oracle.project back, or delete "
            f"{asked / UPLOADED} to upload it again"
        )
    if not note["whole"]:
        _send(asked, note)
    return note["subject_set"]


def _send(asked: Path, note: dict) -> None:
    try:
        import panoptes_client
    except ImportError as problem:
        raise ValueError(
            f"uploading {asked} needs Zooniverse's client, which is not there ({problem}); pip install "
            "'trizoo[volunteers]', or set oracle.project=null and upload the folder by hand"
        ) from problem
    account = [os.environ.get(f"PANOPTES_{name}") for name in ("USERNAME", "PASSWORD")]
    if not all(account):
        raise ValueError(
            f"uploading {asked} needs a Zooniverse account; set the environment variables PANOPTES_USERNAME and "
            "PANOPTES_PASSWORD, or oracle.project=null and upload the folder by hand"
        )
    rows = _manifest(asked)
    try:
        client = panoptes_client.Panoptes(username=account[0], password=account[1])
        try:
            with client:
                _send_rows(panoptes_client, asked, rows, note)
        finally:
            client.session.close()
    except (panoptes_client.panoptes.PanoptesAPIException, OSError) as problem:
        raise ValueError(
            f"the upload of {asked} stopped after {len(note['subjects'])} of {len(rows)} galaxies: {problem}; the same "
            "command goes on from there"
        ) from problem


def _send_rows(service: Any, asked: Path, rows: list[dict[str, str]], note: dict) -> None:
    class Subject(service.Subject):
        """One that knows whether its image arrived, which the client does not report."""

        lost = False

        def _upload_media(self, *what):
            self.lost = True
            arrived = super()._upload_media(*what)
            self.lost = False
            return arrived

    if note["subject_set"] is None:
        subject_set = service.SubjectSet()
        subject_set.links.project = note["project"]
        subject_set.display_name = f"{asked.resolve().parent.name} {asked.name}"
        subject_set.save()
        note["subject_set"] = str(subject_set.id)
        write_json(asked / UPLOADED, note)
    left = [row for row in rows if row[GALAXY] not in note["subjects"]]
    for row in track(left, f"uploading {asked.name}"):
        subject = Subject()
        subject.links.project = note["project"]
        subject.metadata.update(row)
        subject.add_location(str(asked / row[IMAGE]))
        subject.save()
        if subject.lost:
            raise OSError(f"the image of {row[GALAXY]} did not arrive")
        note["subjects"][row[GALAXY]] = str(subject.id)
        write_json(asked / UPLOADED, note)
    subjects = [note["subjects"][row[GALAXY]] for row in rows]
    service.SubjectSet.find(note["subject_set"]).add(subjects)  # passes over those it has
    note["whole"] = True
    write_json(asked / UPLOADED, note)


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:60]


def _manifest(asked: Path) -> list[dict[str, str]]:
    with (asked / MANIFEST).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def asked_galaxies(folder: Path) -> dict[str, str]:
    """The id of every galaxy that was asked about, in order, by what a classification says of it."""
    return _as_uploaded([from_cell(row[GALAXY]) for row in _asked(folder)])


def asked_places(folder: Path) -> dict[str, tuple[float, float]]:
    """Right ascension and declination, in degrees, of every galaxy that was asked about, where manifests have them."""
    return {
        from_cell(row[GALAXY]): (float(row["!ra"]), float(row["!dec"]))
        for row in _asked(folder)
        if row.get("!ra") and row.get("!dec")
    }


def _asked(folder: Path) -> list[dict[str, str]]:
    asks = sorted(folder.glob("ask-*"), key=lambda asked: (len(asked.name), asked.name))
    return [row for asked in asks for row in _manifest(asked)]


def _as_uploaded(names: Sequence[str]) -> dict[str, str]:
    """Each of `names` by what it is once uploaded, which is its cell of the manifest, trimmed.

    Raises ValueError where that makes two of them one.
    """
    found: dict[str, str] = {}
    for name in names:
        if (first := found.setdefault(to_cell(name).strip(), name)) != name:
            raise ValueError(
                f"the ids {first!r} and {name!r} are the same but for spaces, which Zooniverse drops; give these "
                "galaxies ids that differ in more"
            )
    return found
