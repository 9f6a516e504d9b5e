"""Workers over lanes: order, failures, time-outs, fairness; most analysers are stand-ins."""

import os
import random
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

import edge.lane
import edge.pipeline
from edge.events import Box
from edge.frames import BURST, Frame, Slot
from edge.lane import BEYOND, DEEP_SECONDS, Lane
from edge.metrics import Metrics
from edge.pipeline import NICE, Pipeline
from edge.schedule import Schedule
from edge.tracking import Observation, Rules, Tracker
from tests.parts import eventually
from tests.parts.samples import LABELS


def frame(number, image=None, captured=None):
    image = np.full((4, 8, 3), number % 256, np.uint8) if image is None else image
    captured = time.monotonic() if captured is None else captured
    return Frame(image, number / 10, 1_700_000_000 + number / 10, captured)


class Camera:
    """A lane that writes down what reaches its listener."""

    def __init__(self, pipeline, metrics, name="camera", keep_all=True, listener=None, schedule=None):
        self.times, self.transitions = [], []
        self.series = metrics.camera(name, LABELS)
        self.slot = Slot(keep_all, pipeline.wake, self.series.frames_dropped["replaced"].inc)
        self.lane = Lane(self.slot, Tracker(Rules()), metrics, self.series, listener or self._heard, schedule=schedule)
        self._stopped = threading.Event()
        pipeline.add(self.lane)

    def _heard(self, frame, transitions, _tracks):
        self.times.append(round(frame.time * 10))
        self.transitions += transitions

    def feed(self, numbers):
        """Put frames in, from a thread of its own."""
        thread = threading.Thread(target=lambda: [self.slot.put(frame(n), self._stopped) for n in numbers], daemon=True)
        thread.start()
        return thread

    def dropped(self, reason):
        return self.series.frames_dropped[reason]._value.get()

    def analysed(self):
        return self.series.frames_analysed._value.get()


@pytest.fixture
def metrics():
    return Metrics("node", "0")


@pytest.fixture
def pipeline():
    """Make a pipeline of an analyser; stopped with the test."""
    made = []

    def make(analyse, workers, depth=0):
        made.append(Pipeline(lambda: analyse, workers, depth))
        return made[-1]

    yield make
    for pipeline in made:
        pipeline.stop(5)


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_results_come_in_the_order_of_the_frames(pipeline, metrics, workers, seed):
    rng = random.Random(seed)
    busy, most = [0], [0]

    def analyse(*_):
        busy[0] += 1
        most[0] = max(most[0], busy[0])
        time.sleep(rng.choice([0, 0.001, 0.01]))
        busy[0] -= 1
        return []

    works = pipeline(analyse, workers)
    cameras = [Camera(works, metrics, name) for name in ("a", "b")]
    works.start()
    for camera in cameras:
        camera.feed(range(60))
    eventually(lambda: all(len(camera.times) == 60 for camera in cameras), 20, "all results")
    assert all(camera.times == list(range(60)) for camera in cameras)
    eventually(lambda: all(camera.analysed() == 60 for camera in cameras), 20, "count, which comes after the result")
    assert most[0] <= workers
    if workers > 1:
        assert most[0] > 1


def test_workers_leave_the_processor_to_what_reads_cameras(pipeline, metrics):
    found = []

    def analyse(*_):
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return []

    works = pipeline(analyse, 1)
    camera = Camera(works, metrics)
    works.start()
    camera.feed(range(2)).join(30)
    camera.lane.drain(30)
    here = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert found == 2 * [min(here + NICE, 19)]


def test_workers_work_where_priorities_are_forbidden(pipeline, metrics, monkeypatch):
    def forbidden(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(edge.pipeline.os, "setpriority", forbidden)
    works = pipeline(lambda *_: [], 1)
    camera = Camera(works, metrics)
    works.start()
    camera.feed(range(2)).join(30)
    eventually(lambda: len(camera.times) == 2, 20, "results")


def test_tracker_gets_what_was_found(pipeline, metrics):
    seen = Observation(Box(0.4, 0.4, 0.2, 0.2), 0.9, np.full(8, 1 / 8, np.float32))
    works = pipeline(lambda *_: [seen], 2)
    camera = Camera(works, metrics)
    works.start()
    camera.feed(range(10)).join(30)
    camera.lane.drain(30)
    eventually(lambda: len(camera.times) == 10, 20, "all results")
    assert [t.type for t in camera.transitions] == ["start"]
    closed = []
    camera.series.faces_in_view.set(1)
    camera.lane.end_faces("stopped", lambda transitions, reason: closed.append((list(transitions), reason)))
    assert [(t.type, reason) for transitions, reason in closed for t in transitions] == [("end", "stopped")]
    assert camera.series.faces_in_view._value.get() == 0


def test_raising_analysis_costs_its_frame_only(pipeline, metrics):
    def analyse(image, _how):
        if image[0, 0, 0] in (3, 7):
            raise RuntimeError("cannot read this one")
        return []

    works = pipeline(analyse, 2)
    camera = Camera(works, metrics)
    works.start()
    camera.feed(range(20))
    eventually(lambda: len(camera.times) == 18, 20, "results of the other frames")
    assert camera.times == [number for number in range(20) if number not in (3, 7)]
    eventually(lambda: camera.analysed() == 18, 20, "count, which comes after the result", camera.analysed)
    assert camera.dropped("failed") == 2
    assert not works.failed.is_set()


def test_raising_listener_does_not_end_its_worker(pipeline, metrics):
    heard = []

    def listener(frame, _transitions, _tracks):
        heard.append(frame.time)
        if len(heard) == 2:
            raise KeyError("listener")

    works = pipeline(lambda *_: [], 1)
    camera = Camera(works, metrics, listener=listener)
    works.start()
    camera.feed(range(8))
    eventually(lambda: len(heard) == 8, 20, "further results")
    assert heard == sorted(heard)
    eventually(lambda: camera.analysed() == 7, 20, "frames that count as analysed")
    assert camera.dropped("failed") == 1


def test_listener_that_raises_all_the_time_counts_as_failing(pipeline, metrics, caplog):
    works = pipeline(lambda *_: [], 1)
    camera = Camera(works, metrics, listener=lambda *_: {}["listener"])
    works.start()
    camera.feed(range(5))
    assert works.failed.wait(20)
    assert "KeyError: 'listener'" in caplog.text
    assert (camera.dropped("failed"), camera.analysed()) == (5, 0)


def test_listener_that_raises_where_late_tickets_are_skipped_costs_its_frame_only(pipeline, metrics, monkeypatch):
    """Skipping the first ticket hands the second one's answer to the listener, in the thread that supervises."""
    gate = threading.Event()

    def analyse(image, _how):
        return gate.wait(60) and [] if image[0, 0, 0] == 0 else []

    works = pipeline(analyse, 2)
    camera = Camera(works, metrics, listener=lambda *_: {}["listener"])
    works.start()
    camera.feed([0, 1]).join(30)
    eventually(lambda: len(camera.lane._answers) == 1, 20, "only the hanging ticket left")
    monkeypatch.setattr(edge.lane, "TICKET_TIMEOUT", 0.0)
    assert works.check(time.monotonic() + 0.01) == 1
    gate.set()
    assert (camera.dropped("timeout"), camera.dropped("failed")) == (1, 1)
    assert not works.failed.is_set()


def test_failing_worker_gets_a_new_analyser_within_a_second(metrics):
    made, failed, heard = [], [], []

    def make():
        number = len(made)
        made.append(number)

        def analyse(*_):
            if number == 0:
                failed.append(time.monotonic())
                raise ValueError("broken interpreter")
            heard.append(time.monotonic())
            return []

        return analyse

    works = Pipeline(make, 1)
    camera = Camera(works, metrics)
    works.start()
    camera.feed(range(5))
    eventually(lambda: len(camera.times) == 4, 20, "results of the second analyser")
    works.stop(5)
    assert made == [0, 1]
    assert heard[0] - failed[0] < 1


def test_analyser_that_cannot_be_made_fails_too(metrics):
    def make():
        raise RuntimeError("no memory")

    works = Pipeline(make, 1)
    camera = Camera(works, metrics)
    works.start()
    camera.feed(range(5))
    assert works.failed.wait(20)
    works.stop(5)
    assert camera.dropped("failed") >= 5


def test_fifth_failure_within_a_minute_gives_up(pipeline, metrics, caplog):
    def analyse(image, _how):
        if image[0, 0, 0] < 5:
            raise RuntimeError("always")
        return []

    works = pipeline(analyse, 2)
    camera = Camera(works, metrics)
    works.start()
    camera.feed(range(4)).join(30)
    eventually(lambda: camera.dropped("failed") == 4, 20, "four failures")
    assert not works.failed.is_set()
    camera.feed([4])
    assert works.failed.wait(20)
    assert "giving up" in caplog.text


def test_failures_longer_ago_than_a_minute_do_not_count(pipeline, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr(edge.pipeline.time, "monotonic", lambda: clock[0])
    works = pipeline(lambda *_: [], 1)
    for _ in range(20):
        clock[0] += 16
        works._count_failure()
    assert not works.failed.is_set()
    for _ in range(4):
        clock[0] += 1
        works._count_failure()
    assert works.failed.is_set()


def test_hanging_analysis_is_skipped_and_counted_and_its_late_answer_ignored(pipeline, metrics, monkeypatch):
    """Until then its camera goes on only as far as the results before it allow, so that nothing piles up."""
    hang, hanging = threading.Event(), threading.Event()

    def analyse(image, _how):
        if image[0, 0, 0] == 2:
            hanging.set()
            hang.wait(60)
        return []

    works = pipeline(analyse, 2, depth=2)
    camera = Camera(works, metrics)
    works.start()
    feeding = camera.feed(range(8))
    assert hanging.wait(30)
    eventually(lambda: len(camera.lane._answers) == 3 and camera.slot.waiting(), 20, "answers and a frame that wait")
    assert camera.times == [0, 1]
    assert camera.lane.issue(time.monotonic()) is None
    assert works.check(time.monotonic()) == 0
    assert not works.stuck(time.monotonic())
    assert works.stuck(time.monotonic() + edge.pipeline.STUCK + 1)
    monkeypatch.setattr(edge.lane, "TICKET_TIMEOUT", 0.0)
    assert works.check(time.monotonic() + 0.01) == 1
    monkeypatch.undo()
    feeding.join(30)
    went_on = [0, 1, 3, 4, 5, 6, 7]
    eventually(lambda: camera.times == went_on, 20, "frames after the hanging one")
    assert camera.dropped("timeout") == 1
    hang.set()
    eventually(lambda: not works.stuck(time.monotonic() + 1000), 20, "idle workers")
    camera.feed([8])
    eventually(lambda: camera.times == [*went_on, 8], 20, "later frame")
    eventually(lambda: camera.analysed() == 8, 20, "count, which comes after the result", camera.analysed)
    assert (camera.dropped("timeout"), camera.dropped("failed"), camera.analysed()) == (1, 0, 8)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_ticket_says_where_to_look_by_the_result_a_fixed_number_of_frames_before(metrics, workers):
    """However fast the workers: the face moves on in each frame, and is looked for at its old place.

    The results behind that of a look at the whole picture are not waited for where it can be helped.
    """
    rng, depth, asked = random.Random(workers), 3, {}

    def analyse(image, how):
        number = int(image[0, 0, 0])
        asked[number] = how.places
        time.sleep(rng.choice([0, 0.002, 0.01]))
        return [Observation(Box(0.03 * number, 0.4, 0.2, 0.2), 0.9, np.full(8, 1 / 8, np.float32))]

    works = Pipeline(lambda: analyse, workers, depth)
    camera = Camera(works, metrics, schedule=Schedule(100.0))
    works.start()
    camera.feed(range(8)).join(30)
    camera.lane.drain(30)
    works.stop(5)
    assert asked[0] is None
    assert [len(asked[number]) for number in range(1, 8)] == [0, 0, 0, 0, 1, 1, 1]
    for number in range(depth + BEYOND, 8):
        # A little further each time, because it has been seen to move.
        assert 0.03 * (number - depth) <= asked[number][0].box.x < 0.03 * number


def test_a_ticket_of_a_live_camera_says_where_to_look_by_the_last_result(pipeline, metrics):
    seen = Observation(Box(0.4, 0.4, 0.2, 0.2), 0.9, np.full(8, 1 / 8, np.float32))
    asked = {}
    for keep_all in (False, True):
        works = pipeline(lambda *_: [], 1, depth=3)
        camera = Camera(works, metrics, str(keep_all), keep_all, schedule=Schedule(100.0))
        asked[keep_all] = []
        for number in range(6):
            camera.slot.put(frame(number), camera._stopped)
            ticket = camera.lane.issue(0.0)
            asked[keep_all].append(ticket.look.places and len(ticket.look.places))
            camera.lane.answer(ticket, [seen])
    assert asked == {False: [None, 1, 1, 1, 1, 1], True: [None, (), (), (), (), 1]}


def test_a_frame_about_to_be_replaced_is_not_begun_with(pipeline, metrics):
    works = pipeline(lambda *_: [], 1)
    late, other = (Camera(works, metrics, name, keep_all=False) for name in ("late", "other"))
    now = time.monotonic()
    for number, captured in enumerate((now - 195, now - 95)):
        late.slot.put(frame(number, captured=captured), late._stopped)
    assert works._take() == (None, None)
    other.slot.put(frame(7), other._stopped)
    assert works._take()[0] is other.lane, "who has a frame need not wait for the other's"
    late.slot.put(frame(2), late._stopped)
    lane, ticket = works._take()
    assert (lane, ticket.frame.time) == (late.lane, 0.2)


def test_places_of_the_last_visit_are_forgotten_with_its_faces(pipeline, metrics):
    asked = []
    seen = Observation(Box(0.4, 0.4, 0.2, 0.2), 0.9, np.full(8, 1 / 8, np.float32))
    works = pipeline(lambda _image, how: asked.append(how.places) or [seen], 1, depth=1)
    camera = Camera(works, metrics, schedule=Schedule(100.0))
    works.start()
    camera.feed(range(5)).join(30)
    camera.lane.drain(30)
    camera.lane.end_faces("camera_offline", lambda *_: None)
    camera.feed([5]).join(30)
    camera.lane.drain(30)
    assert [places and len(places) for places in asked] == [None, (), (), 1, 1, ()]


def test_lane_that_has_waited_longest_is_served_first(metrics):
    """One worker, one camera that always has a frame: the others still get every second turn."""
    order, turn, done = [], threading.Semaphore(0), threading.Semaphore(0)

    def analyse(image, _how):
        turn.acquire(timeout=30)
        order.append(int(image[0, 0, 0]))
        done.release()
        return []

    works = Pipeline(lambda: analyse, 1)
    busy, calm = Camera(works, metrics, "busy", keep_all=False), Camera(works, metrics, "calm", keep_all=False)
    stop = threading.Event()
    for number in range(12):
        # All of one time, so that no next frame is worth waiting for.
        busy.slot.put(frame(1, captured=0.0), stop)
        calm.slot.put(frame(2, captured=0.0), stop)
        if number == 0:
            works.start()
        turn.release()
        assert done.acquire(timeout=30)
    turn.release(20)
    works.stop(5)
    assert {tuple(order[i : i + 2]) for i in range(2, 10, 2)} <= {(1, 2), (2, 1)}


def test_hanging_lane_does_not_starve_others(pipeline, metrics):
    hang = threading.Event()

    def analyse(image, _how):
        if image[0, 0, 0] == 200:
            hang.wait(60)
        return []

    works = pipeline(analyse, 2)
    stuck, fine = Camera(works, metrics, "stuck"), Camera(works, metrics, "fine")
    works.start()
    stuck.feed([200])
    eventually(lambda: stuck.lane.in_flight() == 1, 20, "hanging ticket")
    fine.feed(range(50))
    eventually(lambda: len(fine.times) == 50, 20, "frames of the other camera")
    assert fine.times == list(range(50))
    hang.set()


def test_live_camera_loses_old_frames_and_none_is_unaccounted(pipeline, metrics):
    gate = threading.Event()
    works = pipeline(lambda *_: gate.wait(60) and [], 1)
    camera = Camera(works, metrics, keep_all=False)
    works.start()
    stop = threading.Event()
    camera.slot.put(frame(0), stop)
    eventually(lambda: camera.lane.in_flight() == 1, 20, "first ticket")
    for number in range(1, 31):
        camera.slot.put(frame(number), stop)
    time.sleep(2 * BURST)  # so long the worker has no time
    gate.set()
    eventually(lambda: camera.analysed() == 2, 20, "the first and the newest frame")
    assert camera.times == [0, 30]
    assert camera.dropped("replaced") == 29


@pytest.mark.parametrize("workers", [1, 2])
def test_age_of_frames_stays_bounded_however_slow_the_detector(pipeline, metrics, workers):
    """Two live cameras send ten times of what can be analysed: the rate adapts, nothing queues, every loss counts."""
    stage, sent, ages = 0.1, 200, {"a": [], "b": []}

    def analyse(*_):
        time.sleep(stage)
        return []

    def listener(name):
        return lambda frame, *_: ages[name].append(time.monotonic() - frame.captured)

    works = pipeline(analyse, workers)
    cameras = {name: Camera(works, metrics, name, keep_all=False, listener=listener(name)) for name in ages}
    works.start()
    stop = threading.Event()
    for number in range(sent):
        for camera in cameras.values():
            camera.slot.put(frame(number), stop)
        time.sleep(stage / 5)
    for name, camera in cameras.items():
        camera.lane.drain(30)
        eventually(lambda c=camera: c.analysed() + c.dropped("replaced") == sent, 20, "an account of every frame")
        assert camera.dropped("replaced") > sent / 2
        early, late = np.median(ages[name][3:10]), np.median(ages[name][-10:])
        # One analysis, and the turn of the other camera while the frame waits, as long as sleeping takes here.
        assert late < 4 * stage + early
        assert camera.lane.in_flight() == len(camera.lane._answers) == 0


def test_drain_waits_for_what_was_read(pipeline, metrics):
    gate = threading.Event()
    works = pipeline(lambda *_: gate.wait(60) and [], 1)
    camera = Camera(works, metrics)
    works.start()
    camera.feed([0, 1]).join(30)
    started = time.monotonic()
    camera.lane.drain(0.05)
    assert 0.04 < time.monotonic() - started < 5
    assert camera.times == []
    gate.set()
    camera.lane.drain(30)
    assert camera.times == [0, 1]


def test_idle_pipeline_stops_at_once_and_a_hanging_one_after_its_time(pipeline, metrics):
    hang = threading.Event()
    idle, hanging = pipeline(lambda *_: [], 3), pipeline(lambda *_: hang.wait(60) and [], 1)
    camera = Camera(hanging, metrics)
    idle.start(), hanging.start()
    camera.feed([0])
    eventually(lambda: camera.lane.in_flight() == 1, 20, "ticket")
    for works, least, most in ((idle, 0, 10), (hanging, 0.1, 10)):
        started = time.monotonic()
        works.stop(20 if works is idle else 0.1)
        assert least <= time.monotonic() - started < most
    hang.set()


def test_another_analyser_takes_over_between_frames_and_what_the_old_one_has_is_skipped(pipeline, metrics):
    hold, holding = threading.Event(), threading.Event()
    seen = Observation(Box(0.4, 0.4, 0.2, 0.2), 0.9, np.full(8, 1 / 8, np.float32))
    other = Observation(Box(0.4, 0.4, 0.2, 0.2), 0.9, np.full(3, 1 / 3, np.float32))

    def old(image, _how):
        if image[0, 0, 0] == 10:
            holding.set()
            hold.wait(60)
        return [seen]

    works = pipeline(old, 2)
    camera = Camera(works, metrics)
    works.start()
    camera.feed(range(10)).join(30)
    camera.lane.drain(30)
    camera.feed([10])
    assert holding.wait(30)
    told = []
    works.change_analyser(lambda: lambda *_: [other])
    camera.lane.change_model(camera.series, lambda _ended, reason: told.append(reason), lambda: told.append("changed"))
    assert told == ["model_changed", "changed"]
    camera.feed(range(11, 21)).join(30)
    hold.set()
    camera.lane.drain(30)
    assert camera.times == [*range(10), *range(11, 21)]
    assert camera.dropped("model") == 1
    assert [len(transition.probabilities) for transition in camera.transitions] == [8, 3]
    assert len({transition.number for transition in camera.transitions}) == 2


@pytest.mark.parametrize("rate", [5, 10, 15, 25, 30, 60])
def test_a_recording_is_looked_at_by_what_was_so_many_seconds_before_at_most(pipeline, metrics, rate):
    """More tickets are out at once where frames follow fast, for the same seconds of the recording."""
    works = pipeline(lambda *_: [], 2, depth=2)
    camera = Camera(works, metrics, schedule=Schedule(100.0))
    out, most = [], 0
    for number in range(40):
        camera.slot.put(replace(frame(0), time=number / rate), camera._stopped)
        ticket = camera.lane.issue(0.0)
        while ticket is None:
            camera.lane.answer(out.pop(0), [])
            ticket = camera.lane.issue(0.0)
        out.append(ticket)
        if number > 20:
            most = max(most, len(out))
    assert most == {5: 2, 10: 2, 15: 2, 25: 4, 30: 4, 60: 4}[rate]
    assert most == 2 or (most - 1) / rate < DEEP_SECONDS


@pytest.mark.parametrize("moved", [0.0, 0.3])
def test_a_face_that_moved_to_where_none_counts_is_not_read(metrics, moved):
    tracker = Tracker(Rules())
    slot, series = Slot(False, lambda: None, lambda: None), metrics.camera("camera", LABELS)
    lane = Lane(slot, tracker, metrics, series, lambda *_: None, lambda box: box.x < 0.5, Schedule(100.0))
    seen = Observation(Box(0.4, 0.4, 0.2, 0.2), 0.9, np.full(8, 1 / 8, np.float32), None, np.full((6, 2), 0.5))
    for number in range(40):
        slot.put(replace(frame(0), time=number / 25), threading.Event())
        ticket = lane.issue(0.0)
        (known,) = ticket.look.known or (None,)
        lane.answer(ticket, [replace(seen, box=Box(0.4 + moved, 0.4, 0.2, 0.2), number=1) if known else seen])
        if known:
            (track,) = tracker.in_view()
            assert (track.last_read == ticket.frame.time) == (not moved)
    assert tracker.in_view()


def test_a_frame_that_cannot_be_planned_costs_no_worker(pipeline, metrics):
    class Stumbles(Schedule):
        def look(self, time, outlook, image=None):
            if time == 0.2:
                raise ValueError("no such picture")
            return super().look(time, outlook, image)

    works = pipeline(lambda *_: [], 1)
    camera = Camera(works, metrics, schedule=Stumbles())
    works.start()
    camera.feed(range(6))
    eventually(lambda: camera.times == [0, 1, 3, 4, 5], 20, "the other frames", lambda: camera.times)
    assert camera.dropped("failed") == 1
    assert not works.failed.is_set()
