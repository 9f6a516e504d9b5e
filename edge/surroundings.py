"""What a camera shows beside the faces in view: where nothing changes, nobody comes."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from edge.events import Box
from edge.faces import Image

#: The small grey copy of a picture that is compared, and by how much brighter or darker, of 255, one point of it must
#: be to have changed: more than noise and compression make of it.
SIZE, CHANGE = (64, 36), 10
#: What moves with a person: from the middle of the face so many of its widths to either side, and from its top so many
#: of its heights up and down.
ASIDE, UP, DOWN = 1.5, 0.6, 4.0


class Surroundings:
    """The surroundings of the faces in a camera's picture, at some moment."""

    def __init__(self) -> None:
        self._shown: Image | None = None
        self._people = np.zeros(SIZE[::-1], bool)

    def remember(self, image: Image, faces: Iterable[Box]) -> None:
        """Take a BGR picture, uint8 (height, width, 3), with its faces, in fractions of it, to compare others with."""
        self._shown = _small(image)
        self._people = _people(faces)

    def changed(self, image: Image, faces: Iterable[Box]) -> bool:
        """Tell whether anything is otherwise than in the picture remembered, beside the faces of both."""
        if self._shown is None:
            return True
        differs = cv2.absdiff(_small(image), self._shown) > CHANGE
        return bool(np.any(differs & ~(self._people | _people(faces))))


def _small(image: Image) -> Image:
    # Some points stand for all of each of the copy's: far cheaper, and enough against noise.
    near = cv2.resize(image, (4 * SIZE[0], 4 * SIZE[1]), interpolation=cv2.INTER_LINEAR)
    small = cv2.resize(near, SIZE, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY) if small.ndim == 3 else small, np.uint8)


def _people(faces: Iterable[Box]) -> npt.NDArray[np.bool_]:
    covered = np.zeros(SIZE[::-1], bool)
    for face in faces:
        middle = face.x + face.width / 2
        sides = (middle - ASIDE * face.width, middle + ASIDE * face.width)
        ends = (face.y - UP * face.height, face.y + DOWN * face.height)
        left, right = np.clip(np.round(np.array(sides) * SIZE[0]), 0, SIZE[0]).astype(int)
        top, bottom = np.clip(np.round(np.array(ends) * SIZE[1]), 0, SIZE[1]).astype(int)
        covered[top:bottom, left:right] = True
    return covered
