"""The figures, one function each, and what they ought to be.

All of one figure is measured in one run and in turns, so that a machine that is busy for a while slows both sides of
a ratio alike.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.analyser import Analyser
from edge.bench.cores import held_to, processors
from edge.bench.daemon import bench_daemon
from edge.bench.rig import CLIP, SETTINGS, WARM, BenchError, Moment, Rig
from edge.bundle import DEFAULT_MODEL, read_bundle
from edge.events import Event
from edge.metrics import Metrics
from edge.settings import CameraSettings
from edge.sources.file import FileSource

#: Turns that a ratio is the median of, and seconds after which no further turn begins.
TURNS, TURNS_SECONDS = 5, 75.0
DETECTION_TURNS = 2
#: Frames of which the cost of one is the median: those of the clip that a run measures, with as many faces.
FRAMES = 240
#: Seconds of play after which a daemon's memory is read.
MEMORY_SECONDS = 12.0
STARTS = 3
#: A start or end may come this much later or earlier, seconds, and as far away, as a share of the picture, as a face
#: of the clip moves within a part of that.
TOLERANCE, NEAR = 0.5, 0.2
#: Above this, two workers would have done more than twice what one can: the limit was measured wrongly.
IMPOSSIBLE = 1.03


@dataclass(frozen=True)
class Bar:
    """What a figure ought to be: what it is of, and the value that it may not fall short of, or not exceed.

    Without a value it is told for comparison, and any will do.
    """

    title: str
    value: float | None = None
    least: bool = False

    def __str__(self) -> str:
        return "no bar" if self.value is None else f"bar {'≥' if self.least else '≤'} {self.value:g}"

    def holds(self, value: float) -> bool:
        """Tell whether a figure is good enough."""
        return self.value is None or (value >= self.value if self.least else value <= self.value)


BARS = {
    "limit_ratio": Bar("two workers, of what decoding, detector and classifier allow", 0.85, least=True),
    "two_workers_ratio": Bar("two workers against one", 1.7, least=True),
    "two_workers_most": Bar("the most that this could be with so many cores, by what a frame costs"),
    "two_cores_ratio": Bar("two workers on two cores against one on one, decoding included", 1.7, least=True),
    "overhead_share": Bar("processor time beside capture, detection and classification", 0.1),
    "detection_ratio": Bar("detection as shipped against the whole of every frame, same events", 2, least=True),
    "memory_one_mb": Bar("megabytes with one camera, 1280×720", 180),
    "memory_four_mb": Bar("megabytes with four", 260),
    "start_seconds": Bar("from the start of the process to the first frame analysed", 1.5),
}

Figures = dict[str, float]


def work() -> Iterator[Figures]:
    """Measure what the pipeline makes of two workers; every frame is looked at as a whole.

    A single worker has the next frame decoded on another core, if there is one. On two cores a second worker therefore
    cannot bring as much again (`two_workers_most`); `two_cores_ratio` leaves the single one a single core.

    Yields:
        nothing after each turn, the figures at the end; those by cores only where threads can be held to two of them.

    Raises:
        BenchError: two workers did more than is possible.
    """
    limits, pairs, most, cores, overheads = [], [], [], [], []
    count = len(processors())
    started = time.perf_counter()
    for turn in range(TURNS):
        if turn and time.perf_counter() - started > TURNS_SECONDS:
            break
        decode, analyse = cost_of_one()
        two, one = _play(2, clocked=False), _play(1, clocked=False)
        pairs.append(two.rate / one.rate)
        rate = two.rate
        if count >= 2:
            with held_to(2):
                rate = _play(2, clocked=False).rate
            with held_to(1):
                cores.append(rate / _play(1, clocked=False).rate)
            most.append(min(2.0, count * analyse / (decode + analyse)))
        limits.append(rate / (2 / (decode + analyse)))
        told = _play(2)
        overheads.append((told.processor - sum(told.stages.values())) / told.processor)
        yield {}
    limit = statistics.median(limits)
    if limit > IMPOSSIBLE:
        raise BenchError(f"limit_ratio is {limit:.2f}, which cannot be: the machine was busy; measure again")
    yield {
        "limit_ratio": limit,
        "two_workers_ratio": statistics.median(pairs),
        **({"two_workers_most": statistics.median(most), "two_cores_ratio": statistics.median(cores)} if cores else {}),
        "overhead_share": statistics.median(overheads),
    }


def cost_of_one(clip: Path = CLIP) -> tuple[float, float]:
    """Return the seconds that one frame takes with nothing beside: to be decoded; to be looked at as a whole and read.

    The median of each stage, that of a face times the faces of a frame: one that was interrupted does not count.
    """
    source = FileSource(CameraSettings(source=str(clip), pace="fast", loop=True), threading.Event())
    analyser = Analyser(read_bundle(DEFAULT_MODEL), SETTINGS.keep, Metrics("bench", ""))
    source.open()
    decode, detect, classify = [], [], []
    for number in range(WARM + FRAMES):
        started = time.perf_counter()
        image = source.read().image
        decoded = time.perf_counter()
        faces = analyser.find(image, None)
        found = time.perf_counter()
        read = [_seconds(lambda face=face, image=image: analyser.observe(image, face)) for face in faces]  # type: ignore[misc]
        if number >= WARM:
            decode.append(decoded - started)
            detect.append(found - decoded)
            classify.append(read)
    source.close()
    each = [seconds for read in classify for seconds in read]
    per_frame = len(each) / len(classify)
    return statistics.median(decode), statistics.median(detect) + per_frame * statistics.median(each)


def detection() -> Iterator[Figures]:
    """Compare cheap looks between whole ones with the whole of every frame, by processor time and by what they tell.

    Raises:
        BenchError: they did not tell the same.
    """
    ratios = []
    for _ in range(DETECTION_TURNS):
        heard: tuple[list[Event], list[Event]] = [], []
        costs = []
        for interval, events in zip((0.0, SETTINGS.interval), heard, strict=True):
            stages = _play(2, interval, events.append).stages
            costs.append(stages["detect"] + stages["regions"])
        ratios.append(costs[0] / costs[1])
        unlike = differences(*heard)
        if unlike:
            raise BenchError(f"detection as shipped told {unlike} starts or ends otherwise")
        yield {}
    yield {"detection_ratio": statistics.median(ratios)}


def differences(one: list[Event], other: list[Event]) -> int:
    """Count the starts and ends of either that the other does not have, at about the same time and place."""
    count = 0
    for kind in ("start", "end"):
        left = [event for event in other if event.type == kind]
        for event in (event for event in one if event.type == kind):
            same = [candidate for candidate in left if _same(event, candidate)]
            count += not same
            if same:
                left.remove(same[0])
        count += len(left)
    return count


def memory() -> Iterator[Figures]:
    """Read the most memory that a daemon with one camera takes, and with four."""
    for name, cameras in (("memory_one_mb", 1), ("memory_four_mb", 4)):
        with bench_daemon(CLIP, cameras) as daemon:
            daemon.first_frame()
            time.sleep(MEMORY_SECONDS)
            most = daemon.memory()
        yield {} if most is None else {name: most / 1e6}


def start() -> Iterator[Figures]:
    """Measure how soon a daemon has analysed its first frame: the median of some starts."""
    seconds = []
    for _ in range(STARTS):
        with bench_daemon(CLIP, 1) as daemon:
            seconds.append(daemon.first_frame())
        yield {}
    yield {"start_seconds": statistics.median(seconds)}


#: Each yields nothing or figures, `steps` times in all.
MEASUREMENTS: tuple[tuple[str, Callable[[], Iterator[Figures]], int], ...] = (
    ("work of two workers", work, TURNS + 1),
    ("detection", detection, DETECTION_TURNS + 1),
    ("memory", memory, 2),
    ("start", start, STARTS + 1),
)


def _play(
    workers: int, interval: float = 0.0, heard: Callable[[Event], None] = lambda _: None, clocked: bool = True
) -> Moment:
    with Rig(workers, interval, heard=heard, clocked=clocked) as rig:
        return rig.measure()


def _seconds(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def _same(one: Event, other: Event) -> bool:
    def centre(event: Event) -> tuple[float, float]:
        box = event.face.box
        return box.x + box.width / 2, box.y + box.height / 2

    apart = max(abs(a - b) for a, b in zip(centre(one), centre(other), strict=True))
    return abs(one.time - other.time) <= TOLERANCE and apart <= NEAR
