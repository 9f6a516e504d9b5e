"""The daemon as a child process, with cameras that play a clip for ever, no broker, and no file left behind."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from edge.bench.rig import BenchError
from edge.loopback import DIRECTLY

HOST = "127.0.0.1"
START_TIMEOUT, STOP_TIMEOUT = 60.0, 10.0
ANALYSED = re.compile(r"^emotion_edge_frames_analysed_total\{.*\} (\S+)$", re.MULTILINE)


class BenchDaemon:
    """A daemon that runs.

    Args:
        process: the daemon's.
        port: of its metrics.
        log: the file that it writes its log to.
        started: when, by the clock `time.perf_counter`.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path, started: float) -> None:
        self._process = process
        self._address = f"http://{HOST}:{port}/metrics"
        self._log = log
        self._started = started

    def first_frame(self) -> float:
        """Wait for the first frame that is analysed; returns the seconds since the process was started.

        Raises:
            BenchError: there is none.
        """
        while not self._counted():
            if self._process.poll() is not None or time.perf_counter() - self._started > START_TIMEOUT:
                raise BenchError(f"the daemon analyses no frame: {self._last_words()}")
            time.sleep(0.005)
        return time.perf_counter() - self._started

    def analysed(self) -> float:
        """Return how many frames of all cameras were analysed so far.

        Raises:
            BenchError: the daemon does not answer.
        """
        count = self._counted()
        if count is None:
            raise BenchError(f"the daemon does not answer: {self._last_words()}")
        return count

    def memory(self) -> float | None:
        """Return the most bytes that it has had in memory; none where the system does not tell."""
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8")
        except OSError:
            return None
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        return float(found[1]) * 1024 if found else None

    def _counted(self) -> float | None:
        """Return how many frames were analysed; none if it does not answer: not yet, or no more."""
        try:
            with DIRECTLY.open(self._address, timeout=5) as answer:
                return sum(float(count) for count in ANALYSED.findall(answer.read().decode()))
        except OSError:
            return None

    def _last_words(self) -> str:
        said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return said[-1] if said else "its log says nothing"


@contextlib.contextmanager
def bench_daemon(clip: Path, cameras: int) -> Iterator[BenchDaemon]:
    """Start a daemon, and end it.

    Args:
        clip: that every camera plays, as fast as it was recorded.
        cameras: how many.
    """
    broker, metrics = _free_ports()
    settings = {
        "node": "bench",
        "cameras": {f"camera-{number}": {"source": str(clip.resolve()), "loop": True} for number in range(cameras)},
        "mqtt": {"host": HOST, "port": broker},
        "metrics": {"host": HOST, "port": metrics},
        "outbox": {"path": "outbox.db"},
        "log": {"level": "error"},
    }
    with tempfile.TemporaryDirectory(prefix="emotion-edge-bench-") as folder:
        config, log = Path(folder, "edge.yaml"), Path(folder, "log")
        config.write_text(yaml.safe_dump(settings), encoding="utf-8")
        with log.open("wb") as output:
            started = time.perf_counter()
            command = [sys.executable, "-m", "edge.cli", "run", "--config", str(config)]
            # `-m` looks for modules in the working directory first: not in the user's.
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=folder)
        try:
            yield BenchDaemon(process, metrics, log, started)
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_ports() -> tuple[int, int]:
    """Return two ports that nobody listens on."""
    with socket.socket() as one, socket.socket() as other:
        one.bind((HOST, 0))
        other.bind((HOST, 0))
        return int(one.getsockname()[1]), int(other.getsockname()[1])
