"""A folder of pictures, taken in the order of their names."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np

from edge.faces import Image
from edge.frames import NOTHING, CaptureError, Frame, Wanted, every, picture
from edge.regular import read_regular
from edge.settings import CameraSettings
from edge.sources.media import MediaClock

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


class FolderSource:
    """Shows `fps` pictures a second once or, with `loop`, for ever; what was added meanwhile is in the next round."""

    live = False

    def __init__(self, settings: CameraSettings, stopped: threading.Event) -> None:
        self._folder = Path(settings.source)
        self._loop = settings.loop
        self._interval = 1 / settings.fps
        self._clock = MediaClock(settings.pace == "realtime", stopped)
        self._left: list[Path] = []
        self._readable = 0
        self._shown = False

    def open(self, patience: float = 0.0) -> None:  # noqa: ARG002 - a folder keeps nobody waiting
        """List the folder."""
        self._list()
        self._clock.begin(self._clock.next(self._interval), len(self._left) * self._interval)

    def read(self, wanted: Wanted = every) -> Frame:
        """Return the next picture, not before it is due; an empty one in place of one that cannot be decoded."""
        if not self._left:
            if not self._readable:
                raise self._empty("holds no picture that OpenCV can decode")
            if not self._loop:
                raise CaptureError("ended", f"{self._folder}: shown to its end")
            self._list()
        path = self._left.pop(0)
        frame = self._clock.frame(self._clock.next(self._interval), self._interval, wanted, lambda: _read(path))
        self._readable += frame.refused or frame.image.size > 0
        self._shown = self._shown or self._readable > 0
        return frame

    def explain(self, error: CaptureError) -> CaptureError:
        """Return `error`: it says all."""
        return error

    def close(self) -> None:
        """Forget the list."""
        self._left.clear()

    def _list(self) -> None:
        try:
            found = self._folder.iterdir()
            self._left = sorted(path for path in found if path.suffix.lower() in SUFFIXES and path.is_file())
        except OSError as error:
            raise CaptureError("not_found", f"{self._folder}: {error.strerror}; name an existing folder") from None
        self._readable = 0
        if not self._left:
            raise self._empty(f"holds no pictures ({', '.join(sorted(SUFFIXES))})")

    def _empty(self, what: str) -> CaptureError:
        """Return the error of a folder without pictures; one that had some is being filled anew, and is tried again."""
        return CaptureError("not_found" if self._shown else "unreadable", f"{self._folder}: {what}")


def _read(path: Path) -> Image:
    """Return a picture, an empty one if it cannot be decoded: OpenCV raises for one that is too large.

    It gets the content: a name that is no UTF-8 ends the process in OpenCV.
    """
    try:
        content = read_regular(path)
        return picture(True, cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)) if content else NOTHING
    except (cv2.error, OSError):
        return NOTHING
