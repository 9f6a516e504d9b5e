"""The part of `make faults` about the daemon itself, its disk and its clock."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.parts import eventually
from tests.parts.delivery import Delivery
from tests.parts.reporting import PLACES
from tests.parts.rows import Fault, Row

#: What a kill can cost, by the design: the events of the last 50 ms.
GROUP = 0.05
#: How long a daemon may take to come to the place at which it kills itself, seconds.
COMES = 90.0


def daemon_killed(folder: Path, short: bool) -> Iterator[Row]:
    """The daemon is killed at each place of its work, and anywhere, while events are made."""
    times, queued = (8, 100) if short else (100, 1_000)
    chance, kills = random.Random(6), Counter[str]()
    most, oldest = 0, 0.0
    with Delivery(folder, pace="fast") as run:
        while sum(kills.values()) < times:
            for place in ("with no broker", "during drain", *PLACES[:-1], "anywhere")[: times - sum(kills.values())]:
                before = set(run.daemon.ids("made"))
                place = _kill(run, place, chance, queued)
                kills[place] += 1
                ages = _lost_before_commit(run, before)
                most, oldest = max(most, len(ages)), max(oldest, *ages, 0.0)
            queued = 60
        outcome = run.outcome()
        damaged = len(list(run.daemon.outbox.parent.glob("*.damaged-*")))
    held = not (outcome.lost or outcome.disordered or damaged or set(PLACES) - set(kills)) and outcome.faces_held
    places = ", ".join(f"{count} {place}" for place, count in kills.items())
    yield Row(
        f"daemon kill -9 ×{times}",
        f"{outcome}; {damaged} damaged files; {places}",
        "0 lost, 0 damaged, every start has its end, each place at least once",
        held,
    )
    figure = f"{most} in one kill, made {1000 * oldest:.0f} ms before it at the earliest"
    yield Row("lost before the commit by a kill -9", figure, "≤ 50 ms", oldest <= GROUP, speed=True)


def _kill(run: Delivery, place: str, chance: random.Random, queued: int) -> str:
    """Start the daemon and have it killed at a place; returns where that was, should it not come there."""
    environment, made = run.daemon.environment, len(run.daemon.ids("made"))
    away = place == "with no broker"
    if away:
        run.broker.stop()
    if place in PLACES:
        environment["KILL"] = f"{place}:{chance.randint(1, 3 if place == 'during start' else 25)}"
    run.daemon.launch()
    try:
        if place in PLACES:
            run.daemon.wait(COMES)
        else:
            run.wait_made(made + (queued if away else 1))
            time.sleep(chance.uniform(0.0, 1.5))
    except AssertionError:
        place = "anywhere"
    run.daemon.close()
    environment.pop("KILL", None)
    if away:
        run.broker.start()
    return place


def _lost_before_commit(run: Delivery, before: set[str]) -> list[float]:
    """Return the ages at the kill, in seconds, of the events that were made since and not committed."""
    committed = set(run.daemon.ids("committed"))
    made = [report for report in run.daemon.reports("made") if report.id not in before]
    last = [reports[-1].time for kind in ("made", "committed", "killed") if (reports := run.daemon.reports(kind))]
    return [max(last) - report.time for report in made if report.id not in committed]


def power_loss(folder: Path, short: bool) -> Iterator[Row]:
    """The power fails while events wait: of each file there is what it held when it was synced last."""
    for durability in ("full", "normal"):
        home = folder / durability
        disk = home / "disk"
        with Delivery(home, outbox={"durability": durability}) as run:
            run.broker.stop()
            run.daemon.environment["DISK"] = str(disk)
            with run.daemon as daemon:
                run.wait_made(40 if short else 400)
                daemon.kill()
            del run.daemon.environment["DISK"]
            shutil.rmtree(daemon.outbox.parent)
            disk.rename(daemon.outbox.parent)
            run.broker.start()
            outcome = run.outcome(patience=10.0 if durability == "full" else 0.5)
        if durability == "full":
            held = not (outcome.lost or outcome.disordered)
            yield Row("power loss, durability full", str(outcome), "0 committed events lost", held)
        else:
            # It also shows that the simulation takes away what was not synced.
            figure = f"{outcome.lost} of {outcome.committed} committed events lost"
            yield Row("power loss, durability normal", figure, "some, as documented", outcome.lost > 0)


def disk_fails(folder: Path, short: bool) -> Iterator[Row]:
    """The disk is full, then has room again; the folder cannot be written; bits are flipped."""
    del short
    yield from _full(folder / "full")
    yield from _no_folder(folder / "no-folder")
    yield from _read_only(folder / "read-only")
    yield from _flipped(folder / "flipped")


def _full(folder: Path) -> Iterator[Row]:
    """The disk of the outbox is filled by something else, and later has room again."""
    fault, bar = "disk full", "running, said, 0 lost, in order, every start has its end"
    with Delivery(folder) as run:
        state = run.daemon.outbox.parent
        if why := _why_no_disk(state, "1m"):
            yield Row(fault, f"not tried: {why}", bar, held=False, tried=False)
            return
        try:
            with run.daemon as daemon:
                run.wait_made(10)
                filler = state / "filler"
                _fill(filler)
                daemon.wait_for_log("database or disk is full", 60)
                made = len(daemon.ids("made"))
                run.wait_made(made + 20)
                durable, running = daemon.value("emotion_edge_outbox_durable"), daemon.running
                filler.unlink()
                eventually(lambda: daemon.value("emotion_edge_outbox_durable") == 1, 60, "file in use", daemon.tail)
                outcome = run.outcome()
            lost = len(set(daemon.ids("made")) - run.received())
        finally:
            run.daemon.close()
            subprocess.run(["umount", str(state)], check=True)
    held = running and not (lost or outcome.disordered or durable) and outcome.faces_held
    yield Row(fault, f"{lost} of {outcome.made} lost, {outcome.disordered} out of order", bar, held)


def _fill(file: Path) -> None:
    """Write to a file until there is no room for more."""
    with file.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(b"x" * 512):
            pass


def _no_folder(folder: Path) -> Iterator[Row]:
    """Nothing can be written where the outbox is to be, not even by root."""
    with Delivery(folder) as run:
        run.daemon.config["outbox"] = {"path": "/proc/outbox.db"}
        with run.daemon as daemon:
            daemon.wait_for_log("events wait in memory", 30)
            run.wait_made(20)
            problem = daemon.value("emotion_edge_outbox_durable") == 0
            received = eventually(lambda: len(run.subscriber.messages) >= 10 and len(run.subscriber.messages), 30, "")
            daemon.stop()
    yield Row("state folder cannot be written", f"{received} events delivered", "running, said, delivered", problem)


def _read_only(folder: Path) -> Iterator[Row]:
    """The disk with a queue on it is mounted read-only, as systems do with one that fails, and later is not."""
    fault, bar = "disk mounted read-only, with a queue", "running, said, 0 lost, then in use again"
    with Delivery(folder) as run:
        state = run.daemon.outbox.parent
        if why := _why_no_disk(state, "64m"):
            yield Row(fault, f"not tried: {why}", bar, held=False, tried=False)
            return
        try:
            run.broker.stop()
            with run.daemon as daemon:
                run.wait_made(40)
                daemon.stop()
            _mount("-o", "remount,ro", state)
            run.broker.start()
            with run.daemon as daemon:
                daemon.wait_for_log("Read-only|read-only|readonly", 60)
                made = len(daemon.ids("made"))
                run.wait_made(made + 10)
                eventually(lambda: len(run.received()) > made, 60, "events", daemon.tail)
                durable = daemon.value("emotion_edge_outbox_durable")
                _mount("-o", "remount,rw", state)
                eventually(lambda: daemon.value("emotion_edge_outbox_durable") == 1, 60, "file in use", daemon.tail)
                outcome = run.outcome()
            lost = len(set(run.daemon.ids("made")) - run.received())
        finally:
            run.daemon.close()
            subprocess.run(["umount", str(state)], check=True)
    held = not (lost or outcome.disordered or durable) and outcome.faces_held
    yield Row(fault, f"{lost} of {outcome.made} lost, {outcome.doubled} doubled", bar, held)


def _why_no_disk(folder: Path, size: str) -> str:
    """Mount a disk of its own, of a size such as `64m`, as a folder; returns why that is refused, or nothing."""
    folder.mkdir(parents=True)
    try:
        _mount("-t", "tmpfs", "-o", f"size={size}", "emotion-edge-test", folder)
    except subprocess.CalledProcessError as error:
        return str(error.stderr).strip()
    return ""


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True, capture_output=True, text=True)


def _flipped(folder: Path) -> Iterator[Row]:
    flips = random.Random(6)
    with Delivery(folder) as run:
        run.broker.stop()
        with run.daemon as daemon:
            run.wait_made(60)
            daemon.stop()
        content = bytearray(daemon.outbox.read_bytes())
        for _ in range(3):
            content[flips.randrange(4096, len(content))] ^= 1 << flips.randrange(8)
        daemon.outbox.write_bytes(content)
        run.broker.start()
        outcome = run.outcome()
        aside = len(list(daemon.outbox.parent.glob("*.damaged-*")))
    figure = f"{outcome}; {outcome.dropped} counted as dropped, {aside} damaged files set aside"
    # What a file that cannot be read has lost nobody can count; then it is kept.
    held = outcome.lost <= 15 and not outcome.disordered and (outcome.dropped >= outcome.lost or aside > 0)
    yield Row("3 flipped bits in a queue", figure, "in order, all but a page for each delivered, said", held)


def clock_steps(folder: Path, short: bool) -> Iterator[Row]:
    """The wall clock steps while events are made."""
    del short
    for step in (-3600, 3600):
        with Delivery(folder / str(step)) as run:
            run.daemon.environment["CLOCK_STEP"] = str(step)
            with run.daemon as daemon:
                run.wait_made(30)
                stalls = daemon.value("emotion_edge_watchdog_stalls_total")
                daemon.kill()
            run.daemon.environment["CLOCK_STEP"] = "0"
            outcome = run.outcome()
        held = not (outcome.lost or outcome.disordered or stalls) and outcome.faces_held
        yield Row(f"clock {step:+d} s, then kill -9", str(outcome), "0 lost, in order, no stall", held)


DAEMON_FAULTS: tuple[Fault, ...] = (daemon_killed, power_loss, disk_fails, clock_steps)
