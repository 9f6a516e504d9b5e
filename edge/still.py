"""Faces in a single picture, where there is time to look again if a first look finds none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from edge.faces import Face, Image

Find = Callable[[Image], Sequence[Face]]
#: Sides of the tiles of later looks, of the picture's longer side: the detector sees less at once, but larger.
TILES = (0.6, 0.35)
#: Tiles overlap by half, so that a face of up to half a tile is whole in one of them.
STEP = 0.5
#: Longer side at which a face that fills the picture is looked for, pixels.
ENOUGH = 512
#: Part of the picture's shorter side from which on a face fills it.
FILLS = 0.7
#: Part of the longer side that a window may take; the first look saw larger faces well enough.
LARGE = 0.5
#: Side of the window around a small face, of the face's.
WINDOW = 2.2
#: Least confidence of a face that fills the picture, and, in its window, of one that was found in a tile.
CERTAIN = 0.55
#: Two faces are one if the smaller lies so far inside the other.
INSIDE = 0.5


def find_faces(image: Image, find: Find) -> list[Face]:
    """Find the faces of a BGR or grey picture, largest first.

    The eyes of a face that fills the picture are found well only with room around it, so that look counts for such a
    face. Where nothing is found, the picture is looked at tile by tile, for small faces; their eyes are found well only
    in a window that a face takes a good part of.

    Args:
        image: uint8 (height, width, 3) or (height, width).
        find: the detector.
    """
    height, width = image.shape[:2]
    with_room = _with_room(image, find)
    if any(face.box[2] > FILLS * min(height, width) and face.confidence >= CERTAIN for face in with_room):
        return _sorted(_distinct([*with_room, *find(image)]))
    at_once = list(find(image))
    if at_once:
        return _sorted([_looked_at_closely(face, image, find) or face for face in _distinct(at_once)])
    return _sorted(_in_tiles(image, find))


def _sorted(faces: list[Face]) -> list[Face]:
    return sorted(faces, key=_area, reverse=True)


def _in_tiles(image: Image, find: Find) -> list[Face]:
    height, width = image.shape[:2]
    for share in TILES:
        side = max(round(share * max(height, width)), 1)
        found = [
            _placed(face, left, top)
            for top in _starts(height, side)
            for left in _starts(width, side)
            for face in find(image[top : top + side, left : left + side])
        ]
        # So many looks see faces in bushes, but seldom twice and clearly.
        close = [_looked_at_closely(face, image, find) for face in _distinct(found)]
        certain = [face for face in close if face is not None and face.confidence >= CERTAIN]
        if certain:
            return certain
    return []


def _with_room(image: Image, find: Find) -> list[Face]:
    height, width = image.shape[:2]
    scale = min(1.0, ENOUGH / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    room = max(size) // 2
    wide = np.asarray(cv2.copyMakeBorder(small, room, room, room, room, cv2.BORDER_CONSTANT), np.uint8)
    return [_placed(face, -room, -room, 1 / scale) for face in find(wide)]


def _looked_at_closely(face: Face, image: Image, find: Find) -> Face | None:
    """Return a small face as it is found in a window around it, with its eyes more exactly; None if it is not."""
    height, width = image.shape[:2]
    left, top, across, down = face.box
    side = round(WINDOW * max(across, down))
    if side > max(height, width) * LARGE:
        return face
    x, y = (max(round(start - (side - length) / 2), 0) for start, length in ((left, across), (top, down)))
    window = image[y : y + side, x : x + side]
    again = [_placed(each, x, y) for each in find(window)] if window.size else []
    return max((each for each in again if _same(each, face)), key=lambda each: each.confidence, default=None)


def _starts(length: int, side: int) -> list[int]:
    """Return where tiles of `side` pixels begin so that they cover `length`."""
    beyond = max(length - side, 0)
    count = 1 + -(-beyond // max(round(side * STEP), 1))
    return [round(start) for start in np.linspace(0, beyond, count)]


def _placed(face: Face, x: int, y: int, scale: float = 1) -> Face:
    """Move a face, then enlarge the picture that it is in."""
    left, top, width, height = face.box
    box = ((left + x) * scale, (top + y) * scale, width * scale, height * scale)
    landmarks = (face.landmarks + np.array([x, y], np.float32)) * np.float32(scale)
    return replace(face, box=box, landmarks=landmarks)


def _distinct(faces: list[Face]) -> list[Face]:
    """Keep the most confident of those that neighbouring tiles found twice."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: face.confidence, reverse=True):
        if not any(_same(face, other) for other in kept):
            kept.append(face)
    return kept


def _same(one: Face, other: Face) -> bool:
    return _shared(one, other) >= INSIDE * min(_area(one), _area(other))


def _area(face: Face) -> float:
    return face.box[2] * face.box[3]


def _shared(one: Face, other: Face) -> float:
    (ax, ay, aw, ah), (bx, by, bw, bh) = one.box, other.box
    width = min(ax + aw, bx + bw) - max(ax, bx)
    height = min(ay + ah, by + bh) - max(ay, by)
    return max(width, 0) * max(height, 0)
