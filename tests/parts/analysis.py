"""The analysis of a clip as the daemon does it, frame by frame in this thread, its cost measured."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edge.analyser import Analyser
from edge.bundle import DEFAULT_MODEL, read_bundle
from edge.events import Box
from edge.faces import Face
from edge.frames import Frame, Slot
from edge.lane import Lane, Ticket
from edge.metrics import Metrics
from edge.replay import DEPTH
from edge.schedule import Schedule
from edge.tracking import Known, Observation, Place, Rules, Track, Tracker, Transition
from tests.parts.samples import LABELS

Image = npt.NDArray[np.uint8]
KEEP = 0.3


@dataclass
class Analysed:
    """What came of a clip.

    Attributes:
        transitions: in their order.
        views: per frame, number and box of each reported face that the frame showed.
        seen: per frame, the boxes found.
        whole: per frame, whether the whole picture was looked at.
        detection: processor seconds of finding faces.
        all: processor seconds of everything.
    """

    transitions: list[Transition] = field(default_factory=list)
    views: list[list[tuple[int, Box]]] = field(default_factory=list)
    seen: list[list[Box]] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)
    detection: float = 0.0
    all: float = 0.0

    def of(self, kind: str) -> list[Transition]:
        """Return the transitions of one type."""
        return [transition for transition in self.transitions if transition.type == kind]


class Analysis:
    """Analyses the frames of one clip.

    Args:
        schedule: where to look.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.result = Analysed()
        metrics = Metrics("node", "0")
        self._analyser = Analyser(read_bundle(DEFAULT_MODEL), KEEP, metrics)
        # Only the processor time of this thread counts: the machine may do other things.
        self._analyser.find = _timed(self._analyser.find, self._add)  # type: ignore[method-assign]
        self._slot = Slot(True, lambda: None, lambda: None)
        self._tracker = Tracker(Rules())
        series = metrics.camera("clip", LABELS)
        self._lane = Lane(self._slot, self._tracker, metrics, series, self._heard, schedule=schedule)
        self._lane.deepen(DEPTH)
        self._waiting: list[tuple[Ticket, list[Observation]]] = []

    def see(self, image: Image, at: float) -> None:
        """Analyse the next frame; its result becomes known with the next but one."""
        self._slot.put(Frame(image, at, at, 0.0), threading.Event())
        started = time.thread_time()
        ticket = self._lane.issue(at)
        assert ticket is not None
        found = self._analyser(image, ticket.look)
        self._waiting.append((ticket, found))
        self.result.whole.append(ticket.look.places is None)
        self.result.seen.append([observation.box for observation in found])
        if len(self._waiting) == DEPTH:
            self._lane.answer(*self._waiting.pop(0))
        self.result.all += time.thread_time() - started

    def finish(self) -> Analysed:
        """Return what came of it, every face ended."""
        for ticket, found in self._waiting:
            self._lane.answer(ticket, found)
        self.result.transitions += self._tracker.close()
        return self.result

    def _heard(self, _frame: Frame, transitions: Sequence[Transition], tracks: Sequence[Track]) -> None:
        self.result.transitions += transitions
        self.result.views.append([(track.number, track.box) for track in tracks if track.in_sight])

    def _add(self, seconds: float) -> None:
        self.result.detection += seconds


def side_by_side(pictures: Sequence[Image], rate: float, schedules: Sequence[Schedule]) -> list[Analysed]:
    """Analyse a clip in several ways, taking turns at each frame, so that a busy machine slows all of them alike."""
    analyses = [Analysis(schedule) for schedule in schedules]
    for number, picture in enumerate(pictures):
        for analysis in analyses:
            analysis.see(picture, number / rate)
    return [analysis.finish() for analysis in analyses]


def overlap(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes."""
    across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    shared = max(0.0, across) * max(0.0, down)
    return shared / max(1e-9, one.width * one.height + other.width * other.height - shared)


def _timed(find: Callable[..., list[Face]], add: Callable[[float], None]) -> Callable[..., list[Face]]:
    def timed(image: Image, places: Sequence[Place] | None, recent: Sequence[Known] = ()) -> list[Face]:
        started = time.thread_time()
        faces = find(image, places, recent)
        add(time.thread_time() - started)
        return faces

    return timed
