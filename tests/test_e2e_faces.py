"""The faces of each frame, for who asks for them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from tests.parts.broker import Mosquitto
from tests.parts.daemon import Daemon
from tests.parts.flicker import TRACKING, flicker_camera, flickering
from tests.parts.settings import settings_for
from tests.parts.subscriber import Subscriber


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
    lines, seen = len(daemon.lines()), len(subscriber.messages)
    os.kill(daemon.pid, signal.SIGHUP)
    line = daemon.wait_for_log("settings: changed", start=lines)
    assert line.endswith("cameras stopped, started or read anew: told")
    started = subscriber.wait_for(
        lambda m: m.topic == "emotion/test/told/event" and m.payload["type"] == "start", 30, start=seen
    ).payload["face"]["id"]
    faces = subscriber.wait_for(
        lambda m: m.topic == "emotion/test/told/faces" and started in [face["id"] for face in m.payload["faces"]], 10
    )
    assert (faces.qos, faces.retain) == (0, False)
    daemon.stop()
    subscriber.wait_for_farewell()
    assert not subscriber.on("emotion/test/other/faces")
    told = subscriber.on("emotion/test/told/faces")
    assert len({m.payload["time"] for m in told}) == len(told), "one a frame"
