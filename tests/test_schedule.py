"""Which frames are looked at as a whole, and where the others are."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.events import Box
from edge.regions import AT_ONCE
from edge.schedule import INTERVAL, MOST, SOONER, Schedule
from edge.tracking import Expected, Outlook

NOBODY = Outlook()
TIMES = st.lists(st.floats(0.005, 2.0), min_size=1, max_size=60).map(lambda steps: list(itertools.accumulate(steps)))


def face(number=1, last_seen=0.0, confirmed=True, seen=True, x=0.4, velocity=(0.0, 0.0)):
    return Expected(number, Box(x, 0.4, 0.2, 0.2), velocity, last_seen, confirmed, seen)


def whole(times, outlook=NOBODY, interval=INTERVAL):
    """Return the times at which the whole picture is looked at."""
    schedule = Schedule(interval)
    return [time for time in times if schedule.places(time, outlook) is None]


@given(TIMES)
def test_the_whole_picture_is_looked_at_within_every_interval(times):
    looks = whole(times)
    assert looks[0] == times[0]
    for before, after in itertools.pairwise(times):
        last = max(look for look in looks if look <= before)
        assert after in looks or after - last < INTERVAL
        # Never much more often than asked for, else it would save nothing.
        assert not (after in looks and after - last < 0.9 * INTERVAL - 1e-9)


@pytest.mark.parametrize("rate", [1, 5, 7, 10, 15, 25, 30, 60])
def test_at_any_rate_a_new_face_waits_less_than_half_a_second_or_a_frame(rate):
    looks = whole([number / rate for number in range(20 * rate)])
    assert max(after - before for before, after in itertools.pairwise(looks)) <= max(0.3, 1 / rate + 1e-9)


def test_interval_of_zero_is_every_frame():
    times = [0.0, 0.01, 0.02, 5.0]
    assert whole(times, interval=0.0) == times


def test_a_clock_that_goes_back_begins_anew():
    assert whole([100.0, 100.1, 3.0, 3.1]) == [100.0, 3.0]


def test_places_move_on_with_their_faces():
    schedule = Schedule()
    assert schedule.places(0.0, NOBODY) is None
    (place,) = schedule.places(0.1, Outlook((face(velocity=(1.0, -0.5)),)))
    assert (place.x, place.y) == (pytest.approx(0.5), pytest.approx(0.35))
    assert (place.width, place.height) == (0.2, 0.2)


def test_an_empty_scene_is_not_looked_at_between():
    schedule = Schedule()
    schedule.places(0.0, NOBODY)
    assert schedule.places(0.1, NOBODY) == ()


def test_who_is_out_of_sight_for_long_is_not_looked_for():
    schedule = Schedule()
    schedule.places(9.9, NOBODY)
    assert schedule.places(10.0, Outlook((face(last_seen=9.0, seen=False),))) == ()


def test_who_was_missed_fills_a_spare_place_only():
    missed = [face(number, last_seen=0.0, seen=False) for number in (7, 8)]
    for seen, looked_for in ((0, 2), (1, 3), (AT_ONCE - 1, AT_ONCE), (AT_ONCE, AT_ONCE), (AT_ONCE + 1, AT_ONCE + 3)):
        schedule = Schedule()
        schedule.places(0.0, NOBODY)
        faces = [face(number, last_seen=0.05) for number in range(seen)]
        assert len(schedule.places(0.1, Outlook((*missed, *faces)))) == looked_for


def test_a_doubtful_face_that_was_missed_gets_a_whole_look_sooner():
    def first(outlook):
        return whole([number / 50 for number in range(50)], outlook)[1]

    assert first(Outlook((face(last_seen=-0.0, confirmed=False, seen=False),))) == pytest.approx(SOONER, abs=0.02)
    for settled in (face(seen=False), face(confirmed=False)):
        assert first(Outlook((settled,))) == pytest.approx(INTERVAL, abs=0.05)


def test_a_crowd_is_looked_at_as_a_whole():
    crowd = Outlook(tuple(face(number) for number in range(MOST + 1)))
    assert whole([0.0, 0.05, 0.1], crowd) == [0.0, 0.05, 0.1]
    assert whole([0.0, 0.05, 0.1], Outlook(crowd.faces[1:])) == [0.0]
