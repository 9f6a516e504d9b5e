"""Takes what passes over an RTSP connection (RFC 2326) apart into messages and the packets between them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

#: Begins a packet; its channel and two bytes of length follow (10.12).
PACKET, PACKET_HEADER = ord("$"), 4
#: Stands between messages now and then.
BLANK = b"\r\n"
LARGEST_MESSAGE = 65536


class Framing:
    """One direction of a connection.

    Args:
        packet: told of each packet, with its framing, which it may change in place; returns what to put behind it.
        message: told of each message; returns what to put in its place.
    """

    def __init__(self, packet: Callable[[memoryview], bytes], message: Callable[[bytes], bytes]) -> None:
        self._packet = packet
        self._message = message
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> bytes:
        """Return what to pass on after the next bytes of the connection. Raises `ValueError` if this is no RTSP."""
        held = self._rest + chunk
        view = memoryview(held)
        pieces: list[bytes | memoryview] = []
        at = 0
        while end := _end(held, at):
            if held[at] == PACKET:
                pieces += [view[at:end], self._packet(view[at:end])]
            elif held[at] in BLANK:
                pieces.append(view[at:end])
            else:
                pieces.append(self._message(bytes(view[at:end])))
            at = end
        self._rest = held[at:]
        return b"".join(pieces)


def _end(held: bytearray, at: int) -> int:
    """Return where what begins at `at` ends; 0 if it has not come as far."""
    if at == len(held):
        return 0
    if held[at] in BLANK:
        return at + 1
    if held[at] == PACKET:
        end = at + PACKET_HEADER + int.from_bytes(held[at + 2 : at + PACKET_HEADER], "big")
        return end if len(held) >= max(end, at + PACKET_HEADER) else 0
    head = held.find(b"\r\n\r\n", at)
    length = re.search(rb"(?i)\r\ncontent-length:[ \t]*(\d+)", held[at : max(at, head)])
    end = (head + 4 if head >= 0 else len(held) + 1) + (int(length[1]) if length else 0)
    if end - at > LARGEST_MESSAGE:
        raise ValueError("a message of RTSP is too long")
    return end if end <= len(held) else 0
