"""The worker threads and what ties them: the only file that starts analysis threads.

Each camera is a lane that issues numbered tickets, one per frame. A ticket says where in the frame to look: in a live
one by the last that the tracker has heard, in a recording by what it expected a fixed number of tickets before, so that
the same frames of a recording are looked at in the same way however fast the workers are. Workers, each with its own
detectors and classifier, take the next ticket of the lane that has waited longest; they keep no state. What they find
goes to the lane's tracker under the lane's lock and in the order of the tickets, whichever worker is done first.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edge.bundle import Bundle
from edge.emotions import Classifier
from edge.events import Box, EndReason
from edge.faces import Detector, Face, Image, crop, look
from edge.frames import Frame, Slot
from edge.metrics import CameraSeries, Metrics
from edge.regions import RegionDetector
from edge.schedule import WHOLE, Look, Schedule
from edge.tracking import Known, Observation, Outlook, Rules, Track, Tracker, Transition
from edge.yunet import YuNet

log = logging.getLogger(__name__)

#: A ticket not answered within this many seconds is skipped.
TICKET_TIMEOUT = 5.0
#: What raises costs a frame; this often within a minute, the process gives up.
FAILURES_PER_MINUTE = 5
#: So many tickets of a recording may be out at once, more than commonly, while the first of them is less than so many
#: seconds of the recording back: looks differ in cost, and a worker that waits for a dear one does nothing.
DEEP, DEEP_SECONDS = 4, 0.13
#: So many tickets earlier than others may be what a ticket of a recording goes by, if a look at a whole picture would
#: have to be waited for otherwise: it takes as long as several of the cheap looks that follow. Two always may, more
#: while that look is less than so many seconds of the recording back: faces move on.
BEYOND, BEYOND_ALWAYS, BEYOND_SECONDS = 4, 2, 0.17
IDLE = 0.2
#: Workers leave the processor to what reads cameras, where both want it: what waits to be read gets old unseen.
NICE = 3
#: A worker inside one analysis for longer than this makes no progress. That it is noticed, and the end of the process,
#: are to add 5 s at most to the time of the watchdog.
STUCK = 4.0


@dataclass(frozen=True)
class Ticket:
    """A frame on its way through a worker, and how to look at it."""

    number: int
    frame: Frame
    issued: float
    look: Look


#: Finds and reads the faces of a BGR picture.
Analyse = Callable[[Image, Look], list[Observation]]
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
        close: Callable[[Sequence[Transition], EndReason], None],
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


class Analyser:
    """One worker's detector and classifier: finds faces and reads their expression. One per thread.

    Args:
        bundle: the emotion model.
        threshold: least confidence of a face, 0–1.
        metrics: of the node.
        yunet: content of a YuNet file, for whole pictures; BlazeFace "back" without one.
    """

    def __init__(self, bundle: Bundle, threshold: float, metrics: Metrics, yunet: bytes | None = None) -> None:
        self._detector = Detector(threshold) if yunet is None else YuNet(yunet, threshold)
        self._regions = RegionDetector(threshold)
        self._classifier = Classifier(bundle)
        self._metrics = metrics

    def __call__(self, image: Image, how: Look = WHOLE) -> list[Observation]:
        """Return what is seen in a BGR picture, uint8 (height, width, 3); boxes and landmarks in fractions of it."""
        faces: list[tuple[Face, int | None]] = [(_in_pixels(known, image), known.number) for known in how.known]
        if not faces:
            faces = [(face, None) for face in self.find(image, how.places)]
        if not faces:
            return []
        started = time.perf_counter()
        observations = [self.observe(image, face, number) for face, number in faces]
        self._metrics.stages["classify"].observe(time.perf_counter() - started)
        self._metrics.inferences["classify"].inc(len(faces))
        return observations

    def find(self, image: Image, places: Sequence[Box] | None) -> list[Face]:
        """Find the faces of a BGR picture, in pixels of it."""
        if places is not None and not places:
            return []
        started = time.perf_counter()
        faces = self._detector(image) if places is None else self._regions(image, places)
        stage = "detect" if places is None else "regions"
        self._metrics.stages[stage].observe(time.perf_counter() - started)
        self._metrics.inferences[stage].inc(1 if places is None else self._regions.runs(len(places)))
        return faces

    def observe(self, image: Image, face: Face, number: int | None = None) -> Observation:
        """Return what is seen of one face of a BGR picture; `number` of its track if it was not looked for."""
        height, width = image.shape[:2]
        cut = crop(image, face.landmarks, self._classifier.rule, self._classifier.colour)
        x, y, w, h = face.box
        box = Box(x / width, y / height, w / width, h / height)
        probabilities = self._classifier(cut)
        if number is not None:
            return Observation(box, face.confidence, probabilities, number=number)
        landmarks = np.asarray(face.landmarks / (width, height), np.float32)
        return Observation(box, face.confidence, probabilities, look(cut), landmarks)


def _in_pixels(known: Known, image: Image) -> Face:
    height, width = image.shape[:2]
    box = known.box
    pixels = (box.x * width, box.y * height, box.width * width, box.height * height)
    return Face(pixels, known.confidence, np.asarray(known.landmarks * (width, height), np.float32))


class Pipeline:
    """Workers over lanes.

    Args:
        make_analyser: called once by each worker, in its thread.
        workers: how many threads.
        depth: how many tickets of a recording are commonly out at once; one a worker by default.
    """

    def __init__(self, make_analyser: Callable[[], Analyse], workers: int, depth: int = 0) -> None:
        self._make_analyser = make_analyser
        self._workers = workers
        self._depth = depth or workers
        self._lanes: list[Lane] = []
        self._wake = threading.Condition()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failures: deque[float] = deque()
        self._failures_lock = threading.Lock()
        self._busy_since: dict[str, float] = {}
        self.failed = threading.Event()

    def add(self, lane: Lane) -> None:
        """Add a camera."""
        lane.failed = self._count_failure
        lane.deepen(self._depth)
        self._lanes = [*self._lanes, lane]

    def remove(self, lane: Lane) -> None:
        """Serve a camera no more."""
        self._lanes = [each for each in self._lanes if each is not lane]

    def start(self) -> None:
        """Start the workers."""
        for number in range(self._workers):
            thread = threading.Thread(target=self._work, name=f"worker-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, timeout: float) -> None:
        """Stop the workers; frames they hold are still answered if that takes no longer than `timeout` seconds."""
        self._stopped.set()
        self.wake()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def change_analyser(self, make_analyser: Callable[[], Analyse]) -> None:
        """Let every worker make another analyser, before the first ticket that is issued from now on."""
        self._make_analyser = make_analyser

    def wake(self) -> None:
        """Say that a frame has come."""
        with self._wake:
            self._wake.notify()

    def check(self, now: float) -> int:
        """Skip tickets out for too long; returns how many. Called every second."""
        late = sum(lane.expire(now) for lane in self._lanes)
        if late:
            self.wake()
        return late

    def stuck(self, now: float) -> bool:
        """Tell whether a worker has been inside one analysis for too long."""
        return any(now - since > STUCK for since in list(self._busy_since.values()))

    def _work(self) -> None:
        """Analyse until stopped. A supervision point: what an analysis raises costs its frame only."""
        analyse: Analyse | None = None
        maker = self._make_analyser
        _step_back()
        name = threading.current_thread().name
        while not self._stopped.is_set():
            lane, ticket = None, None
            try:
                lane, ticket = self._take()
                if lane is None or ticket is None:
                    continue
                self._busy_since[name] = time.monotonic()
                if analyse is None or maker is not self._make_analyser:
                    maker = self._make_analyser
                    analyse = maker()
                lane.answer(ticket, analyse(ticket.frame.image, ticket.look))
            except Exception:
                log.exception("analysis failed; the worker starts again")
                if lane is not None and ticket is not None:
                    analyse = None
                    lane.answer(ticket, None)
                self._count_failure()
            finally:
                self._busy_since.pop(name, None)

    def _take(self) -> tuple[Lane | None, Ticket | None]:
        """Take the next ticket of the lane that has waited longest, waiting a moment for one."""
        with self._wake:
            now = time.monotonic()
            waits = {lane: lane.slot.worth_waiting(now) for lane in self._lanes if lane.ready()}
            ready = [lane for lane, seconds in waits.items() if not seconds]
            if not ready:
                self._wake.wait(min([IDLE, *waits.values()]))
                return None, None
            lane = min(ready, key=lambda lane: lane.last_served)
            ticket = lane.issue(now)
            if any(lane.ready() for lane in self._lanes):
                self._wake.notify()  # one answer can allow several tickets
            return lane, ticket

    def _count_failure(self) -> None:
        now = time.monotonic()
        with self._failures_lock:
            self._failures.append(now)
            while now - self._failures[0] > 60:
                self._failures.popleft()
            count = len(self._failures)
        if count >= FAILURES_PER_MINUTE:
            log.error("analysis failed %d times within a minute: giving up", count)
            self.failed.set()


def _step_back() -> None:
    """Lower this thread's priority by `NICE`, where the system has one for each thread."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):  # where that is forbidden it goes on as it is
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICE)
