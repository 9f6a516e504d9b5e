"""The command `emotion-edge`, also where its packages cannot be imported: then it says which, and what to do."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; Ctrl-C ends it without a word, even while it is being loaded."""
    try:
        _main()
    except KeyboardInterrupt:
        sys.exit(130)


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
