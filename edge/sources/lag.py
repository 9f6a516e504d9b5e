"""How far a stream is behind, from its own clock and ours. Pure."""

from __future__ import annotations

#: The least distance between both clocks is looked for over this long: the camera's clock drifts against ours, by
#: seconds a day, and that is no lag.
WINDOW = 300.0


class StreamLag:
    """Compares the clocks of a stream and of this machine; the least distance of late counts as no lag."""

    def __init__(self) -> None:
        self._before: float | None = None
        self._least: float | None = None
        self._since = 0.0

    def seconds(self, now: float, stream: float) -> float:
        """Return how far a frame with the time stamp `stream`, read at `now`, is behind."""
        distance = now - stream
        if self._least is None:
            self._least, self._since = distance, now
        elif now - self._since > WINDOW:
            self._before, self._least, self._since = self._least, distance, now
        self._least = min(self._least, distance)
        return distance - (self._least if self._before is None else min(self._least, self._before))
