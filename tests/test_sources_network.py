"""Network streams: real RTSP, MJPEG over HTTP from a small server, both with TLS."""

import os
import re
import threading
import time
from contextlib import ExitStack, closing

import numpy as np
import pytest

import edge.sources.network
from deploy.demo.encode import write_clip
from edge.capture import Capture
from edge.digest import answer, parse_challenge
from edge.frames import CaptureError, FallenBehindError, Slot
from edge.patience import OPEN_TIMEOUT
from edge.settings import CameraSettings
from edge.sources.network import OPTIONS, NetworkSource
from tests.parts import HOST, eventually, free_port
from tests.parts.camera import Authority, FakeCamera, hang_up, http, jpeg, relay, silent
from tests.parts.line import Line
from tests.parts.streams import PATIENCE, opened


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def clip(clips):
    """Two seconds at 10 frames a second."""
    pictures = (np.full((120, 160, 3), 10 * number + 20, np.uint8) for number in range(20))
    write_clip(clips / "clip.mp4", pictures, 10, quality=18, preset="veryfast")


def test_mjpeg_over_http():
    pictures = [jpeg(brightness=40), jpeg(brightness=200)]
    with FakeCamera(http(pictures=pictures)) as camera, opened(f"http://{HOST}:{camera.port}/live") as stream:
        frames = [stream.read() for _ in range(8)]
    assert {frame.image.shape for frame in frames} == {(240, 320, 3)}
    assert {round(frame.image.mean(), -1) for frame in frames} == {40, 200}
    assert {frame.lag for frame in frames} == {None}, "HTTP has no clock"


def test_unwanted_frames_come_without_pictures():
    with FakeCamera(http(pictures=[jpeg()])) as camera, opened(f"http://{HOST}:{camera.port}/live") as stream:
        frames = [stream.read(lambda _time, wanted=wanted: wanted) for wanted in (True, False, True)]
    assert [frame.refused for frame in frames] == [False, True, False]
    assert [frame.image.size > 0 for frame in frames] == [True, False, True]


@pytest.mark.parametrize("other", [jpeg(160, 120), jpeg(1, 1), jpeg()[:-200]], ids=["smaller", "1×1", "short"])
def test_mjpeg_with_other_pictures_goes_on(other):
    """OpenCV brings them to the size of the first."""
    pictures = [jpeg(), other]
    with (
        FakeCamera(http(pictures=pictures, interval=0.02)) as camera,
        opened(f"http://{HOST}:{camera.port}/live") as stream,
    ):
        assert {stream.read().image.shape for _ in range(12)} == {(240, 320, 3)}


@pytest.mark.parametrize(
    "other", [jpeg()[:300] + bytes(500), b"", bytes(range(256))], ids=["corrupt", "empty", "noise"]
)
def test_broken_pictures_are_counted_and_passed_over(other):
    pictures = [jpeg(), other, other]
    with (
        FakeCamera(http(pictures=pictures, interval=0.02)) as camera,
        opened(f"http://{HOST}:{camera.port}/live") as stream,
    ):
        frames = [stream.read() for _ in range(8)]
    assert {frame.image.shape for frame in frames} == {(240, 320, 3)}
    assert sum(frame.broken for frame in frames) >= 7


def test_nothing_but_broken_pictures_is_the_end():
    with (
        FakeCamera(http(pictures=[jpeg(), *[b"x"] * 50], interval=0.02)) as camera,
        opened(f"http://{HOST}:{camera.port}/live") as stream,
    ):
        stream.read()
        with pytest.raises(CaptureError, match="ended"):
            stream.read()


def test_login_with_special_characters_reaches_the_camera():
    challenge = 'Digest realm="camera", nonce="abc", qop="auth"'
    password = "p@ss:w/rd?#[]% ß"

    def accept(method, header):
        given = parse_challenge(header).parameters
        expected = answer(parse_challenge(challenge), "me@home", password, method, given["uri"], given["cnonce"])
        return given["response"] == parse_challenge(expected).parameters["response"]

    with FakeCamera(http(challenge=challenge, accept=accept, pictures=[jpeg()])) as camera:
        with opened(f"http://{HOST}:{camera.port}/live", username="me@home", password=password) as stream:
            assert stream.read().image.size
        with pytest.raises(CaptureError) as caught:
            opened(f"http://{HOST}:{camera.port}/live", username="me@home", password="wrong")
    assert caught.value.reason == "unreadable", "OpenCV does not say why"


@pytest.mark.usefixtures("clip")
def test_rtsp_is_over_tcp(rtsp_server, monkeypatch):
    answers = bytearray()
    line = Line(rtsp_server.port)
    monkeypatch.setattr(line, "listener", lambda: lambda content: answers.extend(content) or content)
    with line, opened(rtsp_server.url("clip.mp4", line.port)) as stream:
        assert stream.read().image.size
    assert re.findall(rb"Transport: ([^;]*)", answers) == [b"RTP/AVP/TCP"]
    assert b"RTSP/1.0 4" not in answers, "nothing else was asked for first"


@pytest.mark.usefixtures("clip")
def test_other_options_of_the_user_are_ffmpegs(rtsp_server, monkeypatch):
    """There is no relay for what does not come over one TCP connection."""
    monkeypatch.setenv(OPTIONS, "fpsprobesize;0")
    monkeypatch.setattr(edge.sources.network, "RtspRelay", None)
    with opened(rtsp_server.url("clip.mp4")) as stream:
        assert stream.read().image.size


@pytest.mark.usefixtures("clip")
@pytest.mark.parametrize("scheme", ["https", "rtsps"])
def test_stream_with_tls(authority, scheme, rtsp_server):
    behave = http(pictures=[jpeg()]) if scheme == "https" else relay(rtsp_server.port)
    options = os.environ[OPTIONS]
    with FakeCamera(behave, authority.context()) as camera:
        source = f"{scheme}://{HOST}:{camera.port}/clip.mp4?play_count=0"
        with opened(source, tls={"ca": authority.ca}) as stream:
            assert stream.read().image.size
        with opened(source, tls={"insecure": True}) as stream:
            assert stream.read().image.size
        with pytest.raises(CaptureError) as caught:
            opened(source)
        assert caught.value.reason == "tls"
    assert os.environ[OPTIONS] == options


@pytest.mark.usefixtures("clip")
@pytest.mark.parametrize("scheme", ["https", "rtsps"])
def test_who_opens_the_stream_checks_the_certificate(authority, scheme, rtsp_server, monkeypatch):
    """The check before it is another connection, which somebody between might let through."""
    monkeypatch.setattr(edge.sources.network.probe, "silence", lambda _settings: None)
    behave = http(pictures=[jpeg()]) if scheme == "https" else relay(rtsp_server.port)
    with FakeCamera(behave, authority.context()) as camera, pytest.raises(CaptureError):
        opened(f"{scheme}://{HOST}:{camera.port}/clip.mp4?play_count=0")


class Ears:
    """Writes down what a capture says."""

    def __init__(self):
        self.said, self.frames = [], []

    def wanted(self, _time):
        return True

    def captured(self, frame):
        self.frames.append(frame.captured)
        return frame

    def reopened(self, skipped, broken):
        self.said.append(f"reopened after {skipped} and {broken}")

    def online(self):
        self.said.append("online")

    def offline(self, reason, message):
        self.said.append(f"{reason}: {message}")


@pytest.fixture
def start_capture():
    """Return a function that starts to read a source and returns the capture and its ears."""
    started = []

    def start(name, settings):
        ears = Ears()
        started.append(Capture(name, settings, Slot(False, lambda: None, lambda: None), ears))
        started[-1].start()
        return started[-1], ears

    yield start
    for capture in started:
        capture.stop(0)


@pytest.mark.usefixtures("clip")
@pytest.mark.parametrize("scheme", ["rtsp", "rtsps"])
def test_cameras_that_are_silent_hold_up_no_other(authority, scheme, rtsp_server, start_capture):
    """OpenCV opens one stream after the other, each for seconds if it is silent."""
    context = authority.context() if scheme == "rtsps" else None
    tls = {"tls": {"ca": authority.ca}} if scheme == "rtsps" else {}
    captures = []
    with ExitStack() as stack:
        dead = [stack.enter_context(FakeCamera(silent, context)) for _ in range(6)]
        good = stack.enter_context(FakeCamera(relay(rtsp_server.port), context))
        for each in dead:
            captures.append(start_capture("dead", CameraSettings(source=f"{scheme}://{HOST}:{each.port}/x", **tls))[0])
        eventually(lambda: all(each.connections for each in dead), 30, "attempts to open each")
        source = f"{scheme}://{HOST}:{good.port}/clip.mp4?play_count=0"
        capture, ears = start_capture("good", CameraSettings(source=source, **tls))
        captures.append(capture)

        def check():
            assert not any(capture.check(time.monotonic()) for capture in captures), "taken for one that hangs"
            return len(ears.frames) > 3

        # Half of what they would have taken in turn.
        eventually(check, 6 * OPEN_TIMEOUT / 2, "frames", lambda: ears.said)
        assert ears.said == ["online"]
        reading = [thread for thread in threading.enumerate() if thread.name in ("capture-dead", "capture-good")]
        assert len(reading) == len(captures)
        for each in captures:
            each.stop(30)


def test_who_waits_too_long_for_its_turn_tries_again_later(monkeypatch):
    monkeypatch.setattr(edge.sources.network, "TURN", 0.1)
    with FakeCamera(http(pictures=[jpeg()])) as camera:
        stream = NetworkSource(CameraSettings(source=f"http://{HOST}:{camera.port}/live"))
        with edge.sources.network._opening, pytest.raises(CaptureError) as caught:
            stream.open(PATIENCE)
        assert (caught.value.reason, "waits" in str(caught.value)) == ("timeout", True)
        assert stream.explain(caught.value) is caught.value, "nothing is asked of the camera"
        with closing(stream):
            stream.open(PATIENCE)
            assert stream.read().image.size


def test_failed_open_is_explained_by_the_probe_and_shows_no_login():
    login = {"username": "viewer", "password": "hunter2"}
    with FakeCamera(http("404 Not Found")) as camera:
        settings = CameraSettings(source=f"http://{HOST}:{camera.port}/live", **login)
        stream = NetworkSource(settings)
        with pytest.raises(CaptureError) as caught:
            stream.open(PATIENCE)
        error = stream.explain(caught.value)
    assert error.reason == "not_found"
    for text in (str(caught.value), str(error)):
        assert "viewer" not in text
        assert "hunter2" not in text
    gone = NetworkSource(CameraSettings(source=f"rtsp://{HOST}:{free_port()}/x"))
    with pytest.raises(CaptureError) as caught:
        gone.open(PATIENCE)
    assert gone.explain(caught.value).reason == "refused"
    known = CaptureError("tls", "certificate")
    assert gone.explain(known) is known


def test_server_that_hangs_up_is_not_opened():
    with FakeCamera(hang_up) as camera, pytest.raises(CaptureError):
        opened(f"rtsp://{HOST}:{camera.port}/live")


@pytest.mark.usefixtures("clip")
def test_stream_that_fell_behind_is_drained(rtsp_server):
    with opened(rtsp_server.url("clip.mp4")) as stream:
        for _ in range(15):
            assert (stream.read().lag or 0) < 1
        time.sleep(2.5)  # as a machine that was busy
        first = stream.read()
        after = [stream.read() for _ in range(5)]
    assert first.skipped >= 10
    assert max(frame.lag for frame in [first, *after]) < 1
    assert sum(frame.skipped for frame in after) == 0


@pytest.mark.usefixtures("clip")
@pytest.mark.parametrize("late", [3, 100])
def test_stream_that_is_late_before_it_comes_is_borne_or_opened_again(rtsp_server, late):
    with opened(rtsp_server.url("clip.mp4")) as stream:
        for _ in range(5):
            stream.read()
        # As if the camera had begun to send later: reading on cannot mend that.
        stream._lag._least -= late
        if late > 5:
            with pytest.raises(FallenBehindError):
                stream.read()
        else:
            assert 1 <= stream.read().skipped <= 15, "it was tried"
        borne = [stream.read() for _ in range(5)]
    assert [frame.skipped for frame in borne] == [0] * 5, "borne for a while"
    assert max(frame.lag for frame in borne[1:]) < 1, "and no lag from then on"


def test_slow_source_is_usable(start_capture):
    """A frame in three and a half seconds, read by a supervised capture."""
    with FakeCamera(http(pictures=[jpeg()], interval=3.5)) as camera:
        capture, ears = start_capture("slow", CameraSettings(source=f"http://{HOST}:{camera.port}/live"))
        eventually(lambda: capture.check(time.monotonic()) or len(ears.frames) >= 6, 90, "frames", lambda: ears.said)
        capture.stop(5)
    assert ears.said == ["online"]
