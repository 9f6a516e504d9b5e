"""The worker threads and what ties them: the only file that starts analysis threads.

Each camera is a lane (`edge.lane`) that issues tickets. Workers, each with its own detectors and classifier, take the
next ticket of the lane that has waited longest; they keep no state.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from edge.faces import Image
from edge.lane import Lane, Ticket
from edge.schedule import Look
from edge.tracking import Observation

log = logging.getLogger(__name__)

#: What raises costs a frame; this often within a minute, the process gives up.
FAILURES_PER_MINUTE = 5
IDLE = 0.2
#: Workers leave the processor to what reads cameras, where both want it: what waits to be read gets old unseen.
NICE = 3
#: A worker inside one analysis for longer than this makes no progress. That it is noticed, and the end of the process,
#: are to add 5 s at most to the time of the watchdog.
STUCK = 4.0

#: Finds and reads the faces of a BGR picture.
Analyse = Callable[[Image, Look], list[Observation]]


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
