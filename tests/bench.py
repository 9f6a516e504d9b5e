"""`make bench`: every figure of `emotion-edge bench --full`, and those that need real parts beside the daemon."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import click
import cv2
import numpy as np
from scipy.stats import theilslopes

from deploy.demo.encode import write_clip
from edge.bench.command import line
from edge.bench.rig import CLIP, SETTINGS, BenchError, Rig
from edge.bench.rows import BARS, IMPOSSIBLE, MEASUREMENTS, Bar, Figures
from edge.bench.sustained import sustained
from edge.schedule import Schedule
from tests.parts import eventually
from tests.parts.analysis import side_by_side
from tests.parts.chosen import chosen
from tests.parts.clocked import Seen, numbered_clip, watch_slowly
from tests.parts.daemon import Daemon
from tests.parts.leaks import left_by_flaps, left_by_rtsp_flaps
from tests.parts.rtp_clock import RtpClock
from tests.parts.rtsp import RtspServer
from tests.parts.settings import settings_for
from tests.scenes import PRESET, QUALITY, read_clip

MORE_BARS = {
    "fer_ratio": Bar("frames a second of two workers against PyPI fer, on the same clip, 596×336", 6, least=True),
    "four_cameras_share": Bar("of the frames of four RTSP cameras, 1280×720 at 10 a second, on two cores", 0.98, True),
    "frame_age_ratio": Bar("age of frames at p99, four cameras, twice overloaded, of the time a stage takes", 2),
    "frame_age_slope": Bar("milliseconds a minute by which that grows", 2),
    "reconnect_bytes": Bar("left by 1,000 reconnects, over HTTP or RTSP", 1 << 20),
    "reconnect_fds": Bar("descriptors left by them", 0),
    "reconnect_threads": Bar("threads left by them", 0),
}
VIDEO = Path(os.environ.get("EMOTION_VIDEO", "../shared/video"))
CAMERAS, RATE, WORKERS = 4, 10, 2
#: The capture's own word for its lag and what the pictures show may differ by this, seconds.
LAGS_APART = 0.1
#: Seconds whose frames' mean age is one point of its slope.
SPAN = 10.0
FER = Path(".cache/fer")
#: What `fer` imports; its other requirements, PyTorch among them, are for what is not measured here. OpenCV 5 has no
#: Haar cascades, which are its default.
FER_NEEDS = ("tensorflow>=2.18", "opencv-contrib-python-headless<5", "requests", "pillow", "setuptools<81")
FER_CLIP, FER_SIZE = "head-pose-face-detection-male", (596, 336)


def reconnects(folder: Path, short: bool) -> Figures:
    """A camera comes and goes, over HTTP and at a real RTSP server; what leaves more counts."""
    count = 50 if short else 1000
    lefts = left_by_flaps(count), left_by_rtsp_flaps(count, folder)
    return {
        "reconnect_bytes": max(left.memory for left in lefts),
        "reconnect_fds": max(left.descriptors for left in lefts),
        "reconnect_threads": max(left.threads for left in lefts),
    }


def four_cameras(folder: Path, short: bool) -> Figures:
    """A daemon on two cores, with cameras at a real server."""
    seconds = 5 if short else 60
    clips = folder / "clips"
    clips.mkdir()
    write_clip(clips / "clip.mp4", read_clip(CLIP), RATE, QUALITY, PRESET)
    with RtspServer(clips, folder / "server") as server:
        cameras = {f"camera-{number}": {"source": server.url("clip.mp4")} for number in range(CAMERAS)}
        daemon = Daemon(settings_for(None, **cameras), folder / "daemon")
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))
        daemon.command[:0] = ["taskset", "--cpu-list", cores]

        def analysed() -> float:
            return daemon.value("emotion_edge_frames_analysed_total")

        with daemon:
            eventually(lambda: daemon.value("emotion_edge_camera_up") == CAMERAS, 30, "cameras", daemon.tail)
            time.sleep(3)
            before, started = analysed(), time.monotonic()
            time.sleep(seconds)
            share = share_of_frames(analysed() - before, time.monotonic() - started)
    return {"four_cameras_share": share}


def share_of_frames(analysed: float, seconds: float) -> float:
    """Return the share of the frames that all cameras sent.

    Raises:
        BenchError: more were analysed than sent, but for one a camera that comes at the edge of the time.
    """
    sent = seconds * RATE * CAMERAS
    if analysed > IMPOSSIBLE * sent + CAMERAS:
        raise BenchError(f"four_cameras_share is {analysed / sent:.2f}, which cannot be: the cameras send more frames")
    return analysed / sent


def frame_age(folder: Path, short: bool) -> Figures:
    """Cameras at a real server, and workers that can do half of what comes; the pictures say when they were sent."""
    seconds = 12 if short else 300
    clips = folder / "clips"
    clips.mkdir()
    numbered_clip(clips / "clip.mp4", RATE, seconds + 10)
    stage = 2 * WORKERS / (CAMERAS * RATE)
    with RtspServer(clips, folder / "server") as server, contextlib.ExitStack() as stack:
        clocks = [stack.enter_context(RtpClock(server.port, RATE)) for _ in range(CAMERAS)]
        seen = watch_slowly(
            [server.url("clip.mp4", clock.port, loop=False) for clock in clocks], seconds, WORKERS, stage
        )
    ages, apart = [], []
    for every, clock in zip(seen, clocks, strict=True):
        frames = list({frame.number: frame for frame in reversed(every)}.values())[::-1]  # some were sent twice
        numbers = [frame.number for frame in frames]
        assert numbers == sorted(numbers), "a stream was opened again"
        assert len(numbers) > seconds, f"{len(numbers)} frames in {seconds} s"
        # The first ones came out of a buffer.
        times, lags = ages_of([frame for frame in frames if frame.number > 2 * RATE], clock.sent)
        ages += times
        apart += lags
    worst = float(np.quantile(apart, 0.99))
    assert worst <= LAGS_APART, f"capture_lag_seconds is {1000 * worst:.0f} ms from what the pictures show"
    figures = {"frame_age_ratio": float(np.quantile([age for _, age in ages], 0.99)) / stage}
    # Turns of camera and workers drift past each other in some seconds, and ages go up and down with it: a few of
    # these have no slope that means anything.
    return figures if short else {**figures, "frame_age_slope": age_slope(ages)}


def age_slope(ages: list[tuple[float, float]]) -> float:
    """Return by how many milliseconds a minute the age of frames grows: the median slope between spans of time.

    Args:
        ages: moment and age of each frame, seconds.
    """
    moments, values = np.array(ages).T
    spans = np.floor((moments - moments.min()) / SPAN)
    means = [(moments[spans == span].mean(), values[spans == span].mean()) for span in np.unique(spans)]
    times, heights = zip(*means, strict=True)
    return float(1000 * 60 * theilslopes(heights, times).slope)


def ages_of(frames: list[Seen], sent: Mapping[int, float]) -> tuple[list[tuple[float, float]], list[float]]:
    """Return of each frame when its result came and how old it was then, and how far its lag is from what it shows.

    Args:
        frames: of a camera.
        sent: when each frame was sent, by its number.
    """
    ages = [(frame.done, frame.done - sent[frame.number]) for frame in frames]
    # The lag is that beyond the least.
    late = [frame.captured - sent[frame.number] for frame in frames]
    late = [each - min(late) for each in late]
    apart = [abs(shown - frame.lag) for shown, frame in zip(late, frames, strict=True) if frame.lag is not None]
    return ages, apart


def fer(folder: Path, short: bool) -> Figures:
    """PyPI's `fer` in an environment of its own and two workers in turns, on the same clip of a person, 596×336."""
    recorded, clip = VIDEO / f"{FER_CLIP}.mp4", folder / "clip.mp4"
    assert recorded.is_file(), f"{VIDEO}: no such clips; name the folder with them in $EMOTION_VIDEO"
    scaled = (np.asarray(cv2.resize(picture, FER_SIZE), np.uint8) for picture in read_clip(recorded))
    write_clip(clip, scaled, 25, QUALITY, PRESET)
    ours = [len(boxes) for boxes in side_by_side(read_clip(clip), 25, [Schedule()])[0].seen]
    ratios = []
    peer = subprocess.Popen(
        [_fer_python(), Path(__file__).parent / "parts" / "fer_peer.py", clip],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with peer:
        assert peer.stdin is not None
        assert peer.stdout is not None
        assert peer.stdout.readline() == "ready\n", "fer does not start; remove .cache/fer and try again"
        for _ in range(1 if short else 3):
            peer.stdin.write("\n")
            peer.stdin.flush()
            theirs = json.loads(peer.stdout.readline())
            with Rig(WORKERS, SETTINGS.interval, loop=True, clip=clip, clocked=False) as rig:
                rate = rig.measure(1 if short else 5).rate
            ratios.append(rate * seconds_where_equal(theirs, ours))
        peer.stdin.close()
    return {"fer_ratio": statistics.median(ratios)}


def seconds_where_equal(theirs: list[tuple[float, int]], ours: list[int]) -> float:
    """Return the mean seconds of the frames in which both see the same number of faces."""
    equal = [seconds for (seconds, faces), mine in zip(theirs, ours, strict=True) if faces == mine]
    assert len(equal) >= len(ours) / 2, f"the same number of faces in {len(equal)} of {len(ours)} frames only"
    return statistics.fmean(equal)


def _fer_python() -> Path:
    """Return the Python of an environment with `fer`, made if there is none yet."""
    python, done = FER / "bin" / "python", FER / "installed"
    if not done.exists():
        venv.create(FER, clear=True, with_pip=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        subprocess.run([*pip, "--no-deps", "fer==25.10.3"], check=True)
        subprocess.run([*pip, *FER_NEEDS], check=True)
        done.touch()
    return python


ROWS: tuple[Callable[[Path, bool], Figures], ...] = (reconnects, four_cameras, frame_age, fer)


@click.command()
@click.option("--short", is_flag=True, help="Without frame_age_slope, which takes minutes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
@click.argument("names", nargs=-1, metavar="[ROW]...")
def main(short: bool, as_json: bool, names: Sequence[str]) -> None:
    """Print a row each, as soon as it is known, or only those named; exit code 1 if one falls short."""
    logging.basicConfig(format="%(levelname)s %(message)s", level="ERROR", stream=sys.stderr)
    cv2.setNumThreads(1)
    bars = {**BARS, **MORE_BARS}
    figures: Figures = {}
    rows = {measure.__name__: partial(_last, measure) for _, measure, _ in MEASUREMENTS}
    rows |= {row.__name__: partial(_in_folder, row, short) for row in ROWS}
    wanted = chosen(names, rows)
    if not names and not as_json:
        *_, answer = sustained()
        print(answer, flush=True)
    failed = False
    for name, row in rows.items():
        if name not in wanted:
            continue
        try:
            found = row()
        except (AssertionError, BenchError) as error:
            failed = True
            print(f"FAILED {name}: {error}", file=sys.stderr, flush=True)
            continue
        figures.update(found)
        for key, value in found.items() if not as_json else ():
            print(line(key, value, bars[key]), flush=True)
    if as_json:
        print(json.dumps({key: round(value, 4) for key, value in figures.items()}, indent=2))
    sys.exit(int(failed or not all(bars[key].holds(value) for key, value in figures.items())))


def _last(measure: Callable[[], Iterator[Figures]]) -> Figures:
    return {key: value for found in measure() for key, value in found.items()}


def _in_folder(row: Callable[[Path, bool], Figures], short: bool) -> Figures:
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        return row(folder, short)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
