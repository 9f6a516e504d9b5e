"""`privacy: aggregate`: nothing about single faces leaves the daemon, by any topic, series or page."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.events import rfc3339
from tests.conftest import Parts
from tests.parts import eventually
from tests.parts.broker import Mosquitto
from tests.parts.daemon import Daemon
from tests.parts.flicker import TRACKING, flicker_camera, flickering
from tests.parts.samples import LABELS
from tests.parts.settings import settings_for
from tests.parts.subscriber import Message, Subscriber

EMOTION = re.compile("|".join(LABELS))
ABOUT_FACES = re.compile(r"\bbox\b|emotion=|probabilit|confidence|first_seen|previous|face_id")


def test_nothing_about_single_faces_leaves_the_daemon(
    tmp_path: Path, broker: Mosquitto, subscriber: Subscriber, start_daemon: Callable[..., Daemon]
) -> None:
    # First in full, and killed while events wait: what is known of faces lies in the outbox and is retained.
    config = {
        **settings_for(broker, cam={**flicker_camera(flickering(tmp_path / "pictures")), "faces": True}),
        "tracking": TRACKING,
        "summary": {"period": 1},
    }
    daemon = start_daemon(config)
    subscriber.wait_for(lambda m: m.topic == "emotion/test/cam/emotion" and m.payload["faces"] > 0, 30)
    broker.freeze()
    made = daemon.value("emotion_edge_events_total")
    eventually(lambda: daemon.value("emotion_edge_events_total") > made + 20, 60, "events that wait")
    daemon.kill()
    broker.thaw()
    subscriber.wait_for(lambda m: m.topic == "emotion/test/status" and m.payload["state"] == "offline", 20)
    assert b'"probabilities"' in _stored(daemon)

    seen = len(subscriber.messages)
    daemon.config |= {"privacy": "aggregate", "min_people": 3, "preview": {"enabled": True}}
    daemon.start()
    subscriber.wait_for(lambda m: _told_summary(m) and m.payload["people"] >= 3, 30, "summary of many", start=seen)
    subscriber.publish("emotion/test/set", {"id": "state", "command": "snapshot"})
    subscriber.wait_for(lambda m: m.topic == "emotion/test/response" and m.payload["ok"], what="snapshot", start=seen)
    pages = [daemon.get(page)[1] for page in ("/metrics", "/healthz", "/readyz", "/", "/preview", "/status")]
    # Looked at long enough that a picture and faces would be there.
    for _ in range(20):
        pages.append(daemon.get("/preview/state")[1])
        time.sleep(0.1)
    assert json.loads(pages[-1])["cameras"][0]["frames"]["analysed"] > 0
    assert daemon.get("/preview/camera/cam.jpg")[0] == 404
    assert daemon.value("emotion_edge_preview_pictures_total") == 0
    stored = _stored(daemon)
    daemon.config["min_people"] = 1000
    stopping = len(subscriber.messages)
    daemon.stop()
    # What it said last may still be on its way, or wait for the next start.
    subscriber.wait_for(_gone, 30, "end of the first one", start=stopping)
    ended = rfc3339(time.time())
    daemon.start()

    def of_few(message: Message) -> bool:
        return _told_summary(message) and message.payload["end"] > ended

    subscriber.wait_for(lambda m: of_few(m) and m.payload["people"] >= 3, 30, "summary of too few")
    daemon.stop()

    messages = subscriber.messages[seen:]
    assert {m.topic for m in messages if m.raw} == {
        "emotion/test/status",
        "emotion/test/cam/status",
        "emotion/test/cam/summary",
        "emotion/test/set",
        "emotion/test/response",
        "homeassistant/device/test/config",
    }
    assert any(m.topic == "emotion/test/cam/emotion" and not m.raw for m in messages), "the retained one was cleared"
    for message in messages:
        assert not ABOUT_FACES.search(message.raw.decode())
        if _told_summary(message) and message.payload["people"] >= (1000 if of_few(message) else 3):
            assert set(message.payload["face_seconds"]) == set(LABELS)
        else:
            assert not EMOTION.search(message.raw.decode())
    for page in pages:
        assert not EMOTION.search(page)
        assert not ABOUT_FACES.search(page)
    assert b'"probabilities"' not in stored


@pytest.mark.parametrize("broker_answers", [False, True])
def test_switched_on_while_it_runs(
    tmp_path: Path,
    parts: Parts,
    broker: Mosquitto,
    subscriber: Subscriber,
    start_daemon: Callable[..., Daemon],
    broker_answers: bool,
) -> None:
    config = settings_for(broker, cam={**flicker_camera(flickering(tmp_path / "pictures")), "faces": True})
    daemon = start_daemon({**config, "tracking": TRACKING})
    subscriber.wait_for(lambda m: m.topic == "emotion/test/cam/emotion" and m.payload["faces"] > 0, 30)
    subscriber.wait_for(lambda m: m.topic == "emotion/test/cam/event", 30)
    subscriber.wait_for(lambda m: m.topic == "emotion/test/cam/faces" and m.payload["faces"], 30)
    if not broker_answers:
        broker.freeze()
        made = daemon.value("emotion_edge_events_total")
        eventually(lambda: daemon.value("emotion_edge_events_total") > made + 20, 60, "events that wait")
        eventually(lambda: b'"probabilities"' in _stored(daemon), 20, "events on the disk")
    daemon.config["privacy"] = "aggregate"
    daemon.write_config()
    lines = len(daemon.lines())
    os.kill(daemon.pid, signal.SIGHUP)
    daemon.wait_for_log("settings: privacy changed; everything starts anew", 60, start=lines)
    # What was under way when the broker froze it takes now: that was sent before.
    broker.thaw()
    daemon.wait_for_log("connected .MQTT", 60, start=lines)
    subscriber.publish("last", b"1")  # behind all that the broker had by then
    subscriber.wait_for(lambda m: m.topic == "last")
    later = len(subscriber.messages)
    eventually(lambda: daemon.value("emotion_edge_frames_analysed_total") > 5, 30, "frames analysed")
    eventually(lambda: b'"probabilities"' not in _stored(daemon), 30, "nothing of single faces on the disk")
    daemon.stop()
    late = parts.start(Subscriber(broker.port))
    late.wait_for(lambda m: m.topic == "emotion/test/status", 10)
    late.publish("emotion/test/cam/status", {"state": "online"})
    late.wait_for(lambda m: m.topic == "emotion/test/cam/status" and not m.retain, 10)
    retained = {m.topic: m.payload for m in late.messages if m.retain}
    assert "emotion/test/cam/emotion" not in retained
    kinds = {key.rpartition("_")[2] for key in retained["homeassistant/device/test/config"]["components"]}
    assert kinds == {"online", "pause"}
    events = [m.payload for m in subscriber.on("emotion/test/cam/event")]
    assert not [event for event in events if event["reason"] == "stopped"], "not even their end"
    assert not [m for m in subscriber.messages[later:] if m.topic.endswith(("/event", "/faces"))]


def _gone(message: Message) -> bool:
    return bool(message.topic == "emotion/test/status" and message.payload["state"] == "offline")


def _told_summary(message: Message) -> bool:
    return bool(message.topic == "emotion/test/cam/summary" and message.raw)


def _stored(daemon: Daemon) -> bytes:
    found = b""
    for path in sorted(daemon.outbox.parent.iterdir()):
        with contextlib.suppress(FileNotFoundError):  # SQLite removes what it has beside the file
            found += path.read_bytes()
    return found
