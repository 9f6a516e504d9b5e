"""Runs a command for make as a terminal's foreground job of its own, and passes its exit code on.

    python deploy/foreground.py COMMAND [ARGUMENT...]

Ctrl-C interrupts the whole foreground job, make included, which then reports an interrupt however well the command has
ended. With this between the two, Ctrl-C ends the command alone. Signals sent to this process, or to its group, are
handed on. Without a terminal, or in its background, the command simply takes this process's place.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

TERMINAL = 0
HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def in_foreground() -> bool:
    """Tell whether this process belongs to the foreground job of a terminal."""
    return os.isatty(TERMINAL) and os.tcgetpgrp(TERMINAL) == os.getpgrp()


def run_as_job(command: list[str]) -> int:
    """Run a command as the terminal's foreground job; returns its exit code, 128 + N if it died of signal N."""
    child = subprocess.Popen(command, preexec_fn=_become_job)
    for number in HANDED_ON:
        signal.signal(number, lambda received, _: child.send_signal(received))
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # else the background would not get the terminal back
    os.tcsetpgrp(TERMINAL, child.pid)
    code = child.wait()
    os.tcsetpgrp(TERMINAL, os.getpgrp())
    return code if code >= 0 else 128 - code


def _become_job() -> None:
    os.setpgrp()
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)  # Ctrl-Z: make could not continue it


if __name__ == "__main__":
    if in_foreground():
        sys.exit(run_as_job(sys.argv[1:]))
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606  # no shell is wanted
