"""The thread that reads a camera's source, opens it again when it is lost, and is replaced when it hangs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import cv2

from edge.frames import CaptureError, FallenBehindError, Frame, NotItsTurnError, Reason, Slot, Source
from edge.patience import FIRST_FRAMES, LEAST_STALL, OPEN_TIMEOUT, STALL_INTERVALS, BackOff, StallRule
from edge.settings import CameraSettings
from edge.sources import make_source

log = logging.getLogger(__name__)

_T = TypeVar("_T")
Work = Literal["open", "read", "close"]
#: A thread inside `open()` or `close()` for this many seconds is given up. Sources have shorter limits of their own;
#: this one is for what they cannot limit, such as a name server that does not answer.
OPEN_LIMIT = 20.0

SourceFactory = Callable[[CameraSettings, threading.Event], Source]


class CaptureEvents(Protocol):
    """Who wants to know what a capture does; called from its thread."""

    def wanted(self, time: float) -> bool:
        """Tell whether a frame at `time` would be analysed, as far as that depends on its time."""

    def captured(self, frame: Frame) -> Frame | None:
        """A frame was read; returns what is to be analysed of it, if anything is."""

    def reopened(self, skipped: int, broken: int) -> None:
        """The source had fallen behind and is opened again; so many frames were thrown away, or not decoded."""

    def online(self) -> None:
        """The source gives frames (again)."""

    def offline(self, reason: Reason, message: str) -> None:
        """The source gives none; it is tried again unless the reason is `ended` or `unreadable` for a file."""


@dataclass(frozen=True)
class _Shared:
    """What the lives of a capture's thread have in common."""

    name: str
    slot: Slot
    events: CaptureEvents
    stall: StallRule
    back_off: BackOff
    #: Told why a file will give no more frames.
    finish: Callable[[Reason], None]


@dataclass(frozen=True)
class _Loss:
    """How a source was lost: why, and after how many frames."""

    error: CaptureError
    frames: int


class Capture:
    """Reads one source.

    Args:
        name: of the camera.
        settings: of the camera.
        slot: where frames go.
        events: who is told.
        factory: makes the source of the settings.

    Attributes:
        finished: set when a file will give no more frames, `failed` if that is because it is no video.
    """

    def __init__(
        self,
        name: str,
        settings: CameraSettings,
        slot: Slot,
        events: CaptureEvents,
        factory: SourceFactory = make_source,
    ) -> None:
        self.name = name
        self.finished = threading.Event()
        self.failed = threading.Event()
        self._settings = settings
        self._factory = factory
        self._shared = _Shared(name, slot, events, StallRule(), BackOff(), self._finish)
        self._stopped = threading.Event()
        self._reader: _Reader | None = None

    def start(self) -> None:
        """Begin to read."""
        source = self._factory(self._settings, self._stopped)
        if source.live:
            log.info(
                "camera %s: time-outs: %g s to open; stalled after %g s or %d frame intervals without a frame, "
                "whichever is longer, %g s until the rate is known",
                *(
                    self.name,
                    OPEN_TIMEOUT if self._settings.kind == "network" else OPEN_LIMIT,
                    LEAST_STALL,
                    STALL_INTERVALS,
                    FIRST_FRAMES,
                ),
            )
        self._read(source, None)

    def check(self, now: float) -> bool:
        """Replace the thread if it is dead, or inside one call of its source for too long; tells whether it did."""
        reader = self._reader
        alive = reader is not None and reader.is_alive()  # first: one that has finished says so before it ends
        if reader is None or self._stopped.is_set() or self.finished.is_set():
            return False
        if not alive:
            # A file goes on with the same source, whose media time does not go back.
            source = self._factory(self._settings, self._stopped) if reader.source.live else reader.source
            self._read(source, _Loss(CaptureError("timeout", "the capture thread died; it starts again"), 1))
        elif reader.overdue(now):
            # The thread ends by itself, when the time-out that its source was opened with has passed.
            reader.abandoned.set()
            self._read(self._factory(self._settings, self._stopped), reader.hung())
        else:
            return False
        return True

    def stop(self, timeout: float) -> None:
        """Stop reading; a thread still blocked after `timeout` seconds is left behind (it is a daemon thread)."""
        self._stopped.set()
        if self._reader is not None:
            self._reader.abandoned.set()
            self._reader.join(timeout)

    def _read(self, source: Source, loss: _Loss | None) -> None:
        self._reader = _Reader(self._shared, source, loss)
        self._reader.start()

    def _finish(self, reason: Reason) -> None:
        if reason == "unreadable":
            self.failed.set()
        self.finished.set()


class _Reader(threading.Thread):
    """One life of a capture's thread; once `abandoned`, it says nothing more.

    Args:
        shared: with the lives before and after.
        source: what it reads.
        loss: why the life before this one is over; it was not told yet.
    """

    def __init__(self, shared: _Shared, source: Source, loss: _Loss | None) -> None:
        super().__init__(name=f"capture-{shared.name}", daemon=True)
        self.abandoned = threading.Event()
        self.source = source
        self._shared = shared
        self._loss = loss
        self._frames = 0
        self._work: tuple[Work, float, float] | None = None

    def overdue(self, now: float) -> bool:
        """Tell whether it is inside one `open()`, `read()` or `close()` of a live source for too long."""
        work = self._work
        return self.source.live and work is not None and now - work[1] >= work[2]

    def hung(self) -> _Loss:
        """Return the loss that being overdue is."""
        work = self._work
        what = f"blocked in {work[0]}() for {work[2]:.0f} s" if work else "blocked"
        return _Loss(CaptureError("timeout", f"no frame; {what}"), self._frames)

    def run(self) -> None:
        loss = self._loss
        while not self.abandoned.is_set():
            if loss is not None and not self._lost(loss):
                return
            loss = self._read_until_lost()

    def _lost(self, loss: _Loss) -> bool:
        """Say why and wait for the next attempt; tells whether there is one."""
        if isinstance(loss.error, NotItsTurnError) and not loss.frames:  # it says nothing of the camera
            log.info("camera %s: %s", self._shared.name, loss.error)
            return True
        error = loss.error if loss.frames else self.source.explain(loss.error)
        if self.abandoned.is_set():
            return False
        self._shared.events.offline(error.reason, str(error))
        if not self.source.live and error.reason in ("ended", "unreadable"):
            self._shared.finish(error.reason)
            return False
        return not self.abandoned.wait(self._shared.back_off.pause())

    def _read_until_lost(self) -> _Loss | None:
        """Open and read until the source fails; none if this thread was given up."""
        self._frames = 0
        try:
            self._open()
            while not self.abandoned.is_set():
                frame = self._next()
                if self.abandoned.is_set():
                    break
                self._take(frame)
        except CaptureError as error:
            return _Loss(error, self._frames)
        except cv2.error as error:
            return _Loss(CaptureError("unreadable", f"OpenCV: {error.err}"), self._frames)
        finally:
            self._close()
        return None

    def _open(self) -> None:
        patience = self._shared.stall.longest()
        self._busy("open", OPEN_LIMIT, lambda: self.source.open(patience))
        self._shared.stall.opened()

    def _close(self) -> None:
        self._busy("close", OPEN_LIMIT, self.source.close)

    def _next(self) -> Frame:
        try:
            return self._read_one()
        except FallenBehindError as error:
            self._close()
            if not self.abandoned.is_set():
                self._shared.events.reopened(error.skipped, error.broken)
                self._open()
            return self._read_one()

    def _read_one(self) -> Frame:
        wanted = self._shared.events.wanted
        return self._busy("read", self._shared.stall.seconds(), lambda: self.source.read(wanted))

    def _take(self, frame: Frame) -> None:
        if self._frames == 0:
            self._shared.back_off.reset()
            self._shared.events.online()
        self._frames += 1
        self._shared.stall.frame(frame.captured)
        kept = self._shared.events.captured(frame)
        if kept is not None:
            self._shared.slot.put(kept, self.abandoned)

    def _busy(self, what: Work, limit: float, work: Callable[[], _T]) -> _T:
        self._work = (what, time.monotonic(), limit)
        try:
            return work()
        finally:
            self._work = None
