"""The slot that frames wait in."""

import threading
import time

import numpy as np

from edge.frames import Frame, Slot


def frame(number):
    return Frame(np.full((2, 2, 3), number, np.uint8), float(number), float(number), time.monotonic())


def test_live_slot_keeps_the_newest_and_counts_what_it_replaced():
    filled, dropped = [], []
    slot = Slot(False, lambda: filled.append(1), lambda: dropped.append(1))
    stopped = threading.Event()
    assert slot.take() is None
    for number in range(5):
        slot.put(frame(number), stopped)
    assert slot.full()
    assert slot.take().time == 4
    assert not slot.full()
    assert slot.take() is None
    assert (len(filled), len(dropped)) == (5, 4)


def test_slot_that_keeps_all_loses_none_and_keeps_order():
    dropped, filled = [], threading.Semaphore(0)
    slot = Slot(True, filled.release, lambda: dropped.append(1))
    stopped = threading.Event()
    writer = threading.Thread(target=lambda: [slot.put(frame(number), stopped) for number in range(200)])
    writer.start()
    taken = [slot.take() for _ in range(200) if filled.acquire(timeout=5)]
    writer.join(5)
    assert [f.time for f in taken] == list(range(200))
    assert dropped == []


def test_waiting_writer_leaves_when_stopped_and_the_slot_keeps_its_frame():
    slot = Slot(True, lambda: None, lambda: None)
    stopped = threading.Event()
    slot.put(frame(1), stopped)
    writer = threading.Thread(target=slot.put, args=(frame(2), stopped))
    writer.start()
    assert writer.is_alive()
    stopped.set()
    writer.join(5)
    assert not writer.is_alive()
    assert slot.take().time == 1
    assert slot.take() is None
