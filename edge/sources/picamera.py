"""A Raspberry Pi CSI camera, read by a child process, because picamera2's NumPy and ours do not get on."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge.frames import CaptureError, Frame, Reason, Wanted, every
from edge.settings import CameraSettings
from edge.sources.picamera_child import HEADER, MISSING, UNPLUGGED

PYTHON = "/usr/bin/python3"
CHILD = Path(__file__).with_name("picamera_child.py")
WIDTH, HEIGHT, FPS = 1280, 720, 15
#: No camera is larger; what claims to be is no frame.
LARGEST_SIDE = 10_000
REASONS: dict[int, tuple[Reason, str]] = {
    MISSING: ("unreadable", f"{PYTHON} has no picamera2; install the package python3-picamera2"),
    UNPLUGGED: ("unplugged", "no such camera; check its cable, and `rpicam-hello --list-cameras`"),
}


class PicameraSource:
    """The frames of a child process; the child ends with `close`, and by itself when this process dies."""

    live = True

    def __init__(self, settings: CameraSettings, command: Sequence[str] = (PYTHON, str(CHILD))) -> None:
        index = settings.source.partition(":")[2] or "0"
        fps = min(settings.max_fps or FPS, 120)
        self._command = [*command, index, str(WIDTH), str(HEIGHT), str(max(1, round(fps)))]
        self._child: subprocess.Popen[bytes] | None = None
        self._patience = 0.0

    def open(self, patience: float) -> None:
        """Start the child."""
        self._patience = patience
        # Variables of our environment would lead the system's Python to our packages.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        try:
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
        except OSError as error:
            raise CaptureError("unreadable", f"{self._command[0]}: {error.strerror}; picamera2 needs it") from None

    def read(self, wanted: Wanted = every) -> Frame:
        """Return the next frame; it comes as a picture, wanted or not."""
        deadline = time.monotonic() + self._patience
        kind, first, second = HEADER.unpack(self._bytes(HEADER.size, deadline))
        if kind == b"E":
            reason, advice = REASONS.get(first, ("ended", "the camera was lost"))
            text = bytes(self._bytes(min(second, 1000), deadline)).decode(errors="replace")
            raise CaptureError(reason, f"{advice} ({text})")
        if kind != b"F" or not 0 < first <= LARGEST_SIDE or not 0 < second <= LARGEST_SIDE:
            raise CaptureError("unreadable", "the camera's process writes no frames")
        content = self._bytes(3 * first * second, deadline)
        now = time.monotonic()
        image = np.frombuffer(content, np.uint8).reshape(second, first, 3)
        return Frame(image, now, time.time(), now, refused=not wanted(now))

    def explain(self, error: CaptureError) -> CaptureError:
        """Return `error`: the child has said all."""
        return error

    def close(self) -> None:
        """End the child at once: it has nothing to lose."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()

    def _bytes(self, count: int, deadline: float) -> bytearray:
        """Read so many bytes from the child."""
        if self._child is None or self._child.stdout is None:
            raise CaptureError("unreadable", "not open")
        pipe = self._child.stdout.fileno()
        content = bytearray(count)
        left = memoryview(content)
        while left:
            if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise CaptureError("timeout", f"no frame for {self._patience:.0f} s")
            got = os.readv(pipe, [left])
            if got == 0:
                raise CaptureError("ended", f"the camera's process ended with exit code {self._child.wait()}")
            left = left[got:]
        return content
