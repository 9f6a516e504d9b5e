"""What `make test` ends with: `python -m tests.coverage FILE` fails if the tests ran too little of the daemon.

What daemons do that tests start as processes does not count, and nothing is left out of the count.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

#: Of the lines, and of the branches, of `edge/`.
LEAST = 90.0


def verdict(file: Path) -> tuple[str, bool]:
    """Return the figures of a report in JSON (pytest-cov) in one line, and whether they suffice."""
    totals = json.loads(file.read_bytes())["totals"]
    lines, branches = totals["percent_statements_covered"], totals["percent_branches_covered"]
    line = f"edge/: {lines:.1f} % of the lines run, {branches:.1f} % of the branches; {LEAST:g} % are wanted of each"
    return line, min(lines, branches) >= LEAST


def main() -> int:
    """Print the verdict."""
    line, enough = verdict(Path(sys.argv[1]))
    print(line)
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
