"""Takes what passes over an RTSP connection (RFC 2326) apart into messages and the packets between them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

#: Begins a packet; its channel and two bytes of length follow (10.12).
PACKET, PACKET_HEADER = ord("$"), 4
#: Stands between messages now and then.
BLANK = b"\r\n"
LARGEST_MESSAGE = 65536
#: A message begins with the name of a method or the protocol's, or has blanks before; it may have begun to come.
_MESSAGE = re.compile(rb"[\r\n]|[A-Z][A-Z_]*([ /]|\Z)")
#: Where something can begin behind bytes that belong to nothing: an answer, or a packet of RTP or RTCP.
_BEGINNING = re.compile(rb"RTSP/|\$[\0-\x1f]..[\x80-\xbf]", re.DOTALL)
#: The end of a message's head; some cameras end lines with a line feed alone.
_END = re.compile(rb"\r?\n\r?\n")


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
        self._lost, self._thrown_away = False, 0

    def feed(self, chunk: bytes) -> bytes:
        """Return what to pass on after the next bytes of the connection, without those that belong to nothing.

        Raises:
            ValueError: this is no RTSP.
        """
        held = self._rest + chunk
        view = memoryview(held)
        pieces: list[bytes | memoryview] = []
        at = self._found(held, 0)
        while not self._lost and (end := _end(held, at)):
            self._thrown_away = 0
            if held[at] == PACKET:
                pieces += [view[at:end], self._packet(view[at:end])]
            elif held[at] in BLANK:
                pieces.append(view[at:end])
            else:
                pieces.append(self._message(bytes(view[at:end])))
            at = self._found(held, end)
        self._rest = held[at:]
        return b"".join(pieces)

    def _found(self, held: bytearray, at: int) -> int:
        """Return where something begins, at `at` or behind bytes that belong to nothing."""
        if at == len(held):
            return at
        if not self._lost and (held[at] == PACKET or _MESSAGE.match(held, at)):
            return at
        found = _BEGINNING.search(held, at)
        self._lost = found is None
        end = found.start() if found else max(at, len(held) - PACKET_HEADER)  # what may have begun stays
        self._thrown_away += end - at
        if self._thrown_away > LARGEST_MESSAGE:
            raise ValueError("this is no RTSP")
        return end


def parts(message: bytes) -> tuple[bytes, bytes]:
    """Return head, its lines ended alike, and body of a message."""
    head, *body = _END.split(message, maxsplit=1)
    return head.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), b"".join(body)


def _end(held: bytearray, at: int) -> int:
    """Return where what begins at `at` ends; 0 if it has not come as far."""
    if at == len(held):
        return 0
    if held[at] in BLANK:
        return at + 1
    if held[at] == PACKET:
        end = at + PACKET_HEADER + int.from_bytes(held[at + 2 : at + PACKET_HEADER], "big")
        return end if len(held) >= max(end, at + PACKET_HEADER) else 0
    head = _END.search(held, at)
    length = re.search(rb"(?im)^content-length:[ \t]*(\d+)", held[at : head.start()]) if head else None
    end = (head.end() if head else len(held) + 1) + (int(length[1]) if length else 0)
    if end - at > LARGEST_MESSAGE:
        raise ValueError("a message of RTSP is too long")
    return end if end <= len(held) else 0
