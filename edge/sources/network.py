"""A network stream: RTSP over TCP, by way of the relay, or MJPEG over HTTP, read by OpenCV's FFmpeg."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import cv2

from edge import probe
from edge.frames import NOTHING, CaptureError, FallenBehindError, Frame, NotItsTurnError, Wanted, every, picture
from edge.patience import OPEN_TIMEOUT
from edge.settings import CameraSettings
from edge.sources.lag import StreamLag
from edge.sources.rtsp_relay import RtspRelay

#: A stream more than this many seconds behind is drained, for at most that long, until it is less than that behind …
LARGEST_LAG, DRAIN_SECONDS, DRAINED = 1.0, 1.0, 0.2
#: … or until, after so long, it gains less than half a second a second: then its frames are late before they reach us,
HOPELESS_AFTER, LEAST_GAIN = 0.25, 0.5
#: and it is opened again if that late, else taken as it comes. For so long after either, no lag is acted on: some
#: senders are slower than their own clock.
REOPEN_LAG, PAUSE = 5.0, 10.0
#: So many frames in a row that cannot be decoded are the end of the stream: OpenCV does not tell one from the other.
BROKEN = 4
#: Options reach OpenCV's FFmpeg only through this variable, which it reads at each opening. With sound beside it, time
#: stamps of the picture would be set right by those of the sound's clock. Counting frames to learn the rate would take
#: a second, and minutes with a slow stream.
OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
TCP = "rtsp_transport;tcp"
os.environ.setdefault(OPTIONS, f"{TCP}|allowed_media_types;video|fpsprobesize;0")
#: OpenCV opens one at a time in the whole process, so waiting in turn costs nothing. Who waits for it longer than this
#: many seconds tries again later, before the thread is taken for one that hangs (`edge.capture.OPEN_LIMIT`).
TURN = 8.0
#: When a frame came, how far it is behind, how many before it were thrown away, and how many broken.
Drained = tuple[float, float, int, int]
_opening = threading.Lock()


class NetworkSource:
    """A network camera."""

    live = True

    def __init__(self, settings: CameraSettings) -> None:
        self._settings = settings
        # MJPEG over HTTP has no clock; FFmpeg makes one up.
        self._has_clock = urlsplit(settings.source).scheme.startswith("rtsp")
        self._lag = StreamLag()
        self._capture: cv2.VideoCapture | None = None
        self._relay: RtspRelay | None = None
        self._patience = 0.0
        self._bear_until = 0.0
        self._known: CaptureError | None = None

    def open(self, patience: float) -> None:
        """Open the stream; whether it gives a frame only `read` shows."""
        self._lag = StreamLag()
        self._patience = patience
        self._relay = None
        # While FFmpeg waits for a silent camera no other could be opened. With https FFmpeg checks the certificate too,
        # but older ones not whether it is this host's.
        self._known = probe.silence(self._settings)
        if self._known is None and not _opening.acquire(timeout=TURN):
            self._known = NotItsTurnError(
                "timeout", f"waits for its turn: other cameras take more than {TURN:g} s to open"
            )
        if self._known is not None:
            raise self._known
        try:
            self._capture = self._opened(patience)
        finally:
            _opening.release()

    def read(self, wanted: Wanted = every) -> Frame:
        """Return the next frame, the newest if the stream has fallen behind."""
        if self._capture is None:
            raise CaptureError("unreadable", "not open")
        now, lag, broken = self._grab(self._capture)
        skipped = 0
        if lag is not None and lag > LARGEST_LAG:
            if now >= self._bear_until:
                now, lag, skipped, broken = self._drain(self._capture, now, lag, broken)
            else:
                self._lag = StreamLag()
        refused = not wanted(now)
        image = NOTHING if refused else picture(*self._capture.retrieve())
        return Frame(image, now, time.time(), now, lag, skipped, broken, refused)

    def explain(self, error: CaptureError) -> CaptureError:
        """Ask the camera why it gave no frame."""
        if error is self._known or error.reason not in ("unreadable", "timeout", "ended"):
            return error
        refused = self._relay.refused() if self._relay is not None else None
        if refused is not None and refused[0] == "auth":
            # Asked again, it would be given another wrong password.
            return CaptureError("auth", f"{probe.place(self._settings.source)}: {refused[1]}")
        found = probe.explain(self._settings) or error
        if refused is not None and found.reason == "codec":
            return CaptureError(refused[0], f"{probe.place(self._settings.source)}: {refused[1]}")
        return found

    def close(self) -> None:
        """Release the stream."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None
        if self._relay is not None:
            self._relay.close()  # and still asked what it has heard

    def _opened(self, patience: float) -> cv2.VideoCapture:
        """Open the stream, which is in turn; with RTSP by way of a relay."""
        if self._has_clock and TCP in os.environ[OPTIONS].split("|"):
            self._relay = RtspRelay(self._settings)
            return _video(self._relay.address, patience)
        with _tls_options(self._settings):
            return _video(self._settings.address(), patience)

    def _drain(self, capture: cv2.VideoCapture, started: float, lag: float, broken: int) -> Drained:
        """Throw frames away until the stream is not behind, or that does not help; `broken` were so before."""
        now, skipped, first = started, 0, lag
        while lag > DRAINED:
            spent = now - started
            if spent > DRAIN_SECONDS or (spent > HOPELESS_AFTER and first - lag < LEAST_GAIN * spent):
                self._bear_until = now + PAUSE
                if lag > REOPEN_LAG:
                    raise FallenBehindError(skipped + 1, broken)
                self._lag = StreamLag()
                break
            now, newer, unread = self._grab(capture)
            lag = newer or 0.0
            skipped, broken = skipped + 1, broken + unread
        return now, lag, skipped, broken

    def _grab(self, capture: cv2.VideoCapture) -> tuple[float, float | None, int]:
        """Take the next frame off the stream; returns when, how far it is behind, how many before it were broken."""
        for broken in range(BROKEN):
            started = time.monotonic()
            ok = capture.grab()
            now = time.monotonic()
            if now - started >= self._patience:
                # OpenCV can call it a success to have run into its own time-out.
                raise CaptureError("timeout", f"no frame for {now - started:.0f} s")
            if ok:
                stream = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                stream = self._relay.true(stream) if self._relay is not None else stream
                lag = self._lag.seconds(now, stream) if self._has_clock and stream > 0 else None
                return now, lag, broken
        raise CaptureError("ended", "the stream ended")


@contextmanager
def _tls_options(settings: CameraSettings) -> Iterator[None]:
    """Give FFmpeg the TLS options of a camera while it is opened, if it has any."""
    before = os.environ[OPTIONS]
    if not settings.encrypted:
        yield
        return
    verify = "tls_verify;0" if settings.tls.insecure else f"tls_verify;1|ca_file;{probe.authorities(settings)}"
    os.environ[OPTIONS] = f"{before}|{verify}"
    try:
        yield
    finally:
        os.environ[OPTIONS] = before


def _video(address: str, patience: float) -> cv2.VideoCapture:
    parameters = [
        *(cv2.CAP_PROP_N_THREADS, 1),
        *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(OPEN_TIMEOUT * 1000)),
        *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(patience * 1000)),
    ]
    started = time.monotonic()
    capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, parameters)
    if not capture.isOpened():
        capture.release()
        late = time.monotonic() - started >= OPEN_TIMEOUT
        raise CaptureError("timeout" if late else "unreadable", "the server gives no video that OpenCV can decode")
    return capture
