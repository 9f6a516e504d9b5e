"""What the daemon says on stderr: a line a cause, for a terminal, for journald, or as JSON; and not too many."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
import sys
import threading
import time
import traceback
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Literal, TextIO

from edge.events import rfc3339

Form = Literal["text", "json"]
Lead = Literal["level", "time", "priority"]
#: Lines of one cause, and of all, within so many seconds; what is more is counted and said in one line.
CAUSE, ALL, WINDOW = 5, 300, 60.0
#: Causes that are remembered.
REMEMBERED = 1000
#: Of syslog, by which journald knows how grave a line is.
PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def configure(level: str, form: Form = "text", stream: TextIO | None = None) -> None:
    """Say what is at least as grave as `level` on stderr, from now on."""
    target = stream or sys.stderr
    handler = LimitedHandler(target)
    formatter = JsonFormatter() if form == "json" else TextFormatter(_lead(target))
    handler.setFormatter(formatter)
    logging.raiseExceptions = False  # a reader of stderr that has gone is no reason for more lines
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        if isinstance(old, LimitedHandler):
            old.close()
    root.addHandler(handler)
    root.setLevel(level.upper())


def reaches_journal(stream: TextIO) -> bool:
    """Tell whether systemd has connected a stream to the journal (sd-daemon(3), systemd.exec(5))."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM", "") == f"{status.st_dev}:{status.st_ino}"


def _lead(stream: TextIO) -> Lead:
    """Return what the lines of a stream begin with: a file says of no line when it came."""
    if reaches_journal(stream):
        return "priority"
    try:
        return "time" if stat.S_ISREG(os.fstat(stream.fileno()).st_mode) else "level"
    except (OSError, ValueError):
        return "level"


class TextFormatter(logging.Formatter):
    """One line a record.

    Args:
        lead: `level`: `WARNING camera door: …`; `time`: the same after the time (RFC 3339, UTC); `priority`:
            `<4>camera door: …`, for the journal, which tells the rest itself.
    """

    def __init__(self, lead: Lead = "level") -> None:
        super().__init__()
        self._lead = lead

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        text = _one_line(record.getMessage()) + _cause(record)
        if self._lead == "priority":
            return f"<{PRIORITIES.get(record.levelno, 5)}>{text}"
        line = f"{record.levelname} {text}"
        return f"{rfc3339(record.created)} {line}" if self._lead == "time" else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, thread, message, and the traceback of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "thread": record.threadName,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


@dataclass
class _Window:
    began: float
    seen: int = 0
    left: int = 0
    last: str = ""

    def over(self, now: float) -> bool:
        return now - self.began >= WINDOW


class LimitedHandler(logging.StreamHandler[TextIO]):
    """Writes at most `CAUSE` lines of one cause and `ALL` lines in all within `WINDOW` seconds.

    A cause is a line of the program with its level and what it is about, its first argument: camera, broker, file.
    What was left out of one is said when its window is over, or the handler closed, the last of it with its time, so
    that the log does not end with what is no longer so.

    Args:
        stream: where to.
        clock: monotonic seconds.
        later: calls a function after so many seconds, from a thread of its own.
    """

    def __init__(
        self,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], None] | None = None,
    ) -> None:
        super().__init__(stream)
        self._clock = clock
        self._later = later or _later
        self._causes: dict[Hashable, _Window] = {}
        self._all = _Window(clock())
        self._reminded = True

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count it."""
        now = self._clock()
        self._turn(now)
        window = self._causes.setdefault(_key(record), _Window(now))
        window.seen += 1
        if window.seen <= CAUSE:
            self._all.seen += 1
            if self._all.seen <= ALL:
                super().emit(record)
                return
        window.left += 1
        window.last = f"at {rfc3339(record.created)}: {_one_line(record.getMessage())}"
        self._remind_later(now)

    def close(self) -> None:
        """Say what was left out so far; the stream stays open."""
        self.acquire()
        try:
            for window in self._causes.values():
                self._tell(window)
            self._causes.clear()
        finally:
            self.release()
        super().close()

    def _turn(self, now: float) -> None:
        """Say what was left out in windows that are over."""
        if self._all.over(now):
            if self._all.seen > ALL:
                self._say(f"{self._all.seen - ALL} lines left out: too many in a minute")
            self._all = _Window(now)
        while self._causes:  # the oldest comes first
            key, window = next(iter(self._causes.items()))
            if not window.over(now) and len(self._causes) <= REMEMBERED:
                break
            del self._causes[key]
            self._tell(window)

    def _tell(self, window: _Window) -> None:
        if window.left and self._all.seen < ALL:
            self._all.seen += 1
            self._say(f"{window.left} more line{'s' * (window.left > 1)} left out, the last {window.last}")

    def _remind_later(self, now: float) -> None:
        """Take care that what was left out is said though nothing more happens; one thread waits for it at most."""
        if not self._reminded:
            return
        began = [window.began for window in self._causes.values() if window.left]
        if began:
            with contextlib.suppress(RuntimeError):  # no more threads; the next line will do
                self._later(min(began) + WINDOW - now, self._remind)
                self._reminded = False

    def _remind(self) -> None:
        self.acquire()
        try:
            self._reminded = True
            now = self._clock()
            self._turn(now)
            self._remind_later(now)
        finally:
            self.release()

    def _say(self, message: str) -> None:
        super().emit(logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, (), None))


def _later(seconds: float, act: Callable[[], None]) -> None:
    timer = threading.Timer(max(0.0, seconds), act)
    timer.daemon = True
    timer.start()


def _key(record: logging.LogRecord) -> Hashable:
    about = record.args[0] if isinstance(record.args, tuple) and record.args else ""
    return record.pathname, record.lineno, record.levelno, str(about)


def _one_line(text: str) -> str:
    """Return a text as one line: what a camera or broker said must not be able to look like lines of ours."""
    return "".join(each if each.isprintable() else " " for each in text)


def _cause(record: logging.LogRecord) -> str:
    """Return the exception of a record and where it came from, in the rest of the line."""
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    error = record.exc_info[1]
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{os.path.basename(frame.filename)}:{frame.lineno}" for frame in reversed(frames))
    return _one_line(f": {type(error).__name__}: {error} ({places})")
