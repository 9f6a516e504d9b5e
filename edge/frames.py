"""Frames: where they come from, the thread that reads them, and the slot that keeps the newest.

A live source is read all the time and only its newest frame is kept, because a reader slower than its camera lags
ever more (opencv#23430). A file waits instead and loses none.
"""

from __future__ import annotations

import random
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar
from urllib.parse import urlsplit

import cv2
import numpy as np

from edge.faces import Image
from edge.settings import CameraSettings

_T = TypeVar("_T")
Reason = Literal["refused", "not_found", "timeout", "unplugged", "ended", "unreadable", "starting", "stopped"]

OPEN_TIMEOUT = 5.0
#: No frame for this long: the stream has stalled. So streams slower than a frame in three seconds cannot be used.
READ_TIMEOUT = 3.0
#: A thread that is still inside `read()` after this long is given up and replaced.
STUCK = 2 * OPEN_TIMEOUT + READ_TIMEOUT
BACK_OFF = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
JITTER = 0.2
DEFAULT_FPS = 25.0
WEBCAM_BACKENDS = {"linux": cv2.CAP_V4L2, "darwin": cv2.CAP_AVFOUNDATION, "win32": cv2.CAP_DSHOW}
DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}


@dataclass(frozen=True)
class Frame:
    """One picture.

    Attributes:
        image: uint8 BGR (height, width, 3).
        time: seconds of the source's own clock: monotonic for a live source, media time for a file.
        wall: seconds since 1970 at capture.
        captured: monotonic seconds when `read()` returned.
        lag: seconds the stream was behind before `read()`, less the least seen; none where the source has no clock.
    """

    image: Image
    time: float
    wall: float
    captured: float
    lag: float | None = None


class CaptureError(Exception):
    """A source gives no frames, for a typed reason."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: Reason = reason


class Source(Protocol):
    """What a capture thread reads. Used by one thread at a time."""

    live: bool

    def open(self) -> None:
        """Open, or open again. Raises `CaptureError`."""

    def read(self) -> Frame:
        """Wait for the next frame and return it. Raises `CaptureError`; `ended` is final."""

    def close(self) -> None:
        """Let go of everything."""


class LiveSource:
    """A network stream (FFmpeg, RTSP over TCP) or a webcam."""

    live = True

    def __init__(self, settings: CameraSettings) -> None:
        self._settings = settings
        self._capture: cv2.VideoCapture | None = None
        self._least_lag: float | None = None

    def open(self) -> None:
        """Open the stream and require its first frame: `isOpened()` alone can be true with none to come."""
        self._least_lag = None
        if self._settings.kind == "network":
            _probe(self._settings.source)
            self._capture = _open_stream(self._settings.address(), network=True)
        else:
            self._capture = _open_webcam(self._settings.source)
        started = time.monotonic()
        if not self._capture.grab():
            waited = time.monotonic() - started >= READ_TIMEOUT
            raise CaptureError("timeout" if waited else "unreadable", "opened, but no frame came")

    def read(self) -> Frame:
        """Return the next frame; a read as long as the time-out means that the stream is dead."""
        if self._capture is None:
            raise CaptureError("unreadable", "not open")
        started = time.monotonic()
        ok, image = self._capture.read()
        now = time.monotonic()
        if now - started >= READ_TIMEOUT:
            # OpenCV can return a stale frame with ok=True after its own time-out.
            raise CaptureError("timeout", f"no frame for {now - started:.0f} s")
        if not ok or image is None or image.size == 0:
            raise CaptureError("unplugged" if self._settings.kind == "webcam" else "ended", "the stream ended")
        return Frame(np.asarray(image, np.uint8), now, time.time(), now, self._lag(now))

    def close(self) -> None:
        """Release the stream."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _lag(self, now: float) -> float | None:
        stream = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 if self._capture is not None else 0.0
        if self._settings.kind != "network" or stream <= 0:
            return None
        behind = now - stream
        self._least_lag = behind if self._least_lag is None else min(self._least_lag, behind)
        return behind - self._least_lag


class FileSource:
    """A video file, at the pace it was recorded at or as fast as it is taken."""

    live = False

    def __init__(self, settings: CameraSettings, stopped: threading.Event) -> None:
        self._path = Path(settings.source)
        self._realtime = settings.pace == "realtime"
        self._loop = settings.loop
        self._stopped = stopped
        self._capture: cv2.VideoCapture | None = None
        self._interval = 1 / DEFAULT_FPS
        self._offset = 0.0
        self._time = 0.0
        self._start: tuple[float, float] | None = None

    def open(self) -> None:
        """Open the file at its beginning."""
        if not self._path.is_file():
            raise CaptureError("not_found", f"{self._path}: no such file; name an existing one as the source")
        self._capture = _open_stream(str(self._path), network=False)
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self._interval = 1 / fps if 1 <= fps <= 240 else 1 / DEFAULT_FPS

    def read(self) -> Frame:
        """Return the next frame, not before it is due."""
        if self._capture is None:
            raise CaptureError("unreadable", "not open")
        ok, image = self._capture.read()
        if not ok or image is None:
            self._restart()
            ok, image = self._capture.read()
            if not ok or image is None:
                raise CaptureError("unreadable", f"{self._path}: holds no frame that OpenCV can decode")
        position = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        # A file whose time stamps do not advance is taken at its nominal rate.
        media = self._offset + position
        self._time = media if self._start is None or media > self._time else self._time + self._interval
        if self._start is None:
            self._start = (time.monotonic() - self._time, time.time() - self._time)
        if self._realtime:
            self._stopped.wait(max(0.0, self._start[0] + self._time - time.monotonic()))
        return Frame(np.asarray(image, np.uint8), self._time, self._start[1] + self._time, time.monotonic())

    def close(self) -> None:
        """Release the file."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _restart(self) -> None:
        if self._start is None:
            raise CaptureError("unreadable", f"{self._path}: holds no frame that OpenCV can decode")
        if not self._loop:
            raise CaptureError("ended", f"{self._path}: played to its end")
        self._offset = self._time + self._interval
        self.close()
        self.open()


class Slot:
    """Holds one frame between the thread that reads and the workers that analyse.

    Args:
        keep_all: wait until the frame before was taken, instead of replacing it.
        filled: called after each frame put in.
        dropped: called when a frame was replaced.
    """

    def __init__(self, keep_all: bool, filled: Callable[[], None], dropped: Callable[[], None]) -> None:
        self._keep_all = keep_all
        self._filled = filled
        self._dropped = dropped
        self._frame: Frame | None = None
        self._changed = threading.Condition()

    def put(self, frame: Frame, stopped: threading.Event) -> None:
        """Put a frame in; with `keep_all`, waits for room until `stopped`."""
        with self._changed:
            if self._keep_all:
                while self._frame is not None and not stopped.is_set():
                    self._changed.wait(0.2)
                if stopped.is_set():
                    return
            replaced = self._frame is not None
            self._frame = frame
        if replaced:
            self._dropped()
        self._filled()

    def take(self) -> Frame | None:
        """Take the frame out; none if there is none."""
        with self._changed:
            frame, self._frame = self._frame, None
            self._changed.notify_all()
            return frame

    def full(self) -> bool:
        """Tell whether a frame waits."""
        return self._frame is not None


class CaptureEvents(Protocol):
    """Who wants to know what a capture does."""

    def captured(self, frame: Frame) -> None:
        """A frame was read."""

    def online(self) -> None:
        """The source gives frames (again)."""

    def offline(self, reason: Reason, message: str) -> None:
        """The source gives none; it is tried again unless the reason is `ended` for a file."""


class Capture:
    """The thread that reads one source, opens it again when it is lost, and is replaced when it hangs in `read()`.

    Args:
        name: of the camera.
        settings: of the camera.
        slot: where frames go.
        events: who is told.

    Attributes:
        finished: set when a file will give no more frames, `failed` if that is because it is no video.
    """

    def __init__(self, name: str, settings: CameraSettings, slot: Slot, events: CaptureEvents) -> None:
        self.name = name
        self.finished = threading.Event()
        self.failed = threading.Event()
        self._settings = settings
        self._slot = slot
        self._events = events
        self._stopped = threading.Event()
        self._reader: _Reader | None = None

    def start(self) -> None:
        """Begin to read."""
        self._reader = _Reader(self)
        self._reader.start()

    def check(self, now: float) -> bool:
        """Replace the thread if it is dead, or inside one `open()` or `read()` for too long; tells whether it did."""
        reader = self._reader
        if reader is None or self._stopped.is_set() or self.finished.is_set():
            return False
        if not reader.is_alive():
            why = "the capture thread died; it starts again"
        elif self._settings.kind != "file" and reader.busy_since is not None and now - reader.busy_since >= STUCK:
            why = f"blocked for {now - reader.busy_since:.0f} s"
        else:
            return False
        reader.abandoned.set()
        self._events.offline("timeout", why)
        self.start()
        return True

    def stop(self, timeout: float) -> None:
        """Stop reading; a thread still blocked after `timeout` seconds is left behind (it is a daemon thread)."""
        self._stopped.set()
        if self._reader is not None:
            self._reader.abandoned.set()
            self._reader.join(timeout)

    def source(self, stopped: threading.Event) -> Source:
        """Return a new source as the settings name it."""
        return FileSource(self._settings, stopped) if self._settings.kind == "file" else LiveSource(self._settings)


class _Reader(threading.Thread):
    """One life of a capture's thread; once `abandoned`, it says nothing more."""

    def __init__(self, capture: Capture) -> None:
        super().__init__(name=f"capture-{capture.name}", daemon=True)
        self.abandoned = threading.Event()
        self.busy_since: float | None = None
        self._capture = capture

    def run(self) -> None:
        source = self._capture.source(self.abandoned)
        attempt = 0
        while not self.abandoned.is_set():
            error = self._read_until_lost(source)
            if self.abandoned.is_set():
                return
            attempt = 0 if error.frames else attempt
            self._capture._events.offline(error.reason, str(error))
            if not source.live and error.reason in ("ended", "unreadable"):
                if error.reason == "unreadable":
                    self._capture.failed.set()
                self._capture.finished.set()
                return
            pause = BACK_OFF[min(attempt, len(BACK_OFF) - 1)] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
            attempt += 1
            self.abandoned.wait(pause)

    def _read_until_lost(self, source: Source) -> _LostError:
        """Open and read until the source fails or this thread is given up."""
        frames = 0
        try:
            self._busy(source.open)
            while not self.abandoned.is_set():
                frame = self._busy(source.read)
                if self.abandoned.is_set():
                    break
                if frames == 0:
                    self._capture._events.online()
                frames += 1
                self._capture._events.captured(frame)
                self._capture._slot.put(frame, self.abandoned)
        except CaptureError as error:
            return _LostError(error.reason, str(error), frames)
        except cv2.error as error:
            return _LostError("unreadable", f"OpenCV: {error.err}", frames)
        finally:
            source.close()
        return _LostError("stopped", "stopped", frames)

    def _busy(self, work: Callable[[], _T]) -> _T:
        self.busy_since = time.monotonic()
        try:
            return work()
        finally:
            self.busy_since = None


class _LostError(CaptureError):
    def __init__(self, reason: Reason, message: str, frames: int) -> None:
        super().__init__(reason, message)
        self.frames = frames


def _open_stream(address: str, network: bool) -> cv2.VideoCapture:
    parameters = [cv2.CAP_PROP_N_THREADS, 1]
    if network:
        parameters += [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(OPEN_TIMEOUT * 1000)]
        parameters += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(READ_TIMEOUT * 1000)]
    started = time.monotonic()
    capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, parameters)
    if not capture.isOpened():
        capture.release()
        late = network and time.monotonic() - started >= OPEN_TIMEOUT
        raise CaptureError(
            "timeout" if late else "unreadable",
            "the server answers but gives no video; check path, username and password"
            if network
            else f"{address}: not a video that OpenCV can decode",
        )
    return capture


def _open_webcam(source: str) -> cv2.VideoCapture:
    """Open a webcam by its index or its path."""
    if source.startswith("/dev/") and not Path(source).exists():
        raise CaptureError("unplugged", f"{source}: no such device; plug the camera in or name another")
    capture = cv2.VideoCapture(
        int(source) if source.isdigit() else source, WEBCAM_BACKENDS.get(sys.platform, cv2.CAP_ANY)
    )
    if not capture.isOpened():
        capture.release()
        raise CaptureError("unplugged", f"webcam {source}: cannot be opened; is it plugged in, and in no other use?")
    return capture


def _probe(address: str) -> None:
    """Connect once, because OpenCV does not say why an address cannot be opened."""
    parts = urlsplit(address)
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    where = f"{parts.hostname}:{port}"
    try:
        socket.create_connection((parts.hostname, port), timeout=OPEN_TIMEOUT).close()
    except (socket.gaierror, UnicodeError):  # the latter for a name that can be none, such as a..b
        raise CaptureError("not_found", f"{where}: no such host; check the address") from None
    except TimeoutError:
        raise CaptureError("timeout", f"{where}: no answer within {OPEN_TIMEOUT:.0f} s") from None
    except OSError as error:
        raise CaptureError("refused", f"{where}: {error.strerror or error}") from None
