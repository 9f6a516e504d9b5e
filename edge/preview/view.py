"""What is known of each camera for the preview. Pictures are kept in memory only, and only while somebody looks."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from edge.events import Box
from edge.faces import Image
from edge.frames import Frame
from edge.metrics import Figures
from edge.preview.picture import Allowance, Marked, draw_picture
from edge.tracking import Track
from edge.zones import Polygon

#: Seconds after the last look for which frames are still kept, one a camera.
KEEP = 5.0
#: Seconds of one step of the timeline, and how many steps it has.
STEP, STEPS = 5, 60
#: Frames over whose ages the median is taken.
AGES = 50
#: A face that has not been seen for so many seconds is not marked any more; it is still listed until it has left.
FRESH = 0.5
#: Least seconds between two pictures of a camera.
PICTURE_INTERVAL = 0.2
#: What is the matter, for people, by the reason that the camera's status gives.
WORDS = {
    "starting": "The camera is being opened.",
    "auth": "The camera refuses the user name or the password.",
    "not_found": "The camera has no stream of this address.",
    "refused": "Nothing answers at this address. Is the camera switched on, and is the port right?",
    "timeout": "The camera does not answer, or has stopped sending pictures.",
    "tls": "The encrypted connection cannot be made, or the camera's certificate is not trusted.",
    "codec": "The camera answers, but no picture comes that can be decoded.",
    "ended": "The stream has ended.",
    "unplugged": "The camera is not plugged in.",
    "unreadable": "The source cannot be read.",
    "stopped": "The camera has been stopped.",
}
PAUSED = "The camera is paused by a command."


@dataclass(frozen=True)
class _Face:
    number: int
    box: Box
    emotion: str
    probabilities: dict[str, float]
    seconds: float
    unseen: float


@dataclass(frozen=True)
class _Shown:
    number: int
    image: Image
    faces: tuple[_Face, ...]


class View:
    """One camera as the page shows it. Told by the camera's threads, asked by those of the HTTP server.

    Args:
        name: of the camera.
        masks: polygons behind which nothing is shown.
        zones: polygons that are outlined.
        figures: frames so far.
        aggregate: privacy: neither pictures nor faces nor emotions are kept or shown.
        share: of one core, 0–1, that pictures of this camera may take.
        drawn: called with the processor seconds that a picture took.
        clock: monotonic seconds.
        work: processor seconds of this thread.
    """

    def __init__(
        self,
        name: str,
        masks: Sequence[Polygon],
        zones: Sequence[Polygon],
        figures: Callable[[], Figures],
        aggregate: bool,
        share: Callable[[], float],
        drawn: Callable[[float], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        work: Callable[[], float] = time.thread_time,
    ) -> None:
        self.name = name
        self._masks, self._zones = masks, zones
        self._figures = figures
        self._aggregate = aggregate
        self._allowance = Allowance(share, PICTURE_INTERVAL)
        self._drawn_in = drawn
        self._clock, self._work = clock, work
        self._lock = threading.Lock()
        self._drawing = threading.Lock()
        self._state, self._words, self._since = "offline", WORDS["starting"], clock()
        self._ages: deque[float] = deque(maxlen=AGES)
        self._steps: deque[tuple[int, dict[str, float]]] = deque(maxlen=STEPS)
        self._looked = float("-inf")
        self._count = 0
        self._shown: _Shown | None = None
        self._picture: tuple[int, bytes] | None = None

    def status(self, state: str, reason: str, paused: bool) -> None:
        """Take in that the camera is `online` or `offline`, for a reason that `WORDS` has, and whether it is paused."""
        words = WORDS.get(reason, reason) if state == "offline" else PAUSED if paused else ""
        state = "paused" if paused and state == "online" else state
        with self._lock:
            if (state, words) != (self._state, self._words):
                self._state, self._words, self._since = state, words, self._clock()
            if state != "online":
                self._forget()

    def add_time(self, emotion: str, seconds: float) -> None:
        """Take in for how long a face showed an emotion."""
        if self._aggregate:
            return
        step = int(self._clock() // STEP)
        with self._lock:
            if not self._steps or self._steps[-1][0] != step:
                self._steps.append((step, defaultdict(float)))
            self._steps[-1][1][emotion] += seconds

    def see(self, frame: Frame, tracks: Sequence[Track], labels: Sequence[str]) -> None:
        """Take in an analysed frame and the faces in view; kept while somebody looks."""
        now = self._clock()
        with self._lock:
            self._ages.append(now - frame.captured)
            # A worker may still have had a frame of a camera that has gone offline.
            if self._aggregate or self._state != "online" or now - self._looked > KEEP:
                self._forget()
                return
            self._count += 1
            self._shown = _Shown(self._count, frame.image, tuple(_face(each, frame.time, labels) for each in tracks))

    def describe(self, emotions: Sequence[str]) -> dict[str, Any]:
        """Return what the page is told, seconds and fractions throughout; from now on, frames are kept for a while."""
        now = self._clock()
        figures = self._figures()
        with self._lock:
            self._looked = now
            described: dict[str, Any] = {
                "name": self.name,
                "state": self._state,
                "words": self._words,
                "seconds": round(now - self._since, 1),
                "frames": {
                    "captured": figures.captured,
                    "analysed": figures.analysed,
                    "dropped": {reason: count for reason, count in figures.dropped.items() if count},
                },
                "age": round(median(self._ages), 4) if self._ages and self._state == "online" else None,
            }
            if not self._aggregate:
                described["picture"] = self._shown.number if self._shown else None
                described["faces"] = [_described(face) for face in self._shown.faces] if self._shown else []
                described["timeline"] = self._timeline(int(now // STEP), emotions)
        return described

    def picture(self) -> bytes | None:
        """Return a JPEG of the newest frame, or of the one before if another is being made or would take too much.

        None if nobody has looked yet, the camera shows nothing, or nothing may be shown.
        """
        shown = self._shown
        if shown is not None and self._drawing.acquire(blocking=False):
            try:
                self._draw(shown)
            finally:
                self._drawing.release()
        with self._lock:
            return self._picture[1] if self._picture else None

    def _draw(self, shown: _Shown) -> None:
        began = self._clock()
        if (self._picture and self._picture[0] == shown.number) or not self._allowance.may(began):
            return
        started = self._work()
        faces = [Marked(f.box, f.emotion, f.probabilities[f.emotion]) for f in shown.faces if f.unseen <= FRESH]
        encoded = draw_picture(shown.image, faces, self._masks, self._zones)
        seconds = self._work() - started
        self._allowance.spent(began, seconds)
        self._drawn_in(seconds)
        with self._lock:
            if self._shown is not None:  # else there is nothing to be shown any more
                self._picture = shown.number, encoded

    def _forget(self) -> None:
        """Let go of everything that shows somebody."""
        self._shown = self._picture = None

    def _timeline(self, last: int, emotions: Sequence[str]) -> list[list[float]]:
        """Return, for each step, the oldest first, for how many seconds faces showed each of the emotions."""
        steps = dict(self._steps)
        return [
            [round(steps[step].get(emotion, 0.0), 2) for emotion in emotions] if step in steps else []
            for step in range(last - STEPS + 1, last + 1)
        ]


def _face(track: Track, time: float, labels: Sequence[str]) -> _Face:
    return _Face(
        track.number,
        track.box,
        labels[track.emotion],
        {label: float(share) for label, share in zip(labels, track.probabilities, strict=True)},
        time - track.first_seen,
        time - track.last_seen,
    )


def _described(face: _Face) -> dict[str, Any]:
    return {
        "number": face.number,
        "emotion": face.emotion,
        "probabilities": {label: round(share, 4) for label, share in face.probabilities.items()},
        "seconds": round(face.seconds, 1),
        "in_sight": face.unseen <= FRESH,
    }
