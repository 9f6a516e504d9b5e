"""Why a network camera gives no frames, asked of servers that behave so."""

import asyncio
import time

import pytest

import edge.probe
from edge.digest import answer, parse_challenge
from edge.probe import explain, silence
from edge.settings import CameraSettings
from tests.parts import HOST, free_port
from tests.parts.camera import Authority, FakeCamera, hang_up, http, other_protocol, read_request, rtsp, silent

BASIC = 'Basic realm="camera"'
MD5 = 'Digest realm="camera", nonce="abc", qop="auth"'
SHA256 = 'Digest realm="camera", nonce="abc", qop="auth", algorithm=SHA-256'
TOKEN = "Bearer"
H266 = "v=0\r\nm=audio 0 RTP/AVP 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H266/90000\r\n"
AUDIO = "v=0\r\nm=audio 0 RTP/AVP 97\r\na=rtpmap:97 AAC/16000\r\n"
SECRET = "hunter2 &ß"


def good_login(challenge, path="/live"):
    """Accept what answers the challenge for viewer and SECRET, whatever nonce the client chose."""

    def accept(method, header):
        nonce = parse_challenge(header).parameters.get("cnonce")
        uri = parse_challenge(header).parameters.get("uri", "")
        return header == answer(parse_challenge(challenge), "viewer", SECRET, method, uri, nonce) and (
            challenge == BASIC or uri.endswith(path)
        )

    return accept


def ask(behave, scheme="rtsp", password=None, path="/live"):
    """Return reason and message of a probe of a camera that behaves so; (None, "") if nothing is wrong."""
    login = {} if password is None else {"username": "viewer", "password": password}
    with FakeCamera(behave) as camera:
        error = explain(CameraSettings(source=f"{scheme}://{HOST}:{camera.port}{path}", **login))
    if error is None:
        return None, ""
    assert f"{HOST}:{camera.port}" in str(error)
    for secret in (SECRET, "viewer", "wrong"):
        assert secret not in str(error).replace("password is wrong", "")
    return error.reason, str(error)


@pytest.mark.parametrize("challenge", [BASIC, MD5, SHA256])
@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_wrong_password_is_auth(scheme, challenge):
    server = rtsp(challenges=[challenge]) if scheme == "rtsp" else http(challenge=challenge)
    reason, says = ask(server, scheme, password="wrong")
    assert (reason, "username or password is wrong" in says) == ("auth", True)
    reason, says = ask(server, scheme)
    assert (reason, "give username and password" in says) == ("auth", True)


@pytest.mark.parametrize("challenge", [BASIC, MD5, SHA256, 'Digest realm="Überwachung 摄像头 Å 入口", nonce="abc"'])
def test_right_password_is_not_auth(challenge):
    accept = good_login(challenge)
    assert ask(rtsp(challenges=[challenge], accept=accept), password=SECRET)[0] == "codec"
    if challenge != SHA256:
        assert ask(http(challenge=challenge, accept=accept), "http", password=SECRET)[0] is None


def test_login_that_nobody_can_give_is_auth_and_says_so():
    """FFmpeg logs in over HTTP, the relay over RTSP."""
    reason, says = ask(http(challenge=SHA256, accept=good_login(SHA256)), "http", password=SECRET)
    assert (reason, "SHA-256" in says) == ("auth", True)
    for server, scheme in ((rtsp(challenges=[TOKEN]), "rtsp"), (http(challenge=TOKEN), "http")):
        reason, says = ask(server, scheme, password=SECRET)
        assert (reason, "not known (bearer)" in says) == ("auth", True)


@pytest.mark.parametrize("others", [[BASIC], [TOKEN], [BASIC, TOKEN]])
def test_login_that_shows_no_password_is_tried_first(others):
    several = rtsp(challenges=[*others, SHA256], accept=good_login(SHA256))
    assert ask(several, password=SECRET)[0] == "codec"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("404 Not Found", "not_found"),
        ("410 Gone", "not_found"),
        ("403 Forbidden", "auth"),
        ("453 Not Enough Bandwidth", "refused"),
        ("503 Service Unavailable", "refused"),
    ],
)
@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_status_gives_the_reason(scheme, status, reason):
    found, says = ask((rtsp if scheme == "rtsp" else http)(status), scheme)
    assert found == reason
    assert status in says


def test_described_but_without_frames_is_codec_and_names_it():
    assert ask(rtsp(body=H266))[0] == "codec"
    assert "H266" in ask(rtsp(body=H266))[1]
    reason, says = ask(rtsp(body=AUDIO))
    assert (reason, "no video" in says) == ("codec", True)


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_server_that_says_nothing_is_timeout(scheme, monkeypatch):
    monkeypatch.setattr(edge.probe, "TIMEOUT", 0.5)
    started = time.monotonic()
    assert ask(silent, scheme)[0] == "timeout"
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_server_that_hangs_up_is_ended(scheme):
    assert ask(hang_up, scheme)[0] == "ended"


def test_another_protocol_is_unreadable():
    reason, says = ask(other_protocol)
    assert (reason, "not in RTSP" in says) == ("unreadable", True)
    assert ask(other_protocol, "http")[0] == "ended"


def test_camera_that_sends_elsewhere_says_where():
    reason, says = ask(http("302 Found", kind="text/html", location="https://cam.lan/live"), "http")
    assert (reason, "sends us to https://cam.lan/live; name that address" in says) == ("refused", True)


def test_page_instead_of_video_is_unreadable():
    reason, says = ask(http(kind="text/html"), "http")
    assert (reason, "text/html" in says) == ("unreadable", True)
    assert ask(http(), "http", path="")[0] is None


def test_camera_that_does_not_know_head_is_asked_with_get():
    assert ask(http(head=False), "http")[0] is None
    assert ask(http("404 Not Found", head=False), "http")[0] == "not_found"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("rtsp://127.0.0.1:{free}/x", "refused"),
        ("http://127.0.0.1:{free}/x", "refused"),
        ("rtsp://no-such-host.invalid/x", "not_found"),
    ],
)
def test_nobody_there(source, reason):
    assert explain(CameraSettings(source=source.format(free=free_port()))).reason == reason


def moved(place):
    async def behave(reader, writer):
        while True:
            method, _, headers = await read_request(reader)
            status = "200 OK" if method == "OPTIONS" else f"302 Found\r\nLocation: {place}"
            writer.write(f"RTSP/1.0 {status}\r\nCSeq: {headers['cseq']}\r\n\r\n".encode())

    return behave


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("http://camera.lan/page?password=x", "sends us to http://camera.lan, which is not followed"),
        ("rtsp://", "which is not followed"),
        ("/live", "on and on"),
    ],
)
def test_camera_that_sends_us_to_where_nothing_is(place, says):
    reason, text = ask(moved(place), password=SECRET)
    assert (reason, says in text, "page" in text) == ("refused", True, False)


@pytest.mark.parametrize(
    ("behave", "reason"), [(rtsp(challenges=[MD5]), "auth"), (rtsp("404 Not Found"), "not_found"), (silent, "timeout")]
)
def test_camera_that_has_moved_is_asked_where_it_is_now(behave, reason, monkeypatch):
    if reason == "timeout":
        monkeypatch.setattr(edge.probe, "TIMEOUT", 0.5)
    with FakeCamera(behave) as now:
        with FakeCamera(moved(f"rtsp://{HOST}:{now.port}/new")) as before:
            settings = CameraSettings(source=f"rtsp://{HOST}:{before.port}/old", username="viewer", password="wrong")
            error = explain(settings)
        assert (error.reason, f"{HOST}:{now.port}" in str(error)) == (reason, True)


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\nX: "])
@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_bytes_one_after_the_other_are_no_answer(scheme, begin, monkeypatch):
    monkeypatch.setattr(edge.probe, "TIMEOUT", 0.5)

    async def drip(_, writer):
        writer.write(begin)
        while not writer.is_closing():
            writer.write(b"H")
            await writer.drain()
            await asyncio.sleep(0.002)

    started = time.monotonic()
    assert ask(drip, scheme)[0] == "timeout"
    assert time.monotonic() - started < 5, "and not as long as it goes on"


def test_lines_may_end_with_line_feeds_alone():
    async def behave(reader, writer):
        while True:
            method, _, headers = await read_request(reader)
            status = "200 OK" if method == "OPTIONS" else "404 Not Found"
            writer.write(f"RTSP/1.0 {status}\nCSeq: {headers['cseq']}\n\n".encode())

    assert ask(behave)[0] == "not_found"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"\r\n\r\nRTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n", "not_found"),
        (b"RTSP/1.0 404 Not Found\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", "not_found"),
        (b"no RTSP\r\n\r\n", "unreadable"),
        (b"\r\n\r\n", "timeout"),
    ],
)
def test_odd_answers_have_a_reason_too(said, reason, monkeypatch):
    if reason == "timeout":
        monkeypatch.setattr(edge.probe, "TIMEOUT", 0.5)

    async def behave(reader, writer):
        while True:
            await read_request(reader)
            writer.write(said)

    assert ask(behave)[0] == reason
    with FakeCamera(behave) as camera:
        known = silence(CameraSettings(source=f"rtsp://{HOST}:{camera.port}/live"))
    assert (known and known.reason) == (None if reason == "not_found" else reason)


def test_address_that_answers_nothing_is_timeout(monkeypatch):
    monkeypatch.setattr(edge.probe, "TIMEOUT", 0.3)

    def black_hole(_address, timeout):
        time.sleep(timeout)
        raise TimeoutError

    monkeypatch.setattr(edge.probe.socket, "create_connection", black_hole)
    assert explain(CameraSettings(source="rtsp://192.0.2.1/x")).reason == "timeout"


def test_real_rtsp_server(rtsp_server):
    missing = explain(CameraSettings(source=rtsp_server.url("gone.mp4")))
    assert missing.reason == "not_found"


# Certificates


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize(
    ("name", "days", "says"),
    [(f"IP:{HOST}", -1, "expired"), ("DNS:other.host", 2, "IP address mismatch")],
)
def test_certificate_that_is_not_to_be_trusted_is_tls(authority, name, days, says):
    with FakeCamera(rtsp(), authority.context(name, days)) as camera:
        source = f"rtsps://{HOST}:{camera.port}/live"
        error = explain(CameraSettings(source=source, tls={"ca": authority.ca}))
        assert (error.reason, says in str(error)) == ("tls", True), str(error)
        assert explain(CameraSettings(source=source, tls={"insecure": True})).reason == "codec"


def test_certificate_of_an_unknown_authority_is_tls_and_of_a_known_one_is_not(authority):
    with FakeCamera(http(), authority.context()) as camera:
        source = f"https://{HOST}:{camera.port}/live"
        error = explain(CameraSettings(source=source))
        assert (error.reason, "tls.ca" in str(error)) == ("tls", True)
        known = CameraSettings(source=source, tls={"ca": authority.ca})
        assert explain(known) is None
        assert silence(known) is None
        assert silence(CameraSettings(source=source)).reason == "tls"


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_only_who_says_nothing_is_silent(scheme, monkeypatch):
    refusing = rtsp("401 Unauthorized") if scheme == "rtsp" else http("401 Unauthorized", head=False)
    for behave, reason in ((silent, "timeout"), (refusing, None), (hang_up, None)):
        monkeypatch.setattr(edge.probe, "TIMEOUT", 0.5 if behave is silent else 20.0)
        with FakeCamera(behave) as camera:
            error = silence(CameraSettings(source=f"{scheme}://{HOST}:{camera.port}/live/ä?x=1"))
        assert (error and error.reason) == reason, behave
    assert silence(CameraSettings(source=f"{scheme}://{HOST}:{free_port()}/live")).reason == "refused"


def test_server_without_tls_is_tls(monkeypatch):
    monkeypatch.setattr(edge.probe, "TIMEOUT", 20.0)
    reason, says = ask(other_protocol, "rtsps")
    assert (reason, "check scheme and port" in says) == ("tls", True)
    assert ask(hang_up, "https")[0] == "tls"
