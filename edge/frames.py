"""A frame, what a source of frames is, and the slot that keeps the newest frame.

A live source is read all the time and only its newest frame is kept, because a reader slower than its camera lags
ever more (opencv#23430). A file waits instead and loses none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from edge.faces import Image

#: Why a source gives no frames.
Reason = Literal["auth", "not_found", "refused", "timeout", "tls", "codec", "ended", "unplugged", "unreadable"]


@dataclass(frozen=True)
class Frame:
    """One picture.

    Attributes:
        image: uint8 BGR (height, width, 3); empty if the picture could not be decoded.
        time: seconds of the source's own clock: monotonic for a live source, media time for a file.
        wall: seconds since 1970 at capture.
        captured: monotonic seconds when `read()` returned.
        lag: seconds the stream was behind before `read()`, less the least seen; none where the source has no clock.
        skipped: frames thrown away before this one because the stream had fallen behind.
        broken: frames before this one that could not be decoded.
    """

    image: Image
    time: float
    wall: float
    captured: float
    lag: float | None = None
    skipped: int = 0
    broken: int = 0


class CaptureError(Exception):
    """A source gives no frames, for a typed reason."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


class FallenBehindError(Exception):
    """A live source is late and cannot catch up; opened again it is not."""


class Source(Protocol):
    """What a capture thread reads. Used by one thread at a time.

    Attributes:
        live: whether frames that nobody takes are lost, and a read can hang.
    """

    live: bool

    def open(self, patience: float) -> None:
        """Open, or open again; a read may last `patience` seconds. Raises `CaptureError`."""

    def read(self) -> Frame:
        """Wait for the next frame and return it. Raises `CaptureError`, `FallenBehindError`."""

    def explain(self, error: CaptureError) -> CaptureError:
        """Find out, by asking the source itself, why it gave no first frame; `error` where that is no wiser."""

    def close(self) -> None:
        """Let go of everything."""


class Slot:
    """Holds one frame between the thread that reads and the workers that analyse.

    Args:
        keep_all: wait until the frame before was taken, instead of replacing it.
        filled: called after each frame put in.
        dropped: called when a frame was replaced.
    """

    def __init__(self, keep_all: bool, filled: Callable[[], None], dropped: Callable[[], None]) -> None:
        self._keep_all = keep_all
        self._filled = filled
        self._dropped = dropped
        self._frame: Frame | None = None
        self._changed = threading.Condition()

    def put(self, frame: Frame, stopped: threading.Event) -> None:
        """Put a frame in; with `keep_all`, waits for room until `stopped`."""
        with self._changed:
            if self._keep_all:
                while self._frame is not None and not stopped.is_set():
                    self._changed.wait(0.2)
                if stopped.is_set():
                    return
            replaced = self._frame is not None
            self._frame = frame
        if replaced:
            self._dropped()
        self._filled()

    def take(self) -> Frame | None:
        """Take the frame out; none if there is none."""
        with self._changed:
            frame, self._frame = self._frame, None
            self._changed.notify_all()
            return frame

    def full(self) -> bool:
        """Tell whether a frame waits."""
        return self._frame is not None
