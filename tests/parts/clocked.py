"""Streams whose pictures show their number, drawn as black and white squares: when each was sent is known from it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from deploy.demo.encode import write_clip
from edge.analyser import Analyser
from edge.bench.rig import SETTINGS
from edge.bundle import DEFAULT_MODEL, read_bundle
from edge.camera import Camera
from edge.faces import Image
from edge.frames import Frame
from edge.metrics import Metrics
from edge.pipeline import Pipeline
from edge.replay import EventLog
from edge.schedule import WHOLE, Look
from edge.settings import CameraSettings
from edge.tracking import Observation, Rules, Track, Transition

#: So many squares of so many pixels, in steps so far apart that the encoder does not take one for another that moved.
BITS, SQUARE, STEP = 14, 24, 72


def number_picture(picture: Image, number: int) -> Image:
    """Return a copy with the number drawn into its top left corner."""
    drawn = picture.copy()
    for bit in range(BITS):
        drawn[:SQUARE, bit * STEP : bit * STEP + SQUARE] = 255 * (number >> bit & 1)
    return drawn


def number_of(picture: Image) -> int:
    """Read the number that is drawn into a picture."""
    middle = SQUARE // 2
    levels = picture[middle, middle : BITS * STEP : STEP].mean(axis=1)
    return sum(1 << bit for bit in range(BITS) if levels[bit] > 127)


def numbered_clip(out: Path, rate: int, seconds: float) -> None:
    """Write a grey clip, 1280×720, its frames numbered from 0.

    Each but the first fits into one packet, because the server spreads the packets of a frame over the time until the
    next one, which no camera does, and sends two more before a keyframe. Now and then the server sends a frame twice,
    so that what differs from the one before is added twice: to white and black that makes no difference.
    """
    grey = np.full((720, 1280, 3), 128, np.uint8)
    pictures = (number_picture(grey, number) for number in range(round(rate * seconds)))
    write_clip(out, pictures, rate, 30, "veryfast", keyframes=round(rate * seconds))


@dataclass(frozen=True)
class Seen:
    """A frame whose result is there: its number, when it was read and when its result came, and the lag it was read at.

    Times are monotonic seconds; no lag where none is known.
    """

    number: int
    captured: float
    done: float
    lag: float | None


class ClockedCamera(Camera):
    """Writes down each frame that was analysed, as `frames`."""

    frames: list[Seen]

    def _analysed(self, frame: Frame, transitions: Sequence[Transition], tracks: Sequence[Track]) -> None:
        super()._analysed(frame, transitions, tracks)
        self.frames.append(Seen(number_of(frame.image), frame.captured, time.monotonic(), frame.lag))


class SlowAnalyser(Analyser):
    """Takes the same time for every frame, as if the machine were slower than it is."""

    def __init__(self, metrics: Metrics, seconds: float) -> None:
        super().__init__(read_bundle(DEFAULT_MODEL), SETTINGS.keep, metrics)
        self._seconds = seconds

    def __call__(self, image: Image, how: Look = WHOLE) -> list[Observation]:
        """Return what is seen, not before the time is over."""
        due = time.monotonic() + self._seconds
        found = super().__call__(image, how)
        threading.Event().wait(max(0.0, due - time.monotonic()))
        return found


def watch_slowly(sources: Sequence[str], seconds: float, workers: int, each: float) -> list[list[Seen]]:
    """Return the frames of live sources that workers, who take `each` seconds a frame, analyse in so many seconds."""
    cv2.setNumThreads(1)
    bundle, metrics = read_bundle(DEFAULT_MODEL), Metrics("bench", "")
    pipeline = Pipeline(lambda: SlowAnalyser(metrics, each), workers)
    cameras = []
    for number, source in enumerate(sources):
        camera = ClockedCamera(
            str(number),
            CameraSettings(source=source),
            rules=Rules(),
            interval=SETTINGS.interval,
            node="bench",
            labels=bundle.info.labels,
            model=bundle.info.name,
            pipeline=pipeline,
            outbox=EventLog(lambda _: None),
            set_state=lambda _topic, _payload: None,
            metrics=metrics,
        )
        camera.frames = []
        cameras.append(camera)
    pipeline.start()
    for camera in cameras:
        camera.start()
    time.sleep(seconds)
    for camera in cameras:
        camera.stop_reading(5)
    pipeline.stop(5)
    return [camera.frames for camera in cameras]
