"""A cheap look at places where faces are expected, between two looks at the whole picture, and after such a look.

The places are cut out and put side by side into one small picture, so that one run of a small network serves four of
them. Of fewer faces it shows several views each, mirrored or turned: what it says of their landmarks differs, and the
median is nearer to the truth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from edge.blazeface import BlazeFace, Floats, Image, common, iou
from edge.faces import LEFT_EYE, RIGHT_EYE, Face, shrunk_patch
from edge.tracking import Place

#: Side of what is looked at, in multiples of the face's size: around a face that was just found …
CLOSE = 1.5
#: … and where one is expected: so much more for each of its sizes that it moves, up to so much.
LOOSER, WIDE = 4.0, 1.8
#: By how much a face may be larger or smaller than expected: what is much smaller is often an ear.
CHANGE = 1.8
#: So many views fit into one small picture.
AT_ONCE = 4
#: Views show the same face from this intersection over union on …
SAME = 0.5
#: … and a recent face is where it was expected, so that its landmarks are, from this one on …
THERE = 0.7
#: … and places that overlap if the faces share this much of the smaller one's area.
DOUBLE = 0.5
#: So many faces of a whole picture are looked at again, the largest.
REFINED = 16
#: How a place is shown if there is room for so many views of it: turned by so many degrees, and mirrored or not.
VIEWS = {1: ((0, False),), 2: ((0, False), (0, True)), 4: ((-4, False), (-4, True), (4, False), (4, True))}
#: The order of the landmarks in a mirrored face.
MIRRORED = (1, 0, 2, 3, 5, 4)


@dataclass(frozen=True)
class _Square:
    """A square of the picture that is looked at.

    Attributes:
        x: of its middle, pixels.
        y: of its middle, pixels.
        side: pixels.
        margin: its side in multiples of the face's size.
        roll: how far the head is tilted, as far as is known, degrees: it is shown upright.
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
        square: that it shows.
        transform: float32 (2, 3), from the picture to the tile before it is mirrored.
        mirrored: whether it is.
        turn: float32 (2, 2), what points of the small picture are multiplied with, and …
        origin: … float32 (2,), what is added then, to get where they are in the picture.
    """

    x: int
    y: int
    size: int
    square: _Square
    transform: Floats
    mirrored: bool
    turn: Floats
    origin: Floats


class RegionDetector:
    """BlazeFace "short" on places where faces are expected. One per thread.

    Args:
        threshold: least confidence of a detection, 0–1.

    Attributes:
        runs: how often the network has run.
    """

    def __init__(self, threshold: float) -> None:
        self._find = BlazeFace.short(threshold)
        self.runs = 0

    def __call__(self, image: Image, places: Sequence[Place]) -> list[Face]:
        """Find faces of a BGR or grey picture where they are expected, largest first."""
        squares = [_expected(place, image) for place in places]
        found = []
        for number, views in enumerate(self._views(image, squares)):
            beside = min(len(places) - number // AT_ONCE * AT_ONCE, AT_ONCE)
            found += _merged(views, least=_each(beside) // 2)
        return _without_doubles(found)

    def refined(self, image: Image, faces: Sequence[Face], recent: Sequence[Face] = ()) -> list[Face]:
        """Look again at faces just found in the picture, largest first: the same with better landmarks.

        The first `REFINED` of them; the rest of a crowd is returned as it is. Those of `recent` need no look: their
        landmarks are taken.
        """
        pairs = [(face, _spared(face, recent)) for face in faces[:REFINED]]
        squares = [_square(face.box, CLOSE, _roll(face)) for face, spared in pairs if spared is None]
        seen = self._views(image, squares)
        refined = [spared or _steadied(face, next(seen)) for face, spared in pairs]
        return [*refined, *faces[REFINED:]]

    def _views(self, image: Image, squares: Sequence[_Square]) -> Iterator[list[Face]]:
        """Return for each square what is seen in its views, the same face up to four times."""
        for first in range(0, len(squares), AT_ONCE):
            some = squares[first : first + AT_ONCE]
            views = _tiles(some, self._find.side // 2)
            canvas = np.zeros((self._find.side, self._find.side, 3), np.uint8)
            _draw(canvas, image, views)
            self.runs += 1
            seen = [(view, _face(*face, view)) for face in self._find(canvas) if (view := _holder(face[1], views))]
            for square in some:
                yield [face for view, face in seen if view.square is square]


def _expected(place: Place, image: Image) -> _Square:
    height, width = image.shape[:2]
    box, margin = place.box, min(CLOSE + LOOSER * place.moved, WIDE)
    return _square((box.x * width, box.y * height, box.width * width, box.height * height), margin)


def _square(box: tuple[float, float, float, float], margin: float, roll: float = 0.0) -> _Square:
    x, y, width, height = box
    return _Square(x + width / 2, y + height / 2, max(4.0, margin * max(width, height)), margin, roll)


def _roll(face: Face) -> float:
    left, top = face.landmarks[LEFT_EYE].tolist()
    right, bottom = face.landmarks[RIGHT_EYE].tolist()
    return math.degrees(math.atan2(bottom - top, right - left))


def _each(squares: int) -> int:
    """Return how many views of each of one to four squares fit into the small picture."""
    return AT_ONCE // squares


def _tiles(squares: Sequence[_Square], size: int) -> list[_View]:
    """Share the four tiles of the small picture, each `size` pixels wide and high, among one to four squares."""
    shown = [(square, turn, mirrored) for square in squares for turn, mirrored in VIEWS[_each(len(squares))]]
    return [
        _view((number % 2 * size, number // 2 * size), size, square, _transform(square, turn, size), mirrored)
        for number, (square, turn, mirrored) in enumerate(shown)
    ]


def _view(corner: tuple[int, int], size: int, square: _Square, transform: Floats, mirrored: bool) -> _View:
    (a, b, right), (c, d, down) = transform.tolist()
    area = a * d - b * c
    # The network counts from the edges of pixels, and so do faces, but transforms from the middles: hence the halves.
    sign = -1 if mirrored else 1
    x, y = (size * mirrored - sign * corner[0]) - 0.5 - right, -corner[1] - 0.5 - down
    turn = [[d * sign / area, -c * sign / area], [-b / area, a / area]]
    origin = [(d * x - b * y) / area + 0.5, (a * y - c * x) / area + 0.5]
    return _View(*corner, size, square, transform, mirrored, np.array(turn, np.float32), np.array(origin, np.float32))


def _transform(square: _Square, turn: float, size: int) -> Floats:
    """Return the transform that shows a square upright, but turned by so many degrees, in a tile."""
    scale = size / square.side
    angle = math.radians(square.roll + turn)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    # Pixel centres are at integer coordinates, hence the half pixels.
    middle, x, y = (size - 1) / 2, square.x - 0.5, square.y - 0.5
    return np.array([[cos, sin, middle - cos * x - sin * y], [-sin, cos, middle + sin * x - cos * y]], np.float32)


def _draw(canvas: Image, image: Image, views: Sequence[_View]) -> None:
    """Draw views into the small picture; what lies outside of the picture stays black."""
    plain = np.zeros(0, np.uint8)
    for view in views:
        # A mirrored view follows the one that it mirrors.
        if not view.mirrored:
            patch, transform = shrunk_patch(image, view.transform, view.size)
            tile = np.asarray(
                cv2.warpAffine(patch, transform, (view.size, view.size), flags=cv2.INTER_LINEAR), np.uint8
            )
            code = cv2.COLOR_GRAY2RGB if tile.ndim == 2 else cv2.COLOR_BGR2RGB
            plain = np.asarray(cv2.cvtColor(tile, code), np.uint8)
        shown = plain[:, ::-1] if view.mirrored else plain
        canvas[view.y : view.y + view.size, view.x : view.x + view.size] = shown


def _holder(values: Floats, views: Sequence[_View]) -> _View | None:
    """Return the view that a detection lies in, if it is about as large as what is expected there."""
    x, y, _, height = values[:4].tolist()
    for view in views:
        if view.x <= x < view.x + view.size and view.y <= y < view.y + view.size:
            return view if 1 / CHANGE < height * view.square.margin / view.size < CHANGE else None
    return None


def _face(confidence: float, values: Floats, view: _View) -> Face:
    """Bring a detection back into the picture; its box stays upright."""
    points = values.reshape(8, 2) @ view.turn + view.origin  # the second is no point: it is the size
    landmarks = points[2:][list(MIRRORED)] if view.mirrored else points[2:]
    scale = view.square.side / view.size
    width, height = (values[2:4] * scale).tolist()
    x, y = points[0].tolist()
    return Face((x - width / 2, y - height / 2, width, height), confidence, landmarks)


def _spared(face: Face, recent: Sequence[Face]) -> Face | None:
    """Return the face with the landmarks of the recent one that is there, if there is one."""
    there = max(recent, key=lambda each: iou(each.box, face.box), default=None)
    if there is None or iou(there.box, face.box) <= THERE:
        return None
    return replace(face, landmarks=there.landmarks, measured=False)


def _steadied(face: Face, views: Sequence[Face]) -> Face:
    """Return the face with the landmarks that it and most of its views agree on."""
    same = [face, *(view for view in views if iou(view.box, face.box) > SAME)]
    return replace(face, landmarks=_median(np.stack([each.landmarks for each in same])))


def _merged(views: Sequence[Face], least: int) -> list[Face]:
    """Return each face of one place that at least so many of its views show, once, as most of them show it."""
    rest, faces = list(views), []
    while rest:
        same = [face for face in rest if iou(rest[0].box, face.box) > SAME or face is rest[0]]
        rest = [face for face in rest[1:] if iou(same[0].box, face.box) <= SAME]
        if len(same) >= least:
            values = _median(
                np.array([[*face.box, face.confidence, *face.landmarks.flat] for face in same], np.float32)
            )
            x, y, width, height, confidence = values[:5].tolist()
            faces.append(Face((x, y, width, height), confidence, values[5:].reshape(6, 2)))
    return faces


def _median(values: Floats) -> Floats:
    """Return the median over the first axis; of so few values NumPy's own takes several times as long."""
    ordered = np.sort(values, axis=0)
    middle = len(values) // 2
    return np.asarray(ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2, np.float32)


def _without_doubles(faces: Sequence[Face]) -> list[Face]:
    """Return faces, largest first, of which no two are one; the more confident is kept."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.confidence):
        if not any(common(face.box, other.box) / min(_area(face), _area(other)) > DOUBLE for other in kept):
            kept.append(face)
    return sorted(kept, key=_area, reverse=True)


def _area(face: Face) -> float:
    return max(1e-6, face.box[2] * face.box[3])
