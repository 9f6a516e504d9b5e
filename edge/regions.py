"""A cheap look at where faces are expected, between two looks at the whole picture.

The expected places are cut out and put side by side into one small picture, so that one run of a small network serves
four faces.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edge.blazeface import BlazeFace, Floats, Image, fit
from edge.events import Box
from edge.faces import Face, face_from

#: Side of the place that is looked at, in multiples of the expected face's size.
MARGIN = 1.5
#: By how much a face may be larger or smaller than expected: what is much smaller is often an ear.
CHANGE = 1.8
#: So many places fit into one small picture.
AT_ONCE = 4
#: Faces found twice, in places that overlap, share this much of the smaller one's area.
SAME = 0.5


@dataclass(frozen=True)
class _Tile:
    """A square of the picture, left, top and side in pixels, and where in the small picture it is drawn."""

    left: int
    top: int
    side: int
    x: int
    y: int
    size: int


class RegionDetector:
    """BlazeFace "short" on places where faces are expected.

    Args:
        threshold: least confidence of a detection, 0–1.
    """

    def __init__(self, threshold: float) -> None:
        self._find = BlazeFace.short(threshold)

    def __call__(self, image: Image, expected: Sequence[Box]) -> list[Face]:
        """Find faces of a BGR or grey picture near the boxes expected, in fractions of it; largest first."""
        found: list[Face] = []
        for first in range(0, len(expected), AT_ONCE):
            found += self._look(image, expected[first : first + AT_ONCE])
        return _without_doubles(found)

    def runs(self, places: int) -> int:
        """Return how often the network runs for so many places."""
        return math.ceil(places / AT_ONCE)

    def _look(self, image: Image, expected: Sequence[Box]) -> list[Face]:
        """Look at four places at most."""
        canvas = np.zeros((self._find.side, self._find.side, 3), np.uint8)
        across = math.ceil(math.sqrt(len(expected)))
        size = self._find.side // across
        tiles = []
        for number, box in enumerate(expected):
            row, column = divmod(number, across)
            tile = _tile(image, box, column * size, row * size, size)
            _draw(canvas, image, tile)
            tiles.append(tile)
        faces = []
        for confidence, values in self._find(canvas):
            home = next((tile for tile in tiles if _holds(tile, values)), None)
            if home is not None:
                scale = home.size / home.side
                origin = (home.x - home.left * scale, home.y - home.top * scale)
                faces.append(face_from(confidence, values, scale, origin))
        return faces


def _tile(image: Image, box: Box, x: int, y: int, size: int) -> _Tile:
    height, width = image.shape[:2]
    side = max(4, round(MARGIN * max(box.width * width, box.height * height)))
    left = round((box.x + box.width / 2) * width - side / 2)
    top = round((box.y + box.height / 2) * height - side / 2)
    return _Tile(left, top, side, x, y, size)


def _draw(canvas: Image, image: Image, tile: _Tile) -> None:
    """Draw a tile; what lies outside of the picture stays black."""
    height, width = image.shape[:2]
    x0, x1 = np.clip((tile.left, tile.left + tile.side), 0, width)
    y0, y1 = np.clip((tile.top, tile.top + tile.side), 0, height)
    scale = tile.size / tile.side
    left, right = (tile.x + round((x - tile.left) * scale) for x in (x0, x1))
    top, bottom = (tile.y + round((y - tile.top) * scale) for y in (y0, y1))
    if right > left and bottom > top:
        canvas[top:bottom, left:right] = fit(_shrunk(image[y0:y1, x0:x1], tile), (right - left, bottom - top))


def _shrunk(part: Image, tile: _Tile) -> Image:
    """Bring a part of the picture near the size that it is drawn at.

    Four points of a large part stand for each of its drawn pixels: far cheaper than averaging all of them.
    """
    factor = tile.side / (2 * tile.size)
    if factor <= 1:
        return part
    size = (max(1, round(part.shape[1] / factor)), max(1, round(part.shape[0] / factor)))
    return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def _holds(tile: _Tile, values: Floats) -> bool:
    """Tell whether a detection lies in a tile and is about as large as what is expected there."""
    inside = tile.x <= values[0] < tile.x + tile.size and tile.y <= values[1] < tile.y + tile.size
    change = values[3] * MARGIN / tile.size
    return bool(inside and 1 / CHANGE < change < CHANGE)


def _without_doubles(faces: Sequence[Face]) -> list[Face]:
    """Return faces, largest first, of which no two are one; the more confident is kept."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.confidence):
        if not any(_shared(face, other) > SAME for other in kept):
            kept.append(face)
    return sorted(kept, key=lambda face: face.box[2] * face.box[3], reverse=True)


def _shared(one: Face, other: Face) -> float:
    """Return the area that two faces share, in multiples of the smaller one's."""
    left, top, width, height = one.box
    x, y, w, h = other.box
    across = min(left + width, x + w) - max(left, x)
    down = min(top + height, y + h) - max(top, y)
    return max(0.0, across) * max(0.0, down) / max(1e-6, min(width * height, w * h))
