"""Dieleman's views of a galaxy as places of pixels: an image turned, and corners, mirrored and turned by quarters."""

from functools import cache

import numpy as np


@cache
def places(side: int, part: int) -> np.ndarray:
    """Which pixels (view, y, x) of an upright and a turned image, one after the other, make up the 16 views.

    The four corners of a square, turned by quarters until the centre lies in the lower right of each.
    """
    found = []
    for number in range(2):
        square = number * side * side + np.arange(side * side).reshape(side, side)
        for way in (square, square[:, ::-1]):
            found += [np.rot90(way, turns)[:part, :part] for turns in range(4)]
    return np.stack(found)


@cache
def taps(side: int, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """The four pixels (tap, pixel), and their shares, whose sum each pixel of an image is when it is turned.

    Bilinear, about the centre; beyond the image its nearest pixel.
    """
    angle, middle = np.deg2rad(degrees), (side - 1) / 2
    y, x = np.indices((side, side)).reshape(2, -1) - middle
    rows = np.cos(angle) * y - np.sin(angle) * x + middle
    columns = np.sin(angle) * y + np.cos(angle) * x + middle
    index, share = [], []
    for down in (0, 1):
        for right in (0, 1):
            top, left = np.floor(rows), np.floor(columns)
            place = [np.clip(one, 0, side - 1).astype(int) for one in (top + down, left + right)]
            index.append(place[0] * side + place[1])
            weight = np.abs(1 - down - (rows - top)) * np.abs(1 - right - (columns - left))
            share.append(weight)
    return np.stack(index), np.stack(share)
