"""A video file through the daemon's own pipeline, as fast as it goes: its events, and nothing else.

The same file, model, settings and package versions give the same bytes, with however many workers: times are the
file's own, and where to look in a frame is decided by a fixed number of frames before it.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import cv2
from pydantic import ValidationError

from edge import __version__
from edge.analyser import Analyser
from edge.bundle import read_bundle
from edge.camera import Camera
from edge.events import Event
from edge.frames import CaptureError, Frame, Wanted, every
from edge.metrics import Metrics
from edge.pipeline import Pipeline
from edge.section import first_mistake
from edge.settings import CameraSettings, Settings, TlsSettings
from edge.settings_file import load_settings
from edge.sources.file import FileSource
from edge.store import Message
from edge.tracking import Rules
from edge.yunet import read_detector

#: Name of node and camera where no settings give one.
NAME = "replay"
#: Frames commonly under way at once, whatever the machine, by which it is the same on all of them.
DEPTH = 2
STOP_WORKERS = 10.0


class ReplayError(RuntimeError):
    """A file cannot be replayed; the message names it."""


class EventLog:
    """Takes events where the daemon has its outbox; events of a replay are of epoch 0."""

    epoch = 0

    def __init__(self, write: Callable[[Event], None]) -> None:
        self._write = write
        self._numbers: Counter[str] = Counter()

    def number(self, camera: str) -> int:
        """Return the number of a camera's next event."""
        self._numbers[camera] += 1
        return self._numbers[camera]

    def put(self, events: Iterable[Event]) -> None:
        """Write events in order."""
        for event in events:
            self._write(event)

    def put_message(self, message: Message) -> None:
        """Leave out summaries: a replay is of events."""


class _ReplaySource(FileSource):
    """A file whose wall clock is its media time, counted from `start`, seconds since 1970."""

    def __init__(self, settings: CameraSettings, stopped: threading.Event, start: float) -> None:
        super().__init__(settings, stopped)
        self._start = start

    def explain(self, error: CaptureError) -> CaptureError:
        """Return the error of a file that is tried once."""
        return CaptureError("unreadable", str(error)) if error.reason == "not_found" else error

    def read(self, wanted: Wanted = every) -> Frame:
        """Return the next frame."""
        frame = super().read(wanted)
        return replace(frame, wall=self._start + frame.time)


def replay(settings: Settings, name: str, start: float, write: Callable[[Event], None]) -> str:
    """Play one camera of the settings, which is a file, once through.

    Args:
        settings: model, detector, tracking, workers and node count.
        name: of the camera.
        start: time of the file's first moment, seconds since 1970.
        write: called with each event, in order, from another thread.

    Returns:
        A warning if the file may be cut off; else nothing.

    Raises:
        BundleError: the model file cannot be used.
        DetectorError: the detector's file cannot be used.
        ReplayError: the file is no video, or its analysis failed.
        OSError: `write` raised it; nothing is written after that.
    """
    unwritten: list[OSError] = []

    def write_until_it_fails(event: Event) -> None:
        if not unwritten:
            try:
                write(event)
            except OSError as error:  # here, in the camera's thread, it would count as a failed analysis
                unwritten.append(error)
                camera.capture.finished.set()

    sources: list[_ReplaySource] = []

    def source(chosen: CameraSettings, stopped: threading.Event) -> _ReplaySource:
        sources.append(_ReplaySource(chosen, stopped, start))
        return sources[-1]

    cv2.setNumThreads(1)
    camera_settings = settings.cameras[name].model_copy(update={"pace": "fast", "loop": False})
    bundle = read_bundle(settings.model)
    metrics = Metrics(settings.node, __version__)
    yunet = read_detector(settings.detector.model)
    pipeline = Pipeline(
        lambda: Analyser(bundle, settings.detector.keep, metrics, yunet), settings.workers or DEPTH, DEPTH
    )
    camera = Camera(
        name,
        camera_settings,
        rules=Rules(begin=settings.detector.threshold, **settings.tracking.model_dump()),
        interval=settings.detector.interval,
        node=settings.node,
        labels=bundle.info.labels,
        model=f"{bundle.info.name} {bundle.info.version}",
        pipeline=pipeline,
        outbox=EventLog(write_until_it_fails),
        set_state=lambda _topic, _payload: None,
        metrics=metrics,
        factory=source,
    )
    pipeline.start()
    camera.start()
    try:
        while not camera.capture.finished.wait(1):
            if camera.capture.check(time.monotonic()):  # what it would read now begins anew
                raise ReplayError(f"{camera_settings.source}: the thread that reads it died")
    finally:  # at Ctrl-C too: a thread that is inside the runtime when the process ends would abort it
        pipeline.stop(STOP_WORKERS)
        camera.stop()
    if unwritten:
        raise unwritten[0]
    _complain(Path(camera_settings.source), camera, metrics.lost(name), sources[-1].damage())
    fewer = sources[-1].fewer()
    return f"{camera_settings.source}: played to its end{fewer}" if fewer else ""


def replay_settings(file: Path, config: Path | None, camera: str | None, workers: int | None) -> tuple[Settings, str]:
    """Return settings whose cameras hold the file, and that camera's name.

    Args:
        file: to be played.
        config: settings to take all else from; what ships by default.
        camera: of `config`, what holds for the file's pictures.
        workers: threads; as in `config` by default.

    Raises:
        ReplayError: there is no such file or camera.
        SettingsError: `config` cannot be used.
    """
    if not os.path.isfile(file):
        raise ReplayError(_why_no_file(file))
    if camera and not config:
        raise ReplayError(f"--camera {camera} needs the settings that it stands in; name them with --config")
    path = os.path.abspath(file)  # a name alone can be a webcam's index, or begin with ~
    source = {"source": path, "username": None, "password": None, "tls": TlsSettings()}
    loaded = load_settings(config) if config else None
    if camera and loaded and camera not in loaded.cameras:
        raise ReplayError(f"{config}: cameras: no camera {camera}; there are {', '.join(loaded.cameras)}")
    try:
        base = loaded.cameras[camera] if loaded and camera else CameraSettings(source=path)
    except ValidationError as error:
        raise ReplayError(f"{file}: {first_mistake(error)}; give the file another name") from None
    name = camera or NAME
    cameras = {name: base.model_copy(update=source)}
    settings = loaded or Settings(node=NAME, cameras=cameras)
    return settings.model_copy(update={"cameras": cameras, "workers": workers or settings.workers}), name


def _why_no_file(path: Path) -> str:
    if re.match("[a-z]{2,}:/", str(path)):
        # Not shown again: it may hold a password.
        return "that is an address; replay plays files, emotion-edge run follows streams"
    return f"{path}: {'is no file' if os.path.exists(path) else 'no such file'}; name a video file"


def _complain(path: Path, camera: Camera, lost: int, damage: str) -> None:
    if camera.capture.failed.is_set():
        raise ReplayError(f"{path}: not a video that OpenCV can decode; name another file")
    if lost:
        raise ReplayError(f"{path}: the analysis of {lost} frames failed, so the events are not complete; see the log")
    if damage:
        raise ReplayError(f"{path}: {damage}; the events are those of the others")
