"""Warnings that others could repeat for ever: each is written again after a while only."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict

#: A `SeldomLog` writes a line again after so many seconds, and remembers so many lines.
AGAIN, REMEMBERED = 600.0, 100


class SeldomLog:
    """Writes a warning, and the same one, or another of the same cause, not again within ten minutes.

    Args:
        log: where to write.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._said: OrderedDict[str, float] = OrderedDict()

    def __call__(self, line: str, cause: str = "") -> None:
        """Write a line unless it, or one of the same cause if there is a cause, was written a short while ago."""
        key = cause or line
        with self._lock:
            now = time.monotonic()
            if now - self._said.get(key, float("-inf")) < AGAIN:
                return
            self._said[key] = now
            self._said.move_to_end(key)
            if len(self._said) > REMEMBERED:
                self._said.popitem(last=False)
        self._log.warning("%s", line)
