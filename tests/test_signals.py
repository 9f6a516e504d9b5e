"""Signals: none is lost, and their handler takes no lock."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

import pytest

from edge.signals import Signals


@pytest.fixture
def signals():
    """Take the signals; they are given back after the test."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    made = Signals()
    for number in numbers:
        signal.signal(number, made.heard)
    yield made
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_end_wakes_at_once(signals):
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    started = time.monotonic()
    assert signals.wait(30) == signal.SIGTERM
    assert time.monotonic() - started < 20
    assert signals.wait(0.01) is None


def test_a_hangup_wakes_and_is_told_once(signals):
    os.kill(os.getpid(), signal.SIGHUP)
    assert signals.wait(30) is None
    assert signals.take_hangup()
    assert not signals.take_hangup()
    assert signals.wait(0.01) is None
    assert not signals.take_hangup()


def test_the_end_is_not_lost_behind_hangups(signals):
    for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGINT):
        os.kill(os.getpid(), number)
    assert signals.wait(30) == signal.SIGINT
    assert signals.take_hangup()


def test_a_signal_amid_anything_blocks_nothing(signals):
    """Under the locks that the main thread can hold when it is interrupted: of an event, of the log."""
    event = threading.Event()
    handler = logging.getLogger().handlers[0]
    with event._cond, handler.lock:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.wait(30) == signal.SIGTERM
