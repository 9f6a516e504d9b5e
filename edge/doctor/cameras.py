"""The cameras: does each open, what does it give, and if nothing, why."""

from __future__ import annotations

import contextlib
import glob
import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence

import cv2

from edge.doctor.finding import Finding, failure, ok, warning
from edge.frames import CaptureError, FallenBehindError, Frame, NotItsTurnError, Source
from edge.patience import FIRST_FRAMES
from edge.settings import CameraSettings
from edge.sources import make_source

#: Seconds that a live source is looked at, frames that are enough of another, and seconds for everything.
LOOK, ENOUGH, LIMIT = 3.0, 60, 25.0
#: Pictures of fewer lines show faces too small to read.
LEAST_LINES = 240
REMEDIES = {
    "auth": "mend username and password; are they the camera's stream login?",
    "not_found": "mend the source: the camera's manual or ONVIF tool names its streams",
    "refused": "mend the port; is RTSP switched on in the camera?",
    "timeout": "is it switched on, in this network, and not out of connections?",
    "tls": "mend scheme, port and tls.ca",
    "codec": "set the camera's stream to H.264 or MJPEG",
    "ended": "is that the stream's port, and is another program using all connections? restart the camera",
    "unplugged": "plug it in, end other programs that use it; v4l2-ctl --list-devices names webcams",
    "unreadable": "mend the source; ffprobe tells what is there",
}


def cameras(settings: Mapping[str, CameraSettings]) -> list[Finding]:
    """Try all cameras, at once, because a dead one takes long."""
    answers: dict[str, queue.SimpleQueue[Finding]] = {name: queue.SimpleQueue() for name in settings}
    for name, camera in settings.items():
        # A thread that hangs in OpenCV must not keep the process.
        threading.Thread(target=_answer, args=(name, camera, answers[name]), daemon=True).start()
    deadline = time.monotonic() + LIMIT
    return [_wait(name, answer, deadline) for name, answer in answers.items()]


def _wait(name: str, answer: queue.SimpleQueue[Finding], deadline: float) -> Finding:
    try:
        return answer.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        return failure(f"camera {name}", f"opens, or gives frames, not within {LIMIT:g} s", REMEDIES["timeout"])


def _answer(name: str, settings: CameraSettings, answer: queue.SimpleQueue[Finding]) -> None:
    answer.put(_no_permission(name, settings) or _try(name, settings))


def _no_permission(name: str, settings: CameraSettings) -> Finding | None:
    """Return what is wrong with the rights to a webcam's device, nothing if they suffice or it is not there."""
    if settings.kind != "webcam":
        return None
    device = f"/dev/video{settings.source}" if settings.source.isdecimal() else settings.source
    if not os.path.exists(device):
        there = ", ".join(sorted(glob.glob("/dev/video*"))) or "none"
        return failure(f"camera {name}", f"{device}: no such device; there are: {there}", REMEDIES["unplugged"])
    if not os.access(device, os.R_OK | os.W_OK):
        remedy = "usermod -aG video USER for the user that runs the daemon, and log in anew"
        return failure(f"camera {name}", f"{device}: this user may not read it", remedy)
    return None


def _try(name: str, settings: CameraSettings) -> Finding:
    subject = f"camera {name}"
    source = make_source(settings, threading.Event())
    try:
        _open(source)
        last, times = _look(source)
    except NotItsTurnError:
        return warning(subject, "not tried: cameras that do not answer took all the time", "mend those first")
    except cv2.error as error:
        return failure(subject, f"OpenCV: {error.err}", REMEDIES["unreadable"])
    except CaptureError as error:
        error = source.explain(error)
        return failure(subject, f"{error.reason}: {error}", REMEDIES[error.reason])
    finally:
        source.close()
    return _judge(subject, settings, last, times)


def _open(source: Source) -> None:
    """Open a source, which others that are slow can keep from its turn; another try is to end before the limit."""
    last = time.monotonic() + LIMIT / 2
    while True:
        try:
            return source.open(FIRST_FRAMES)
        except NotItsTurnError:
            if time.monotonic() > last:
                raise


def _look(source: Source) -> tuple[Frame, list[float]]:
    """Return the last of some frames and the times of all; of a source that ends, or falls behind, those before."""
    last = source.read()
    times = [last.time]
    end = time.monotonic() + LOOK
    with contextlib.suppress(CaptureError, FallenBehindError):
        while time.monotonic() < end and (source.live or len(times) < ENOUGH):
            last = source.read()
            times.append(last.time)
    return last, times


def _judge(subject: str, settings: CameraSettings, last: Frame, times: Sequence[float]) -> Finding:
    height, width = last.image.shape[:2]
    text = f"{width}×{height}"
    rate = rate_of(times)
    if rate and settings.kind != "images":
        text += f", {rate:.3g} frames a second"
    if settings.tls.insecure:
        return warning(subject, f"{text}, its certificate unchecked", "name its authority's certificate as tls.ca")
    if height < LEAST_LINES:
        return warning(subject, text, f"choose a stream of {LEAST_LINES} lines or more, to see faces further away")
    return ok(subject, text)


def rate_of(times: Sequence[float]) -> float | None:
    """Return the frames a second of the later half of some times; none where no time passes.

    Servers begin with what they have kept since the last keyframe, all at once.
    """
    half = (times[0] + times[-1]) / 2
    later = [time for time in times if time >= half]
    steady = later if len(later) > 1 else times[-2:]
    seconds = steady[-1] - steady[0]
    return (len(steady) - 1) / seconds if seconds > 0 else None
