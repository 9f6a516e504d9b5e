"""Which faces count, by where they are and how large: zones, masks and the least height. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from edge.events import Box

Polygon = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class FaceFilter:
    """Says whether a face counts. Polygons and sizes are in fractions of the picture.

    Attributes:
        zones: the centre of a face must lie in one of these, if there are any.
        masks: and in none of these.
        min_face: least height of its box.
    """

    zones: Sequence[Polygon] = ()
    masks: Sequence[Polygon] = ()
    min_face: float = 0.0

    def __call__(self, box: Box) -> bool:
        """Tell whether a face with this box counts."""
        if box.height < self.min_face:
            return False
        centre = (box.x + box.width / 2, box.y + box.height / 2)
        if self.zones and not any(_inside(centre, zone) for zone in self.zones):
            return False
        return not any(_inside(centre, mask) for mask in self.masks)


def _inside(point: tuple[float, float], polygon: Polygon) -> bool:
    return cv2.pointPolygonTest(np.asarray(polygon, np.float32), point, measureDist=False) >= 0
