"""One camera from its source to its events: ties capture, lane and tracker together and says what they find."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from edge.capture import Capture, SourceFactory
from edge.events import Box, EndReason, Event, EventFace, FaceInView, encode_faces, event_id, state
from edge.frames import AHEAD, Frame, Reason, Slot
from edge.gate import Gate
from edge.lane import TICKET_TIMEOUT, Lane
from edge.metrics import Metrics
from edge.pipeline import Pipeline
from edge.preview.pages import Preview
from edge.schedule import Schedule
from edge.settings import CameraSettings
from edge.sources import make_source
from edge.store import Message
from edge.summary import Summary
from edge.tracking import Rules, Track, Tracker, Transition
from edge.zones import FaceFilter

log = logging.getLogger(__name__)

#: The retained summary of the view is sent at most this often, seconds.
VIEW_INTERVAL = 1.0
#: How long a live camera that was lost waits for frames still with workers, seconds.
LIVE_DRAIN = 1.0
#: The longest time that counts as time in view of a face that the frame before did not show, seconds.
LONGEST_STEP = 1.0


class EventSink(Protocol):
    """Where events go; the outbox is one."""

    @property
    def epoch(self) -> int:
        """Milliseconds since 1970 when the numbers of events began."""

    def number(self, camera: str) -> int:
        """Return the number of a camera's next event; (`epoch`, number) never goes back."""

    def put(self, events: Iterable[Event]) -> None:
        """Take events in order; never waits."""

    def put_message(self, message: Message) -> None:
        """Take another message; never waits."""


class Camera:
    """A camera of the node.

    Args:
        name: of the camera.
        settings: of the camera.
        rules: when faces and emotions count.
        interval: seconds between looks at the whole picture.
        node: name of the node.
        labels: the emotions in the order of the model's output.
        model: name and version of the model, for events.
        pipeline: analyses the frames.
        outbox: takes the events.
        set_state: takes retained states, topic (below the node's) and payload.
        metrics: counts.
        factory: makes the source of the settings.
        least_people: privacy: nothing is said of single faces, and emotions only in summaries of at least so many
            people; none to say everything.
        preview: shows what the camera sees; none for no preview.
        say: takes what may be lost, topic (below the node's) and payload; must not wait.

    Attributes:
        rules: when faces and emotions count now.
        paused: whether frames are read but not analysed, by command.
    """

    def __init__(
        self,
        name: str,
        settings: CameraSettings,
        *,
        rules: Rules,
        interval: float,
        node: str,
        labels: tuple[str, ...],
        model: str,
        pipeline: Pipeline,
        outbox: EventSink,
        set_state: Callable[[str, bytes], None],
        metrics: Metrics,
        factory: SourceFactory = make_source,
        least_people: int | None = None,
        preview: Preview | None = None,
        say: Callable[[str, bytes], None] | None = None,
    ) -> None:
        self.name = name
        self._node = node
        self._labels = labels
        self._model = model
        self._outbox = outbox
        self._set_state = set_state
        self._metrics = metrics
        self._aggregate = least_people is not None
        self._say_faces = say if settings.faces and not self._aggregate else None
        self._series = metrics.camera(name, () if self._aggregate else labels)
        self._summary = Summary(node, name, labels, model, least_people or 0)
        replaced = self._series.frames_dropped["replaced"].inc
        ahead = AHEAD if settings.pace == "fast" else 1
        self._slot = Slot(settings.recorded, pipeline.wake, replaced, ahead)
        tracker = Tracker(rules)
        counts = FaceFilter(settings.zones, settings.masks, settings.min_face)
        self._lane = Lane(self._slot, tracker, metrics, self._series, self._analysed, counts, Schedule(interval))
        self._gate = Gate(settings, tracker.following)
        self.capture = Capture(name, settings, self._slot, self, factory)
        self._insecure = settings.tls.insecure
        self.rules = rules
        self.paused = False
        self._status: tuple[Literal["online", "offline"], dict[str, str]] = ("offline", {"reason": "starting"})
        self._status_lock = threading.Lock()
        self._last: Frame | None = None
        self._in_last: set[int] = set()
        self._size: tuple[int, ...] | None = None
        self._first_seen: dict[int, float] = {}
        self._face_ids: dict[int, str] = {}
        self._view: tuple[int, str] | None = None
        self._view_sent = float("-inf")
        self._complaint = ""
        self._recorded = settings.recorded
        self._up = False
        self._left = False
        self._lost_for: Reason | None = None
        self._pipeline = pipeline
        self._shown = preview and preview.add(name, settings.masks, settings.zones, lambda: self._series.figures())
        pipeline.add(self._lane)

    def start(self) -> None:
        """Say that the camera is not there yet, and begin to read it."""
        if self._insecure:
            log.warning("camera %s: tls.insecure takes any certificate; name the authority's as tls.ca", self.name)
        self._series.paused.set(self.paused)
        self._tell_status("offline", reason="starting")
        self._tell_view([], 0.0, now=True)
        self._summary.begin(time.time(), self._series.dropped())
        self.capture.start()

    def stop_reading(self, timeout: float) -> None:
        """Stop reading, within `timeout` seconds."""
        self.capture.stop(timeout)

    def summarise(self) -> None:
        """Say what was seen since the last time."""
        self._outbox.put_message(self._summary.tell(time.time(), self._series.dropped(), self._outbox.epoch))

    def stop(self) -> None:
        """End every face and say that the camera is stopped; after the workers have stopped."""
        self._lane.end_faces("stopped", self._closed)
        self.summarise()
        self._tell_status("offline", reason="stopped")

    def leave(self, deadline: float, removed: bool) -> None:
        """Stop while others go on, and say nothing more, whatever a thread that is still reading finds.

        Args:
            deadline: on the monotonic clock, for the reading thread and frames with workers.
            removed: no other of this name comes, so nothing is said that would be retained.
        """
        self.stop_reading(max(0.0, deadline - time.monotonic()))
        self._lane.drain(max(0.0, deadline - time.monotonic()))
        self._pipeline.remove(self._lane)
        self._lane.leave(self._closed)
        if not removed:
            self.summarise()
            self._tell_status("offline", reason="stopped")
        with self._status_lock:
            self._left = True
        if removed:
            self._metrics.forget(self.name)

    def pause(self) -> None:
        """Analyse no more frames, with every face ended, until told otherwise; they are still read."""
        self._lane.pause(self._closed)
        self._tell_paused(True)

    def resume(self) -> None:
        """Analyse again after a pause."""
        self._lane.resume()
        self._tell_paused(False)

    def change_rules(self, rules: Rules) -> None:
        """Go by other rules from the next frame on."""
        self.rules = rules
        self._lane.change_rules(rules)

    def change_model(self, labels: tuple[str, ...], model: str) -> None:
        """Go on with another model, by which the workers analyse already; faces in view end."""

        def changed() -> None:
            self.summarise()  # up to here by the old one
            self._summary.change_model(labels, model)
            self._labels, self._model, self._series = labels, model, series
            self._tell_view([], 0.0, now=True)

        series = self._metrics.camera(self.name, () if self._aggregate else labels)
        self._lane.change_model(series, self._closed, changed)

    def wanted(self, time: float) -> bool:
        """Tell whether a frame at `time` would be analysed, as far as that depends on its time."""
        return self._gate.wanted(time)

    def captured(self, frame: Frame) -> Frame | None:
        """Count a frame that was read; returns it as it is to be analysed, none if it is not."""
        self._series.frames_captured.inc(1 + frame.skipped + frame.broken)
        self._series.frames_dropped["unusable"].inc(frame.broken)
        if frame.lag is not None:
            self._series.capture_lag.observe(frame.lag)
        if frame.skipped:
            self._series.incidents["drained"].inc()
            self._series.frames_dropped["behind"].inc(frame.skipped)
        passed = self._gate(frame)
        if not isinstance(passed, Frame):
            self._series.frames_dropped[passed].inc()
            return None
        self._note_size(passed)
        return passed

    def reopened(self, skipped: int, broken: int) -> None:
        """The source had fallen behind; so many frames were thrown away for it, or not decoded."""
        log.info("camera %s: fell behind; opened again", self.name)
        self._series.frames_captured.inc(skipped + broken)
        self._series.frames_dropped["behind"].inc(skipped)
        self._series.frames_dropped["unusable"].inc(broken)
        self._series.incidents["reopened"].inc()

    def online(self) -> None:
        """The source gives frames."""
        if self._left:
            return
        log.info("camera %s: online", self.name)
        self._complaint = ""
        if self._lost_for is not None:
            self._metrics.reconnect(self.name, self._lost_for)
            self._lost_for = None
        self._up = True
        self._tell_status("online")

    def offline(self, reason: Reason, message: str) -> None:
        """The source gives no frames."""
        if self._left:
            return
        line = f"camera {self.name}: offline ({reason}): {message}"
        if line != self._complaint:
            log.warning("%s", line)
        self._complaint = line
        if self._up:
            self._lost_for = reason
        self._up = False
        self._tell_status("offline", reason=reason)
        # A frame still with a worker would begin faces anew after their end.
        if self._recorded:
            self._lane.finish(TICKET_TIMEOUT)
        else:
            self._lane.drain(LIVE_DRAIN)
        self._lane.end_faces("camera_offline", self._closed)

    def _tell_paused(self, paused: bool) -> None:
        with self._status_lock:
            self.paused = paused
            self._series.paused.set(paused)
            self._send_status()

    def _tell_status(self, name: Literal["online", "offline"], **details: str) -> None:
        with self._status_lock:
            if not self._left:
                self._series.up.set(name == "online")
            self._status = name, details
            self._send_status()

    def _send_status(self) -> None:
        """Send the status; under its lock, so that of two changes at once the last is told last."""
        if self._left:
            return  # another of this name may have spoken since
        name, details = self._status
        if self._shown:
            self._shown.status(name, details.get("reason", ""), self.paused)
        payload = state(name, **details, paused=True) if self.paused else state(name, **details)
        self._set_state(f"{self.name}/status", payload)

    def _note_size(self, frame: Frame) -> None:
        size = frame.image.shape[:2]
        if self._size is not None and size != self._size:
            log.info("camera %s: pictures are %d×%d now", self.name, size[1], size[0])
            self._series.incidents["resized"].inc()
        self._size = size

    def _analysed(self, frame: Frame, transitions: Sequence[Transition], tracks: Sequence[Track]) -> None:
        """Take in the result of one frame; called in order, under the lane's lock."""
        step = max(0.0, frame.time - self._last.time) if self._last else 0.0
        seen_before, self._last = self._in_last, frame
        self._in_last = {track.number for track in tracks if track.in_sight}
        self._put(transitions, frame, "left")
        self._summary.see(track.number for track in tracks)
        for track in tracks:
            if track.number in self._in_last:
                seconds = step if track.number in seen_before else min(step, LONGEST_STEP)
                emotion = self._labels[track.emotion]
                self._summary.add_time(emotion, seconds)
                if not self._aggregate:
                    self._series.face_seconds[emotion].inc(seconds)
                if self._shown:
                    self._shown.add_time(emotion, seconds)
        self._series.faces_in_view.set(len(tracks))
        if self._shown:
            self._shown.see(frame, tracks, self._labels)
        self._tell_view(tracks, frame.captured)
        if self._say_faces is not None and not self._left:
            faces = (self._in_view(track) for track in tracks)
            payload = encode_faces(self._node, self.name, frame.wall, faces, self._model)
            self._say_faces(f"{self.name}/faces", payload)

    def _closed(self, transitions: Sequence[Transition], reason: EndReason) -> None:
        last = self._last
        if last is not None:
            self._put(transitions, last, reason)
        self._tell_view([], 0.0, now=True)

    def _put(self, transitions: Sequence[Transition], frame: Frame, end_reason: EndReason) -> None:
        if self._aggregate:
            self._series.faces.inc(sum(transition.type == "start" for transition in transitions))
        else:
            self._outbox.put([self._event(transition, frame, end_reason) for transition in transitions])

    def _event(self, transition: Transition, frame: Frame, end_reason: EndReason) -> Event:
        def wall(time: float) -> float:
            return frame.wall - (frame.time - time)

        number, epoch = self._outbox.number(self.name), self._outbox.epoch
        if transition.type == "start":
            self._face_ids[transition.number] = f"{self._node}-{self.name}-{epoch}-{number}"
            # Kept, so that a step of the wall clock does not change it between a face's events.
            self._first_seen[transition.number] = wall(transition.first_seen)
            self._series.faces.inc()
        first_seen = self._first_seen.get(transition.number, wall(transition.first_seen))
        face_id = self._face_ids[transition.number]
        if transition.type == "end":
            self._first_seen.pop(transition.number, None)
            del self._face_ids[transition.number]
        self._series.events[transition.type].inc()
        time = wall(transition.time)
        return Event(
            id=event_id(self._node, self.name, epoch, number, time),
            epoch=epoch,
            seq=number,
            node=self._node,
            camera=self.name,
            type=transition.type,
            time=time,
            first_seen=first_seen,
            face=EventFace(
                face_id,
                _clipped(transition.box),
                round(transition.confidence, 4),
            ),
            emotion=self._labels[transition.emotion],
            probability=round(float(transition.probabilities[transition.emotion]), 4),
            probabilities=self._by_label(transition.probabilities),
            previous=None if transition.previous is None else self._labels[transition.previous],
            duration=None if transition.duration is None else round(transition.duration, 3),
            reason=end_reason if transition.type == "end" else None,
            model=self._model,
        )

    def _in_view(self, track: Track) -> FaceInView:
        probabilities = track.probabilities
        return FaceInView(
            id=self._face_ids[track.number],
            box=_clipped(track.box),
            confidence=round(track.confidence, 4),
            in_sight=track.number in self._in_last,
            emotion=self._labels[track.emotion],
            probability=round(float(probabilities[track.emotion]), 4),
            probabilities=self._by_label(probabilities),
        )

    def _by_label(self, probabilities: npt.NDArray[np.floating]) -> dict[str, float]:
        return {label: round(float(p), 4) for label, p in zip(self._labels, probabilities, strict=True)}

    def _tell_view(self, tracks: Sequence[Track], time: float, now: bool = False) -> None:
        """Send the retained summary of the view when it has changed, at most once a second unless `now`."""
        if self._left:
            return
        if self._aggregate:
            if now:
                self._set_state(f"{self.name}/emotion", b"")  # what was retained before goes
            return
        dominant = Counter(self._labels[track.emotion] for track in tracks).most_common(1)
        view = (len(tracks), dominant[0][0] if dominant else "none")
        if view == self._view or (not now and time - self._view_sent < VIEW_INTERVAL):
            return
        self._view = view
        self._view_sent = self._view_sent if now else time
        mean = np.mean([track.probabilities for track in tracks], axis=0) if tracks else np.zeros(len(self._labels))
        payload = {"faces": view[0], "emotion": view[1], "scores": self._by_label(mean)}
        self._set_state(f"{self.name}/emotion", json.dumps(payload, separators=(",", ":")).encode())


def _clipped(box: Box) -> Box:
    """Clip a box to the picture."""
    left, top = (min(max(value, 0.0), 1.0) for value in (box.x, box.y))
    right, bottom = (min(max(value, 0.0), 1.0) for value in (box.x + box.width, box.y + box.height))
    return Box(round(left, 4), round(top, 4), round(right - left, 4), round(bottom - top, 4))
