"""A cheap look at places where faces are expected, between two looks at the whole picture, and after such a look.

The places are cut out and put side by side into one small picture, so that one run of a small network serves four of
them. Of fewer faces it shows several views each, mirrored or turned: what it says of their landmarks differs, and the
median is nearer to the truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edge.blazeface import BlazeFace, Floats, Image
from edge.events import Box
from edge.faces import LEFT_EYE, RIGHT_EYE, Face, shrunk_patch

#: Side of what is looked at, in multiples of the face's size: around a face that was just found …
CLOSE = 1.5
#: … and where one is expected, which may have moved.
WIDE = 1.65
#: By how much a face may be larger or smaller than expected: what is much smaller is often an ear.
CHANGE = 1.8
#: So many views fit into one small picture.
AT_ONCE = 4
#: Faces found twice, in several views or in places that overlap, share this much of the smaller one's area.
SAME = 0.5
#: How a place is shown if there is room for so many views of it: mirrored or not, and turned by so many degrees.
VIEWS = {1: ((False, 0),), 2: ((False, 0), (True, 0)), 4: ((False, -4), (True, -4), (False, 4), (True, 4))}
#: The order of the landmarks in a mirrored face.
MIRRORED = (1, 0, 2, 3, 5, 4)


@dataclass(frozen=True)
class _Place:
    """A square of the picture that is looked at.

    Attributes:
        x: of its middle, pixels.
        y: of its middle, pixels.
        side: pixels.
        margin: its side in multiples of the face's size.
        roll: how far the head is tilted, degrees.
    """

    x: float
    y: float
    side: float
    margin: float
    roll: float = 0.0


@dataclass(frozen=True)
class _View:
    """A tile of the small picture: left, top and side in its pixels, and what it shows.

    Attributes:
        place: that it shows.
        transform: float32 (2, 3), from the picture to the tile before it is mirrored.
        mirrored: whether it is.
    """

    x: int
    y: int
    size: int
    place: _Place
    transform: Floats
    mirrored: bool


class RegionDetector:
    """BlazeFace "short" on places where faces are expected. One per thread.

    Args:
        threshold: least confidence of a detection, 0–1.
    """

    def __init__(self, threshold: float) -> None:
        self._find = BlazeFace.short(threshold)

    def __call__(self, image: Image, expected: Sequence[Box]) -> list[Face]:
        """Find faces of a BGR or grey picture near the boxes expected, in fractions of it; largest first."""
        height, width = image.shape[:2]
        places = [
            _place((box.x * width, box.y * height, box.width * width, box.height * height), WIDE) for box in expected
        ]
        found: list[Face] = []
        for first in range(0, len(places), AT_ONCE):
            some = places[first : first + AT_ONCE]
            found += _merged(self._look(image, some), least=_each(len(some)) // 2)
        return _merged(found)

    def refined(self, image: Image, faces: Sequence[Face]) -> list[Face]:
        """Look again at faces found in the picture, upright and large: the same faces with better landmarks."""
        refined = []
        for first in range(0, len(faces), AT_ONCE):
            some = faces[first : first + AT_ONCE]
            seen = self._look(image, [_place(face.box, CLOSE, _roll(face)) for face in some])
            refined += [_replaced(face, [view for view in seen if _shared(view, face) > SAME]) for face in some]
        return refined

    def runs(self, places: int) -> int:
        """Return how often the network runs for so many places."""
        return math.ceil(places / AT_ONCE)

    def _look(self, image: Image, places: Sequence[_Place]) -> list[Face]:
        """Return what is seen in all views of four places at most, the same face several times."""
        canvas = np.zeros((self._find.side, self._find.side, 3), np.uint8)
        views = _views(places, self._find.side // 2)
        for view in views:
            _draw(canvas, image, view)
        return [
            _face(confidence, values, view)
            for confidence, values in self._find(canvas)
            for view in views
            if _holds(view, values)
        ]


def _place(box: tuple[float, float, float, float], margin: float, roll: float = 0.0) -> _Place:
    x, y, width, height = box
    return _Place(x + width / 2, y + height / 2, max(4.0, margin * max(width, height)), margin, roll)


def _roll(face: Face) -> float:
    left, top = face.landmarks[LEFT_EYE].tolist()
    right, bottom = face.landmarks[RIGHT_EYE].tolist()
    return math.degrees(math.atan2(bottom - top, right - left))


def _each(places: int) -> int:
    """Return how many views of each of so many places there are."""
    return {1: 4, 2: 2}.get(places, 1)


def _views(places: Sequence[_Place], size: int) -> list[_View]:
    """Share the four tiles of the small picture, each `size` pixels wide and high, among one to four places."""
    each = VIEWS[_each(len(places))]
    shown = [(place, mirrored, turn) for place in places for mirrored, turn in each]
    return [
        _View(number % 2 * size, number // 2 * size, size, place, _transform(place, turn, size), mirrored)
        for number, (place, mirrored, turn) in enumerate(shown)
    ]


def _transform(place: _Place, turn: float, size: int) -> Floats:
    """Return the transform that shows a place upright, but turned by so many degrees, in a tile."""
    scale = size / place.side
    angle = math.radians(place.roll + turn)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    # Pixel centres are at integer coordinates, hence the half pixels.
    middle, x, y = (size - 1) / 2, place.x - 0.5, place.y - 0.5
    return np.array([[cos, sin, middle - cos * x - sin * y], [-sin, cos, middle + sin * x - cos * y]], np.float32)


def _draw(canvas: Image, image: Image, view: _View) -> None:
    """Draw a view; what lies outside of the picture stays black."""
    patch, transform = shrunk_patch(image, view.transform, view.size)
    tile = np.asarray(cv2.warpAffine(patch, transform, (view.size, view.size), flags=cv2.INTER_LINEAR), np.uint8)
    colours = cv2.cvtColor(tile, cv2.COLOR_GRAY2RGB if tile.ndim == 2 else cv2.COLOR_BGR2RGB)
    canvas[view.y : view.y + view.size, view.x : view.x + view.size] = colours[:, ::-1] if view.mirrored else colours


def _holds(view: _View, values: Floats) -> bool:
    """Tell whether a detection lies in a view and is about as large as what is expected there."""
    inside = view.x <= values[0] < view.x + view.size and view.y <= values[1] < view.y + view.size
    change = values[3] * view.place.margin / view.size
    return bool(inside and 1 / CHANGE < change < CHANGE)


def _face(confidence: float, values: Floats, view: _View) -> Face:
    """Bring a detection back into the picture; its box stays upright."""
    points = np.vstack([values[:2], values[4:].reshape(6, 2)]) - (view.x, view.y)
    if view.mirrored:
        points[:, 0] = view.size - 1 - points[:, 0]
        points[1:] = points[1:][list(MIRRORED)]
    (a, b, right), (c, d, down) = view.transform.tolist()
    area = a * d - b * c
    x, y = points[:, 0] - right, points[:, 1] - down
    points = np.stack([(d * x - b * y) / area, (a * y - c * x) / area], axis=1)
    width, height = (values[2:4] / math.sqrt(area)).tolist()
    left, top = points[0].tolist()
    return Face((left - width / 2, top - height / 2, width, height), confidence, points[1:].astype(np.float32))


def _merged(seen: Sequence[Face], least: int = 1) -> list[Face]:
    """Return each face that was seen so often, once, as most of its views show it; largest first."""
    rest = sorted(seen, key=lambda face: -face.confidence)
    faces = []
    while rest:
        alike = [_shared(rest[0], other) > SAME for other in rest[1:]]
        same = [rest[0], *(face for face, is_same in zip(rest[1:], alike, strict=True) if is_same)]
        if len(same) >= least:
            box = np.median([face.box for face in same], axis=0).tolist()
            faces.append(Face((box[0], box[1], box[2], box[3]), same[0].confidence, _landmarks(same)))
        rest = [face for face, is_same in zip(rest[1:], alike, strict=True) if not is_same]
    return sorted(faces, key=lambda face: face.box[2] * face.box[3], reverse=True)


def _replaced(face: Face, views: Sequence[Face]) -> Face:
    return Face(face.box, face.confidence, _landmarks([face, *views]))


def _landmarks(faces: Sequence[Face]) -> Floats:
    return np.asarray(np.median([face.landmarks for face in faces], axis=0), np.float32)


def _shared(one: Face, other: Face) -> float:
    """Return the area that two faces share, in multiples of the smaller one's."""
    left, top, width, height = one.box
    x, y, w, h = other.box
    across = min(left + width, x + w) - max(left, x)
    down = min(top + height, y + h) - max(top, y)
    return max(0.0, across) * max(0.0, down) / max(1e-6, min(width * height, w * h))
