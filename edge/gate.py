"""What a frame must pass before it is analysed: it is a picture, its time has come, and something moves in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import cv2
import numpy as np

from edge.faces import Image
from edge.frames import Frame
from edge.settings import CameraSettings

Refusal = Literal["unusable", "rate", "still"]
#: Pictures with a side smaller than this hold no face that could be found.
LEAST_SIDE = 16
#: Share of the interval between frames by which one may come early.
EARLY = 0.2
ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


class Gate:
    """Lets frames of one camera pass, turned upright.

    Args:
        settings: of the camera.
        following: tells whether faces are in view, which are to be looked at even if they keep still.
    """

    def __init__(self, settings: CameraSettings, following: Callable[[], bool]) -> None:
        self._rotation = ROTATIONS.get(settings.rotation)
        self._rate = Rate(settings.max_fps)
        self._motion = Motion(settings.motion) if settings.motion else None
        self._following = following

    def wanted(self, time: float) -> bool:
        """Tell whether the frame at `time` may pass by its time; asked once for each, before its picture is made."""
        return self._rate.due(time)

    def __call__(self, frame: Frame) -> Frame | Refusal:
        """Return the frame as it is to be analysed, or why it is not."""
        if frame.refused:
            return "rate"
        if min(frame.image.shape[:2]) < LEAST_SIDE:
            self._rate.take_back()  # the next one may be a picture
            return "unusable"
        if self._motion is not None and not self._motion.seen(frame.image, frame.time) and not self._following():
            return "still"
        return frame if self._rotation is None else replace(frame, image=_turned(frame.image, self._rotation))


class Rate:
    """Lets at most so many frames a second pass, evenly; all with 0."""

    def __init__(self, most: float) -> None:
        self._interval = 1 / most if most else 0.0
        self._due = self._before = float("-inf")

    def due(self, time: float) -> bool:
        """Tell whether the frame at `time` may pass."""
        # A little early is in time: a camera of this very rate must not lose frames to its own jitter.
        if time < self._due - EARLY * self._interval:
            return False
        # Counted from when it was due, so that a camera's rate that is no multiple of this one gives the right average.
        late = time - self._due >= self._interval
        self._before = self._due
        self._due = (time if late else self._due) + self._interval
        return True

    def take_back(self) -> None:
        """Let another frame pass instead of the last that did."""
        self._due = self._before


class Motion:
    """Tells whether a camera's picture has changed, from a small grey copy of it.

    Args:
        least: share of the picture that must have changed.
    """

    SIZE = (64, 48)
    #: A point has changed if it is by so much brighter or darker, of 255: more than noise and flicker.
    CHANGE = 16
    #: Frames pass for so many seconds after each motion, because a face needs several to be reported …
    HOLD = 1.0
    #: … and one at least so often, so that a face that was missed while it moved is found.
    REFRESH = 1.0

    def __init__(self, least: float) -> None:
        self._least = least
        self._shown: Image | None = None
        self._moved = float("-inf")
        self._passed = float("-inf")

    def seen(self, image: Image, time: float) -> bool:
        """Tell whether the frame at `time` is worth a look."""
        small = cv2.cvtColor(cv2.resize(image, self.SIZE, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
        # Compared with the last that passed, so that what changes slowly is seen as well.
        changed = 1.0 if self._shown is None else float(np.mean(cv2.absdiff(small, self._shown) > self.CHANGE))
        if changed >= self._least:
            self._moved = time
        if time - self._moved > self.HOLD and time - self._passed < self.REFRESH:
            return False
        self._shown, self._passed = np.asarray(small, np.uint8), time
        return True


def _turned(image: Image, rotation: int) -> Image:
    return np.asarray(cv2.rotate(image, rotation), np.uint8)
