"""`make faults`: what the daemon does when something fails; a row and a figure each.

With names of faults as arguments only those, such as `python -m tests.faults --short power_loss`.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from tests.broker_faults import BROKER_FAULTS
from tests.camera_faults import CAMERA_FAULTS
from tests.daemon_faults import DAEMON_FAULTS
from tests.parts.chosen import chosen
from tests.parts.rows import Fault, Row
from tests.pipeline_faults import PIPELINE_FAULTS

FAULTS: tuple[Fault, ...] = (*BROKER_FAULTS, *DAEMON_FAULTS, *CAMERA_FAULTS, *PIPELINE_FAULTS)


@click.command()
@click.option("--short", is_flag=True, help="Seconds in place of minutes and hours, a few kills in place of hundreds.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array, for programs.")
@click.argument("names", nargs=-1, metavar="[FAULT]...")
def main(short: bool, as_json: bool, names: Sequence[str]) -> None:
    """Print a row each, or only those of the faults named; exit code 1 if one fell short."""
    rows = []
    wanted = chosen(names, [fault.__name__ for fault in FAULTS])
    for fault in FAULTS:
        if fault.__name__ not in wanted:
            continue
        folder = Path(tempfile.mkdtemp(prefix="faults-"))
        try:
            for row in fault(folder, short):
                rows.append(row)
                if not as_json:
                    print(f"{_outcome(row)}  {row.fault}: {row.figure} (bar: {row.bar})", flush=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    sys.exit(int(any(row.short for row in rows)))


def _outcome(row: Row) -> str:
    if not row.tried:
        return "-----"
    return "SHORT" if row.short else "held "


if __name__ == "__main__":
    main()
