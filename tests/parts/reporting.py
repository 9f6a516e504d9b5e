"""The daemon, which writes down each event as it is made and as it is committed.

`python -m tests.parts.reporting FILE run --config …`: what follows FILE are the arguments of `emotion-edge`. A line is
`made ID TIME` or `committed ID TIME`, the time on the clock that all processes of the machine share. It is with the
kernel before the event goes on, so that it outlives a kill -9. The daemon can be told to kill itself at a place in its
own work (`killed - TIME`), and to keep what its disk would have after a power loss.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.analyser import Analyser
from edge.cli import main
from edge.events import Event
from edge.faces import Image
from edge.outbox import Outbox
from edge.schedule import WHOLE, Look
from edge.session import Session
from edge.store import Changes, Store
from edge.tracking import Observation
from tests.parts.daemon import Daemon
from tests.parts.power import Disk

#: Places at which a daemon kills itself.
PLACES = (
    "during start",
    "before commit",
    "during commit",
    "between publish and acknowledge",
    "between acknowledge and delete",
    "during drain",
)
#: More messages than these wait while a queue drains.
QUEUE = 20
#: Analyses that are remembered.
MOST_REMEMBERED = 10_000


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
        environment: variables added to those of the test. `CLOCK_STEP` moves its wall clock by so many seconds once
            ten events were made; `KILL` is one of `PLACES`, a colon, and at which time there it kills itself; `DISK` is
            a folder that gets what its state folder would have after a power loss. With `REMEMBER` it analyses a
            picture that it has seen in the same way before no second time, so that time passes faster.
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
        self._read = 0
        self._reports: dict[str, list[Report]] = {}
        self.command[1:3] = ["-m", "tests.parts.reporting", str(self._report)]

    def reports(self, what: str) -> list[Report]:
        """Return what is written down so far: of events `made` or `committed`, or that it was `killed`."""
        if self._report.exists():
            with self._report.open() as file:
                file.seek(self._read)
                for line in file:
                    if not line.endswith("\n"):
                        break  # not all of it is there yet
                    self._read += len(line)
                    kind, event_id, moment = line.split()
                    self._reports.setdefault(kind, []).append(Report(kind, event_id, float(moment)))
        return list(self._reports.get(what, ()))

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
    if "KILL" in os.environ:
        place, _, count = os.environ["KILL"].partition(":")
        _kill_at(place, int(count), lambda: tell("killed", ["-"]))
    if "REMEMBER" in os.environ:
        _remember()
    if "DISK" in os.environ:
        Disk(Path(os.environ["STATE_DIRECTORY"]), Path(os.environ["DISK"]))
    sys.argv[1:] = arguments
    main()


def _remember() -> None:
    look = Analyser.__call__
    known: dict[tuple[int, str], list[Observation]] = {}

    def remembering(analyser: Analyser, image: Image, how: Look = WHOLE) -> list[Observation]:
        key = zlib.crc32(image.tobytes()), repr(how)
        if key not in known and len(known) < MOST_REMEMBERED:
            known[key] = look(analyser, image, how)
        return known[key] if key in known else look(analyser, image, how)

    setattr(Analyser, "__call__", remembering)  # noqa: B010


def _kill_at(place: str, count: int, tell: Callable[[], None]) -> None:
    """Kill this process when it comes to a place for the `count`-th time."""
    left = count

    def pass_by(_: object = None) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            tell()
            os.kill(os.getpid(), signal.SIGKILL)

    def full(outbox: Outbox) -> None:
        if len(outbox) > QUEUE:
            pass_by()

    ways: dict[str, Callable[[], None]] = {
        "during start": lambda: _after(pass_by, (Store, "__init__"), (Store, "totals"), (Outbox, "_end_faces")),
        "before commit": lambda: _before_commit(pass_by),
        "during commit": lambda: _in_transaction(pass_by),
        "between publish and acknowledge": lambda: _after(pass_by, (Session, "publish")),
        "between acknowledge and delete": lambda: _after(pass_by, (Outbox, "acknowledge")),
        "during drain": lambda: _after(full, (Outbox, "acknowledge")),
    }
    ways[place]()


def _after(then: Callable[[Any], None], *methods: tuple[type, str]) -> None:
    """Do something after each call of methods."""

    def followed(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *arguments: Any, **named: Any) -> Any:
            result = method(self, *arguments, **named)
            then(self)
            return result

        return call

    for owner, name in methods:
        setattr(owner, name, followed(getattr(owner, name)))


def _before_commit(then: Callable[[], None]) -> None:
    commit = Store.commit

    def preceded(store: Store, changes: Changes) -> None:
        if changes.add:
            then()
        commit(store, changes)

    setattr(Store, "commit", preceded)  # noqa: B010


def _in_transaction(then: Callable[[], None]) -> None:
    transaction = Store._transaction

    @contextlib.contextmanager
    def interrupted(store: Store) -> Iterator[None]:
        with transaction(store):
            yield
            then()

    setattr(Store, "_transaction", interrupted)  # noqa: B010


if __name__ == "__main__":
    _run(Path(sys.argv[1]), sys.argv[2:])
