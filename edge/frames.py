"""A frame, what a source of frames is, and the slot where frames wait for a worker.

A live source is read all the time and only its newest frame is kept, because a reader slower than its camera lags
ever more (opencv#23430). A file waits instead and loses none.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from edge.faces import Image

#: In place of a picture that could not be decoded, or was not wanted.
NOTHING: Image = np.zeros((0, 0, 3), np.uint8)
#: So many frames of a recording that is played as fast as it goes are read ahead, so that no worker waits for one.
AHEAD = 6
#: Share of the interval between frames by which the next one may be away, or late, to be worth waiting for.
SOON = 0.2
#: Networks and encoders hold frames up and then let two go at once. Idle workers can do both; for a frame that has
#: waited for so many seconds they had no time.
BURST = 0.03
#: So many seconds apart, two came at once.
AT_ONCE = 0.01
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
        refused: nobody wanted it, so its picture was not made.
    """

    image: Image
    time: float
    wall: float
    captured: float
    lag: float | None = None
    skipped: int = 0
    broken: int = 0
    refused: bool = False


#: Tells by its time whether a frame is wanted; asked once for each. Who wants none saves making a picture of it.
Wanted = Callable[[float], bool]


def every(_time: float) -> bool:
    """Want every frame."""
    return True


def picture(ok: bool, image: object) -> Image:
    """Return the picture of OpenCV's answer; an empty one in place of none."""
    return np.asarray(image, np.uint8) if ok and image is not None else NOTHING


class CaptureError(Exception):
    """A source gives no frames, for a typed reason."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


class NotItsTurnError(CaptureError):
    """Others take too long to open, one after the other; the source itself was not asked yet."""


class FallenBehindError(Exception):
    """A live source is late and cannot catch up; opened again it is not.

    Attributes:
        skipped: frames thrown away since the last one returned.
        broken: frames since then that could not be decoded.
    """

    def __init__(self, skipped: int = 0, broken: int = 0) -> None:
        super().__init__("late")
        self.skipped, self.broken = skipped, broken


class Source(Protocol):
    """What a capture thread reads. Used by one thread at a time.

    Attributes:
        live: whether frames that nobody takes are lost, and a read can hang.
    """

    live: bool

    def open(self, patience: float) -> None:
        """Open, or open again; a read may last `patience` seconds. Raises `CaptureError`."""

    def read(self, wanted: Wanted = every) -> Frame:
        """Wait for the next frame and return it. Raises `CaptureError`, `FallenBehindError`."""

    def explain(self, error: CaptureError) -> CaptureError:
        """Find out, by asking the source itself, why it gave no first frame; `error` where that is no wiser."""

    def close(self) -> None:
        """Let go of everything."""


class Slot:
    """Holds frames between the thread that reads and the workers that analyse.

    Of a live source that is the newest, and the one before if both come at once and are taken within `BURST` seconds.

    Args:
        keep_all: wait for room instead of replacing the frame before.
        filled: called after each frame put in.
        dropped: called when a frame was replaced.
        ahead: with `keep_all`, so many frames may wait.

    Attributes:
        keep_all: whether no frame is lost, however slow the workers.
    """

    def __init__(self, keep_all: bool, filled: Callable[[], None], dropped: Callable[[], None], ahead: int = 1) -> None:
        self.keep_all = keep_all
        self._filled = filled
        self._dropped = dropped
        self._ahead = ahead
        self._frames: deque[Frame] = deque()
        self._newest: float | None = None
        self._interval = 0.0
        self._changed = threading.Condition()

    def put(self, frame: Frame, stopped: threading.Event) -> None:
        """Put a frame in; with `keep_all`, waits for room until `stopped`."""
        replaced = False
        with self._changed:
            if self.keep_all:
                while len(self._frames) >= self._ahead and not stopped.is_set():
                    self._changed.wait(0.2)
                if stopped.is_set():
                    return
            else:
                replaced = len(self._frames) == 2
                if replaced:
                    self._frames.popleft()
                self._interval = 0.0 if self._newest is None else frame.captured - self._newest
                self._newest = frame.captured
            self._frames.append(frame)
        if replaced:
            self._dropped()
        self._filled()

    def take(self, now: float = math.inf) -> Frame | None:
        """Take the frame out that is next at `now`, monotonic seconds; none if there is none."""
        late = False
        with self._changed:
            if not self.keep_all and len(self._frames) == 2:
                one, other = (each.captured for each in self._frames)
                late = now - one > BURST or other - one > AT_ONCE
                if late:
                    self._frames.popleft()
            frame = self._frames.popleft() if self._frames else None
            self._changed.notify_all()
        if late:
            self._dropped()
        return frame

    def waiting(self) -> bool:
        """Tell whether a frame waits."""
        return bool(self._frames)

    def worth_waiting(self, now: float) -> float:
        """Return for how many seconds a worker had better wait for the next frame; 0 if not at all.

        That is when the one that waits is about to be replaced, by the interval between the last two.
        """
        if self._newest is None:
            return 0.0
        age = now - self._newest
        late = (1 + SOON) * self._interval - age
        return late if age >= (1 - SOON) * self._interval and late > 0 else 0.0
