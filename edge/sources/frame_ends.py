"""Says at once where each frame of an H.264 or H.265 stream over RTP ends. Pure.

FFmpeg takes a frame for complete only when the next one begins, which is a frame interval too late. An access unit
delimiter begins one, so a packet with nothing else is put behind the last of each frame.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import NamedTuple

#: A packet in an RTSP connection (RFC 2326, 10.12), `$`, channel, length, and RTP's header in it (RFC 3550): flags,
#: marker and payload type, sequence number, time stamp, source.
HEADER = struct.Struct(">BBHBBHII")
FRAMING = 4
#: The number of a packet alone, and where it is.
NUMBER, NUMBER_AT = struct.Struct(">H"), 6
STAMPS = 1 << 32
#: So many frames in a row must have ended with a marked packet before those are trusted to end one.
TRUSTED = 8
#: FFmpeg gives the next frame the time stamp of the delimiter, that is, the one expected for it. So the last two
#: intervals between frames must be the same but for this share and these ticks of the clock, of which a second has so
#: many. How far so many of the last frames came from what was expected is kept.
UNSTEADY, UNSTEADY_TICKS = 0.25, 4500
TICKS = 90_000
KEPT = 50


class Slice(NamedTuple):
    """A part of a picture, or a piece of that: its type, and whether it is the first of the picture, where that shows.

    Where it does is in its first bit: of H.265 it says that, of H.264 it is that of the number of its first block, 0.
    """

    kind: int
    first: bool | None


@dataclass(frozen=True)
class Codec:
    """How units of a picture are put into packets (RFC 6184, RFC 7798).

    Attributes:
        delimiter: an access unit delimiter.
        header: bytes of a unit's header …
        shift: … whose first byte has the type so many bits from its end …
        mask: … in these bits.
        parts: types that are parts of a picture.
        keys: those that need no other picture.
        part: type of a packet with a part of a unit.
        several: type of a packet with several units.
    """

    delimiter: bytes
    header: int
    shift: int
    mask: int
    parts: Container[int]
    keys: Container[int]
    part: int
    several: int

    def slices(self, payload: memoryview) -> tuple[list[Slice], bool]:
        """Return the parts of pictures in a packet, and whether the last of them ends in it."""
        if len(payload) <= self.header + 1:
            return [], False
        kind = self._type(payload)
        if kind == self.part:
            whole = payload[self.header]  # begins, ends, type
            begins = bool(payload[self.header + 1] & 0x80) if whole & 0x80 else None
            units, ends = [Slice(whole & self.mask, begins)], bool(whole & 0x40)
        elif kind == self.several:
            units, ends = list(self._several(payload[self.header :])), True
        else:
            units, ends = [self._whole(payload)], True
        return [unit for unit in units if unit.kind in self.parts], ends

    def _several(self, units: memoryview) -> Iterator[Slice]:
        while len(units) > 2 + self.header:
            yield self._whole(units[2:])
            units = units[2 + int.from_bytes(units[:2], "big") :]

    def _whole(self, unit: memoryview) -> Slice:
        return Slice(self._type(unit), bool(unit[self.header] & 0x80))

    def _type(self, unit: memoryview) -> int:
        return unit[0] >> self.shift & self.mask


CODECS = {
    "H264": Codec(b"\x09\xf0", 1, 0, 0x1F, parts=(1, 5), keys=(5,), part=28, several=24),
    "H265": Codec(b"\x46\x01\x50", 2, 1, 0x3F, parts=range(32), keys=range(16, 24), part=49, several=48),
}


def codecs_of(description: str) -> dict[int, Codec]:
    """Return the codecs of a session description (RFC 8866) whose frames can be ended, by their RTP payload type."""
    found: dict[int, set[str]] = {}
    for media in re.split(r"(?m)^(?=m=)", description)[1:]:
        names = dict(re.findall(r"(?m)^a=rtpmap: *(\d+) +([^/\s]+)", media))
        for kind in media.splitlines()[0].split()[3:]:
            if kind.isdecimal():
                found.setdefault(int(kind), set()).add(names.get(kind, "").upper())
    # What means one thing in the picture and another in the sound is left alone.
    return {kind: CODECS[name] for kind, (name, *others) in found.items() if name in CODECS and not others}


class FrameEnds:
    """Ends the frames of one RTP stream.

    A camera may mark more packets than the last ones of its frames. So none is ended before a key frame and several
    more have shown that this one does not, and none any more once it has done so.

    Args:
        codec: of the stream.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._added = 0
        self._reliable = True
        #: The time stamp that FFmpeg counts from, the first that is not 0; that promised to the next frame; those of
        #: frames that had another, promised and own.
        self._first = 0
        self._promised: int | None = None
        self._slips: tuple[tuple[int, int], ...] = ()
        #: Of the frame that passes now: its time stamp, whether a part of it was marked, whether it is a key frame …
        self._stamp: int | None = None
        self._marked = self._key = False
        #: … how long after the one before it comes, in ticks, and whether that one came as long after its own; how many
        #: with the same time came before it, because some are sent twice.
        self._step = self._again = 0
        self._steady = False
        #: So many before it ended with a marked packet, and whether a key frame was among them.
        self._ended = 0
        self._key_ended = False

    def true(self, seconds: float) -> float:
        """Return when a frame was made of which FFmpeg says that it was so many seconds after the first."""
        ticks = (round(seconds * TICKS) + self._first) % STAMPS
        for promised, stamp in self._slips:
            if promised == ticks:
                return seconds + ((stamp - promised + STAMPS // 2) % STAMPS - STAMPS // 2) / TICKS
        return seconds

    def passed(self, packet: memoryview) -> bytes:
        """Renumber a packet, in place, and return the one to be put behind it; empty if there is none to be.

        Args:
            packet: with its framing, at least as long as `HEADER`.
        """
        mark, channel, _, flags, kind, number, stamp, source = HEADER.unpack_from(packet)
        if self._added:
            NUMBER.pack_into(packet, NUMBER_AT, (number + self._added) & 0xFFFF)
        self._first = self._first or stamp
        slices, ends = self._codec.slices(_payload(packet, flags))
        if not slices:
            return b""
        for each in slices:
            if each.first is False and self._marked:
                self._reliable = False
            if each.first or stamp != self._stamp:
                self._begin(stamp)
            self._key = self._key or each.kind in self._codec.keys
        self._marked = bool(kind & 0x80) and ends
        if not (self._marked and self._trusted()):
            return b""
        self._added += 1
        self._promised = (stamp + self._step + self._again) % STAMPS
        fields = 0x80, kind & 0x7F, (number + self._added) & 0xFFFF, self._promised, source
        length = HEADER.size - FRAMING + len(self._codec.delimiter)
        return HEADER.pack(mark, channel, length, *fields) + self._codec.delimiter

    def _begin(self, stamp: int) -> None:
        """Begin with another frame."""
        self._ended = self._ended + 1 if self._marked else 0
        self._key_ended = self._ended > 0 and (self._key_ended or self._key)
        if self._promised not in (None, stamp):
            self._slips = (*self._slips[1 - KEPT :], (self._promised, stamp))
        self._promised, self._marked, self._key = None, False, False
        if stamp == self._stamp:
            self._again += 1
            return
        step = 0 if self._stamp is None else (stamp - self._stamp) % STAMPS
        if step >= STAMPS // 2:  # back: frames come in another order than they were taken in
            self._reliable = False
        self._steady = abs(step - self._step) <= min(UNSTEADY * step, UNSTEADY_TICKS)
        self._stamp, self._step, self._again = stamp, step, 0

    def _trusted(self) -> bool:
        return self._reliable and self._steady and self._key_ended and self._ended >= TRUSTED


def _payload(packet: memoryview, flags: int) -> memoryview:
    start = HEADER.size + 4 * (flags & 0x0F)
    if flags & 0x10:  # an extension of the header
        start += 4 + 4 * int.from_bytes(packet[start + 2 : start + 4], "big")
    filled = packet[-1] if flags & 0x20 else 0
    return packet[start : max(0, len(packet) - filled)]
