"""Which look a frame gets: at the whole picture, or only where faces are expected. Pure.

It depends on the frames' own times and on what the tracker expects, never on the clock, so that a recording gives the
same events whenever it is played.
"""

from __future__ import annotations

from edge.events import Box
from edge.regions import AT_ONCE
from edge.tracking import Outlook

#: Seconds between two looks at the whole picture: small faces, which it sees one time in two, are found as soon …
INTERVAL = 0.2
#: … and when a face that is not reported yet was missed where it was expected.
SOONER = 0.15
#: Share of an interval by which a look may come early: frames jitter.
EARLY = 0.1
#: More places than this cost as much as the whole picture.
MOST = 4 * AT_ONCE


class Schedule:
    """Plans the looks at the frames of one camera.

    Args:
        interval: seconds between looks at the whole picture; 0 for every frame.
    """

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._last: float | None = None

    def places(self, time: float, outlook: Outlook) -> tuple[Box, ...] | None:
        """Return where to look in the frame at `time`, in fractions of it; none for the whole picture."""
        likely = outlook.likely(time)
        doubtful = any(not face.confirmed and not face.seen for face in likely)
        interval = min(SOONER, self._interval) if doubtful else self._interval
        due = self._last is None or time < self._last or time - self._last >= (1 - EARLY) * interval
        # Who was missed is looked for where that costs no further run of the network.
        seen = sum(face.seen for face in likely)
        runs = max(1, -(-seen // AT_ONCE))
        if due or seen > MOST:
            self._last = time
            return None
        return tuple(face.at(time) for face in likely[: runs * AT_ONCE])
