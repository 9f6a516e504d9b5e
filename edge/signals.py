"""Signals, from where they interrupt the main thread to where it looks for them."""

from __future__ import annotations

import queue
import signal
from types import FrameType


class Signals:
    """What signals asked for.

    A handler runs in the middle of whatever the main thread does, and must take no lock that this may hold: that of an
    Event it waits for, or that of the log. `SimpleQueue.put` is made for handlers.
    """

    def __init__(self) -> None:
        self._came: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._hangup = False

    def heard(self, number: int, _frame: FrameType | None) -> None:
        """Take note of a signal; a handler for `signal.signal`."""
        self._came.put(number)

    def wait(self, timeout: float) -> int | None:
        """Wait for a signal that asks for the end, up to `timeout` seconds; returns its number.

        SIGHUP, which is kept for `take_hangup`, ends the wait too.
        """
        number = None
        try:
            number = self._came.get(timeout=timeout)
            while number == signal.SIGHUP:
                self._hangup, number = True, None
                number = self._came.get_nowait()
        except queue.Empty:
            pass
        return number

    def take_hangup(self) -> bool:
        """Tell whether there was a SIGHUP since this was asked last."""
        hangup, self._hangup = self._hangup, False
        return hangup
