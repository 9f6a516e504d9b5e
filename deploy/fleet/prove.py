"""Proves the recipe of this folder on one machine: nodes, sites' brokers bridged to a centre, consumers that share.

    python -m deploy.fleet.prove            # 12 nodes, 3 sites, 4 consumers; --short for 2, 2 and 2

It prints a row each: how throughput grows with consumers, and what becomes of events when a node, a site's broker, the
centre and a consumer are killed (kill -9) in turn. The brokers run with the files of this folder.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tests.parts import HOST, eventually
from tests.parts.broker import Mosquitto
from tests.parts.child import Child
from tests.parts.flicker import TRACKING, flicker_camera, flickering
from tests.parts.reporting import ReportingDaemon
from tests.parts.rows import Row
from tests.parts.settings import settings_for
from tests.parts.subscriber import Subscriber

HERE = Path(__file__).parent
EVENTS = "emotion/+/+/event"
#: Events a second that one consumer takes, at most.
RATE = 20.0
#: Pictures a second of a node's camera: 2.4 events of it a second.
FPS = 2
#: How long what is under way may take to arrive, seconds.
ARRIVE = 60.0
#: What a restart of the centre costs those who share.
PASSED_BY = (
    "Mosquitto 2.0 has no shared subscriptions after a restart until the consumers subscribe again, and gives what the "
    "sites deliver before that to nobody of them"
)


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        backlog: events whose draining is timed.
        between: events that are made before a kill, and again before what was killed comes back.
    """

    nodes: int
    sites: int
    consumers: int
    backlog: int
    between: int


WHOLE, SHORT = Size(12, 3, 4, 160, 60), Size(2, 2, 2, 40, 6)


class Consumer(Child):
    """The example of this folder, in a process of its own."""

    name = "consumer"

    def __init__(self, folder: Path, port: int, name: str, group: str, topic: str) -> None:
        self.file = folder / "ids.txt"
        self.client_id = f"consumer-{group}-{name}"
        options = {"host": HOST, "port": port, "name": name, "group": group, "topic": topic, "rate": RATE}
        arguments = [f"--{key}={value}" for key, value in options.items()]
        super().__init__([sys.executable, str(HERE / "consumer.py"), *arguments, f"--into={self.file}"], folder)

    def ids(self) -> list[str]:
        """Return what it has written down so far."""
        return self.file.read_text().split() if self.file.exists() else []


class Fleet:
    """All of it, gone afterwards."""

    def __init__(self, folder: Path, size: Size) -> None:
        self.folder = folder
        self.centre = Mosquitto(folder / "centre", **recipe("centre.conf"))
        self.sites = [self._site(number) for number in range(size.sites)]
        self.auditors = [Subscriber(site.port, (EVENTS,)) for site in self.sites]
        self.archive = Subscriber(self.centre.port, (EVENTS,))
        pictures = flickering(folder / "pictures")
        self.nodes = [self._node(number, self.sites[number % size.sites], pictures) for number in range(size.nodes)]
        self.consumers = [self.consumer(str(number), "archive", EVENTS) for number in range(size.consumers)]

    def _site(self, number: int) -> Mosquitto:
        settings = recipe("site.conf", f"site-{number}", address=f"{HOST}:{self.centre.port}")
        return Mosquitto(self.folder / f"site-{number}", **settings)

    def _node(self, number: int, site: Mosquitto, pictures: Path) -> ReportingDaemon:
        camera = {**flicker_camera(pictures), "fps": FPS}
        config = {**settings_for(site, cam=camera), "node": f"node-{number}", "tracking": TRACKING, "workers": 1}
        return ReportingDaemon(config, self.folder / f"node-{number}")

    def consumer(self, name: str, group: str, topic: str) -> Consumer:
        """Return a consumer of the centre, not started."""
        return Consumer(self.folder / f"{group}-{name}", self.centre.port, name, group, topic)

    @contextlib.contextmanager
    def running(self) -> Iterator[Fleet]:
        """Start everything but the nodes."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.centre)
            for site in self.sites:
                stack.enter_context(site)
            for listener in (*self.auditors, self.archive):
                stack.enter_context(listener)
            for consumer in self.consumers:
                stack.enter_context(consumer)
                self.wait_subscribed(consumer)
            eventually(self._bridged, 30, "bridges", self.centre.tail)
            yield self

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Start the nodes."""
        with contextlib.ExitStack() as stack:
            for node in self.nodes:
                stack.callback(node.close)
                node.launch()
            for node in self.nodes:
                node.wait_for_ready(120)
            yield

    def _bridged(self) -> bool:
        log = self.centre.log.read_text()
        return all(f" as site-{number} (" in log for number in range(len(self.sites)))

    def subscriptions(self, consumer: Consumer) -> int:
        """Return how often the centre has taken the subscription of a consumer."""
        return self.centre.log.read_text().count(f"{consumer.client_id} 1 $share")

    def wait_subscribed(self, consumer: Consumer, before: int = 0) -> None:
        """Wait until the centre has taken the subscription of a consumer once more."""
        eventually(lambda: self.subscriptions(consumer) > before, 30, f"subscription of {consumer.client_id}")

    def committed(self) -> set[str]:
        """Return the ids of events that nodes have on their disks, or had."""
        return {name for node in self.nodes for name in node.ids("committed")}

    def shared(self) -> set[str]:
        """Return the ids that any of the consumers wrote down."""
        return {name for consumer in self.consumers for name in consumer.ids()}

    def audited(self) -> set[str]:
        """Return the ids that the sites' brokers gave to whoever listens there."""
        return set().union(*map(_ids, self.auditors))

    def archived(self) -> set[str]:
        """Return the ids that the centre gave to a plain subscription."""
        return _ids(self.archive)

    def wait_made(self, count: int) -> None:
        """Wait until so many more events are committed."""
        before = len(self.committed())
        eventually(lambda: len(self.committed()) >= before + count, 120, f"{count} more events")


def recipe(name: str, site: str = "", **replaced: str) -> dict[str, Any]:
    """Return the settings of a file of this folder as a Mosquitto of the tests takes them, for the site of a name."""
    settings: dict[str, list[str]] = {}
    for line in (HERE / name).read_text().splitlines():
        key, _, value = line.partition(" ")
        if key and not key.startswith("#") and key != "listener":
            settings.setdefault(key, []).append(value.replace("site-a", site) if site else value)
    return {**settings, **replaced}


def throughput(fleet: Fleet, size: Size) -> Iterator[Row]:
    """The same backlog for one consumer, for two, for four."""
    rates = {}
    for count in (count for count in (1, 2, 4) if count <= size.consumers):
        group, topic = f"load{count}", f"load/{count}"
        with contextlib.ExitStack() as stack:
            consumers = [stack.enter_context(fleet.consumer(str(n), group, topic)) for n in range(count)]
            for consumer in consumers:
                fleet.wait_subscribed(consumer)
            sender = stack.enter_context(Subscriber(fleet.centre.port, ("none",)))
            started = time.monotonic()
            for number in range(size.backlog):
                sender.send(topic, {"id": f"{count}-{number}"})
            eventually(
                lambda: len({name for each in consumers for name in each.ids()}) == size.backlog,  # noqa: B023
                *(120, "drained backlog"),
            )
            rates[count] = size.backlog / (time.monotonic() - started)
    figure = ", ".join(f"{count}: {rate:.0f}" for count, rate in rates.items())
    held = all(rate >= 0.7 * count * rates[1] for count, rate in rates.items())
    yield Row(
        f"events/s with so many consumers of {RATE:.0f}/s",
        figure,
        "grows with them (≥ 0.7 of n times)",
        held,
        speed=True,
    )


def kills(fleet: Fleet, size: Size) -> Iterator[Row]:
    """Each kind of part is killed while events are made, comes back a little later, and everything arrives."""
    chance = random.Random(6)  # noqa: S311
    victims: list[tuple[str, list[Child]]] = [
        ("node", list(fleet.nodes)),
        ("site's broker", list(fleet.sites)),
        ("centre", [fleet.centre]),
        ("consumer", list(fleet.consumers)),
    ]
    before: set[str] = set()
    for kind, candidates in victims:
        fleet.wait_made(size.between)
        victim = chance.choice(candidates)
        arrived = fleet.committed()
        with contextlib.suppress(AssertionError):  # what is missing is told later
            eventually(lambda arrived=arrived - before: arrived <= fleet.shared(), ARRIVE, "earlier events")  # type: ignore[misc]
        subscriptions = {consumer: fleet.subscriptions(consumer) for consumer in fleet.consumers}
        victim.kill()
        never = _uncommitted(victim)
        fleet.wait_made(size.between)
        victim.start()
        # What those who share may have missed: nothing but what the nodes made while the centre had no subscriptions.
        gap = set[str]()
        if victim is fleet.centre:
            for consumer in fleet.consumers:
                fleet.wait_subscribed(consumer, subscriptions[consumer])
            gap = fleet.committed() - arrived
        fleet.wait_made(size.between)
        made = fleet.committed() - before
        before |= made
        with contextlib.suppress(AssertionError):  # what is missing is the figure
            eventually(lambda made=made: made <= fleet.shared() & fleet.archived(), ARRIVE, "last events")  # type: ignore[misc]
        yield from compared(kind, Reached(made, fleet.shared(), fleet.archived(), fleet.audited()), gap, never)


@dataclass(frozen=True)
class Reached:
    """Ids of the events that were made since the kill before, and of all that reached somebody."""

    made: set[str]
    shared: set[str]
    archived: set[str]
    audited: set[str]


def compared(kind: str, reached: Reached, gap: set[str], never: int) -> Iterator[Row]:
    """Yield what became of events around a kill; those who share may lack what is in `gap`, and nothing else."""
    made = reached.made
    lost = made - reached.shared - reached.archived
    at_site, on_bridge = lost - reached.audited, lost & reached.audited
    figure = f"{len(lost)} of {len(made)} lost ({len(at_site)} at a site's broker, {len(on_bridge)} on the bridge)"
    yield Row(f"{kind} kill -9", f"{figure}{f'; {never} more never committed' if never else ''}", "0 lost", not lost)
    if missed := made & reached.archived - reached.shared:
        figure = (
            f"{len(missed)} of {len(made)} reached the plain subscription alone, {len(missed - gap)} of them not made "
            f"while the centre had no consumers: {PASSED_BY}"
        )
        bar = "after the centre's kill only, 0 that were made before or later"
        yield Row(f"{kind} kill -9, those who share", figure, bar, not missed - gap)


def _uncommitted(victim: Child) -> int:
    """Return how many events a node that was killed had made and not committed."""
    return len(set(victim.ids("made")) - set(victim.ids("committed"))) if isinstance(victim, ReportingDaemon) else 0


def _ids(subscriber: Subscriber) -> set[str]:
    return {message.payload["id"] for message in subscriber.messages}


def prove(folder: Path, size: Size) -> Iterator[Row]:
    """Yield a row for each thing that is proved."""
    with Fleet(folder, size).running() as fleet:
        yield from throughput(fleet, size)
        with fleet.watching():
            yield from kills(fleet, size)


@click.command()
@click.option("--short", is_flag=True, help="2 nodes, 2 sites and 2 consumers, for less time.")
def main(short: bool) -> None:
    """Print a row each; exit code 1 if one fell short."""
    folder, held = Path(tempfile.mkdtemp(prefix="fleet-")), True
    try:
        for row in prove(folder, SHORT if short else WHOLE):
            held &= row.held
            print(f"{'held ' if row.held else 'SHORT'}  {row.fault}: {row.figure} (bar: {row.bar})", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(int(not held))


if __name__ == "__main__":
    main()
