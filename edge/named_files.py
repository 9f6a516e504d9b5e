"""What is wrong with a file that the settings name, in words with a remedy; empty if nothing is."""

from __future__ import annotations

import os
import ssl
import stat
import sys
from pathlib import Path

#: Of the devices of cameras and other video on Linux (its devices.txt).
VIDEO = 81


def no_file(path: str | Path) -> str:
    """Look whether a file is there."""
    if os.path.isfile(path):
        return ""
    return f"{path}: {'is no file' if os.path.exists(path) else 'no such file'}; name an existing one"


def no_authority(path: Path) -> str:
    """Look whether a file holds a certificate, as that of an authority must."""
    if not os.path.isfile(path):
        return no_file(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return f"{path}: holds no certificate; name the authority's as a PEM file"
    except OSError:  # the user that runs the daemon may be one who may read it
        return ""
    return ""


def no_camera(device: str) -> str:
    """Look whether a device is one of a camera; one that is not there may be plugged in later."""
    if sys.platform != "linux":
        return ""
    try:
        found = os.stat(device)
    except OSError:
        return ""
    if stat.S_ISCHR(found.st_mode) and os.major(found.st_rdev) == VIDEO:
        return ""
    return f"{device}: is no camera; v4l2-ctl --list-devices names those that are"


def no_place_for_outbox(path: Path) -> str:
    """Look whether a file can be there, as far as that can be told without opening it.

    To open and close a file that this process has open would free SQLite's own locks on it.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        return f"{path}: is no regular file; move it away, or name a file that is not there yet"
    above = nearest_there(path)
    return "" if os.path.isdir(above) else f"{path}: {above} is no folder; name a file in a folder"


def nearest_there(path: Path) -> Path:
    """Return the nearest that exists of what lies above a path."""
    return next((each for each in path.absolute().parents if os.path.exists(each)), Path("/"))
