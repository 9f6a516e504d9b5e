"""`make soak`: a daemon with two cameras and a broker for half an hour or longer; what grows meanwhile.

`python -m tests.soak HOURS` prints the slopes of memory, descriptors and frame age, and fails if one is too steep.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import click
from scipy.stats import theilslopes

from edge.demo import CLIP
from tests.parts import eventually
from tests.parts.broker import Mosquitto
from tests.parts.daemon import Daemon
from tests.parts.rtsp import RtspServer
from tests.parts.settings import settings_for

#: This share of the time is not looked at: buffers fill, and the first events of each kind are made.
SETTLE = 1 / 3
SAMPLES = 200
#: Readings of the memory a sample, and seconds between them.
READINGS, READING = 20, 0.05
CAMERAS = 2


@dataclass(frozen=True)
class Sample:
    """What a daemon takes at a moment: bytes of memory, descriptors, and the mean age of frames since the last one."""

    hours: float
    memory: float
    descriptors: float
    age: float


@dataclass(frozen=True)
class Slope:
    """By how much something grows an hour, and by how much it may."""

    name: str
    an_hour: float
    bar: float

    def __str__(self) -> str:
        held = "held " if self.an_hour <= self.bar else "SHORT"
        return f"{held}  {self.name} {self.an_hour:+.3f} an hour (bar ≤ {self.bar:g})"


def slopes(samples: Sequence[Sample]) -> list[Slope]:
    """Return what grows: the median of the slopes between any two samples, which single peaks do not move."""
    settled = samples[int(SETTLE * len(samples)) :]
    hours, *columns = zip(*map(astuple, settled), strict=True)
    memory, descriptors, age = (float(theilslopes(column, hours).slope) for column in columns)
    return [
        Slope("memory, MiB", memory / 2**20, 1),
        Slope("descriptors", descriptors, 0),
        # A queue that grows would make it seconds.
        Slope("frame age, ms", 1000 * age, 20),
    ]


def soak(folder: Path, seconds: float) -> list[Sample]:
    """Run a daemon for so long; returns its samples."""
    clips = folder / "clips"
    clips.mkdir()
    shutil.copy(CLIP, clips / "clip.mp4")
    samples: list[Sample] = []
    with Mosquitto(folder / "broker") as broker, RtspServer(clips, folder / "server") as server:
        cameras = {f"camera-{number}": {"source": server.url("clip.mp4")} for number in range(CAMERAS)}
        with Daemon(settings_for(broker, **cameras), folder / "daemon") as daemon:
            daemon.wait_for_ready()
            eventually(lambda: daemon.value("emotion_edge_camera_up") == CAMERAS, 60, "cameras", daemon.tail)
            started = time.monotonic()
            ages = _ages(daemon)
            while time.monotonic() - started < seconds:
                time.sleep(max(0.0, started + (len(samples) + 1) * seconds / SAMPLES - time.monotonic()))
                before, ages = ages, _ages(daemon)
                age = (ages[0] - before[0]) / max(1.0, ages[1] - before[1])
                hours = (time.monotonic() - started) / 3600
                samples.append(Sample(hours, _memory(daemon.pid), _descriptors(daemon.pid), age))
            assert daemon.value("emotion_edge_camera_up") == CAMERAS, daemon.tail()
    return samples


def _ages(daemon: Daemon) -> tuple[float, float]:
    """Return the ages of all frames so far, added up, and how many there were."""
    return daemon.value("emotion_edge_frame_age_seconds_sum"), daemon.value("emotion_edge_frame_age_seconds_count")


def _memory(pid: int) -> float:
    """Return the least of some readings: between them is the memory of pictures under way, which comes and goes."""

    def now() -> float:
        found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        assert found
        return 1024.0 * int(found[1])

    least = now()
    for _ in range(READINGS):
        time.sleep(READING)
        least = min(least, now())
    return least


def _descriptors(pid: int) -> float:
    return float(len(os.listdir(f"/proc/{pid}/fd")))


@click.command()
@click.argument("hours", type=click.FloatRange(0, min_open=True), default=0.5)
def main(hours: float) -> None:
    """Run a daemon for so many HOURS and print a line for each slope; exit code 1 if one is too steep."""
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        samples = soak(folder, 3600 * hours)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    last = samples[-1]
    print(f"after {hours:g} hours: {last.memory / 2**20:.0f} MiB, {last.descriptors:.0f} descriptors", flush=True)
    found = slopes(samples)
    print("\n".join(map(str, found)))
    sys.exit(int(any(slope.an_hour > slope.bar for slope in found)))


if __name__ == "__main__":
    main()
