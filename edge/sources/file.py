"""A video file, at the pace it was recorded at or as fast as it is taken."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2

from edge.frames import CaptureError, Frame, Wanted, every, picture
from edge.settings import CameraSettings
from edge.sources.media import MediaClock

DEFAULT_FPS = 25.0


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
        self._frames = 0

    def open(self, patience: float = 0.0) -> None:  # noqa: ARG002 - a file keeps nobody waiting
        """Open the file at its beginning."""
        count = self._rewind().get(cv2.CAP_PROP_FRAME_COUNT)
        self._clock.begin(self._offset, max(0.0, count * self._interval))

    def read(self, wanted: Wanted = every) -> Frame:
        """Return the next frame, not before it is due."""
        capture = self._capture
        if capture is None:
            raise CaptureError("unreadable", "not open")
        if not capture.grab():
            if self._frames and not self._loop:
                raise CaptureError("ended", f"{self._path}: played to its end")
            capture = self._rewind() if self._frames else capture
            if not self._frames or not capture.grab():
                raise CaptureError("unreadable", f"{self._path}: holds no frame that OpenCV can decode")
        self._frames += 1
        # A file whose time stamps do not advance is taken at its nominal rate.
        media = self._offset + capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        return self._clock.frame(media, self._interval, wanted, lambda: picture(*capture.retrieve()))

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
        if not self._path.is_file():
            raise CaptureError("not_found", f"{self._path}: no such file; name an existing one as the source")
        capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        if not capture.isOpened():
            capture.release()
            raise CaptureError("unreadable", f"{self._path}: not a video that OpenCV can decode")
        self._capture = capture
        fps = capture.get(cv2.CAP_PROP_FPS)
        self._interval = 1 / fps if 1 <= fps <= 240 else 1 / DEFAULT_FPS
        self._offset = self._clock.next(self._interval)
        return capture
