"""The real parts that tests run the daemon with: broker, subscriber, RTSP server, Prometheus, the daemon itself."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

HOST = "127.0.0.1"
#: Ports that the system gives to nobody of itself, a share for each worker of pytest-xdist, of at least so many.
PORTS, OF_ALL, WORKERS = 20_000, 12_000, 8
#: The next to look at.
_next_port = itertools.count(random.randrange(OF_ALL))


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on, nor will before it is used.

    A port that the system chooses could be given to another test until then.
    """
    workers = max(WORKERS, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    each = OF_ALL // workers
    first = PORTS + each * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    while True:
        port = first + next(_next_port) % each
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port


def accepts(port: int) -> bool:
    """Tell whether somebody accepts connections on a TCP port of the loopback interface."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def eventually(condition: Callable[[], T], timeout: float, what: str, details: Callable[[], object] | None = None) -> T:
    """Wait until `condition()` is true and return what it returned.

    Args:
        condition: asked about thirty times a second.
        timeout: seconds.
        what: what is waited for; part of the message when it does not come.
        details: gives the rest of that message; the last value of `condition` if left out.

    Raises:
        AssertionError: it has not become true in time.
    """
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"no {what} within {timeout:g} s: {details() if details else value!r}")
        time.sleep(0.03)


def tool(name: str, package: str) -> str:
    """Return the path of a program of the machine.

    Raises:
        AssertionError: it is not installed.
    """
    # Debian keeps servers in /usr/sbin, which is not on an ordinary user's path.
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
    assert found, f"{name} is not installed: run make test, or install the Debian package {package}"
    return found
