"""A daemon that makes events, a broker, a subscriber, and what became of the events in between.

Events come from the daemon's own pipeline on a clip of flickering faces (12 a second), and each is written down as it
is made and as it is committed. The subscriber has a session that the broker keeps.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.parts import eventually
from tests.parts.broker import Mosquitto
from tests.parts.flicker import TRACKING, flicker_camera, flickering
from tests.parts.reporting import ReportingDaemon
from tests.parts.settings import settings_for
from tests.parts.subscriber import Subscriber

#: A broker that writes down sessions at once, so that its own death loses nothing that it acknowledged.
PERSISTS: dict[str, Any] = {"autosave_on_changes": "true", "autosave_interval": 1, "max_queued_messages": 0}
EVENTS = "emotion/test/cam/event"
NOWHERE = {"source": "rtsp://127.0.0.1:1/none"}


@dataclass(frozen=True)
class Outcome:
    """What became of the events of a run.

    Attributes:
        unended: faces with a start and no end.
        ended_again: faces with more than one end, not counting an end that came twice.
        dropped: messages that the daemon says it dropped while it delivered the last ones.
    """

    made: int
    committed: int
    received: int
    lost: int
    uncommitted: int
    doubled: int
    disordered: int
    unended: int
    ended_again: int
    dropped: int

    @property
    def faces_held(self) -> bool:
        """Whether every start has its end, and one only."""
        return not (self.unended or self.ended_again)

    def __str__(self) -> str:
        return (
            f"{self.made} made, {self.committed} committed, {self.received} received; {self.lost} committed ones lost, "
            f"{self.uncommitted} lost before the commit, {self.doubled} doubled, {self.disordered} out of order, "
            f"{self.unended} starts without end, {self.ended_again} with two"
        )


class Delivery:
    """A broker, a subscriber whose session the broker keeps, and a daemon; all gone afterwards."""

    def __init__(self, folder: Path, pace: str = "realtime", persists: bool = True, **settings: Any) -> None:
        self.folder = folder
        self.broker = Mosquitto(folder / "broker", persistent=persists, **(PERSISTS if persists else {}))
        self.subscriber = Subscriber(self.broker.port, (EVENTS,))
        self.camera = flicker_camera(flickering(folder / "pictures"), pace)
        config = {**settings_for(self.broker, cam=self.camera), "tracking": TRACKING, **settings}
        self.daemon = ReportingDaemon(config, folder / "daemon")

    def __enter__(self) -> Delivery:
        self.broker.start()
        self.subscriber.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.daemon.close()
        self.broker.close()
        self.subscriber.__exit__(kind, error, trace)

    def wait_made(self, count: int, timeout: float = 120) -> None:
        """Wait until so many events were made in all."""
        eventually(lambda: len(self.daemon.ids("made")) >= count, timeout, f"{count} events", self.daemon.tail)

    def received(self) -> set[str]:
        """Return the ids of the events that the subscriber has."""
        return {message.payload["id"] for message in self.subscriber.on(EVENTS)}

    def outcome(self, patience: float = 10.0) -> Outcome:
        """Deliver what waits, with no camera that makes more, and compare.

        Args:
            patience: for what does not arrive, seconds.
        """
        if self.daemon.running:
            self.daemon.stop()
        self.daemon.config["cameras"] = {"cam": NOWHERE}
        self.daemon.start()
        self.daemon.wait_for_ready()
        most = 120 + len(self.daemon.ids("made")) / 50
        eventually(lambda: self.daemon.value("emotion_edge_outbox_events") == 0, most, "empty outbox", self.daemon.tail)
        committed = set(self.daemon.ids("committed"))
        with contextlib.suppress(AssertionError):  # what is missing is the figure
            eventually(lambda: committed <= self.received(), patience, "last events")
        dropped = int(self.daemon.value("emotion_edge_events_dropped_total"))
        self.daemon.stop()
        self.daemon.config["cameras"] = {"cam": self.camera}
        payloads = [message.payload for message in self.subscriber.on(EVENTS)]
        return compare(set(self.daemon.ids("made")), committed, payloads, dropped)


def compare(made: set[str], committed: set[str], payloads: Sequence[Any], dropped: int) -> Outcome:
    """Return what became of events, by the ids of those made and committed, and the events as they were received."""
    first = list({payload["id"]: payload for payload in payloads}.values())
    numbers = [(payload["epoch"], payload["seq"]) for payload in first]
    begun, ended = ([p["face"]["id"] for p in first if p["type"] == kind] for kind in ("start", "end"))
    return Outcome(
        made=len(made),
        committed=len(committed),
        received=len(first),
        lost=len(committed - {payload["id"] for payload in first}),
        uncommitted=len(made - committed),
        doubled=len(payloads) - len(first),
        disordered=sum(after <= before for before, after in itertools.pairwise(numbers)),
        unended=len(set(begun) - set(ended)),
        ended_again=len(ended) - len(set(ended)),
        dropped=dropped,
    )
