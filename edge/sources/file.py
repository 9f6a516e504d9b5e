"""A video file, at the pace it was recorded at or as fast as it is taken."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import replace
from pathlib import Path

import cv2

from edge.frames import CaptureError, Frame, Wanted, every, picture
from edge.settings import CameraSettings
from edge.sources.media import MediaClock
from edge.terminal import shown

log = logging.getLogger(__name__)

DEFAULT_FPS = 25.0
#: So many frames in a row that cannot be decoded are the end of the file: OpenCV does not tell one from the other.
BROKEN = 64
#: A file that ends with fewer than this share of the frames that it announces may be cut off. Some announce too many:
#: those whose rate varies, that were trimmed, whose sound is longer.
WHOLE = 0.9


class FileSource:
    """Plays a file once or, with `loop`, for ever; its media time goes on when it is opened again."""

    live = False

    def __init__(self, settings: CameraSettings, stopped: threading.Event) -> None:
        self._path = Path(settings.source)
        self._loop = settings.loop
        self._clock = MediaClock(settings.pace == "realtime", stopped)
        self._capture: cv2.VideoCapture | None = None
        self._interval = 1 / DEFAULT_FPS
        self._offset = 0.0
        self._announced = 0
        self._round = 0
        self._broken = 0
        self._played = False

    def open(self, patience: float = 0.0) -> None:  # noqa: ARG002 - a file keeps nobody waiting
        """Open the file at its beginning."""
        self._rewind()
        self._clock.begin(self._offset, self._announced * self._interval)

    def read(self, wanted: Wanted = every) -> Frame:
        """Return the next frame, not before it is due."""
        capture = self._capture
        if capture is None:
            raise CaptureError("unreadable", "not open")
        broken = _skip_broken(capture)
        if broken is None:
            if self._played and not self._loop:
                raise CaptureError("ended", f"{self._path}: played to its end{self.fewer()}")
            if self.fewer():
                log.warning("%s: played to its end%s", self._path, self.fewer())
            capture = self._rewind() if self._played else capture
            broken = _skip_broken(capture)
            if broken is None:
                raise self._undecodable("holds no frame that OpenCV can decode")
        self._played = True
        self._round += 1
        self._broken += broken
        # A file whose time stamps do not advance is taken at its nominal rate.
        media = self._offset + capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        frame = self._clock.frame(media, self._interval, wanted, lambda: picture(*capture.retrieve()))
        return replace(frame, broken=broken) if broken else frame

    def damage(self) -> str:
        """Say how many frames could not be decoded, empty if all could."""
        return f"{self._broken} of its frames cannot be decoded; copy the file again" if self._broken else ""

    def fewer(self) -> str:
        """Say, as the rest of a line, that it had many fewer frames than it announces; empty if it had not."""
        if self._round >= WHOLE * self._announced:
            return ""
        return f", after {self._round} frames of {self._announced} that it announces: is it whole?"

    def explain(self, error: CaptureError) -> CaptureError:
        """Return `error`: it says all."""
        return error

    def close(self) -> None:
        """Release the file."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _rewind(self) -> cv2.VideoCapture:
        """Open the file at its beginning, its media time going on."""
        self.close()
        if not os.path.isfile(self._path):  # `Path.is_file` raises where a folder above may not be read
            raise CaptureError("not_found", f"{self._path}: no such file; name an existing one as the source")
        if any("\ud800" <= each <= "\udfff" for each in str(self._path)):  # it would end the process in OpenCV
            raise CaptureError("unreadable", f"{shown(str(self._path))}: its name is no UTF-8; rename it")
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        if not capture.isOpened():
            capture.release()
            raise self._undecodable("not a video that OpenCV can decode")
        self._capture = capture
        fps = capture.get(cv2.CAP_PROP_FPS)
        self._interval = 1 / fps if 1 <= fps <= 240 else 1 / DEFAULT_FPS
        self._offset = self._clock.next(self._interval)
        self._announced = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self._round = 0
        return capture

    def _undecodable(self, what: str) -> CaptureError:
        """Return the error of a file without frames; one that had some is being written anew, and is tried again."""
        return CaptureError("not_found" if self._played else "unreadable", f"{self._path}: {what}")


def _skip_broken(capture: cv2.VideoCapture) -> int | None:
    """Take the next frame that can be decoded; returns how many before it could not, none at the end."""
    return next((broken for broken in range(BROKEN) if capture.grab()), None)
