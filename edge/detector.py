"""The detector of whole pictures: finds faces, then looks at each of them again to place its landmarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edge.blazeface import BlazeFace, Image, fit
from edge.faces import Face, face_from
from edge.regions import RegionDetector


class Detector:
    """Finds the faces of whole pictures. One per thread.

    Where the first network says that the eyes are changes by degrees from one frame to the next, and with it what a
    classifier sees; after `RegionDetector.refined` it changes less.

    Args:
        threshold: least confidence of a detection, 0–1.
        first: what finds the faces; BlazeFace "back" by default.
        regions: what looks at them again; one of its own by default.
    """

    def __init__(
        self,
        threshold: float = 0.45,
        first: Callable[[Image], list[Face]] | None = None,
        regions: RegionDetector | None = None,
    ) -> None:
        self._first = first or Back(threshold)
        self._regions = regions or RegionDetector(threshold)

    def __call__(self, image: Image, recent: Sequence[Face] = ()) -> list[Face]:
        """Find the faces of a BGR (height, width, 3) or grey (height, width) picture, largest first.

        Those of `recent` that are found again are not looked at twice, and have their landmarks.
        """
        return self._regions.refined(image, self._first(image), recent)


class Back:
    """BlazeFace "back" (MediaPipe, Apache-2.0): faces from about 1/20 of the picture's longer side upwards.

    Args:
        threshold: least confidence of a detection, 0–1.
    """

    def __init__(self, threshold: float) -> None:
        self._find = BlazeFace.back(threshold)

    def __call__(self, image: Image) -> list[Face]:
        """Find the faces of a BGR (height, width, 3) or grey (height, width) picture, largest first."""
        canvas, scale, left, top = _letterbox(image, self._find.side)
        faces = [face_from(confidence, row, scale, (left, top)) for confidence, row in self._find(canvas)]
        return sorted(faces, key=lambda face: face.box[2] * face.box[3], reverse=True)


def _letterbox(image: Image, side: int) -> tuple[Image, float, int, int]:
    """Fit a picture into a black square: uint8 (side, side, 3) RGB, scale, left, top."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    left, top = (side - target[0]) // 2, (side - target[1]) // 2
    canvas = np.zeros((side, side, 3), np.uint8)
    canvas[top : top + target[1], left : left + target[0]] = fit(image, target)
    return canvas, scale, left, top
