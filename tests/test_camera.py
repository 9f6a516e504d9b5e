"""One camera, from frames to events, with a worker played by the test."""

import json
import time

import numpy as np

from edge.camera import Camera
from edge.events import Box
from edge.frames import Frame
from edge.metrics import Metrics
from edge.outbox import Outbox
from edge.pipeline import Pipeline
from edge.settings import CameraSettings
from edge.tracking import Observation, Rules
from tests.parts import eventually
from tests.parts.samples import LABELS

FACE = Observation(Box(0.4, 0.4, 0.2, 0.2), 0.9, np.full(8, 1 / 8, np.float32))


def frame(seconds):
    return Frame(np.zeros((48, 64, 3), np.uint8), seconds, 1_700_000_000 + seconds, time.monotonic())


def test_frames_under_way_when_a_camera_is_lost_count_before_its_end():
    """Every worker still has a frame; what they find belongs before the end of the faces, not after it."""
    states, outbox, hold = {}, Outbox(), []

    def analyse(_image):
        eventually(lambda: hold, 10, "loss of the camera")
        return [FACE]

    pipeline = Pipeline(lambda: analyse, 4)
    camera = Camera(
        "door",
        CameraSettings(source="rtsp://door/stream"),
        rules=Rules(),
        node="node",
        labels=LABELS,
        model="model 1",
        pipeline=pipeline,
        outbox=outbox,
        set_state=lambda topic, payload: (states.update({topic: json.loads(payload)}), hold.append(topic)),
        metrics=Metrics("node", "0"),
    )
    pipeline.start()
    for number in range(4):
        camera._slot.put(frame(0.4 * number), camera.capture._stopped)
        eventually(lambda number=number: camera._lane.in_flight() == number + 1, 10, "ticket")
    camera.offline("ended", "the stream ended")
    camera._lane.drain(10)
    pipeline.stop(5)
    events = [outbox.offer(0) for _ in range(len(outbox))]
    assert [(event.type, event.reason) for event in events] == [("start", None), ("end", "camera_offline")]
    assert states["door/emotion"]["faces"] == 0
