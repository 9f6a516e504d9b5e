"""Network streams that a test reads itself."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from edge.frames import CaptureError
from edge.settings import CameraSettings
from edge.sources.network import NetworkSource

PATIENCE = 8.0


def opened(source: str, **settings: Any) -> closing[NetworkSource]:
    """Open a stream, closed with the block that it is for. Raises `CaptureError`."""
    stream = NetworkSource(CameraSettings(source=source, **settings))
    try:
        stream.open(PATIENCE)
    except CaptureError:
        stream.close()
        raise
    return closing(stream)
