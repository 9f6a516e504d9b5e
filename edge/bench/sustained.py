"""How many cameras this machine sustains, and which stage limits: estimated in this process, tried with the daemon."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from edge.bench.daemon import bench_daemon
from edge.bench.rig import CLIP, SETTINGS, Rig

#: Frames a second of the clip, and its size.
RATE, SIZE = 15.0, "1280×720"
#: Seconds that the estimate and each trial take; a trial's first seconds are not counted.
ESTIMATE, TRIAL, SETTLE = 15.0, 15.0, 4.0
#: No further trial begins after so many seconds, so that the slowest ends within four minutes, and no more cameras are
#: tried.
LONGEST, MOST = 120.0, 32
#: Share of the frames that must be analysed.
ENOUGH = 0.98
#: What a stage's name means to a user.
MEANING = {
    "capture": "decoding",
    "detect": "looking at whole pictures",
    "regions": "looking for faces where they are expected",
    "classify": "reading expressions",
    "rest": "everything beside decoding and the networks",
}


@dataclass(frozen=True)
class Sustained:
    """What a machine sustains.

    Attributes:
        cameras: that were tried with the daemon.
        rate: frames a second of each that are analysed.
        stage: that takes the most processor time, of `MEANING`.
        share: of the processor time, 0–1.
    """

    cameras: int
    rate: float
    stage: str
    share: float

    def __str__(self) -> str:
        cameras = "1 camera" if self.cameras == 1 else f"{self.cameras} cameras"
        more = " or more" if self.cameras == MOST else ""
        what = f"{MEANING[self.stage]} takes most, {100 * self.share:.0f} % of the processor time"
        return f"this machine sustains {cameras}{more} of {SIZE} at {self.rate:.3g} frames a second; {what}"


def sustained() -> Iterator[Sustained | None]:
    """Find it out.

    Yields:
        nothing after the estimate and after each trial that failed, the answer at the end.

    Raises:
        BenchError: the analysis fails, or the daemon does not start.
    """
    began = time.perf_counter()
    workers = os.cpu_count() or 1
    with Rig(workers, SETTINGS.interval, cameras=min(workers, MOST), loop=True) as rig:
        spent = rig.measure(ESTIMATE)
    stages = {**spent.stages, "rest": spent.processor - sum(spent.stages.values())}
    stage = max(stages, key=lambda name: stages[name])
    share = stages[stage] / spent.processor
    yield None
    cameras = int(min(max(1, spent.rate // RATE), MOST))
    rate = _trial(cameras)
    while rate < ENOUGH * RATE and cameras > 1 and time.perf_counter() - began < LONGEST:
        yield None
        # What a trial made of too many cameras says how many are worth the next one.
        cameras = max(1, min(cameras - 1, int(cameras * rate / RATE)))
        rate = _trial(cameras)
    yield Sustained(cameras, min(rate, RATE), stage, share)


def _trial(cameras: int) -> float:
    """Return how many frames a second of each camera a daemon analyses: a recording waits where it falls behind."""
    with bench_daemon(CLIP, cameras) as daemon:
        daemon.first_frame()
        time.sleep(SETTLE)
        before, started = daemon.analysed(), time.perf_counter()
        time.sleep(TRIAL)
        after, ended = daemon.analysed(), time.perf_counter()
    return (after - before) / (ended - started) / cameras
