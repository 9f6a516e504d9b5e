"""No picture is stored or published: all that the daemon writes and sends is looked at, while it shows a preview.

The preview's own pictures, which go to who looks at it, show that a picture would be found.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import numpy as np

from edge.demo import CLIP
from edge.faces import Image
from tests.conftest import Parts
from tests.parts import eventually
from tests.parts.broker import Mosquitto
from tests.parts.flicker import TRACKING, flicker_camera, flickering
from tests.parts.settings import settings_for
from tests.parts.subscriber import Subscriber
from tests.parts.traced import TracedDaemon

#: How files with pictures begin, wherever in something larger they stand.
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"RIFF", b"ftyp", b"GIF8", b"II*\x00")
#: Pixels of a row that are nowhere else.
MARKED = 24
#: Pictures of the preview that are looked at meanwhile.
LOOKS = 8


def marked(folder: Path) -> Image:
    """Put a row of noise below pictures of faces; returns some of its pixels."""
    noise = np.random.default_rng(5).integers(0, 256, (8, 640, 3), dtype=np.uint8)
    for path in sorted(folder.iterdir()):
        image = cv2.imread(str(path))
        assert image is not None
        image[-8:] = noise
        cv2.imwrite(str(path), image)
    return noise[3, 100 : 100 + MARKED]


def forms(pixels: Image) -> list[bytes]:
    """Return what those pixels look like in memory: in both orders of the colours, as planes, and in grey."""
    grey = cv2.cvtColor(pixels[None], cv2.COLOR_BGR2GRAY)[0]
    planes = [np.ascontiguousarray(pixels[:, channel]) for channel in range(3)]
    return [pixels.tobytes(), pixels[:, ::-1].tobytes(), grey.tobytes(), *(plane.tobytes() for plane in planes)]


def pictures(content: bytes, pixels: Image) -> list[bytes]:
    """Return the signs of a picture in some bytes."""
    return [sign for sign in (*SIGNATURES, *forms(pixels)) if sign in content]


def look(daemon: TracedDaemon, camera: str) -> bytes:
    """Look at the preview once; returns the picture, none if there is none yet."""
    try:
        with urllib.request.urlopen(f"{daemon.address}/preview/state?viewer=test", timeout=10):
            pass
        with urllib.request.urlopen(f"{daemon.address}/preview/camera/{camera}.jpg", timeout=10) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError:
        return b""


def test_no_picture_is_written_or_sent_but_to_who_looks(
    parts: Parts, broker: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    folder = flickering(tmp_path / "pictures")
    pixels = marked(folder)
    config = settings_for(broker, demo={"source": str(CLIP), "loop": True}, faces=flicker_camera(folder))
    config |= {"preview": {"enabled": True}, "tracking": TRACKING, "summary": {"period": 2}}
    daemon = parts.start(TracedDaemon(config, parts.folder("daemon")))
    for camera in ("demo", "faces"):
        topic = f"emotion/test/{camera}/event"
        eventually(lambda topic=topic: topic in {m.topic for m in subscriber.messages}, 120, topic)  # type: ignore[misc]
        for _ in range(LOOKS):
            eventually(lambda camera=camera: look(daemon, camera), 30, "picture")  # type: ignore[misc]
    subscriber.publish("emotion/test/set", {"id": "1", "command": "snapshot"})
    subscriber.wait_for(lambda m: m.topic == "emotion/test/response", 60, "answer")
    subscriber.wait_for(lambda m: m.topic == "emotion/test/faces/summary", 60, "summary")
    with urllib.request.urlopen(f"{daemon.address}/metrics", timeout=10):
        pass
    assert daemon.stop() == 0

    port = config["metrics"]["port"]
    to_viewers = [each for each in daemon.written() if f":{port}->" in each.target]
    others = [each for each in daemon.written() if f":{port}->" not in each.target]
    # That a picture would be seen: those of the preview are.
    assert sum(b"\xff\xd8\xff" in each.content for each in to_viewers) >= 2 * LOOKS
    # Nothing went to anyone else, on the disk or into the log.
    assert [(each.target, pictures(each.content, pixels)) for each in others if pictures(each.content, pixels)] == []
    to_broker = [each for each in others if f"->127.0.0.1:{broker.port}]" in each.target]
    assert b"probabilities" in b"".join(each.content for each in to_broker)
    # Beside it there is only the pair of sockets by which paho wakes its own thread.
    sent = [each for each in others if each.target.startswith(("TCP", "UDP")) and each not in to_broker]
    assert {each.content for each in sent} <= {b"0"}
    assert daemon.copied() == []
    # Files, by whatever way they were written: those of the outbox, in which there is text only, and the log.
    state = daemon.outbox.parent
    files = {path for path in daemon.opened() if path.startswith("/") and not path.startswith(("/dev/", "/proc/"))}
    assert {Path(path).parent for path in files} == {state}, files
    for path in [*state.iterdir(), daemon.log]:
        assert pictures(path.read_bytes(), pixels) == [], path
    # What came to the broker is JSON that keeps to the schemas (`subscriber` checks that), and none of it is large.
    assert all(json.loads(message.raw) is not None for message in subscriber.messages if message.raw)
    assert max(len(message.raw) for message in subscriber.messages) < 20_000


def test_pictures_are_found_whatever_they_look_like() -> None:
    """Of the check above."""
    pixels = np.random.default_rng(1).integers(0, 256, (MARKED, 3), dtype=np.uint8)
    frame = np.zeros((4, 64, 3), np.uint8)
    frame[2, 5 : 5 + MARKED] = pixels
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    encoded = [cv2.imencode(kind, frame)[1].tobytes() for kind in (".jpg", ".png", ".webp")]
    raw = [frame.tobytes(), frame[:, :, ::-1].tobytes(), grey.tobytes(), frame.transpose(2, 0, 1).tobytes()]
    assert all(pictures(b"before" + content, pixels) for content in (*encoded, *raw))
    assert pictures(b'{"probabilities":{}}', pixels) == []
