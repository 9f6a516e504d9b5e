"""The whole daemon in this process: how it ends, and what it says on the way."""

import contextlib
import logging
import os
import re
import signal
import socket
import threading
import time

import pytest

from edge.bundle import BundleError
from edge.camera import Camera
from edge.demo import CLIP
from edge.http import HttpError
from edge.outbox import Outbox
from edge.service import Service
from edge.settings import Settings, SettingsError
from edge.store import OutboxBusyError, Store
from tests.parts import HOST, eventually, free_port
from tests.parts.broker import Mosquitto
from tests.parts.camera import FakeCamera, silent
from tests.parts.samples import write_model
from tests.parts.settings import settings_for
from tests.parts.subscriber import Subscriber
from tests.scenes import clear_portraits, compose

NOWHERE = {"source": "rtsp://127.0.0.1:1/none"}


@pytest.fixture(autouse=True)
def _own_signals(caplog):
    """`Service.run` takes the signals; they are given back after the test."""
    caplog.set_level(logging.INFO)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def service(broker: Mosquitto | None, published=lambda _: None, **cameras) -> Service:
    return Service(Settings.model_validate(settings_for(broker, **cameras)), published)


def when(condition, number: signal.Signals) -> threading.Thread:
    """Send this process a signal once the condition holds."""

    def wait():
        eventually(condition, 120, "condition")
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_ends_with_its_files_and_every_event_of_theirs_is_delivered(tmp_path, broker):
    visits = compose(clear_portraits(4, 3), tmp_path / "faces.mp4", size=(640, 480), side=200)
    published = []
    with Subscriber(broker.port) as subscriber:
        cam = {"source": str(tmp_path / "faces.mp4"), "pace": "fast"}
        assert service(broker, published.append, cam=cam).run() == 0
        subscriber.wait_for_farewell()
        received = [message.payload for message in subscriber.on("emotion/test/cam/event")]
    assert [event["id"] for event in received] == [event.id for event in published]
    kinds = [event["type"] for event in received]
    assert (kinds.count("start"), kinds.count("end")) == (len(visits), len(visits))


def test_a_new_start_waits_for_a_disk_that_is_slow_to_let_go_of_the_outbox(broker, tmp_path, monkeypatch):
    content = {**settings_for(broker, cam=NOWHERE), "outbox": {"path": str(tmp_path / "outbox.db")}}
    other = Settings.model_validate({**content, "node": "other"})
    daemon = Service(Settings.model_validate(content), reread=lambda: other)
    commit = Store.commit

    def slow(store, changes):
        time.sleep(1.5)
        commit(store, changes)

    monkeypatch.setattr(Store, "commit", slow)
    monkeypatch.setattr("edge.service.STOP_OUTBOX", 0.1)
    when(daemon._publisher.connected.is_set, signal.SIGHUP)
    daemon.run()
    assert daemon.successor is not None
    when(daemon.successor._publisher.connected.is_set, signal.SIGTERM)
    assert daemon.successor.run() == 0


def test_a_signal_while_a_new_start_waits_for_the_disk_ends_it(broker, tmp_path, monkeypatch):
    content = {**settings_for(broker, cam=NOWHERE), "outbox": {"path": str(tmp_path / "outbox.db")}}
    other = Settings.model_validate({**content, "node": "other"})
    daemon = Service(Settings.model_validate(content), reread=lambda: other)
    let_go, handed_over = threading.Event(), threading.Event()
    commit, hand_over = Store.commit, Service._hand_over

    def slow(store, changes):
        let_go.wait(60)
        commit(store, changes)

    def noted(service):
        handed_over.set()
        hand_over(service)

    monkeypatch.setattr(Store, "commit", slow)
    monkeypatch.setattr(Service, "_hand_over", noted)
    monkeypatch.setattr("edge.service.STOP_OUTBOX", 0.1)
    when(daemon._publisher.connected.is_set, signal.SIGHUP)
    when(handed_over.is_set, signal.SIGTERM)
    assert daemon.run() == 0
    let_go.set()
    assert daemon.successor is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_success(broker, caplog, number):
    daemon = service(broker, cam=NOWHERE)
    thread = when(daemon._publisher.connected.is_set, number)
    with Subscriber(broker.port) as subscriber:
        assert daemon.run() == 0
        subscriber.wait_for_farewell()
        online = next(m.payload for m in subscriber.on("emotion/test/status") if m.payload["state"] == "online")
    thread.join()
    assert (online["paused"], online["problems"]) == (False, [])
    assert set(online) == {"state", "version", "model", "paused", "problems"}
    assert f"stopping on {number.name}" in caplog.text


def test_hangups_are_heard_while_the_settings_are_read_and_while_a_successor_takes_over(broker, caplog, monkeypatch):
    config = settings_for(broker, cam=NOWHERE)
    calls = []

    def reread() -> Settings:
        """Change nothing, then change the node, then change nothing; a hangup comes during the first call."""
        calls.append(1)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGHUP)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return Settings.model_validate(config if len(calls) == 1 else {**config, "node": "renamed"})

    first = Service(Settings.model_validate(config), None, reread)
    stop = first._publisher.stop
    monkeypatch.setattr(first._publisher, "stop", lambda t: os.kill(os.getpid(), signal.SIGHUP) or stop(t))
    give_up = threading.Timer(120, os.kill, (os.getpid(), signal.SIGTERM))
    give_up.start()
    thread = when(first._publisher.connected.is_set, signal.SIGHUP)
    first.run()
    assert first.successor is not None
    first.successor.run()
    give_up.cancel()
    thread.join()
    assert len(calls) == 3
    assert caplog.text.count("settings: nothing has changed") == 2


def test_paused_cameras_are_read_anew_without_a_moment_of_watching_and_all_leave_at_once(broker, monkeypatch):
    started, deadlines = [], []
    start, leave = Camera.start, Camera.leave
    monkeypatch.setattr(Camera, "start", lambda self: started.append(self.paused) or start(self))
    monkeypatch.setattr(Camera, "leave", lambda self, end, removed: deadlines.append(end) or leave(self, end, removed))
    config = settings_for(broker, cam=NOWHERE, other=NOWHERE)
    changed = settings_for(broker, cam={**NOWHERE, "max_fps": 3}, other={**NOWHERE, "max_fps": 3})
    new = Settings.model_validate({**config, "cameras": changed["cameras"]})
    daemon = Service(Settings.model_validate(config), None, lambda: new)
    daemon._cameras[0].pause()
    thread = when(lambda: len(started) == 2, signal.SIGHUP)
    end = when(lambda: len(started) == 4, signal.SIGTERM)
    daemon.run()
    thread.join(), end.join()
    assert started == [True, False] * 2
    assert (len(deadlines), len(set(deadlines))) == (2, 1)


def test_a_shorter_period_of_summaries_counts_from_now(broker, subscriber):
    config = {**settings_for(broker, cam=NOWHERE), "summary": {"period": 3600}}
    new = Settings.model_validate({**config, "summary": {"period": 1}})
    daemon = Service(Settings.model_validate(config), None, lambda: new)
    give_up = threading.Timer(120, os.kill, (os.getpid(), signal.SIGTERM))
    give_up.start()
    thread = when(daemon._publisher.connected.is_set, signal.SIGHUP)
    end = when(lambda: subscriber.on("emotion/test/cam/summary"), signal.SIGTERM)
    daemon.run()
    in_time = give_up.is_alive()
    give_up.cancel()
    thread.join(), end.join()
    assert in_time


def test_what_changes_in_place_and_what_changes_nothing(broker, tmp_path, caplog):
    config = settings_for(broker, cam=NOWHERE, gone=NOWHERE)
    model = write_model(tmp_path / "other.tflite", version="other")
    changed = {
        **config,
        "cameras": {"new": NOWHERE, "cam": NOWHERE},
        "tracking": {"appear": 0.7},
        "model": str(model),
    }
    good = Settings.model_validate(changed)
    answers = iter([good, SettingsError("edge.yaml:3: workers: wrong\nedge.yaml:4: x: unknown key")])

    def reread():
        answer = next(answers)
        if isinstance(answer, SettingsError):
            raise answer
        return answer

    daemon = Service(Settings.model_validate(config), None, reread)
    first = when(daemon._publisher.connected.is_set, signal.SIGHUP)
    second = when(lambda: "settings: changed" in caplog.text, signal.SIGHUP)
    end = when(lambda: "x: unknown key; the old ones go on" in caplog.text, signal.SIGTERM)
    with Subscriber(broker.port) as subscriber:
        assert daemon.run() == 0
        subscriber.wait_for_farewell()
        states = [m.payload["model"] for m in subscriber.on("emotion/test/status") if m.payload["state"] == "online"]
    first.join(), second.join(), end.join()
    assert "cameras stopped, started or read anew: gone, new" in caplog.text
    assert caplog.text.count("the old ones go on") == 2, "a line each"
    assert [camera.name for camera in daemon._cameras] == ["new", "cam"]
    assert {camera.rules.appear for camera in daemon._cameras} == {0.7}
    assert states[-1].endswith(" other")
    assert daemon.successor is None


@pytest.mark.parametrize("same_port", [True, False])
def test_a_new_address_of_the_metrics_is_tried_before_everything_starts_anew(broker, caplog, same_port):
    config = settings_for(broker, cam=NOWHERE)
    port = config["metrics"]["port"] if same_port else free_port()
    metrics = {"host": "127.0.0.2" if same_port else HOST, "port": port, "token": "none"}
    new = Settings.model_validate({**config, "metrics": metrics, "privacy": "aggregate"})
    daemon = Service(Settings.model_validate(config), None, lambda: new)
    thread = when(daemon._publisher.connected.is_set, signal.SIGHUP)
    daemon.run()
    thread.join()
    assert "settings: privacy, metrics changed; everything starts anew" in caplog.text
    successor = daemon.successor
    end = when(successor._publisher.connected.is_set, signal.SIGTERM)
    assert successor.run() == 0
    end.join()


def test_a_file_that_is_no_video_ends_it_with_a_failure(tmp_path, caplog):
    (tmp_path / "clip.mp4").write_text("no video")
    assert service(None, cam={"source": str(tmp_path / "clip.mp4")}).run() == 1
    assert "clip.mp4" in caplog.text


def test_a_stop_that_was_asked_for_is_no_failure_whatever_a_file_was(broker, tmp_path):
    (tmp_path / "clip.mp4").write_text("no video")
    daemon = service(broker, cam={"source": str(tmp_path / "clip.mp4")}, other=NOWHERE)
    with Subscriber(broker.port) as subscriber:
        lost = "emotion/test/cam/status"
        thread = when(lambda: any(m.payload["reason"] == "unreadable" for m in subscriber.on(lost)), signal.SIGTERM)
        assert daemon.run() == 0
        subscriber.wait_for_farewell()
    thread.join()


def test_a_second_daemon_on_the_same_outbox_is_refused(broker):
    settings = Settings.model_validate(settings_for(broker, cam=NOWHERE))
    first = Outbox(settings.outbox.path)
    first.start()
    with pytest.raises(OutboxBusyError, match="another emotion-edge uses it"):
        Service(settings).run()
    first.stop(5)


def test_what_the_outbox_cannot_do_is_told_in_the_status(broker, tmp_path):
    (tmp_path / "state").write_text("a file where the folder should be")
    daemon = service(broker, cam=NOWHERE)
    with Subscriber(broker.port) as subscriber:
        thread = when(lambda: subscriber.on("emotion/test/status"), signal.SIGTERM)
        assert daemon.run() == 0
        subscriber.wait_for_farewell()
    thread.join()
    (problem,) = subscriber.on("emotion/test/status")[0].payload["problems"]
    assert problem.startswith("outbox: ")
    assert "emotion_edge_outbox_durable 0.0" in daemon._metrics.text().decode()


def test_analysis_that_always_fails_ends_it_with_a_failure(monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("broken interpreter")

    monkeypatch.setattr("edge.analyser.Analyser.__call__", broken)
    assert service(None, cam={"source": str(CLIP), "loop": True, "pace": "fast"}).run() == 1
    assert "giving up" in caplog.text


@pytest.fixture
def fed(monkeypatch, tmp_path):
    """Play systemd with a watchdog of half a second; returns a function that counts how often it was fed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "500000")
        count = [0]

        def fed():
            with contextlib.suppress(BlockingIOError):
                while True:
                    count[0] += listener.recv(4096) == b"WATCHDOG=1"
            return count[0]

        yield fed


def test_systemctl_status_has_cameras_rate_and_what_waits(monkeypatch, broker):
    monkeypatch.setattr("edge.service.STATUS", 0.5)
    told = []
    monkeypatch.setattr("edge.systemd.notify", lambda **fields: bool(told.append(fields.get("STATUS", ""))))
    line = re.compile(r"1 of 2 cameras online, ([1-9]\d*\.\d|0\.[1-9]) frames/s analysed, \d+ messages wait")
    daemon = service(broker, cam={"source": str(CLIP), "loop": True}, none=NOWHERE)
    thread = when(lambda: any(line.fullmatch(each) for each in told), signal.SIGTERM)
    daemon.run()
    thread.join()
    assert told[0] == "2 cameras"
    assert any(line.fullmatch(each) for each in told), told


def test_a_worker_that_hangs_stops_the_watchdog_and_delays_no_stop(monkeypatch, fed):
    hang, hanging, ended = threading.Event(), threading.Event(), []

    def analyse(*_):
        hanging.set()
        hang.wait(120)
        return []

    monkeypatch.setattr("edge.analyser.Analyser.__call__", analyse)
    monkeypatch.setattr("edge.pipeline.STUCK", 3.0)  # the model is read in this time too
    daemon = service(None, cam={"source": str(CLIP), "loop": True})
    before = []

    def watch():
        assert hanging.wait(60)
        # Read all the time, as a socket that is full would hold the supervisor up.
        eventually(lambda: fed() and not daemon.progress(), 30, "no progress, after some")
        # What is fed comes from the loop that this method runs in; four rounds of it are a second. The first may have
        # looked before it hung.
        rounds = []
        monkeypatch.setattr(daemon._pipeline, "check", lambda _now: len(rounds.append(1) or []))
        for count in (2, 7):
            eventually(lambda count=count: len(rounds) >= count, 30, "rounds of the supervisor")
            before.append(fed())
        ended.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    assert daemon.run() == 0
    assert time.monotonic() - ended[0] < 5
    hang.set()
    thread.join(5)
    assert before[0] > 0, "fed before it hung"
    assert before[1] == before[0]


def test_cameras_and_broker_that_are_away_are_no_lack_of_progress(parts, fed):
    """Every camera takes connections and is silent, nobody is at the broker's address."""
    silence = parts.start(FakeCamera(silent))
    daemon = service(None, cam={"source": f"rtsp://{HOST}:{silence.port}/live"})
    thread = when(lambda: fed() >= 8, signal.SIGTERM)
    assert daemon.run() == 0
    thread.join()


def test_ready_only_with_a_broker_and_until_the_stop(broker):
    daemon = service(broker, cam=NOWHERE)
    assert not daemon._ready()
    seen = []
    thread = when(lambda: seen.append(daemon._ready()) or seen[-1], signal.SIGTERM)
    daemon.run()
    thread.join()
    assert seen[-1]
    assert not daemon._ready()
    assert daemon.progress(), "a stop is no lack of progress"


def test_what_makes_no_progress_is_counted(monkeypatch):
    daemon = service(None, cam=NOWHERE)
    monkeypatch.setattr(daemon._pipeline, "check", lambda _now: 3)
    monkeypatch.setattr(daemon._cameras[0].capture, "check", lambda _now: True)
    stalls = {name: daemon._metrics.stalls[name]._value for name in ("analysis", "capture")}
    thread = when(lambda: stalls["capture"].get() >= 1, signal.SIGTERM)
    daemon.run()
    thread.join()
    assert stalls["analysis"].get() == 3 * stalls["capture"].get()


def test_a_command_that_hangs_is_no_progress_and_counted():
    daemon = service(None, cam=NOWHERE)
    assert daemon.progress()
    daemon._commands._busy_since = time.monotonic() - 60
    assert not daemon.progress()
    daemon._check(time.monotonic())
    daemon._check(time.monotonic())
    assert daemon._metrics.stalls["command"]._value.get() == 1


def test_a_thread_for_commands_that_died_ends_it_with_a_failure(monkeypatch, caplog):
    monkeypatch.setattr("edge.commands.Commands._run", lambda _: None)
    assert service(None, cam=NOWHERE).run() == 1
    assert "the thread for commands died" in caplog.text


def test_taken_metrics_port_is_one_line(broker):
    config = {**settings_for(broker, cam=NOWHERE), "metrics": {"host": HOST, "port": broker.port}}
    with pytest.raises(HttpError, match=f"metrics.port: {HOST}:{broker.port}: .*choose another port"):
        Service(Settings.model_validate(config)).run()


def test_model_is_read_before_anything_starts(tmp_path):
    config = {**settings_for(None, cam=NOWHERE), "model": str(tmp_path / "none.tflite")}
    before = set(threading.enumerate())
    with pytest.raises(BundleError, match=r"none\.tflite"):
        Service(Settings.model_validate(config))
    assert set(threading.enumerate()) <= before
