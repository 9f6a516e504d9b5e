"""A network tried in a process of its own: a bad one can crash the runtime or never come to an end.

`python -m edge.trial` reads a `.tflite` file from standard input, looks at an empty picture with it, and says on
standard output why that does not work; nothing if it does.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

from edge.litert import Network

#: Seconds that it may take, loading included.
LIMIT = 10.0
#: Bytes of memory that it may take.
MEMORY = 4 << 30
COMMAND = (sys.executable, "-m", "edge.trial")


def why_not(content: bytes) -> str:
    """Return in a few words why a network cannot be used, empty if it can, whatever it does to the process it runs in.

    Args:
        content: the bytes of the `.tflite` file.
    """
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(COMMAND, input=content, capture_output=True, timeout=LIMIT, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return f"the network does not come to an end within {LIMIT:g} s"
    except OSError as error:
        return f"the network cannot be tried: {error.strerror}"
    if done.returncode < 0:
        return f"the network crashes the runtime (signal {-done.returncode})"
    if done.returncode > 0:
        return f"the network cannot be tried: exit code {done.returncode}"
    return done.stdout.decode(errors="replace").strip()


def attempt(content: bytes) -> str:
    """Do in this process what `why_not` does in another."""
    try:
        network = Network(content)
    except (ValueError, RuntimeError) as error:
        return f"no TFLite network ({_first_line(error)})"
    try:
        entrance = network.inputs[0]
        network(np.zeros(entrance["shape"], entrance["dtype"]))
    except (ValueError, RuntimeError, IndexError, TypeError, MemoryError) as error:
        return f"the network does not run ({_first_line(error)})"
    return ""


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _main() -> None:
    with contextlib.suppress(ValueError, OSError):  # a system can lack a limit, or keep us from setting one
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    print(attempt(sys.stdin.buffer.read()))


if __name__ == "__main__":
    _main()
