"""`make faults`: what the daemon does when something fails; a row and a figure each. Here: broker, disk, clock, daemon.

Events come from the daemon's own pipeline on a clip of flickering faces (12 a second), and each is written down as it
is made and as it is committed. The subscriber has a session that the broker keeps.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import random
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paho.mqtt.enums import MQTTProtocolVersion

from edge.events import Event
from edge.logs import LINES
from edge.metrics import Metrics
from edge.mqtt import BACK_OFF, JITTER, Publisher
from edge.outbox import Outbox
from edge.session import WINDOW, Session
from edge.settings import MqttSettings
from tests.camera_faults import CAMERA_FAULTS
from tests.parts import eventually
from tests.parts.broker import Mosquitto
from tests.parts.camera import Authority
from tests.parts.daemon import Daemon
from tests.parts.flicker import TRACKING, flicker_camera, flickering
from tests.parts.reporting import ReportingDaemon
from tests.parts.rows import Fault, Row
from tests.parts.samples import make_event
from tests.parts.settings import settings_for
from tests.parts.stubborn import StubbornBroker
from tests.parts.subscriber import Subscriber
from tests.pipeline_faults import PIPELINE_FAULTS

#: A broker that writes down sessions at once, so that its own death loses nothing that it acknowledged.
PERSISTS: dict[str, Any] = {"autosave_on_changes": "true", "autosave_interval": 1, "max_queued_messages": 0}
EVENTS = "emotion/test/cam/event"
NOWHERE = {"source": "rtsp://127.0.0.1:1/none"}


@dataclass(frozen=True)
class Outcome:
    """What became of the events of a run."""

    made: int
    committed: int
    lost: int
    uncommitted: int
    doubled: int
    disordered: int
    unended: int

    def __str__(self) -> str:
        return (
            f"{self.made} made, {self.committed} committed, {self.lost} of them lost, {self.uncommitted} lost before "
            f"the commit, {self.doubled} doubled, {self.disordered} out of order, {self.unended} starts without end"
        )


class Bench:
    """A broker, a subscriber whose session the broker keeps, and a daemon; all gone afterwards."""

    def __init__(self, folder: Path, pace: str = "realtime", persists: bool = True, **settings: Any) -> None:
        self.folder = folder
        self.broker = Mosquitto(folder / "broker", persistent=persists, **(PERSISTS if persists else {}))
        self.subscriber = Subscriber(self.broker.port, (EVENTS,))
        self.camera = flicker_camera(flickering(folder / "pictures"), pace)
        config = {**settings_for(self.broker, cam=self.camera), "tracking": TRACKING, **settings}
        self.daemon = ReportingDaemon(config, folder / "daemon")

    def __enter__(self) -> Bench:
        self.broker.start()
        self.subscriber.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.daemon.close()
        self.subscriber.stop()
        self.broker.close()

    def wait_made(self, count: int, timeout: float = 120) -> None:
        """Wait until so many events were made in all."""
        eventually(lambda: len(self.daemon.ids("made")) >= count, timeout, f"{count} events", self.daemon.tail)

    def outcome(self) -> Outcome:
        """Deliver what waits, with no camera that makes more, and compare."""
        if self.daemon.running:
            self.daemon.stop()
        self.daemon.config["cameras"] = {"cam": NOWHERE}
        self.daemon.start()
        self.daemon.wait_for_ready()
        eventually(
            lambda: self.daemon.value("emotion_edge_outbox_events") == 0, 120, "drained outbox", self.daemon.tail
        )
        committed = set(self.daemon.ids("committed"))
        with contextlib.suppress(AssertionError):  # what is missing is the figure
            eventually(lambda: committed <= {m.payload["id"] for m in self.subscriber.messages}, 10, "last events")
        self.daemon.stop()
        self.daemon.config["cameras"] = {"cam": self.camera}
        return self._compare(committed)

    def _compare(self, committed: set[str]) -> Outcome:
        made = set(self.daemon.ids("made"))
        payloads = [message.payload for message in self.subscriber.on(EVENTS)]
        first = list({payload["id"]: payload for payload in payloads}.values())
        numbers = [(payload["epoch"], payload["seq"]) for payload in first]
        faces = [{p["face"]["id"] for p in first if p["type"] == kind} for kind in ("start", "end")]
        return Outcome(
            made=len(made),
            committed=len(committed),
            lost=len(committed - {payload["id"] for payload in first}),
            uncommitted=len(made - committed),
            doubled=len(payloads) - len(first),
            disordered=sum(after <= before for before, after in itertools.pairwise(numbers)),
            unended=len(faces[0] - faces[1]),
        )


def broker_down(folder: Path, short: bool) -> Iterator[Row]:
    """The broker is away while events are made."""
    seconds = 5 if short else 60
    with Bench(folder) as bench, bench.daemon:
        bench.wait_made(20)
        bench.broker.stop()
        time.sleep(seconds)
        bench.broker.start()
        outcome = bench.outcome()
    held = not (outcome.lost or outcome.uncommitted or outcome.disordered or outcome.doubled > WINDOW)
    yield Row(f"broker down {seconds} s", str(outcome), f"0 lost, in order, ≤ {WINDOW} doubled", held)


def broker_killed(folder: Path, short: bool) -> Iterator[Row]:
    """The broker is killed while events are published."""
    times = 3 if short else 20
    with Bench(folder) as bench, bench.daemon:
        for _ in range(times):
            made = len(bench.daemon.ids("made"))
            bench.wait_made(made + 8)
            bench.broker.kill()
            bench.broker.start()
            eventually(lambda: bench.daemon.value("emotion_edge_mqtt_connected") == 1, 60, "connection")
        outcome = bench.outcome()
    yield Row(f"broker kill -9 ×{times}", str(outcome), "0 lost", not outcome.lost)


def daemon_killed(folder: Path, short: bool) -> Iterator[Row]:
    """The daemon is killed at random moments: starting, publishing, and while a queue drains."""
    times = 4 if short else 100
    chance = random.Random(6)
    with Bench(folder, pace="fast") as bench:
        most = 0
        for kill in range(times):
            away = kill % 4 == 3  # the broker is away in every fourth run, so that the next one drains a queue
            if away:
                bench.broker.stop()
            before = len(bench.daemon.ids("made")), len(bench.daemon.ids("committed"))
            bench.daemon.launch()
            if kill % 4 != 2:  # that one is killed while it starts
                bench.wait_made(before[0] + 1)
            time.sleep(chance.uniform(0.0, 1.5))
            bench.daemon.kill()
            made, committed = len(bench.daemon.ids("made")), len(bench.daemon.ids("committed"))
            most = max(most, made - before[0] - (committed - before[1]))
            if away:
                bench.broker.start()
        outcome = bench.outcome()
        damaged = len(list(bench.daemon.outbox.parent.glob("*.damaged-*")))
    held = not (outcome.lost or outcome.disordered or outcome.unended or damaged)
    figure = f"{outcome}; at most {most} lost before the commit in one kill; {damaged} damaged files"
    yield Row(f"daemon kill -9 ×{times}", figure, "0 lost, 0 damaged, every start has its end", held)


def long_outage(folder: Path, short: bool) -> Iterator[Row]:
    """An hour of events waits, the daemon dies, and all of it is delivered after the next start."""
    count = 3_000 if short else 36_000
    path = folder / "outbox.db"
    with (
        Mosquitto(folder / "broker", max_queued_messages=0) as broker,
        Subscriber(broker.port, ("emotion/test/camera/event",)) as subscriber,
    ):
        queue = Outbox(path)
        queue.start()
        started = time.monotonic()
        for first in range(1, count + 1, 100):
            queue.put(make_event(seq, type="end", duration=1.0, reason="left") for seq in range(first, first + 100))
        queue.stop(60)
        wrote = time.monotonic() - started
        queue, metrics = Outbox(path), Metrics("test", "0")
        queue.start()
        publisher = Publisher(MqttSettings(port=broker.port), "test", queue, metrics)
        publisher.start()
        eventually(publisher.connected.is_set, 10, "connection")
        started = time.monotonic()
        queue.wait_empty(300)
        rate = count / (time.monotonic() - started)
        publisher.stop(5)
        queue.stop(5)
        eventually(lambda: len(subscriber.messages) >= count, 30, "last events", lambda: len(subscriber.messages))
        received = [message.payload["seq"] for message in subscriber.messages]
    lost, disordered = count - len(set(received)), received != sorted(received)
    figure = f"{lost} of {count} lost, {len(received) - len(set(received))} doubled, written in {wrote:.1f} s"
    yield Row(
        f"outage of {count / 10 / 60:.0f} min at 10 events/s", figure, "0 lost, in order", not lost and not disordered
    )
    yield Row("outbox drain", f"{rate:,.0f} events/s", "≥ 1,000 events/s", rate >= 1000, speed=True)


def never_acknowledges(folder: Path, short: bool) -> Iterator[Row]:
    """A broker takes everything and acknowledges nothing."""
    if short:
        return  # takes half a minute; tests/test_mqtt.py has it with a shorter limit
    with StubbornBroker(lambda _topic: None) as stubborn, Bench(folder) as bench:
        bench.daemon.config["mqtt"]["port"] = stubborn.port
        with bench.daemon as daemon:
            eventually(lambda: len(stubborn.connections) > 1, 90, "second connection", daemon.tail)
            captured = daemon.value("emotion_edge_frames_analysed_total")
            first, second = stubborn.connections[:2]
            rate = captured / (time.monotonic() - first)
    figure = f"connected again after {second - first:.1f} s, {rate:.1f} of 10 pictures/s analysed"
    yield Row(
        "broker never acknowledges", figure, "≤ 40 s, frames unaffected", second - first <= 40 and rate > 9, speed=True
    )


def refuses(folder: Path, short: bool) -> Iterator[Row]:
    """A broker refuses publishes for now, then some for good."""
    del short
    for reason, meaning in ((0x87, "not authorised"), (0x97, "quota exceeded"), (0x99, "payload invalid")):
        refusing = [True]
        final = reason == 0x99

        def answer(topic: str, reason: int = reason, refusing: list[bool] = refusing) -> int:
            return reason if topic.endswith("/event") and refusing[0] else 0

        home = folder / meaning.replace(" ", "-")
        home.mkdir()
        queue, metrics = Outbox(home / "outbox.db"), Metrics("test", "0")
        published: list[Event] = []
        queue.start()
        with StubbornBroker(answer) as stubborn:
            publisher = Publisher(MqttSettings(port=stubborn.port), "test", queue, metrics, published.append)
            queue.put(make_event(seq) for seq in range(1, 6))
            publisher.start()
            refused = metrics.events_dropped["refused"]._value.get
            if final:
                eventually(lambda: refused() == 5, 20, "refusals")  # noqa: B023 - called here
            else:
                eventually(lambda: len(stubborn.connections) > 1, 20, "another attempt")
            refusing[0] = False
            queue.put([make_event(6)])
            expected = 1 if final else 6
            eventually(lambda: len(published) >= expected, 20, "the rest")  # noqa: B023 - called here
            publisher.stop(2)
        queue.stop(2)
        figure = f"{len(published)} of 6 delivered once it took them, {refused():.0f} set aside and counted"
        bar = "counted, the rest delivered" if final else "all kept and delivered"
        yield Row(f"broker refuses 5: {meaning}", figure, bar, len(published) == expected)


def latency_and_wear(folder: Path, short: bool) -> Iterator[Row]:
    """Nothing fails: how long events take, and what they cost the disk."""
    seconds = 8 if short else 60
    for durability in ("full", "normal"):
        settings: dict[str, Any] = {"outbox": {"durability": durability}}
        with Bench(folder / durability, persists=False, **settings) as bench, bench.daemon as daemon:
            daemon.wait_for_ready()
            bench.wait_made(30)
            events, written = len(daemon.ids("made")), _written(daemon.pid)
            commits, started = len(_moments(daemon)), time.monotonic()
            time.sleep(seconds)
            hours = (time.monotonic() - started) / 3600
            events, written = len(daemon.ids("made")) - events, _written(daemon.pid) - written
            commits = len(_moments(daemon)) - commits
            outcome = bench.outcome()
        made = {report.id: report.time for report in daemon.reports("made")}
        seen = {message.payload["id"]: message.time for message in reversed(bench.subscriber.messages)}
        took = sorted(seen[name] - made[name] for name in list(made)[30:-20] if name in seen)
        p50, p99 = 1000 * statistics.median(took), 1000 * took[int(0.99 * len(took))]
        if durability == "full":
            figure = f"p50 {p50:.0f} ms, p99 {p99:.0f} ms of {len(took)} events"
            held = p50 <= 60 and p99 <= 120
            yield Row("event made → subscriber, QoS 1, full", figure, "≤ 60 / 120 ms", held, speed=True)
        figure = (
            f"{commits / hours:,.0f} commits and {written / hours / 2**20:,.0f} MiB to the disk an hour at "
            f"{events / hours / 3600:.1f} events/s"
        )
        yield Row(f"writes, durability {durability}", figure, "measured", not outcome.lost)


def disk_fails(folder: Path, short: bool) -> Iterator[Row]:
    """The disk is full, then has room again; the folder cannot be written; bits are flipped."""
    del short
    with Bench(folder / "full") as bench:
        # Files that cannot grow are what a full disk is to SQLite, and need no rights.
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        with bench.daemon as daemon:
            bench.wait_made(10)
            resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (20_000, before[1]))
            daemon.wait_for_log("events wait in memory", 30)
            made = len(daemon.ids("made"))
            bench.wait_made(made + 10)
            durable = daemon.value("emotion_edge_outbox_durable")
            running = daemon.running
            resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, before)
            eventually(lambda: daemon.value("emotion_edge_outbox_durable") == 1, 30, "file in use again", daemon.tail)
            outcome = bench.outcome()
        received = {message.payload["id"] for message in bench.subscriber.messages}
        lost = len(set(daemon.ids("made")) - received)
    yield Row(
        "disk full", f"{lost} of {outcome.made} lost", "running, said, 0 lost", running and not lost and not durable
    )
    yield from _read_only(folder / "read-only")
    yield from _flipped(folder / "flipped")


def _read_only(folder: Path) -> Iterator[Row]:
    """Where the folder should be is a file, which stops root too."""
    with Bench(folder) as bench:
        blocked = bench.daemon.folder / "state"
        blocked.parent.mkdir(parents=True)
        blocked.write_text("a file where the folder should be")
        with bench.daemon as daemon:
            daemon.wait_for_log("events wait in memory", 30)
            bench.wait_made(20)
            problem = daemon.value("emotion_edge_outbox_durable") == 0
            received = eventually(
                lambda: len(bench.subscriber.messages) >= 10 and len(bench.subscriber.messages), 30, ""
            )
            daemon.stop()
    yield Row("state folder cannot be written", f"{received} events delivered", "running, said, delivered", problem)


def _flipped(folder: Path) -> Iterator[Row]:
    flips = random.Random(6)
    with Bench(folder) as bench:
        bench.broker.stop()
        with bench.daemon as daemon:
            bench.wait_made(60)
            daemon.stop()
        content = bytearray(daemon.outbox.read_bytes())
        for _ in range(3):
            content[flips.randrange(4096, len(content))] ^= 1 << flips.randrange(8)
        daemon.outbox.write_bytes(content)
        bench.broker.start()
        outcome = bench.outcome()
    yield Row(
        "3 flipped bits in a queue", str(outcome), "in order, all but a page for each delivered", outcome.lost <= 15
    )


def clock_steps(folder: Path, short: bool) -> Iterator[Row]:
    """The wall clock steps while events are made."""
    del short
    for step in (-3600, 3600):
        with Bench(folder / str(step)) as bench:
            bench.daemon.environment["CLOCK_STEP"] = str(step)
            with bench.daemon as daemon:
                bench.wait_made(30)
                stalls = daemon.value("emotion_edge_watchdog_stalls_total")
                daemon.kill()
            bench.daemon.environment["CLOCK_STEP"] = "0"
            outcome = bench.outcome()
        held = not (outcome.lost or outcome.unended or stalls)
        yield Row(f"clock {step:+d} s, then kill -9", str(outcome), "0 lost, no stall", held)


def fuzzed_commands(folder: Path, short: bool) -> Iterator[Row]:
    """Somebody who may publish to the daemon's topics sends what comes to mind."""
    count = 1_000 if short else 10_000
    chance = random.Random(6)
    with Bench(folder, commands={"allow": ["pause", "resume", "threshold", "reload", "snapshot"]}) as bench:
        with bench.daemon as daemon, Subscriber(bench.broker.port, ("emotion/test/+/response",)) as sender:
            daemon.wait_for_ready()
            lines, started = len(daemon.lines()), time.monotonic()
            for number in range(count):
                topic = f"emotion/test/{chance.choice(('cam', 'gone', 'é'))}/set"
                sender.publish(topic, _fuzz(chance, number), retain=chance.random() < 0.05)
                time.sleep(0.004 if number % 10 else 0.0)  # so that most are looked at, and some are too many
            # Behind all the others, so when it is answered they are through; repeated, as it may be one too many.
            last = {"id": "last", "command": "resume"}
            eventually(lambda: _answered(sender, last), 120, "answer to the last command", daemon.tail)
            minutes = (time.monotonic() - started) / 60
            lines = len(daemon.lines()) - lines
            counted = {
                sample.labels["result"]: int(sample.value)
                for sample in daemon.metrics()
                if sample.name == "emotion_edge_commands_total"
            }
            made = len(daemon.ids("made"))
            bench.wait_made(made + 10)
        outcome = bench.outcome()
    most = 2 * int(minutes + 1) * (LINES + 1)  # what was done and what was not taken have lines of their own
    figure = (
        f"{sum(counted.values())} counted ({', '.join(f'{v} {k}' for k, v in counted.items() if v)}), {lines} lines in "
        f"the log, {outcome.lost} events lost, {outcome.unended} starts without end"
    )
    held = not (outcome.lost or outcome.unended) and lines <= most and sum(counted.values()) >= count
    yield Row(f"{count:,} fuzzed commands, to 1 MB", figure, f"0 crashes, all counted, ≤ {most} lines", held)


def _answered(sender: Subscriber, command: dict[str, str]) -> bool:
    sender.publish("emotion/test/cam/set", command)
    time.sleep(0.2)
    return any(m.payload["id"] == command["id"] for m in sender.on("emotion/test/cam/response"))


def _fuzz(chance: random.Random, number: int) -> bytes:
    """Return bytes, nearly JSON, nearly a command, or a command."""
    size = 10 ** chance.uniform(0, 6 if chance.random() < 0.01 else 3)
    names = ("pause", "resume", "threshold", "reload", "snapshot", "", None, 7)
    thresholds = ("detector.threshold", "tracking.enter", "detector.keep", "x" * 50)
    command: dict[str, object] = {
        "id": chance.choice((f"{number}", f"{number % 50}", 7, None, "x" * 200)),
        "command": chance.choice(names),
        "arguments": {chance.choice(thresholds): chance.choice((0.4, 0.9, -1, "0.5", None, [], 1e308))}
        if chance.random() < 0.5
        else {},
    }
    written = json.dumps(command).encode()
    return chance.choice(
        (chance.randbytes(int(size)), b"[" * int(size), written[: chance.randrange(len(written))], written)
    )


def refused_logins(folder: Path, short: bool) -> Iterator[Row]:
    """The broker and the daemon cannot agree on who they are."""
    seconds = 8.0 if short else 40.0
    ours, other = (Authority(_made(folder / name)) for name in ("ours", "other"))
    trusting, login = {"tls": {"ca": ours.ca}}, {"username": "edge", "password": "wrong"}
    cases: list[tuple[str, Mosquitto, dict[str, Any], str]] = [
        ("wrong password", Mosquitto(folder / "login", passwords={"edge": "right"}), login, "check mqtt.username"),
        ("expired certificate", _encrypted(folder / "old", ours, -1), trusting, "certificate has expired"),
        ("wrong authority", _encrypted(folder / "wrong", ours, 2), {"tls": {"ca": other.ca}}, "check mqtt.tls.ca"),
        ("plain server on the TLS port", Mosquitto(folder / "plain"), trusting, "check mqtt.port"),
    ]
    for name, broker, settings, says in cases:
        heard = _Lines()
        with broker:
            mqtt = MqttSettings.model_validate({"port": broker.port, **settings})
            publisher = Publisher(mqtt, "test", Outbox(), Metrics("test", "0"))
            attempts = _count(publisher)
            logging.getLogger("edge.mqtt").addHandler(heard)
            publisher.start()
            time.sleep(seconds)
            ready, most = publisher.connected.is_set(), _most_attempts(seconds)
            publisher.stop(1)
            logging.getLogger("edge.mqtt").removeHandler(heard)
        clear = len(heard.lines) == 1 and says in heard.lines[0]
        said = "; ".join(heard.lines)
        figure = f"{len(attempts)} attempts in {seconds:.0f} s, {'' if ready else 'not '}ready, said: {said}"
        bar = f"≤ {most} attempts (one a back-off step), not ready, one clear line"
        yield Row(name, figure, bar, 1 < len(attempts) <= most and not ready and clear)


class _Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _count(publisher: Publisher) -> list[float]:
    """Return a list that will have the time of each attempt to connect: each has a session of its own."""
    attempts: list[float] = []
    make = publisher._make_session

    def counting(protocol: MQTTProtocolVersion) -> Session:
        attempts.append(time.monotonic())
        return make(protocol)

    publisher._make_session = counting  # type: ignore[method-assign]
    return attempts


def _encrypted(folder: Path, authority: Authority, days: int) -> Mosquitto:
    certificate, key = authority.sign(days=days, stem=folder.name)
    files = {"cafile": str(authority.ca), "certfile": str(certificate), "keyfile": str(key)}
    return Mosquitto(folder, None, None, persistent=False, **files)


def same_name(folder: Path, short: bool) -> Iterator[Row]:
    """Another daemon has the same name: each connection of the one ends that of the other."""
    seconds = 15.0 if short else 60.0
    with Bench(folder) as bench, bench.daemon as daemon:
        config = {**daemon.config, "metrics": settings_for(None)["metrics"]}
        bench.wait_made(10)
        with Daemon(config, folder / "rival") as rival:
            rival.wait_for_log("connected", 20)
            broker_log = bench.broker.log.read_text()
            started = time.monotonic()
            time.sleep(seconds)
            took = time.monotonic() - started
            connections = bench.broker.log.read_text().removeprefix(broker_log).count("as emotion-edge-test")
            said = [sum("`node` of its own" in line for line in each.lines()) for each in (daemon, rival)]
            running = daemon.running and rival.running
        outcome = bench.outcome()
    most = 2 * _most_attempts(took) + 2
    figure = (
        f"{connections} connections in {took:.0f} s, said {said[0]} and {said[1]} times, {outcome.lost} of "
        f"{outcome.committed} committed events lost"
    )
    held = running and connections <= most and said == [1, 1] and not outcome.lost
    yield Row("two daemons with one name", figure, f"≤ {most} connections, said once each, 0 lost", held)


def _most_attempts(seconds: float) -> int:
    """Return how many attempts the growing pauses leave room for: the first one and one after each pause."""
    attempts, at = 1, 0.0
    for pause in itertools.chain(BACK_OFF, itertools.repeat(BACK_OFF[-1])):
        at += pause * (1 - JITTER)
        if at > seconds:
            return attempts
        attempts += 1
    raise AssertionError("not reached")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _written(pid: int) -> int:
    """Return the bytes that a process has sent to disks."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("write_bytes")))


def _moments(daemon: ReportingDaemon) -> set[float]:
    return {report.time for report in daemon.reports("committed")}


FAULTS: tuple[Fault, ...] = (
    broker_down,
    long_outage,
    broker_killed,
    daemon_killed,
    never_acknowledges,
    refuses,
    latency_and_wear,
    disk_fails,
    clock_steps,
    fuzzed_commands,
    refused_logins,
    same_name,
    *CAMERA_FAULTS,
    *PIPELINE_FAULTS,
)


def main() -> int:
    """Print a row each; returns 1 if one fell short."""
    as_json, short = "--json" in sys.argv, "--short" in sys.argv
    wanted = [name for name in sys.argv[1:] if not name.startswith("-")]
    rows = []
    for fault in FAULTS:
        if wanted and fault.__name__ not in wanted:
            continue
        folder = Path(tempfile.mkdtemp(prefix="faults-"))
        try:
            for row in fault(folder, short):
                rows.append(row)
                if not as_json:
                    print(f"{'held ' if row.held else 'SHORT'}  {row.fault}: {row.figure} (bar: {row.bar})", flush=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    return int(not all(row.held for row in rows))


if __name__ == "__main__":
    sys.exit(main())
