"""The machine: clock, disk, temperature, ports."""

from __future__ import annotations

import ctypes
import http.client
import math
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from edge.doctor.finding import Finding, failure, ok, warning
from edge.host import temperature, throttled
from edge.loopback import DIRECTLY
from edge.settings import MetricsSettings, OutboxSettings
from edge.store import ForeignFileError, look_where_it_will_be

#: Before this program was written no clock is right (2026-01-01).
EARLIEST = 1_767_225_600
#: What adjtimex(2) returns for a clock that nothing has set; and room for its structure.
TIME_ERROR, TIMEX_BYTES = 5, 512
HOT = 80.0
MEGABYTE = 1 << 20
#: Bytes that the daemon needs on the disk, beyond waiting events.
LEAST_DISK = 16 * MEGABYTE


def clock(now: float, state: int | None) -> Finding:
    """Look at the clock: what it says, seconds since 1970, and what the kernel says of it."""
    text = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < EARLIEST:
        return failure("clock", text, "set it: timedatectl set-ntp true; events would carry a wrong time")
    if state == TIME_ERROR:
        return warning("clock", f"{text}, set by nothing", "timedatectl set-ntp true, or install chrony")
    return ok("clock", text if state is None else f"{text}, kept right")


def clock_state() -> int | None:
    """Return what adjtimex(2) says of the clock, none where there is no telling."""
    if sys.platform != "linux":
        return None
    try:
        state = int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES)))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state


def disk(settings: OutboxSettings) -> Finding:
    """Look whether events can wait where the outbox is to be."""
    where = f"{settings.path}"
    remedy = "name another outbox.path, or look as the user that runs the daemon"
    try:
        existing = look_where_it_will_be(settings.path)
    except ForeignFileError as error:
        return failure("disk", str(error), remedy)
    except OSError as error:
        return failure("disk", f"{where}: {error.strerror}", remedy)
    if os.path.exists(settings.path) and not os.access(settings.path, os.W_OK):
        return failure("disk", f"{where}: this user may not write to it", remedy)
    free, wanted = shutil.disk_usage(existing).free, LEAST_DISK + 2 * settings.max_megabytes * MEGABYTE
    text = f"{where}: {free / MEGABYTE:,.0f} MiB free"
    if free < LEAST_DISK:
        return failure("disk", text, "make room: events could not be kept while the broker is away")
    if free < wanted:
        return warning("disk", text, f"make room for {wanted / MEGABYTE:,.0f} MiB, or lower outbox.max_megabytes")
    return ok("disk", text)


def heat(celsius: float, slowed: float) -> Iterator[Finding]:
    """Look at temperature (degrees Celsius) and throttling, NaN where unknown."""
    if math.isnan(celsius):
        yield ok("temperature", "this machine does not tell")
    elif celsius > HOT:
        yield warning("temperature", f"{celsius:.0f} °C", "cool it: beyond 80 °C a Raspberry Pi slows down")
    else:
        yield ok("temperature", f"{celsius:.0f} °C")
    if slowed == 1:
        yield warning("throttling", "the processor is slowed down now", "a stronger power supply, or cooling")
    elif slowed == 0:
        yield ok("throttling", "none now")


def port(settings: MetricsSettings) -> Finding:
    """Look whether the daemon can listen where it is told to."""
    where = f"{settings.host}:{settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[
            0
        ]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except (socket.gaierror, UnicodeError):
        return failure("metrics port", f"{where}: no such address", "mend metrics.host")
    except OSError as error:
        if _answers_as_daemon(settings):
            return ok("metrics port", f"{where}: a daemon runs there")
        remedy = "choose another metrics.port; ss -ltnp shows who has it"
        return failure("metrics port", f"{where}: {error.strerror}", remedy)
    return ok("metrics port", f"{where}: free")


def _answers_as_daemon(settings: MetricsSettings) -> bool:
    host = "127.0.0.1" if settings.host == "0.0.0.0" else settings.host  # noqa: S104 - compared, not listened on
    host = f"[{host}]" if ":" in host else host
    try:
        with DIRECTLY.open(f"http://{host}:{settings.port}/healthz", timeout=3) as answer:
            return bool(answer.read(16) == b"ok\n")
    except (OSError, ValueError, http.client.HTTPException):  # it may speak something else
        return False


def machine() -> Iterator[Finding]:
    """Look at what does not depend on the settings."""
    yield clock(time.time(), clock_state())
    yield from heat(temperature(), throttled())


def readable_by_all(path: Path) -> bool:
    """Tell whether every user of the machine may read a file."""
    return bool(path.stat().st_mode & 0o004)
