"""The queue between those who make events and the publisher.

In memory for now; a durable one will keep this interface: events stay until the broker has acknowledged them.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from edge.events import Event


class _Entry(NamedTuple):
    """An event, since when it waits (monotonic clock), and its size as it would be sent."""

    event: Event
    since: float
    size: int


class Outbox:
    """A bounded queue; when it is full the oldest event goes, of those not under way to the broker.

    Args:
        limit: most events kept.
        dropped: called with the number of events dropped because of the limit.
    """

    def __init__(self, limit: int = 10_000, dropped: Callable[[int], None] = lambda _: None) -> None:
        # Milliseconds since 1970: later than any epoch before, as long as the clock does not go back.
        self.epoch = time.time_ns() // 1_000_000
        self._limit = limit
        self._dropped = dropped
        self._events: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0
        self._offered: set[str] = set()
        self._changed = threading.Condition()

    def put(self, events: Iterable[Event]) -> None:
        """Add events in order; never waits."""
        dropped = 0
        with self._changed:
            for event in events:
                entry = _Entry(event, time.monotonic(), len(event.encode()))
                self._events[event.id] = entry
                self._bytes += entry.size
            while len(self._events) > self._limit and (oldest := self._next()) is not None:
                self._remove(oldest.id)
                dropped += 1
            self._changed.notify_all()
        if dropped:
            self._dropped(dropped)

    def offer(self, timeout: float) -> Event | None:
        """Return the oldest event not yet offered, waiting for one up to `timeout` seconds."""
        with self._changed:
            event = self._next()
            if event is None:
                self._changed.wait(timeout)
                event = self._next()
            if event is not None:
                self._offered.add(event.id)
            return event

    def acknowledge(self, event_id: str) -> Event | None:
        """Forget an event that was delivered, or that never will be; returns it if it was still there."""
        with self._changed:
            event = self._remove(event_id)
            self._changed.notify_all()
            return event

    def withdraw(self) -> None:
        """Offer everything again that was offered but not acknowledged."""
        with self._changed:
            self._offered.clear()
            self._changed.notify_all()

    def wait_empty(self, timeout: float) -> bool:
        """Wait until everything was acknowledged; tells whether it was."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._events, timeout)

    def __len__(self) -> int:
        return len(self._events)

    def bytes(self) -> int:
        """Return the size of the waiting events as they would be sent."""
        return self._bytes

    def oldest_seconds(self) -> float:
        """Return for how long the oldest event has been waiting, 0 if none is."""
        with self._changed:
            first = next(iter(self._events.values()), None)
        return time.monotonic() - first.since if first else 0.0

    def _next(self) -> Event | None:
        if len(self._offered) == len(self._events):
            return None
        return next((entry.event for entry in self._events.values() if entry.event.id not in self._offered), None)

    def _remove(self, event_id: str) -> Event | None:
        self._offered.discard(event_id)
        entry = self._events.pop(event_id, None)
        if entry is None:
            return None
        self._bytes -= entry.size
        return entry.event
