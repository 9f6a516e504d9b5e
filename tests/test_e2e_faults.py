"""What goes wrong in the field, with real parts: broker, camera, model and settings."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.demo.encode import write_clip
from edge.events import decode_event
from tests.conftest import Parts
from tests.parts import HOST, eventually
from tests.parts.broker import Mosquitto
from tests.parts.camera import Authority, FakeCamera, hang_up, http, rtsp, silent
from tests.parts.daemon import Daemon
from tests.parts.rtsp import RtspServer
from tests.parts.samples import portrait, write_model
from tests.parts.settings import settings_for
from tests.parts.subscriber import Message, Subscriber
from tests.scenes import clear_portraits, compose

STATUS = "emotion/test/cam/status"
ANALYSED = "emotion_edge_frames_analysed_total"
H266 = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H266/90000\r\n"
DEMO = Path(__file__).parents[1] / "edge" / "media" / "demo.mp4"


@pytest.fixture
def camera(clips: Path, rtsp_server: RtspServer) -> str:
    """A camera that shows faces for ever."""
    compose(clear_portraits(8, 3), clips / "faces.mp4", size=(640, 480), side=200, gap=2.2)
    return rtsp_server.url("faces.mp4")


def test_broker_outage_every_event_is_counted(
    broker: Mosquitto, subscriber: Subscriber, camera: str, rtsp_server: RtspServer, start_daemon: Callable[..., Daemon]
) -> None:
    daemon = start_daemon({**settings_for(broker, cam={"source": camera}), "summary": {"period": 1}})
    subscriber.wait_for(lambda m: m.topic.endswith("/event"), what="event", timeout=30)
    before = subscriber.subscriptions
    broker.stop()
    eventually(lambda: daemon.value("emotion_edge_mqtt_connected") == 0, 30, "noticed outage")
    made = daemon.value("emotion_edge_events_total")
    eventually(lambda: daemon.value("emotion_edge_events_total") >= made + 8, 60, "events during the outage")
    assert daemon.value("emotion_edge_outbox_events") >= 8
    broker.start()
    subscriber.wait_subscribed(before)
    # An outage of a minute has brought the publisher to its longest pause, half a minute and a fifth.
    eventually(lambda: daemon.value("emotion_edge_outbox_events") == 0, 90, "drained queue")
    # Retained states are there again, and events go on.
    seen = len(subscriber.messages)
    subscriber.wait_for(lambda m: m.topic.endswith("/event"), what="event after the outage", timeout=30, start=seen)
    made = _all_events_made(daemon, rtsp_server)
    eventually(lambda: daemon.value("emotion_edge_outbox_events") == 0, 30, "delivered events")
    assert daemon.value("emotion_edge_events_dropped_total") == 0
    assert daemon.stop() == 0
    subscriber.wait_for_farewell()
    events = [decode_event(message.raw) for message in subscriber.on("emotion/test/cam/event")]
    received = list({event.id: event.seq for event in events}.values())
    assert received == list(range(1, made + 1)), "lost or out of order"
    summaries = {m.payload["id"]: m.payload for m in subscriber.on("emotion/test/cam/summary")}.values()
    assert len(summaries) > 5
    assert all(before["end"] == after["start"] for before, after in itertools.pairwise(summaries)), (
        "the outage left a hole"
    )


def test_events_of_a_stop_without_a_broker_are_delivered_after_the_next_start(
    parts: Parts, camera: str, rtsp_server: RtspServer, start_daemon: Callable[..., Daemon]
) -> None:
    daemon = start_daemon(settings_for(None, cam={"source": camera}))
    eventually(lambda: daemon.value("emotion_edge_events_total") >= 3, 60, "events")
    assert daemon.get("/readyz")[0] == 503
    made = _all_events_made(daemon, rtsp_server)
    assert daemon.stop() == 0
    assert daemon.wait_for_log(r"stopped with \d+ messages that no broker took; kept for the next start")
    broker = parts.start(Mosquitto(parts.folder("late"), port=daemon.config["mqtt"]["port"]))
    late = parts.start(Subscriber(broker.port, ("emotion/test/cam/event",)))
    daemon.start()
    eventually(lambda: len(late.messages) >= made, 60, "events of the run before")
    assert [message.payload["seq"] for message in late.messages] == list(range(1, made + 1))


def _all_events_made(daemon: Daemon, rtsp_server: RtspServer) -> int:
    """Take the camera away, which ends its faces, and return the number of events that were made until then."""
    rtsp_server.kill()

    def value(name: str, **labels: str) -> float:
        return daemon.value(f"emotion_edge_{name}", **labels)

    def still() -> bool:
        return (
            value("camera_up") == 0
            and value("frames_captured_total") == value("frames_analysed_total") + value("frames_dropped_total")
            and value("events_total", type="start") == value("events_total", type="end")
        )

    eventually(still, 60, "end of all faces")
    return int(daemon.value("emotion_edge_events_total"))


def test_camera_killed_and_restarted(
    broker: Mosquitto, subscriber: Subscriber, camera: str, rtsp_server: RtspServer, start_daemon: Callable[..., Daemon]
) -> None:
    daemon = start_daemon(settings_for(broker, cam={"source": camera}))
    subscriber.wait_for(lambda m: m.topic == STATUS and m.payload["state"] == "online", timeout=20)
    seen = len(subscriber.messages)
    rtsp_server.kill()
    offline = subscriber.wait_for(lambda m: m.topic == STATUS and m.payload["state"] == "offline", 10, start=seen)
    assert offline.payload["reason"] in {"ended", "timeout"}
    rtsp_server.start()
    _goes_on(daemon, subscriber, within=10)
    assert daemon.value("emotion_edge_camera_up") == 1


def test_camera_frozen_and_continued(
    broker: Mosquitto, subscriber: Subscriber, camera: str, rtsp_server: RtspServer, start_daemon: Callable[..., Daemon]
) -> None:
    daemon = start_daemon(settings_for(broker, cam={"source": camera}))
    subscriber.wait_for(lambda m: m.topic == STATUS and m.payload["state"] == "online", timeout=20)
    seen = len(subscriber.messages)
    rtsp_server.freeze()
    frozen = time.monotonic()
    offline = subscriber.wait_for(lambda m: m.topic == STATUS and m.payload["state"] == "offline", 10, start=seen)
    assert offline.payload["reason"] == "timeout"
    assert offline.time - frozen < 10
    rtsp_server.thaw()
    _goes_on(daemon, subscriber, within=10)


@pytest.mark.parametrize("state", ["black-holed", "opening", "reconnecting"])
def test_stop_with_a_camera_that_does_not_answer(
    broker: Mosquitto,
    subscriber: Subscriber,
    camera: str,
    rtsp_server: RtspServer,
    start_daemon: Callable[..., Daemon],
    state: str,
) -> None:
    if state == "opening":
        rtsp_server.freeze()
    daemon = start_daemon(settings_for(broker, cam={"source": camera}))
    daemon.wait_for_ready()
    if state == "black-holed":
        subscriber.wait_for(lambda m: m.topic == STATUS and m.payload["state"] == "online", timeout=20)
        rtsp_server.freeze()
    if state == "reconnecting":
        subscriber.wait_for(lambda m: m.topic == STATUS and m.payload["state"] == "online", timeout=20)
        rtsp_server.kill()
        subscriber.wait_for(lambda m: m.topic == STATUS and m.payload.get("reason") in {"ended", "timeout"}, timeout=20)
    started = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - started < 5
    subscriber.wait_for_farewell()
    assert subscriber.on(STATUS)[-1].payload == {"state": "offline", "reason": "stopped"}


def test_stop_while_it_starts(broker: Mosquitto, subscriber: Subscriber, start_daemon: Callable[..., Daemon]) -> None:
    """At moments from its first import to its first frames: it ends at once, and nobody is told that it is there."""
    daemon = start_daemon(settings_for(broker, cam={"source": str(DEMO), "loop": True}))
    started = time.monotonic()
    daemon.stop()
    daemon.start()
    needed = time.monotonic() - started
    daemon.stop()
    for share in (0.2, 0.5, 0.8, 1.0):
        daemon.launch()
        time.sleep(share * needed)
        os.kill(daemon.pid, signal.SIGTERM)
        stopping = time.monotonic()
        assert daemon.wait(10) in (0, -signal.SIGTERM)
        assert time.monotonic() - stopping < 5
        eventually(lambda: _last(subscriber, "emotion/test/status") == "offline", 30, f"offline at {share}")


def _last(subscriber: Subscriber, topic: str) -> str:
    """Return the state that was told last."""
    return str(subscriber.on(topic)[-1].payload["state"])


def test_cameras_that_cannot_be_opened_say_why(
    parts: Parts,
    broker: Mosquitto,
    subscriber: Subscriber,
    rtsp_server: RtspServer,
    start_daemon: Callable[..., Daemon],
) -> None:
    """Typed reasons within ten seconds, a line of the log for each, no password anywhere, each probed once a try."""
    authority = Authority(parts.folder("authority"))
    servers = {
        "auth": parts.start(FakeCamera(rtsp(challenges=['Digest realm="c", nonce="n"']))),
        "codec": parts.start(FakeCamera(rtsp(body=H266))),
        "timeout": parts.start(FakeCamera(silent)),
        "ended": parts.start(FakeCamera(hang_up)),
        "tls": parts.start(FakeCamera(rtsp(), authority.context())),
        "refused": parts.start(FakeCamera(http("503 Service Unavailable"))),
    }
    schemes = {"tls": "rtsps", "refused": "http"}
    login = {"username": "viewer", "password": "hunter2%"}
    cameras: dict[str, dict[str, Any]] = {
        reason: {"source": f"{schemes.get(reason, 'rtsp')}://{HOST}:{server.port}/live", **login}
        for reason, server in servers.items()
    }
    cameras["not_found"] = {"source": rtsp_server.url("gone.mp4")}
    cameras["unplugged"] = {"source": "/dev/no-such-camera"}
    daemon = start_daemon(settings_for(broker, **cameras))
    started = time.monotonic()

    def told(reason: str) -> Message:
        topic = f"emotion/test/{reason}/status"
        return subscriber.wait_for(lambda m: m.topic == topic and m.payload["reason"] != "starting", 20, what=reason)

    for reason in cameras:
        said = told(reason)
        assert said.payload == {"state": "offline", "reason": reason}
        assert said.time - started < 10
    for reason in cameras:
        assert sum(f"camera {reason}: offline" in line for line in daemon.lines()) == 1, daemon.tail()
    assert daemon.stop() == 0
    assert not [line for line in daemon.lines() if "hunter2" in line or "viewer" in line]


def _goes_on(daemon: Daemon, subscriber: Subscriber, within: float) -> None:
    """Frames are analysed again, and the status says so."""
    before = daemon.value(ANALYSED)
    eventually(lambda: daemon.value(ANALYSED) > before + 5, within, "frames")
    seen = [message.payload["state"] for message in subscriber.on(STATUS)]
    eventually(lambda: subscriber.on(STATUS)[-1].payload["state"] == "online", 10, f"online after {seen}")


def test_unreachable_camera_says_why_and_disturbs_no_other(
    broker: Mosquitto, subscriber: Subscriber, start_daemon: Callable[..., Daemon]
) -> None:
    config = settings_for(
        broker,
        gone={"source": "rtsp://127.0.0.1:1/none"},
        cam={"source": str(DEMO), "loop": True},
    )
    daemon = start_daemon(config)
    subscriber.wait_for(lambda m: m.payload == {"state": "offline", "reason": "refused"}, what="reason")
    subscriber.wait_for(lambda m: m.topic == "emotion/test/cam/event", what="event", timeout=30)
    lines = [line for line in daemon.lines() if "camera gone: offline" in line]
    assert len(lines) == 1, "one line a cause"
    assert "127.0.0.1:1" in lines[0]


def test_stop_says_offline_and_ends_faces(
    broker: Mosquitto, subscriber: Subscriber, start_daemon: Callable[..., Daemon]
) -> None:
    daemon = start_daemon(settings_for(broker, cam={"source": str(DEMO), "loop": True}))
    subscriber.wait_for(lambda m: m.topic.endswith("/event") and m.payload["type"] == "start", timeout=30)
    started = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - started < 5
    end = subscriber.wait_for(lambda m: m.topic.endswith("/event") and m.payload["type"] == "end")
    assert end.payload["reason"] in {"stopped", "left"}
    status = subscriber.wait_for(lambda m: m.topic == "emotion/test/status" and m.payload["state"] == "offline")
    assert status.payload["reason"] == "stopped"


def test_a_replaced_model_goes_on_and_a_bad_one_does_not(
    broker: Mosquitto, subscriber: Subscriber, start_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    model, still = write_model(tmp_path / "model.tflite", version="one"), tmp_path / "still.mp4"
    write_clip(still, [portrait()] * 50, 25, 18, "superfast")
    daemon = start_daemon({**settings_for(broker, cam={"source": str(still), "loop": True}), "model": str(model)})

    def event(kind: str, version: str) -> Message:
        return subscriber.wait_for(
            lambda m: (
                m.topic.endswith("/event") and m.payload["type"] == kind and m.payload["model"].endswith(f" {version}")
            ),
            what=f"{kind} by {version}",
            timeout=30,
        )

    begun = event("start", "one").payload
    model.write_bytes(b"no model")
    daemon.wait_for_log("model refused, .* one goes on: .*model.tflite: ")
    # As a careful user replaces a file: written beside it, then renamed.
    write_model(tmp_path / "new", version="two").rename(model)
    daemon.wait_for_log("one replaced by .* two")
    event("start", "two")
    (end,) = [m.payload for m in subscriber.on("emotion/test/cam/event") if m.payload["type"] == "end"]
    assert (end["face"]["id"], end["reason"]) == (begun["face"]["id"], "model_changed")
    assert end["model"].endswith(" one")
    eventually(lambda: daemon.value("emotion_edge_model_info", version="two") == 1, 10, "the other model's figures")
    subscriber.wait_for(lambda m: m.topic == "emotion/test/status" and m.payload.get("model", "").endswith(" two"))
    os.kill(daemon.pid, signal.SIGHUP)
    write_model(model, labels="nobody")
    os.kill(daemon.pid, signal.SIGHUP)
    daemon.wait_for_log("model refused, .* two goes on")
    analysed = daemon.value(ANALYSED)
    eventually(lambda: daemon.value(ANALYSED) > analysed, 30, "frames")
    assert daemon.stop() == 0


def test_killed_daemon_leaves_its_last_will(
    broker: Mosquitto, subscriber: Subscriber, start_daemon: Callable[..., Daemon]
) -> None:
    daemon = start_daemon(settings_for(broker, cam={"source": str(DEMO), "loop": True}))
    daemon.wait_for_ready()
    daemon.kill()
    will = subscriber.wait_for(lambda m: m.topic == "emotion/test/status" and m.payload["state"] == "offline")
    assert will.payload == {"state": "offline", "reason": "lost"}


def test_retained_states_return_when_the_broker_has_forgotten(
    parts: Parts, start_daemon: Callable[..., Daemon]
) -> None:
    broker = parts.start(Mosquitto(parts.folder("broker"), persistent=False))
    daemon = start_daemon(settings_for(broker, cam={"source": str(DEMO), "loop": True}))
    daemon.wait_for_ready()
    eventually(lambda: daemon.value("emotion_edge_camera_up") == 1, 30, "camera")
    broker.kill()
    broker.start()
    eventually(lambda: daemon.value("emotion_edge_mqtt_reconnects_total") >= 1, 60, "new connection")
    # A reconnect is counted before anything is said over it, and what is said to who listens already is not retained.
    with Subscriber(broker.port) as first:
        for topic in (STATUS, "emotion/test/status"):
            first.wait_for(lambda m, topic=topic: m.topic == topic and m.payload["state"] == "online")  # type: ignore[misc]
    late = parts.start(Subscriber(broker.port))
    late.wait_for(lambda m: m.topic == STATUS and m.retain and m.payload["state"] == "online", what="retained status")
    late.wait_for(lambda m: m.topic == "emotion/test/status" and m.retain and m.payload["state"] == "online")
