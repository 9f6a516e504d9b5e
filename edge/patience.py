"""How long to wait: for the next frame of a live source, and before a lost one is opened again."""

from __future__ import annotations

import random
from collections import deque
from statistics import median

#: A stream has stalled after this many seconds without a frame, or this many of its frame intervals if that is longer …
LEAST_STALL, STALL_INTERVALS = 3.0, 5
#: … and never later than this. Until it is known how often frames come, `FIRST_FRAMES` holds.
LONGEST_STALL = 60.0
FIRST_FRAMES = 8.0
INTERVALS = 5
#: Connecting to a network stream and learning what it holds.
OPEN_TIMEOUT = 5.0
BACK_OFF = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
JITTER = 0.2


class StallRule:
    """Says when a live source has stalled, from how often its frames came; kept while the source is opened again."""

    def __init__(self) -> None:
        self._intervals: deque[float] = deque(maxlen=INTERVALS)
        self._last: float | None = None

    def opened(self) -> None:
        """Begin again: what passes until the next frame is no frame interval."""
        self._last = None

    def frame(self, now: float) -> None:
        """Take note of a frame."""
        if self._last is not None:
            self._intervals.append(now - self._last)
        self._last = now

    def seconds(self) -> float:
        """Return for how many seconds no frame may come."""
        if self._last is None or len(self._intervals) < INTERVALS:
            # The first frames after opening can come at once, out of a buffer.
            return self.longest()
        return _limited(STALL_INTERVALS * median(self._intervals))

    def longest(self) -> float:
        """Return for how many seconds no frame may come right after opening."""
        longest = max(self._intervals, default=0.0)
        return max(FIRST_FRAMES, _limited(STALL_INTERVALS * longest))


class BackOff:
    """The pauses between attempts to open a source: 1, 2, 4 … 30 s, each a fifth longer or shorter by chance."""

    def __init__(self) -> None:
        self._attempt = 0

    def reset(self) -> None:
        """Begin with the shortest pause again."""
        self._attempt = 0

    def pause(self) -> float:
        """Return the next pause in seconds."""
        seconds = BACK_OFF[min(self._attempt, len(BACK_OFF) - 1)]
        self._attempt += 1
        return seconds * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret


def _limited(seconds: float) -> float:
    return min(max(seconds, LEAST_STALL), LONGEST_STALL)
