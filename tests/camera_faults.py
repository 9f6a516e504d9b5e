"""The part of `make faults` that takes cameras away, or makes them say nonsense."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.demo import CLIP
from tests.parts import HOST, eventually
from tests.parts.camera import FakeCamera, http, rtsp, silent
from tests.parts.daemon import Daemon
from tests.parts.leaks import left_by_flaps
from tests.parts.line import Line
from tests.parts.rows import Fault, Row
from tests.parts.rtsp import RtspServer
from tests.parts.samples import portrait
from tests.parts.settings import settings_for
from tests.parts.watchdog import Watchdog

ANALYSED = "emotion_edge_frames_analysed_total"
H266 = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H266/90000\r\n"


@contextmanager
def _watched(folder: Path) -> Iterator[tuple[Daemon, Line]]:
    """Run a daemon with the cameras `cam`, behind a line, and `other`, at a server."""
    clips = folder / "clips"
    clips.mkdir()
    shutil.copy(CLIP, clips / "clip.mp4")
    with RtspServer(clips, folder / "server") as server, Line(server.port) as line:
        direct = server.url("clip.mp4")
        cameras = {
            "cam": {"source": direct.replace(f":{server.port}/", f":{line.port}/")},
            "other": {"source": direct},
        }
        with Daemon(settings_for(None, **cameras), folder / "daemon") as daemon:
            for name in cameras:
                eventually(lambda: daemon.value(ANALYSED, camera=name) > 10, 60, "frames", daemon.tail)  # noqa: B023
            yield daemon, line


def _frames_after(daemon: Daemon, camera: str, timeout: float) -> float:
    """Return the seconds until a camera's frames are analysed again."""
    before, started = daemon.value(ANALYSED, camera=camera), time.monotonic()
    eventually(lambda: daemon.value(ANALYSED, camera=camera) > before + 1, timeout, "frames again", daemon.tail)
    return time.monotonic() - started


def reset(folder: Path, short: bool) -> Iterator[Row]:
    """A camera's connection is reset, again and again."""
    took = []
    with _watched(folder) as (daemon, line):
        for _ in range(2 if short else 10):
            line.reset()
            eventually(lambda: daemon.value("emotion_edge_camera_up", camera="cam") == 0, 10, "offline", daemon.tail)
            took.append(_frames_after(daemon, "cam", 20))
    figure = f"frames again {min(took):.1f} to {max(took):.1f} s after it"
    yield Row(f"camera: TCP reset ×{len(took)}", figure, "≤ 3 s", max(took) <= 3, speed=True)


def black_hole(folder: Path, short: bool) -> Iterator[Row]:
    """Nothing comes from a camera any more, though its connection stays; later it goes on."""
    with _watched(folder) as (daemon, line):
        line.hole = True
        started, before = time.monotonic(), daemon.value(ANALYSED, camera="other")
        eventually(lambda: daemon.value("emotion_edge_camera_up", camera="cam") == 0, 20, "offline", daemon.tail)
        offline = time.monotonic() - started
        said = daemon.wait_for_log("camera cam: offline")
        time.sleep(0 if short else 60)
        rate = (daemon.value(ANALYSED, camera="other") - before) / (time.monotonic() - started)
        line.hole = False
        online = _frames_after(daemon, "cam", 60)
    bar = 30 if not short else 15
    held = offline <= 10 and "(timeout)" in said and online <= bar
    figure = f"offline after {offline:.1f} s, frames {online:.1f} s after the end"
    yield Row("camera: black hole", figure, "≤ 10 s, ≤ 30 s", held)
    yield Row("camera beside a black hole", f"{rate:.1f} of 15 frames/s", "as before", rate >= 14.5, speed=True)


def reasons(folder: Path, short: bool) -> Iterator[Row]:
    """Cameras that cannot be opened: each says why, once."""
    seconds = 8 if short else 60
    behaviour = {
        "auth": rtsp("401 Unauthorized", challenges=['Basic realm="c"']),
        "not_found": rtsp("404 Not Found"),
        "codec": rtsp(body=H266),
    }
    with ExitStack() as stack:
        servers = {reason: stack.enter_context(FakeCamera(behave)) for reason, behave in behaviour.items()}
        cameras = {reason: {"source": f"rtsp://{HOST}:{each.port}/live"} for reason, each in servers.items()}
        daemon = stack.enter_context(Daemon(settings_for(None, **cameras), folder / "daemon"))
        started = time.monotonic()
        took = {}
        for reason in cameras:
            daemon.wait_for_log(rf"camera {reason}: offline \({reason}\)", 20)
            took[reason] = time.monotonic() - started
        time.sleep(max(0.0, seconds - (time.monotonic() - started)))
        lines = max(sum(f"camera {reason}: offline" in line for line in daemon.lines()) for reason in took)
    figure = f"{', '.join(took)} said after {max(took.values()):.1f} s, {lines} line each in {seconds} s"
    yield Row("camera: 401, 404, bad codec", figure, "≤ 10 s, ≤ 1 line", max(took.values()) <= 10 and lines == 1)


def flaps(folder: Path, short: bool) -> Iterator[Row]:
    """A camera comes and goes."""
    del folder
    count = 60 if short else 200
    left = left_by_flaps(count)
    figure = f"{left.memory / 1024:.0f} KiB, {left.descriptors} descriptors, {left.threads} threads more"
    held = left.memory <= 1 << 20 and not left.descriptors and not left.threads
    yield Row(f"camera: flaps ×{count}", figure, "≤ 1 MiB, 0, 0", held)


def bad_pictures(folder: Path, short: bool) -> Iterator[Row]:
    """Pictures of one pixel, of no bytes, of other sizes, and broken ones, among good ones."""
    seconds = 5 if short else 30

    def jpeg(picture: Any) -> bytes:
        return bytes(cv2.imencode(".jpg", picture)[1])

    good = jpeg(portrait())
    small, tiny = jpeg(cv2.resize(portrait(), (320, 240))), jpeg(np.zeros((1, 1, 3), np.uint8))
    pictures = [good, tiny, good, b"", small, good[:900] + bytes(400), good, good[: len(good) // 2], small]
    files = folder / "pictures"
    files.mkdir()
    for number, picture in enumerate(pictures):
        (files / f"{number}.jpg").write_bytes(picture)
    with FakeCamera(http(pictures=pictures)) as camera:
        source = {"source": f"http://{HOST}:{camera.port}/live"}
        # OpenCV brings pictures of a stream to the size of the first; those of files have their own.
        whole = {"source": f"{files}/", "fps": 10, "loop": True}
        with Daemon(settings_for(None, cam=source, files=whole), folder / "daemon") as daemon:

            def analysed_of_each() -> list[float]:
                return [daemon.value(ANALYSED, camera=name) for name in ("cam", "files")]

            eventually(lambda: min(analysed_of_each()) > 5, 60, "frames", daemon.tail)
            time.sleep(seconds)
            analysed = analysed_of_each()
            resized = daemon.value("emotion_edge_capture_incidents_total", kind="resized", camera="files")
            unusable = daemon.value("emotion_edge_frames_dropped_total", reason="unusable")
            failed = daemon.value("emotion_edge_frames_dropped_total", reason="failed")
            running = daemon.running
    figure = (
        f"{sum(analysed):.0f} pictures analysed, {unusable:.0f} counted as unusable, {resized:.0f} times another size, "
        f"{failed:.0f} failures"
    )
    held = running and min(analysed) > 10 and unusable > 5 and resized > 0 and not failed
    yield Row("camera: 1×1, empty, resized, corrupt pictures", figure, "0 failures, counted", held)


def all_away(folder: Path, short: bool) -> Iterator[Row]:
    """Every camera is a black hole and no broker answers, for three periods of the watchdog."""
    period = 5.0 if short else 30.0
    with ExitStack() as stack:
        holes = [stack.enter_context(FakeCamera(silent)) for _ in range(2)]
        watchdog = stack.enter_context(Watchdog(folder, period))
        cameras = {f"cam-{number}": {"source": f"rtsp://{HOST}:{hole.port}/live"} for number, hole in enumerate(holes)}
        daemon = Daemon(settings_for(None, **cameras), folder / "daemon", environment=watchdog.environment)
        stack.enter_context(daemon)
        eventually(lambda: watchdog.fed() > 0, 60, "first feed", daemon.tail)
        time.sleep(3 * period)
        longest, running = watchdog.longest(), daemon.running
    figure = f"fed every {longest:.1f} s at the latest of {period:g}"
    yield Row("all cameras black-holed, no broker", figure, "no restart", running and longest < period)


CAMERA_FAULTS: tuple[Fault, ...] = (reset, black_hole, reasons, flaps, bad_pictures, all_away)
