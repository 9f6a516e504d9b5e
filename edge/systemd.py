"""What systemd is told: READY, STATUS, WATCHDOG, STOPPING (sd_notify(3)). Does nothing outside of systemd."""

from __future__ import annotations

import os
import socket


def notify(**fields: str | int) -> bool:
    """Send fields such as `READY=1` to systemd; tells whether there was someone to tell."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    # A leading @ stands for the NUL byte of an abstract socket.
    target = "\0" + address[1:] if address.startswith("@") else address
    message = "\n".join(f"{name}={value}" for name, value in fields.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(message.encode(), target)
    except OSError:  # nobody listens there: no reason to stop working
        return False
    return True


def watchdog_seconds() -> float | None:
    """Return how often the watchdog wants to be fed, half its limit; none if there is none."""
    limit = os.environ.get("WATCHDOG_USEC", "")
    return int(limit) / 2e6 if limit.isdigit() and int(limit) > 0 else None
