"""SIGHUP: a changed settings file takes effect in the running daemon, a bad one does not."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import pytest

from edge.demo import CLIP
from edge.store import Lock, OutboxBusyError
from tests.conftest import Parts
from tests.parts import HOST, eventually
from tests.parts.broker import Mosquitto
from tests.parts.daemon import Daemon, untimed
from tests.parts.settings import settings_for
from tests.parts.subscriber import Message, Subscriber

FILE = {"source": str(CLIP), "loop": True, "max_fps": 5}
CAPTURED = "emotion_edge_frames_captured_total"


def reload(daemon: Daemon) -> int:
    """Write its settings as they are now and tell it; returns how many lines its log had."""
    daemon.write_config()
    lines = len(daemon.lines())
    os.kill(daemon.pid, signal.SIGHUP)
    return lines


def states(subscriber: Subscriber, topic: str) -> list[str]:
    return [message.payload["state"] for message in subscriber.on(topic) if message.payload]


def cameras_of(announcement: Message) -> set[str]:
    return {name.split("_")[0] for name in announcement.payload["components"]}


def test_only_cameras_that_changed_start_anew(
    parts: Parts, broker: Mosquitto, subscriber: Subscriber, start_daemon: Callable[..., Daemon]
) -> None:
    daemon = start_daemon(settings_for(broker, same=FILE, other=FILE, gone=FILE))
    names = ("same", "other", "gone")
    eventually(
        lambda: all(states(subscriber, f"emotion/test/{name}/status")[-1:] == ["online"] for name in names),
        60,
        "cameras online",
        daemon.tail,
    )
    before = {camera: states(subscriber, f"emotion/test/{camera}/status") for camera in ("same", "other")}
    cameras = daemon.config["cameras"]
    daemon.config["cameras"] = {"new": FILE, "other": {**FILE, "max_fps": 3}, "same": cameras["same"]}
    daemon.config["tracking"] = {"appear": 0.4}
    captured = daemon.value(CAPTURED, camera="other")
    start = reload(daemon)
    line = daemon.wait_for_log("settings: changed", start=start)
    assert line.endswith("cameras stopped, started or read anew: gone, new, other")
    eventually(lambda: daemon.value("emotion_edge_camera_up") == 3, 60, "cameras", daemon.tail)
    subscriber.wait_for(lambda m: m.topic == "emotion/test/new/status" and m.payload == {"state": "online"})
    assert states(subscriber, "emotion/test/same/status") == before["same"]
    eventually(
        lambda: states(subscriber, "emotion/test/other/status") == [*before["other"], "offline", "offline", "online"],
        30,
        "the other camera again",
        lambda: states(subscriber, "emotion/test/other/status"),
    )
    assert daemon.value(CAPTURED, camera="other") >= captured, "its counters go on"
    # Nothing is left of the camera that is gone.
    assert not [sample for sample in daemon.metrics() if sample.labels.get("camera") == "gone"]
    late = parts.start(Subscriber(broker.port))
    late.wait_for(lambda m: m.topic == "emotion/test/new/status")
    assert not late.on("emotion/test/gone/#")
    # What is gone is taken back in two steps, of which the second may be yet to come.
    late.wait_for(lambda m: m.topic == "homeassistant/device/test/config" and cameras_of(m) == {"new", "other", "same"})
    eventually(lambda: daemon.value("emotion_edge_frames_analysed_total", camera="new") > 2, 30, "analysed frames")
    assert daemon.stop() == 0


def test_a_bad_file_changes_nothing_and_the_line_is_named(
    broker: Mosquitto, subscriber: Subscriber, start_daemon: Callable[..., Daemon]
) -> None:
    daemon = start_daemon(settings_for(broker, cam=FILE))
    eventually(lambda: daemon.value("emotion_edge_camera_up") == 1, 60, "camera")
    good = dict(daemon.config)
    with socket.create_server((HOST, 0)) as taken:
        bad: list[tuple[dict[str, Any], str]] = [
            ({"workers": -1}, rf"settings: {daemon.path}:\d+: workers: "),
            ({"cameras": {"cam": {"source": "none.mp4"}}}, rf"settings: {daemon.path}:\d+: cameras.cam.source: "),
            ({"model": "none.tflite"}, r"settings: .*none.tflite"),
            ({"detector": {"model": "none.onnx"}}, r"settings: .*none.onnx"),
            ({"metrics": {"port": taken.getsockname()[1]}}, r"settings: .*Address already in use"),
            ({"metrics": {**good["metrics"], "host": "192.0.2.1", "token": "none"}}, r"settings: .*192\.0\.2\.1:.*"),
        ]
        for change, expected in bad:
            daemon.config = {**good, **change}
            start = reload(daemon)
            line = daemon.wait_for_log(expected, start=start)
            assert untimed(line).startswith("ERROR ")
            assert line.endswith("; the old ones go on")
    daemon.config = good
    captured = daemon.value(CAPTURED)
    eventually(lambda: daemon.value(CAPTURED) > captured, 30, "frames")
    subscriber.wait_for(lambda m: m.topic == "emotion/test/cam/status" and m.payload["state"] == "online")
    # What was before the broker was reached is not told.
    assert states(subscriber, "emotion/test/cam/status") in (["offline", "online"], ["online"])
    assert states(subscriber, "emotion/test/status") == ["online"]


def test_everything_starts_anew_where_it_must(
    parts: Parts, broker: Mosquitto, start_daemon: Callable[..., Daemon]
) -> None:
    daemon = start_daemon(settings_for(broker, cam=FILE))
    daemon.wait_for_ready()
    other = parts.start(Mosquitto(parts.folder("other")))
    listener = parts.start(Subscriber(other.port))
    daemon.config["mqtt"] = {**daemon.config["mqtt"], "port": other.port, "base": "elsewhere"}
    # The port that is listened on already, at one address more.
    daemon.config["metrics"] = {**daemon.config["metrics"], "host": "0.0.0.0", "token": "none"}
    pid = daemon.pid
    start = reload(daemon)
    daemon.wait_for_log("settings: mqtt, metrics changed; everything starts anew", start=start)
    listener.wait_for(lambda m: m.topic == "elsewhere/test/cam/status" and m.payload["state"] == "online", 60)
    daemon.wait_for_ready()
    assert daemon.pid == pid
    assert daemon.stop() == 0
    listener.wait_for_farewell()


def test_an_outbox_file_of_another_daemon_changes_nothing(
    parts: Parts, broker: Mosquitto, subscriber: Subscriber, start_daemon: Callable[..., Daemon]
) -> None:
    daemon = start_daemon(settings_for(broker, cam=FILE))
    subscriber.wait_for(lambda m: m.topic == "emotion/test/status")
    good = dict(daemon.config)
    taken = parts.folder("other") / "taken.db"
    lock = Lock(taken)
    daemon.config = {**good, "outbox": {"path": str(taken)}}
    start = reload(daemon)
    line = daemon.wait_for_log("another emotion-edge uses it", start=start)
    number = 1 + next(n for n, each in enumerate(daemon.path.read_text().splitlines()) if "path:" in each)
    assert untimed(line).startswith(f"ERROR settings: {daemon.path}:{number}: outbox.path: {taken}: ")
    assert line.endswith("; the old ones go on")
    # Nor does one that nobody can write to.
    daemon.config = {**good, "outbox": {"path": "/proc/outbox.db"}}
    start = reload(daemon)
    assert "outbox.path: /proc/outbox.db: nothing can be written" in daemon.wait_for_log("the old ones go", start=start)
    daemon.config = {**good, "outbox": {"path": str(taken)}}
    captured = daemon.value(CAPTURED)
    eventually(lambda: daemon.value(CAPTURED) > captured, 30, "frames")
    assert states(subscriber, "emotion/test/status") == ["online"]
    # As soon as it is free it is taken, and the log is as the same file wants it.
    lock.release()
    daemon.config["log"] = {"format": "json"}
    start = reload(daemon)
    daemon.wait_for_log('"settings: outbox changed; everything starts anew"', start=start)
    daemon.wait_for_log("connected .MQTT", start=start)  # the new one: until then the old one would answer HTTP
    with pytest.raises(OutboxBusyError):
        Lock(taken)
    assert daemon.stop() == 0


def test_summaries_of_a_removed_camera_that_waited_for_the_broker_are_not_retained(
    parts: Parts, broker: Mosquitto, start_daemon: Callable[..., Daemon]
) -> None:
    daemon = start_daemon({**settings_for(broker, cam=FILE, gone=FILE), "summary": {"period": 1}})
    daemon.wait_for_ready()
    broker.stop()
    waiting = daemon.value("emotion_edge_outbox_events")
    eventually(lambda: daemon.value("emotion_edge_outbox_events") > waiting + 4, 60, "summaries that wait", daemon.tail)
    del daemon.config["cameras"]["gone"]
    daemon.wait_for_log("settings: changed", start=reload(daemon))
    broker.start()
    eventually(lambda: daemon.value("emotion_edge_outbox_events") == 0, 60, "empty outbox", daemon.tail)

    def retained() -> set[str]:
        late = parts.start(Subscriber(broker.port))
        # What is not retained comes after all that is.
        late.wait_for(lambda m: m.topic == "emotion/test/cam/summary" and not m.retain)
        return {message.topic for message in late.messages if message.retain}

    # The broker kept what the camera told before it was removed; that is taken back beside the waiting summaries.
    eventually(lambda: "emotion/test/gone/status" not in retained(), 30, "what is retained taken back", daemon.tail)
    assert not [topic for topic in retained() if "/gone/" in topic]
    assert daemon.stop() == 0


@pytest.mark.parametrize("broker_away", [False, True])
def test_a_renamed_node_is_announced_by_its_new_name_alone(
    broker: Mosquitto, start_daemon: Callable[..., Daemon], broker_away: bool
) -> None:
    daemon = start_daemon(settings_for(broker, cam=FILE))
    daemon.wait_for_ready()
    if broker_away:
        broker.stop()
    daemon.config["node"] = "renamed"
    daemon.wait_for_log("settings: node changed; everything starts anew", start=reload(daemon))
    if broker_away:
        broker.start()

    def announced() -> set[str]:
        with Subscriber(broker.port, ("homeassistant/device/+/config", "last")) as late:
            late.publish("last", {})
            late.wait_for(lambda m: m.topic == "last")
            return {message.topic for message in late.messages if message.retain}

    expected = {"homeassistant/device/renamed/config"}
    eventually(lambda: announced() == expected, 60, "announcement of the new name alone", announced)
    assert daemon.stop() == 0
