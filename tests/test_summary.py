"""What a camera saw over a minute."""

import json

from hypothesis import given
from hypothesis import strategies as st

from edge.events import from_rfc3339
from edge.summary import Summary
from tests.parts.schema import validate

LABELS = ("neutral", "happiness")


def summary(least_people=0, dropped_before=0):
    made = Summary("node", "door", LABELS, "model 1", least_people)
    made.begin(1_700_000_000.0, dropped_before)
    return made


def told(made, now=1_700_000_060.0, dropped=0):
    message = made.tell(now, dropped, epoch=7)
    document = json.loads(message.payload)
    validate("summary", document)
    assert (message.id, message.camera, message.kind) == (document["id"], "door", "summary")
    return document


def test_people_are_counted_once_and_frames_and_time_add_up():
    made = summary()
    for faces in ([1], [1, 2], [], [3]):
        made.see(faces)
    made.add_time("happiness", 0.25), made.add_time("happiness", 0.5)
    document = told(made, dropped=5)
    assert (document["people"], document["most_at_once"]) == (3, 2)
    assert (document["frames_analysed"], document["frames_dropped"]) == (4, 5)
    assert document["face_seconds"] == {"neutral": 0.0, "happiness": 0.75}


def test_periods_follow_without_a_gap_and_begin_empty():
    made = summary()
    made.see([1])
    first, second = told(made, dropped=3), told(made, 1_700_000_120.0, dropped=4)
    assert second["start"] == first["end"]
    assert first["id"] != second["id"]
    assert (second["people"], second["frames_analysed"], second["frames_dropped"]) == (0, 0, 1)


def test_what_was_dropped_before_the_first_period_does_not_count():
    made = summary(dropped_before=40)
    assert told(made, dropped=42)["frames_dropped"] == 2


def test_somebody_who_stays_is_counted_in_each_period():
    made = summary()
    for minute in (1, 2):
        made.see([5])
        assert told(made, 1_700_000_000.0 + 60 * minute)["people"] == 1


@given(st.lists(st.integers(1, 6), max_size=8), st.integers(1, 5))
def test_emotions_are_left_out_of_summaries_of_few(people, least):
    made = summary(least)
    made.see(people)
    made.add_time("neutral", 1.0)
    document = told(made)
    assert (document["face_seconds"] is None) == (len(set(people)) < least)


def test_a_clock_that_went_back_gives_a_summary_all_the_same():
    document = told(summary(), 1_699_999_000.0)
    assert from_rfc3339(document["end"]) < from_rfc3339(document["start"])
