"""Lines in the log about what others do: not too many of them."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict

#: Seconds of a `BoundedLog`, and its lines within them, at most.
MINUTE, LINES = 60.0, 10
#: A `SeldomLog` writes a line again after so many seconds, and remembers so many lines.
AGAIN, REMEMBERED = 600.0, 100


class BoundedLog:
    """Writes at most so many lines a minute, and then how many it left out.

    Args:
        log: where to write.
        about: what each line begins with.
    """

    def __init__(self, log: logging.Logger, about: str) -> None:
        self._log = log
        self._about = about
        self._lock = threading.Lock()
        self._since = float("-inf")
        self._lines = 0

    def __call__(self, level: int, line: str, trace: bool = False) -> None:
        """Write a line, with the traceback of what is being handled if `trace`."""
        with self._lock:
            now = time.monotonic()
            if now - self._since >= MINUTE:
                if self._lines > LINES:
                    self._log.warning("%s: %d more lines left out", self._about, self._lines - LINES)
                self._since, self._lines = now, 0
            self._lines += 1
            if self._lines <= LINES:
                self._log.log(level, "%s: %s", self._about, line, exc_info=trace)


class SeldomLog:
    """Writes a warning, and the same one not again within ten minutes.

    Args:
        log: where to write.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._said: OrderedDict[str, float] = OrderedDict()

    def __call__(self, line: str) -> None:
        """Write a line unless it was written a short while ago."""
        with self._lock:
            now = time.monotonic()
            if now - self._said.get(line, float("-inf")) < AGAIN:
                return
            self._said[line] = now
            self._said.move_to_end(line)
            if len(self._said) > REMEMBERED:
                self._said.popitem(last=False)
        self._log.warning("%s", line)
