"""The faces of each frame, for who asks for them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from tests.parts import eventually
from tests.parts.broker import Mosquitto
from tests.parts.daemon import Daemon
from tests.parts.flicker import TRACKING, flicker_camera, flickering
from tests.parts.settings import settings_for
from tests.parts.subscriber import Message, Subscriber


def test_faces_of_each_frame_come_from_the_camera_that_was_told_to_while_it_ran(
    tmp_path: Path, broker: Mosquitto, subscriber: Subscriber, start_daemon: Callable[..., Daemon]
) -> None:
    """That they keep to the schema is checked by `subscriber`."""
    camera = flicker_camera(flickering(tmp_path / "pictures"))
    daemon = start_daemon({**settings_for(broker, told=camera, other=camera), "tracking": TRACKING})
    for name in ("told", "other"):
        subscriber.wait_for(lambda m, name=name: m.topic == f"emotion/test/{name}/event", 30)  # type: ignore[misc]
    assert not subscriber.on("emotion/test/+/faces"), "off by default"

    daemon.config["cameras"]["told"] = {**camera, "faces": True}
    daemon.write_config()
    lines = len(daemon.lines())
    os.kill(daemon.pid, signal.SIGHUP)
    line = daemon.wait_for_log("settings: changed", start=lines)
    assert line.endswith("cameras stopped, started or read anew: told")

    def with_a_start() -> Message | None:
        """Return a message with a face that has an event too: not each start is of the camera as it is now."""
        events = [m.payload for m in subscriber.on("emotion/test/told/event")]
        starts = {event["face"]["id"] for event in events if event["type"] == "start"}
        told = subscriber.on("emotion/test/told/faces")
        return next((m for m in told if starts & {face["id"] for face in m.payload["faces"]}), None)

    faces = eventually(with_a_start, 30, "faces of which a start was told")
    assert faces is not None
    assert (faces.qos, faces.retain) == (0, False)
    daemon.stop()
    subscriber.wait_for_farewell()
    assert not subscriber.on("emotion/test/other/faces")
    told = subscriber.on("emotion/test/told/faces")
    assert len({m.payload["time"] for m in told}) == len(told), "one a frame"
