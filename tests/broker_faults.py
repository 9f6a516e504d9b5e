"""The part of `make faults` about the broker and the way to it."""

from __future__ import annotations

import itertools
import json
import logging
import random
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paho.mqtt.enums import MQTTProtocolVersion

from edge.events import Event
from edge.logs import CAUSE
from edge.metrics import Metrics
from edge.mqtt import BACK_OFF, JITTER, LAST_WILL, Publisher
from edge.outbox import GROUP, Outbox
from edge.session import FINAL_REFUSALS, WINDOW, Session
from edge.settings import MqttSettings
from tests.parts import eventually
from tests.parts.broker import Mosquitto
from tests.parts.camera import Authority
from tests.parts.daemon import Daemon
from tests.parts.delivery import Delivery
from tests.parts.reporting import ReportingDaemon
from tests.parts.rows import Fault, Row
from tests.parts.samples import make_event
from tests.parts.settings import settings_for
from tests.parts.stubborn import StubbornBroker
from tests.parts.subscriber import Subscriber

REFUSALS = ((0x87, "not authorised"), (0x97, "quota exceeded"), (0x99, "payload invalid"))
STATUS = "emotion/test/status"
RETAINED = {
    *(STATUS, *(f"emotion/test/cam/{kind}" for kind in ("status", "emotion", "summary"))),
    "homeassistant/device/test/config",
}


def broker_down(folder: Path, short: bool) -> Iterator[Row]:
    """The broker is away while events are made."""
    seconds = 5 if short else 60
    with Delivery(folder) as run, run.daemon:
        run.wait_made(20)
        run.broker.stop()
        time.sleep(seconds)
        run.broker.start()
        outcome = run.outcome()
    held = not (outcome.lost or outcome.uncommitted or outcome.disordered or outcome.doubled > WINDOW)
    yield Row(f"broker down {seconds} s", str(outcome), f"0 lost, in order, ≤ {WINDOW} doubled", held)


def broker_killed(folder: Path, short: bool) -> Iterator[Row]:
    """The broker is killed while events are published."""
    times = 3 if short else 20
    with Delivery(folder) as run, run.daemon:
        for _ in range(times):
            made = len(run.daemon.ids("made"))
            run.wait_made(made + 8)
            run.broker.kill()
            run.broker.start()
            eventually(lambda: run.daemon.value("emotion_edge_mqtt_connected") == 1, 60, "connection")
        outcome = run.outcome()
    yield Row(f"broker kill -9 ×{times}", str(outcome), "0 lost", not outcome.lost)


def long_outage(folder: Path, short: bool) -> Iterator[Row]:
    """The broker is away for as many events as an hour has, which the pipeline makes as fast as it can."""
    count = 300 if short else 36_000
    with Delivery(folder, pace="fast") as run:
        run.broker.stop()
        run.daemon.environment["REMEMBER"] = "yes"
        started = time.monotonic()
        with run.daemon as daemon:
            run.wait_made(count, 3600)
            took = time.monotonic() - started
            run.broker.start()
            eventually(lambda: daemon.value("emotion_edge_mqtt_connected") == 1, 60, "connection", daemon.tail)
            outcome = run.outcome()
    held = not (outcome.lost or outcome.uncommitted or outcome.disordered or outcome.doubled > WINDOW)
    fault = f"outage of {count / 10 / 60:g} min at 10 events/s, in {took:.0f} s"
    yield Row(fault, str(outcome), f"0 lost, in order, ≤ {WINDOW} doubled", held)


def drain(folder: Path, short: bool) -> Iterator[Row]:
    """A queue of an hour is delivered after a start."""
    count = 3_000 if short else 36_000
    path = folder / "outbox.db"
    with (
        Mosquitto(folder / "broker", max_queued_messages=0) as broker,
        Subscriber(broker.port, ("emotion/test/camera/event",)) as subscriber,
    ):
        queue = Outbox(path)
        queue.start()
        for first in range(1, count + 1, 100):
            queue.put(make_event(seq, type="end", duration=1.0, reason="left") for seq in range(first, first + 100))
        queue.stop(60)
        queue, metrics = Outbox(path), Metrics("test", "0")
        queue.start()
        publisher = Publisher(MqttSettings(port=broker.port), "test", queue, metrics)
        publisher.start()
        eventually(publisher.connected.is_set, 30, "connection")
        started = time.monotonic()
        queue.wait_empty(300)
        rate = count / (time.monotonic() - started)
        publisher.stop(5)
        queue.stop(5)
        eventually(lambda: len(subscriber.messages) >= count, 60, "last events", lambda: len(subscriber.messages))
        received = [message.payload["seq"] for message in subscriber.messages]
    yield Row(f"queue of {count:,}", f"{count - len(set(received))} lost", "0 lost", received == [*range(1, count + 1)])
    yield Row("outbox drain", f"{rate:,.0f} events/s", "≥ 1,000 events/s", rate >= 1000, speed=True)


def forgetful_broker(folder: Path, short: bool) -> Iterator[Row]:
    """A broker comes back and has forgotten what was retained; then a last will comes late."""
    del short
    # The next summary would come too late to be taken for the one that was forgotten.
    with Delivery(folder, persists=False, summary={"period": 12}) as run, run.daemon as daemon:
        daemon.wait_for_ready()
        run.wait_made(5)
        with Subscriber(run.broker.port) as subscriber:
            subscriber.wait_for(lambda m: m.topic == "emotion/test/cam/summary", 30)
        lines = len(daemon.lines())
        run.broker.kill()
        run.broker.start()
        with Subscriber(run.broker.port) as subscriber:
            daemon.wait_for_log("connected", 30, start=lines)
            started = time.monotonic()
            eventually(lambda: {m.topic for m in subscriber.messages if m.raw} >= RETAINED, 30, "states", daemon.tail)
            again = max(0.0, time.monotonic() - started)
            with Subscriber(run.broker.port, tuple(RETAINED)) as late:
                eventually(lambda: {m.topic for m in late.messages if m.retain} == RETAINED, 10, "retained states")
            started, seen = time.monotonic(), len(subscriber.messages)
            subscriber.publish(STATUS, LAST_WILL, retain=True)
            said = subscriber.wait_for(
                lambda m: m.topic == STATUS and m.payload["state"] == "online", 30, "own status", seen
            )
    yield Row("broker forgot what was retained", f"all there {again:.1f} s after the reconnect", "≤ 5 s", again <= 5)
    took = said.time - started
    yield Row("a last will comes late", f"overruled after {took:.2f} s", "≤ 5 s", took <= 5)


def network_thread_dies(folder: Path, short: bool) -> Iterator[Row]:
    """The thread in which paho hears the broker ends without a word."""
    del short
    with Mosquitto(folder / "broker") as broker:
        queue, published = Outbox(), list[Event]()
        publisher = Publisher(MqttSettings(port=broker.port), "test", queue, Metrics("test", "0"), published.append)
        publisher.start()
        eventually(publisher.connected.is_set, 30, "connection")
        session = publisher._session
        assert session is not None
        session.client.on_publish = lambda *_: sys.exit()
        queue.put(make_event(seq) for seq in range(1, 6))
        eventually(lambda: not session.client._thread or not session.client._thread.is_alive(), 30, "dead thread")
        started = time.monotonic()
        eventually(lambda: not publisher.connected.is_set(), 30, "notice")
        noticed = time.monotonic() - started
        eventually(lambda: len(published) == 5, 30, "events")
        publisher.stop(2)
    figure = f"noticed after {noticed:.1f} s, {5 - len(published)} of 5 lost"
    yield Row("network thread dies", figure, "≤ 5 s, 0 lost", noticed <= 5)


def never_acknowledges(folder: Path, short: bool) -> Iterator[Row]:
    """A broker takes everything and acknowledges nothing."""
    if short:
        return  # takes half a minute; tests/test_mqtt.py has it with a shorter limit
    with StubbornBroker(lambda _topic: None) as stubborn, Delivery(folder) as run:
        run.daemon.config["mqtt"]["port"] = stubborn.port
        with run.daemon as daemon:
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
    for reason, meaning in REFUSALS:
        refusing = [True]
        final = reason in FINAL_REFUSALS

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


def too_large(folder: Path, short: bool) -> Iterator[Row]:
    """A broker takes no more than so many bytes at once."""
    del short
    with Mosquitto(folder / "broker", max_packet_size=1200) as broker:
        queue, metrics, published = Outbox(folder / "outbox.db"), Metrics("test", "0"), list[Event]()
        queue.start()
        queue.put(make_event(seq, model="m" * (1000 if seq < 6 else 1)) for seq in range(1, 7))
        publisher = Publisher(MqttSettings(port=broker.port), "test", queue, metrics, published.append)
        publisher.start()
        eventually(lambda: len(queue) == 0, 20, "empty queue")
        refused, lost = metrics.events_dropped["refused"]._value.get(), metrics.mqtt_reconnects._value.get()
        publisher.stop(2)
        queue.stop(2)
    figure = f"{len(published)} of 6 delivered, {refused:.0f} set aside and counted, {lost:.0f} connections lost"
    held = (len(published), refused, lost) == (1, 5, 0)
    yield Row("broker refuses 5: too large", figure, "counted, the rest delivered", held)


def latency_and_wear(folder: Path, short: bool) -> Iterator[Row]:
    """Nothing fails: how long events take, and what they cost the disk."""
    seconds = 8 if short else 60
    for durability in ("full", "normal"):
        settings: dict[str, Any] = {"outbox": {"durability": durability}}
        with Delivery(folder / durability, persists=False, **settings) as run, run.daemon as daemon:
            daemon.wait_for_ready()
            run.wait_made(30)
            events, written = len(daemon.ids("made")), _written(daemon.pid)
            commits, started = len(_moments(daemon)), time.monotonic()
            time.sleep(seconds)
            run.wait_made(120)  # enough for the figures, on a slow machine too
            hours = (time.monotonic() - started) / 3600
            events, written = len(daemon.ids("made")) - events, _written(daemon.pid) - written
            commits = len(_moments(daemon)) - commits
            outcome = run.outcome()
        made = {report.id: report.time for report in daemon.reports("made")}
        seen = {message.payload["id"]: message.time for message in reversed(run.subscriber.messages)}
        took = sorted(seen[name] - made[name] for name in list(made)[30:-20] if name in seen)
        p50, p99 = 1000 * statistics.median(took), 1000 * took[int(0.99 * len(took))]
        if durability == "full":
            figure = f"p50 {p50:.0f} ms, p99 {p99:.0f} ms of {len(took)} events"
            held = p50 <= 60 and p99 <= 120
            yield Row("event made → subscriber, QoS 1, full", figure, "≤ 60 / 120 ms", held, speed=True)
            # Few events come while another waits, so nearly all have waited in full.
            beyond = p50 - 1000 * GROUP
            figure = f"{beyond:.1f} ms more than the {1000 * GROUP:.0f} ms, in the middle"
            yield Row("beyond the group wait", figure, "≤ 5 ms", beyond <= 5, speed=True)
        figure = (
            f"{commits / hours:,.0f} commits and {written / hours / 2**20:,.0f} MiB to the disk an hour at "
            f"{events / hours / 3600:.1f} events/s"
        )
        yield Row(f"writes, durability {durability}", figure, "measured", not outcome.lost)


def fuzzed_commands(folder: Path, short: bool) -> Iterator[Row]:
    """Somebody who may publish to the daemon's topics sends what comes to mind."""
    count = 1_000 if short else 10_000
    chance = random.Random(6)
    with Delivery(folder, commands={"allow": ["pause", "resume", "threshold", "reload", "snapshot"]}) as run:
        with run.daemon as daemon, Subscriber(run.broker.port, ("emotion/test/+/response",)) as sender:
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
            run.wait_made(made + 10)
        outcome = run.outcome()
    # Not taken, done, done with a warning, failed, failed for a mistake of ours, and what reading the model anew says:
    # so many of each a minute, and how many were left out.
    most = 6 * int(minutes + 1) * (CAUSE + 1)
    figure = (
        f"{sum(counted.values())} counted ({', '.join(f'{v} {k}' for k, v in counted.items() if v)}), {lines} lines in "
        f"the log, {outcome.lost} events lost, {outcome.unended} starts without end, {outcome.ended_again} with two"
    )
    held = not outcome.lost and outcome.faces_held and lines <= most and sum(counted.values()) >= count
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
    with Delivery(folder) as run, run.daemon as daemon:
        config = {**daemon.config, "metrics": settings_for(None)["metrics"]}
        run.wait_made(10)
        with Daemon(config, folder / "rival") as rival:
            rival.wait_for_log("connected", 20)
            broker_log = run.broker.log.read_text()
            started = time.monotonic()
            time.sleep(seconds)
            took = time.monotonic() - started
            connections = run.broker.log.read_text().removeprefix(broker_log).count("as emotion-edge-test")
            said = [sum("`node` of its own" in line for line in each.lines()) for each in (daemon, rival)]
            running = daemon.running and rival.running
        outcome = run.outcome()
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


BROKER_FAULTS: tuple[Fault, ...] = (
    broker_down,
    long_outage,
    drain,
    broker_killed,
    forgetful_broker,
    network_thread_dies,
    never_acknowledges,
    refuses,
    too_large,
    latency_and_wear,
    fuzzed_commands,
    refused_logins,
    same_name,
)
