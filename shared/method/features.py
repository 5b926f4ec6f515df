"""What a frozen encoder has made of a store's images, in their place: training, sampling and scoring take it alike."""

import numpy as np

from shared.method.batches import Cutouts


class Features(Cutouts):
    """Units of galaxies in place of their images: `features[rows]` is (..., unit).

    `size` is the width of the images that they were made of, by which views are drawn, though none is seen any more.
    """

    def __init__(self, units: np.ndarray, there: np.ndarray, size: int, contents: str | None):
        super().__init__(units, 1, contents)
        self.there, self.size = there, size  # (galaxy,): whether its units have been computed

    @property
    def nbytes(self) -> int:
        """The bytes of all units."""
        return self.images.nbytes

    def _read(self, rows) -> np.ndarray:
        # a slice is asked for by a device that keeps all, which then gives those that were asked for
        if not isinstance(rows, slice) and not self.there[rows].all():
            raise IndexError("features are asked for of galaxies that were not embedded")
        return self.images[rows]


class MemberFeatures:
    """Features for an ensemble whose members have encoders of their own: what is read is a list, one for each."""

    def __init__(self, members: list[Features]):
        self.members = members
        self.size, self.contents = members[0].size, members[0].contents

    def __len__(self) -> int:
        return len(self.members[0])

    def __getitem__(self, rows) -> list:
        return [one[rows] for one in self.members]

    def subset(self, rows: np.ndarray) -> list:
        """Units of `rows` for `Backend.sample` and the like, of every member."""
        return [one.subset(rows) for one in self.members]


def of_member(images, number: int):
    """What member `number` of an ensemble is given of images, or features: its own, where there are such."""
    if isinstance(images, MemberFeatures):
        return images.members[number]
    return images[number] if isinstance(images, list) else images
