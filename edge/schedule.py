"""Which look a frame gets: at the whole picture, only where faces are expected, or none. Pure.

It depends on the frames' own times and on what the tracker expects, never on the clock, so that a recording gives the
same events whenever it is played.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge.events import Box
from edge.faces import Image
from edge.regions import AT_ONCE
from edge.surroundings import Surroundings
from edge.tracking import Known, Outlook, Place

#: Seconds between two looks at the whole picture: small faces, which it sees one time in two, are found as soon …
INTERVAL = 0.2
#: … and when a face that is not reported yet was missed where it was expected.
SOONER = 0.15
#: Seconds between them while all faces are known and nothing else has changed, which it must not have for so long.
STILL, HOLD = 0.5, 1.0
#: Seconds for which it counts that nothing has.
COUNTS = 0.1
#: Share of an interval by which a look may come early: frames jitter.
EARLY = 0.1
#: A look at more places than this would save little, so that crowds get the whole picture every time.
MOST = 4 * AT_ONCE
#: Faces that were looked for less than so many seconds ago are only read, where they have moved to since, if frames
#: follow within so many seconds: of slower ones a face that begins to move would be lost.
NEAR, FAST = 0.13, 0.05
#: Faces whose landmarks were looked at less than so many seconds ago are spared a second look when the whole picture is
#: looked at. By such landmarks faces are read too: results of looks are under way for up to `edge.lane.DEEP_SECONDS`.
FRESH = 0.26


@dataclass(frozen=True)
class Look:
    """How a frame is looked at.

    Attributes:
        places: where faces are looked for; none for all of the picture.
        known: faces that are only read, where they are expected.
        recent: faces that a look at all of the picture finds again, but whose landmarks need no second look.
    """

    places: tuple[Place, ...] | None = None
    known: tuple[Known, ...] = ()
    recent: tuple[Known, ...] = ()


WHOLE = Look()


class Schedule:
    """Plans the looks at the frames of one camera.

    Args:
        interval: seconds between looks at the whole picture; 0 for every frame.
    """

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._last: float | None = None
        self._before = self._looked = self._moved = self._checked = float("-inf")
        self._step = 0.0
        self._surroundings = Surroundings()

    def look(self, time: float, outlook: Outlook, image: Image | None = None) -> Look:
        """Return how to look at the frame at `time`.

        Args:
            time: of the frame, seconds.
            outlook: what the tracker expects.
            image: the frame's BGR picture, if whole looks may be further apart where it shows nothing new.
        """
        if not self._interval:
            return WHOLE
        self._step, self._before = time - self._before, time
        likely = outlook.likely(time)
        # Who was missed is looked for where that costs no further run of the network.
        seen = sum(face.seen for face in likely)
        runs = max(1, -(-seen // AT_ONCE))
        near = self._step < FAST and 0 <= time - self._looked < NEAR
        known = [(face.measured, face.known(time)) for face in likely if face.seen] if near else []
        if self._due(time, outlook, image) or seen > MOST:
            recent = tuple(face for measured, face in known if face and time - measured < FRESH)
            self._last = time
            if not recent:
                self._looked = time
            if image is not None:
                self._surroundings.remember(image, _boxes(time, outlook))
            return Look(recent=recent)
        if known and all(face for _, face in known):
            return Look((), tuple(face for _, face in known if face))
        self._looked = time
        return Look(tuple(face.place(time) for face in likely[: runs * AT_ONCE]))

    def _due(self, time: float, outlook: Outlook, image: Image | None) -> bool:
        """Tell whether it is time for a look at the whole picture."""
        if self._last is None or time < self._last:
            self._moved, self._checked = time, float("-inf")
            return True
        doubtful = any(not face.confirmed and not face.seen for face in outlook.likely(time))
        interval = min(SOONER, self._interval) if doubtful else self._interval
        since = (time - self._last) / (1 - EARLY)
        if since < interval:
            return False
        # The next frame would be too late.
        late = time + self._step - self._last > STILL
        return not self._still(time, outlook, image, anew=late) or late

    def _still(self, time: float, outlook: Outlook, image: Image | None, anew: bool) -> bool:
        """Tell whether nobody can have come since the last look at the whole picture.

        With `anew` whatever was found a moment ago: who has come since will be in the picture that is remembered.
        """
        settled = all(face.seen and face.confirmed for face in outlook.faces)
        if settled and not anew and time - self._checked < COUNTS:
            return True
        if image is None or not settled or self._surroundings.changed(image, _boxes(time, outlook)):
            self._moved = time
        still = time - self._moved >= HOLD
        if still:
            self._checked = time
        return still


def _boxes(time: float, outlook: Outlook) -> list[Box]:
    return [face.at(time) for face in outlook.faces]
