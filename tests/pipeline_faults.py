"""The part of `make faults` that makes the analysis slow, hang or fail, or ends the daemon in the midst of it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge.bundle import DEFAULT_MODEL
from edge.demo import CLIP
from tests.parts import eventually
from tests.parts.ailing import SLOWER, AilingDaemon
from tests.parts.broker import Mosquitto
from tests.parts.daemon import Daemon
from tests.parts.rows import Fault, Row
from tests.parts.rtsp import RtspServer
from tests.parts.settings import settings_for
from tests.parts.subscriber import Subscriber
from tests.parts.watchdog import Watchdog, restart_pause

ANALYSED, CAPTURED = "emotion_edge_frames_analysed_total", "emotion_edge_frames_captured_total"
DROPPED, AGE = "emotion_edge_frames_dropped_total", "emotion_edge_frame_age_seconds"
STATUS = "emotion/test/status"
FILE: dict[str, Any] = {"source": str(CLIP), "loop": True}
#: Frames of a camera that may be under way: one in the slot, one with each worker.
CAMERAS, WORKERS = 4, 2


def slow(folder: Path, short: bool) -> Iterator[Row]:
    """The analysis takes ten times as long as it does, with more cameras than it can do then."""
    seconds = 10 if short else 60
    clips = folder / "clips"
    clips.mkdir()
    shutil.copy(CLIP, clips / "clip.mp4")
    with RtspServer(clips, folder / "server") as server:
        cameras = {f"camera-{number}": {"source": server.url("clip.mp4")} for number in range(CAMERAS)}
        config = {**settings_for(None, **cameras), "workers": WORKERS}
        with AilingDaemon("slow", config, folder / "daemon", {}) as daemon:
            eventually(lambda: daemon.value("emotion_edge_camera_up") == CAMERAS, 90, "cameras", daemon.tail)
            time.sleep(3)
            ages = [_mean_age(daemon, seconds / 2)]
            # Something else may keep the machine busy for a while. In a queue frames would be older each time.
            while len(ages) < 2 or (not _bounded(ages) and len(ages) < 6):
                ages.append(_mean_age(daemon, seconds / 2))
            # One scrape, because frames come while one asks.
            totals = dict.fromkeys((CAPTURED, ANALYSED, DROPPED), 0.0)
            for sample in daemon.metrics():
                if sample.name in totals:
                    totals[sample.name] += sample.value
    waiting = totals[CAPTURED] - totals[ANALYSED] - totals[DROPPED]
    figure = (
        f"frames are {ages[0]:.2f} s old, {ages[-1]:.2f} s later on, {totals[DROPPED]:.0f} of {totals[CAPTURED]:.0f} "
        f"dropped and counted, {waiting:.0f} under way"
    )
    held = _bounded(ages) and totals[DROPPED] > 0 and waiting <= CAMERAS * (1 + WORKERS)
    yield Row(f"analysis {SLOWER} times slower", figure, "age bounded, counted, no queue", held)


def _mean_age(daemon: Daemon, seconds: float) -> float:
    """Return the mean age of the frames that are analysed in so many seconds."""
    age, count = daemon.value(f"{AGE}_sum"), daemon.value(f"{AGE}_count")
    time.sleep(seconds)
    return (daemon.value(f"{AGE}_sum") - age) / (daemon.value(f"{AGE}_count") - count)


def _bounded(ages: list[float]) -> bool:
    """Tell whether frames are about as old in the end as in the beginning."""
    return ages[-1] <= 1.5 * ages[0] + 0.2


def hangs(folder: Path, short: bool) -> Iterator[Row]:
    """An analysis never returns: the watchdog is fed no more, and systemd begins anew."""
    period = 3.0 if short else 30.0
    config = settings_for(None, cam=FILE)
    with Watchdog(folder, period) as watchdog:
        daemon = AilingDaemon("hangs", config, folder / "daemon", watchdog.environment)
        try:
            daemon.launch()
            daemon.wait_for_log("ailing: hangs", 60)
            started = time.monotonic()
            eventually(watchdog.starved, period + 60, "starved watchdog", daemon.tail)
            daemon.kill()
            # What systemd waits besides, by our unit.
            took = time.monotonic() - started + restart_pause()
            daemon.launch()
            eventually(lambda: daemon.ready() and daemon.value(ANALYSED) > 0, 60, "frames again", daemon.tail)
        finally:
            daemon.close()
    bar = period + 5
    yield Row(
        "analysis hangs", f"killed and begun anew after {took:.1f} s", f"≤ watchdog + 5 s = {bar:g} s", took <= bar
    )


def raises(folder: Path, short: bool) -> Iterator[Row]:
    """An analysis raises: the worker begins anew; one that always raises ends the process."""
    del short
    config = settings_for(None, cam={**FILE, "pace": "fast"})
    with AilingDaemon("raises once", config, folder / "once", {}) as daemon:
        eventually(lambda: daemon.value(DROPPED, reason="failed") == 1, 60, "failure", daemon.tail)
        before, started = daemon.value(ANALYSED), time.monotonic()
        eventually(lambda: daemon.value(ANALYSED) >= before + 10, 60, "frames", daemon.tail)
        took = time.monotonic() - started
    figure = f"1 frame lost, 10 more analysed {took:.1f} s later"
    yield Row("a worker raises", figure, "≤ 1 s", took <= 1, speed=True)
    daemon = AilingDaemon("raises", config, folder / "always", {})
    daemon.launch()
    try:
        code = daemon.wait(60)
    finally:
        daemon.close()
    yield Row("a worker always raises", f"exit code {code}", "not 0", code == 1)


def stop_under_load(folder: Path, short: bool) -> Iterator[Row]:
    """SIGTERM while every worker is busy."""
    took, codes, states = [], [], []
    with Mosquitto(folder / "broker") as broker, Subscriber(broker.port, ("emotion/test/status",)) as subscriber:
        for number in range(2 if short else 10):
            cameras = {f"camera-{each}": {**FILE, "pace": "fast"} for each in range(CAMERAS)}
            with Daemon(settings_for(broker, **cameras), folder / f"daemon-{number}") as daemon:
                daemon.wait_for_ready()
                eventually(lambda: daemon.value(ANALYSED) > 50, 60, "frames", daemon.tail)
                seen, started = len(subscriber.messages), time.monotonic()
                codes.append(daemon.stop())
                took.append(time.monotonic() - started)
            last = subscriber.wait_for(lambda m: m.payload["state"] == "offline", 10, start=seen)
            states.append(last.payload.get("reason"))
    figure = f"ended in {max(took):.1f} s at most, exit codes {set(codes)}, said offline ({', '.join(set(states))})"
    held = max(took) <= 5 and set(codes) == {0} and set(states) == {"stopped"}
    yield Row(f"SIGTERM under load ×{len(took)}", figure, "≤ 5 s, 0, offline", held)


def bad_model(folder: Path, short: bool) -> Iterator[Row]:
    """SIGHUP, and the model file is damaged."""
    del short
    model = folder / "model.tflite"
    shutil.copy(DEFAULT_MODEL, model)
    config = {**settings_for(None, cam=FILE), "model": str(model)}
    with Daemon(config, folder / "daemon") as daemon:
        eventually(lambda: daemon.value(ANALYSED) > 5, 60, "frames", daemon.tail)
        info = [sample.labels for sample in daemon.metrics() if sample.name == "emotion_edge_model_info"]
        model.write_bytes(DEFAULT_MODEL.read_bytes()[:-1000])
        os.kill(daemon.pid, signal.SIGHUP)
        said = daemon.wait_for_log(str(model), 20)
        before = daemon.value(ANALYSED)
        eventually(lambda: daemon.value(ANALYSED) > before + 10, 60, "frames", daemon.tail)
        after = [sample.labels for sample in daemon.metrics() if sample.name == "emotion_edge_model_info"]
        failed = daemon.value(DROPPED, reason="failed")
    figure = f"said: {said.replace(str(model), 'the file')}; {failed:.0f} frames lost"
    yield Row("SIGHUP with a bad model file", figure, "the old one goes on", info == after and not failed)


def bad_settings(folder: Path, short: bool) -> Iterator[Row]:
    """SIGHUP, and the settings file is not one: it is cut short, then names what is not there."""
    del short
    broken = {
        "cut short": "cameras: {cam: {sou",
        "no such key": "camera: {}\n",
        "no such file": "cameras: {cam: {source: no}}\n",
    }
    with (
        Mosquitto(folder / "broker") as broker,
        Subscriber(broker.port, (STATUS, "emotion/test/cam/status")) as told,
        Daemon(settings_for(broker, cam=FILE), folder / "daemon") as daemon,
    ):
        daemon.wait_for_ready()
        eventually(lambda: daemon.value(ANALYSED) > 5, 60, "frames", daemon.tail)
        told.wait_for(lambda m: m.topic != STATUS and m.payload["state"] == "online", 20, "camera online")
        pid, seen, named = daemon.pid, len(told.messages), 0
        for text in broken.values():
            daemon.path.write_text(text)
            lines = len(daemon.lines())
            os.kill(daemon.pid, signal.SIGHUP)
            said = daemon.wait_for_log("the old ones go on", 20, lines)
            named += re.search(rf"{re.escape(str(daemon.path))}:\d+", said) is not None
        before = daemon.value(ANALYSED)
        eventually(lambda: daemon.value(ANALYSED) > before + 10, 60, "frames", daemon.tail)
        running, again = daemon.running and daemon.pid == pid, len(told.messages) - seen
    figure = f"{named} of {len(broken)} said with file and line, {again} states told anew"
    held = running and named == len(broken) and not again
    yield Row("SIGHUP with a bad settings file", figure, "the old ones go on, file and line said", held)


PIPELINE_FAULTS: tuple[Fault, ...] = (slow, hangs, raises, stop_under_load, bad_model, bad_settings)
