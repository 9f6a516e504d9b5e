"""Frames of RTP streams that are ended at once, by the packets that pass."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.sources.frame_ends import CODECS, TRUSTED, FrameEnds, codecs_of

INTERVAL, KIND, SOURCE = 9000, 96, 0xC0FFEE
#: One picture part each, in the packets that standards have for it: a key frame, and one that needs others.
H264 = {
    "single": (b"\x65\x88key", b"\x61\x9aother"),
    "several": (b"\x78\0\2\x67s\0\2\x68p\0\5\x65\x88key\0\3\x65\x40x", b"\x78\0\2\x06s\0\7\x61\x9aother"),
    "last piece": (b"\x7c\x45key", b"\x7c\x41other"),
}
H265 = {
    "single": (b"\x26\x01\xafkey", b"\x02\x01\xd0other"),
    "several": (b"\x60\1\0\3\x42\1s\0\6\x26\1\xafkey\0\4\x26\1\x40x", b"\x60\1\0\3\x4e\1s\0\x08\x02\1\xd0other"),
    "last piece": (b"\x62\x01\x53key", b"\x62\x01\x41other"),
}
WAYS = [("H264", *H264[way]) for way in H264] + [("H265", *H265[way]) for way in H265]
DELIMITERS = {"H264": b"\x09\xf0", "H265": b"\x46\x01\x50"}
KEY, OTHER = H264["single"]
#: What follows on the first part of the same picture.
MORE = b"\x61\x40more"


def packet(stamp, payload, number=0, marked=True, head=b"", flags=0x80, kind=KIND):
    rtp = struct.pack(">BBHII", flags, kind | marked << 7, number, stamp % (1 << 32), SOURCE) + head + payload
    return bytearray(struct.pack(">BBH", ord("$"), 0, len(rtp)) + rtp)


def fields(content):
    """Return number, time stamp, payload of a packet without extras."""
    assert content[0] == ord("$")
    assert int.from_bytes(content[2:4], "big") == len(content) - 4
    return int.from_bytes(content[6:8], "big"), int.from_bytes(content[8:12], "big"), bytes(content[16:])


def through(packets, codec="H264"):
    """Return what was put behind each packet and the packets as they were passed on."""
    ends = FrameEnds(CODECS[codec])
    return [ends.passed(memoryview(each)) for each in packets], packets


def frames(count, key=KEY, other=OTHER, first=0, **extras):
    """Return a frame in each packet."""
    return [
        packet(first + INTERVAL * number, other if number else key, number & 0xFFFF, **extras)
        for number in range(count)
    ]


@pytest.mark.parametrize(("codec", "key", "other"), WAYS)
def test_each_frame_is_ended_once_marks_can_be_trusted(codec, key, other):
    added, passed = through(frames(TRUSTED + 5, key, other), codec)
    assert [bool(each) for each in added] == [False] * TRUSTED + [True] * 5
    for number in range(TRUSTED, TRUSTED + 5):
        more = number - TRUSTED
        assert fields(passed[number]) == (number + more, number * INTERVAL, other)
        assert fields(added[number]) == (number + more + 1, (number + 1) * INTERVAL, DELIMITERS[codec])
        assert added[number][5] == KIND, "no mark of its own"
        assert added[number][12:16] == passed[number][12:16], "the same source"


def test_numbers_and_time_stamps_begin_again_after_the_largest():
    packets = frames(TRUSTED + 4, first=(1 << 32) - INTERVAL * (TRUSTED + 1))
    for number, each in enumerate(packets):
        struct.pack_into(">H", each, 6, (0xFFFF - TRUSTED - 1 + number) & 0xFFFF)
    added, passed = through(packets)
    went = [fields(each)[:2] for pair in zip(passed, added, strict=True) for each in pair if each]
    assert [number for number, _ in went][-8:] == [0xFFFE, 0xFFFF, 0, 1, 2, 3, 4, 5]
    assert [stamp for _, stamp in went][-8:-3] == [(1 << 32) - INTERVAL, 0, 0, INTERVAL, INTERVAL]


@pytest.mark.parametrize(
    "extras",
    [
        {"flags": 0x82, "head": bytes(8)},
        {"flags": 0x90, "head": b"\xbe\xde\x00\x02" + bytes(8)},
    ],
    ids=["sources", "extension"],
)
def test_longer_headers(extras):
    added, _ = through(frames(TRUSTED + 1, **extras))
    assert added[-1]


def test_filled_up_packets():
    packets = [packet(INTERVAL * number, (OTHER if number else KEY) + b"\0\0\3", flags=0xA0) for number in range(20)]
    assert through(packets)[0][-1]
    packets[-1][-1] = 10
    assert not through([bytearray(each) for each in packets])[0][-1], "nothing but filling"


@pytest.mark.parametrize(
    "payload", [b"\x67sps", b"\x7c\x01middle", b"\x7c\x81\x9afirst", b"\x06sei", b"\x78", b"", b"\x7c", b"\x61"]
)
def test_only_the_end_of_a_part_of_a_picture_ends_one(payload):
    added, _ = through([*frames(TRUSTED + 1), packet(INTERVAL * (TRUSTED + 1), payload)])
    assert added[-2]
    assert not added[-1]


def test_frames_of_many_packets_are_ended_once():
    packets = []
    for number in range(TRUSTED + 3):
        packets.append(packet(INTERVAL * number, b"\x67sps", marked=False))
        packets.append(packet(INTERVAL * number, b"\x7c\x85\x88x", marked=False))
        packets.append(packet(INTERVAL * number, b"\x7c\x05x", marked=False))
        packets.append(packet(INTERVAL * number, b"\x7c\x45x"))
    added, _ = through(packets)
    assert [number for number, each in enumerate(added) if each] == [4 * TRUSTED + 3, 4 * TRUSTED + 7, 4 * TRUSTED + 11]


@pytest.mark.parametrize("time", [0, 1])
@pytest.mark.parametrize("more", [MORE, b"\x7c\x81\x40start", b"\x78\0\3\x61\x40x"])
@pytest.mark.parametrize("late", [0, TRUSTED + 3])
def test_a_camera_that_marks_every_part_is_left_alone(late, more, time):
    """For good, however many frames look well afterwards."""
    packets = frames(60)
    packets[late : late + 1] = [packet(INTERVAL * late, KEY), packet(INTERVAL * late + time, more)]
    added, _ = through(packets)
    assert not any(added[late + 1 :])
    assert any(added[:late]) == (late > 0)


def test_frames_of_many_parts_of_which_the_last_is_marked():
    packets = []
    for each in frames(TRUSTED + 2):
        stamp, first = fields(each)[1:]
        parts = packet(stamp, first, marked=False), packet(stamp, MORE, marked=False), packet(stamp, MORE)
        packets += parts
    added, _ = through(packets)
    assert [number for number, each in enumerate(added) if each] == [3 * TRUSTED + 2, 3 * TRUSTED + 5]


def test_frames_that_are_sent_twice_are_ended_twice():
    """Each with a time stamp of its own, by which its true one is found."""
    ends = FrameEnds(CODECS["H264"])
    stamps, said = [], []
    for number in range(1, TRUSTED + 10):
        for _ in range(1 + (number % 3 == 0)):
            added = ends.passed(memoryview(packet(INTERVAL * number, OTHER if number > 1 else KEY)))
            stamps.append(INTERVAL * number)
            said.append(fields(added)[1] if added else None)
    assert all(said[TRUSTED + 4 :])
    assert len(set(said[TRUSTED + 4 :])) == len(said) - TRUSTED - 4
    for promised, stamp in zip(said[TRUSTED + 4 : -1], stamps[TRUSTED + 5 :], strict=True):
        assert ends.true((promised - INTERVAL) / 90_000) == pytest.approx((stamp - INTERVAL) / 90_000)


def test_marks_on_parameters_are_no_ends():
    packets = [each for frame in frames(30) for each in (packet(fields(frame)[1], b"\x68pps"), frame)]
    added, _ = through(packets)
    assert not any(added[::2])
    assert added[-1]


def test_without_marks_no_frame_is_ended():
    assert not any(through(frames(60, marked=False))[0])
    mixed = [packet(INTERVAL * number, OTHER if number else KEY, marked=number % 5 > 0) for number in range(60)]
    assert not any(through(mixed)[0])


def test_without_a_key_frame_no_frame_is_ended():
    """It may be in more parts than others, each of them marked."""
    assert not any(through(frames(60, key=OTHER))[0])


def test_frames_at_changing_intervals_are_not_ended():
    stamps = [0]
    for number in range(60):
        stamps.append(stamps[-1] + INTERVAL * (1 + number % 2))
    assert not any(through([packet(stamp, OTHER if stamp else KEY) for stamp in stamps])[0])
    reordered = [packet(INTERVAL * (number + (2, 0, 1)[number % 3]), OTHER if number else KEY) for number in range(60)]
    assert not any(through(reordered)[0])


@pytest.mark.parametrize("first", [0, 12345, (1 << 32) - 5 * INTERVAL])
@pytest.mark.parametrize("later", [3, 0.2])
def test_the_time_of_a_frame_that_came_at_another_is_put_right(first, later):
    """FFmpeg says of it when it was expected, counting from the first time stamp that is not 0."""
    ends = FrameEnds(CODECS["H264"])
    for each in frames(TRUSTED + 1, first=first):
        last = ends.passed(memoryview(each))
    promised, zero = fields(last)[1], first or INTERVAL
    ends.passed(memoryview(packet(promised + round(INTERVAL * later), OTHER)))
    said = (promised - zero) % (1 << 32) / 90_000
    assert ends.true(said) == pytest.approx(said + round(INTERVAL * later) / 90_000)
    for other in (said + 0.1, said - 0.1, 0, 1e6):
        assert ends.true(other) == other


PIECES = [b"\x7c\x81\x9aa", b"\x7c\x81\x40a", b"\x7c\x01b", b"\x67s", b""]
PAYLOADS = st.sampled_from([KEY, OTHER, OTHER, OTHER, MORE, *H264["several"], *H264["last piece"], *PIECES])
STEPS = st.sampled_from([0, INTERVAL, INTERVAL, INTERVAL, 2 * INTERVAL, -INTERVAL])


@given(st.lists(st.tuples(STEPS, PAYLOADS, st.integers(0, 9))), st.integers(0, 0xFFFF))
def test_whatever_comes_is_passed_on_and_misled_once_at_most(changes, number):
    packets, stamp = frames(TRUSTED + 2), INTERVAL * (TRUSTED + 1)
    for step, payload, mark in changes:
        stamp += step
        packets.append(packet(stamp, payload, marked=mark > 0))
    for each in packets:
        struct.pack_into(">H", each, 6, number & 0xFFFF)
        number += 1
    before = [bytes(each) for each in packets]
    added, passed = through(packets)
    went = [each for pair in zip(passed, added, strict=True) for each in pair if each]
    numbers = [fields(each)[0] for each in went]
    assert all((later - each) & 0xFFFF == 1 for each, later in itertools.pairwise(numbers))
    assert [each[:6] + each[8:] for each in before] == [bytes(each[:6] + each[8:]) for each in passed]
    misled = [
        number
        for number, each in enumerate(added)
        if each and _goes_on(next((part for part in map(_slice, passed[number + 1 :]) if part), b""))
    ]
    assert len(misled) <= 1
    assert not misled or not any(added[misled[0] + 1 :])


def _slice(content):
    """Return the payload of a packet if it holds a part of a picture."""
    payload = fields(content)[2]
    return payload if payload and payload[0] & 0x1F in (1, 5, 24, 28) else b""


def _goes_on(payload):
    """Tell whether a packet begins with a later part of a picture."""
    return payload == MORE or payload[:3] == b"\x7c\x81\x40"


@given(st.lists(st.binary(min_size=12, max_size=60)), st.sampled_from(["H264", "H265"]))
def test_no_packet_is_too_odd(packets, codec):
    through([bytearray(struct.pack(">BBH", ord("$"), 0, len(each)) + each) for each in packets], codec)


@pytest.mark.parametrize(
    ("description", "found"),
    [
        ("m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n", {96: "H264"}),
        ("m=video 0 RTP/AVP 98\na=rtpmap:98 h265/90000\n", {98: "H265"}),
        ("m=video 0 RTP/AVP 96 97\r\na=rtpmap:97 H265/90000\r\na=rtpmap:96 H264/90000\r\n", {96: "H264", 97: "H265"}),
        ("m=audio 0 RTP/AVP 8\r\nm=video 0 RTP/AVP 96\r\nb=AS:5\r\na=rtpmap:96 H264/90000\r\n", {96: "H264"}),
        ("m=video 0 RTP/AVP 26\r\n", {}),
        ("m=video 0 RTP/AVP 96\r\na=rtpmap:96 MP4V-ES/90000\r\n", {}),
        ("m=video 0 RTP/AVP 96\r\n", {}),
        ("v=0\r\na=rtpmap:96 H264/90000\r\n", {}),
        ("m=video 0 RTP/AVP 96\r\na=rtpmap:97 H264/90000\r\n", {}),
        ("m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\nm=audio 0 RTP/AVP 96\r\na=rtpmap:96 L16/8000\r\n", {}),
        (
            "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n",
            {96: "H264"},
        ),
        ("m=\r\nm=video\r\na=rtpmap:\r\nm=video 0 RTP/AVP x\r\n", {}),
        ("", {}),
    ],
)
def test_descriptions(description, found):
    assert codecs_of(description) == {kind: CODECS[name] for kind, name in found.items()}
