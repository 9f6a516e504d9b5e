"""Streams that come and go, and streams that freeze, leave no thread, no descriptor and next to no memory behind."""

import gc
import os
import time
from pathlib import Path

import pytest

import edge.patience
from edge.capture import Capture
from edge.frames import Slot
from edge.settings import CameraSettings
from tests.parts import HOST, eventually
from tests.parts.camera import BOUNDARY, FakeCamera, jpeg, read_request, silent

FLAPS, FREEZES, WARM = 200, 20, 30
PICTURE = jpeg(640, 480)
PART = BOUNDARY % len(PICTURE) + PICTURE + b"\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"


class Ears:
    """Counts how often the source came and went, and keeps the reasons."""

    def __init__(self):
        self.came, self.reasons = 0, []

    def captured(self, frame):
        return frame

    def reopened(self):
        raise AssertionError("HTTP has no clock")

    def online(self):
        self.came += 1

    def offline(self, reason, _message):
        self.reasons.append(reason)


async def flap(reader, writer):
    """Send a few pictures and close."""
    await read_request(reader)
    writer.write(HEAD + 4 * PART)
    await writer.drain()


async def freeze(reader, writer):
    """Send a few pictures and no more, and keep the connection."""
    await read_request(reader)
    writer.write(HEAD + 9 * PART)
    await writer.drain()
    await silent(reader, writer)


def threads():
    return len(os.listdir("/proc/self/task"))


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def resident():
    gc.collect()
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


@pytest.fixture
def capture():
    """Start the capture of a camera; stopped with the test."""
    started = []

    def start(port):
        ears = Ears()
        settings = CameraSettings(source=f"http://{HOST}:{port}/live")
        started.append(Capture("test", settings, Slot(False, lambda: None, lambda: None), ears))
        started[-1].start()
        return started[-1], ears

    yield start
    for each in started:
        each.stop(5)


def test_two_hundred_flaps_leave_nothing(capture, monkeypatch, figure):
    monkeypatch.setattr(edge.patience, "BACK_OFF", (0.001,))
    with FakeCamera(flap) as camera:
        taker, ears = capture(camera.port)
        eventually(lambda: ears.came >= 1, 60, "first frames", lambda: ears.reasons[-3:])
        taker.stop(10)
        stopped = threads(), descriptors()
        taker, ears = capture(camera.port)
        eventually(lambda: ears.came >= WARM, 60, "warm capture", lambda: ears.reasons[-3:])
        before = resident()
        eventually(lambda: ears.came >= WARM + FLAPS, 200, "flaps", lambda: ears.reasons[-3:])
        grown = resident() - before
        taker.stop(10)
        assert set(ears.reasons) == {"ended"}
        # The kernel lists a thread for a moment after it was joined.
        eventually(lambda: threads() <= stopped[0] and descriptors() <= stopped[1], 10, f"again {stopped}", threads)
    figure(f"capture: {FLAPS} reconnects grow the process by {grown / 1024:.0f} KiB")
    assert grown <= 1 << 20


def test_many_freezes_leave_nothing(capture, monkeypatch):
    """The thread blocked in OpenCV is given up at once, and ends when OpenCV's own time-out does."""
    monkeypatch.setattr(edge.patience, "BACK_OFF", (0.001,))
    monkeypatch.setattr(edge.patience, "FIRST_FRAMES", 1.0)
    monkeypatch.setattr(edge.patience, "LEAST_STALL", 0.3)
    with FakeCamera(freeze) as camera:
        taker, ears = capture(camera.port)
        eventually(lambda: ears.came >= 1, 20, "first frames")
        before = threads(), descriptors()
        most, replaced = 0, 0
        while replaced < FREEZES:
            replaced += taker.check(time.monotonic())
            most = max(most, threads())
            time.sleep(0.02)
        assert set(ears.reasons) == {"timeout"}
        started = time.monotonic()
        taker.stop(0.3)
        assert time.monotonic() - started < 2
        eventually(lambda: threads() < before[0], 20, "end of all threads", threads)
        eventually(lambda: descriptors() < before[1], 20, "closed descriptors", descriptors)
    assert most - before[0] <= 8, "blocked threads end while others begin"
