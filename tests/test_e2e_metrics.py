"""A real Prometheus scrapes the daemon under traffic."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from edge.events import decode_event
from tests.parts import HOST, eventually
from tests.parts.broker import Mosquitto
from tests.parts.daemon import Daemon
from tests.parts.prometheus import Prometheus, promtool_check
from tests.parts.rtsp import RtspServer
from tests.parts.settings import settings_for
from tests.parts.subscriber import Subscriber
from tests.scenes import clear_portraits, compose, read_clip

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
    "host_temperature_celsius",
    "host_throttled",
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
    # Every frame whole, so that the detector runs once in each.
    daemon = start_daemon({**settings_for(broker, cam={"source": source}), "detector": {"interval": 0}})
    prometheus = start_prometheus([f"{HOST}:{daemon.config['metrics']['port']}"])
    # The stream ends, the camera is lost, and comes again: so there is a reconnect to count.
    eventually(lambda: daemon.value("emotion_edge_camera_reconnects_total", reason="ended") >= 1, 60, "end of stream")
    made = daemon.value("emotion_edge_events_total")
    eventually(lambda: len(subscriber.on("emotion/test/cam/event")) >= made, 30, "events")
    events = [decode_event(message.raw) for message in subscriber.on("emotion/test/cam/event")]
    # Those of the first time that it is played: faces of the second may be there by now.
    end = events[0].time + max(visit.vanish for visit in visits)
    starts = sum(event.type == "start" and event.time < end for event in events)
    assert len(visits) - 1 <= starts <= len(visits)

    def ask(series: str) -> list[float]:
        return [sample.value for sample in prometheus.query(f"emotion_edge_{series}")]

    for series in SERIES:
        eventually(partial(ask, series), 30, f"samples of {series}")
    assert ask('events_total{camera="cam",type="start"}')[0] >= starts
    # Between two questions there may be another scrape.
    series = "emotion_edge_faces_total - on(camera) emotion_edge_events_total{type='start'}"
    assert [sample.value for sample in prometheus.query(series)] == [0]
    assert ask("mqtt_connected") == [1]
    assert ask("model_info") == [1]

    def under_way() -> float:
        """Return how many frames are neither analysed nor dropped, by one page: frames come between two."""
        ways = {"captured": 1, "analysed": -1, "dropped": -1}
        signs = {f"emotion_edge_frames_{name}_total": sign for name, sign in ways.items()}
        return sum(signs[sample.name] * sample.value for sample in daemon.metrics() if sample.name in signs)

    eventually(lambda: 0 <= under_way() <= 4, 10, "account of every frame: analysed, dropped, or under way", under_way)
    analysed = daemon.value("emotion_edge_frames_analysed_total", camera="cam")
    assert daemon.value("emotion_edge_inferences_total", stage="detect") >= analysed

    status, text = daemon.get("/metrics")
    assert status == 200
    assert promtool_check(text) == ""
    assert "_created" not in text


def test_values_are_those_of_what_was_sent(
    broker: Mosquitto,
    subscriber: Subscriber,
    clips: Path,
    start_daemon: Callable[..., Daemon],
    start_prometheus: Callable[..., Prometheus],
) -> None:
    """A file of which frames, faces and their time in view are known, analysed without a loss."""
    appear, in_view = 0.5, 2.0
    clip = clips / "faces.mp4"
    visits = len(compose(clear_portraits(8, 3), clip, size=(640, 480), side=200, seconds=in_view))
    frames = len(read_clip(clip))
    config = settings_for(
        broker,
        cam={"source": str(clip), "pace": "fast"},
        none={"source": "rtsp://127.0.0.1:1/none"},  # keeps the daemon alive after the file's end
    )
    daemon = start_daemon({**config, "tracking": {"appear": appear}, "detector": {"interval": 0}})
    prometheus = start_prometheus([f"{HOST}:{daemon.config['metrics']['port']}"])
    subscriber.wait_for(
        lambda m: m.topic == "emotion/test/cam/status" and m.payload == {"state": "offline", "reason": "ended"}, 120
    )
    # The faces of a camera that is lost end after that was said.
    eventually(lambda: daemon.value("emotion_edge_events_total", type="end") >= visits, 30, "end of every face")
    made = daemon.value("emotion_edge_events_total")
    eventually(lambda: len(subscriber.on("emotion/test/cam/event")) >= made, 30, "all events")
    received = [decode_event(message.raw) for message in subscriber.on("emotion/test/cam/event")]
    assert [event.type for event in received].count("start") == visits

    expected = {
        'frames_captured_total{camera="cam"}': frames,
        'frames_analysed_total{camera="cam"}': frames,
        'sum(frames_dropped_total{camera="cam"})': 0,
        'frame_age_seconds_count{camera="cam"}': frames,
        'faces_total{camera="cam"}': visits,
        'events_total{camera="cam",type="start"}': visits,
        'events_total{camera="cam",type="end"}': visits,
        'events_total{camera="cam",type="change"}': len(received) - 2 * visits,
        "publish_ack_seconds_count": len(received),
        'inferences_total{stage="detect"}': frames,
        'faces_in_view{camera="cam"}': 0,
        "outbox_events": 0,
        "sum(events_dropped_total)": 0,
        # From its start event on, a face in view counts. One frame in eight may lack it.
        'sum(face_seconds_total{camera="cam"})': pytest.approx(visits * (in_view - appear), rel=0.12),
    }

    def scraped() -> dict[str, float]:
        names = (query.replace("sum(", "sum(emotion_edge_") for query in expected)
        queries = (query if query.startswith("sum(") else f"emotion_edge_{query}" for query in names)
        return {
            key: sample.value
            for key, query in zip(expected, queries, strict=True)
            for sample in prometheus.query(query)
        }

    eventually(lambda: scraped() == expected, 30, f"agreement with {expected}", scraped)
