"""One camera's way through the workers: tickets out, answers in, both in order.

A lane issues numbered tickets, one per frame. A ticket says where in the frame to look: in a live one by the last that
the tracker has heard, in a recording by what it expected a fixed number of tickets before, so that the same frames of a
recording are looked at in the same way however fast the workers are. What they find goes to the lane's tracker under
the lane's lock and in the order of the tickets, whichever worker is done first.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from edge.events import Box, EndReason
from edge.frames import Frame, Slot
from edge.metrics import CameraSeries, Metrics
from edge.schedule import Look, Schedule
from edge.tracking import Observation, Outlook, Rules, Track, Tracker, Transition

log = logging.getLogger(__name__)

#: A ticket not answered within this many seconds is skipped.
TICKET_TIMEOUT = 5.0
#: So many tickets of a recording may be out at once, more than commonly, while the first of them is less than so many
#: seconds of the recording back: looks differ in cost, and a worker that waits for a dear one does nothing.
DEEP, DEEP_SECONDS = 4, 0.13
#: So many tickets earlier than others may be what a ticket of a recording goes by, if a look at a whole picture would
#: have to be waited for otherwise: it takes as long as several of the cheap looks that follow. Two always may, more
#: while that look is less than so many seconds of the recording back: faces move on.
BEYOND, BEYOND_ALWAYS, BEYOND_SECONDS = 4, 2, 0.17


@dataclass(frozen=True)
class Ticket:
    """A frame on its way through a worker, and how to look at it."""

    number: int
    frame: Frame
    issued: float
    look: Look


#: Told of each analysed frame: the frame, what changed, and the faces in view.
Listener = Callable[[Frame, Sequence[Transition], Sequence[Track]], None]
#: Told of faces that end for a reason other than leaving.
Closed = Callable[[Sequence[Transition], EndReason], None]


class Lane:
    """One camera's frames, tickets and tracker.

    Args:
        slot: where the camera's frames arrive.
        tracker: of this camera.
        metrics: of the node.
        series: of this camera.
        listener: told of each analysed frame, in order, under the lane's lock.
        counts: tells by its box whether a face counts.
        schedule: says where to look in each frame; the whole of it by default.

    Attributes:
        failed: called when tracker or listener raised; set by the pipeline that the lane is added to.
    """

    def __init__(
        self,
        slot: Slot,
        tracker: Tracker,
        metrics: Metrics,
        series: CameraSeries,
        listener: Listener,
        counts: Callable[[Box], bool] = lambda _: True,
        schedule: Schedule | None = None,
    ) -> None:
        self.slot = slot
        self._track_seconds = metrics.stages["track"]
        self.series = series
        self.last_served = 0.0
        self.failed: Callable[[], None] = lambda: None
        self._tracker = tracker
        self._listener = listener
        self._counts = counts
        self._schedule = schedule or Schedule(0.0)
        self._lock = threading.Condition()
        self._open: dict[int, Ticket] = {}
        self._answers: dict[int, tuple[Ticket, Sequence[Observation]] | None] = {}
        self._issued = 0
        self._next = 0
        self._paused = False
        self.deepen(1)

    def deepen(self, depth: int) -> None:
        """Set how many tickets of a recording are commonly out at once; before the first one."""
        self._depth = depth
        most = max(depth, DEEP) + BEYOND
        self._outlooks = deque([Outlook()] * most, maxlen=most)
        self._times: deque[tuple[int, float]] = deque(maxlen=DEEP)
        self._wholes: deque[tuple[int, float]] = deque(maxlen=most)

    def in_flight(self) -> int:
        """Return how many tickets are with workers."""
        return len(self._open)

    def ready(self) -> bool:
        """Tell whether a frame waits and the result is known by which to look at it."""
        return self.slot.waiting() and self._next > self._needed()

    def issue(self, now: float) -> Ticket | None:
        """Take the waiting frame and number it; none if there is none, or it is too early for it."""
        with self._lock:
            frame = self.slot.take(now) if self.ready() else None
            if frame is None:
                return None
            self.last_served = now
            if self._paused:
                self.series.frames_dropped["paused"].inc()
                self._lock.notify_all()
                return None
            # The last of the outlooks is that after ticket `_next - 1`.
            outlook = self._outlooks[self._needed() - self._next if self.slot.keep_all else -1]
            with contextlib.ExitStack() as lost:
                lost.callback(self.series.frames_dropped["failed"].inc)
                look = self._schedule.look(frame.time, outlook, frame.image)
                lost.pop_all()
            ticket = Ticket(self._issued, frame, now, look)
            if ticket.look.places is None:
                self._wholes.append((ticket.number, frame.time))
            self._times.append((ticket.number, frame.time))
            self._issued += 1
            self._open[ticket.number] = ticket
            return ticket

    def answer(self, ticket: Ticket, observations: Sequence[Observation] | None) -> None:
        """Hand in a ticket; none for a frame that could not be analysed. Late answers are ignored."""
        with self._lock:
            if self._open.pop(ticket.number, None) is None:
                return
            if observations is None:
                self.series.frames_dropped["failed"].inc()
            self._answers[ticket.number] = None if observations is None else (ticket, observations)
            self._follow()

    def drain(self, timeout: float) -> None:
        """Wait until every frame that was read is analysed, for at most `timeout` seconds."""
        with self._lock:
            self._lock.wait_for(lambda: not self.slot.waiting() and not self._open, timeout)

    def finish(self, patience: float) -> None:
        """Wait until every frame that was read is analysed, as long as one is within each `patience` seconds."""
        with self._lock:
            moved = True
            while moved and (self.slot.waiting() or self._open):
                before = self._next
                moved = self._lock.wait_for(partial(self._beyond, before), patience)

    def _beyond(self, number: int) -> bool:
        """Tell whether a ticket was followed since, or nothing is left."""
        return self._next > number or not (self.slot.waiting() or self._open)

    def expire(self, now: float) -> int:
        """Skip tickets that were not answered in time; returns how many."""
        with self._lock:
            late = [ticket for ticket in self._open.values() if now - ticket.issued > TICKET_TIMEOUT]
            for ticket in late:
                del self._open[ticket.number]
                self._answers[ticket.number] = None
                self.series.frames_dropped["timeout"].inc()
            self._follow()
            return len(late)

    def end_faces(self, reason: EndReason, close: Closed) -> None:
        """End every face of this camera, `close` being told under the lane's lock."""
        with self._lock:
            self._end_faces(reason, close)

    def change_model(
        self,
        series: CameraSeries,
        close: Closed,
        changed: Callable[[], None],
    ) -> None:
        """Go on with another model: what the old one has under way is skipped, and its faces end.

        Args:
            series: of this camera from now on.
            close: told of the faces that end, under the lane's lock.
            changed: called thereafter, under the lane's lock, before the first result of the new model.
        """
        with self._lock:
            self._give_up("model")
            self._end_faces("model_changed", close)
            self.series = series
            changed()

    def pause(self, close: Closed) -> None:
        """Analyse nothing from here on: what is under way is dropped, faces end, frames that come are dropped."""
        with self._lock:
            self._paused = True
            self._give_up("paused")
            self._end_faces("paused", close)

    def resume(self) -> None:
        """Analyse again."""
        with self._lock:
            self._paused = False

    def leave(self, close: Closed) -> None:
        """Analyse nothing ever after: what is under way is given up, and faces end."""
        with self._lock:
            self._paused = True
            self._give_up("timeout")
            self._end_faces("stopped", close)

    def change_rules(self, rules: Rules) -> None:
        """Let the tracker go by other rules."""
        with self._lock:
            self._tracker.change_rules(rules)

    def _needed(self) -> int:
        """Return the number of the ticket by whose result the next one is looked at."""
        times, wholes = tuple(self._times), tuple(self._wholes)
        latest = times[-1][1] if times else 0.0
        near = [number for number, at in times if latest - at < DEEP_SECONDS and self._depth > 1]
        needed = min([self._issued - self._depth, *near])
        for number, at in wholes:
            further = BEYOND if latest - at < BEYOND_SECONDS else BEYOND_ALWAYS
            if needed - further < number <= needed:
                return number - 1
        return needed

    def _give_up(self, reason: str) -> None:
        """Skip every ticket that is out, and take in what was answered behind them."""
        for number in self._open:
            self._answers[number] = None
            self.series.frames_dropped[reason].inc()
        self._open.clear()
        self._follow()

    def _end_faces(self, reason: EndReason, close: Closed) -> None:
        close(self._tracker.close(), reason)
        self._outlooks.extend([Outlook()] * len(self._outlooks))
        self.series.faces_in_view.set(0)

    def _follow(self) -> None:
        """Take in, in order, every answer up to the first ticket still out.

        A supervision point, whichever thread it runs in: what the tracker or the listener raises costs a frame only.
        """
        self._lock.notify_all()
        while self._next in self._answers:
            answer = self._answers.pop(self._next)
            self._next += 1
            try:
                if answer is not None:
                    self._take_in(*answer)
            except Exception:
                log.exception("what a frame showed cannot be followed; the frame is lost")
                self.series.frames_dropped["failed"].inc()
                self.failed()
            self._outlooks.append(self._tracker.outlook())

    def _take_in(self, ticket: Ticket, observations: Sequence[Observation]) -> None:
        frame = ticket.frame
        height, width = frame.image.shape[:2]
        self._tracker.aspect = width / height
        started = time.perf_counter()
        follow = self._tracker.read if ticket.look.known else self._tracker.update
        transitions = follow(frame.time, [seen for seen in observations if self._counts(seen.box)])
        self._track_seconds.observe(time.perf_counter() - started)
        self._listener(frame, transitions, self._tracker.in_view())
        self.series.frames_analysed.inc()
        self.series.frame_age.observe(time.monotonic() - frame.captured)
