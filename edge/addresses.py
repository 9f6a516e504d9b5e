"""What hosts, paths and topics of the settings must look like. Pure; functions raise `ValueError` with the remedy."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import TypeVar

T = TypeVar("T", str, Path)
#: Bytes of a file name and of a path, at most; the folder of the settings comes before it.
LONGEST_NAME, LONGEST_PATH = 255, 3072
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
#: Of topics at which daemons publish. What begins with $ is the broker's own.
TOPIC = r"[^+#$\s/\x00-\x1f\x7f][^+#\s/\x00-\x1f\x7f]*(/[^+#\s/\x00-\x1f\x7f]+)*"

#: Of a host's name, characters between two dots (RFC 1035).
LONGEST_PART = 63


def only_a_host(value: str) -> str:
    """Return a host's name or address, if it is nothing else."""
    if re.search(r"[\s/@\[\]]", value) or CONTROL.search(value) or not _has_no_port(value):
        raise ValueError(
            "must be a host's name or address alone, without http://, a path or a port; the port is a key of its own"
        )
    if re.search(r"(^|\.)(-|\.|$)|-(\.|$)", value.removesuffix(".")):
        raise ValueError("no host has such a name: no - at the ends of its parts, nothing between two dots; mend it")
    if max(map(len, value.split("."))) > LONGEST_PART:
        raise ValueError(f"no host has such a name: a part has {LONGEST_PART} characters at most; mend it")
    return value


def _has_no_port(host: str) -> bool:
    if ":" not in host:
        return True
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def host_and_port(value: str) -> str:
    """Return `host:port`, if it is that; an IPv6 address may be in brackets, and comes back without them."""
    host, _, port = value.rpartition(":")
    if not host or not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise ValueError("must be host:port, such as 192.168.1.3:1883")
    bracketed = re.fullmatch(r"\[(.*)\]", host)
    return f"{only_a_host(bracketed[1] if bracketed else host)}:{port}"


def usable_path(value: T) -> T:
    """Return a path, if a file could have it."""
    text = str(value)
    if isinstance(value, Path) and not value.name:
        raise ValueError("must name a file")
    if CONTROL.search(text):
        raise ValueError("a path has no control characters such as tabs or line breaks")
    if text.startswith("~"):
        raise ValueError("~ does not stand for a folder here; write the path in full (./~… for a file of that name)")
    parts = text.split("/")
    if len(os.fsencode(text)) > LONGEST_PATH or any(len(os.fsencode(part)) > LONGEST_NAME for part in parts):
        raise ValueError(f"too long for a path; it has {LONGEST_PATH} bytes at most, {LONGEST_NAME} between slashes")
    return value
