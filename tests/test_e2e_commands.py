"""Commands over a real broker to a real daemon that sees faces come and go."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.parts import eventually
from tests.parts.broker import Mosquitto
from tests.parts.daemon import Daemon
from tests.parts.flicker import TRACKING, flicker_camera, flickering
from tests.parts.samples import write_model
from tests.parts.settings import settings_for
from tests.parts.subscriber import Subscriber

ANALYSED = "emotion_edge_frames_analysed_total"
PAUSED = "emotion_edge_camera_paused"


@pytest.fixture
def config(broker: Mosquitto, tmp_path: Path) -> dict[str, Any]:
    """Two cameras with faces that stay for half a second, over and over."""
    camera = flicker_camera(flickering(tmp_path / "pictures"))
    return {**settings_for(broker, cam=camera, other=camera), "tracking": TRACKING}


def ask(
    subscriber: Subscriber, command: str, camera: str = "", name: str = "", arguments: dict[str, float] | None = None
) -> dict[str, Any]:
    """Send a command and return its answer."""
    topic = f"emotion/test/{camera}/" if camera else "emotion/test/"
    name = name or f"{command}-{len(subscriber.messages)}"
    seen = len(subscriber.messages)
    subscriber.publish(f"{topic}set", {"id": name, "command": command, "arguments": arguments or {}})
    answer = subscriber.wait_for(
        lambda m: m.topic == f"{topic}response" and m.payload["id"] == name, 30, f"answer to {command}", seen
    )
    assert (answer.qos, answer.retain) == (1, False)
    return dict(answer.payload)


def test_paused_camera_holds_no_faces_shows_it_and_is_still_paused_after_a_restart(
    subscriber: Subscriber, config: dict[str, Any], start_daemon: Callable[..., Daemon]
) -> None:
    daemon = start_daemon(config)
    subscriber.wait_for(lambda m: m.topic == "emotion/test/cam/event" and m.payload["type"] == "start", 30)
    assert ask(subscriber, "pause", "cam", "first") == {"id": "first", "ok": True, "error": None}
    subscriber.wait_for(lambda m: m.topic == "emotion/test/cam/status" and m.payload.get("paused") is True)
    assert daemon.value(PAUSED, camera="cam") == 1
    assert daemon.value(PAUSED, camera="other") == 0
    made = daemon.value("emotion_edge_events_total", camera="cam")
    # The outbox itself may never be empty: the other camera goes on.
    eventually(lambda: len(subscriber.on("emotion/test/cam/event")) >= made, 30, "delivered events")

    def faces(kind: str) -> set[str]:
        events = subscriber.on("emotion/test/cam/event")
        return {m.payload["face"]["id"] for m in events if m.payload["type"] == kind}

    assert faces("start") == faces("end")
    analysed, others = daemon.value(ANALYSED, camera="cam"), daemon.value(ANALYSED, camera="other")
    eventually(lambda: daemon.value(ANALYSED, camera="other") > others + 10, 30, "frames of the other camera")
    assert daemon.value(ANALYSED, camera="cam") == analysed
    assert daemon.value("emotion_edge_frames_dropped_total", camera="cam", reason="paused") > 0

    assert ask(subscriber, "pause")["ok"] is True  # all of them
    subscriber.wait_for(lambda m: m.topic == "emotion/test/status" and m.payload.get("paused") is True)
    assert ask(subscriber, "resume", "other")["ok"] is True
    daemon.kill()
    seen = len(subscriber.messages)
    daemon.start()
    status = subscriber.wait_for(lambda m: m.topic == "emotion/test/cam/status", 30, start=seen)
    assert status.payload["paused"] is True  # whether it starts or is online by then is the broker's hurry
    subscriber.wait_for(lambda m: m.topic == "emotion/test/other/event", 30, "event of the other camera", seen)
    assert daemon.value(ANALYSED, camera="cam") == 0
    assert ask(subscriber, "resume")["ok"] is True
    subscriber.wait_for(lambda m: m.topic == "emotion/test/cam/event", 30, "event after the resume", seen)
    assert daemon.value(PAUSED) == 0


def test_thresholds_snapshot_and_reload(
    subscriber: Subscriber, config: dict[str, Any], start_daemon: Callable[..., Daemon], tmp_path: Path
) -> None:
    model = write_model(tmp_path / "model.tflite", version="one")
    daemon = start_daemon({**config, "model": str(model), "commands": {"allow": ["threshold", "snapshot", "reload"]}})
    subscriber.wait_for(lambda m: m.topic == "emotion/test/cam/emotion" and m.payload["faces"] > 0, 30)
    assert ask(subscriber, "threshold", "cam", arguments={"detector.threshold": 0.999})["ok"] is True
    eventually(lambda: daemon.value("emotion_edge_faces_in_view", camera="cam") == 0, 30, "empty view")
    assert ask(subscriber, "threshold", "cam", arguments={"detector.threshold": 0.1})["error"].endswith(
        "detector.keep, 0.3"
    )
    state = ask(subscriber, "snapshot")["state"]
    assert state["thresholds"]["cam"]["detector.threshold"] == 0.999
    assert state["thresholds"]["other"]["detector.threshold"] == 0.45
    assert state["states"]["status"]["model"].endswith(" one")
    assert state["states"]["cam/status"] == {"state": "online"}
    assert set(ask(subscriber, "snapshot", "cam")["state"]["states"]) == {"cam/status", "cam/emotion"}

    write_model(model, version="two")
    assert ask(subscriber, "reload")["ok"] is True
    subscriber.wait_for(lambda m: m.topic == "emotion/test/status" and m.payload.get("model", "").endswith(" two"))
    model.write_bytes(b"no model")
    assert "the one before goes on" in ask(subscriber, "reload")["error"]
    assert "not allowed" in ask(subscriber, "pause")["error"]
    assert "no such camera" in ask(subscriber, "snapshot", "gone")["error"]
    assert daemon.value("emotion_edge_commands_total", result="refused") == 1


@pytest.mark.own_messages
def test_retained_repeated_and_malformed_commands_and_an_answer_elsewhere(
    subscriber: Subscriber, config: dict[str, Any], start_daemon: Callable[..., Daemon]
) -> None:
    topic = "emotion/test/cam/set"
    subscriber.publish(topic, {"id": "old", "command": "pause"}, retain=True)  # before it starts
    daemon = start_daemon(config)
    daemon.wait_for_ready()

    def counted(result: str, count: int) -> None:
        eventually(lambda: daemon.value("emotion_edge_commands_total", result=result) == count, 30, f"{count} {result}")

    counted("retained", 1)
    subscriber.publish(topic, {"id": "new", "command": "pause"}, retain=True)
    counted("retained", 2)
    subscriber.publish(topic, b"x" * 1_000_000)
    counted("oversized", 1)
    assert daemon.value(PAUSED) == 0
    first, second = (ask(subscriber, "pause", "cam", "same") for _ in range(2))
    assert first == second
    counted("repeated", 1)
    assert daemon.value(PAUSED, camera="cam") == 1
    wanted = Properties(PacketTypes.PUBLISH)
    wanted.ResponseTopic, wanted.CorrelationData = "emotion/clients/answers", b"mine"
    subscriber.publish(topic, b"\xff", properties=wanted)
    answer = subscriber.wait_for(lambda m: m.topic == "emotion/clients/answers").payload
    assert answer == {"id": None, "ok": False, "error": "must be a JSON object in UTF-8"}
    wanted.ResponseTopic = "emotion/test/cam/event"  # nobody is to take an answer for an event
    seen = len(subscriber.messages)
    subscriber.publish(topic, b"[]", properties=wanted)
    subscriber.wait_for(lambda m: m.topic == "emotion/test/cam/response" and not m.payload["ok"], start=seen)
    assert json.dumps("pause") not in "\n".join(daemon.lines()), "nothing that came is in the log"
    assert daemon.stop() == 0
