"""The queue of events."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.outbox import Outbox
from tests.parts.samples import make_event


def offered(outbox):
    events = []
    while (event := outbox.offer(0)) is not None:
        events.append(event)
    return events


def numbers(events):
    return [event.seq for event in events]


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


def test_full_queue_drops_the_oldest_that_is_not_under_way_and_says_how_many():
    dropped = []
    outbox = Outbox(limit=3, dropped=dropped.append)
    outbox.put(make_event(seq) for seq in (1, 2))
    assert numbers([outbox.offer(0)]) == [1]
    outbox.put(make_event(seq) for seq in (3, 4, 5))
    assert dropped == [2]
    assert numbers(offered(outbox)) == [4, 5]
    assert outbox.acknowledge(make_event(1).id) == make_event(1)


@given(
    st.integers(1, 8),
    st.lists(st.one_of(st.just("offer"), st.just("acknowledge"), st.just("withdraw"), st.integers(1, 5)), max_size=60),
)
def test_no_event_is_lost_doubled_or_out_of_order(limit, steps):
    dropped = []
    outbox = Outbox(limit, dropped.append)
    made, delivered, under_way = 0, [], []
    for step in steps:
        if step == "offer":
            event = outbox.offer(0)
            assert event is None or event.seq not in numbers(under_way)
            under_way += [event] if event else []
        elif step == "acknowledge" and under_way:
            event = under_way.pop(0)
            assert outbox.acknowledge(event.id) == event
            delivered.append(event)
        elif step == "withdraw":
            outbox.withdraw()
            under_way = []
        elif isinstance(step, int):
            outbox.put(make_event(made + number) for number in range(1, step + 1))
            made += step
        assert len(outbox) <= limit
        assert numbers(under_way) == sorted(numbers(under_way))
    assert made == len(delivered) + sum(dropped) + len(outbox)
    assert numbers(delivered) == sorted(set(numbers(delivered)))


def test_offer_waits_for_an_event_and_no_longer_than_told():
    outbox = Outbox()
    started = time.monotonic()
    assert outbox.offer(0.05) is None
    assert 0.04 < time.monotonic() - started < 2
    later = threading.Timer(0.05, outbox.put, [[make_event()]])
    later.start()
    assert outbox.offer(10) == make_event()
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


def test_size_forgets_what_was_dropped():
    outbox = Outbox(limit=1)
    outbox.put([make_event(1), make_event(20)])
    assert outbox.bytes() == len(make_event(20).encode())


def test_size_is_told_without_encoding_what_waits(monkeypatch):
    outbox = Outbox()
    outbox.put([make_event()])
    monkeypatch.setattr("edge.events.Event.encode", lambda _: 1 / 0)
    assert outbox.bytes() > 0


def test_later_outboxes_have_later_epochs():
    first = Outbox().epoch
    second = Outbox().epoch
    assert second >= first
    assert first == pytest.approx(time.time() * 1000, abs=60_000)
