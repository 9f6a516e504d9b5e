"""`emotion-edge watch`."""

from __future__ import annotations

import json
import os
import pty
import queue
import signal
import subprocess
import sys
import threading
import time

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

import edge.watch
from edge.demo import EmbeddedBroker
from edge.settings import MqttSettings
from edge.watch import WatchError, _Broker, follow, once, readable
from tests.parts import HOST, eventually, free_port
from tests.parts.broker import Mosquitto
from tests.parts.child import Child
from tests.parts.samples import make_event
from tests.parts.settings import settings_for
from tests.parts.stubborn import StubbornBroker
from tests.parts.subscriber import Subscriber

pytestmark = pytest.mark.own_messages


@pytest.fixture
def watch(parts, broker):
    """Start `watch` and publish until it shows something; returns the process."""

    def start(*arguments):
        folder = parts.folder("watch")
        (folder / "edge.yaml").write_text(yaml.safe_dump(settings_for(broker, cam={"source": 0})))
        command = [sys.executable, "-m", "edge.cli", "watch", "--config", str(folder / "edge.yaml"), *arguments]
        child = parts.start(Child(command, folder, {"PYTHONUNBUFFERED": "1"}))
        eventually(lambda: "emotion-edge-watch" in broker.log.read_text(), 60, "connection", child.tail)
        eventually(lambda: broker.log.read_text().count("/event") > 0, 60, "subscription", child.tail)
        return child

    return start


def publish(subscriber, event):
    subscriber.publish(f"emotion/{event.node}/{event.camera}/event", event.encode())


def test_each_event_of_the_node_is_one_line_without_colours_in_a_pipe(watch, subscriber):
    child = watch()
    one, other = make_event(1, node="test"), make_event(2, node="elsewhere")
    for event in (one, one, other, make_event(3, node="test", type="change", previous="fear", duration=1.0)):
        publish(subscriber, event)
    lines = eventually(lambda: len(child.lines()) >= 2 and child.lines(), 60, "lines", child.tail)
    assert [line.split("  ", 1)[1] for line in lines] == [
        "camera  face   1  start   happiness 72 %",
        "camera  face   1  change  fear → happiness 72 %, 1.0 s",
    ]


def test_fleet_in_json(watch, subscriber):
    child = watch("--all", "--json")
    events = [make_event(seq, node=node) for seq, node in enumerate(("test", "elsewhere"))]
    for event in events:
        publish(subscriber, event)
    lines = eventually(lambda: len(child.lines()) >= 2 and child.lines(), 60, "lines", child.tail)
    assert [json.loads(line) for line in lines] == [json.loads(event.encode()) for event in events]


def test_another_node_and_what_is_no_event(watch, subscriber):
    child = watch("--node", "elsewhere")
    for payload in (b"no json", b"[1]", b'{"id":"\x1b"}', b'{"id":"a","type":"\\u001b[2J"}'):
        subscriber.publish("emotion/elsewhere/cam/event", payload)
    publish(subscriber, make_event(1, node="elsewhere"))
    lines = eventually(lambda: any("start" in line for line in child.lines()) and child.lines(), 60, "line", child.tail)
    assert len(lines) == 2
    assert lines[0].startswith("not an event: ")


def test_a_broker_that_is_not_there_is_one_line(tmp_path):
    (tmp_path / "edge.yaml").write_text(yaml.safe_dump(settings_for(None, cam={"source": 0})))
    command = [sys.executable, "-m", "edge.cli", "watch", "--config", str(tmp_path / "edge.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "nobody listens there (start the broker, or check mqtt.host and mqtt.port)" in done.stderr


@pytest.mark.parametrize("node", ["#", "a/b", "Node", "a\0b"])
def test_a_name_of_no_node_is_refused(tmp_path, node):
    (tmp_path / "edge.yaml").write_text(yaml.safe_dump(settings_for(None, door={"source": 0})))
    result = CliRunner().invoke(edge.watch.watch, ["--config", str(tmp_path / "edge.yaml"), "--node", node])
    assert result.exit_code == 2
    assert "names of nodes consist of" in result.stderr


def test_next_broker_of_the_list_when_one_is_away_or_lost(parts):
    """The first is not there, the second dies; what comes then comes from the first."""
    first, second = (Mosquitto(parts.folder(name), port=free_port()) for name in ("first", "second"))
    parts.start(second)
    settings = MqttSettings(port=first.port, fallbacks=[f"{HOST}:{second.port}"])
    arrived, said = queue.Queue(), []
    threading.Thread(
        target=lambda: [arrived.put(payload) for payload in follow(settings, "a/b", said.append)], daemon=True
    ).start()
    eventually(lambda: "a/b (QoS 1)" in second.log.read_text(), 60, "subscription", second.tail)
    with Subscriber(second.port) as sender:
        sender.publish("a/b", {"from": "second"})
    assert arrived.get(timeout=30) == {"from": "second"}
    parts.start(first)
    second.kill()
    eventually(lambda: "a/b (QoS 1)" in first.log.read_text(), 60, "subscription", first.tail)
    with Subscriber(first.port) as sender:
        sender.publish("a/b", {"from": "first"})
    assert arrived.get(timeout=30) == {"from": "first"}
    names = [f"broker {HOST}:{each.port}" for each in (first, second)]
    assert said == [f"{names[1]}: connection lost; trying again", f"{names[0]}: connected again"]


def test_broker_of_311():
    settings = MqttSettings(port=free_port())
    embedded = EmbeddedBroker(settings)
    embedded.start()
    arrived = queue.Queue()
    threading.Thread(
        target=lambda: [arrived.put(payload) for payload in follow(settings, "a/b", arrived.put)], daemon=True
    ).start()
    sender = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv311)
    sender.connect(HOST, settings.port)
    sender.loop_start()
    eventually(lambda: sender.publish("a/b", b'{"from": "it"}', qos=1) and not arrived.empty(), 60, "message")
    assert arrived.get() == {"from": "it"}
    sender.disconnect()
    sender.loop_stop()
    embedded.stop()


def test_a_topic_that_was_not_asked_for_is_left_out():
    client = _Broker(MqttSettings(), None, HOST, 1)
    client._topic = "emotion/+/+/event"
    for topic in ("emotion/pi/status", "emotion/pi/door/summary", "emotion/pi/door/event"):
        message = paho.MQTTMessage(topic=topic.encode())
        message.payload = json.dumps({"from": topic}).encode()
        client._on_message(None, None, message)
    assert list(client._arrived) == [{"from": "emotion/pi/door/event"}]


def test_ctrl_c_ends_it_well(watch):
    child = watch()
    os.kill(child.pid, signal.SIGINT)
    assert child._process.wait(30) == 0
    assert "Aborted" not in child.tail()


def test_a_lost_broker_is_said_once_and_so_is_what_keeps_it_away(parts, monkeypatch):
    monkeypatch.setattr(edge.watch, "PAUSE", 0.05)
    broker = parts.start(Mosquitto(parts.folder("broker")))
    said = []
    settings = MqttSettings(port=broker.port)
    threading.Thread(target=lambda: list(follow(settings, "a", said.append)), daemon=True).start()
    eventually(lambda: "a (QoS 1)" in broker.log.read_text(), 60, "subscription", broker.tail)
    name = f"broker {HOST}:{broker.port}: "
    for _ in range(2):
        said.clear()
        broker.kill()
        eventually(lambda: len(said) == 2, 60, "lines", lambda: said)
        time.sleep(0.5)  # in which it tries ten times
        broker.start()
        eventually(lambda: len(said) == 3, 60, "lines", lambda: said)
        assert said[0] == f"{name}connection lost; trying again"
        assert said[1].startswith(name)
        assert "nobody listens there" in said[1]
        assert said[2] == f"{name}connected again"


@pytest.mark.parametrize(("reason", "login"), [(0x86, True), (0x87, True), (0x9F, False)])
def test_a_refusal_says_what_to_look_at(reason, login):
    with StubbornBroker(lambda _: 0, welcome=reason) as stubborn, pytest.raises(WatchError) as caught:
        next(follow(MqttSettings(port=stubborn.port), "a", print))
    assert str(caught.value).startswith(f"broker {HOST}:{stubborn.port}: refused the connection: ")
    assert ("check mqtt.username" in str(caught.value)) is login


def test_a_refused_subscription_is_an_error():
    with StubbornBroker(lambda _: 0, lambda _: 0x87) as stubborn, pytest.raises(WatchError, match="check its access"):
        next(follow(MqttSettings(port=stubborn.port), "secret/topic", print))


def test_nothing_is_read_that_nobody_takes(broker, subscriber):
    """Whoever is slow to read a pipe holds up the broker and not our memory."""
    found = follow(MqttSettings(port=broker.port), "big", print)
    first = threading.Thread(target=lambda: next(found))
    first.start()
    eventually(lambda: "big (QoS 1)" in broker.log.read_text(), 60, "subscription", broker.tail)
    for number in range(200):
        subscriber.publish("big", {"number": number, "filler": "x" * 50_000})
    first.join(30)
    assert len(found.gi_frame.f_locals["broker"]._arrived) <= 1
    assert [next(found)["number"] for _ in range(5)] == [1, 2, 3, 4, 5]
    found.close()


def test_each_broker_of_the_list_that_cannot_be_reached_is_named_once():
    ports = [free_port(), free_port()]
    settings = MqttSettings(port=ports[0], fallbacks=[f"{HOST}:{ports[1]}"])
    with pytest.raises(WatchError) as caught:
        next(follow(settings, "a", print))
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [f"broker {HOST}:{p}" for p in ports]


def test_colours_in_a_terminal(subscriber, broker, tmp_path):
    (tmp_path / "edge.yaml").write_text(yaml.safe_dump(settings_for(broker, cam={"source": 0})))
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "edge.cli", "watch", "--config", str(tmp_path / "edge.yaml")]
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(command, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    try:
        eventually(lambda: "/+/event" in broker.log.read_text(), 60, "subscription")
        publish(subscriber, make_event(1, node="test"))
        assert os.read(master, 4096).startswith(b"\x1b[32m")
    finally:
        process.kill()
        process.wait()
        os.close(master)


@given(st.dictionaries(st.text(max_size=9), st.text() | st.floats() | st.lists(st.integers())), st.booleans())
def test_no_payload_steers_the_terminal(changes, with_node):
    line = readable({**json.loads(make_event(1).encode()), **changes}, with_node)
    assert line.isprintable()


@pytest.mark.parametrize("field", ["camera", "emotion", "node", "reason", "previous"])
def test_no_field_steers_the_terminal(field):
    event = {**json.loads(make_event(1, type="change", previous="x", duration=1.0).encode()), field: "\x1b]0;evil\x07"}
    assert readable(event, True).isprintable()
    assert "x1b]0;evil" in readable(event, True)


def test_what_comes_again_is_left_out():
    assert [found["n"] for found in once(iter([{"id": "a", "n": 1}, {"id": "a", "n": 2}, {"id": "b", "n": 3}]))] == [
        1,
        3,
    ]
