"""Time a face: networks take turns, and figures are of rounds."""

import time

import numpy as np
import pytest

from trainer.measuring.latency import WARM_UP, Latency, race


def test_networks_take_turns_after_every_face():
    calls = []
    found = race({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=7)
    assert calls == ["a"] * WARM_UP + ["b"] * WARM_UP + ["a", "b"] * 7
    assert list(found) == ["a", "b"]
    assert all(latency.rounds.shape == (7,) for latency in found.values())


def test_times_are_milliseconds():
    found = race({"slow": lambda: time.sleep(0.004)}, rounds=15)["slow"]
    assert (found.rounds >= 4).all()
    assert found.median < 40
    assert found.quartiles[0] <= found.median <= found.quartiles[1]


def test_figures_by_hand():
    ours, theirs = Latency(np.array([1.0, 2.0, 9.0])), Latency(np.array([4.0, 4.0, 9.0]))
    assert ours.median == 2
    assert ours.quartiles == (1.5, 5.5)
    assert ours.ratio(theirs) == 0.5  # the median of 1/4, 1/2 and 1, not the ratio of the medians' neighbours
    assert ours.as_json() == {"median": 2.0, "quartiles": [1.5, 5.5]}


def test_ratio_holds_while_the_machine_gets_slower():
    # Each round both take longer; within a round the first takes half as long as the second.
    speeds = np.linspace(1, 30, 21)
    assert Latency(speeds).ratio(Latency(2 * speeds)) == pytest.approx(0.5)


def test_a_network_that_does_twice_the_work_takes_about_twice_as_long():
    found = race({"once": lambda: sum(range(20_000)), "twice": lambda: sum(range(40_000))}, rounds=100)
    assert 0.35 < found["once"].ratio(found["twice"]) < 0.7
