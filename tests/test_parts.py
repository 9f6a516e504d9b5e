"""The parts that other tests rely on do what they say."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import paho.mqtt.client as mqtt
import pytest
from jsonschema import ValidationError
from paho.mqtt.enums import CallbackAPIVersion

from deploy.demo.encode import write_clip
from tests.parts import HOST, accepts, eventually, free_port, tool
from tests.parts.broker import Mosquitto
from tests.parts.child import Child
from tests.parts.daemon import ROOT, Daemon
from tests.parts.prometheus import promtool_check
from tests.parts.subscriber import Subscriber

PAGE = '# HELP things_total Things.\n# TYPE things_total counter\nthings_total{kind="good"} 3\n'


@pytest.fixture
def page():
    """A web server that gives `PAGE`; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer((HOST, 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def counting_clip(clips):
    """Two seconds of 15 fps in which each frame is brighter than the one before it."""
    pictures = (np.full((240, 320, 3), 20 + 7 * number, np.uint8) for number in range(30))
    write_clip(clips / "counting.mp4", pictures, 15, quality=18, preset="veryfast")
    return clips / "counting.mp4"


def open_stream(url):
    options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 8000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 8000]
    return cv2.VideoCapture(url, cv2.CAP_FFMPEG, options)


def answers(port, user, password):
    """What a broker answers to a connection with this user name and password."""
    reasons = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.username_pw_set(user, password)
    client.on_connect = lambda *arguments: reasons.append(str(arguments[3]))
    client.connect(HOST, port)
    eventually(lambda: client.loop(0.1) is not None and reasons, 30, "answer from the broker")
    client.disconnect()
    return reasons[0]


def test_eventually_says_what_was_missing():
    with pytest.raises(AssertionError, match=r"no rain within 0\.1 s: 0"):
        eventually(lambda: 0, 0.1, "rain")
    assert eventually(lambda: "wet", 0.1, "rain") == "wet"


def test_free_port_is_free():
    port = free_port()
    assert not accepts(port)
    with socket.create_server((HOST, port)):
        assert accepts(port)


def test_missing_tool_is_named_with_its_package():
    with pytest.raises(AssertionError, match=r"no-such-tool is not installed.*package nothing"):
        tool("no-such-tool", "nothing")


def test_child_that_ends_at_once_shows_its_output(parts):
    child = Child(["sh", "-c", "echo out of luck; exit 3"], parts.folder("child"))
    child.ready = lambda: False
    with pytest.raises(AssertionError, match=r"exit code 3(?s:.*)out of luck"):
        parts.start(child)


def test_child_stops_with_its_exit_code(parts):
    script = "trap 'exit 7' TERM; echo trapped; while :; do sleep 0.05; done"
    child = Child(["sh", "-c", script], parts.folder("child"))
    child.ready = lambda: "trapped" in child.lines()
    assert parts.start(child).stop() == 7
    assert not child.running


def test_frozen_child_is_gone_afterwards(tmp_path):
    with Child(["sleep", "60"], tmp_path) as child:
        child.freeze()
    assert not child.running


def test_subscriber_gets_messages_in_order(broker, subscriber):
    subscriber.publish("a/old", {"n": -1}, retain=True)
    for number in range(50):
        subscriber.publish("a/b", {"n": number})
    subscriber.publish("a/raw", b"\xff")
    subscriber.publish("a/empty", b"")
    subscriber.wait_for(lambda message: message.topic == "a/empty")
    assert [message.payload["n"] for message in subscriber.on("a/b")] == list(range(50))
    assert [message.payload for message in subscriber.on("a/raw")] == [b"\xff"]
    assert [message.payload for message in subscriber.on("a/empty")] == [None]
    with Subscriber(broker.port, ("a/old",)) as late:
        assert late.wait_for(lambda message: message.retain).payload == {"n": -1}


def test_subscriber_tells_what_it_got_instead(subscriber):
    subscriber.publish("a/b", "something else")
    subscriber.wait_for(lambda message: message.topic == "a/b")
    with pytest.raises(AssertionError, match=r"no answer within 0\.1 s(?s:.*)something else"):
        subscriber.wait_for(lambda message: message.topic == "never", timeout=0.1, what="answer")


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_subscriber_survives_a_broker_restart(broker, subscriber, end):
    before = subscriber.subscriptions
    getattr(broker, end)()
    assert not accepts(broker.port)
    broker.start()
    subscriber.wait_subscribed(more_than=before)
    subscriber.publish("after", 1)
    subscriber.wait_for(lambda message: message.topic == "after")


def test_persistent_broker_keeps_retained_messages_over_a_restart(broker, subscriber):
    subscriber.publish("kept", 1, retain=True)
    broker.stop()
    broker.start()
    with Subscriber(broker.port) as fresh:
        assert fresh.wait_for(lambda message: message.topic == "kept").retain


def test_broker_with_passwords_refuses_strangers(parts):
    broker = parts.start(Mosquitto(parts.folder("broker"), passwords={"node": "s3 cret%"}, max_inflight_messages=1))
    with Subscriber(broker.port, user="node", password="s3 cret%") as known:
        known.publish("hello", 1)
        known.wait_for(lambda message: message.topic == "hello")
    assert answers(broker.port, "node", "wrong") == "Not authorized"
    assert answers(broker.port, None, None) == "Not authorized"


def test_rtsp_server_delivers_the_clip_for_ever(rtsp_server, counting_clip):
    start = time.monotonic()
    capture = open_stream(rtsp_server.url(counting_clip.name))
    levels = []
    for _ in range(75):
        ok, picture = capture.read()
        assert ok
        levels.append(float(picture.mean()))
    took = time.monotonic() - start
    capture.release()
    assert picture.shape == (240, 320, 3)
    falls = sum(later < earlier - 50 for earlier, later in pairwise(levels))
    assert falls in (2, 3), f"75 frames of a clip of 30 begin anew two or three times, not {falls}"
    assert 4.5 < took < 40, f"5 s of clip took {took:.1f} s"


def test_rtsp_server_that_is_killed_comes_back_at_its_port(rtsp_server, counting_clip):
    url = rtsp_server.url(counting_clip.name)
    capture = open_stream(url)
    assert capture.read()[0]
    rtsp_server.kill()
    eventually(lambda: not capture.read()[0], 30, "end of the stream")
    rtsp_server.start()
    assert open_stream(url).read()[0]


def test_rtsp_server_that_is_frozen_answers_nobody_until_it_thaws(rtsp_server, counting_clip):
    url = rtsp_server.url(counting_clip.name)
    rtsp_server.freeze()
    assert not open_stream(url).read()[0]
    rtsp_server.thaw()
    eventually(lambda: open_stream(url).read()[0], 30, "picture from the thawed server")


def test_prometheus_scrapes_and_answers(start_prometheus, page):
    prometheus = start_prometheus([f"{HOST}:{page}"])
    samples = eventually(lambda: prometheus.query('things_total{kind="good"}'), 30, "scraped sample")
    assert [sample.value for sample in samples] == [3]
    assert samples[0].labels["__name__"] == "things_total"
    assert prometheus.query("no_such_metric") == []
    with pytest.raises(AssertionError, match="parse error"):
        prometheus.query("sum(")


def test_promtool_judges_a_page():
    assert promtool_check(PAGE) == ""
    assert "no help text" in promtool_check("# TYPE things_total counter\nthings_total 3\n")
    assert promtool_check("not a metric page {\n")


def test_daemon_reads_metrics(parts, page):
    daemon = Daemon({"metrics": {"host": HOST, "port": page}}, parts.folder("daemon"))
    assert daemon.value("things_total", kind="good") == 3
    assert daemon.value("things_total", kind="bad") == 0
    assert [sample.name for sample in daemon.metrics()] == ["things_total"]


def test_output_of_programs_is_part_of_a_failed_tests_report(pytester, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    pytester.makeconftest("from tests.conftest import *")
    pytester.makepyfile(
        """
        from tests.parts.child import Child

        def test_that_fails(parts):
            child = Child(["sh", "-c", "echo last words; sleep 60"], parts.folder("child"))
            child.ready = lambda: child.lines()
            parts.start(child)
            print("pid", child.pid, "pid")
            assert False
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*child (sh)*", "last words"])
    pid = next(line.split()[1] for line in result.outlines if line.startswith("pid "))
    assert not Path("/proc", pid).exists()


@pytest.mark.parametrize(("synchronous", "left"), [("FULL", 5), ("NORMAL", 0)])
def test_disk_without_power_has_what_was_synced(tmp_path, synchronous, left):
    program = f"""
import os, sqlite3
from pathlib import Path
from edge.store import sync_folder
from tests.parts.power import Disk
state = Path("state").absolute()
state.mkdir()
disk = Disk(state, Path("disk"))
connection = sqlite3.connect(state / "a.db", isolation_level=None)
for line in ("journal_mode=WAL", "synchronous=FULL"):
    connection.execute(f"PRAGMA {{line}}")
connection.execute("CREATE TABLE numbers (number)")
sync_folder(state)
connection.execute("PRAGMA synchronous={synchronous}")
for number in range(5):
    connection.execute("INSERT INTO numbers VALUES (?)", (number,))
os._exit(0)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True, timeout=60)
    assert {path.name for path in tmp_path.iterdir()} == {"state", "disk"}
    with closing(sqlite3.connect(tmp_path / "disk" / "a.db")) as connection:
        assert connection.execute("SELECT count(*) FROM numbers").fetchone() == (left,)


def test_a_subscriber_ends_with_what_breaks_a_schema(broker):
    for topic in ("emotion/test/cam/status", "emotion/test/cam/unknown"):
        one = Subscriber(broker.port).start()
        one.publish(topic, {"state": "asleep"})
        one.wait_for(lambda m, topic=topic: m.topic == topic)
        with pytest.raises((ValidationError, FileNotFoundError)):
            one.__exit__(None, None, None)


@pytest.mark.own_messages
def test_what_a_test_says_itself_may_break_a_schema_and_what_others_say_may_not(broker):
    topic = "emotion/test/cam/status"
    with Subscriber(broker.port) as one:
        one.publish(topic, {"state": "asleep"})
        one.wait_for(lambda m: m.topic == topic)
    other = Subscriber(broker.port).start()
    other._client.publish(topic, b"{}", qos=1)
    other.wait_for(lambda m: m.topic == topic)
    with pytest.raises(ValidationError):
        other.__exit__(None, None, None)
