"""Tracking: which face is which, and when something is said about it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.events import Box
from edge.tracking import Observation, Rules, Tracker

RATE = 10
CLASSES = 3
FEWER = settings(deadline=None, max_examples=40)


def see(x=0.4, y=0.4, emotion=0, strength=0.9, size=0.2, confidence=0.9):
    """A face with its centre at x, y."""
    probabilities = np.full(CLASSES, (1 - strength) / (CLASSES - 1), np.float32)
    probabilities[emotion] = strength
    return Observation(Box(x - size / 2, y - size / 2, size, size), confidence, probabilities)


def follow(frames, rate=RATE, rules=None, start=0.0):
    """Track faces over frames (one list of observations each); returns transitions and the tracker."""
    tracker = Tracker(rules or Rules(), aspect=1.0)
    transitions = []
    for number, observations in enumerate(frames):
        transitions += tracker.update(start + number / rate, observations)
    return transitions, tracker


def kinds(transitions):
    return [transition.type for transition in transitions]


@st.composite
def scenes(draw):
    """Frames at varying distances in which faces jump about, come, go and change: (time, observations)."""
    time, frames = 0.0, []
    for _ in range(draw(st.integers(1, 40))):
        time += draw(st.sampled_from([0.03, 0.1, 0.25, 0.5, 1.0, 3.0]))
        faces = draw(
            st.lists(
                st.builds(
                    see,
                    x=st.sampled_from([0.1, 0.15, 0.2, 0.5, 0.55, 0.9]),
                    y=st.sampled_from([0.3, 0.7]),
                    emotion=st.integers(0, CLASSES - 1),
                    strength=st.sampled_from([0.4, 0.6, 0.95]),
                    size=st.sampled_from([0.15, 0.2, 0.3]),
                    confidence=st.sampled_from([0.6, 0.9]),
                ),
                max_size=4,
            )
        )
        frames.append((time, faces))
    return frames


def run(frames, rules=None):
    tracker = Tracker(rules or Rules())
    transitions = [transition for time, faces in frames for transition in tracker.update(time, faces)]
    return transitions + tracker.close()


def plain(transitions):
    return [
        replace(transition, probabilities=tuple(map(float, transition.probabilities))) for transition in transitions
    ]


@given(scenes(), st.randoms())
@FEWER
def test_order_of_observations_does_not_matter(frames, random):
    shuffled = [(time, random.sample(faces, len(faces))) for time, faces in frames]
    assert plain(run(frames)) == plain(run(shuffled))


@given(scenes())
@FEWER
def test_every_start_has_one_end_with_the_changes_in_between(frames):
    rules = Rules()
    stories = {}
    for transition in run(frames):
        stories.setdefault(transition.number, []).append(transition)
    for story in stories.values():
        assert kinds(story) == ["start", *["change"] * (len(story) - 2), "end"]
        start, end = story[0], story[-1]
        assert start.time - start.first_seen >= rules.appear
        assert (start.previous, start.duration) == (None, None)
        assert end.duration == pytest.approx(end.time - end.first_seen)
        assert end.emotion == story[-2].emotion
        times = [transition.time for transition in story]
        assert times == sorted(times)
        assert len({transition.first_seen for transition in story}) == 1
        emotion, since = start.emotion, start.time
        for change in story[1:-1]:
            assert (change.previous, change.duration) == (emotion, pytest.approx(change.time - since))
            assert change.emotion != change.previous
            assert change.probabilities[change.emotion] >= rules.enter
            assert change.probabilities[change.previous] <= rules.exit
            assert change.duration >= rules.dwell
            emotion, since = change.emotion, change.time
        for transition in story:
            assert transition.probabilities.sum() == pytest.approx(1, abs=1e-4)


@given(scenes())
@FEWER
def test_times_never_lie_ahead_and_the_view_holds_who_has_started_and_not_ended(frames):
    tracker, view = Tracker(Rules()), []
    for time, faces in frames:
        for transition in tracker.update(time, faces):
            if transition.type == "end":
                assert transition.time < time
                view.remove(transition.number)
            else:
                assert transition.time == time
            if transition.type == "start":
                view.append(transition.number)
        assert sorted(track.number for track in tracker.in_view()) == sorted(view)


def test_numbers_are_not_used_again_after_close():
    tracker = Tracker(Rules())
    seen = []
    for visit in range(3):
        for frame in range(10):
            seen += [t.number for t in tracker.update(visit * 5 + frame / RATE, [see()]) if t.type == "start"]
        assert kinds(tracker.close()) == ["end"]
        assert tracker.in_view() == []
        assert tracker.close() == []
    assert len(set(seen)) == len(seen) == 3


@pytest.mark.parametrize("rate", [3, 10, 30])
def test_face_is_reported_once_it_was_seen_for_long_enough(rate):
    transitions, tracker = follow([[see()]] * (2 * rate), rate)
    assert kinds(transitions) == ["start"]
    assert transitions[0].first_seen == 0.0
    assert 0.5 <= transitions[0].time <= max(0.5, 2 / rate) + 1 / rate
    assert [track.number for track in tracker.in_view()] == [transitions[0].number]


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.4])
def test_face_seen_shortly_is_never_reported(seconds):
    frames = [[see()]] * (round(seconds * RATE) + 1) + [[]] * 30
    transitions, tracker = follow(frames)
    assert transitions == []
    assert tracker.close() == []


def test_face_seen_now_and_then_is_never_reported():
    frames = [[see()] if number % 6 == 0 else [] for number in range(120)]
    assert follow(frames)[0] == []


@pytest.mark.parametrize("rate", [0.6, 1, 2])
def test_slow_camera_still_reports_faces(rate):
    transitions, _ = follow([[see()]] * 6, rate)
    assert kinds(transitions) == ["start"]
    assert transitions[0].time == pytest.approx(2 / rate)


@pytest.mark.parametrize(("gap", "ends"), [(1.9, 0), (2.2, 1)])
def test_face_is_gone_after_the_lost_time(gap, ends):
    frames = [[see()]] * 10 + [[]] * round(gap * RATE - 1) + [[see()]] * 10
    transitions, _ = follow(frames)
    assert kinds(transitions) == ["start"] + ["end", "start"] * ends
    if ends:
        assert transitions[1].time == pytest.approx(0.9)
        assert transitions[1].duration == pytest.approx(0.9)
        assert transitions[2].number != transitions[1].number


def test_flicker_between_two_emotions_is_no_change():
    frames = [[see(emotion=number % 2)] for number in range(100)]
    assert kinds(follow(frames)[0]) == ["start"]


def test_short_grimace_is_no_change():
    frames = [[see(emotion=0)]] * 20 + [[see(emotion=1)]] * 3 + [[see(emotion=0)]] * 20
    assert kinds(follow(frames)[0]) == ["start"]


def test_weak_lead_is_no_change():
    frames = [[see(emotion=0)]] * 20 + [[see(emotion=1, strength=0.45)]] * 50
    assert kinds(follow(frames)[0]) == ["start"]


@pytest.mark.parametrize("rate", [5, 10, 30])
def test_lasting_switch_is_one_change_within_a_second_and_a_half(rate):
    frames = [[see(emotion=0)]] * (2 * rate) + [[see(emotion=2)]] * (4 * rate)
    transitions, _ = follow(frames, rate)
    assert kinds(transitions) == ["start", "change"]
    change = transitions[1]
    assert (change.previous, change.emotion) == (0, 2)
    assert 2.5 <= change.time <= 3.5
    assert change.duration == pytest.approx(change.time - transitions[0].time)


def test_switch_back_is_a_second_change():
    frames = [[see(emotion=emotion)] for emotion in (0, 1, 0) for _ in range(30)]
    changes = [t for t in follow(frames)[0] if t.type == "change"]
    assert [(t.previous, t.emotion) for t in changes] == [(0, 1), (1, 0)]


def test_dwell_of_zero_changes_at_once():
    frames = [[see(emotion=0)]] * 20 + [[see(emotion=1)]] * 20
    slow = follow(frames)[0][1].time
    fast = follow(frames, rules=Rules(dwell=0.0))[0][1].time
    assert slow - fast == pytest.approx(0.5, abs=0.11)


def test_crossing_faces_keep_their_numbers():
    """They pass each other so fast that where they were says the wrong thing about who is who."""
    frames = [
        [see(x=0.1 + 0.05 * number, emotion=0, size=0.15), see(x=0.925 - 0.05 * number, emotion=1, size=0.15, y=0.42)]
        for number in range(16)
    ]
    transitions, tracker = follow(frames)
    assert kinds(transitions) == ["start", "start"]
    right, left = (next(t for t in transitions if t.emotion == emotion).number for emotion in (0, 1))
    where = {track.number: track.box.x for track in tracker.in_view()}
    assert where[right] > 0.7
    assert where[left] < 0.2


@pytest.mark.parametrize(
    "other", [see(y=0.8), see(y=0.4, size=0.2, emotion=1), see(confidence=0.8), see(strength=0.6)], ids=range(4)
)
def test_faces_that_begin_in_one_column_or_place_are_numbered_alike_in_any_order(other):
    face = see(y=0.4)
    one, another = (run([(number / RATE, faces) for number in range(12)]) for faces in ([face, other], [other, face]))
    assert plain(one) == plain(another)
    assert len(one) == 4


def test_face_that_jumps_across_the_picture_is_another():
    transitions, _ = follow([[see(x=0.1)]] * 10 + [[see(x=0.9)]] * 30)
    assert kinds(transitions) == ["start", "start", "end"]
    assert len({t.number for t in transitions}) == 2


def test_face_of_other_size_in_the_same_place_is_another():
    transitions, _ = follow([[see(size=0.1)]] * 10 + [[see(size=0.3)]] * 30)
    assert kinds(transitions) == ["start", "start", "end"]


def test_walking_and_growing_face_stays_one():
    frames = [[see(x=0.1 + 0.015 * number, size=0.1 * 1.02**number)] for number in range(50)]
    assert kinds(follow(frames)[0]) == ["start"]


@pytest.mark.parametrize("aspect", [16 / 9, 9 / 16])
def test_reach_is_the_same_in_both_directions(aspect):
    """A face of 100 px in a picture 1000 px high, 60 px aside or below, is the same; 90 px are too far."""
    for pixels, numbers in ((60, 1), (90, 2)):
        for across in (True, False):
            tracker = Tracker(Rules(), aspect)
            width = 0.1 / aspect
            shift = (pixels / 1000 / aspect, 0.0) if across else (0.0, pixels / 1000)
            probabilities = np.full(CLASSES, 1 / CLASSES, np.float32)
            for frame in range(11):
                box = Box(0.5 + shift[0] * (frame > 0), 0.5 + shift[1] * (frame > 0), width, 0.1)
                tracker.update(frame / 20, [Observation(box, 0.9, probabilities)])
            started = [
                t for frame in range(11, 20) for t in tracker.update(frame / 20, [Observation(box, 0.9, probabilities)])
            ]
            seen = {t.number for t in started} | {track.number for track in tracker.in_view()}
            assert max(seen) == numbers, (pixels, across)


def test_same_input_gives_the_same_output_wherever_the_clock_begins():
    rng = np.random.default_rng(5)
    frames = [
        [see(x=0.3 + 0.01 * i, emotion=int(rng.integers(3))), see(x=0.8, emotion=int(rng.integers(3)))]
        for i in range(60)
    ]
    one, other = follow(frames)[0], follow(frames)[0]
    assert plain(one) == plain(other)
    late = follow(frames, start=4096.0)[0]
    assert [(t.type, t.number, t.emotion) for t in late] == [(t.type, t.number, t.emotion) for t in one]


def looking(look, **how):
    """A face that looks like the basis vector `look`, or like a mixture of several."""
    vector = np.zeros(16, np.float32)
    vector[list(look)] = 1
    return replace(see(**how), look=vector / np.linalg.norm(vector))


@pytest.mark.parametrize(
    ("later", "numbers"),
    [([0, 1], 1), ([5, 6], 2), ([0, 6], 2)],
    ids=["the same", "another", "one alike in part"],
)
def test_who_comes_out_from_behind_another_keeps_the_number_of_before(later, numbers):
    """Half hidden at first, it looks like itself in part, and it comes out further on than it seemed to move."""
    before = [[looking([0, 1], x=0.40)]] * 12
    half = [[looking([0, 9], x=0.67)]] * 2
    after = [[looking(later, x=0.67)]] * 25
    transitions, tracker = follow(before + [[]] * 7 + half + after)
    starts = [transition for transition in transitions if transition.type == "start"]
    assert len(starts) == numbers
    assert [track.number for track in tracker.in_view() if track.last_seen > 4] == [starts[-1].number]


def test_who_comes_out_from_behind_another_has_the_landmarks_looked_at_since():
    landmarks = np.linspace(0.3, 0.5, 12, dtype=np.float32).reshape(6, 2)
    before = [[replace(looking([0, 1], x=0.40), landmarks=landmarks)]] * 12
    half = [[replace(looking([0, 9], x=0.67), landmarks=landmarks + np.float32(0.2))]] * 2
    after = [[looking([0, 1], x=0.67)]] * 12
    transitions, tracker = follow(before + [[]] * 7 + half + after)
    assert kinds(transitions) == ["start"]
    (face,) = tracker.outlook().faces
    assert face.measured == pytest.approx(20 / 10)
    assert face.landmarks == pytest.approx(landmarks + np.float32(0.2), abs=1e-5)


def test_who_was_in_view_all_the_time_is_not_taken_for_who_comes():
    """Twins: the second is another, however alike."""
    frames = [[looking([0], x=0.3)]] * 12 + [[looking([0], x=0.3), looking([0], x=0.6)]] * 12
    assert kinds(follow(frames)[0]) == ["start", "start"]


def test_observations_are_not_changed():
    face = see()
    before = face.probabilities.copy()
    tracker = Tracker(Rules())
    for frame in range(20):
        tracker.update(frame / RATE, [face])
    np.testing.assert_array_equal(face.probabilities, before)


def read(number, emotion, strength=0.95):
    """What a face shows that was not looked for."""
    return replace(see(emotion=emotion, strength=strength), number=number)


def test_an_emotion_changes_by_what_is_read_between_looks():
    looked = [see(emotion=0)]
    transitions, tracker = follow([looked] * 20)
    (start,) = transitions
    changes = []
    for number in range(1, 21):
        time = 1.9 + number * 0.05
        changes += tracker.read(time, [read(start.number, 1)]) if number % 2 else tracker.update(time, [see(emotion=1)])
    (change,) = changes
    assert (change.type, change.previous, change.emotion) == ("change", 0, 1)


def test_reading_more_often_weighs_a_moment_no_less():
    """The average is over time: what a face showed a while ago fades however often it was read since."""
    often, seldom = (follow([[see(emotion=0)]] * 20)[1] for _ in range(2))
    number = often.in_view()[0].number
    for step in range(1, 61):
        time = 1.9 + step * 0.02
        if step % 4:
            often.read(time, [read(number, 1, 0.9)])
        else:
            often.update(time, [see(emotion=1)])
            seldom.update(time, [see(emotion=1)])
    one, other = (tracker.in_view()[0].probabilities for tracker in (often, seldom))
    assert one == pytest.approx(other, abs=0.1)


def test_reading_neither_finds_a_face_nor_keeps_it():
    transitions, tracker = follow([[see()]] * 20)
    number = transitions[0].number
    (track,) = tracker.in_view()
    assert tracker.read(1.95, [read(number, 0), read(99, 0)]) == []
    assert (track.last_seen, track.last_read, track.in_sight) == (pytest.approx(1.9), 1.95, True)
    before = track.probabilities
    tracker.update(2.0, [])
    assert not track.in_sight
    tracker.read(2.05, [read(number, 1)])
    assert (track.last_read, track.probabilities) == (1.95, pytest.approx(before)), "its place shows something else"
    (end,) = tracker.update(2.0 + Rules().lost, [])
    assert (end.type, end.time) == ("end", pytest.approx(1.9))


@pytest.mark.parametrize(("away", "counts"), [(0.02, True), (0.12, False)])
def test_a_face_read_where_it_was_before_it_moved_counts_for_nothing(away, counts):
    """A slow look can come back after frames were planned by the one before it."""
    transitions, tracker = follow([[see(0.4, emotion=0)]] * 20)
    number = transitions[0].number
    stale = replace(read(number, 1), box=see(0.4).box)
    tracker.update(1.95, [see(0.4 + away, emotion=0)])
    (track,) = tracker.in_view()
    assert tracker.read(1.96, [stale]) == []
    assert (track.last_read == 1.96) == counts


def test_nobody_is_reported_by_being_read():
    tracker = Tracker(Rules())
    for time in (0.0, 0.2, 0.49):
        assert tracker.update(time, [see()]) == []
    assert tracker.read(0.51, [read(1, 0)]) == []
    (start,) = tracker.update(0.53, [see()])
    assert (start.type, start.time) == ("start", 0.53)


def test_a_known_face_is_where_it_moves_to_with_its_landmarks():
    landmarks = np.linspace(0.3, 0.5, 12, dtype=np.float32).reshape(6, 2)
    tracker = Tracker(Rules(), aspect=1.0)
    for number in range(20):
        x = 0.01 * number
        tracker.update(number / RATE, [replace(see(0.4 + x), landmarks=landmarks + np.float32([x, 0]))])
    (face,) = tracker.outlook().faces
    known = face.known(1.95)
    assert known is not None
    assert known.box.x == pytest.approx(0.4 + 0.195 - 0.1, abs=0.002)
    assert known.landmarks == pytest.approx(landmarks + np.float32([0.195, 0]), abs=0.002)
    tracker.update(2.0, [])
    assert tracker.outlook().faces[0].known(2.05) is None, "missed"


def test_landmarks_that_were_not_looked_at_move_with_the_face():
    landmarks = np.linspace(0.3, 0.5, 12, dtype=np.float32).reshape(6, 2)
    tracker = Tracker(Rules(), aspect=1.0)
    for time in (0.0, 0.1, 0.2):
        tracker.update(time, [replace(see(0.4), landmarks=landmarks)])
    for time, x, y in ((0.3, 0.42, 0.4), (0.4, 0.42, 0.37)):
        tracker.update(time, [see(x, y)])
        (face,) = tracker.outlook().faces
        assert (face.measured, face.last_seen) == (0.2, time)
        assert face.landmarks == pytest.approx(landmarks + np.float32([x - 0.4, y - 0.4]), abs=1e-5)
    tracker.update(0.5, [replace(see(0.42, 0.37), landmarks=landmarks)])
    (face,) = tracker.outlook().faces
    assert face.measured == 0.5
    assert face.landmarks == pytest.approx(landmarks)


@FEWER
@given(scenes(), st.data())
def test_reading_between_looks_changes_nothing_of_who_is_there(frames, data):
    """Whatever is read: the same faces start and end, at the same times."""
    rules = Rules()
    plain, reading = Tracker(rules), Tracker(rules)
    said = {plain: [], reading: []}
    for time, observations in frames:
        for tracker in (plain, reading):
            said[tracker] += [t for t in tracker.update(time, observations) if t.type != "change"]
        numbers = data.draw(st.lists(st.integers(1, 6), max_size=3))
        kinds_read = {t.type for t in reading.read(time + 0.01, [read(number, 1) for number in numbers])}
        assert kinds_read <= {"change"}
    one, other = ([(t.type, t.time, t.number) for t in said[tracker]] for tracker in (plain, reading))
    assert one == other
