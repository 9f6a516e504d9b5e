"""A clip through the daemon's own cameras and pipeline in this process, as fast as it goes, at what cost a stage."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

from edge import __version__
from edge.analyser import Analyser
from edge.bundle import DEFAULT_MODEL, read_bundle
from edge.camera import Camera
from edge.events import Event
from edge.faces import Face, Image
from edge.frames import Frame, Wanted, every
from edge.metrics import Metrics
from edge.pipeline import Pipeline
from edge.replay import EventLog
from edge.settings import CameraSettings, DetectorSettings
from edge.sources.file import FileSource
from edge.tracking import Known, Observation, Place, Rules

CLIP = Path(__file__).parents[1] / "media" / "bench.mp4"
SETTINGS = DetectorSettings()
#: The stages whose cost is known apart from the rest.
STAGES = ("capture", "detect", "regions", "classify")
#: So many frames are not measured: the workers load their networks with the first ones.
WARM = 30
#: Seconds that a clip, those first frames, a camera's end and that of the workers may take.
PATIENCE, WARM_UP, STOP_READING, STOP_WORKERS = 120.0, 30.0, 1.0, 10.0


class BenchError(RuntimeError):
    """A measurement cannot be made; the message says why."""


@dataclass(frozen=True)
class Moment:
    """What was done up to a moment; the difference of two is what was done between them.

    Attributes:
        seconds: by the clock.
        processor: processor seconds of the whole process.
        frames: analysed.
        stages: processor seconds of each of `STAGES`; zero if they were not clocked.
    """

    seconds: float
    processor: float
    frames: float
    stages: dict[str, float]

    def __sub__(self, other: Moment) -> Moment:
        stages = {name: spent - other.stages[name] for name, spent in self.stages.items()}
        return Moment(
            self.seconds - other.seconds, self.processor - other.processor, self.frames - other.frames, stages
        )

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds


class StageClock:
    """Adds up processor seconds by stage; many threads use it at once."""

    def __init__(self) -> None:
        self._spent = dict.fromkeys(STAGES, 0.0)
        self._lock = threading.Lock()

    def spent(self) -> dict[str, float]:
        """Return the processor seconds so far of each stage."""
        with self._lock:
            return dict(self._spent)

    def add(self, stage: str, started: float) -> None:
        """Add what this thread has spent since its processor clock said `started`."""
        spent = time.thread_time() - started
        with self._lock:
            self._spent[stage] += spent


class MeasuredAnalyser(Analyser):
    """The daemon's analyser, which tells what its stages cost."""

    def __init__(self, metrics: Metrics, clock: StageClock) -> None:
        super().__init__(read_bundle(DEFAULT_MODEL), SETTINGS.keep, metrics)
        self._clock = clock

    def find(self, image: Image, places: Sequence[Place] | None, recent: Sequence[Known] = ()) -> list[Face]:
        """Find faces, as the daemon does."""
        started = time.thread_time()
        faces = super().find(image, places, recent)
        self._clock.add("detect" if places is None else "regions", started)
        return faces

    def observe(self, image: Image, face: Face, number: int | None = None) -> Observation:
        """Read a face, as the daemon does."""
        started = time.thread_time()
        observation = super().observe(image, face, number)
        self._clock.add("classify", started)
        return observation


class _MeasuredSource(FileSource):
    def __init__(self, settings: CameraSettings, stopped: threading.Event, clock: StageClock) -> None:
        super().__init__(settings, stopped)
        self._spent = clock

    def read(self, wanted: Wanted = every) -> Frame:
        started = time.thread_time()
        try:
            frame = super().read(wanted)
            return replace(frame, wall=frame.time)  # so that the events of two runs can be compared
        finally:
            self._spent.add("capture", started)


class Rig:
    """Cameras that play the clip as fast as their frames are taken.

    Args:
        workers: threads that analyse.
        interval: seconds between looks at the whole picture; 0 for every frame.
        cameras: how many.
        loop: play for ever, not once.
        heard: called with each event, in order for each camera.
        clip: that is played.
        clocked: tell what each stage costs; reading all those clocks takes a few per cent where frames are small.
    """

    def __init__(
        self,
        workers: int,
        interval: float,
        cameras: int = 1,
        loop: bool = False,
        heard: Callable[[Event], None] = lambda _: None,
        clip: Path = CLIP,
        clocked: bool = True,
    ) -> None:
        bundle = read_bundle(DEFAULT_MODEL)
        self._clock = StageClock()
        self._metrics = Metrics("bench", __version__)

        def analyser() -> Analyser:
            if clocked:
                return MeasuredAnalyser(self._metrics, self._clock)
            return Analyser(bundle, SETTINGS.keep, self._metrics)

        def source(settings: CameraSettings, stopped: threading.Event) -> FileSource:
            return _MeasuredSource(settings, stopped, self._clock) if clocked else FileSource(settings, stopped)

        self._pipeline = Pipeline(analyser, workers)
        self._cameras = [
            Camera(
                str(number),
                CameraSettings(source=str(clip), pace="fast", loop=loop),
                rules=Rules(),
                interval=interval,
                node="bench",
                labels=bundle.info.labels,
                model=bundle.info.name,
                pipeline=self._pipeline,
                outbox=EventLog(heard),
                set_state=lambda _topic, _payload: None,
                metrics=self._metrics,
                factory=source,
            )
            for number in range(cameras)
        ]

    def __enter__(self) -> Rig:
        self._pipeline.start()
        for camera in self._cameras:
            camera.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for camera in self._cameras:
            camera.stop_reading(STOP_READING)
        self._pipeline.stop(STOP_WORKERS)
        for camera in self._cameras:
            camera.stop()

    def now(self) -> Moment:
        """Return what was done so far."""
        return Moment(time.perf_counter(), time.process_time(), self._frames(), self._clock.spent())

    def measure(self, seconds: float = PATIENCE) -> Moment:
        """Return what is done from the warm-up on, in so many seconds or until the clip has ended.

        Raises:
            BenchError: the analysis fails.
        """
        warm = WARM * len(self._cameras)
        self._wait(lambda: self._frames() >= warm, WARM_UP)
        first = self.now()
        self._wait(self._ended, seconds)
        if self._pipeline.failed.is_set() or any(self._metrics.lost(camera.name) for camera in self._cameras):
            raise BenchError("the analysis of the clip failed; the log says why")
        return self.now() - first

    def _wait(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline and not condition() and not self._pipeline.failed.is_set():
            time.sleep(0.01)

    def _ended(self) -> bool:
        return all(camera.capture.finished.is_set() for camera in self._cameras)

    def _frames(self) -> float:
        name = "emotion_edge_frames_analysed_total"
        get = self._metrics.registry.get_sample_value
        return sum(get(name, {"camera": camera.name}) or 0.0 for camera in self._cameras)
