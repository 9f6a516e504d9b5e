"""What a capture leaves behind: threads, descriptors and memory of this process, over cameras that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import edge.patience
from edge.capture import Capture
from edge.frames import Frame, Reason, Slot
from edge.settings import CameraSettings
from tests.parts import HOST, eventually
from tests.parts.camera import BOUNDARY, FakeCamera, jpeg, read_request

#: So often a camera comes before anything is measured: the first times take memory that is used again.
WARM = 30
PICTURE = jpeg(640, 480)
PART = BOUNDARY % len(PICTURE) + PICTURE + b"\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"


@dataclass(frozen=True)
class Left:
    """What reconnects left behind: bytes of memory, descriptors, threads."""

    memory: int
    descriptors: int
    threads: int


class Ears:
    """Counts how often the source came and went, and keeps the reasons."""

    def __init__(self) -> None:
        self.came = 0
        self.reasons: list[Reason] = []

    def wanted(self, _time: float) -> bool:
        """Want every frame."""
        return True

    def captured(self, frame: Frame) -> Frame:
        """Keep every frame."""
        return frame

    def reopened(self) -> None:
        """Fail: only a stream with a clock falls behind."""
        raise AssertionError("HTTP has no clock")

    def online(self) -> None:
        """Count."""
        self.came += 1

    def offline(self, reason: Reason, _message: str) -> None:
        """Keep the reason."""
        self.reasons.append(reason)


async def flap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a few pictures and close."""
    await read_request(reader)
    writer.write(HEAD + 4 * PART)
    await writer.drain()


def threads() -> int:
    """Return how many threads this process has."""
    return len(os.listdir("/proc/self/task"))


def descriptors() -> int:
    """Return how many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    gc.collect()
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


def start_capture(port: int) -> tuple[Capture, Ears]:
    """Start the capture of a camera with MJPEG at that port."""
    ears = Ears()
    settings = CameraSettings(source=f"http://{HOST}:{port}/live")
    capture = Capture("test", settings, Slot(False, lambda: None, lambda: None), ears)
    capture.start()
    return capture, ears


def left_by_flaps(count: int) -> Left:
    """Return what so many reconnects to a camera that hangs up leave behind."""
    with patch.object(edge.patience, "BACK_OFF", (0.001,)), FakeCamera(flap) as camera:
        capture, ears = start_capture(camera.port)
        eventually(lambda: ears.came >= 1, 60, "first frames", lambda: ears.reasons[-3:])
        capture.stop(10)
        stopped = descriptors(), threads()
        capture, ears = start_capture(camera.port)
        try:
            eventually(lambda: ears.came >= WARM, 60, "warm capture", lambda: ears.reasons[-3:])
            before = resident()
            eventually(lambda: ears.came >= WARM + count, 60 + count, "flaps", lambda: ears.reasons[-3:])
            grown = resident() - before
        finally:
            capture.stop(10)
        assert set(ears.reasons) == {"ended"}

        def more() -> tuple[int, int]:
            return descriptors() - stopped[0], threads() - stopped[1]

        # The kernel lists a thread for a moment after it was joined.
        with contextlib.suppress(AssertionError):  # what is left is the figure
            eventually(lambda: max(more()) <= 0, 10, "end of all threads")
        return Left(max(0, grown), *(max(0, number) for number in more()))
