"""Where frames come from, the slot they wait in, the thread that reads them."""

import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import edge.frames
from deploy.demo.encode import write_clip
from edge.demo import CLIP
from edge.frames import Capture, CaptureError, FileSource, Frame, LiveSource, Slot
from edge.settings import CameraSettings
from tests.parts import HOST, eventually, free_port

RATE, FRAMES = 20, 12


def frame(number):
    return Frame(np.full((2, 2, 3), number, np.uint8), float(number), float(number), time.monotonic())


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """Twelve frames at 20 a second, each brighter than the one before."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    pictures = (np.full((64, 96, 3), 20 * number + 10, np.uint8) for number in range(FRAMES))
    write_clip(path, pictures, RATE, quality=18, preset="veryfast")
    return path


# The slot


def test_live_slot_keeps_the_newest_and_counts_what_it_replaced():
    filled, dropped = [], []
    slot = Slot(False, lambda: filled.append(1), lambda: dropped.append(1))
    stopped = threading.Event()
    assert slot.take() is None
    for number in range(5):
        slot.put(frame(number), stopped)
    assert slot.full()
    assert slot.take().time == 4
    assert not slot.full()
    assert slot.take() is None
    assert (len(filled), len(dropped)) == (5, 4)


def test_slot_that_keeps_all_loses_none_and_keeps_order():
    dropped, filled = [], threading.Semaphore(0)
    slot = Slot(True, filled.release, lambda: dropped.append(1))
    stopped = threading.Event()
    writer = threading.Thread(target=lambda: [slot.put(frame(number), stopped) for number in range(200)])
    writer.start()
    taken = [slot.take() for _ in range(200) if filled.acquire(timeout=5)]
    writer.join(5)
    assert [f.time for f in taken] == list(range(200))
    assert dropped == []


def test_waiting_writer_leaves_when_stopped_and_the_slot_keeps_its_frame():
    slot = Slot(True, lambda: None, lambda: None)
    stopped = threading.Event()
    slot.put(frame(1), stopped)
    writer = threading.Thread(target=slot.put, args=(frame(2), stopped))
    writer.start()
    assert writer.is_alive()
    stopped.set()
    writer.join(5)
    assert not writer.is_alive()
    assert slot.take().time == 1
    assert slot.take() is None


# Files


def read_all(source):
    """Read a file source to its end; returns frames and the final error."""
    frames = []
    while True:
        try:
            frames.append(source.read())
        except CaptureError as error:
            return frames, error


def open_file(path, **settings):
    source = FileSource(CameraSettings(source=str(path), **settings), threading.Event())
    source.open()
    return source


def test_file_gives_every_frame_at_its_time_then_ends(clip):
    source = open_file(clip, pace="fast")
    frames, error = read_all(source)
    source.close()
    assert error.reason == "ended"
    assert [f.time for f in frames] == pytest.approx([number / RATE for number in range(FRAMES)], abs=0.002)
    brightness = [f.image.mean() for f in frames]
    assert brightness == sorted(brightness)
    assert frames[0].image.shape == (64, 96, 3)
    assert frames[0].image.dtype == np.uint8
    # The wall clock of a frame is that of the first one plus media time, whatever the pace.
    assert [f.wall - frames[0].wall for f in frames] == pytest.approx([f.time for f in frames], abs=1e-3)
    assert frames[0].wall == pytest.approx(time.time(), abs=30)


def test_fast_does_not_wait_and_realtime_does(clip):
    times = {}
    for pace in ("fast", "realtime"):
        source = open_file(clip, pace=pace)
        started = time.monotonic()
        frames, _ = read_all(source)
        times[pace] = frames[-1].captured - started
        for f in frames if pace == "realtime" else []:
            assert f.captured - started >= f.time - 0.05
    assert times["realtime"] >= (FRAMES - 1) / RATE - 0.05
    assert times["fast"] < times["realtime"]


def test_stop_ends_the_wait_of_a_realtime_file(clip):
    stopped = threading.Event()
    source = FileSource(CameraSettings(source=str(clip)), stopped)
    source.open()
    source.read()
    source._start = (source._start[0] + 3600, source._start[1])
    waiting = threading.Thread(target=source.read)
    waiting.start()
    stopped.set()
    waiting.join(5)
    assert not waiting.is_alive()


def test_loop_goes_on_with_media_time_that_never_goes_back(clip):
    source = open_file(clip, pace="fast", loop=True)
    frames = [source.read() for _ in range(3 * FRAMES)]
    source.close()
    steps = np.diff([f.time for f in frames])
    np.testing.assert_allclose(steps, 1 / RATE, atol=0.01)
    assert frames[FRAMES].image.mean() == pytest.approx(frames[0].image.mean(), abs=3)


@pytest.mark.parametrize(
    ("name", "content", "reason", "says"),
    [
        ("missing.mp4", None, "not_found", "no such file"),
        ("text.mp4", b"just words\n" * 50, "unreadable", "not a video"),
        ("empty.mp4", b"", "unreadable", "not a video"),
    ],
)
def test_file_that_is_no_video_says_so(tmp_path, name, content, reason, says):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CaptureError, match=says) as caught:
        open_file(tmp_path / name)
    assert caught.value.reason == reason
    assert str(caught.value).startswith(str(tmp_path / name))


def test_truncated_file_gives_what_it_has_and_ends(tmp_path):
    short = tmp_path / "short.mp4"
    short.write_bytes(CLIP.read_bytes()[: CLIP.stat().st_size // 4])
    frames, error = read_all(open_file(short, pace="fast"))
    assert error.reason == "ended"
    assert 10 < len(frames) < 300


# Network addresses and webcams that give nothing


@pytest.mark.parametrize(
    ("source", "reason", "says"),
    [
        ("rtsp://127.0.0.1:{free}/x", "refused", "Connection refused"),
        ("rtsp://no-such-host.invalid/x", "not_found", "no such host"),
        ("rtsp://a..b/x", "not_found", "no such host"),
        ("/dev/no-such-camera", "unplugged", "no such device"),
        ("231", "unplugged", "cannot be opened"),
    ],
)
def test_source_that_is_not_there_gives_a_typed_reason(source, reason, says):
    with pytest.raises(CaptureError, match=says) as caught:
        LiveSource(CameraSettings(source=source.format(free=free_port()))).open()
    assert caught.value.reason == reason


def test_server_that_closes_at_once_gives_no_video():
    with socket.create_server((HOST, 0)) as server:
        server.settimeout(0.2)
        done = threading.Event()

        def refuse():
            while not done.is_set():
                try:
                    server.accept()[0].close()
                except TimeoutError:
                    continue

        thread = threading.Thread(target=refuse)
        thread.start()
        with pytest.raises(CaptureError, match="gives no video"):
            LiveSource(CameraSettings(source=f"rtsp://{HOST}:{server.getsockname()[1]}/x")).open()
        done.set()
        thread.join(5)


def test_message_of_a_refused_camera_holds_no_login():
    camera = CameraSettings(source=f"rtsp://{HOST}:{free_port()}/x", username="viewer", password="hunter2")
    with pytest.raises(CaptureError) as caught:
        LiveSource(camera).open()
    assert "hunter2" not in str(caught.value)
    assert "viewer" not in str(caught.value)


# The capture thread, over sources that behave as told


@dataclass
class Script:
    """A source whose reads follow a script: frames, errors, or blocking until released."""

    steps: list[Any]
    live: bool = True
    opened: int = 0
    closed: int = 0
    release: threading.Event = field(default_factory=threading.Event)

    def open(self):
        self.opened += 1
        if self.steps and self.steps[0] == "refuse":
            self.steps.pop(0)
            raise CaptureError("refused", "not today")

    def read(self):
        step = self.steps.pop(0) if self.steps else "block"
        if step == "block":
            self.release.wait(20)
            raise CaptureError("timeout", "blocked")
        if isinstance(step, CaptureError):
            raise step
        return frame(step)

    def close(self):
        self.closed += 1


class Ears:
    """Writes down what a capture says."""

    def __init__(self):
        self.said = []
        self.frames = []

    def captured(self, frame):
        self.frames.append(frame.time)

    def online(self):
        self.said.append("online")

    def offline(self, reason, message):
        self.said.append((reason, message))


@pytest.fixture
def capture(monkeypatch):
    """Start a capture over scripts, one for each life of its thread; returns it with its ears."""
    started = []
    monkeypatch.setattr(edge.frames, "BACK_OFF", (0.01, 0.02))

    def start(*scripts, keep_all=False):
        sources = list(scripts)
        ears = Ears()
        taker = Capture("test", CameraSettings(source="0"), Slot(keep_all, lambda: None, lambda: None), ears)
        monkeypatch.setattr(taker, "source", lambda _stopped: sources.pop(0))
        taker.start()
        started.append((taker, scripts))
        return taker, ears

    yield start
    for taker, scripts in started:
        for script in scripts:
            script.release.set()
        taker.stop(5)


def test_lost_source_is_opened_again(capture):
    script = Script([1, 2, CaptureError("ended", "gone"), 3])
    _, ears = capture(script)
    eventually(lambda: ears.frames == [1, 2, 3], 5, "frame after the loss")
    assert ears.said == ["online", ("ended", "gone"), "online"]
    assert (script.opened, script.closed) == (2, 1)


def test_refused_source_is_tried_again_with_growing_pauses(capture, monkeypatch):
    pauses = []
    monkeypatch.setattr(edge.frames, "BACK_OFF", (0.01, 0.02, 0.04))
    monkeypatch.setattr(edge.frames.random, "uniform", lambda low, high: pauses.append((low, high)) or 1.0)
    monkeypatch.setattr(edge.frames, "JITTER", 0.25)
    script = Script(["refuse"] * 5 + [1])
    started = time.monotonic()
    _, ears = capture(script)
    eventually(lambda: ears.frames == [1], 5, "first frame")
    assert time.monotonic() - started >= 0.01 + 0.02 + 0.04 * 3
    assert pauses == [(0.75, 1.25)] * 5
    assert ears.said == [("refused", "not today")] * 5 + ["online"]


def test_frames_bring_the_pause_back_to_the_shortest(capture, monkeypatch):
    monkeypatch.setattr(edge.frames, "BACK_OFF", (0.01, 600.0))
    lost = CaptureError("ended", "gone")
    _, ears = capture(Script([1, lost, 2, lost, 3]))
    eventually(lambda: ears.frames == [1, 2, 3], 5, "third frame, without the long pause")


@pytest.mark.parametrize("reason", ["ended", "unreadable"])
def test_file_that_ended_is_finished(capture, reason):
    script = Script([1, CaptureError(reason, "over")], live=False)
    taker, ears = capture(script, keep_all=True)
    assert taker.finished.wait(5)
    assert ears.said == ["online", (reason, "over")]
    assert (script.opened, script.closed) == (1, 1)


def test_missing_file_is_tried_again(capture):
    script = Script([CaptureError("not_found", "no such file"), 1], live=False)
    taker, ears = capture(script)
    eventually(lambda: ears.frames == [1], 5, "frame")
    assert not taker.finished.is_set()


def test_blocked_reader_is_replaced_and_says_nothing_more(capture):
    stuck, healthy = Script([1, "block"]), Script([2, 3])
    taker, ears = capture(stuck, healthy)
    eventually(lambda: ears.frames == [1] and taker._reader.busy_since, 5, "blocked reader")
    assert not taker.check(time.monotonic())
    assert taker.check(time.monotonic() + edge.frames.STUCK + 1)
    eventually(lambda: ears.frames == [1, 2, 3], 5, "frames of the second reader")
    assert [said[0] if isinstance(said, tuple) else said for said in ears.said] == ["online", "timeout", "online"]
    stuck.release.set()
    eventually(lambda: stuck.closed == 1, 5, "closed source of the abandoned reader")
    assert len(ears.said) == 3


def test_waiting_for_a_slow_analysis_is_not_being_stuck(capture):
    taker, ears = capture(Script([1, 2, 3], live=False), keep_all=True)
    eventually(lambda: ears.frames == [1, 2], 5, "reader that waits for room")
    eventually(lambda: taker._reader.busy_since is None, 5, "idle reader")
    assert not taker.check(time.monotonic() + 1000)


def test_stop_returns_quickly_though_read_blocks(capture):
    taker, ears = capture(Script([1, "block"]))
    eventually(lambda: ears.frames == [1], 5, "first frame")
    started = time.monotonic()
    taker.stop(0.1)
    assert time.monotonic() - started < 2
    assert ears.said == ["online"]


def test_stop_ends_a_pause_at_once(capture, monkeypatch):
    monkeypatch.setattr(edge.frames, "BACK_OFF", (600.0,))
    taker, ears = capture(Script(["refuse"]))
    eventually(lambda: ears.said, 5, "refusal")
    started = time.monotonic()
    taker.stop(10)
    assert time.monotonic() - started < 5
    assert not taker._reader.is_alive()


def test_capture_reads_a_real_file_to_its_end(clip):
    ears, taken = Ears(), []
    slot = Slot(True, lambda: taken.append(slot.take()), lambda: None)
    taker = Capture("file", CameraSettings(source=str(clip), pace="fast"), slot, ears)
    taker.start()
    assert taker.finished.wait(20)
    taker.stop(5)
    assert len(ears.frames) == len(taken) == FRAMES
    assert [said if isinstance(said, str) else said[0] for said in ears.said] == ["online", "ended"]
