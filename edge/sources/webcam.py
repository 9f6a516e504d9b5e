"""A webcam, by its index, its device or its lasting name below /dev/v4l/by-id."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import cv2

from edge.frames import NOTHING, CaptureError, Frame, Wanted, every, picture
from edge.settings import CameraSettings

BACKENDS = {"linux": cv2.CAP_V4L2, "darwin": cv2.CAP_AVFOUNDATION, "win32": cv2.CAP_DSHOW}


class WebcamSource:
    """A webcam, read with the backend of the platform."""

    live = True

    def __init__(self, settings: CameraSettings) -> None:
        self._source = settings.source
        self._capture: cv2.VideoCapture | None = None

    def open(self, patience: float) -> None:  # noqa: ARG002 - the backends have time-outs of their own
        """Open the device."""
        source = self._source
        if not source.isdecimal() and not Path(source).exists():
            raise CaptureError("unplugged", f"{source}: no such device; plug the camera in or name another")
        # What /dev/v4l/by-id names is a link, and where it leads changes when cameras are plugged in anew.
        device = int(source) if source.isdecimal() else str(Path(source).resolve())
        capture = cv2.VideoCapture(device, BACKENDS.get(sys.platform, cv2.CAP_ANY))
        if not capture.isOpened():
            capture.release()
            raise CaptureError(
                "unplugged", f"webcam {source}: cannot be opened; is it plugged in, and in no other use?"
            )
        self._capture = capture

    def read(self, wanted: Wanted = every) -> Frame:
        """Return the next frame."""
        if self._capture is None:
            raise CaptureError("unplugged", "not open")
        if not self._capture.grab():
            raise CaptureError("unplugged", f"webcam {self._source}: gives no frame; is it still plugged in?")
        now = time.monotonic()
        refused = not wanted(now)
        image = NOTHING if refused else picture(*self._capture.retrieve())
        return Frame(image, now, time.time(), now, refused=refused)

    def explain(self, error: CaptureError) -> CaptureError:
        """Return `error`: there is nobody to ask."""
        return error

    def close(self) -> None:
        """Release the device."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None
