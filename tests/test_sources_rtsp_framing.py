"""RTSP connections taken apart, wherever the network splits them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.sources.rtsp_framing import LARGEST_MESSAGE, Framing

PACKETS = st.builds(
    lambda channel, content: b"$%c" % channel + len(content).to_bytes(2, "big") + content,
    st.integers(0, 255),
    st.binary(max_size=40) | st.just(bytes(3000)),
)
MESSAGES = st.builds(
    lambda end, first, name, body: end.join([first, b"CSeq: 1", b"%s: %d" % (name, len(body)), b"", body]),
    st.sampled_from([b"\r\n", b"\n"]),
    st.sampled_from([b"RTSP/1.0 200 OK", b"PLAY rtsp://host/$ RTSP/1.0"]),
    st.sampled_from([b"Content-Length", b"content-length"]),
    st.sampled_from([b"", b"v=0\r\n\r\n$"]),
)
BLANKS = st.just(b"\r\n")


def taken_apart(chunks):
    seen = []

    def packet(view):
        seen.append(bytes(view))
        view[1] ^= 1
        return b"behind" if len(view) % 2 else b""

    def message(content):
        seen.append(content)
        return b"" if content.startswith(b"PLAY") else content.upper()

    framing = Framing(packet, message)
    return b"".join(framing.feed(chunk) for chunk in chunks), seen


@given(st.lists(PACKETS | MESSAGES | BLANKS, max_size=12), st.lists(st.integers(0, 4000), max_size=30))
def test_where_it_is_split_makes_no_difference(parts, cuts):
    whole = b"".join(parts)
    bounds = [0, *sorted(cut % (len(whole) + 1) for cut in cuts), len(whole)]
    chunks = [whole[a:b] for a, b in itertools.pairwise(bounds)]
    expected, seen = taken_apart([whole])
    assert seen == [part for part in parts if part != b"\r\n"]
    assert taken_apart(chunks) == (expected, seen)
    assert taken_apart([whole[at : at + 1] for at in range(min(len(whole), 300))] + [whole[300:]]) == (expected, seen)


def test_what_is_changed_and_added_is_passed_on():
    expected, _ = taken_apart([b"$\0\0\1x\r\n$\2\0\2xyPLAY 1\r\n\r\nRTSP/1 ok\r\n\r\n$\0\0"])
    assert expected == b"$\1\0\1xbehind\r\n$\3\0\2xyRTSP/1 OK\r\n\r\n"


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_what_belongs_to_nothing_is_left_out(step):
    """FFmpeg alone gets over it, too."""
    packet = b"$\0\0\14\x80\x60" + bytes(10)
    answer = b"RTSP/1.0 200 OK\r\n\r\n"
    for junk in (b"\0\1garbage!\xff" * 20, b"x $\0", b"y$\xff\0\1\x80"):
        whole = packet + junk + packet + junk + answer + packet
        framing = Framing(lambda _: b"", lambda message: message)
        passed = b"".join(framing.feed(whole[at : at + step]) for at in range(0, len(whole), step))
        assert passed == packet + packet + answer + packet


@pytest.mark.parametrize(
    "content",
    [
        b"X" * (LARGEST_MESSAGE + 1),
        b"RTSP/1.0 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
    ],
)
def test_a_message_without_end_is_refused(content):
    with pytest.raises(ValueError, match="too long"):
        Framing(lambda _: b"", lambda message: message).feed(content)


def test_a_little_behind_each_packet_is_borne_for_ever():
    packet = b"$\0\0\14\x80\x60" + bytes(10)
    framing = Framing(lambda _: b"", lambda message: message)
    passed = sum(len(framing.feed(packet + b"\0" * 4)) for _ in range(LARGEST_MESSAGE // 4 + 10))
    assert passed >= (LARGEST_MESSAGE // 4 + 8) * len(packet)


def test_what_never_is_rtsp_is_refused():
    framing = Framing(lambda _: b"", lambda message: message)
    for _ in range(LARGEST_MESSAGE // 1000):
        assert framing.feed(b"x" * 1000) == b""
    with pytest.raises(ValueError, match="no RTSP"):
        framing.feed(b"x" * 1000)
