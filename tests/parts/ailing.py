"""The daemon, whose analysis ails: `python -m tests.parts.ailing AILMENT run --config …`.

AILMENT is `slow` (a tenth of the speed), `late` (1.5 s more), `hangs` or `raises once` (from the thirtieth picture on,
said in the log), or `raises` (always).
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.analyser import Analyser
from edge.cli import main
from edge.faces import Image
from edge.schedule import WHOLE, Look
from edge.tracking import Observation
from tests.parts.daemon import Daemon

SLOWER, LATE, HEALTHY = 10, 1.5, 30
Analyse = Callable[[Analyser, Image, Look], list[Observation]]


class AilingDaemon(Daemon):
    """A daemon whose analysis ails from its start on."""

    def __init__(self, ailment: str, config: dict[str, Any], folder: Path, environment: dict[str, str]) -> None:
        super().__init__(config, folder, environment=environment)
        self.command[1:3] = ["-m", "tests.parts.ailing", ailment]


def _run(ailment: str, arguments: list[str]) -> None:
    analyse: Analyse = Analyser.__call__
    number = itertools.count()

    def slow(analyser: Analyser, image: Image, how: Look = WHOLE) -> list[Observation]:
        started = time.monotonic()
        found = analyse(analyser, image, how)
        time.sleep((SLOWER - 1) * (time.monotonic() - started))
        return found

    def late(analyser: Analyser, image: Image, how: Look = WHOLE) -> list[Observation]:
        time.sleep(LATE)
        return analyse(analyser, image, how)

    def hangs(analyser: Analyser, image: Image, how: Look = WHOLE) -> list[Observation]:
        if next(number) == HEALTHY:
            print("ailing: hangs", flush=True)
            threading.Event().wait()
        return analyse(analyser, image, how)

    def raises_once(analyser: Analyser, image: Image, how: Look = WHOLE) -> list[Observation]:
        if next(number) == HEALTHY:
            raise ValueError("ailing: raises")
        return analyse(analyser, image, how)

    def raises(*_: object) -> list[Observation]:
        raise ValueError("ailing: raises")

    ailing: dict[str, Callable[..., list[Observation]]]
    ailing = {"slow": slow, "late": late, "hangs": hangs, "raises once": raises_once, "raises": raises}
    setattr(Analyser, "__call__", ailing[ailment])  # noqa: B010 - mypy takes no assignment to a method
    sys.argv[1:] = arguments
    main()


if __name__ == "__main__":
    _run(sys.argv[1], sys.argv[2:])
