"""The thread that reads a source, over sources that behave as told."""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import edge.capture
import edge.patience
from edge.capture import Capture
from edge.demo import CLIP
from edge.frames import CaptureError, FallenBehindError, Frame, NotItsTurnError, Slot
from edge.settings import CameraSettings
from tests.parts import eventually


def frame(number):
    return Frame(np.full((2, 2, 3), number, np.uint8), float(number), float(number), time.monotonic())


@dataclass
class Script:
    """A source whose reads follow a script: frames, errors, or blocking until released."""

    steps: list[Any]
    live: bool = True
    opened: int = 0
    closed: int = 0
    release: threading.Event = field(default_factory=threading.Event)
    explained: list[str] = field(default_factory=list)
    wiser: CaptureError | None = None
    patience: float = 0.0

    def open(self, patience):
        self.patience = patience
        self.opened += 1
        if self.steps and self.steps[0] == "refuse":
            self.steps.pop(0)
            raise CaptureError("refused", "not today")

    def read(self, _wanted):
        step = self.steps.pop(0) if self.steps else "block"
        if step == "block":
            self.release.wait(60)
            raise CaptureError("timeout", "blocked")
        if isinstance(step, Exception):
            raise step
        return frame(step)

    def explain(self, error):
        self.explained.append(str(error))
        return self.wiser or error

    def close(self):
        self.closed += 1


class Ears:
    """Writes down what a capture says."""

    def __init__(self, kept=lambda _frame: True):
        self.said = []
        self.frames = []
        self.kept = kept

    def wanted(self, _time):
        return True

    def captured(self, frame):
        self.frames.append(frame.time)
        return frame if self.kept(frame) else None

    def reopened(self, skipped, broken):
        self.said.append(f"reopened after {skipped} and {broken}")

    def online(self):
        self.said.append("online")

    def offline(self, reason, message):
        self.said.append((reason, message))


@pytest.fixture
def capture(monkeypatch):
    """Start a capture over scripts, one for each life of its thread; returns it with its ears."""
    started = []
    monkeypatch.setattr(edge.patience, "BACK_OFF", (0.01, 0.02))

    def start(*scripts, keep_all=False, kept=lambda _frame: True, source="0"):
        sources = list(scripts)
        ears = Ears(kept)
        slot = Slot(keep_all, lambda: None, lambda: None)
        taker = Capture("test", CameraSettings(source=source), slot, ears, lambda *_: sources.pop(0))
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
    eventually(lambda: ears.frames == [1, 2, 3], 20, "frame after the loss")
    assert ears.said == ["online", ("ended", "gone"), "online"]
    assert (script.opened, script.closed) == (2, 1)


@pytest.mark.parametrize(("source", "seconds"), [("0", 20), ("rtsp://door/1", 5), ("http://door/live", 5)])
def test_time_outs_that_hold_are_logged_once(capture, caplog, source, seconds):
    caplog.set_level("INFO")
    lost = CaptureError("ended", "gone")
    _, ears = capture(Script([1, lost, 2, lost, 3]), source=source)
    eventually(lambda: ears.frames == [1, 2, 3], 20, "frames after two losses")
    (said,) = (record.message for record in caplog.records if "time-outs" in record.message)
    assert said == (
        f"camera test: time-outs: {seconds} s to open; stalled after 3 s or 5 frame intervals without a frame, "
        "whichever is longer, 8 s until the rate is known"
    )


def test_who_waits_for_its_turn_is_not_offline(capture, caplog):
    caplog.set_level("INFO")
    waits = NotItsTurnError("timeout", "waits for its turn")
    script = Script([waits, waits, 1])
    _, ears = capture(script)
    eventually(lambda: ears.frames == [1], 20, "its turn")
    assert ears.said == ["online"]
    assert script.explained == []
    assert "camera test: waits for its turn" in caplog.text


def test_a_camera_opened_again_that_has_to_wait_is_offline(capture):
    waits = NotItsTurnError("timeout", "waits for its turn")
    script = Script([1, FallenBehindError(4, 1), waits, 2])
    _, ears = capture(script)
    eventually(lambda: ears.frames == [1, 2], 20, "its turn")
    assert ears.said == ["online", "reopened after 4 and 1", ("timeout", "waits for its turn"), "online"]


def test_refused_source_is_tried_again_with_growing_pauses(capture, monkeypatch):
    pauses = []
    monkeypatch.setattr(edge.patience, "BACK_OFF", (0.01, 0.02, 0.04))
    monkeypatch.setattr(edge.patience.random, "uniform", lambda low, high: pauses.append((low, high)) or 1.0)
    monkeypatch.setattr(edge.patience, "JITTER", 0.25)
    script = Script(["refuse"] * 5 + [1])
    started = time.monotonic()
    _, ears = capture(script)
    eventually(lambda: ears.frames == [1], 20, "first frame")
    assert time.monotonic() - started >= 0.01 + 0.02 + 0.04 * 3
    assert pauses == [(0.75, 1.25)] * 5
    assert ears.said == [("refused", "not today")] * 5 + ["online"]


def test_frames_bring_the_pause_back_to_the_shortest(capture, monkeypatch):
    monkeypatch.setattr(edge.patience, "BACK_OFF", (0.01, 600.0))
    lost = CaptureError("ended", "gone")
    _, ears = capture(Script([1, lost, 2, lost, 3]))
    eventually(lambda: ears.frames == [1, 2, 3], 20, "third frame, without the long pause")


@pytest.mark.parametrize("reason", ["ended", "unreadable"])
def test_file_that_ended_is_finished(capture, reason):
    script = Script([1, CaptureError(reason, "over")], live=False)
    taker, ears = capture(script, keep_all=True)
    assert taker.finished.wait(20)
    assert ears.said == ["online", (reason, "over")]
    assert (script.opened, script.closed) == (1, 1)


def test_missing_file_is_tried_again(capture):
    script = Script([CaptureError("not_found", "no such file"), 1], live=False)
    taker, ears = capture(script)
    eventually(lambda: ears.frames == [1], 20, "frame")
    assert not taker.finished.is_set()


def test_failed_open_is_explained_once_an_attempt_and_a_lost_stream_is_not(capture):
    wiser = CaptureError("auth", "wrong password")
    script = Script(["refuse", "refuse", 1, CaptureError("ended", "gone"), 2], wiser=wiser)
    _, ears = capture(script)
    eventually(lambda: ears.frames == [1, 2], 20, "frames")
    assert script.explained == ["not today"] * 2
    assert ears.said == [("auth", "wrong password")] * 2 + ["online", ("ended", "gone"), "online"]


def test_blocked_reader_is_replaced_and_says_nothing_more(capture):
    stuck, healthy = Script([1, "block"]), Script([2, 3])
    taker, ears = capture(stuck, healthy)
    blocked = taker._reader
    eventually(lambda: ears.frames == [1] and blocked._work, 20, "blocked reader")
    assert not taker.check(time.monotonic())
    assert taker.check(time.monotonic() + edge.patience.FIRST_FRAMES + 1)
    eventually(lambda: ears.frames == [1, 2, 3], 20, "frames of the second reader")
    assert [said[0] if isinstance(said, tuple) else said for said in ears.said] == ["online", "timeout", "online"]
    stuck.release.set()
    eventually(lambda: stuck.closed == 1, 20, "closed source of the abandoned reader")
    blocked.join(20)
    assert not blocked.is_alive()
    assert len(ears.said) == 3


def test_reader_that_hangs_as_it_closes_is_replaced(capture):
    """As a webcam's driver can, once the cable is out."""
    stuck, healthy = Script([1, CaptureError("unplugged", "gone")]), Script([2])
    stuck.close = lambda: stuck.release.wait(60)
    taker, ears = capture(stuck, healthy)
    eventually(lambda: taker._reader._work and taker._reader._work[0] == "close", 20, "closing")
    assert not taker.check(time.monotonic())
    assert taker.check(time.monotonic() + edge.capture.OPEN_LIMIT + 1)
    eventually(lambda: ears.frames == [1, 2], 20, "frame of the second reader")
    assert ears.said == ["online", ("timeout", "no frame; blocked in close() for 20 s"), "online"]


def test_reader_blocked_before_its_first_frame_is_explained(capture):
    wiser = CaptureError("codec", "no frame of it")
    taker, ears = capture(Script(["block"]), Script([1], wiser=wiser))
    eventually(lambda: taker._reader._work, 20, "blocked reader")
    assert taker.check(time.monotonic() + 100)
    eventually(lambda: ears.frames == [1], 20, "frame of the second reader")
    assert ears.said == [("codec", "no frame of it"), "online"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_dead_thread_is_replaced_and_a_file_goes_on_with_its_source(capture):
    script = Script([1, ValueError("a fault"), 2, 3], live=False)
    taker, ears = capture(script)
    eventually(lambda: not taker._reader.is_alive(), 20, "dead thread")
    assert taker.check(time.monotonic())
    eventually(lambda: ears.frames == [1, 2, 3], 20, "frames of the second thread")
    assert (script.opened, script.explained) == (2, [])


def test_opening_is_given_up_later_than_reading(capture):
    taker, ears = capture(Script([1, "block"]), Script(["block"]))
    eventually(lambda: ears.frames == [1] and taker._reader._work, 20, "blocked reader")
    reader = taker._reader
    reader._work = ("open", 100.0, edge.capture.OPEN_LIMIT)
    assert not reader.overdue(100 + edge.patience.FIRST_FRAMES + 1)
    assert reader.overdue(100 + edge.capture.OPEN_LIMIT)


def test_source_that_fell_behind_is_opened_again_and_never_offline(capture):
    script = Script([1, FallenBehindError(), 2, 3])
    _, ears = capture(script)
    eventually(lambda: ears.frames == [1, 2, 3], 20, "frames")
    assert ears.said == ["online", "reopened after 0 and 0"]
    assert (script.opened, script.closed) == (2, 1)


def test_what_the_listener_refuses_is_not_put_into_the_slot(capture):
    taker, ears = capture(Script([1, 2, 3]), kept=lambda frame: frame.time == 2)
    eventually(lambda: ears.frames == [1, 2, 3], 20, "three frames")
    assert taker._shared.slot.take().time == 2


def test_slow_source_is_opened_with_more_patience_the_next_time(capture, monkeypatch):
    script = Script([])
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(script, "read", lambda _wanted: frame_at(next(clock), script))
    _, ears = capture(script)
    eventually(lambda: script.opened >= 2, 20, "second opening")
    assert script.patience == 20
    assert ears.said[1] == ("ended", "gone")


def frame_at(seconds, script):
    if seconds % 40 == 36:
        raise CaptureError("ended", "gone")
    if script.opened > 1:
        script.release.wait(60)
        raise CaptureError("ended", "over")
    return Frame(np.zeros((2, 2, 3), np.uint8), seconds, seconds, seconds)


def test_waiting_for_a_slow_analysis_is_not_being_stuck(capture):
    taker, ears = capture(Script([1, 2, 3], live=False), keep_all=True)
    eventually(lambda: ears.frames == [1, 2], 20, "reader that waits for room")
    eventually(lambda: taker._reader._work is None, 20, "idle reader")
    assert not taker.check(time.monotonic() + 1000)


def test_stop_returns_quickly_though_read_blocks(capture):
    taker, ears = capture(Script([1, "block"]))
    eventually(lambda: ears.frames == [1], 20, "first frame")
    started = time.monotonic()
    taker.stop(0.1)
    assert time.monotonic() - started < 10
    assert ears.said == ["online"]


def test_stop_ends_a_pause_at_once(capture, monkeypatch):
    monkeypatch.setattr(edge.patience, "BACK_OFF", (600.0,))
    taker, ears = capture(Script(["refuse"]))
    eventually(lambda: ears.said, 20, "refusal")
    started = time.monotonic()
    taker.stop(60)
    assert time.monotonic() - started < 30
    assert not taker._reader.is_alive()


def test_capture_reads_a_real_file_to_its_end():
    ears, taken = Ears(), []
    slot = Slot(True, lambda: taken.append(slot.take()), lambda: None)
    taker = Capture("file", CameraSettings(source=str(CLIP), pace="fast"), slot, ears)
    taker.start()
    assert taker.finished.wait(60)
    taker.stop(5)
    assert len(ears.frames) == len(taken) > 300
    assert [said if isinstance(said, str) else said[0] for said in ears.said] == ["online", "ended"]
