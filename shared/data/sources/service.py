"""Images from an address: a cutout service, or any server that keeps one image per galaxy.

Each image is fetched once, checked, and kept as it came in a folder of downloads, whose
manifest.jsonl has a line for each (address, file, bytes, sha256, when, after how many attempts);
what could not be had is listed in missing.jsonl and asked for again by the next run. A kill at any
moment loses the requests under way and nothing else.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from string import Formatter
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pandas as pd

from shared.data.sources.downloads import Download, kept_images, sole_fetcher, stem
from shared.data.sources.fetch import Fetch
from shared.data.sources.images import Loaded
from shared.run.spec import DatasetSpec, digest

PLACES = ("id", "file", "ra", "dec", "scale", "width")  # what an address may hold in braces


def open_service(dataset: DatasetSpec) -> "Service":
    """The images at the addresses that dataset.images, a template, makes of each galaxy.

    Raises ValueError for an address that is none, holds anything in braces but PLACES, or nothing
    that tells galaxies apart.
    """
    address, contact = str(dataset.images), dataset.service.contact or ""
    try:
        parts = list(Formatter().parse(address))
        host = urlsplit(address).hostname
    except ValueError as problem:
        raise ValueError(f"dataset.images is {address}: {problem}") from None
    if not address.startswith(("http://", "https://")) or not host:
        raise ValueError(
            f"dataset.images is {address}; an address starts with http:// or https:// and a host"
        )
    held = {name for _, name, _, _ in parts if name is not None}
    if strange := held - set(PLACES):
        raise ValueError(
            f"dataset.images holds {{{min(strange)}}}; an address may hold "
            + ", ".join(f"{{{place}}}" for place in PLACES)
        )
    if any(form or conversion for _, _, form, conversion in parts):
        raise ValueError(
            f"dataset.images is {address}; write {{ra}}, without a format: digits are chosen here"
        )
    if not held & {"id", "file"} and not held >= {"ra", "dec"}:
        raise ValueError(
            f"dataset.images is {address}, one image for all; it must hold {{id}}, {{file}}, or "
            "{ra} and {dec}"
        )
    for place in ("ra", "dec"):
        if place in held and getattr(dataset.columns, place) is None:
            raise ValueError(
                f"dataset.images holds {{{place}}}, but dataset.columns.{place} is null; name the "
                "column of the table that has it, in degrees"
            )
    if not (contact.isascii() and contact.isprintable()):
        raise ValueError(
            f"dataset.service.contact is {contact!r}; it must be one line of ASCII, e.g. an e-mail "
            "address"
        )
    return Service(dataset, frozenset(held))


@dataclass(frozen=True)
class Service:
    """A Source: what each address gives, and the folder that keeps it."""

    dataset: DatasetSpec
    held: frozenset[str]  # those of PLACES in the address

    @property
    def folder(self) -> Path:
        """The downloads of this address and width."""
        where = Path(self.dataset.service.downloads)
        return where / f"{self.dataset.name}-{digest(self.identity())}"

    def identity(self) -> Any:
        """The template of the addresses and the width of the images."""
        return [self.dataset.images, self.dataset.service.width]

    def changed_since(self, moment: int) -> list[str]:
        """None: downloads have checksums."""
        return []

    def about(self) -> dict[str, Any]:
        """Where the images come from, and where they are kept."""
        return {
            "kind": "service",
            "where": self.dataset.images,
            "width": self.dataset.service.width,
            "downloads": str(self.folder),
        }

    def table(self) -> None:
        """No table comes with the images."""

    def names(self) -> list[str]:
        """Raises ValueError: a service cannot list its images."""
        raise ValueError(
            f"{self.dataset.images} cannot list its images; name a table of galaxies in "
            "dataset.table"
        )

    def find(self, galaxies: pd.DataFrame) -> list[str | None]:
        """The address of each of `galaxies`; None where its position or scale is unknown.

        Positions have 7 decimals (0.4 milliarcseconds), scales 6 digits.
        """
        write = {"id": _quoted, "file": _path, "ra": _degrees, "dec": _degrees, "scale": _scale}
        wanted = [place for place in PLACES if place in self.held and place != "width"]
        columns = [[write[place](value) for value in galaxies[place]] for place in wanted]
        width = self.dataset.service.width
        return [
            None
            if None in texts
            else str(self.dataset.images).format(
                **dict(zip(wanted, texts, strict=True)), width=width
            )
            for texts in zip(*columns, strict=True)
        ]

    def load(self, names: Sequence[str]) -> Iterator[Loaded]:
        """For each of `names`, addresses, its number and a function that gives the bytes as they came.

        Those that are there come first; meanwhile the others are fetched. A function raises
        FileNotFoundError for an image that could not be had, ValueError for a download that has
        changed. Closing the iterator ends the fetching.

        Raises ConnectionError if the service seems to be down or wants to be left alone, ValueError
        if another process is fetching into the same folder.
        """
        wanted: dict[str, list[int]] = {}
        for number, address in enumerate(names):
            wanted.setdefault(address, []).append(number)
        with sole_fetcher(self.folder):
            kept = kept_images(self.folder)
            fetch = Fetch(self.dataset, self.folder, [a for a in wanted if stem(a) not in kept])
            try:
                fetch.start(wanted)
                for address, numbers in wanted.items():
                    if (image := kept.get(stem(address))) is not None:
                        fetch.check()
                        give = partial(_read, self.folder / image.file, image.sha256)
                        yield from ((number, give) for number in numbers)
                for address, outcome in fetch.outcomes():
                    if isinstance(outcome, Download):
                        give = partial(_read, self.folder / outcome.file, outcome.sha256)
                    else:
                        give = partial(_not_had, outcome)
                    yield from ((number, give) for number in wanted[address])
            finally:
                fetch.close()


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _path(text: str) -> str:
    return quote(text, safe="/")


def _degrees(value: float) -> str | None:
    return None if np.isnan(value) else f"{round(value, 7) + 0.0:.7f}"  # + 0.0: no -0.0000000


def _scale(value: float) -> str | None:
    if np.isnan(value):
        return None
    return np.format_float_positional(value, precision=6, fractional=False, trim="-")


def _read(path: Path, sha256: str) -> bytes:
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{path} has changed since it was fetched; delete it to fetch it again")
    return data


def _not_had(reason: str) -> bytes:
    raise FileNotFoundError(reason)
