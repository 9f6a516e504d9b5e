"""What a camera can be told, in a real daemon: pictures of a folder, turned, masked, still."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.events import decode_event
from tests.parts import HOST, eventually
from tests.parts.broker import Mosquitto
from tests.parts.camera import FakeCamera, http
from tests.parts.daemon import Daemon
from tests.parts.samples import portrait
from tests.parts.settings import settings_for
from tests.parts.subscriber import Subscriber

DROPPED = "emotion_edge_frames_dropped_total"


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    """A folder with one portrait, lying on its side, five times."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    lying = cv2.rotate(portrait(), cv2.ROTATE_90_CLOCKWISE)
    for number in range(5):
        cv2.imwrite(str(folder / f"{number}.png"), lying)
    return f"{folder}/"


def test_rotation_masks_and_motion(
    broker: Mosquitto, subscriber: Subscriber, pictures: str, start_daemon: Callable[..., Daemon]
) -> None:
    folder = {"source": pictures, "fps": 8, "loop": True}
    everywhere = [[[0, 0], [1, 0], [1, 1], [0, 1]]]
    daemon = start_daemon(
        settings_for(
            broker,
            upright={**folder, "rotation": 270},
            masked={**folder, "rotation": 270, "masks": everywhere},
            still={**folder, "rotation": 270, "motion": 0.01, "masks": everywhere},
            slow={**folder, "rotation": 270, "max_fps": 2},
        )
    )
    start = subscriber.wait_for(lambda m: m.topic == "emotion/test/upright/event", 30)
    box = decode_event(start.raw).face.box
    assert 0.15 < box.height < 0.6, "of the turned picture"
    subscriber.wait_for(lambda m: m.topic == "emotion/test/slow/event", 30)
    eventually(lambda: daemon.value("emotion_edge_frames_captured_total", camera="masked") > 40, 30, "frames")
    assert not subscriber.on("emotion/test/masked/event")

    def share(camera: str, reason: str) -> float:
        captured = daemon.value("emotion_edge_frames_captured_total", camera=camera)
        return daemon.value(DROPPED, camera=camera, reason=reason) / captured

    eventually(lambda: share("still", "still") > 0.5, 30, "skipped frames")
    assert share("upright", "still") == 0
    assert 0.5 < share("slow", "rate") < 0.9


def test_mjpeg_camera_with_broken_pictures_gives_events(
    broker: Mosquitto, subscriber: Subscriber, start_daemon: Callable[..., Daemon]
) -> None:
    good = cv2.imencode(".jpg", portrait())[1].tobytes()
    tiny = cv2.imencode(".jpg", np.zeros((1, 1, 3), np.uint8))[1].tobytes()
    with FakeCamera(http(pictures=[good, good, good[:700] + bytes(300), good, tiny, b""])) as camera:
        daemon = start_daemon(settings_for(broker, cam={"source": f"http://{HOST}:{camera.port}/live"}))
        subscriber.wait_for(lambda m: m.topic == "emotion/test/cam/event", 30)
        eventually(lambda: daemon.value(DROPPED, reason="unusable") > 5, 20, "counted broken pictures")
        assert daemon.value("emotion_edge_camera_up") == 1
        assert not [line for line in daemon.lines() if "camera cam: offline" in line]
        assert daemon.stop() == 0
