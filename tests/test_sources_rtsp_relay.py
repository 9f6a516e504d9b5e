"""The relay between FFmpeg and RTSP cameras: a real server, and cameras that behave as told."""

import asyncio
import contextlib
import errno
import itertools
import socket
import statistics
import subprocess
import threading
import time
from contextlib import ExitStack

import numpy as np
import pytest

import edge.probe
import edge.sources.frame_ends
from deploy.demo.encode import write_clip
from edge.bench.rig import CLIP
from edge.digest import answer, parse_challenge
from edge.frames import CaptureError
from edge.settings import CameraSettings
from edge.sources.network import NetworkSource
from edge.sources.rtsp_relay import LONGEST_GREETING, UNKNOWN, RtspRelay
from tests.parts import HOST, eventually, free_port, tool
from tests.parts.camera import H264, Authority, FakeCamera, hang_up, read_request, rtsp, silent
from tests.parts.clocked import number_of, numbered_clip
from tests.parts.leaks import descriptors
from tests.parts.rtp_clock import RtpClock
from tests.parts.streams import PATIENCE, opened
from tests.scenes import PRESET, QUALITY, read_clip

RATE = 3
REQUEST = "OPTIONS {} RTSP/1.0\r\nCSeq: 1\r\n\r\n"
ALONE = ["-c", "copy", "-bsf:v"]


@pytest.fixture(autouse=True)
def _no_others():
    """Those of tests before, whose camera hangs, last for as long as OpenCV waits; here they would be counted."""
    eventually(lambda: not relays(), 30, "end of the relays of other tests")


@pytest.fixture
def soon(monkeypatch):
    """Few frames are enough to be trusted."""
    monkeypatch.setattr(edge.sources.frame_ends, "TRUSTED", 2)


def relays():
    return [thread for thread in threading.enumerate() if thread.name == "rtsp-relay"]


@contextlib.contextmanager
def nothing_left():
    """Fail if threads or descriptors are left behind."""
    before = descriptors()
    yield
    eventually(lambda: not relays(), 10, "end of the relay")
    eventually(lambda: descriptors() <= before, 10, "all descriptors back", descriptors)


@contextlib.contextmanager
def relayed(port, scheme="rtsp", path="/live", **settings):
    it = RtspRelay(CameraSettings(source=f"{scheme}://{HOST}:{port}{path}", **settings))
    try:
        yield it
    finally:
        it.close()


def player(it, room=1 << 20):
    """Connect to a relay as FFmpeg does, with so much room for what is not read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    connection.settimeout(10)
    connection.connect((HOST, int(it.address.split(":")[2].split("/")[0])))
    connection.sendall(REQUEST.format(it.address).encode())
    return connection


def flood():
    """Answer, then send packets for ever; counts them as `sent` of what it returns."""

    async def behave(reader, writer):
        await read_request(reader)
        writer.write(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"$\0\x04\0" + bytes(1024))
            behave.sent += 1
            await writer.drain()
            await asyncio.sleep(0)  # so that the loop learns that the other side is gone

    behave.sent = 0
    return behave


# Frames


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.usefixtures("soon")
def test_a_frame_is_there_before_the_next_is_sent(clips, rtsp_server, codec):
    numbered_clip(clips / "numbered.mp4", RATE, 8)
    if codec == "libx265":
        how = ["-c:v", codec, "-tag:v", "hvc1", "-x265-params", "bframes=0:keyint=100:log-level=0"]
        encode(clips / "numbered.mp4", clips / "clip.mp4", *how)
    else:
        (clips / "numbered.mp4").rename(clips / "clip.mp4")
    ages = {}
    with RtpClock(rtsp_server.port, RATE) as clock, opened(rtsp_server.url("clip.mp4", clock.port)) as stream:
        while max(ages, default=0) < 13:
            frame = stream.read()
            number = number_of(frame.image)
            ages[number] = frame.captured - clock.sent[number]
    late = [age for number, age in ages.items() if number >= 9]  # the first ones are looked at while it is opened
    assert statistics.median(late) < 0.5 / RATE, ages


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("how", [["-bf", "0"], ["-bf", "0", "-slices", "4"], ["-bf", "2"]], ids=" ".join)
def test_pictures_are_those_of_the_camera(clips, rtsp_server, how):
    """Frames of many packets, key frames among them, reach the decoder whole, in several parts or another order too."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 240, 320, 3), np.uint8)
    write_clip(clips / "noise.mp4", noise, 20, quality=30, preset="veryfast")
    encode(clips / "noise.mp4", clips / "clip.mp4", "-c:v", "libx264", "-preset", "veryfast", "-g", "20", *how)
    with opened(rtsp_server.url("clip.mp4", loop=False)) as stream:
        pictures = [stream.read().image for _ in range(36)]
    expected = list(read_clip(clips / "clip.mp4"))
    first = next(number for number, picture in enumerate(expected) if np.array_equal(picture, pictures[0]))
    assert all(np.array_equal(a, b) for a, b in zip(pictures, expected[first:], strict=False))


@pytest.mark.usefixtures("soon")
def test_a_pause_of_the_camera_is_no_lag(clips, rtsp_server):
    """The frame after it was expected earlier, and FFmpeg believes that."""
    numbered_clip(clips / "numbered.mp4", 10, 4)
    encode(clips / "numbered.mp4", clips / "clip.mp4", *ALONE, r"setts=ts=TS+gte(N\,20)*1.5/TB")
    with opened(rtsp_server.url("clip.mp4", loop=False)) as stream:
        frames = [stream.read() for _ in range(30)]
    assert [number_of(frame.image) for frame in frames] == list(range(30)), "none was taken for late"
    assert max(frame.lag or 0 for frame in frames) < 0.7


def test_sound_beside_the_picture(clips, rtsp_server):
    numbered_clip(clips / "numbered.mp4", 10, 4)
    sound = ["-f", "lavfi", "-i", "sine=440", "-c:v", "copy", "-c:a", "aac", "-shortest"]
    encode(clips / "numbered.mp4", clips / "clip.mp4", *sound)
    with opened(rtsp_server.url("clip.mp4", loop=False)) as stream:
        assert [number_of(stream.read().image) for _ in range(20)] == list(range(20))


def test_it_costs_little(clips, rtsp_server, figure):
    """Four cameras, as `four_cameras_share` of the bench has them."""
    write_clip(clips / "clip.mp4", itertools.islice(read_clip(CLIP), 50), 10, QUALITY, PRESET)
    with ExitStack() as stack:
        streams = [stack.enter_context(opened(rtsp_server.url("clip.mp4"))) for _ in range(4)]
        clocks = [time.pthread_getcpuclockid(thread.ident) for thread in relays()]
        assert len(clocks) == 4
        began, whole = time.monotonic(), time.process_time()
        before = sum(map(time.clock_gettime, clocks))
        readers = [
            threading.Thread(target=lambda stream=stream: [stream.read() for _ in range(40)]) for stream in streams
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        spent = sum(map(time.clock_gettime, clocks)) - before
        share = spent / (time.monotonic() - began)
        figure(f"relay: four cameras, 1280×720 at 10 frames a second, take {100 * share:.1f} % of a core")
        assert spent < (time.process_time() - whole) / 2, "less than it takes to decode"


def encode(source, target, *how):
    command = [tool("ffmpeg", "ffmpeg"), "-v", "error", "-i", source, *how, target]
    subprocess.run(command, check=True)


# Log-in, TLS, other places


def guarded(port, challenge, seen):
    """Pass requests with the right login, counted, on to a server; writes down each address asked for."""

    async def behave(reader, writer):
        far_reader, far_writer = await asyncio.open_connection(HOST, port)
        counted = 0

        async def back():
            while content := await far_reader.read(65536):
                writer.write(content)

        task = asyncio.create_task(back())
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = dict(line.split(": ", 1) for line in head.decode().strip().split("\r\n")[1:])
                method, uri, _ = head.decode().split(" ", 2)
                seen.append((method, uri))
                given = lines.get("Authorization", "")
                login = parse_challenge(given).parameters
                nonce, count = login.get("cnonce"), int(login.get("nc", "0"), 16)
                right = given == answer(parse_challenge(challenge), "me", "p@ss ß", method, uri, nonce, count)
                if right and count in (0, counted + 1):
                    counted = count
                    far_writer.write(head)
                else:
                    again = (
                        f"RTSP/1.0 401 Unauthorized\r\nCSeq: {lines['CSeq']}\r\nWWW-Authenticate: {challenge}\r\n\r\n"
                    )
                    writer.write(again.encode())
        finally:
            task.cancel()
            far_writer.close()

    return behave


@pytest.mark.parametrize(
    "challenge",
    [
        'Basic realm="x"',
        'Digest realm="x", nonce="y"',
        'Digest realm="x", nonce="y", qop="auth", algorithm=SHA-256',
    ],
)
def test_log_in(clips, rtsp_server, challenge):
    clip(clips)
    seen = []
    with FakeCamera(guarded(rtsp_server.port, challenge, seen)) as camera:
        source = f"rtsp://{HOST}:{camera.port}/clip.mp4?play_count=0"
        with opened(source, username="me", password="p@ss ß") as stream:
            assert stream.read().image.size
        assert {method for method, _ in seen} >= {"OPTIONS", "DESCRIBE", "SETUP", "PLAY"}
        with pytest.raises(CaptureError):
            opened(source, username="me", password="wrong")
        assert all(f"{HOST}:{camera.port}/clip.mp4" in uri or f"{HOST}:{rtsp_server.port}/" in uri for _, uri in seen)


@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize("challenge", ['Basic realm="x"', 'Digest realm="x", nonce="y"'])
def test_a_wrong_password_is_given_once(challenge, closes):
    """Cameras lock accounts for several."""
    given = []

    async def refuse(reader, writer):
        while True:
            method, _, headers = await read_request(reader)
            given.append("authorization" in headers)
            status = "200 OK" if method == "OPTIONS" else f"401 Unauthorized\r\nWWW-Authenticate: {challenge}"
            writer.write(f"RTSP/1.0 {status}\r\nCSeq: {headers['cseq']}\r\n\r\n".encode())

    with FakeCamera(refuse) as camera, nothing_left():
        source = f"rtsp://{HOST}:{camera.port}/live"
        error = reason_of(NetworkSource(CameraSettings(source=source, username="me", password="wrong")), closes)
    assert (error.reason, "username or password is wrong" in str(error)) == ("auth", True)
    assert given.count(True) == 1


def reason_of(stream, closes):
    """Return why a stream cannot be opened; a camera's thread closes it before it asks, the doctor afterwards."""
    with pytest.raises(CaptureError) as caught:
        stream.open(PATIENCE)
    if closes:
        stream.close()
    error = stream.explain(caught.value)
    stream.close()
    return error


@pytest.mark.parametrize("closes", [False, True])
def test_a_camera_that_refuses_what_comes_after_its_description_is_told_so(closes):
    """It is no matter of its codec."""

    async def full(reader, writer):
        while True:
            method, _, headers = await read_request(reader)
            if method == "DESCRIBE":
                answer = f"200 OK\r\nContent-Type: application/sdp\r\nContent-Length: {len(H264)}\r\n\r\n{H264}"
            else:
                answer = ("453 Not Enough Bandwidth" if method == "SETUP" else "200 OK") + "\r\n\r\n"
            status, rest = answer.split("\r\n", 1)
            writer.write(f"RTSP/1.0 {status}\r\nCSeq: {headers['cseq']}\r\n{rest}".encode())

    with FakeCamera(full) as camera, nothing_left():
        error = reason_of(NetworkSource(CameraSettings(source=f"rtsp://{HOST}:{camera.port}/live")), closes)
    assert (error.reason, "SETUP (453 Not Enough Bandwidth)" in str(error)) == ("refused", True)


def test_a_camera_that_has_moved_is_followed(clips, rtsp_server):
    clip(clips)

    async def moved(reader, writer):
        while True:
            method, _, headers = await read_request(reader)
            place = f"\r\nLocation: {rtsp_server.url('clip.mp4')}" if method == "DESCRIBE" else ""
            status = "301 Moved Permanently" if place else "200 OK"
            writer.write(f"RTSP/1.0 {status}\r\nCSeq: {headers['cseq']}{place}\r\n\r\n".encode())

    with nothing_left(), FakeCamera(moved) as camera, opened(f"rtsp://{HOST}:{camera.port}/old") as stream:
        assert stream.read().image.size


def clip(clips):
    write_clip(clips / "clip.mp4", (np.full((120, 160, 3), 9 * at, np.uint8) for at in range(20)), 10, 18, "veryfast")


# States


def test_only_who_names_the_address_gets_through():
    asked = []

    async def listen(reader, _):
        while True:
            asked.append(await read_request(reader))

    with FakeCamera(listen) as camera, nothing_left(), relayed(camera.port) as it:
        port = int(it.address.split(":")[2].split("/")[0])
        silent_ones = [socket.create_connection((HOST, port), 10) for _ in range(UNKNOWN + 2)]
        for greeting in (REQUEST.format(f"rtsp://{HOST}:{port}/").encode(), bytes(2 * LONGEST_GREETING)):
            with socket.create_connection((HOST, port), 10) as stranger:
                stranger.sendall(greeting)
                with contextlib.suppress(ConnectionResetError):
                    assert stranger.recv(100) == b"", "turned away"
        with pytest.raises(OSError, match="in use"):
            socket.create_server((HOST, port))
        with player(it):
            eventually(lambda: asked, 10, "what FFmpeg asks")
            for stranger in silent_ones:
                with stranger, contextlib.suppress(ConnectionResetError):
                    assert stranger.recv(100) == b"", "turned away"
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((HOST, port), 10)


@pytest.mark.parametrize("floods", [False, True])
def test_the_camera_hears_that_no_more_is_wanted(floods):
    heard = []

    async def listen(reader, writer):
        async def flood():
            while floods:
                writer.write(b"$\0\x04\0" + bytes(1024))
                await writer.drain()
                await asyncio.sleep(0)  # so that the loop reads too

        writer.write(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n")
        flooding = asyncio.create_task(flood())
        try:
            while True:
                heard.append((await read_request(reader))[0])
        finally:
            flooding.cancel()

    with FakeCamera(listen) as camera, nothing_left(), relayed(camera.port) as it, player(it) as connection:
        connection.recv(100)
        connection.sendall(REQUEST.format(it.address).replace("OPTIONS", "TEARDOWN").encode())
        connection.close()
        it.close()
        eventually(lambda: "TEARDOWN" in heard, 10, "last word")


def test_there_is_one_connection():
    with FakeCamera(rtsp()) as camera, nothing_left(), relayed(camera.port) as it, player(it) as first:
        assert first.recv(100).startswith(b"RTSP/1.0 200 OK")
        with pytest.raises(ConnectionRefusedError):
            player(it)


def test_closed_while_nobody_has_connected():
    with FakeCamera(silent) as camera, nothing_left(), relayed(camera.port):
        assert relays()


@pytest.mark.parametrize("behave", [silent, rtsp(), flood()], ids=["silent", "answering", "flood that nobody takes"])
def test_closed_while_connected(behave):
    with FakeCamera(behave) as camera, nothing_left(), relayed(camera.port) as it, player(it) as connection:
        eventually(lambda: camera.connections, 10, "connection")
        it.close()
        connection.settimeout(10)
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(1 << 20):
                pass
        eventually(lambda: not relays(), 10, "end of the relay")


@pytest.mark.parametrize("scheme", ["rtsp", "rtsps"])
def test_a_camera_that_does_not_take_the_connection(scheme, monkeypatch):
    monkeypatch.setattr(edge.probe, "TIMEOUT", 0.3)
    with nothing_left(), pytest.raises(CaptureError) as caught, relayed(free_port(), scheme):
        pass
    assert caught.value.reason == "refused"
    if scheme == "rtsps":
        with FakeCamera(silent) as camera, nothing_left(), pytest.raises(CaptureError) as caught:
            RtspRelay(CameraSettings(source=f"rtsps://{HOST}:{camera.port}/live"))
        assert caught.value.reason == "timeout"


@pytest.mark.parametrize("what", ["create_server", "socketpair"])
def test_a_machine_without_descriptors_is_told(what, monkeypatch):
    def none_left(*_args, **_kwargs):
        raise OSError(errno.EMFILE, "Too many open files")

    with FakeCamera(silent) as camera, nothing_left():
        monkeypatch.setattr(socket, what, none_left)
        with pytest.raises(CaptureError, match="Too many open files"):
            RtspRelay(CameraSettings(source=f"rtsp://{HOST}:{camera.port}/live"))
        monkeypatch.undo()


def test_either_side_ends_it():
    with FakeCamera(silent) as camera, nothing_left(), relayed(camera.port) as it:
        player(it).close()
        eventually(lambda: not relays(), 10, "end of the relay")
    with FakeCamera(hang_up) as camera, nothing_left(), relayed(camera.port) as it, player(it) as connection:
        assert connection.recv(100) == b""


def test_what_a_camera_said_before_it_hung_up_arrives():
    """Whatever FFmpeg says after that."""
    content = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n" + 1000 * (b"$\0\x04\0" + bytes(1024))
    hung_up = threading.Event()

    async def behave(reader, writer):
        await read_request(reader)
        writer.write(content)
        await writer.drain()
        hung_up.set()

    with FakeCamera(behave) as camera, nothing_left(), relayed(camera.port) as it, player(it, 1 << 16) as connection:
        assert hung_up.wait(10)
        received = b""
        for _ in range(50):
            time.sleep(0.005)  # so long nothing is read
            connection.sendall(b"$\1\0\1x")
        while more := connection.recv(10_000):
            received += more
    assert received == content


def test_what_is_no_rtsp_ends_it():
    async def behave(reader, writer):
        await reader.read(100)
        writer.write(b"x" * 100_000)
        await reader.read()

    with FakeCamera(behave) as camera, nothing_left(), relayed(camera.port) as it, player(it) as connection:
        assert connection.recv(100) == b""


@pytest.mark.parametrize("tls", [False, True])
def test_a_slow_reader_holds_up_the_camera(tls, tmp_path):
    """Nothing is piled up in between; and what waits is read later."""
    authority = Authority(tmp_path) if tls else None
    behave = flood()
    with (
        FakeCamera(behave, authority.context() if authority else None) as camera,
        relayed(camera.port, *(["rtsps"] if tls else []), **({"tls": {"insecure": True}} if tls else {})) as it,
        player(it) as connection,
    ):
        seen = []

        def stands_still():
            seen.append((time.monotonic(), behave.sent))
            return seen[-1][1] and any(at < seen[-1][0] - 0.5 and sent == seen[-1][1] for at, sent in seen)

        eventually(stands_still, 30, "end of the flood", lambda: seen[-1])
        before = behave.sent
        while behave.sent < before + 100:
            assert connection.recv(1 << 16)
    eventually(lambda: not relays(), 10, "end of the relay")
