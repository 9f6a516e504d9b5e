"""The small annotated picture that the page shows, and how much time may go into such pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edge.draw import draw_box
from edge.events import Box
from edge.faces import Image
from edge.zones import Polygon

#: Longer side of the picture in pixels, and its quality as a JPEG.
SIDE, QUALITY = 640, 75
#: BGR, of masked places and of the lines around zones.
MASK, ZONE = (70, 70, 70), (230, 230, 230)


@dataclass(frozen=True)
class Marked:
    """A face as it is marked in the picture: its box in fractions, and the emotion that is reported with how much."""

    box: Box
    emotion: str
    probability: float


def draw_picture(
    image: Image, faces: Sequence[Marked], masks: Sequence[Polygon] = (), zones: Sequence[Polygon] = ()
) -> bytes:
    """Return a small JPEG of a BGR frame, with faces marked, zones outlined, and nothing to be seen behind masks."""
    height, width = image.shape[:2]
    scale = min(1.0, SIDE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image.copy(), np.uint8)
    for mask in masks:
        cv2.fillPoly(small, [_corners(mask, size)], MASK)
    for zone in zones:
        cv2.polylines(small, [_corners(zone, size)], isClosed=True, color=ZONE)
    for face in faces:
        box = face.box
        pixels = box.x * size[0], box.y * size[1], box.width * size[0], box.height * size[1]
        draw_box(small, pixels, face.emotion, face.probability)
    _, encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return encoded.tobytes()


class Allowance:
    """Keeps work within a share of one core: after a piece of it, waits as long as that makes it.

    Args:
        share: of one core, 0–1, asked before each piece.
        interval: least seconds between the beginnings of two pieces.
    """

    def __init__(self, share: Callable[[], float], interval: float) -> None:
        self._share = share
        self._interval = interval
        self._next = float("-inf")

    def may(self, now: float) -> bool:
        """Tell whether a piece of work may begin at a time, seconds."""
        return now >= self._next

    def spent(self, began: float, seconds: float) -> None:
        """Take in when a piece began and how many seconds of processor time it took."""
        self._next = began + max(self._interval, seconds / self._share())


def _corners(polygon: Polygon, size: tuple[int, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.int32]]:
    return np.rint(np.asarray(polygon, np.float64) * size).astype(np.int32)
