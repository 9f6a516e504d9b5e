"""Streams that come and go, and streams that freeze, leave no thread, no descriptor and next to no memory behind."""

import contextlib
import time

import pytest

import edge.patience
from tests.parts import HOST, eventually
from tests.parts.camera import FakeCamera, read_request, silent
from tests.parts.leaks import (
    HEAD,
    PART,
    descriptors,
    left_by_flaps,
    left_by_rtsp_flaps,
    rtsp_server_of_small_pictures,
    start_capture,
    threads,
)
from tests.parts.line import Line

FLAPS, RTSP_FLAPS, FREEZES = 200, 100, 20


async def freeze(reader, writer):
    """Send a few pictures and no more, and keep the connection."""
    await read_request(reader)
    writer.write(HEAD + 9 * PART)
    await writer.drain()
    await silent(reader, writer)


@pytest.fixture
def capture():
    """Start the capture of a camera; stopped with the test."""
    started = []

    def start(source):
        started.append(start_capture(source))
        return started[-1]

    yield start
    for each, _ in started:
        each.stop(5)


def test_two_hundred_flaps_leave_nothing(figure):
    left = left_by_flaps(FLAPS)
    figure(f"capture: {FLAPS} reconnects grow the process by {left.memory / 1024:.0f} KiB")
    assert (left.descriptors, left.threads) == (0, 0)
    assert left.memory <= 1 << 20


def test_a_hundred_flaps_at_an_rtsp_server_leave_nothing(figure, tmp_path):
    left = left_by_rtsp_flaps(RTSP_FLAPS, tmp_path)
    figure(f"capture: {RTSP_FLAPS} reconnects over RTSP grow the process by {left.memory / 1024:.0f} KiB")
    assert (left.descriptors, left.threads) == (0, 0)
    assert left.memory <= 1 << 20


class Drying(Line):
    """A line to a server that takes what it says, and of the answers of each connection only the first bytes."""

    MOST = 20_000

    def listener(self):
        left = self.MOST

        def first(content):
            nonlocal left
            passed = content[:left]
            left -= len(passed)
            return passed

        return first


@contextlib.contextmanager
def frozen_over_http(_folder):
    """A camera with MJPEG that freezes."""
    with FakeCamera(freeze) as camera:
        yield f"http://{HOST}:{camera.port}/live"


@contextlib.contextmanager
def frozen_over_rtsp(folder):
    """A real RTSP server behind a line that lets nothing more through after a while."""
    with rtsp_server_of_small_pictures(folder) as server, Drying(server.port) as line:
        yield server.url("clip.mp4", line.port)


@pytest.mark.parametrize("camera", [frozen_over_http, frozen_over_rtsp])
def test_many_freezes_leave_nothing(camera, capture, monkeypatch, tmp_path):
    """The thread blocked in OpenCV is given up at once, and ends when OpenCV's own time-out does."""
    monkeypatch.setattr(edge.patience, "BACK_OFF", (0.001,))
    monkeypatch.setattr(edge.patience, "FIRST_FRAMES", 1.0)
    monkeypatch.setattr(edge.patience, "LEAST_STALL", 0.3)
    with camera(tmp_path) as source:
        taker, ears = capture(source)
        eventually(lambda: ears.came >= 1, 60, "first frames")
        before = threads(), descriptors()
        most, replaced = 0, 0
        while replaced < FREEZES:
            replaced += taker.check(time.monotonic())
            most = max(most, threads())
            time.sleep(0.02)
        assert set(ears.reasons) == {"timeout"}
        started = time.monotonic()
        taker.stop(0.3)
        assert time.monotonic() - started < 10
        eventually(lambda: threads() < before[0], 60, "end of all threads", threads)
        eventually(lambda: descriptors() < before[1], 60, "closed descriptors", descriptors)
    assert most - before[0] <= 8, "blocked threads end while others begin"
