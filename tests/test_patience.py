"""When a stream has stalled, and how long to wait before a lost one is opened again."""

import pytest

from edge.patience import BACK_OFF, FIRST_FRAMES, JITTER, LONGEST_STALL, BackOff, StallRule


def rule_after(interval, frames=20):
    rule = StallRule()
    rule.opened()
    for number in range(frames):
        rule.frame(number * interval)
    return rule


@pytest.mark.parametrize(
    ("interval", "seconds"), [(0.04, 3), (0.5, 3), (1.0, 5), (4.0, 20), (11.9, 59.5), (100, LONGEST_STALL)]
)
def test_stalled_after_three_seconds_or_five_intervals(interval, seconds):
    assert rule_after(interval).seconds() == pytest.approx(seconds)


def test_until_the_rate_is_known_there_is_more_time():
    rule = StallRule()
    assert rule.seconds() == rule.longest() == FIRST_FRAMES
    rule.opened()
    for number in range(5):
        rule.frame(0.04 * number)
        assert rule.seconds() == FIRST_FRAMES
    rule.frame(0.2)
    assert rule.seconds() == 3


def test_frames_out_of_a_buffer_do_not_hide_that_a_source_is_slow():
    rule = StallRule()
    for now in (0, 0.001, 4, 8, 12, 16):
        rule.frame(now)
    assert rule.seconds() == 20


def test_one_hiccup_does_not_lengthen_the_time():
    rule = rule_after(0.1)
    rule.frame(10)
    assert rule.seconds() == 3


def test_what_was_learnt_outlives_the_connection_but_not_the_pause_between():
    rule = rule_after(4.0)
    rule.opened()
    assert rule.seconds() == rule.longest() == 20
    rule.frame(1000)
    assert rule.seconds() == 20
    fast = rule_after(0.1)
    fast.opened()
    assert fast.seconds() == FIRST_FRAMES, "a first frame can wait for a key frame"
    fast.frame(1000)
    assert fast.seconds() == 3


def test_pauses_grow_to_thirty_seconds_with_a_fifth_by_chance():
    for _ in range(50):
        back_off = BackOff()
        pauses = [back_off.pause() for _ in range(8)]
        for pause, nominal in zip(pauses, (*BACK_OFF, 30, 30), strict=True):
            assert (1 - JITTER) * nominal <= pause <= (1 + JITTER) * nominal
        back_off.reset()
        assert back_off.pause() <= 1.2
    assert BACK_OFF == (1, 2, 4, 8, 16, 30)
    assert JITTER == 0.2


def test_pauses_differ():
    assert len({BackOff().pause() for _ in range(20)}) > 10
