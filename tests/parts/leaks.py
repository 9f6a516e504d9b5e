"""What a capture leaves behind: threads, descriptors and memory of this process, over cameras that come and go."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np

import edge.patience
from deploy.demo.encode import write_clip
from edge.capture import Capture
from edge.frames import Frame, Reason, Slot
from edge.settings import CameraSettings
from tests.parts import HOST, eventually
from tests.parts.camera import BOUNDARY, FakeCamera, jpeg, read_request
from tests.parts.rtsp import RtspServer

#: So often a camera comes before anything is measured: the first times take memory that is used again.
WARM = 30
#: Over so many reconnects the least memory is looked for: at any moment there may be a picture or two under way.
LEVEL = 20
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

    def reopened(self, _skipped: int, _broken: int) -> None:
        """Fail: no stream here lasts long enough to fall behind."""
        raise AssertionError("fell behind")

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


def level(ears: Ears, came: int) -> int:
    """Return the least memory while the source comes for the last `LEVEL` of `came` times."""
    eventually(lambda: ears.came >= came - LEVEL, 60 + came, "reconnects", lambda: ears.reasons[-3:])
    found = [resident()]

    def over() -> bool:
        found.append(resident())
        return ears.came >= came

    eventually(over, 60, "last reconnects", lambda: ears.reasons[-3:])
    return min(found)


def start_capture(source: str) -> tuple[Capture, Ears]:
    """Start the capture of a camera at that address."""
    ears = Ears()
    capture = Capture("test", CameraSettings(source=source), Slot(False, lambda: None, lambda: None), ears)
    capture.start()
    return capture, ears


def left_by_flaps(count: int) -> Left:
    """Return what so many reconnects to a camera with MJPEG over HTTP that hangs up leave behind."""
    with FakeCamera(flap) as camera:
        return _left_by(f"http://{HOST}:{camera.port}/live", count)


def left_by_rtsp_flaps(count: int, folder: Path) -> Left:
    """Return what so many reconnects to an RTSP server, each stream of which is soon over, leave behind.

    Args:
        count: of them.
        folder: for the server.
    """
    with rtsp_server_of_small_pictures(folder) as server:
        return _left_by(server.url("clip.mp4", loop=False), count)


def rtsp_server_of_small_pictures(folder: Path) -> RtspServer:
    """Return a server of `clip.mp4`, four pictures within 40 ms; `folder` is for both."""
    clips = folder / "clips"
    clips.mkdir()
    pictures = (np.full((120, 160, 3), 20 * number, np.uint8) for number in range(4))
    write_clip(clips / "clip.mp4", pictures, 100, quality=18, preset="veryfast")
    return RtspServer(clips, folder / "rtsp")


def _left_by(source: str, count: int) -> Left:
    with patch.object(edge.patience, "BACK_OFF", (0.001,)):
        capture, ears = start_capture(source)
        eventually(lambda: ears.came >= 1, 60, "first frames", lambda: ears.reasons[-3:])
        capture.stop(10)
        stopped = descriptors(), threads()
        capture, ears = start_capture(source)
        try:
            before = level(ears, WARM)
            grown = level(ears, WARM + count) - before
        finally:
            capture.stop(10)
        assert set(ears.reasons) == {"ended"}

        def more() -> tuple[int, int]:
            return descriptors() - stopped[0], threads() - stopped[1]

        # The kernel lists a thread for a moment after it was joined.
        with contextlib.suppress(AssertionError):  # what is left is the figure
            eventually(lambda: max(more()) <= 0, 10, "end of all threads")
        return Left(max(0, grown), *(max(0, number) for number in more()))
