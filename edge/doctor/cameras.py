"""The cameras: does each open, what does it give, and if nothing, why."""

from __future__ import annotations

import glob
import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2

from edge.doctor.finding import Finding, failure, ok, warning
from edge.faces import Image
from edge.frames import CaptureError, FallenBehindError, NotItsTurnError, Source
from edge.patience import FIRST_FRAMES
from edge.settings import CameraSettings
from edge.sources import make_source

#: Seconds that a live source is looked at, frames that are enough of another, and seconds for everything, to which each
#: camera adds some: streams are opened one after the other.
LOOK, ENOUGH, LIMIT, EACH = 3.0, 60, 25.0, 2.0
#: Pictures of fewer lines show faces too small to read.
LEAST_LINES = 240
NO_STREAM = "name the address of a stream: that one may be of single pictures"
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
    began, limit = time.monotonic(), LIMIT + EACH * len(settings)
    answers: dict[str, queue.SimpleQueue[Finding]] = {name: queue.SimpleQueue() for name in settings}
    for name, camera in settings.items():
        # A thread that hangs in OpenCV must not keep the process.
        threading.Thread(target=_answer, args=(name, camera, answers[name], limit), daemon=True).start()
    return [_wait(name, answer, began, limit) for name, answer in answers.items()]


def _wait(name: str, answer: queue.SimpleQueue[Finding], began: float, limit: float) -> Finding:
    try:
        return answer.get(timeout=max(0.0, began + limit - time.monotonic()))
    except queue.Empty:
        return failure(f"camera {name}", f"opens, or gives frames, not within {limit:g} s", REMEDIES["timeout"])


def _answer(name: str, settings: CameraSettings, answer: queue.SimpleQueue[Finding], limit: float) -> None:
    answer.put(_no_permission(name, settings) or _try(name, settings, limit))


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


def _try(name: str, settings: CameraSettings, limit: float) -> Finding:
    subject = f"camera {name}"
    source = make_source(settings, threading.Event())
    try:
        _open(source, limit)
        seen = _look(source)
    except NotItsTurnError:
        return warning(subject, "not tried: cameras that do not answer took all the time", "mend those first")
    except cv2.error as error:
        return failure(subject, f"OpenCV: {error.err}", REMEDIES["unreadable"])
    except CaptureError as error:
        error = source.explain(error)
        return failure(subject, f"{error.reason}: {error}", REMEDIES[error.reason])
    finally:
        source.close()
    return _judge(subject, settings, seen)


def _open(source: Source, limit: float) -> None:
    """Open a source, which others that are slow can keep from its turn; another try is to end before the limit."""
    last = time.monotonic() + limit / 2
    while True:
        try:
            return source.open(FIRST_FRAMES)
        except NotItsTurnError:
            if time.monotonic() > last:
                raise


@dataclass
class _Seen:
    """What a source gave: the last picture, the times of all frames, and why a live one gave no more."""

    picture: Image
    times: list[float]
    lost: CaptureError | None = None


def _look(source: Source) -> _Seen:
    """Watch a source for a while. Raises `CaptureError` if it gives no frame at all."""
    first = source.read()
    seen = _Seen(first.image, [first.time])
    end = time.monotonic() + LOOK
    try:
        while time.monotonic() < end and (source.live or len(seen.times) < ENOUGH):
            frame = source.read()
            seen.times.append(frame.time)
            seen.picture = frame.image if frame.image.size else seen.picture
    except CaptureError as error:
        seen.lost = error if source.live else None
    except FallenBehindError:
        pass
    return seen


def _judge(subject: str, settings: CameraSettings, seen: _Seen) -> Finding:
    height, width = seen.picture.shape[:2]
    text = f"{width}×{height}"
    rate = rate_of(seen.times)
    if not seen.picture.size:
        return failure(subject, f"of {len(seen.times)} pictures none can be decoded", REMEDIES["unreadable"])
    if seen.lost is not None:
        count = len(seen.times)
        text += f", but after {count} frame{'s' * (count > 1)} {seen.lost.reason}: {seen.lost}"
        single = settings.kind == "network" and not settings.source.startswith("rtsp") and seen.lost.reason == "ended"
        return warning(subject, text, NO_STREAM if single else REMEDIES[seen.lost.reason])
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
