"""Every Prometheus series, in one table. Who measures calls the methods of `Metrics` or holds a bound series."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from edge.frames import Reason

_M = TypeVar("_M", Counter, Gauge, Histogram)

PREFIX = "emotion_edge"
STAGES = ("detect", "regions", "classify", "track")
STAGE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1)  # and +Inf: eight
AGE_BUCKETS = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 5.0)
LAG_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
ACK_BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0)
EVENT_TYPES = ("start", "change", "end")
DROPPED_FRAMES = ("replaced", "timeout", "failed", "unusable", "rate", "still", "behind", "model", "paused")
CAPTURE_INCIDENTS = ("drained", "reopened", "resized")
COMMANDS = ("done", "failed", "refused", "repeated", "retained", "oversized", "busy")
REFUSABLE = ("subscription", "state", "answer")
UNSAID = ("offline", "slow", "oversized")
DROPPED_EVENTS = ("overflow", "expired", "damaged", "refused", "stopped")


class _HostCpu(Collector):
    """Time of the machine's processor, as counters that the kernel keeps."""

    def __init__(self, read: Callable[[], tuple[float, float]]) -> None:
        self._read = read

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Read the counters."""
        text = "Time of all cores since boot; NaN if unknown."
        family = CounterMetricFamily(f"{PREFIX}_host_cpu_seconds_total", text, labels=["mode"])
        for mode, seconds in zip(("busy", "idle"), self._read(), strict=True):
            family.add_metric([mode], seconds)
        yield family


@dataclass(frozen=True)
class Figures:
    """Frames of a camera since the start: read, analysed, and those that no result came of, by reason."""

    captured: int
    analysed: int
    dropped: dict[str, int]


@dataclass(frozen=True)
class CameraSeries:
    """The series of one camera, bound to its label."""

    frames_captured: Counter
    frames_analysed: Counter
    frame_age: Histogram
    capture_lag: Histogram
    faces: Counter
    faces_in_view: Gauge
    up: Gauge
    paused: Gauge
    frames_dropped: dict[str, Counter]
    incidents: dict[str, Counter]
    face_seconds: dict[str, Counter]
    events: dict[str, Counter]

    def dropped(self) -> int:
        """Return how many frames no result came of, since the start."""
        return sum(_count(counter) for counter in self.frames_dropped.values())

    def figures(self) -> Figures:
        """Return the numbers of frames."""
        dropped = {reason: _count(counter) for reason, counter in self.frames_dropped.items()}
        return Figures(_count(self.frames_captured), _count(self.frames_analysed), dropped)


class Metrics:
    """The daemon's series, in a registry of their own.

    Args:
        node: name of the node.
        version: of the daemon.
    """

    def __init__(self, node: str, version: str) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._of_camera: dict[str, set[tuple[Counter | Gauge | Histogram, tuple[str, ...]]]] = {}
        self.registry = CollectorRegistry()
        self._frames_captured = self._counter("frames_captured_total", "Frames read from the source.", "camera")
        self._frames_dropped = self._counter(
            "frames_dropped_total", "Frames that no result came of, by reason.", "camera", "reason"
        )
        self._frames_analysed = self._counter(
            "frames_analysed_total", "Frames whose faces reached the tracker.", "camera"
        )
        self._frame_age = self._histogram(
            "frame_age_seconds", "From the return of read() to the tracker's result.", AGE_BUCKETS, "camera"
        )
        self._capture_lag = self._histogram(
            "capture_lag_seconds", "How far the stream was behind before read(), less the least.", LAG_BUCKETS, "camera"
        )
        self._incidents = self._counter(
            "capture_incidents_total",
            "Times a late stream was drained or opened again, or pictures changed their size.",
            *("camera", "kind"),
        )
        self._faces = self._counter("faces_total", "Faces that gave a start event.", "camera")
        self._faces_in_view = self._gauge("faces_in_view", "Faces being reported now.", "camera")
        self._face_seconds = self._counter(
            "face_seconds_total", "Time that faces showed an emotion.", "camera", "emotion"
        )
        self._events = self._counter("events_total", "Events made.", "camera", "type")
        self._camera_up = self._gauge("camera_up", "Whether the source gives frames.", "camera")
        self._camera_paused = self._gauge("camera_paused", "Whether the camera is paused by command.", "camera")
        self._reconnects = self._counter(
            "camera_reconnects_total", "Times the source was lost and opened again, by reason.", "camera", "reason"
        )
        stage = self._histogram("stage_duration_seconds", "Time of one pass of a stage.", STAGE_BUCKETS, "stage")
        inferences = self._counter("inferences_total", "Networks run.", "stage")
        dropped = self._counter("events_dropped_total", "Events never delivered, by reason.", "reason")
        self.stages = {name: stage.labels(name) for name in STAGES}
        self.inferences = {name: inferences.labels(name) for name in ("detect", "regions", "classify")}
        self.events_dropped = {reason: dropped.labels(reason) for reason in DROPPED_EVENTS}
        self.publish_ack = self._histogram(
            "publish_ack_seconds", "From publishing to the acknowledgement.", ACK_BUCKETS
        )
        commands = self._counter("commands_total", "Commands that came over MQTT, by what became of them.", "result")
        self.commands = {result: commands.labels(result) for result in COMMANDS}
        self.mqtt_connected = self._gauge("mqtt_connected", "Whether the broker has accepted the connection.")
        self.mqtt_reconnects = self._counter("mqtt_reconnects_total", "Connections to the broker after the first.")
        refusals = self._counter("mqtt_refusals_total", "What the broker did not take, beside events.", "what")
        self.mqtt_refusals = {what: refusals.labels(what) for what in REFUSABLE}
        unsaid = self._counter(
            "faces_messages_dropped_total",
            "Messages of each frame's faces that were dropped, by reason.",
            "reason",
        )
        self.faces_unsaid = {reason: unsaid.labels(reason) for reason in UNSAID}
        self._outbox_events = self._gauge("outbox_events", "Events waiting for the broker.")
        self._outbox_bytes = self._gauge("outbox_bytes", "Size of the events waiting for the broker.")
        self._outbox_oldest = self._gauge("outbox_oldest_seconds", "Age of the oldest event waiting.")
        self._outbox_durable = self._gauge("outbox_durable", "Whether events are written to the disk.")
        stalls = self._counter("watchdog_stalls_total", "Times a stage made no progress within its limit.", "stage")
        self.stalls = {name: stalls.labels(name) for name in ("capture", "analysis", "commit", "publish", "command")}
        self._build_info = self._gauge("build_info", "Always 1.", "version", "python", "node")
        self._build_info.labels(version, platform.python_version(), node).set(1)
        self._model_info = self._gauge("model_info", "The emotion model in use; always 1.", "name", "version")
        self.host_temperature = self._gauge("host_temperature_celsius", "Of the hottest zone; NaN if unknown.")
        self.host_throttled = self._gauge("host_throttled", "Whether the processor is slowed down now; NaN if unknown.")
        self._host_memory = self._gauge("host_memory_bytes", "Memory of the machine; NaN if unknown.")
        self._host_available = self._gauge("host_memory_available_bytes", "Memory still to be had; NaN if unknown.")
        self.preview_pictures = self._counter("preview_pictures_total", "Pictures made for the preview.")
        self.preview_seconds = self._counter(
            "preview_seconds_total", "Processor time of making pictures and figures for the preview."
        )
        self._preview_viewers = self._gauge("preview_viewers", "Pages of the preview that are open and seen.")
        ProcessCollector(namespace=PREFIX, registry=self.registry)

    def camera(self, name: str, emotions: tuple[str, ...]) -> CameraSeries:
        """Create the series of a camera, all label values included, so that rates exist from the start."""
        for reason in get_args(Reason):
            self._bound(self._reconnects, name, reason)
        return CameraSeries(
            frames_captured=self._bound(self._frames_captured, name),
            frames_analysed=self._bound(self._frames_analysed, name),
            frame_age=self._bound(self._frame_age, name),
            capture_lag=self._bound(self._capture_lag, name),
            faces=self._bound(self._faces, name),
            faces_in_view=self._bound(self._faces_in_view, name),
            up=self._bound(self._camera_up, name),
            paused=self._bound(self._camera_paused, name),
            frames_dropped={reason: self._bound(self._frames_dropped, name, reason) for reason in DROPPED_FRAMES},
            incidents={kind: self._bound(self._incidents, name, kind) for kind in CAPTURE_INCIDENTS},
            face_seconds={emotion: self._bound(self._face_seconds, name, emotion) for emotion in emotions},
            events={kind: self._bound(self._events, name, kind) for kind in EVENT_TYPES},
        )

    def lost(self, camera: str) -> int:
        """Return how many frames of a camera were lost to failures of the analysis."""
        name = f"{PREFIX}_frames_dropped_total"
        labels = ({"camera": camera, "reason": reason} for reason in ("failed", "timeout"))
        return int(sum(self.registry.get_sample_value(name, each) or 0 for each in labels))

    def delivered(self) -> int:
        """Return how many messages of the outbox the broker acknowledged."""
        return int(self.registry.get_sample_value(f"{PREFIX}_publish_ack_seconds_count") or 0)

    def refused(self) -> int:
        """Return how many messages the broker refused for good."""
        return int(self.registry.get_sample_value(f"{PREFIX}_events_dropped_total", {"reason": "refused"}) or 0)

    def reconnect(self, camera: str, reason: str) -> None:
        """Count a source that gives frames again, after it was lost for `reason`."""
        self._bound(self._reconnects, camera, reason).inc()

    def forget(self, camera: str) -> None:
        """Remove every series of a camera."""
        for metric, labels in self._of_camera.pop(camera, set()):
            metric.remove(*labels)

    def totals(self) -> tuple[int, int]:
        """Return how many cameras are up, and how many frames were analysed of those that there are."""
        up, frames = (
            sum(sample.value for family in metric.collect() for sample in family.samples)
            for metric in (self._camera_up, self._frames_analysed)
        )
        return int(up), int(frames)

    def model(self, name: str, version: str) -> None:
        """Name the model in use."""
        self._model_info.clear()
        self._model_info.labels(name, version).set(1)

    def host(
        self,
        temperature: Callable[[], float],
        throttled: Callable[[], float],
        cpu: Callable[[], tuple[float, float]],
        memory: Callable[[], tuple[float, float]],
    ) -> None:
        """Read the machine's load and health when asked for.

        Args:
            temperature: in degrees Celsius.
            throttled: whether the processor is slowed down.
            cpu: seconds that the cores have worked and been idle since boot.
            memory: bytes in all and still available.
        """
        self.host_temperature.set_function(temperature)
        self.host_throttled.set_function(throttled)
        self._host_memory.set_function(lambda: memory()[0])
        self._host_available.set_function(lambda: memory()[1])
        self.registry.register(_HostCpu(cpu))

    def outbox(
        self,
        events: Callable[[], int],
        size: Callable[[], int],
        oldest: Callable[[], float],
        durable: Callable[[], bool] = lambda: True,
    ) -> None:
        """Read the queue's figures when asked for."""
        self._outbox_durable.set_function(durable)
        self._outbox_events.set_function(events)
        self._outbox_bytes.set_function(size)
        self._outbox_oldest.set_function(oldest)

    def preview(self, viewers: Callable[[], int]) -> None:
        """Read how many look at the preview when asked for."""
        self._preview_viewers.set_function(viewers)

    def text(self) -> bytes:
        """Return the series in Prometheus' text format."""
        return generate_latest(self.registry)

    def _bound(self, metric: _M, camera: str, *labels: str) -> _M:
        """Bind a metric to the labels of a camera, and remember that."""
        self._of_camera.setdefault(camera, set()).add((metric, (camera, *labels)))
        return metric.labels(camera, *labels)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", text, labels, buckets=buckets, registry=self.registry)


def _count(counter: Counter) -> int:
    """Return the value of a counter that is bound to its labels."""
    return int(sum(sample.value for sample in next(iter(counter.collect())).samples))
