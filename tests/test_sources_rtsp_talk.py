"""What FFmpeg and a camera tell each other by way of the relay."""

import hashlib
import re

import pytest

from edge.digest import answer, parse_challenge
from edge.redirect import REDIRECTS
from edge.settings import CameraSettings
from edge.sources.rtsp_talk import Talk

ADDRESS, SOURCE = "rtsp://127.0.0.1:4242/abcdef", "rtsp://camera.lan:8554/live?x=1"
BASIC = 'Basic realm="camera"'
MD5 = 'Digest realm="camera", nonce="n1", qop="auth", algorithm=MD5'
SHA256 = 'Digest realm="camera", nonce="n1", qop="auth", algorithm=SHA-256'
OLD = 'Digest realm="camera", nonce="n1"'
PASSWORD = "p@ss:w/rd ß"
SDP = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"


def request(method="DESCRIBE", number=2, address=ADDRESS, more=""):
    return f"{method} {address} RTSP/1.0\r\n{more}CSeq: {number}\r\nUser-Agent: Lavf\r\n\r\n".encode()


def said(status="200 OK", number=2, *headers, body=""):
    return "\r\n".join([f"RTSP/1.0 {status}", f"CSeq: {number}", *headers, "", body]).encode()


def unauthorized(*challenges, number=2):
    return said("401 Unauthorized", number, *(f"WWW-Authenticate: {each}" for each in challenges))


def talk(source=SOURCE, login=True, **more):
    login = {"username": "me", "password": PASSWORD} if login else {}
    return Talk(CameraSettings(source=source, **login, **more), ADDRESS)


def header(message, name):
    found = re.search(rf"(?m)^{name}: (.*)\r$", message.decode())
    return found and found[1]


def test_the_camera_is_asked_at_its_own_address():
    it = talk()
    assert it.asked(request()) == request(address=SOURCE)
    setup = it.asked(request("SETUP", 3, f"{ADDRESS}/track1"))
    assert setup == request("SETUP", 3, f"{SOURCE}/track1")
    elsewhere = request("PLAY", 4, "rtsp://camera.lan/other/")  # as its description or Content-Base has it
    assert it.asked(elsewhere) == elsewhere


@pytest.mark.parametrize("source", ["rtsp://camera.lan/", "rtsp://camera.lan/live/"])
def test_a_track_follows_on_an_address_that_ends_with_a_slash(source):
    it = talk(source)
    assert it.asked(request()) == request(address=source)
    assert it.asked(request("SETUP", 3, f"{ADDRESS}/track1")) == request("SETUP", 3, f"{source}track1")


def test_nobody_but_ffmpeg_is_let_in():
    with pytest.raises(ValueError, match="somebody else"):
        talk().asked(request(address="rtsp://127.0.0.1:4242/guessed"))


def test_what_is_no_request_or_no_answer_is_passed_on():
    it = talk()
    answered = said("501 Not Implemented", 7)
    assert it.asked(answered) == answered
    asked = request("ANNOUNCE", 1, SOURCE)
    assert it.answered(asked) == asked
    for odd in (b"RTSP/1.0 OK\r\n\r\n", b"RTSP/1.0 401 no number\r\n\r\n", b"\xff\xfe\r\n\r\n"):
        assert talk(login=False).answered(odd) == odd


@pytest.mark.parametrize("challenge", [BASIC, MD5, SHA256, OLD])
def test_the_relay_logs_in(challenge):
    it = talk()
    assert "Authorization" not in it.asked(request()).decode()
    assert it.answered(unauthorized(challenge)) == b"", "FFmpeg does not hear of it"
    given = header(it.again, "Authorization")
    nonce = parse_challenge(given).parameters.get("cnonce")
    assert given == answer(parse_challenge(challenge), "me", PASSWORD, "DESCRIBE", SOURCE, nonce)
    assert header(it.again, "CSeq") == "3", "each request has a number of its own"
    assert it.again.endswith(b"\r\n\r\n")
    assert it.answered(said("200 OK", 3)) == said("200 OK", 2), "and FFmpeg its own"
    later = it.asked(request("SETUP", 3, f"{ADDRESS}/track1"))
    assert header(later, "CSeq") == "4"
    assert header(later, "Authorization").startswith(challenge.split()[0])
    assert "track1" in header(later, "Authorization") or challenge == BASIC


def test_a_wrong_password_is_tried_once_and_told():
    it = talk()
    it.asked(request())
    assert it.answered(unauthorized(MD5)) == b""
    it.again = b""
    assert it.answered(unauthorized(MD5, number=3)) == said("401 Unauthorized"), "and FFmpeg does not ask once more"
    assert it.again == b""


def test_answers_to_a_nonce_are_counted():
    """Some cameras take each count once (RFC 7616, 3.4)."""
    it = talk()
    it.asked(request())
    it.answered(unauthorized(MD5))
    asked = [it.again, it.asked(request("SETUP", 3, f"{ADDRESS}/track1")), it.asked(request("PLAY", 4))]
    it.answered(unauthorized(MD5.replace("n1", "n2"), number=5))
    for message, nonce, count in zip([*asked, it.again], ("n1", "n1", "n1", "n2"), (1, 2, 3, 1), strict=True):
        given = parse_challenge(header(message, "Authorization")).parameters
        assert (given["nonce"], given["nc"]) == (nonce, f"{count:08x}")
        method, uri, _ = message.decode().split(" ", 2)
        expected = answer(
            parse_challenge(MD5.replace("n1", nonce)), "me", PASSWORD, method, uri, given["cnonce"], count
        )
        assert header(message, "Authorization") == expected


@pytest.mark.parametrize("method", ["DESCRIBE", "SETUP"])
def test_what_the_camera_refuses_is_known(method):
    it = talk()
    it.asked(request(method))
    assert it.answered(unauthorized(MD5)) == b""
    assert it.refusal == "", "it has not refused the login yet"
    it.answered(said("453 Not Enough Bandwidth", 3))
    assert it.refusal == f"{method} (453 Not Enough Bandwidth)"
    it.asked(request("TEARDOWN", 4))
    it.answered(said("503 Service Unavailable", 5))
    it.asked(request(method, 5))
    it.answered(said("400 Bad Request", 6))
    assert it.refusal == f"{method} (453 Not Enough Bandwidth)", "neither the end nor what is not known matters"
    assert not it.wrong_login
    it.asked(request(method, 5))
    it.answered(unauthorized(MD5.replace("n1", "n2"), number=6))
    it.answered(unauthorized(MD5.replace("n1", "n3"), number=7))
    assert it.wrong_login


def test_lines_may_end_with_line_feeds_alone():
    it = talk()
    it.asked(request())
    assert it.answered(unauthorized(MD5).replace(b"\r\n", b"\n")) == b""
    assert header(it.again, "Authorization").startswith("Digest ")
    it.answered(said("200 OK", 3, "Content-Type: application/sdp", body=SDP).replace(b"\r\n", b"\n"))
    assert list(it.codecs) == [96]


def test_a_nonce_that_has_grown_old_is_replaced():
    it = talk()
    it.asked(request())
    it.answered(unauthorized(MD5))
    it.asked(request("GET_PARAMETER", 5))
    assert it.answered(unauthorized(MD5.replace("n1", "n2"), number=6)) == b""
    assert 'nonce="n2"' in header(it.again, "Authorization")


@pytest.mark.parametrize("realm", ["Überwachung".encode(), "摄像头".encode(), "Überwachung".encode("latin-1")])
def test_a_realm_goes_back_as_it_came(realm):
    it = talk()
    it.asked(request())
    it.answered(b'RTSP/1.0 401 No\r\nCSeq: 2\r\nWWW-Authenticate: Digest realm="' + realm + b'", nonce="n"\r\n\r\n')
    given = it.again.partition(b"Authorization: ")[2]
    assert b'realm="' + realm + b'"' in given

    def md5(*parts):
        return hashlib.md5(b":".join(parts)).hexdigest().encode()

    proof = md5(md5(b"me", realm, PASSWORD.encode()), b"n", md5(b"DESCRIBE", SOURCE.encode()))
    assert b'response="' + proof + b'"' in given


def test_a_digest_is_given_where_the_password_itself_would_do():
    it = talk()
    it.asked(request())
    it.answered(unauthorized(BASIC, SHA256, MD5))
    assert "SHA-256" in header(it.again, "Authorization")


@pytest.mark.parametrize(("login", "challenge"), [(False, MD5), (True, "Bearer"), (True, 'Digest algorithm="x"')])
def test_without_login_or_a_known_way_ffmpeg_is_told(login, challenge):
    it = talk(login=login)
    it.asked(request())
    assert it.answered(unauthorized(challenge)) == said("401 Unauthorized")
    assert it.again == b""


@pytest.mark.parametrize("kind", ["Content-Type: application/sdp", "content-type:application/sdp;x=y"])
def test_the_description_names_the_codecs(kind):
    it = talk()
    it.asked(request())
    described = said("200 OK", 2, kind, body=SDP)
    assert it.answered(described) == described
    assert list(it.codecs) == [96]
    it.answered(said("200 OK", 3))
    assert list(it.codecs) == [96]


@pytest.mark.parametrize(
    ("source", "place", "keeps"),
    [
        (SOURCE, "rtsp://camera.lan/new", True),
        (SOURCE, "rtsp://CAMERA.lan:99/new", True),
        (SOURCE, "rtsps://camera.lan/new", True),
        (SOURCE, "rtsp://other.lan/new", False),
        (SOURCE, "rtsp://camera.lan@other.lan/new", False),
        ("rtsps://camera.lan/x", "rtsp://camera.lan/new", False),
    ],
)
def test_a_camera_that_is_elsewhere_is_followed_and_the_login_stays_where_it_belongs(source, place, keeps):
    it = talk(source)
    it.asked(request())
    it.answered(unauthorized(BASIC))
    assert it.answered(said("302 Found", 3, f"Location: {place}")) == b""
    assert it.settings.source == place.replace("camera.lan@", "")
    assert header(it.again, "CSeq") == "4"
    assert it.again.split()[1].decode() == it.settings.source
    assert header(it.again, "Authorization") is None, "not before it is asked for"
    asked = it.answered(unauthorized(BASIC, number=4))
    assert (asked == b"") == keeps
    assert (it.settings.username, it.settings.password is None) == (("me", False) if keeps else (None, True))


@pytest.mark.parametrize("scheme", ["rtsp", "rtsps"])
@pytest.mark.parametrize(("place", "path"), [("/other?y=2", "/other?y=2"), ("other", "/a/other")])
def test_a_place_may_be_told_from_here(scheme, place, path):
    it = talk(f"{scheme}://camera.lan:8554/a/live?x=1")
    it.asked(request())
    assert it.answered(said("302 Found", 2, f"Location: {place}")) == b""
    assert it.settings.source == f"{scheme}://camera.lan:8554{path}"
    assert it.settings.username == "me"


def test_places_where_nobody_goes():
    for place in ("http://camera.lan/", "rtsp://", "file:///etc/passwd", "rtsp://camera.lan:x/", "rtsp://[/"):
        it = talk()
        it.asked(request())
        with pytest.raises(ValueError, match="sends us to"):
            it.answered(said("302 Found", 2, f"Location: {place}"))
    it = talk()
    it.asked(request("SETUP"))
    with pytest.raises(ValueError, match="on and on"):
        it.answered(said("302 Found", 2, f"Location: {SOURCE}"))
    it = talk()
    it.asked(request())
    for number in range(REDIRECTS):
        it.answered(said("302 Found", 2 + number, f"Location: {SOURCE}"))
    with pytest.raises(ValueError, match="on and on"):
        it.answered(said("302 Found", 2 + REDIRECTS, f"Location: {SOURCE}"))
    nowhere = said("304 Not Modified")
    assert talk().answered(nowhere) == nowhere
