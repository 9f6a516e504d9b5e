"""Known faces through RTSP server, daemon and broker to a subscriber."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
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
LEAST_FOUND = 0.97
LEAST_CORRECT = 0.70


@pytest.mark.timeout(600)
def test_every_known_face_gives_a_start_and_its_end(
    broker: Mosquitto,
    subscriber: Subscriber,
    clips: Path,
    rtsp_server: RtspServer,
    start_daemon: Callable[..., Daemon],
    capsys: pytest.CaptureFixture[str],
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
    with capsys.disabled():
        print(f"\nscene: {found} of {FACES} faces one to one with an id, {correct} with the right emotion at the start")
    assert all(len(numbers) <= 1 for numbers in ids.values()), "a face with two ids"
    assert found >= LEAST_FOUND * FACES
    assert correct >= LEAST_CORRECT * FACES


def _served(visits: Sequence[Visit], starts: Sequence[Event]) -> tuple[dict[int, set[str]], int]:
    """Match start events with the truth: the ids that each visit got, and how many got the right emotion.

    An event whose face is nowhere in the truth, or an id that serves two visits, fails.
    """
    # The stream's clock begins when the server starts to play; the first face tells when that was.
    offset = min(event.first_seen for event in starts) - min(visit.appear for visit in visits)
    ids: dict[int, set[str]] = defaultdict(set)
    correct = 0
    for event in starts:
        x, y = event.face.box.x + event.face.box.width / 2, event.face.box.y + event.face.box.height / 2
        at = [visit for visit in visits if _inside(visit.box(event.time - offset), x, y)]
        assert len(at) == 1, f"{event.face.id} at {x:.2f}, {y:.2f} serves {[visit.id for visit in at]}"
        ids[at[0].id].add(event.face.id)
        correct += event.emotion == at[0].emotion
    return ids, correct


def _inside(box: tuple[float, float, float, float] | None, x: float, y: float) -> bool:
    return box is not None and box[0] <= x <= box[0] + box[2] and box[1] <= y <= box[1] + box[3]


def test_a_face_of_the_truth_is_matched_by_place_and_time() -> None:
    """The matching itself can fail: an event outside of every face is noticed."""
    visit: Any = type("V", (), {"id": 0, "emotion": "fear", "appear": 1.0, "box": lambda _self, _t: (0, 0, 0.5, 0.5)})()
    event: Any = type(
        "E",
        (),
        {
            "first_seen": 1.0,
            "time": 1.5,
            "emotion": "fear",
            "face": type("F", (), {"id": "a", "box": type("B", (), {"x": 0.8, "y": 0.8, "width": 0, "height": 0})}),
        },
    )()
    with pytest.raises(AssertionError, match="serves"):
        _served([visit], [event])
