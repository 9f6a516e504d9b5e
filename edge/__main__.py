"""The command `emotion-edge`, also where its packages cannot be imported: then it says which, and what to do."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command; Ctrl-C ends it without a word, even while it is being loaded."""
    if sys.argv[1:2] == ["run"] and sys.platform != "win32":
        # No settings are read yet, so there are none to read again; `run` listens before it reads them.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    open_standard_streams()
    try:
        _main()
    except KeyboardInterrupt:
        sys.exit(130)


def open_standard_streams() -> None:
    """Let input, output and errors that the caller has closed (`>&-`) lead nowhere.

    Else the next file that is opened would take their place, and what is printed past Python would go into that.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def _main() -> None:
    """Run the command; a broken installation is told as `doctor` tells it, with exit code 2."""
    try:
        from edge.cli import main as command
    except ImportError as error:
        from edge.doctor.installation import installation

        print(f"emotion-edge cannot start: {error}", file=sys.stderr)
        for finding in installation():
            if finding.state != "ok":
                print(f"{finding.state}  {finding.subject}: {finding.text} → {finding.remedy}", file=sys.stderr)
        sys.exit(2)
    command()


if __name__ == "__main__":
    main()
