"""The demo: its settings, its broker, its lines."""

import socket

import pytest

from edge.cli import _say_where
from edge.demo import CLIP, DemoError, EmbeddedBroker, broker_answers, demo_settings, event_line
from edge.settings import MqttSettings
from tests.parts import HOST, free_port
from tests.parts.samples import make_event
from tests.parts.subscriber import Subscriber


def test_demo_plays_the_clip_for_ever_or_the_source_once():
    clip = demo_settings(None).cameras["demo"]
    assert (clip.source, clip.loop, clip.pace) == (str(CLIP), True, "realtime")
    assert demo_settings(None).preview.enabled
    assert CLIP.is_file()
    other = demo_settings("0").cameras["demo"]
    assert (other.kind, other.loop) == ("webcam", False)


def test_where_to_look_is_said(capsys):
    _say_where(demo_settings(None), embedded=False)
    said = capsys.readouterr().out
    assert "metrics  http://127.0.0.1:9464/metrics" in said
    assert "preview  http://127.0.0.1:9464/preview" in said


@pytest.mark.parametrize(
    "source", ["rtsp://viewer:hunter2@host/x", "rtsp://host:port/x", "rtmp://host/x", "none.mp4", "x" * 300]
)
def test_bad_source_is_one_line_without_secrets(source):
    with pytest.raises(DemoError, match=r"^--source: ") as caught:
        demo_settings(source)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert ("settings file" in str(caught.value)) is ("hunter2" in source), "the keys are those of a settings file"


def test_embedded_broker_listens_until_it_is_stopped():
    settings = MqttSettings(port=free_port())
    assert not broker_answers(settings)
    broker = EmbeddedBroker(settings)
    broker.start()
    assert broker_answers(settings)
    broker.stop()
    assert not broker_answers(settings)


def test_embedded_broker_leaves_without_a_word_about_a_client_in_the_middle_of_its_greeting(caplog):
    settings = MqttSettings(port=free_port())
    broker = EmbeddedBroker(settings)
    broker.start()
    with socket.create_connection((HOST, settings.port)) as client:
        client.sendall(b"\x10\x20\x00\x04MQTT\x04\x06\x00\x3c\x00\x01a\x00\x10")  # a CONNECT without its end
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)  # the broker waits for the rest
        broker.stop()
    assert not broker_answers(settings)
    assert caplog.text == ""


def test_taken_address_is_one_line():
    with socket.create_server((HOST, 0)) as taken:
        settings = MqttSettings(port=taken.getsockname()[1])
        with pytest.raises(DemoError, match=f"cannot listen at {HOST}:{settings.port}") as caught:
            EmbeddedBroker(settings).start()
    assert "\n" not in str(caught.value)


def test_broker_of_the_tests_is_found(broker):
    with Subscriber(broker.port):
        assert broker_answers(MqttSettings(port=broker.port))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "22:13:20.125  camera  face   1  start   happiness 72 %"),
        (
            {"type": "change", "previous": "anger", "duration": 1.26},
            "22:13:20.125  camera  face   1  change  anger → happiness 72 %, 1.3 s",
        ),
        (
            {"type": "end", "duration": 3.0, "reason": "left"},
            "22:13:20.125  camera  face   1  end     happiness 72 %, 3.0 s (left)",
        ),
    ],
)
def test_event_as_printed(changes, line):
    assert event_line(make_event(1, **changes)) == line
