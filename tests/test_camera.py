"""One camera, from frames to events, with the workers played by the test."""

import itertools
import json
import threading
from dataclasses import asdict, replace

import numpy as np
import pytest

from edge.camera import Camera
from edge.events import Box, decode_event, rfc3339
from edge.frames import Frame
from edge.metrics import Metrics
from edge.outbox import Outbox
from edge.pipeline import Pipeline
from edge.preview.pages import Preview
from edge.settings import CameraSettings
from edge.tracking import Observation, Rules
from tests.parts import eventually
from tests.parts.samples import LABELS
from tests.parts.schema import validate

FACE = Observation(Box(0.4, 0.4, 0.2, 0.2), 0.9, np.full(8, 1 / 8, np.float32))


STOPPED = threading.Event()


def frame(seconds, clock=1_700_000_000.0):
    """A frame of `seconds` after the first, by a wall clock that was at `clock` then."""
    return Frame(np.zeros((48, 64, 3), np.uint8), seconds, clock + seconds, seconds)


def face(emotion="neutral", probability=0.9, box=FACE.box):
    rest = (1 - probability) / 7
    return Observation(box, 0.9, np.array([probability if e == emotion else rest for e in LABELS], np.float32))


class Told:
    """A camera, and what it says."""

    def __init__(self, pipeline, preview=None, least_people=None, **settings):
        self.states, self.outbox, self.said = [], Outbox(), []
        self.camera = Camera(
            "door",
            CameraSettings(**{"source": "rtsp://door/stream", **settings}),
            rules=Rules(),
            interval=0.4,
            node="node",
            labels=LABELS,
            model="model 1",
            pipeline=pipeline,
            outbox=self.outbox,
            set_state=lambda topic, payload: self.states.append((topic, json.loads(payload or b"null"))),
            metrics=Metrics("node", "0"),
            preview=preview,
            least_people=least_people,
            say=lambda topic, payload: self.said.append((topic, json.loads(payload))),
        )

    def see(self, seconds, *faces, clock=1_700_000_000.0):
        """Let a frame be analysed, at once and with these faces."""
        self.camera._slot.put(frame(seconds, clock), STOPPED)
        self.camera._lane.answer(self.camera._lane.issue(seconds), faces)

    def events(self):
        found = []
        while (message := self.outbox.offer(0)) is not None:
            found += [decode_event(message.payload)] if message.kind == "event" else []
        return found

    def views(self):
        return [state for topic, state in self.states if topic == "door/emotion"]


@pytest.fixture
def make_told():
    """Make a camera with settings of its own."""
    return lambda **settings: Told(Pipeline(lambda: lambda *_: [], 1), **settings)


@pytest.fixture
def told(make_told):
    return make_told()


def test_events_are_numbered_and_named_over_the_life_of_a_face(told):
    for tick in range(10):
        told.see(tick / 10, face("neutral"))
    for tick in range(10, 40):
        told.see(tick / 10, face("happiness"))
    told.see(4.0), told.see(6.1)
    start, change, end = told.events()
    assert [event.type for event in (start, change, end)] == ["start", "change", "end"]
    assert [event.seq for event in (start, change, end)] == [1, 2, 3]
    assert len({event.id for event in (start, change, end)}) == 3
    assert {event.face.id for event in (start, change, end)} == {f"node-door-{told.outbox.epoch}-1"}
    assert (change.previous, change.emotion, end.emotion) == ("neutral", "happiness", "happiness")
    assert (start.reason, change.reason, end.reason) == (None, None, "left")
    assert (start.duration, end.duration) == (None, 3.9)
    assert end.time == pytest.approx(1_700_000_003.9, abs=1e-3), "the last frame with the face"
    assert sum(start.probabilities.values()) == pytest.approx(1, abs=1e-3)


def test_step_of_the_wall_clock_does_not_change_when_a_face_was_first_seen(told):
    for tick in range(10):
        told.see(tick / 10, face("neutral"))
    for tick in range(10, 40):
        told.see(tick / 10, face("happiness"), clock=1_700_003_600.0)
    told.camera.stop()
    start, change, end = told.events()
    assert change.time - start.time > 3600
    assert {event.first_seen for event in (start, change, end)} == {1_700_000_000.0}
    assert end.duration == 3.9, "the clock that does not step"


def test_boxes_are_clipped_to_the_picture(told):
    for tick in range(8):
        told.see(tick / 10, face(box=Box(-0.1, 0.8, 0.4, 0.4)))
    (start,) = told.events()
    assert start.face.box == Box(0.0, 0.8, 0.3, 0.2)


def test_view_is_told_when_it_changes_and_at_most_once_a_second(told):
    """Two faces, one of which comes and goes every 4 s."""
    sent = []
    for tick in range(200):
        left = [face(box=Box(0.1, 0.4, 0.2, 0.2))]
        told.see(tick / 10, *left, *([face("anger")] if tick % 40 < 12 else []))
        sent += [(tick / 10, view) for view in told.views()[len(sent) :]]
    assert len(sent) > 4
    assert all(after[0] - before[0] >= 1.0 for before, after in itertools.pairwise(sent))
    for (_, before), (_, after) in itertools.pairwise(sent):
        assert (before["faces"], before["emotion"]) != (after["faces"], after["emotion"])
    assert {view["faces"] for _, view in sent} == {0, 1, 2}
    assert set(sent[-1][1]["scores"]) == set(LABELS)


def test_a_second_change_of_the_view_within_a_second_waits(told):
    told.see(0.0)
    for tick in range(1, 9):
        told.see(tick / 10, face())
    assert [view["faces"] for view in told.views()] == [0], "the start at 0.6 s is too soon after the first view"
    told.see(0.99, face())
    assert len(told.views()) == 1
    told.see(1.01, face())
    assert [view["faces"] for view in told.views()] == [0, 1]


def test_faces_in_view_are_told_after_each_frame_if_asked_for(make_told):
    told = make_told(faces=True)
    for tick in range(8):
        told.see(tick / 10, face(box=Box(-0.1, 0.4, 0.4, 0.4)))
    told.see(0.8)
    (start,) = told.events()
    assert [topic for topic, _ in told.said] == ["door/faces"] * 9
    for _, message in told.said:
        validate("emotion/node/door/faces", message)
    faces = [message["faces"] for _, message in told.said]
    assert faces[:5] == [[]] * 5, "not reported yet"
    (seen,), (unseen,) = faces[-2:]
    assert (seen["id"], seen["emotion"], seen["in_sight"], unseen["in_sight"]) == (
        start.face.id,
        "neutral",
        True,
        False,
    )
    assert seen["box"] == asdict(start.face.box), "clipped to the picture"
    assert told.said[-1][1]["time"] == rfc3339(1_700_000_000.8)


@pytest.mark.parametrize("settings", [{}, {"faces": True, "least_people": 3}])
def test_faces_in_view_are_not_told_unless_asked_for_and_never_of_aggregates(make_told, settings):
    told = make_told(**settings)
    for tick in range(8):
        told.see(tick / 10, face())
    assert told.camera._series.faces_in_view._value.get() == 1
    assert told.said == []


def test_stop_ends_the_faces_once_and_says_so(told):
    for tick in range(8):
        told.see(tick / 10, face())
    told.events()
    told.camera.stop()
    told.camera.stop()
    (end,) = told.events()
    assert (end.type, end.reason, end.seq) == ("end", "stopped", 2)
    assert ("door/status", {"state": "offline", "reason": "stopped"}) in told.states


def test_pause_ends_the_faces_analyses_nothing_and_shows(told):
    told.camera.online()
    for tick in range(20):
        told.see(tick / 10, face())
    told.camera._slot.put(frame(2.0), STOPPED)
    under_way = told.camera._lane.issue(2.0)
    told.camera.pause()
    told.camera._lane.answer(under_way, [face()])  # too late
    told.camera._slot.put(frame(2.1), STOPPED)
    assert told.camera._lane.issue(2.1) is None
    assert [(event.type, event.reason) for event in told.events()] == [("start", None), ("end", "paused")]
    assert told.states[-1] == ("door/status", {"state": "online", "paused": True})
    assert told.views()[-1]["faces"] == 0
    assert told.camera._series.paused._value.get() == 1
    assert told.camera._series.frames_dropped["paused"]._value.get() == 2
    told.camera.offline("timeout", "no frame for 3 s")
    assert ("door/status", {"state": "offline", "reason": "timeout", "paused": True}) in told.states
    told.camera.resume()
    assert told.states[-1] == ("door/status", {"state": "offline", "reason": "timeout"})
    assert told.camera._series.paused._value.get() == 0
    for tick in range(30, 40):
        told.see(tick / 10, face())
    assert [event.type for event in told.events()] == ["start"]


def test_a_camera_paused_before_it_starts_says_so_from_the_beginning(told, monkeypatch):
    monkeypatch.setattr(told.camera.capture, "start", lambda: None)
    told.camera.pause()
    told.camera.start()
    assert told.states[-2] == ("door/status", {"state": "offline", "reason": "starting", "paused": True})
    assert told.camera._series.paused._value.get() == 1


def test_a_frame_that_waits_while_a_paused_camera_is_lost_holds_up_nothing(told):
    told.camera._drain = 60.0
    told.camera.pause()
    told.camera._slot.put(frame(0.0), STOPPED)
    thread = threading.Thread(target=told.camera.offline, args=("ended", "gone"))
    thread.start()
    assert told.camera._lane.issue(0.1) is None
    thread.join(30)
    assert not thread.is_alive(), "it waits for a frame that nobody analyses"


def test_rules_can_change_with_faces_in_view(told):
    for tick in range(10):
        told.see(tick / 10, face("neutral"))
    told.camera.change_rules(replace(told.camera.rules, enter=0.95))
    for tick in range(10, 40):
        told.see(tick / 10, face("happiness", 0.9))
    assert [event.type for event in told.events()] == ["start"], "0.9 is not enough any more"
    told.camera.change_rules(replace(told.camera.rules, enter=0.5))
    for tick in range(40, 60):
        told.see(tick / 10, face("happiness", 0.9))
    assert [event.type for event in told.events()] == ["change"]


def test_lost_camera_says_why_ends_its_faces_and_empties_its_view(told):
    told.camera.online()
    for tick in range(20):
        told.see(tick / 10, face())
    told.camera.offline("timeout", "no frame for 3 s")
    assert told.states[-2:] == [
        ("door/status", {"state": "offline", "reason": "timeout"}),
        ("door/emotion", {"faces": 0, "emotion": "none", "scores": dict.fromkeys(LABELS, 0.0)}),
    ]
    assert [(event.type, event.reason) for event in told.events()] == [("start", None), ("end", "camera_offline")]


def test_time_in_view_counts_by_emotion_and_a_gap_between_frames_for_a_second_at_most(told):
    for tick in range(11):
        told.see(tick / 10, face())
    seconds = told.camera._series.face_seconds
    assert seconds["neutral"]._value.get() == pytest.approx(0.6), "from the start at 0.5 s on, that frame included"
    told.see(1.1)
    assert seconds["neutral"]._value.get() == pytest.approx(0.6), "not in view"
    told.see(2.9, face())
    assert seconds["neutral"]._value.get() == pytest.approx(1.6)
    assert sum(counter._value.get() for counter in seconds.values()) == pytest.approx(1.6)


def test_time_in_view_of_a_slow_camera_counts_in_full(told):
    for tick in range(0, 40, 4):
        told.see(float(tick), face())
    seconds = told.camera._series.face_seconds["neutral"]._value.get()
    assert seconds == pytest.approx(1 + 36 - 8), "from the start at 8 s on, that frame included for a second at most"
    assert [event.type for event in told.events()] == ["start"]
    told.see(40.0)
    told.see(44.0)
    assert [(event.type, event.duration) for event in told.events()] == [("end", 36.0)]


def dropped(told, reason):
    return told.camera._series.frames_dropped[reason]._value.get()


def test_frames_that_are_not_analysed_are_counted(make_told):
    told = make_told(max_fps=5, motion=0.01)

    def take(frame):
        """Take a frame as a capture does."""
        return told.camera.captured(replace(frame, refused=not told.camera.wanted(frame.time)))

    assert take(frame(0.0)) is not None
    assert take(frame(0.1)) is None
    assert take(replace(frame(0.2), image=np.zeros((1, 1, 3), np.uint8))) is None
    assert take(replace(frame(0.2), image=np.zeros((0, 0, 3), np.uint8))) is None
    assert take(replace(frame(0.4), skipped=7, broken=2)) is not None
    for tick in range(6, 40, 2):
        take(frame(tick / 10))
    assert (dropped(told, "rate"), dropped(told, "unusable"), dropped(told, "behind")) == (1, 4, 7)
    assert dropped(told, "still") >= 10
    assert told.camera._series.frames_captured._value.get() == 5 + 9 + 17
    assert told.camera._series.incidents["drained"]._value.get() == 1
    told.camera.reopened(5, 2)
    assert told.camera._series.incidents["reopened"]._value.get() == 1
    assert told.camera._series.frames_captured._value.get() == 5 + 9 + 17 + 7
    assert (dropped(told, "unusable"), dropped(told, "behind")) == (4 + 2, 7 + 5)


def test_change_of_the_pictures_size_is_counted(told):
    for height in (48, 48, 96, 96, 48):
        told.camera.captured(replace(frame(0.0), image=np.zeros((height, 64, 3), np.uint8)))
    assert told.camera._series.incidents["resized"]._value.get() == 2


def test_faces_outside_the_zones_behind_masks_or_too_small_do_not_count(make_told):
    half = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
    corner = [[0, 0], [0.3, 0], [0.3, 0.3], [0, 0.3]]
    told = make_told(zones=[half], masks=[corner], min_face=0.1)
    boxes = {
        "counts": Box(0.3, 0.5, 0.1, 0.2),
        "outside": Box(0.7, 0.5, 0.1, 0.2),
        "masked": Box(0.05, 0.05, 0.1, 0.2),
        "small": Box(0.1, 0.8, 0.05, 0.09),
    }
    for tick in range(10):
        told.see(tick / 10, *(face(box=box) for box in boxes.values()))
    assert [event.face.box for event in told.events()] == [boxes["counts"]]


def test_a_summary_counts_no_frames_that_another_of_this_name_dropped(told, monkeypatch):
    monkeypatch.setattr(told.camera.capture, "start", lambda: None)
    dropped_rate = told.camera._series.frames_dropped["rate"]
    dropped_rate.inc(40)
    told.camera.start()
    dropped_rate.inc(2)
    told.camera.summarise()
    assert json.loads(told.outbox.offer(0).payload)["frames_dropped"] == 2


@pytest.mark.parametrize("removed", [True, False])
def test_a_camera_that_left_says_nothing_more(told, removed):
    """A worker still has a frame, and the reading thread is on its way to say that the camera is lost."""
    camera = told.camera
    camera.online()
    for tick in range(20):
        told.see(tick / 10, face())
    camera._slot.put(frame(2.0), STOPPED)
    under_way = camera._lane.issue(2.0)
    up = camera._series.up._value
    camera.leave(0.0, removed)
    assert up.get() == float(removed), "what is forgotten has no value"
    up.set(1)  # another of this name is there
    told.states.clear()
    for seconds in (2.0, 2.1, 2.2):
        camera._lane.answer(under_way, [face()])
        camera._slot.put(frame(seconds), STOPPED)
        assert camera._lane.issue(seconds) is None
    camera.offline("timeout", "no frame for 3 s")
    camera.online()
    camera._tell_paused(True)
    assert (told.states, up.get()) == ([], 1)
    assert [(event.type, event.reason) for event in told.events()] == [("start", None), ("end", "stopped")]


def test_faces_begun_by_a_frame_behind_one_that_is_given_up_end_too(told):
    for tick in range(5):
        told.see(tick / 10, face())
    lane, slot = told.camera._lane, told.camera._slot
    lane.deepen(9)
    tickets = []
    for tick in range(5, 12):
        slot.put(frame(tick / 10), STOPPED)
        tickets.append(lane.issue(tick / 10))
    for ticket in tickets[1:]:
        lane.answer(ticket, [face()])
    told.camera.leave(0.0, removed=False)
    lane.answer(tickets[0], [face()])
    assert [(event.type, event.reason) for event in told.events()] == [("start", None), ("end", "stopped")]
    assert told.views()[-1]["faces"] == 0


@pytest.mark.parametrize("insecure", [True, False])
def test_taking_any_certificate_warns_at_each_start(make_told, caplog, monkeypatch, insecure):
    told = make_told(source="rtsps://door/stream", tls={"insecure": insecure})
    monkeypatch.setattr(told.camera.capture, "start", lambda: None)
    told.camera.start()
    assert ("tls.insecure takes any certificate" in caplog.text) is insecure


def test_frames_under_way_when_a_camera_is_lost_count_before_its_end():
    """Every worker still has a frame; what they find belongs before the end of the faces, not after it."""
    hold = threading.Event()

    def analyse(*_):
        hold.wait(30)
        return [FACE]

    pipeline = Pipeline(lambda: analyse, 4)
    told = Told(pipeline)
    camera = told.camera
    camera._drain = 30.0  # a busy machine may take its time to wake four workers
    camera._set_state = lambda topic, payload: (told.states.append((topic, json.loads(payload))), hold.set())
    pipeline.start()
    for number in range(4):
        camera._slot.put(frame(0.4 * number), STOPPED)
        eventually(lambda number=number: camera._lane.in_flight() == number + 1, 20, "ticket")
    camera.offline("ended", "the stream ended")
    camera._lane.drain(10)
    pipeline.stop(5)
    assert [(event.type, event.reason) for event in told.events()] == [("start", None), ("end", "camera_offline")]
    assert told.views()[-1]["faces"] == 0


def test_preview_is_told_what_is_seen_and_what_the_matter_is():
    metrics, states = Metrics("node", "0"), []
    now = [0.0]
    preview = Preview("node", LABELS, False, metrics, clock=lambda: now[0])
    told = Told(Pipeline(lambda: lambda *_: [], 1), preview=preview, masks=[[(0, 0), (0.1, 0), (0.1, 0.1)]])

    def shown():
        now[0] += 1  # or it would be the state of before
        (camera,) = json.loads(preview._newest_state())["cameras"]
        states.append(camera["state"])
        return camera

    assert shown()["words"] == "The camera is being opened."
    told.camera.online()
    shown()
    for tick in range(10):
        told.see(tick / 10, face("happiness"))
    seen = shown()
    assert (seen["picture"], seen["frames"]["analysed"]) == (10, 10)
    (each,) = seen["faces"]
    assert (each["emotion"], each["seconds"]) == ("happiness", 0.9)
    assert seen["timeline"][-1][LABELS.index("happiness")] == pytest.approx(0.4, abs=0.11)
    told.camera.pause()
    assert shown()["faces"] == []
    told.camera.resume()
    told.camera.offline("tls", "no trust")
    assert "certificate" in shown()["words"]
    assert states == ["offline", "online", "online", "paused", "offline"]
