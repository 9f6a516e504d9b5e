"""The slot that frames wait in."""

import threading
import time

import numpy as np
import pytest

from edge.frames import AT_ONCE, BURST, Frame, Slot
from tests.parts import eventually


def frame(number, captured=None):
    captured = time.monotonic() if captured is None else captured
    return Frame(np.full((2, 2, 3), number, np.uint8), float(number), float(number), captured)


def test_live_slot_keeps_the_newest_and_counts_what_it_replaced():
    filled, dropped = [], []
    slot = Slot(False, lambda: filled.append(1), lambda: dropped.append(1))
    stopped = threading.Event()
    assert slot.take() is None
    for number in range(5):
        slot.put(frame(number), stopped)
    assert slot.waiting()
    assert slot.take().time == 4
    assert not slot.waiting()
    assert slot.take() is None
    assert (len(filled), len(dropped)) == (5, 4)


@pytest.mark.parametrize(("waited", "taken"), [(0.5, [3, 4]), (2, [4])])
def test_two_frames_at_once_are_both_taken_by_who_has_time(waited, taken):
    dropped = []
    slot, stopped = Slot(False, lambda: None, lambda: dropped.append(1)), threading.Event()
    for number in range(5):
        slot.put(frame(number, 100.0 + number * 1e-4), stopped)
    now = 100.0003 + waited * BURST
    found = [slot.take(now) for _ in range(3)]
    assert [each.time for each in found if each] == taken
    assert len(dropped) == 5 - len(taken)
    assert not slot.waiting()


def test_of_two_frames_that_came_one_after_the_other_the_newer_is_taken():
    slot, stopped = Slot(False, lambda: None, lambda: None), threading.Event()
    for number in range(2):
        slot.put(frame(number, 100.0 + 2 * AT_ONCE * number), stopped)
    assert slot.take(100.0 + 2 * AT_ONCE).time == 1


def test_slot_that_keeps_all_loses_none_and_keeps_order():
    dropped, filled = [], threading.Semaphore(0)
    slot = Slot(True, filled.release, lambda: dropped.append(1))
    stopped = threading.Event()
    writer = threading.Thread(target=lambda: [slot.put(frame(number), stopped) for number in range(200)])
    writer.start()
    taken = [slot.take() for _ in range(200) if filled.acquire(timeout=20)]
    writer.join(20)
    assert [f.time for f in taken] == list(range(200))
    assert dropped == []


def test_recordings_are_read_ahead_so_far_and_no_further():
    slot, stopped, put = Slot(True, lambda: None, lambda: None, 3), threading.Event(), []
    writer = threading.Thread(target=lambda: [put.append(slot.put(frame(number), stopped)) for number in range(5)])
    writer.start()
    eventually(lambda: len(put) == 3, 20, "three frames")
    assert not stopped.wait(0.05)
    assert len(put) == 3
    assert slot.take().time == 0
    eventually(lambda: len(put) == 4, 20, "a fourth one")
    stopped.set()
    writer.join(20)
    assert [slot.take().time for _ in range(3)] == [1, 2, 3]
    assert not slot.waiting()


@pytest.mark.parametrize(("age", "seconds"), [(0.0, 0), (0.79, 0), (0.85, 0.35), (1.05, 0.15), (1.21, 0), (5, 0)])
def test_the_next_frame_is_worth_waiting_for_only_if_it_is_nearly_there(age, seconds):
    slot, stopped, interval = Slot(False, lambda: None, lambda: None), threading.Event(), 0.2
    slot.put(frame(1, 100.0), stopped)
    assert slot.worth_waiting(100.0 + age * interval) == 0, "when the next one comes is not known yet"
    slot.put(frame(2, 100.0 + interval), stopped)
    assert slot.worth_waiting(100.0 + (1 + age) * interval) == pytest.approx(seconds * interval)


def test_of_a_recording_no_frame_is_waited_for():
    slot, stopped = Slot(True, lambda: None, lambda: None, 3), threading.Event()
    for number in range(2):
        slot.put(frame(number, 100.0 + number), stopped)
    assert slot.worth_waiting(102.0) == 0


def test_waiting_writer_leaves_when_stopped_and_the_slot_keeps_its_frame():
    slot = Slot(True, lambda: None, lambda: None)
    stopped = threading.Event()
    slot.put(frame(1), stopped)
    writer = threading.Thread(target=slot.put, args=(frame(2), stopped))
    writer.start()
    assert writer.is_alive()
    stopped.set()
    writer.join(20)
    assert not writer.is_alive()
    assert slot.take().time == 1
    assert slot.take() is None
