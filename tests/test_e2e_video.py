"""Recorded people, played back and forth for a minute: who gets an id, and how many."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.events import Event, decode_event
from tests.parts.broker import Mosquitto
from tests.parts.daemon import Daemon
from tests.parts.settings import settings_for
from tests.parts.subscriber import Subscriber
from tests.scenes import back_and_forth

VIDEO = Path(os.environ.get("EMOTION_VIDEO", "../shared/video"))
SECONDS = 60
#: Clip → for each person with a face at least 40 px high for 1 s, the range of x in which the face stays.
PEOPLE = {
    "face-demographics-walking-and-pause": [(0.0, 0.32), (0.36, 0.56), (0.56, 1.0)],
    "head-pose-face-detection-female-and-male": [(0.0, 0.4), (0.4, 1.0)],
    "head-pose-face-detection-female": [(0.0, 1.0)],
    "head-pose-face-detection-male": [(0.0, 1.0)],
    "people-detection": [],
}
#: Clips with smaller faces: counts are printed.
COUNTED = ("classroom", "face-demographics-walking")


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_recorded_people_keep_their_ids(
    tmp_path: Path,
    broker: Mosquitto,
    subscriber: Subscriber,
    start_daemon: Callable[..., Daemon],
    figure: Callable[[str], None],
) -> None:
    assert VIDEO.is_dir(), f"{VIDEO}: no such folder; name the one with the clips in $EMOTION_VIDEO"
    cameras = {}
    for name in (*PEOPLE, *COUNTED):
        back_and_forth(VIDEO / f"{name}.mp4", SECONDS, tmp_path / f"{name}.mp4")
        cameras[name] = {"source": str(tmp_path / f"{name}.mp4"), "pace": "fast"}
    daemon = start_daemon(settings_for(broker, **cameras))
    assert daemon.wait(1000) == 0, "the daemon ends when every file has been played"
    subscriber.wait_for_farewell()

    ids: dict[str, dict[str, list[Event]]] = defaultdict(lambda: defaultdict(list))
    for message in subscriber.on("emotion/test/+/event"):
        event = decode_event(message.raw)
        ids[event.camera][event.face.id].append(event)
    for name in cameras:
        expected = f", {len(PEOPLE[name])} people expected" if name in PEOPLE else ""
        figure(f"{name}: {len(ids[name])} ids in {SECONDS} s{expected}")
    for name, people in PEOPLE.items():
        served = [_people(events, people) for events in ids[name].values()]
        assert all(len(persons) == 1 for persons in served), f"{name}: an id that serves two people: {served}"
        assert set().union(*served) == set(range(len(people))), f"{name}: somebody got no id"
        assert len(served) <= 1.25 * len(people), f"{name}: {len(served)} ids"


def _people(events: list[Event], people: list[tuple[float, float]]) -> set[int]:
    """Return which persons the events of one id belong to."""
    centres = [event.face.box.x + event.face.box.width / 2 for event in events]
    return {number for number, (low, high) in enumerate(people) for x in centres if low <= x < high}
