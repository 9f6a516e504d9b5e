"""`make arm64`: the package for arm64, installed on an emulated Debian; what the daemon does there, a row each.

QEMU says nothing about speed, and nothing here does. Needs root and a kernel with binfmt_misc; the first run makes the
Debian in `.cache/arm64`, which takes about five minutes more.
"""

from __future__ import annotations

import hashlib
import math
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml

from deploy.deb.build import build
from edge.bundle import DEFAULT_MODEL, read_bundle
from edge.demo import CLIP
from edge.host import memory_bytes
from tests.parts import tool
from tests.parts.booted import SETTINGS, SITE
from tests.parts.broker import Mosquitto
from tests.parts.daemon import Daemon
from tests.parts.emulated import Emulated, arm64_debian, arm64_programs, run
from tests.parts.rows import Row
from tests.parts.settings import settings_for
from tests.parts.subscriber import Subscriber
from tests.scenes import read_clip

PYTHON = "/opt/emotion-edge/bin/python3"
#: Inputs of the network: noise, and pieces of the demo's pictures.
NOISE, PIECES = 100, 400
ANSWER = """
import sys
import numpy as np
from edge.bundle import DEFAULT_MODEL, read_bundle
from edge.litert import Network

network = Network(read_bundle(DEFAULT_MODEL).content)
np.save(sys.argv[2], np.stack([network(each[None])[0][0] for each in np.load(sys.argv[1])]))
"""
DETECT = """
import platform
import cv2
from edge.bundle import DEFAULT_MODEL, read_bundle
from edge.host import cpu_seconds, memory_bytes
from edge.litert import Network

Network(read_bundle(DEFAULT_MODEL).content)
cpu_seconds(), memory_bytes()
print(platform.machine(), cv2.getCPUFeaturesLine())
"""
#: What an emulated daemon may take for its start and first event, seconds.
PATIENCE = 240.0


def prove(root: Path, folder: Path, package: Path) -> Iterator[Row]:
    """Install the package in a Debian at `root` and look what it does."""
    shutil.copy(package, root / "root" / "edge.deb")
    run(root, "dpkg", "--install", "/root/edge.deb")
    installed = run(root, "dpkg-query", "--show", "--showformat=${Package} ${Version} ${Architecture}", "emotion-edge")
    yield Row("the package is installed", installed, "arm64", installed.endswith(" arm64"))
    yield _same_answers(root, folder)
    yield from _daemon(root, folder)
    yield _detection(root)


def _same_answers(root: Path, folder: Path) -> Row:
    """Ask the model that ships the same on both processors."""
    np.save(folder / "inputs.npy", _inputs())
    shutil.copy(folder / "inputs.npy", root / "root")
    run(root, PYTHON, "-", "/root/inputs.npy", "/root/outputs.npy", text=ANSWER)
    here: list[str | Path] = [sys.executable, "-", folder / "inputs.npy", folder / "outputs.npy"]
    subprocess.run(here, input=ANSWER, text=True, check=True)
    theirs, ours = np.load(root / "root" / "outputs.npy"), np.load(folder / "outputs.npy")
    different = int((theirs != ours).any(axis=1).sum())
    figure = f"{different} of {len(ours)} int8 outputs differ; SHA-256 {_digest(theirs)} there, {_digest(ours)} here"
    return Row("the model that ships gives the same", figure, "0", different == 0 and theirs.dtype == np.int8)


def _inputs() -> npt.NDArray[np.int8]:
    """Return the same inputs each time, (n, height, width, 1)."""
    height, width, _ = read_bundle(DEFAULT_MODEL).info.input.shape
    random = np.random.default_rng(0)
    noise = random.integers(-128, 128, (NOISE, height, width, 1), np.int8)
    frames = read_clip(CLIP)
    pieces = []
    for number in range(PIECES):
        image = frames[number % len(frames)]
        y, x = int(random.integers(0, image.shape[0] - height)), int(random.integers(0, image.shape[1] - width))
        pieces.append((image[y : y + height, x : x + width, 1].astype(np.int16) - 128).astype(np.int8)[..., None])
    return np.concatenate([noise, np.stack(pieces)])


def _digest(values: npt.NDArray[np.int8]) -> str:
    return hashlib.sha256(values.tobytes()).hexdigest()[:16]


def _daemon(root: Path, folder: Path) -> Iterator[Row]:
    """Run the daemon on the demo's clip, with a broker of this machine, and read its figures of the machine."""
    with Mosquitto(folder / "broker") as broker, Subscriber(broker.port) as subscriber:
        # The slowest of all workers must look at a picture within the daemon's limits.
        camera = {"source": str(SITE / "edge" / "media" / CLIP.name), "loop": True, "max_fps": 2}
        settings = {**settings_for(broker, cam=camera), "outbox": {"path": "/root/outbox.db"}}
        (root / str(SETTINGS).lstrip("/")).write_text(yaml.safe_dump(settings))
        with Emulated(root, ["emotion-edge", "run"], folder) as process:
            topic = "emotion/test/cam/event"
            event = subscriber.wait_for(lambda m: m.topic == topic, PATIENCE, "event").payload
            figure = f"{event['type']} of a face, {event['emotion']} {event['probability']}, at the broker"
            yield Row("the daemon plays the demo's clip", figure, "an event", event["type"] == "start")
            values = _host_values(settings)
            process.stop()
        said = subscriber.on("emotion/test/status")[-1].payload
        yield Row("it stops", f"status {said}", "offline, stopped", said == {"state": "offline", "reason": "stopped"})
    total = memory_bytes()[0]
    figure = ", ".join(f"{name} {value:g}" for name, value in values.items())
    held = values["host_memory_bytes"] == total and not any(math.isnan(value) for value in values.values())
    yield Row("figures of the machine are read from /proc", figure, f"none NaN, memory {total:g} as here", held)


def _host_values(settings: dict[str, object]) -> dict[str, float]:
    """Return what the daemon's metrics say of the machine's processor and memory."""
    daemon = Daemon(settings, Path())
    names = ("host_cpu_seconds_total", "host_memory_bytes", "host_memory_available_bytes")
    return {name: daemon.value(f"emotion_edge_{name}") for name in names}


def _detection(root: Path) -> Row:
    """Trace what a program that loads everything reads of the machine."""
    # Not on stderr, of which the daemon drops what LiteRT says at its first start.
    said = run(root, "env", "QEMU_STRACE=1", "QEMU_LOG_FILENAME=/root/trace", PYTHON, "-c", DETECT).strip()
    trace = (root / "root" / "trace").read_text(errors="replace")
    opened = re.findall(r'open(?:at)?\([^"\n]*"(/(?:proc|sys)/[^"]+)"', trace)
    read = sorted(set(opened) - {path for path in opened if path.startswith("/proc/self")})
    held = {"/proc/cpuinfo", "/proc/stat", "/proc/meminfo"} <= set(read) and said.startswith("aarch64")
    figure = f"{said}; read {', '.join(path for path in read if path.startswith('/proc/'))}"
    return Row("the processor is recognised", figure, "aarch64, by /proc/cpuinfo; host figures by /proc", held)


def main() -> int:
    """Print a row each; returns 1 if one fell short."""
    tool("dpkg-deb", "dpkg")
    folder = Path(tempfile.mkdtemp(prefix="arm64-"))
    rows = []
    try:
        package = build("arm64", sys.executable, folder / "package", "none")
        with arm64_programs(), arm64_debian(folder) as root:
            for row in prove(root, folder, package):
                rows.append(row)
                print(f"{'held ' if row.held else 'SHORT'}  {row.fault}: {row.figure} (bar: {row.bar})", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return int(any(row.short for row in rows))


if __name__ == "__main__":
    sys.exit(main())
