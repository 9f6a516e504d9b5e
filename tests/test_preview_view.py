"""What is known of a camera for the preview, and when."""

from __future__ import annotations

import threading
from typing import Any, get_args

import cv2
import numpy as np
import pytest

from edge.events import Box
from edge.faces import Image
from edge.frames import Frame, Reason
from edge.metrics import Figures
from edge.preview import view as views
from edge.preview.picture import Marked
from edge.preview.view import KEEP, PAUSED, STEPS, WORDS, View
from edge.tracking import Track
from tests.parts.samples import LABELS

PICTURE: Image = np.full((48, 64, 3), 90, np.uint8)


class Seen:
    """A view, and the clocks that it goes by."""

    def __init__(self, aggregate: bool = False, cost: float = 0.001, share: float = 1.0) -> None:
        self.now, self.spent, self.pictures = 1000.0, 0.0, 0
        self._cost = cost
        self.view = View(
            "door",
            masks=(),
            zones=(),
            figures=lambda: Figures(10, 7, {"replaced": 3, "late": 0}),
            aggregate=aggregate,
            share=lambda: share,
            drawn=self._drawn,
            clock=lambda: self.now,
            work=self._work,
        )
        self.view.status("online", "", paused=False)

    def look(self) -> dict[str, Any]:
        return self.view.describe(LABELS)

    def frame(self, *tracks: Track, age: float = 0.0, image: Image = PICTURE) -> None:
        frame = Frame(image, self.now, 0.0, self.now - age)
        self.view.see(frame, tracks, LABELS)

    def _work(self) -> float:
        self.spent += self._cost
        return self.spent

    def _drawn(self, seconds: float) -> None:
        assert seconds == pytest.approx(self._cost)
        self.pictures += 1


def track(number: int = 1, emotion: str = "happiness", first: float = 990.0, last: float = 1000.0) -> Track:
    place = LABELS.index(emotion)
    weighted = np.array([1.6 if each == place else 0.4 / 7 for each in range(8)], np.float32)
    box = Box(0.2, 0.2, 0.4, 0.4)
    return Track(number, first, last, last, box, box, 0.9, emotion=place, confirmed=True, weight=2.0, weighted=weighted)


@pytest.fixture
def seen() -> Seen:
    return Seen()


def test_nothing_is_kept_or_made_while_nobody_looks(seen: Seen) -> None:
    seen.frame(track())
    assert seen.view.picture() is None
    assert seen.look()["picture"] is None
    assert seen.pictures == 0


def test_who_looks_sees_the_newest_frame_and_its_faces(seen: Seen) -> None:
    seen.look()
    seen.frame(track(3, first=988.0))
    described = seen.look()
    assert described["picture"] == 1
    (face,) = described["faces"]
    assert (face["number"], face["emotion"], face["seconds"], face["in_sight"]) == (3, "happiness", 12.0, True)
    assert face["probabilities"]["happiness"] == 0.8
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    picture = seen.view.picture()
    assert picture is not None
    image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape == PICTURE.shape


def test_one_picture_serves_all_who_look_and_comes_no_more_often_than_it_may() -> None:
    seen = Seen(cost=0.05, share=0.1)  # half a second for each
    seen.look()
    seen.frame()
    first = seen.view.picture()
    assert [seen.view.picture() for _ in range(10)] == [first] * 10
    seen.now += 0.4
    seen.frame(image=PICTURE + 100)
    assert seen.view.picture() == first
    assert seen.pictures == 1
    seen.now += 0.2
    assert seen.view.picture() != first
    assert seen.pictures == 2


def test_second_picture_is_not_made_while_the_first_is(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, end = threading.Event(), threading.Event()

    def slow(*_: object) -> bytes:
        begun.set()
        assert end.wait(10)
        return b"jpeg"

    monkeypatch.setattr(views, "draw_picture", slow)
    seen.look()
    seen.frame()
    thread = threading.Thread(target=seen.view.picture)
    thread.start()
    assert begun.wait(10)
    assert seen.view.picture() is None, "there is none before, and nobody waits"
    end.set()
    thread.join()
    assert (seen.view.picture(), seen.pictures) == (b"jpeg", 1)


def test_nothing_is_kept_when_nobody_looks_any_more(seen: Seen) -> None:
    seen.look()
    seen.frame()
    assert seen.view.picture() is not None
    seen.now += KEEP + 0.1
    seen.frame()
    assert seen.view.picture() is None
    assert seen.look()["picture"] is None


@pytest.mark.parametrize(("state", "paused"), [("offline", False), ("online", True), ("offline", True)])
def test_camera_that_shows_nothing_shows_no_old_picture(seen: Seen, state: str, paused: bool) -> None:
    seen.look()
    seen.frame(track())
    assert seen.view.picture()
    seen.view.status(state, "timeout" if state == "offline" else "", paused)
    seen.frame(track())  # that a worker still had
    described = seen.look()
    assert seen.view.picture() is None
    assert (described["picture"], described["faces"], described["age"]) == (None, [], None)
    assert described["state"] == ("offline" if state == "offline" else "paused")
    assert described["words"] == (WORDS["timeout"] if state == "offline" else PAUSED)


def test_picture_that_was_being_made_when_the_camera_went_is_not_shown(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> bytes:
        seen.view.status("online", "", paused=True)
        return b"jpeg"

    monkeypatch.setattr(views, "draw_picture", gone)
    seen.look()
    seen.frame()
    assert seen.view.picture() is None


def test_every_reason_has_words() -> None:
    assert {*get_args(Reason), "starting", "stopped"} == set(WORDS)


def test_time_in_a_state_begins_with_it(seen: Seen) -> None:
    seen.now += 10
    assert seen.look()["seconds"] == 10
    seen.view.status("online", "", paused=False)
    assert seen.look()["seconds"] == 10, "nothing has changed"
    seen.view.status("offline", "refused", paused=False)
    seen.now += 3
    assert (seen.look()["state"], seen.look()["seconds"]) == ("offline", 3)


def test_face_unseen_for_long_is_listed_and_not_marked(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    marked: list[Marked] = []

    def draw(_image: Image, faces: list[Marked], *_: object) -> bytes:
        marked.extend(faces)
        return b"jpeg"

    monkeypatch.setattr(views, "draw_picture", draw)
    seen.look()
    seen.frame(track(1, last=999.0), track(2, "anger", last=999.8))
    assert [face["in_sight"] for face in seen.look()["faces"]] == [False, True]
    seen.view.picture()
    assert [(mark.emotion, round(mark.probability, 3)) for mark in marked] == [("anger", 0.8)]


def test_timeline_has_the_last_five_minutes_the_oldest_first(seen: Seen) -> None:
    seen.view.add_time("anger", 0.5)
    seen.view.add_time("anger", 0.75)
    seen.now += 10
    seen.view.add_time("fear", 2)
    timeline = seen.look()["timeline"]
    assert len(timeline) == STEPS
    assert timeline[-3] == [0, 0, 0, 0, 1.25, 0, 0, 0]
    assert timeline[-2] == []
    assert timeline[-1] == [0, 0, 0, 0, 0, 0, 2, 0]
    seen.now += 5 * STEPS
    assert seen.look()["timeline"] == [[]] * STEPS


def test_figures(seen: Seen) -> None:
    assert seen.look()["age"] is None
    for age in (0.1, 0.2, 0.9):
        seen.frame(age=age)
    described = seen.look()
    assert described["frames"] == {"captured": 10, "analysed": 7, "dropped": {"replaced": 3}}
    assert described["age"] == 0.2


def test_of_aggregates_there_are_figures_only() -> None:
    seen = Seen(aggregate=True)
    seen.look()
    seen.view.add_time("anger", 1)
    seen.frame(track(), age=0.1)
    assert set(seen.look()) == {"name", "state", "words", "seconds", "frames", "age"}
    assert seen.look()["age"] == 0.1
    assert seen.view.picture() is None
    assert seen.view._shown is None, "not even in memory"
