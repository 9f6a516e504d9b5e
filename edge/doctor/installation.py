"""Python and its packages. Imports none of them before it looks, because a broken one must not end the doctor."""

from __future__ import annotations

import importlib
import platform
import re
import struct
import sys
from collections.abc import Iterator
from importlib import metadata

from edge.doctor.finding import Finding, failure, ok, warning

LEAST_PYTHON = (3, 10)
OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
#: Lines of OpenCV's build information that tell what it can read.
ABILITIES = {"FFMPEG": "network streams and files", "v4l/v4l2": "webcams"}


def installation() -> Iterator[Finding]:
    """Look at Python, OpenCV, and the TFLite runtime with its NumPy."""
    yield _python()
    yield _wheels(installed(OPENCV))
    yield from _opencv()
    yield _runtime()


def installed(names: tuple[str, ...]) -> dict[str, str]:
    """Return which of these distributions are installed, with their versions."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _python() -> Finding:
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < LEAST_PYTHON:
        return failure("python", text, "install Python 3.10 or later, and emotion-edge with that")
    if struct.calcsize("P") < 8:
        return failure("python", f"{text}, 32-bit", "use a 64-bit system: the TFLite runtime has no 32-bit wheels")
    return ok("python", text)


def _wheels(found: dict[str, str]) -> Finding:
    text = ", ".join(f"{name} {version}" for name, version in found.items())
    if len(found) > 1:
        names = " ".join(found)
        remedy = f"they overwrite each other: pip uninstall {names}; pip install opencv-python-headless"
        return failure("opencv wheels", text, remedy)
    return ok("opencv wheels", text or "none; OpenCV is the system's")


def _opencv() -> Iterator[Finding]:
    try:
        cv2 = importlib.import_module("cv2")
        numpy = importlib.import_module("numpy")
        build = str(cv2.getBuildInformation())
    except (ImportError, AttributeError) as error:
        remedy = 'pip install --force-reinstall opencv-python-headless "numpy>=1.23.5"'
        yield failure("opencv", f"cannot be imported: {error}", remedy)
        return
    missing = [use for name, use in ABILITIES.items() if not re.search(rf"{name}:\s+YES", build)]
    if missing and sys.platform == "linux":
        remedy = "pip install opencv-python-headless, whose wheels have it"
        yield warning("opencv", f"{cv2.__version__}, built without {', '.join(missing)}", remedy)
    else:
        yield ok("opencv", f"{cv2.__version__}, with NumPy {numpy.__version__}")


def _runtime() -> Finding:
    try:
        litert = importlib.import_module("edge.litert")
        numpy = importlib.import_module("numpy")
    except ImportError as error:
        return failure("runtime", f"cannot be imported: {error}", "pip install ai-edge-litert")
    try:
        name, _ = litert.load_runtime()
    except litert.RuntimeMissingError as error:
        remedy = 'pip install ai-edge-litert; tflite-runtime needs Python ≤ 3.11 and pip install "numpy<2"'
        return failure("runtime", f"{error} (NumPy {numpy.__version__})", remedy)
    version = installed((name,)).get(name, "of unknown version")
    return ok("runtime", f"{name} {version}, with NumPy {numpy.__version__}")
