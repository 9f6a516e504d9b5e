"""The numbers of events: (epoch, number) of a camera never goes back, however a run ended."""

from __future__ import annotations

import time
from collections.abc import Mapping


class Numbering:
    """Counts each camera's events.

    Attributes:
        epoch: milliseconds since 1970 when the numbers began; later than any before.
    """

    def __init__(self) -> None:
        self.epoch = time.time_ns() // 1_000_000
        self._last: dict[str, int] = {}

    def next(self, camera: str) -> int:
        """Return the number of a camera's next event."""
        self._last[camera] = self._last.get(camera, 0) + 1
        return self._last[camera]

    def begin(self, meta: Mapping[str, object]) -> None:
        """Go on with the numbers of a run that ended in order; begin new ones, with a later epoch, after any other.

        What was given out last may not be in the file after a power loss, or when the file could not be written.

        Args:
            meta: what the file says of that run.
        """
        epoch, numbers = meta.get("epoch"), meta.get("numbers")
        if self._last or not isinstance(epoch, int):  # numbers were given out already, or never
            return
        if meta.get("closed") is True and isinstance(numbers, dict):
            self.epoch, self._last = epoch, dict(numbers)
        else:
            self.epoch = max(self.epoch, epoch + 1)

    def begun(self) -> dict[str, object]:
        """Return what the file is to say of this run while it lasts."""
        return {"epoch": self.epoch, "closed": False, "numbers": {}}

    def ended(self) -> dict[str, object]:
        """Return what the file is to say once this run has ended in order."""
        return {"closed": True, "numbers": self._last}
