"""A real Prometheus scrapes the daemon under traffic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge.events import decode_event
from tests.parts import HOST, eventually
from tests.parts.broker import Mosquitto
from tests.parts.daemon import Daemon
from tests.parts.prometheus import Prometheus, promtool_check
from tests.parts.rtsp import RtspServer
from tests.parts.settings import settings_for
from tests.parts.subscriber import Subscriber
from tests.scenes import clear_portraits, compose

#: Every series of the design that a daemon with a network camera has after a while; histograms by their count.
SERIES = [
    'frames_captured_total{camera="cam"}',
    'frames_dropped_total{camera="cam",reason="replaced"}',
    'frames_analysed_total{camera="cam"}',
    'frame_age_seconds_count{camera="cam"}',
    'capture_lag_seconds_count{camera="cam"}',
    'faces_total{camera="cam"}',
    'faces_in_view{camera="cam"}',
    'face_seconds_total{camera="cam",emotion="neutral"}',
    'events_total{camera="cam",type="start"}',
    'camera_up{camera="cam"}',
    'camera_paused{camera="cam"}',
    'camera_reconnects_total{camera="cam",reason="ended"}',
    'stage_duration_seconds_count{stage="detect"}',
    'stage_duration_seconds_count{stage="classify"}',
    'stage_duration_seconds_count{stage="track"}',
    'inferences_total{stage="detect"}',
    'inferences_total{stage="classify"}',
    'events_dropped_total{reason="overflow"}',
    "publish_ack_seconds_count",
    "mqtt_connected",
    "mqtt_reconnects_total",
    "outbox_events",
    "outbox_bytes",
    "outbox_oldest_seconds",
    'watchdog_stalls_total{stage="capture"}',
    'build_info{node="test"}',
    "model_info",
]


def test_prometheus_sees_what_was_sent(
    broker: Mosquitto,
    subscriber: Subscriber,
    clips: Path,
    rtsp_server: RtspServer,
    start_daemon: Callable[..., Daemon],
    start_prometheus: Callable[..., Prometheus],
) -> None:
    visits = compose(clear_portraits(4, 5), clips / "faces.mp4", size=(640, 480), side=200)
    source = rtsp_server.url("faces.mp4", loop=False)
    daemon = start_daemon(settings_for(broker, cam={"source": source}))
    prometheus = start_prometheus([f"{HOST}:{daemon.config['metrics']['port']}"])
    # The stream ends, the camera is lost, and comes again: so there is a reconnect to count.
    eventually(lambda: daemon.value("emotion_edge_camera_reconnects_total", reason="ended") >= 1, 60, "end of stream")
    events = [decode_event(message.raw) for message in subscriber.on("emotion/test/cam/event")]
    starts = sum(event.type == "start" for event in events)
    assert len(visits) - 1 <= starts <= len(visits)

    def ask(series: str) -> list[float]:
        return [sample.value for sample in prometheus.query(f"emotion_edge_{series}")]

    for series in SERIES:
        eventually(lambda series=series: ask(series), 15, f"samples of {series}")
    assert ask('events_total{camera="cam",type="start"}')[0] >= starts
    assert ask('faces_total{camera="cam"}') == ask('events_total{camera="cam",type="start"}')
    assert ask("mqtt_connected") == [1]
    assert ask("model_info") == [1]
    captured, analysed, dropped = (
        daemon.value(f"emotion_edge_{name}", camera="cam")
        for name in ("frames_captured_total", "frames_analysed_total", "frames_dropped_total")
    )
    assert 0 <= captured - analysed - dropped <= 4, "every frame is analysed, dropped, or under way"
    assert daemon.value("emotion_edge_inferences_total", stage="detect") >= analysed

    status, text = daemon.get("/metrics")
    assert status == 200
    assert promtool_check(text) == ""
    assert "_created" not in text
