"""The clock of recorded material: when a frame is due, and the time stamps it gets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from edge.faces import Image
from edge.frames import NOTHING, Frame, Wanted


class MediaClock:
    """Makes frames of pictures and their media time, in seconds, which never goes back.

    At the pace of the recording, media time zero is the moment of the first frame. As fast as they are taken, frames
    get times that end now instead: else events would be ahead of the wall clock.

    Args:
        realtime: wait until a frame is due.
        stopped: ends such a wait.
    """

    def __init__(self, realtime: bool, stopped: threading.Event) -> None:
        self._realtime = realtime
        self._stopped = stopped
        self._time: float | None = None
        self._monotonic = 0.0
        self._wall = 0.0

    def begin(self, media: float, duration: float) -> None:
        """Say that the next frame is at `media`, of material that lasts `duration` seconds altogether."""
        back = 0.0 if self._realtime else duration
        self._monotonic = time.monotonic() - media
        self._wall = time.time() - media - back

    def frame(self, media: float, interval: float, wanted: Wanted, make: Callable[[], Image]) -> Frame:
        """Return the frame, not before it is due; one whose time does not advance is `interval` after the last.

        Args:
            media: time of the frame, seconds.
            interval: between frames, seconds.
            wanted: tells whether its picture is.
            make: makes that picture.
        """
        if self._time is not None and media <= self._time:
            media = self._time + interval
        self._time = media
        refused = not wanted(media)
        image = NOTHING if refused else make()
        if self._realtime:
            self._stopped.wait(max(0.0, self._monotonic + media - time.monotonic()))
            return Frame(image, media, self._wall + media, time.monotonic(), refused=refused)
        # A loop lasts longer than its duration, so its later rounds could overtake the clock.
        return Frame(image, media, min(self._wall + media, time.time()), time.monotonic(), refused=refused)

    def next(self, interval: float) -> float:
        """Return the media time at which more material goes on."""
        return 0.0 if self._time is None else self._time + interval
