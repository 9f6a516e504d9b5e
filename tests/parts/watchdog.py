"""Plays systemd towards a daemon: a socket that it tells about its progress, and a watchdog."""

from __future__ import annotations

import itertools
import re
import socket
import threading
import time
from pathlib import Path
from types import TracebackType

from tests.parts.daemon import ROOT


def restart_pause() -> float:
    """Return how long systemd waits, by our unit, before it starts a daemon that hung anew, in seconds."""
    found = re.search(r"^RestartSec=(\d+)ms$", (ROOT / "systemd" / "emotion-edge.service").read_text(), re.M)
    assert found, "no RestartSec in milliseconds"
    return int(found[1]) / 1000


class Watchdog:
    """Listens until the end of the test.

    Args:
        folder: for the socket.
        seconds: after which a daemon that has told nothing is starved.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self.seconds = seconds
        self.environment = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": str(int(seconds * 1e6))}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.environment["NOTIFY_SOCKET"])
        self._fed: list[float] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What a closed socket leaves waiting, a last message wakes.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(b"", self.environment["NOTIFY_SOCKET"])
        self._thread.join(5)
        self._socket.close()

    def fed(self) -> int:
        """Return how often it was told of progress."""
        return len(self._fed)

    def starved(self) -> bool:
        """Tell whether it was told of progress once, and not for so long that systemd would kill."""
        return bool(self._fed) and time.monotonic() - self._fed[-1] > self.seconds

    def longest(self) -> float:
        """Return the longest time between two tellings, up to now, in seconds."""
        moments = [*self._fed, time.monotonic()]
        return max(after - before for before, after in itertools.pairwise(moments))

    def _listen(self) -> None:
        while message := self._socket.recv(4096):
            if message == b"WATCHDOG=1":
                self._fed.append(time.monotonic())
