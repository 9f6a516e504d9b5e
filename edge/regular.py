"""Reads files that are files: a pipe would be waited for, and a device has no end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_regular(path: Path) -> bytes:
    """Return the content of a regular file.

    Raises:
        OSError: it cannot be read, or is a pipe, device or folder.
    """
    kind = path.stat().st_mode
    if not stat.S_ISREG(kind):
        number = errno.EISDIR if stat.S_ISDIR(kind) else errno.EINVAL
        raise OSError(number, os.strerror(number) if stat.S_ISDIR(kind) else "No regular file")
    return path.read_bytes()
