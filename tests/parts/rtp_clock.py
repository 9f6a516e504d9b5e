"""A line to an RTSP server that notes when each frame begins to pass."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.parts.line import Line

#: Of the RTP clock of video (RFC 6184), ticks a second.
TICKS = 90_000
#: RTP and RTCP in an RTSP connection (RFC 2326, 10.12): `$`, channel, two bytes of length; the first channel is RTP.
MARK, FRAMES, HEADER = b"$", 0, 4


class RtpClock(Line):
    """Passes one RTSP connection on and knows when each of its frames was sent.

    Args:
        target: port of the server.
        rate: frames a second.

    Attributes:
        sent: monotonic seconds at which the first packet of a frame passed, by its number from 0.
    """

    def __init__(self, target: int, rate: int) -> None:
        super().__init__(target)
        self.sent: dict[int, float] = {}
        self._rate = rate
        self._first: int | None = None
        self._rest = b""

    def listener(self) -> Callable[[bytes], bytes]:
        """Look for frames in what goes through."""

        def noted(content: bytes) -> bytes:
            self._look(content)
            return content

        return noted

    def _look(self, content: bytes) -> None:
        """Look for frames; answers that are none are passed over."""
        self._rest += content
        while (start := self._rest.find(MARK)) >= 0:  # before it is what RTSP says, which has none
            self._rest = self._rest[start:]
            end = HEADER + int.from_bytes(self._rest[2:HEADER], "big")
            if len(self._rest) < max(HEADER, end):
                return
            if self._rest[1] == FRAMES:
                self._note(int.from_bytes(self._rest[HEADER + 4 : HEADER + 8], "big"))
            self._rest = self._rest[end:]
        self._rest = b""

    def _note(self, stamp: int) -> None:
        if self._first is None:
            self._first = stamp
        number = round((stamp - self._first) % (1 << 32) * self._rate / TICKS)
        self.sent.setdefault(number, time.monotonic())
