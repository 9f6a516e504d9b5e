"""Known faces through RTSP server, daemon and broker to a subscriber."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge.events import Event, decode_event
from tests.parts.broker import Mosquitto
from tests.parts.daemon import Daemon
from tests.parts.rtsp import RtspServer
from tests.parts.schema import validate_event
from tests.parts.settings import settings_for
from tests.parts.subscriber import Subscriber
from tests.scenes import Visit, clear_portraits, compose

FACES = 120
SEED = 7
#: So many of the first faces and events tell when the clip began; one missed face does not matter then.
FIRST = 6
LEAST_FOUND = 0.97
LEAST_CORRECT = 0.70


@pytest.mark.long
def test_every_known_face_gives_a_start_and_its_end(
    broker: Mosquitto,
    subscriber: Subscriber,
    clips: Path,
    rtsp_server: RtspServer,
    start_daemon: Callable[..., Daemon],
    figure: Callable[[str], None],
) -> None:
    visits = compose(clear_portraits(FACES, SEED), clips / "scene.mp4")
    assert len(visits) == FACES
    url = rtsp_server.url("scene.mp4", loop=False)
    daemon = start_daemon(settings_for(broker, scene={"source": url}))
    online = subscriber.wait_for(lambda m: m.topic == "emotion/test/scene/status" and m.payload["state"] == "online")
    length = max(visit.vanish for visit in visits)
    subscriber.wait_for(
        lambda m: m.topic == online.topic and m.payload["state"] == "offline" and m.time > online.time,
        timeout=length + 60,
        what="end of the stream",
    )
    assert daemon.stop() == 0
    subscriber.wait_for_farewell()

    events = []
    for message in subscriber.on("emotion/test/scene/event"):
        validate_event(message.payload)
        events.append(decode_event(message.raw))
    assert [event.seq for event in events] == list(range(1, len(events) + 1)), "order per camera"
    starts = {event.face.id: event for event in events if event.type == "start"}
    ends = {event.face.id: event for event in events if event.type == "end"}
    assert len(starts) == sum(event.type == "start" for event in events), "ids used twice"
    assert starts.keys() == ends.keys()

    ids, correct = _served(visits, list(starts.values()))
    found = sum(len(numbers) == 1 for numbers in ids.values())
    figure(f"scene: {found} of {FACES} faces one to one with an id, {correct} with the right emotion at the start")
    assert all(len(numbers) <= 1 for numbers in ids.values()), "a face with two ids"
    assert found >= LEAST_FOUND * FACES
    assert correct >= LEAST_CORRECT * FACES


def _served(visits: Sequence[Visit], starts: Sequence[Event]) -> tuple[dict[int, set[str]], int]:
    """Match start events with the truth: the ids that each visit got, and how many got the right emotion.

    An event whose face is nowhere in the truth, or an id that serves two visits, fails.
    """
    offset = _offset(visits, starts)
    ids: dict[int, set[str]] = defaultdict(set)
    correct = 0
    for event in starts:
        at = _at(visits, event, offset)
        assert len(at) == 1, f"{event.face.id} at {event.face.box} serves {[visit.id for visit in at]}"
        ids[at[0].id].add(event.face.id)
        correct += event.emotion == at[0].emotion
    return ids, correct


def _offset(visits: Sequence[Visit], starts: Sequence[Event]) -> float:
    """Return when the clip began, by the clock of the events. The stream does not tell, only its faces do.

    That is the moment by which most events lie on a face of the truth, and soonest after it has appeared.
    """
    seen = sorted(event.first_seen for event in starts)[:FIRST]
    appeared = sorted(visit.appear for visit in visits)[:FIRST]

    def agreement(offset: float) -> tuple[int, float]:
        pairs = [(event, at[0]) for event in starts if len(at := _at(visits, event, offset)) == 1]
        return len(pairs), -sum(abs(event.first_seen - offset - visit.appear) for event, visit in pairs)

    return max((first - appear for first, appear in product(seen, appeared)), key=agreement)


def _at(visits: Sequence[Visit], event: Event, offset: float) -> list[Visit]:
    """Return the visits whose face is where the event saw one."""
    x, y = event.face.box.x + event.face.box.width / 2, event.face.box.y + event.face.box.height / 2
    return [visit for visit in visits if _inside(visit.box(event.time - offset), x, y)]


def _inside(box: tuple[float, float, float, float] | None, x: float, y: float) -> bool:
    return box is not None and box[0] <= x <= box[0] + box[2] and box[1] <= y <= box[1] + box[3]


def _visits(*appears: float) -> list[Any]:
    """Faces at alternating places, each in view for 2 s."""

    def visit(number: int, appear: float) -> Any:
        place = (0.5 * (number % 2), 0.0, 0.5, 0.5)
        box = lambda time: place if appear <= time < appear + 2 else None  # noqa: E731
        return SimpleNamespace(id=number, emotion="fear", appear=appear, box=box)

    return [visit(number, appear) for number, appear in enumerate(appears)]


def _start(name: str, first_seen: float, x: float, y: float = 0.2) -> Any:
    face = SimpleNamespace(id=name, box=SimpleNamespace(x=x, y=y, width=0.1, height=0.1))
    return SimpleNamespace(first_seen=first_seen, time=first_seen + 0.5, emotion="fear", face=face)


def test_a_face_of_the_truth_is_matched_by_place_and_time() -> None:
    """The matching itself can fail: an event outside of every face is noticed."""
    with pytest.raises(AssertionError, match="serves"):
        _served(_visits(1.0), [_start("a", 1.0, x=0.8, y=0.8)])


def test_a_missed_first_face_does_not_shift_the_others() -> None:
    """The second face comes 2.3 s after the first, which nobody saw, and the clip began at 1000."""
    visits = _visits(1.0, 3.3, 6.0, 10.0)
    starts = [_start("b", 1003.4, x=0.7), _start("c", 1006.1, x=0.2), _start("d", 1010.1, x=0.7)]
    ids, correct = _served(visits, starts)
    assert ids == {1: {"b"}, 2: {"c"}, 3: {"d"}}
    assert correct == 3
