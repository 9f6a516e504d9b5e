"""Finds out why a network camera gives no frames, by asking it: OpenCV does not tell.

Connects, with TLS where the address says so, then speaks as much RTSP or HTTP as it takes to be refused or described.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import ssl
import string
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from edge.digest import Challenge, answer, choice, parse_challenge
from edge.frames import CaptureError
from edge.redirect import REDIRECTS, moved
from edge.settings import CameraSettings
from edge.terminal import shown

#: Seconds for all of it.
TIMEOUT = 3.0
DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
#: Where systems keep the certificates of the authorities that they trust, in one file.
SYSTEM_AUTHORITIES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/cert.pem"),
)
LARGEST_ANSWER = 65536
#: HTTP statuses that say that the method is not known, not that something is wrong.
NO_SUCH_METHOD = (400, 405, 501)


@dataclass(frozen=True)
class Answer:
    """What a server said: status, reason, every log-in challenge, and the rest of it that matters.

    Attributes:
        location: where it says to ask instead.
    """

    status: int
    text: str
    challenges: Sequence[Challenge] = ()
    kind: str = ""
    body: str = ""
    location: str = ""


class _Ask(Protocol):
    """Sends one request, with an `Authorization` header if given, and returns the answer."""

    def __call__(self, authorization: str | None) -> Answer: ...


def explain(settings: CameraSettings) -> CaptureError | None:
    """Return why a network camera gives no frames; none if nothing is wrong with it."""
    where = place(settings.source)
    try:
        if _speaks_rtsp(settings):
            return _explain_rtsp(settings)
        return _explain_http(settings, where)
    except CaptureError as error:
        return error
    except TimeoutError:
        return _silent(where)
    except (OSError, http.client.HTTPException):
        return _closed(where)
    except ValueError as error:
        return CaptureError("unreadable", f"{where}: answers what is not understood: {error}")


def silence(settings: CameraSettings) -> CaptureError | None:
    """Return why a network camera does not answer at all, whatever it would answer; none if it does.

    With TLS it also is none of ours if its certificate is not to be trusted (`tls`).
    """
    deadline = time.monotonic() + TIMEOUT
    try:
        if _speaks_rtsp(settings):
            with connect(settings, deadline) as connection:
                _Rtsp(connection, settings.source, deadline).request("OPTIONS", None)
        else:
            # Not HEAD: some take no notice of what they do not know.
            _http(settings, deadline, "GET", _path(settings), None)
    except CaptureError as error:
        return error
    except TimeoutError:
        return _silent(place(settings.source))
    except (OSError, http.client.HTTPException, ValueError):
        return None  # it hangs up, or answers oddly, and will at once on whoever asks more
    return None


def authorities(settings: CameraSettings) -> Path:
    """Return the file with the certificates that a camera's may be signed by. Raises `CaptureError`."""
    if settings.tls.ca is not None:
        return settings.tls.ca
    for path in SYSTEM_AUTHORITIES:
        if path.is_file():
            return path
    raise CaptureError("tls", "this system has no file of trusted certificates; name one as tls.ca")


def connect(settings: CameraSettings, deadline: float) -> socket.socket:
    """Connect to a camera, with TLS if its address says so. Raises `CaptureError`."""
    parts = urlsplit(settings.source)
    where = place(settings.source)
    try:
        plain = socket.create_connection((parts.hostname, _port(parts)), timeout=_left(deadline))
    except (socket.gaierror, UnicodeError):  # the latter for a name that can be none, such as a..b
        raise CaptureError("not_found", f"{where}: no such host; check the address") from None
    except TimeoutError:
        raise CaptureError("timeout", f"{where}: no answer within {TIMEOUT:g} s; is it switched on?") from None
    except OSError as error:
        raise CaptureError("refused", f"{where}: {error.strerror or error}; check the port") from None
    if not settings.encrypted:
        return plain
    try:
        plain.settimeout(_left(deadline))
        return _context(settings).wrap_socket(plain, server_hostname=parts.hostname)
    except TimeoutError:
        plain.close()
        raise CaptureError("timeout", f"{where}: connected, but no TLS within {TIMEOUT:g} s") from None
    except ssl.SSLCertVerificationError as error:
        plain.close()
        advice = "name the file of its authority as tls.ca, or set tls.insecure"
        raise CaptureError("tls", f"{where}: certificate: {error.verify_message}; {advice}") from None
    except (ssl.SSLError, OSError) as error:
        plain.close()
        text = getattr(error, "reason", None) or error.strerror or error
        raise CaptureError("tls", f"{where}: no TLS here ({text}); check scheme and port") from None


def _context(settings: CameraSettings) -> ssl.SSLContext:
    if settings.tls.insecure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    return ssl.create_default_context(cafile=str(authorities(settings)))


def _explain_rtsp(settings: CameraSettings) -> CaptureError | None:
    deadline = time.monotonic() + TIMEOUT
    for _ in range(REDIRECTS + 1):
        where = place(settings.source)
        try:
            described, used = _described(settings, deadline)
        except TimeoutError:
            return _silent(where)
        except OSError:
            return _closed(where)
        if not (300 <= described.status < 400 and described.location):
            break
        try:
            settings = moved(settings, described.location)
        except ValueError as error:
            return CaptureError("refused", f"{where}: {error}; name the stream's own address")
    else:
        return CaptureError("refused", f"{where}: sends us on and on; name the stream's own address")
    refused = _refusal(settings, where, described, used)
    if refused is not None:
        return refused
    codecs = ", ".join(_video_codecs(described.body))
    if not codecs:
        return CaptureError("codec", f"{where}: the stream has no video; check the path")
    advice = "choose H.264 in the camera, or another stream of it"
    return CaptureError("codec", f"{where}: describes its video ({codecs}), but no frame of it came; {advice}")


def _described(settings: CameraSettings, deadline: float) -> tuple[Answer, Challenge | None]:
    """Return what a camera answers to DESCRIBE, and the challenge that was answered for it."""
    with connect(settings, deadline) as connection:
        talk = _Rtsp(connection, settings.source, deadline)
        # Its answer does not matter, as long as it is RTSP: some cameras refuse OPTIONS and answer DESCRIBE.
        talk.request("OPTIONS", None)
        return _with_login(settings, "DESCRIBE", settings.source, lambda a: talk.request("DESCRIBE", a))


def _explain_http(settings: CameraSettings, where: str) -> CaptureError | None:
    deadline = time.monotonic() + TIMEOUT
    path = _path(settings)

    def ask(method: str) -> tuple[Answer, Challenge | None]:
        return _with_login(settings, method, path, lambda a: _http(settings, deadline, method, path, a))

    said, used = ask("HEAD")
    if said.status in NO_SUCH_METHOD:
        said, used = ask("GET")
    refused = _refusal(settings, where, said, used)
    if refused is not None:
        return refused
    if 300 <= said.status < 400 and said.location:  # which FFmpeg would have followed if it could
        there = urlsplit(urljoin(settings.source, said.location))
        address = shown(there._replace(netloc=there.netloc.rpartition("@")[2]).geturl())
        return CaptureError("refused", f"{where}: sends us to {address}; name that address if it is the camera's")
    kind = said.kind.partition(";")[0] or "nothing"
    if not kind.startswith(("multipart/", "video/", "image/", "application/")):
        return CaptureError("unreadable", f"{where}: gives {kind}, no video; check the path")
    return None


def _with_login(settings: CameraSettings, method: str, uri: str, ask: _Ask) -> tuple[Answer, Challenge | None]:
    """Ask, and if a log-in is wanted and there is one, ask again with it; returns the challenge answered too."""
    said = ask(None)
    challenges = said.challenges
    if not _speaks_rtsp(settings):
        # FFmpeg's way, so that what it cannot do stands out. In RTSP it is not FFmpeg that logs in.
        challenges = [each for each in challenges if each.known() and _ffmpeg_knows(each)] or challenges
    chosen = choice(challenges)
    if said.status != 401 or settings.username is None or chosen is None:
        return said, None
    password = settings.password.get_secret_value() if settings.password else ""
    return ask(answer(chosen, settings.username, password, method, uri)), chosen


def _refusal(settings: CameraSettings, where: str, said: Answer, used: Challenge | None) -> CaptureError | None:
    """Return the typed reason of an answer that is no success."""
    status = f"{said.status} {said.text}".strip()
    if said.status == 401:
        if settings.username is None:
            return CaptureError("auth", f"{where}: wants a login; give username and password")
        if used is None:
            schemes = ", ".join(challenge.scheme for challenge in said.challenges) or "none named"
            return CaptureError("auth", f"{where}: wants a login of a kind that is not known ({schemes})")
        return CaptureError("auth", f"{where}: username or password is wrong ({status})")
    if said.status == 403:
        return CaptureError("auth", f"{where}: the user may not see this stream ({status})")
    if said.status in (404, 410):
        return CaptureError("not_found", f"{where}: no such stream ({status}); check the path")
    if not 200 <= said.status < 400:
        return CaptureError("refused", f"{where}: the camera refuses ({status})")
    if used is not None and not _ffmpeg_knows(used) and not _speaks_rtsp(settings):
        advice = "which OpenCV's FFmpeg does not know; allow MD5 or Basic in the camera"
        return CaptureError("auth", f"{where}: takes the login only as Digest with {used.algorithm}, {advice}")
    return None


def _ffmpeg_knows(challenge: Challenge) -> bool:
    return challenge.scheme == "basic" or challenge.algorithm == "MD5"


class _Rtsp:
    """Requests and answers of RTSP (RFC 2326) over one connection."""

    def __init__(self, connection: socket.socket, url: str, deadline: float) -> None:
        self._connection = connection
        self._url = url
        self._deadline = deadline
        self._sequence = 0
        self._unread = b""

    def request(self, method: str, authorization: str | None) -> Answer:
        self._sequence += 1
        lines = [f"{method} {self._url} RTSP/1.0", f"CSeq: {self._sequence}", "User-Agent: emotion-edge"]
        if method == "DESCRIBE":
            lines.append("Accept: application/sdp")
        if authorization is not None:
            lines.append(f"Authorization: {authorization}")
        self._connection.settimeout(_left(self._deadline))
        self._connection.sendall("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape"))
        head = self._read(_head_end).decode("latin-1")
        first, *fields = re.split(r"\r?\n", head.strip("\r\n"))
        found = re.match(r"RTSP/\d\.\d (\d{3}) ?(.*)", first)
        if found is None:
            where = place(self._url)
            raise CaptureError("unreadable", f"{where}: answers, but not in RTSP; check scheme and port")
        headers = [(name.strip().lower(), value.strip()) for name, _, value in (f.partition(":") for f in fields)]
        lengths = [value for name, value in headers if name == "content-length" and re.fullmatch("[0-9]{1,9}", value)]
        length = int(lengths[0]) if lengths else 0
        body = self._read(lambda text: length if len(text) >= length else 0) if length else b""
        challenges = [parse_challenge(_as_text(value)) for name, value in headers if name == "www-authenticate"]
        location = next((_as_text(value) for name, value in headers if name == "location"), "")
        return Answer(int(found[1]), found[2], challenges, body=body.decode("latin-1"), location=location)

    def _read(self, complete: Callable[[bytes], int]) -> bytes:
        """Read until `complete` returns how much of what was read belongs together."""
        while not (count := complete(self._unread)):
            self._connection.settimeout(_left(self._deadline))
            got = self._connection.recv(4096)
            if time.monotonic() >= self._deadline:  # byte by byte it would never be
                raise TimeoutError
            if not got or len(self._unread) > LARGEST_ANSWER:
                raise ConnectionResetError
            self._unread += got
        result, self._unread = self._unread[:count], self._unread[count:]
        return result


def _head_end(text: bytes) -> int:
    """Return where the head of an answer ends, some of which have line feeds alone; 0 if that has not come yet.

    Blank lines before it are borne.
    """
    found = re.search(rb"[^\r\n]\r?\n\r?\n", text)
    return found.end() if found else 0


def _http(settings: CameraSettings, deadline: float, method: str, path: str, authorization: str | None) -> Answer:
    parts = urlsplit(settings.source)
    connection = http.client.HTTPConnection(parts.hostname or "", _port(parts))
    connection.sock = connect(settings, deadline)
    # Byte by byte an answer would never be late.
    limit = threading.Timer(_left(deadline), _cut_off, [connection.sock])
    limit.daemon = True
    try:
        limit.start()
        connection.sock.settimeout(_left(deadline))
        headers = {"User-Agent": b"emotion-edge"}
        if authorization is not None:
            headers["Authorization"] = authorization.encode("utf-8", "surrogateescape")
        connection.request(method, path, headers=headers)
        said = connection.getresponse()
        if time.monotonic() >= deadline:  # headers that were cut off count as all of them
            raise TimeoutError
        challenges = [parse_challenge(_as_text(value)) for value in said.headers.get_all("WWW-Authenticate", [])]
        location = _as_text(said.headers.get("Location", ""))
        return Answer(said.status, said.reason, challenges, said.headers.get("Content-Type", ""), location=location)
    except RuntimeError as error:  # there can be no more threads
        raise CaptureError("unreadable", f"{place(settings.source)}: cannot be asked: {error}") from None
    except (OSError, http.client.HTTPException):
        if time.monotonic() >= deadline:
            raise TimeoutError from None
        raise
    finally:
        limit.cancel()
        connection.close()


def _cut_off(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        connection.shutdown(socket.SHUT_RDWR)


def _as_text(header: str) -> str:
    """Return what was read as Latin-1, as HTTP has it, as the UTF-8 that it is more often."""
    return header.encode("latin-1").decode("utf-8", "surrogateescape")


def _closed(where: str) -> CaptureError:
    advice = "check scheme and port, and whether it has connections left"
    return CaptureError("ended", f"{where}: closes the connection instead of answering; {advice}")


def _video_codecs(description: str) -> list[str]:
    """Return the codecs of the video of a session description (RFC 8866)."""
    codecs, video = [], False
    for line in description.splitlines():
        if line.startswith("m="):
            video = line.startswith("m=video")
            if video:
                codecs.append(f"payload {line.split()[-1]}")
        elif video and (found := re.match(r"a=rtpmap:\d+ ([^/\s]+)", line)):
            codecs[-1] = found[1]
    return codecs


def _speaks_rtsp(settings: CameraSettings) -> bool:
    return urlsplit(settings.source).scheme.startswith("rtsp")


def _path(settings: CameraSettings) -> str:
    path = urlsplit(settings.source)._replace(scheme="", netloc="", fragment="").geturl() or "/"
    return quote(path, safe=string.punctuation)  # what is no ASCII, and spaces


def _silent(where: str) -> CaptureError:
    return CaptureError("timeout", f"{where}: connected, but no answer within {TIMEOUT:g} s")


def _port(parts: SplitResult) -> int:
    return parts.port or DEFAULT_PORTS[parts.scheme]


def place(source: str) -> str:
    """Return host and port of a network camera's address, for messages."""
    parts = urlsplit(source)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return shown(f"{host}:{_port(parts)}")


def _left(deadline: float) -> float:
    """Return the seconds left; never 0, which would mean not to wait at all."""
    return max(0.01, deadline - time.monotonic())
