"""The daemon, which writes down each event as it is made and as it is committed.

`python -m tests.parts.reporting FILE run --config …`: what follows FILE are the arguments of `emotion-edge`. A line is
`made ID TIME` or `committed ID TIME`, the time on the clock that all processes of the machine share. It is with the
kernel before the event goes on, so that it outlives a kill -9.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.cli import main
from edge.events import Event
from edge.outbox import Outbox
from edge.store import Changes, Store
from tests.parts.daemon import Daemon


@dataclass(frozen=True)
class Report:
    """What was written down of an event."""

    what: str
    id: str
    time: float


class ReportingDaemon(Daemon):
    """A daemon of which is known what it made and committed, over all its starts.

    Args:
        config: the configuration.
        folder: for its files.
        arguments: more arguments of `run`.
        environment: variables added to those of the test; `CLOCK_STEP` moves its wall clock by so many seconds once
            ten events were made.
    """

    def __init__(
        self,
        config: dict[str, Any],
        folder: Path,
        arguments: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        super().__init__(config, folder, arguments, environment)
        self._report = folder / "events.txt"
        self.command[1:3] = ["-m", "tests.parts.reporting", str(self._report)]

    def reports(self, what: str) -> list[Report]:
        """Return what is written down so far: of events `made` or `committed`."""
        if not self._report.exists():
            return []
        found = []
        for line in self._report.read_text().splitlines():
            kind, event_id, moment = line.split()
            if kind == what:
                found.append(Report(kind, event_id, float(moment)))
        return found

    def ids(self, what: str) -> list[str]:
        """Return the ids of events `made` or `committed`, in order."""
        return [report.id for report in self.reports(what)]


def _run(report: Path, arguments: list[str]) -> None:
    descriptor = os.open(report, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    put, commit, clock = Outbox.put, Store.commit, time.time
    step, left = float(os.environ.get("CLOCK_STEP", 0)), [10]

    def tell(what: str, ids: list[str]) -> None:
        if ids:
            now = time.monotonic()
            os.write(descriptor, "".join(f"{what} {event_id} {now:.6f}\n" for event_id in ids).encode())

    def reporting_put(outbox: Outbox, events: Iterable[Event]) -> None:
        listed = list(events)
        tell("made", [event.id for event in listed])
        left[0] -= len(listed)
        put(outbox, listed)

    def reporting_commit(store: Store, changes: Changes) -> None:
        commit(store, changes)
        tell("committed", [row.message.id for row in changes.add if row.message.kind == "event"])

    setattr(Outbox, "put", reporting_put)  # noqa: B010 - mypy takes no assignment to a method
    setattr(Store, "commit", reporting_commit)  # noqa: B010
    time.time = lambda: clock() + (step if left[0] < 0 else 0.0)
    sys.argv[1:] = arguments
    main()


if __name__ == "__main__":
    _run(Path(sys.argv[1]), sys.argv[2:])
