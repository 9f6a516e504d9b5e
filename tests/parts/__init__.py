"""The real parts that tests run the daemon with: broker, subscriber, RTSP server, Prometheus, the daemon itself."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

HOST = "127.0.0.1"


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


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
