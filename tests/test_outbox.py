"""The queue of events: in memory, in its file, over restarts, and with a file that fails."""

import contextlib
import json
import os
import shutil
import sqlite3
import threading
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edge.outbox
import edge.store
from edge.events import decode_event
from edge.outbox import Outbox
from edge.store import ForeignFileError, Message, OutboxBusyError, Remains, Store
from tests.parts import eventually
from tests.parts.samples import FACE, make_event
from tests.parts.schema import validate_event


class Told:
    """Counts what was dropped."""

    def __init__(self):
        self.dropped = {}

    def __call__(self, reason, count):
        self.dropped[reason] = self.dropped.get(reason, 0) + count


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "outbox.db"


@pytest.fixture
def start(path, told):
    """Start outboxes on the file, one after the other; `crash` leaves the file as a dying process does."""
    made = []

    def make(**arguments):
        outbox = Outbox(path, dropped=told, **arguments)
        outbox.start()
        made.append(outbox)
        return outbox

    yield make
    for outbox in made:
        if outbox._thread.is_alive():
            outbox.stop(30)


def crash(outbox, path):
    """Leave the file behind as it is now, without an orderly end."""
    copy = path.parent / "copy"
    copy.mkdir()
    with outbox._changed:
        for file in path.parent.glob("outbox.db*"):
            shutil.copy(file, copy / file.name)
    outbox.stop(30)
    for file in path.parent.glob("outbox.db*"):
        file.unlink()
    for file in copy.iterdir():
        shutil.copy(file, path.parent / file.name)
    shutil.rmtree(copy)


def offered(outbox, count=None):
    """The events on offer, in order; waits for as many as are told."""
    events = []
    while (message := outbox.offer(0 if count is None else 30)) is not None:
        events.append(decode_event(message.payload))
        if len(events) == count:
            break
    return events


def numbers(events):
    return [event.seq for event in events]


def end(seq):
    """An event that leaves no face open."""
    return make_event(seq, type="end", duration=1.0, reason="left")


def delivered(outbox, count):
    """Take and acknowledge so many events, one after the other; returns their numbers."""
    received = []
    for _ in range(count):
        message = outbox.offer(30)
        received.append(decode_event(message.payload).seq)
        outbox.acknowledge(message.id)
    return received


def committed(outbox):
    """Wait until nothing is to be written, nor being written."""

    def idle():
        with outbox._changed:
            return not (outbox._waiting.incoming or outbox._next_changes) and outbox._busy_since is None

    eventually(idle, 30, "commit")


def test_first_in_first_out_of_all_cameras():
    outbox = Outbox()
    events = [make_event(seq, camera) for seq in range(1, 6) for camera in ("a", "b")]
    for event in events:
        outbox.put([event])
    assert offered(outbox) == events
    assert len(outbox) == 10


def test_offered_events_stay_until_acknowledged():
    outbox = Outbox()
    outbox.put(make_event(seq) for seq in (1, 2, 3))
    first = outbox.offer(0)
    assert outbox.acknowledge(first.id) == first
    assert outbox.acknowledge(first.id) is None
    assert outbox.acknowledge("unknown") is None
    assert len(outbox) == 2


def test_withdrawn_events_are_offered_again_oldest_first():
    outbox = Outbox()
    outbox.put(make_event(seq) for seq in range(1, 5))
    outbox.offer(0), outbox.offer(0), outbox.offer(0)
    outbox.acknowledge(make_event(2).id)
    outbox.withdraw()
    assert numbers(offered(outbox)) == [1, 3, 4]


def test_full_queue_drops_the_oldest_that_is_not_under_way_and_says_how_many(told):
    outbox = Outbox(most_bytes=3 * len(make_event(1).encode()), dropped=told)
    outbox.put(make_event(seq) for seq in (1, 2))
    assert numbers([decode_event(outbox.offer(0).payload)]) == [1]
    outbox.put(make_event(seq) for seq in (3, 4, 5))
    assert told.dropped == {"overflow": 2}
    assert numbers(offered(outbox)) == [4, 5]
    assert outbox.acknowledge(make_event(1).id).id == make_event(1).id


@given(
    st.integers(1, 8),
    st.lists(st.one_of(st.just("offer"), st.just("acknowledge"), st.just("withdraw"), st.integers(1, 5)), max_size=60),
)
def test_no_event_is_lost_doubled_or_out_of_order(limit, steps):
    told = Told()
    size = len(make_event(100).encode())
    outbox = Outbox(most_bytes=limit * size, dropped=told)
    made, delivered, under_way = 100, [], []
    for step in steps:
        if step == "offer":
            message = outbox.offer(0)
            event = message and decode_event(message.payload)
            assert event is None or event.seq not in numbers(under_way)
            under_way += [event] if event else []
        elif step == "acknowledge" and under_way:
            event = under_way.pop(0)
            assert outbox.acknowledge(event.id).id == event.id
            delivered.append(event)
        elif step == "withdraw":
            outbox.withdraw()
            under_way = []
        elif isinstance(step, int):
            outbox.put(make_event(made + number) for number in range(1, step + 1))
            made += step
        assert len(outbox) <= max(limit, len(under_way))
        assert numbers(under_way) == sorted(numbers(under_way))
    assert made - 100 == len(delivered) + told.dropped.get("overflow", 0) + len(outbox)
    assert numbers(delivered) == sorted(set(numbers(delivered)))


def test_offer_waits_for_an_event_and_no_longer_than_told():
    outbox = Outbox()
    started = time.monotonic()
    assert outbox.offer(0.05) is None
    assert 0.04 < time.monotonic() - started < 10
    later = threading.Timer(0.05, outbox.put, [[make_event()]])
    later.start()
    assert outbox.offer(10).id == make_event().id
    later.join()


def test_wait_empty_tells_whether_everything_was_acknowledged():
    outbox = Outbox()
    assert outbox.wait_empty(0)
    outbox.put([make_event()])
    assert not outbox.wait_empty(0.01)
    later = threading.Timer(0.05, outbox.acknowledge, [make_event().id])
    later.start()
    assert outbox.wait_empty(10)
    later.join()


def test_size_and_age_are_those_of_what_waits():
    outbox = Outbox()
    assert (outbox.bytes(), outbox.oldest_seconds()) == (0, 0.0)
    events = [make_event(1), make_event(2, emotion="anger")]
    outbox.put(events)
    assert outbox.bytes() == sum(len(event.encode()) for event in events)
    assert 0 <= outbox.oldest_seconds() < 5
    outbox.acknowledge(events[0].id)
    outbox.acknowledge(events[0].id)
    assert outbox.bytes() == len(events[1].encode())


def test_what_waits_outlives_a_stop_and_what_was_acknowledged_does_not_come_again(start):
    outbox = start()
    outbox.put(end(seq) for seq in range(1, 8))
    outbox.put_message(Message("s-1", "camera", "summary", b"{}"))
    assert numbers(offered(outbox, 7)) == list(range(1, 8))
    outbox.acknowledge(end(1).id), outbox.acknowledge(end(4).id)
    assert outbox.stop(30) == 0
    again = start()
    assert len(again) == 6
    assert numbers(offered(again, 5)) == [2, 3, 5, 6, 7]
    assert again.offer(30) == Message("s-1", "camera", "summary", b"{}")
    assert again.bytes() == sum(len(end(seq).encode()) for seq in (2, 3, 5, 6, 7)) + 2


def test_what_was_committed_outlives_a_crash(start, path):
    outbox = start()
    outbox.put(end(seq) for seq in range(1, 20))
    assert len(offered(outbox, 19)) == 19
    crash(outbox, path)
    again = start()
    assert numbers(offered(again, 19)) == list(range(1, 20))


def test_nothing_is_offered_before_it_is_committed_and_nobody_waits_for_the_disk(start, monkeypatch):
    outbox = start()
    gate, writing = threading.Event(), threading.Event()
    commit = Store.commit

    def slow(store, changes):
        writing.set()
        assert gate.wait(20)
        commit(store, changes)

    monkeypatch.setattr(Store, "commit", slow)
    outbox.put([end(1)])
    assert writing.wait(20)
    started = time.monotonic()
    outbox.put(end(seq) for seq in range(2, 200))
    assert (len(outbox), outbox.bytes() > 0, outbox.oldest_seconds() >= 0) == (199, True, True)
    assert time.monotonic() - started < 10, "it waited for the disk"
    assert outbox.offer(0.1) is None
    assert outbox.stuck(time.monotonic() + 31)
    assert not outbox.stuck(time.monotonic())
    gate.set()
    assert numbers(offered(outbox, 199)) == list(range(1, 200))


def test_events_of_one_moment_are_one_commit(start, monkeypatch):
    outbox = start()
    groups, commit = [], Store.commit
    monkeypatch.setattr(Store, "commit", lambda store, changes: (groups.append(changes), commit(store, changes)))
    events = [end(seq) for seq in range(1, 51)]
    outbox.put(events)
    offered(outbox, 50)
    sizes = [len(group.add) for group in groups if group.add]
    assert sum(sizes) == 50
    assert len(sizes) <= 5, "a busy machine may need longer than a group for the making"


def test_a_long_queue_is_read_from_the_file_in_parts(start, monkeypatch):
    monkeypatch.setattr(edge.outbox, "PAGE", 10)
    outbox = start()
    for first in range(1, 101, 5):
        outbox.put(end(seq) for seq in range(first, first + 5))
        committed(outbox)
    assert len(outbox._waiting.ready) <= 10
    assert len(outbox) == 100
    received = []
    while len(received) < 100:
        event = decode_event(outbox.offer(30).payload)
        received.append(event.seq)
        outbox.acknowledge(event.id)
        if len(received) == 50:
            outbox.put([end(101)])
    assert received == list(range(1, 101))
    assert numbers(offered(outbox, 1)) == [101]
    assert len(outbox) == 1
    assert outbox.bytes() == len(end(101).encode())


@pytest.mark.parametrize("page", [2, 512], ids=["mostly on disk", "in memory"])
def test_full_file_drops_the_oldest_and_counts(start, told, monkeypatch, page):
    monkeypatch.setattr(edge.outbox, "PAGE", page)
    size = len(end(100).encode())
    outbox = start(most_bytes=10 * size)
    for seq in range(100, 130):
        outbox.put([end(seq)])
    committed(outbox)
    eventually(lambda: told.dropped == {"overflow": 20}, 30, "bound", lambda: told.dropped)
    assert len(outbox) == 10
    assert delivered(outbox, 10) == list(range(120, 130))
    assert outbox.offer(0.3) is None


@pytest.mark.parametrize("page", [2, 512], ids=["mostly on disk", "in memory"])
def test_old_messages_are_dropped_and_counted_whatever_the_wall_clock_says(start, told, monkeypatch, page):
    monkeypatch.setattr(edge.outbox, "PAGE", page)
    outbox = start(most_seconds=3600)
    outbox.put(end(seq) for seq in range(1, 9))
    committed(outbox)
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 7200)
    outbox._expire_at = 0
    outbox.put([end(9)])
    committed(outbox)
    assert told.dropped == {}, "a step of the clock makes nothing old"
    outbox.stop(30)
    again = start(most_seconds=3600)
    eventually(lambda: told.dropped == {"expired": 9}, 30, "expiry", lambda: told.dropped)
    assert len(again) == 0


def test_what_was_made_before_a_clock_went_back_is_not_passed_over(start, monkeypatch):
    monkeypatch.setattr(edge.outbox, "PAGE", 2)
    outbox = start(most_seconds=3600)
    outbox.put(end(seq) for seq in range(1, 9))
    committed(outbox)
    outbox._wall -= 7200
    outbox.put(end(seq) for seq in range(9, 13))
    committed(outbox)
    outbox.stop(30)
    again = start(most_seconds=3600)
    assert delivered(again, 8) == list(range(1, 9))


def test_numbers_go_on_after_a_stop(start):
    outbox = start()
    assert [outbox.number("a"), outbox.number("a"), outbox.number("b")] == [1, 2, 1]
    outbox.stop(30)
    again = start()
    assert again.epoch == outbox.epoch
    assert [again.number("a"), again.number("b"), again.number("c")] == [3, 2, 1]


@pytest.mark.parametrize("step", [-3600, 0, 3600])
def test_numbers_never_go_back_after_a_crash_whatever_the_clock_says(start, path, monkeypatch, step):
    outbox = start()
    before = (outbox.epoch, outbox.number("a"))
    crash(outbox, path)
    clock, nanoseconds = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: clock() + step)
    monkeypatch.setattr(time, "time_ns", lambda: nanoseconds() + step * 10**9)
    again = start()
    assert (again.epoch, again.number("a")) > before


def test_faces_left_open_by_a_crash_are_ended_once(start, path):
    outbox = start()
    here = make_event(1)
    gone = make_event(2, face=replace(FACE, id="gone"))
    outbox.put([here, gone])
    outbox.put([make_event(3, face=gone.face, type="end", duration=1.0, reason="left")])
    outbox.put([make_event(4, type="change", previous="fear", duration=2.0, emotion="anger")])
    offered(outbox, 4)
    crash(outbox, path)
    again = start()
    last = offered(again, 5)[-1]
    assert (last.type, last.reason, last.face, last.emotion) == ("end", "restarted", here.face, "anger")
    assert (last.previous, last.epoch, last.seq, last.camera) == (None, again.epoch, 1, "camera")
    assert last.time == make_event(4).time
    assert last.duration == pytest.approx(last.time - last.first_seen)
    validate_event(json.loads(last.encode()))
    again.stop(30)
    assert len(start()) == 5, "ended once"


def test_a_face_that_came_and_went_within_a_group_is_not_ended_again(start, path):
    outbox = start()
    outbox.put([make_event(1), make_event(2, type="end", duration=1.0, reason="left")])
    offered(outbox, 2)
    crash(outbox, path)
    assert len(start()) == 2


def test_a_face_of_no_camera_is_forgotten(start, path):
    """What `faces` holds has no checksum, and the camera becomes part of a topic."""
    outbox = start()
    outbox.put([make_event(1)])
    offered(outbox, 1)
    crash(outbox, path)
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        (event,) = file.execute("SELECT event FROM faces").fetchone()
        file.execute("UPDATE faces SET event = ?", (event.replace(b'"camera":"camera"', b'"camera":"cam#ra"'),))
        assert b"cam#ra" in bytes(file.execute("SELECT event FROM faces").fetchone()[0])
    again = start()
    assert [event.camera for event in offered(again, 1)] == ["camera"]
    assert len(again) == 1
    again.put([end(5)])
    committed(again)
    again.stop(30)
    assert len(start()) == 2, "and not ended later"


def test_damaged_facts_of_the_last_run_are_damage(start, path, caplog):
    outbox = start()
    outbox.put([end(1)])
    committed(outbox)
    outbox.stop(30)
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE meta SET value = '{' WHERE key = 'numbers'")
    again = start()
    assert numbers(offered(again, 1)) == [1]
    assert again.epoch > outbox.epoch
    assert "set aside as outbox.db.damaged-" in caplog.text


def test_events_that_cannot_be_deleted_are_not_delivered_either(path, monkeypatch):
    """After a change to `privacy: aggregate`, on a disk that is full."""
    monkeypatch.setattr(edge.outbox, "RETRY", 0.05)
    monkeypatch.setattr(edge.outbox, "PAGE", 4)
    outbox = Outbox(path)
    outbox.start()
    outbox.put([make_event(0)])
    for seq in range(1, 10):
        outbox.put([end(seq)])
        outbox.put_message(Message(f"s{seq}", "camera", "summary", b"{}"))
    committed(outbox)
    outbox.stop(30)

    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Store, "forget", full)
    again = Outbox(path)
    again.start(keep_events=False)
    received = []
    while (message := again.offer(0.5)) is not None:
        received.append(message.id)
        again.acknowledge(message.id)
    assert received == [f"s{seq}" for seq in range(1, 10)]
    assert (len(again), again.bytes()) == (0, 0)
    eventually(lambda: not again.problem(), 30, "recovery")
    again.stop(30)
    with contextlib.closing(sqlite3.connect(path)) as file:
        left = [file.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("messages", "faces")]
    assert left == [0, 0]


def test_refused_messages_are_set_aside(start, path):
    outbox = start()
    outbox.put(end(seq) for seq in (1, 2, 3))
    offered(outbox, 3)
    assert outbox.refuse(end(2).id, "too large")
    assert not outbox.refuse(end(2).id, "too large")
    outbox.stop(30)
    remains = Remains(path)
    assert [(message.id, reason) for message, reason in remains.refused()] == [(end(2).id, "too large")]
    assert [row.message.id for row in remains.rows()] == [end(1).id, end(3).id]
    remains.close()


def test_one_file_has_one_daemon(start, path):
    start()
    with pytest.raises(OutboxBusyError, match=r"outbox\.db: another emotion-edge uses it; stop that one"):
        Outbox(path).start()


def write_foreign(path, kind):
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "database":
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE messages (text TEXT)")
            connection.execute("CREATE TABLE contacts (name TEXT)")
    else:
        path.write_text("cameras: {door: {source: 0}}\n")


@pytest.mark.parametrize("kind", ["folder", "pipe", "database", "text"])
def test_what_is_no_outbox_is_refused_and_left_as_it_is(tmp_path, kind):
    path = tmp_path / "edge.yaml"
    write_foreign(path, kind)
    path.chmod(0o755)
    before = path.stat().st_mode, path.read_bytes() if path.is_file() else b""
    for attempt in (Outbox.claim, Outbox.start):
        with pytest.raises(ForeignFileError, match=r"^outbox\.path: .*edge\.yaml: is no .*; move it away"):
            attempt(Outbox(path))
    assert (path.stat().st_mode, path.read_bytes() if path.is_file() else b"") == before
    assert [each.name for each in tmp_path.iterdir()] == ["edge.yaml"]


@pytest.mark.parametrize(
    "damage", [lambda path: path.write_bytes(b""), lambda path: scribble(path, 100, b"\xa5" * 8192)]
)
def test_an_outbox_of_another_name_is_taken_over_even_damaged(tmp_path, damage):
    path = tmp_path / "events.sqlite"
    for harm in (lambda _: None, damage, lambda _: None):
        outbox = Outbox(path)
        outbox.start()
        outbox.put([end(1)])
        assert offered(outbox, 1)
        assert not outbox.problem()
        outbox.stop(30)
        harm(path)


def failing(monkeypatch, error):
    """Let every commit fail until the returned event is set."""
    healed, commit = threading.Event(), Store.commit

    def maybe(store, changes):
        if not healed.is_set():
            raise error
        commit(store, changes)

    monkeypatch.setattr(Store, "commit", maybe)
    return healed


def test_full_disk_is_said_and_events_go_on_in_memory_until_it_is_mended(start, monkeypatch, caplog):
    monkeypatch.setattr(edge.outbox, "RETRY", 0.05)
    outbox = start()
    outbox.put([end(1)])
    offered(outbox, 1)
    healed = failing(monkeypatch, sqlite3.OperationalError("database or disk is full"))
    outbox.put([end(2)])
    assert numbers(offered(outbox, 1)) == [2]
    outbox.put(end(seq) for seq in (3, 4))
    assert numbers(offered(outbox, 2)) == [3, 4]
    assert outbox.problem() == "outbox: database or disk is full"
    assert sum("database or disk is full" in record.getMessage() for record in caplog.records) == 1
    outbox.acknowledge(end(3).id)
    healed.set()
    eventually(lambda: not outbox.problem(), 30, "recovery")
    outbox.put([end(5)])
    committed(outbox)
    outbox.stop(30)
    assert numbers(offered(start(), 4)) == [1, 2, 4, 5]


def test_a_face_that_came_and_went_while_the_disk_was_full_is_not_ended_again(start, monkeypatch):
    monkeypatch.setattr(edge.outbox, "RETRY", 0.05)
    outbox = start()
    healed = failing(monkeypatch, sqlite3.OperationalError("database or disk is full"))
    outbox.put([make_event(1)])
    eventually(outbox.problem, 30, "problem")
    outbox.put([end(2)])
    healed.set()
    eventually(lambda: not outbox.problem(), 30, "recovery")
    outbox.stop(30)
    assert len(start()) == 2


def test_memory_is_bounded_while_the_disk_fails(start, told, monkeypatch):
    monkeypatch.setattr(edge.outbox, "MEMORY", 10 * len(end(100).encode()))
    failing(monkeypatch, sqlite3.OperationalError("disk I/O error"))
    outbox = start()
    outbox.put([end(99)])
    eventually(outbox.problem, 30, "problem")
    outbox.put(end(seq) for seq in range(100, 200))
    assert len(outbox) == 10
    assert told.dropped == {"overflow": 91}
    assert numbers(offered(outbox, 10)) == list(range(190, 200))
    assert outbox.stop(30) == 10, "told as lost"


def test_memory_is_bounded_while_the_disk_fails_and_older_ones_wait_in_the_file(start, told, monkeypatch):
    monkeypatch.setattr(edge.outbox, "PAGE", 4)
    monkeypatch.setattr(edge.outbox, "LOOK", 8)
    monkeypatch.setattr(edge.outbox, "MEMORY", 10 * len(end(100).encode()))
    outbox = start()
    outbox.put(end(seq) for seq in range(100, 130))
    committed(outbox)
    failing(monkeypatch, sqlite3.OperationalError("database or disk is full"))
    outbox.put([end(130)])
    eventually(outbox.problem, 30, "problem")
    outbox.put(end(seq) for seq in range(131, 171))
    assert len(outbox._waiting.incoming) <= 10 + edge.outbox.LOOK
    received = []
    while (message := outbox.offer(0.5)) is not None:
        received.append(decode_event(message.payload).seq)
        outbox.acknowledge(message.id)
    assert received == sorted(received)
    assert received[:20] == list(range(100, 120)), "what the file has"
    assert received[-8:] == list(range(163, 171)), "and the newest of the rest"
    assert told.dropped == {"overflow": 71 - len(received)}
    assert (len(outbox), outbox.bytes()) == (0, 0)


def test_a_queue_on_a_full_disk_is_delivered_before_what_waits_in_memory(start, monkeypatch):
    monkeypatch.setattr(edge.outbox, "PAGE", 4)
    outbox = start()
    outbox.put(end(seq) for seq in range(1, 31))
    committed(outbox)
    failing(monkeypatch, sqlite3.OperationalError("database or disk is full"))
    outbox.put([end(31)])
    eventually(outbox.problem, 30, "problem")
    assert delivered(outbox, 31) == list(range(1, 32))


def scribble(path, offset, content=b"\xa5" * 512):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def test_file_that_is_none_is_set_aside(start, path, caplog):
    path.parent.mkdir()
    path.write_bytes(b"not a database at all" * 500)
    outbox = start()
    outbox.put([end(1)])
    assert numbers(offered(outbox, 1)) == [1]
    assert not outbox.problem()
    (aside,) = path.parent.glob("outbox.db.damaged-*")
    assert aside.read_bytes().startswith(b"not a database")
    assert "set aside as outbox.db.damaged-" in caplog.text


def test_what_can_be_read_of_a_damaged_file_is_kept(start, path, caplog):
    outbox = start()
    outbox.put(end(seq) for seq in range(1, 201))
    committed(outbox)
    before = outbox.epoch
    outbox.stop(30)
    scribble(path, path.stat().st_size // 8192 * 4096)
    again = start()
    assert "set aside" in caplog.text
    assert 100 < len(again) < 201
    received = numbers(offered(again, len(again)))
    assert [seq for seq in received if seq] == sorted(set(received)), "in order, each once"
    assert again.epoch > before
    again.put([end(300)])
    assert numbers(offered(again, 1)) == [300]
    again.stop(30)
    assert len(start()) == len(received) + 1


def test_file_damaged_while_it_is_used_is_replaced(start, monkeypatch, caplog):
    outbox = start()
    outbox.put(end(seq) for seq in range(1, 11))
    offered(outbox, 3)
    committed(outbox)
    commit, broken = Store.commit, [sqlite3.DatabaseError("database disk image is malformed")]

    def once(store, changes):
        if broken:
            raise broken.pop()
        commit(store, changes)

    monkeypatch.setattr(Store, "commit", once)
    outbox.put([end(11)])
    committed(outbox)
    assert "malformed; set aside as" in caplog.text
    assert numbers(offered(outbox, 8)) == list(range(4, 12))
    assert len(outbox) == 11
    outbox.stop(30)
    assert numbers(offered(start(), 11)) == list(range(1, 12))


def test_at_most_three_damaged_files_are_kept(start, path):
    for _ in range(5):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 5000)
        start().stop(30)
    assert len(list(path.parent.glob("outbox.db.damaged-*"))) == 3


def test_flipped_bit_in_an_event_is_counted_and_the_rest_is_delivered(start, path, told, caplog):
    outbox = start()
    outbox.put(end(seq) for seq in range(1, 11))
    committed(outbox)
    outbox.stop(30)
    content = path.read_bytes()
    where = content.index(b'"seq":5,') + 6
    scribble(path, where, b"7")
    again = start()
    assert numbers(offered(again, 9)) == [1, 2, 3, 4, 6, 7, 8, 9, 10]
    eventually(lambda: told.dropped == {"damaged": 1}, 30, "count", lambda: told.dropped)
    eventually(lambda: "1 messages in" in caplog.text, 30, "line")
    assert len(again) == 9


@pytest.mark.parametrize("made", [-1.0, 1e14, float("inf")])
def test_a_moment_that_cannot_be_is_damage(start, path, told, made):
    outbox = start()
    outbox.put(end(seq) for seq in (1, 2, 3))
    committed(outbox)
    outbox.stop(30)
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE messages SET made = ? WHERE row = 2", (made,))
    assert numbers(offered(start(), 2)) == [1, 3]
    eventually(lambda: told.dropped == {"damaged": 1}, 30, "count", lambda: told.dropped)


FLIPS = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7))


@settings(max_examples=25)
@given(crashed=st.booleans(), which=st.integers(0, 5), flips=st.lists(FLIPS, min_size=1, max_size=3))
def test_whatever_is_flipped_it_starts_and_delivers_in_order(tmp_path_factory, crashed, which, flips):
    folder = tmp_path_factory.mktemp("flipped")
    path = folder / "outbox.db"
    outbox = Outbox(path, durability="normal")
    outbox.start()
    outbox.put(end(seq) for seq in range(1, 41))
    committed(outbox)
    if crashed:
        crash(outbox, path)
    else:
        outbox.stop(30)
    files = sorted(file for file in folder.glob("outbox.db*") if file.stat().st_size)
    victim = files[which % len(files)]
    content = bytearray(victim.read_bytes())
    for place, bit in flips:
        content[int(place * len(content))] ^= 1 << bit
    victim.write_bytes(content)
    again = Outbox(path, durability="normal")
    again.start()
    again.put([end(99)])
    received = []
    with contextlib.suppress(AttributeError):
        while 99 not in received:
            message = again.offer(30)
            received.append(decode_event(message.payload).seq)
            again.acknowledge(message.id)
    assert received[-1] == 99
    assert received == sorted(set(received))
    assert not again.problem()
    again.stop(30)


def unopenable(monkeypatch, why):
    """Let no file be opened until the event that is returned is set."""
    healed, opened = threading.Event(), Store.__init__

    def refuse(store, *arguments):
        if not healed.is_set():
            raise sqlite3.OperationalError(why)
        opened(store, *arguments)

    monkeypatch.setattr(Store, "__init__", refuse)
    return healed


def test_file_that_cannot_be_opened_is_said_and_taken_up_later(start, monkeypatch):
    monkeypatch.setattr(edge.outbox, "RETRY", 0.05)
    outbox = start()
    outbox.put([make_event(1)])
    offered(outbox, 1)
    outbox.stop(30)
    healed = unopenable(monkeypatch, "attempt to write a readonly database")
    again = start()
    assert again.problem() == "outbox: attempt to write a readonly database"
    assert again.epoch > outbox.epoch
    again.put([make_event(2)])
    received = offered(again, 3)
    assert [event.seq for event in received] == [1, 1, 2]
    assert received[1].reason == "restarted"
    again.acknowledge(make_event(1).id)
    healed.set()
    eventually(lambda: not again.problem(), 30, "recovery")
    committed(again)
    again.stop(30)
    assert [event.reason for event in offered(start(), 2)] == ["restarted", None]


@pytest.fixture
def mended(monkeypatch):
    """Let no file be opened until this event is set; memory and pages are small."""
    monkeypatch.setattr(edge.outbox, "RETRY", 0.05)
    monkeypatch.setattr(edge.outbox, "PAGE", 8)
    monkeypatch.setattr(edge.outbox, "MEMORY", 10 * len(end(100).encode()))
    return unopenable(monkeypatch, "database or disk is full")


@pytest.fixture
def backlog(path):
    """A file in which 50 events wait."""
    outbox = Outbox(path)
    outbox.start()
    outbox.put(end(seq) for seq in range(100, 150))
    committed(outbox)
    outbox.stop(30)


@pytest.mark.usefixtures("backlog")
@pytest.mark.parametrize("when", [0, 12, 49, 50])
def test_what_waits_in_a_file_outlives_a_start_on_a_full_disk_whatever_fits_into_memory(start, told, mended, when):
    outbox = start()
    assert outbox.problem() == "outbox: database or disk is full"
    assert len(outbox) == 50
    received = delivered(outbox, when)
    mended.set()
    eventually(lambda: not outbox.problem(), 30, "recovery")
    outbox.put([end(150)])
    received += delivered(outbox, 51 - when)
    assert received == list(range(100, 151))
    assert told.dropped == {}
    committed(outbox)
    assert (len(outbox), outbox.bytes()) == (0, 0)
    outbox.stop(30)
    assert len(start()) == 0


@pytest.mark.usefixtures("backlog")
def test_a_crash_after_a_start_on_a_full_disk_loses_nothing_that_was_committed(start, path, told, mended):
    outbox = start()
    outbox.put(end(seq) for seq in range(150, 155))
    assert delivered(outbox, 3) == [100, 101, 102]
    mended.set()
    eventually(lambda: not outbox.problem(), 30, "recovery")
    committed(outbox)
    crash(outbox, path)
    assert delivered(start(), 52) == list(range(103, 155))
    assert told.dropped == {}


@pytest.mark.usefixtures("backlog", "mended")
def test_a_stop_while_the_disk_is_full_loses_only_what_is_not_in_the_file(start):
    outbox = start()
    outbox.put(end(seq) for seq in range(150, 153))
    assert outbox.stop(30) == 3


@pytest.mark.usefixtures("backlog")
def test_memory_is_bounded_and_the_file_kept_while_the_disk_is_full_from_the_start(start, told, mended):
    outbox = start()
    outbox.put(end(seq) for seq in range(150, 950))
    assert len(outbox._waiting.incoming) + len(outbox._waiting.ready) <= 10 + edge.outbox.LOOK + edge.outbox.PAGE
    received = []
    while (message := outbox.offer(5)) is not None:
        received.append(decode_event(message.payload).seq)
        outbox.acknowledge(message.id)
    assert received[:50] == list(range(100, 150))
    assert received == sorted(set(received))
    assert received[-1] == 949
    assert told.dropped == {"overflow": 850 - len(received)}
    mended.set()


@pytest.mark.usefixtures("backlog")
def test_a_file_that_cannot_even_be_read_for_a_moment_is_delivered_once_it_can(start, told, monkeypatch):
    monkeypatch.setattr(edge.outbox, "RETRY", 0.05)
    monkeypatch.setattr(edge.outbox, "PAGE", 8)
    outbox = start()
    assert delivered(outbox, 1) == [100]
    with monkeypatch.context() as gone:
        for broken in ("__init__", "load", "commit"):
            gone.setattr(Store, broken, failed)
        gone.setattr(Remains, "rows", lambda *_: iter(()))
        outbox.put([end(150)])
        eventually(outbox.problem, 30, "problem")
        received = []
        while (message := outbox.offer(1)) is not None:
            received.append(decode_event(message.payload).seq)
            outbox.acknowledge(message.id)
        assert len(outbox) >= 0
    eventually(lambda: not outbox.problem(), 30, "recovery")
    received += delivered(outbox, 50 - len(received))
    assert sorted(received) == list(range(101, 151))
    assert told.dropped == {}
    assert (len(outbox), outbox.bytes()) == (0, 0)


def failed(*_):
    raise sqlite3.OperationalError("disk I/O error")


@pytest.mark.usefixtures("backlog")
def test_what_a_file_once_was_is_not_delivered_in_place_of_what_it_is(start, told, mended, monkeypatch):
    """Where its log cannot be read, rows that were delivered since look as if they waited."""
    connect = edge.store._connect_to_read
    monkeypatch.setattr(edge.store, "_connect_to_read", lambda path: (connect(path)[0], False))
    outbox = start()
    outbox.put([end(150)])
    assert delivered(outbox, 1) == [150]
    mended.set()
    assert delivered(outbox, 50) == list(range(100, 150))
    assert told.dropped == {}
    assert (len(outbox), outbox.bytes()) == (0, 0)


def test_the_count_is_right_where_events_may_not_be_kept_and_the_disk_is_full(path, mended):
    mended.set()
    outbox = Outbox(path)
    outbox.start()
    for number in range(40):
        outbox.put_message(Message(f"s{number}", "camera", "summary", b"{}"))
        outbox.put([end(number)])
    committed(outbox)
    outbox.stop(30)
    mended.clear()
    again = Outbox(path)
    again.start(keep_events=False)
    assert 40 <= len(again) <= 80
    received = []
    while (message := again.offer(1)) is not None:
        received.append(message.id)
        assert len(again) >= 40 - len(received)
        again.acknowledge(message.id)
    assert received == [f"s{number}" for number in range(40)]
    assert (len(again), again.bytes()) == (0, 0)
    again.stop(30)


def test_what_may_not_be_kept_is_deleted_as_soon_as_the_disk_allows(path, mended):
    outbox = Outbox(path)
    mended.set()
    outbox.start()
    outbox.put([make_event(1)])
    outbox.put_message(Message("s1", "camera", "summary", b"{}"))
    committed(outbox)
    outbox.stop(30)
    mended.clear()
    again = Outbox(path)
    again.start(keep_events=False)
    assert again.problem()
    assert again.offer(10).id == "s1"
    mended.set()
    eventually(lambda: not again.problem(), 30, "recovery")
    with contextlib.closing(sqlite3.connect(path)) as file:
        left = [file.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("messages", "faces")]
    assert left == [1, 0]
    again.stop(30)


def test_what_is_being_written_when_the_time_to_stop_is_over_counts_as_lost(start, monkeypatch):
    reached, let_go, commit = threading.Event(), threading.Event(), Store.commit

    def slow(store, changes):
        reached.set()
        let_go.wait(30)
        commit(store, changes)

    outbox = start()
    monkeypatch.setattr(Store, "commit", slow)
    outbox.put([end(1)])
    assert reached.wait(30)
    assert outbox.stop(0.05) == 1
    let_go.set()


def test_later_outboxes_have_later_epochs():
    first = Outbox().epoch
    second = Outbox().epoch
    assert second >= first
    assert first == pytest.approx(time.time() * 1000, abs=60_000)
