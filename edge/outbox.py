"""The queue between those who make events and the publisher.

In memory for now; a durable one will keep this interface: events stay until the broker has acknowledged them.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from edge.events import Event


class Outbox:
    """A bounded queue; when it is full the oldest event goes.

    Args:
        limit: most events kept.
        dropped: called with the number of events dropped because of the limit.
    """

    def __init__(self, limit: int = 10_000, dropped: Callable[[int], None] = lambda _: None) -> None:
        # Milliseconds since 1970: later than any epoch before, as long as the clock does not go back.
        self.epoch = time.time_ns() // 1_000_000
        self._limit = limit
        self._dropped = dropped
        self._events: OrderedDict[str, tuple[Event, float]] = OrderedDict()
        self._offered: set[str] = set()
        self._changed = threading.Condition()

    def put(self, events: Iterable[Event]) -> None:
        """Add events in order; never waits."""
        dropped = 0
        with self._changed:
            for event in events:
                self._events[event.id] = (event, time.monotonic())
            while len(self._events) > self._limit:
                oldest, _ = self._events.popitem(last=False)
                self._offered.discard(oldest)
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
            self._offered.discard(event_id)
            event = self._events.pop(event_id, (None, 0.0))[0]
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
        with self._changed:
            events = [event for event, _ in self._events.values()]
        return sum(len(event.encode()) for event in events)

    def oldest_seconds(self) -> float:
        """Return for how long the oldest event has been waiting, 0 if none is."""
        with self._changed:
            first = next(iter(self._events.values()), None)
        return time.monotonic() - first[1] if first else 0.0

    def _next(self) -> Event | None:
        if len(self._offered) == len(self._events):
            return None
        return next((event for event, _ in self._events.values() if event.id not in self._offered), None)
