"""Which frames are looked at as a whole, and where the others are."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.events import Box
from edge.regions import AT_ONCE
from edge.schedule import FAST, FRESH, HOLD, INTERVAL, MOST, NEAR, SOONER, STILL, Look, Schedule
from edge.tracking import Expected, Outlook

NOBODY = Outlook()
STILL_LIFE = np.full((90, 160, 3), 90, np.uint8)
TIMES = st.lists(st.floats(0.005, 2.0), min_size=1, max_size=60).map(lambda steps: list(itertools.accumulate(steps)))


def face(number=1, last_seen=0.0, confirmed=True, seen=True, x=0.4, velocity=(0.0, 0.0)):
    return Expected(number, Box(x, 0.4, 0.2, 0.2), velocity, last_seen, confirmed, seen)


def whole(times, outlook=NOBODY, interval=INTERVAL):
    """Return the times at which the whole picture is looked at."""
    schedule = Schedule(interval)
    return [time for time in times if schedule.look(time, outlook).places is None]


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
    assert schedule.look(0.0, NOBODY).places is None
    (place,) = schedule.look(0.1, Outlook((face(velocity=(1.0, -0.5)),))).places
    assert (place.box.x, place.box.y) == (pytest.approx(0.5), pytest.approx(0.35))
    assert (place.box.width, place.box.height) == (0.2, 0.2)
    assert place.moved == pytest.approx(math.hypot(0.5, 0.25))


def test_an_empty_scene_is_not_looked_at_between():
    schedule = Schedule()
    schedule.look(0.0, NOBODY)
    assert schedule.look(0.1, NOBODY) == Look(())


def test_who_is_out_of_sight_for_long_is_not_looked_for():
    schedule = Schedule()
    schedule.look(9.9, NOBODY)
    assert schedule.look(10.0, Outlook((face(last_seen=9.0, seen=False),))) == Look(())


def test_who_was_missed_fills_a_spare_place_only():
    missed = [face(number, last_seen=0.0, seen=False) for number in (7, 8)]
    for seen, looked_for in ((0, 2), (1, 3), (AT_ONCE - 1, AT_ONCE), (AT_ONCE, AT_ONCE), (AT_ONCE + 1, AT_ONCE + 3)):
        schedule = Schedule()
        schedule.look(0.0, NOBODY)
        faces = [face(number, last_seen=0.05) for number in range(seen)]
        assert len(schedule.look(0.1, Outlook((*missed, *faces))).places) == looked_for


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


def test_who_was_looked_for_just_now_is_only_read_where_it_has_moved_to():
    schedule, landmarks = Schedule(), np.full((6, 2), 0.5, np.float32)
    known = Expected(3, Box(0.4, 0.4, 0.2, 0.2), (1.0, -0.5), 0.0, True, True, landmarks, 0.8)
    schedule.look(0.0, NOBODY)
    look = schedule.look(0.04, Outlook((known,)))
    assert look.places == ()
    (read,) = look.known
    assert (read.number, read.confidence) == (3, 0.8)
    assert (read.box.x, read.box.y) == (pytest.approx(0.44), pytest.approx(0.38))
    assert read.landmarks == pytest.approx(np.full((6, 2), [0.54, 0.48]))
    slow = dataclasses.replace(known, velocity=(0.0, 0.0))
    assert schedule.look(0.08, Outlook((slow,))).known
    assert schedule.look(0.12, Outlook((slow,))).known
    assert not schedule.look(NEAR, Outlook((slow,))).known


def test_of_slow_cameras_every_frame_is_looked_at():
    for rate, looked_for in ((15, 1.0), (18, 1.0), (25, 1 / 4), (30, 1 / 4)):
        schedule, looks = Schedule(100.0), []
        for time in (number / rate for number in range(1, 121)):
            known = Expected(3, Box(0.4, 0.4, 0.2, 0.2), (0.0, 0.0), time, True, True, np.zeros((6, 2), np.float32))
            looks.append(schedule.look(time, Outlook((known,))))
        assert sum(not look.known for look in looks) / 120 == pytest.approx(looked_for, abs=0.02), rate


def test_a_whole_look_knows_whose_landmarks_are_still_good():
    """It is no look at those faces: they are looked for as soon as without it."""
    schedule, landmarks = Schedule(0.05), np.zeros((6, 2), np.float32)
    known = Expected(1, Box(0.1, 0.4, 0.2, 0.2), (0.0, 0.0), 0.0, True, True, landmarks, measured=0.0)
    new = dataclasses.replace(known, number=2, box=Box(0.6, 0.4, 0.2, 0.2), confirmed=False)
    assert schedule.look(0.0, NOBODY).recent == ()
    for time in (0.06, 0.12):
        assert schedule.look(time - 0.03, Outlook((known,))).known
        look = schedule.look(time, Outlook((known, new)))
        assert (look.places, look.known, [face.number for face in look.recent]) == (None, (), [1])
    assert schedule.look(NEAR, Outlook((known,))).places
    late = schedule.look(NEAR + 2 * FAST, Outlook((known,)))
    assert (late.places, late.recent) == (None, ())


def test_landmarks_looked_at_too_long_ago_are_looked_at_again():
    """As when the results of looks are under way for long."""
    for age, spared in ((FRESH - 0.01, True), (FRESH + 0.01, False)):
        schedule, landmarks = Schedule(0.05), np.zeros((6, 2), np.float32)
        known = Expected(1, Box(0.1, 0.4, 0.2, 0.2), (0.0, 0.0), 0.0, True, True, landmarks, measured=0.06 - age)
        schedule.look(0.0, NOBODY)
        schedule.look(0.03, Outlook((known,)))
        assert bool(schedule.look(0.06, Outlook((known,))).recent) == spared


def test_after_a_time_that_goes_back_faces_are_looked_for():
    schedule, landmarks = Schedule(), np.zeros((6, 2), np.float32)
    for time in (100.0, 50.0):
        known = Expected(1, Box(0.1, 0.4, 0.2, 0.2), (0.0, 0.0), time, True, True, landmarks, measured=time)
        assert schedule.look(time, Outlook((known,))) == Look()
        assert schedule.look(time + 0.04, Outlook((known,))).known


def test_who_moves_fast_is_looked_for():
    fast = Expected(3, Box(0.4, 0.4, 0.2, 0.2), (1.3, 0.0), 0.0, True, True, np.zeros((6, 2), np.float32))
    schedule = Schedule()
    schedule.look(0.0, NOBODY)
    assert schedule.look(0.03, Outlook((fast,))).known
    assert not schedule.look(0.06, Outlook((fast,))).known


@pytest.mark.parametrize("change", [{"confirmed": False}, {"landmarks": None}])
def test_all_are_looked_for_while_one_is_not_known(change):
    schedule, landmarks = Schedule(), np.zeros((6, 2), np.float32)
    sure = Expected(1, Box(0.1, 0.4, 0.2, 0.2), (0.0, 0.0), 0.0, True, True, landmarks)
    unsure = dataclasses.replace(sure, number=2, box=Box(0.6, 0.4, 0.2, 0.2), **change)
    schedule.look(0.0, NOBODY)
    assert len(schedule.look(0.02, Outlook((sure, unsure))).places) == 2


def test_who_was_missed_is_never_only_read():
    schedule, landmarks = Schedule(), np.zeros((6, 2), np.float32)
    missed = Expected(1, Box(0.1, 0.4, 0.2, 0.2), (0.0, 0.0), 0.0, True, False, landmarks)
    seen = Expected(2, Box(0.6, 0.4, 0.2, 0.2), (0.0, 0.0), 0.0, True, True, landmarks)
    schedule.look(0.0, NOBODY)
    assert [face.number for face in schedule.look(0.02, Outlook((missed, seen))).known] == [2]
    look = schedule.look(0.04, Outlook((missed,)))
    assert (len(look.places), look.known) == (1, ())


@given(TIMES)
def test_nobody_is_read_for_long_without_being_looked_for(times):
    schedule, landmarks, looked = Schedule(), np.zeros((6, 2), np.float32), None
    for time in times:
        known = Expected(1, Box(0.4, 0.4, 0.2, 0.2), (0.0, 0.0), time, True, True, landmarks)
        if schedule.look(time, Outlook((known,))).known:
            assert looked is not None
            assert time - looked < NEAR
        else:
            looked = time


def looks_at(picture_at, outlook=NOBODY, seconds=6, rate=20, interval=INTERVAL):
    """Return the times of the looks at the whole picture, the picture at each time given."""
    schedule = Schedule(interval)
    times = [number / rate for number in range(seconds * rate)]
    return [time for time in times if schedule.look(time, outlook, picture_at(time)).places is None]


def test_where_nothing_changes_the_whole_picture_is_looked_at_less_often():
    looks = looks_at(lambda _: STILL_LIFE)
    early = [time for time in looks if time < HOLD]
    assert max(after - before for before, after in itertools.pairwise(early)) <= INTERVAL + 1e-9
    late = [after - before for before, after in itertools.pairwise(looks) if before > HOLD + STILL]
    assert INTERVAL < min(late) <= max(late) <= STILL + 1e-9


def test_who_comes_into_a_still_picture_is_found_as_soon_as_ever():
    came = STILL_LIFE.copy()
    came[40:70, 100:130] = 200
    looks = looks_at(lambda time: STILL_LIFE if time < 3.3 else came)
    assert min(time for time in looks if time >= 3.3) - 3.3 <= INTERVAL + 1e-9
    after = [time for time in looks if 3.3 <= time < 3.3 + HOLD]
    assert max(two - one for one, two in itertools.pairwise(after)) <= INTERVAL + 1e-9, "and looked at for a while"


def test_who_comes_up_beside_a_known_face_is_found_within_half_a_second():
    """What moves there may be the known one's shoulders."""
    came = STILL_LIFE.copy()
    height, width = came.shape[:2]
    came[height // 2 : height * 3 // 4, width * 7 // 12 : width * 2 // 3] ^= 128
    known = Outlook((face(x=0.3, last_seen=10.0),))
    for start in np.arange(3.0, 3.6, 0.05):
        looks = looks_at(lambda time, start=start: STILL_LIFE if time < start else came, known)
        assert min(time for time in looks if time >= start) - start <= STILL + 1e-9


@pytest.mark.parametrize("rate", [3, 5, 7, 10, 15, 25, 60])
def test_at_any_rate_a_still_picture_is_looked_at_twice_a_second(rate):
    looks = looks_at(lambda _: STILL_LIFE, rate=rate)
    assert max(after - before for before, after in itertools.pairwise(looks)) <= STILL + 1e-9


@pytest.mark.parametrize("faces", [[face(seen=False)], [face(), face(2, confirmed=False)]])
def test_a_picture_is_not_still_while_a_face_is_missed_or_new(faces):
    looks = looks_at(lambda _: STILL_LIFE, Outlook(tuple(faces)))
    assert max(after - before for before, after in itertools.pairwise(looks)) <= INTERVAL + 1e-9


def test_intervals_of_the_settings_are_kept_in_a_still_picture():
    assert len(looks_at(lambda _: STILL_LIFE, interval=0.0)) == 120, "every frame"
    slow = looks_at(lambda _: STILL_LIFE, interval=1.0)
    assert all(0.9 - 1e-9 <= after - before <= 1 for before, after in itertools.pairwise(slow))
