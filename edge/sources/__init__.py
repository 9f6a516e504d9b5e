"""Where frames come from: one file for each kind of source."""

from __future__ import annotations

import threading

from edge.frames import Source
from edge.settings import CameraSettings
from edge.sources.file import FileSource
from edge.sources.folder import FolderSource
from edge.sources.network import NetworkSource
from edge.sources.picamera import PicameraSource
from edge.sources.webcam import WebcamSource


def make_source(settings: CameraSettings, stopped: threading.Event) -> Source:
    """Return the source that the settings name, not opened yet.

    Args:
        settings: of the camera.
        stopped: ends the wait of a source that plays at the pace of its recording.
    """
    match settings.kind:
        case "network":
            return NetworkSource(settings)
        case "webcam":
            return WebcamSource(settings)
        case "picamera":
            return PicameraSource(settings)
        case "images":
            return FolderSource(settings, stopped)
        case "file":
            return FileSource(settings, stopped)
