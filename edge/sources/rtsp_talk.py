"""What FFmpeg and a camera say to each other over RTSP (RFC 2326) by way of the relay. Pure."""

from __future__ import annotations

import re

from edge.digest import Challenge, answer, choice, parse_challenge
from edge.redirect import REDIRECTS, moved
from edge.settings import CameraSettings
from edge.sources.frame_ends import Codec, codecs_of
from edge.sources.rtsp_framing import parts

#: Statuses by which a camera says that it could but does not: forbidden, no bandwidth or transport left, out of
#: service. By others, such as that it does not know what it is asked, it may say that its stream is no good.
REFUSALS = (b"403", b"453", b"461", b"500", b"503")
_NUMBER = re.compile(rb"(?im)^(CSeq:[ \t]*)(\d+)")


class Talk:
    """Passes requests on with the camera's own address and the log-in, answers to requests of FFmpeg's to FFmpeg.

    Args:
        settings: of the camera.
        address: at which FFmpeg asks.

    Attributes:
        settings: of where the camera is, which it may say is elsewhere; without the log-in if that is another host.
        refusal: what the camera refused last of all that leads to a picture, and how; empty if nothing but the first
            of two log-ins.
        wrong_login: whether the log-in was given and refused.
        again: what to ask the camera, before anything else, on account of its answer; empty if nothing.
        codecs: of its video, by payload type, once it has described it.
    """

    def __init__(self, settings: CameraSettings, address: str) -> None:
        self.settings = settings
        self.again = b""
        self.refusal, self.wrong_login = "", False
        self.codecs: dict[int, Codec] = {}
        self._address = address.encode()
        self._challenge: Challenge | None = None
        #: How often it was answered: some cameras take each count once only.
        self._count = 0
        self._request = b""
        self._logged_in = False
        #: Requests that FFmpeg knows nothing of: by so many its numbers are behind.
        self._more = 0
        self._redirects = 0

    def asked(self, message: bytes) -> bytes:
        """Return what to tell the camera in place of a message of FFmpeg's. Raises `ValueError` if it is not FFmpeg."""
        if message.startswith(b"RTSP/"):
            return message
        if not self._request and self._address not in message:
            raise ValueError("somebody else has found the port")
        self._request, self._logged_in = message, False
        return self._written()

    def answered(self, message: bytes) -> bytes:
        """Return what to tell FFmpeg in place of a message of the camera's; none if it is asked again (`again`).

        Raises:
            ValueError: the camera sends us to where we do not go.
        """
        status = re.match(rb"RTSP/\d\.\d (\d{3}) ?([\w ]*)", message)
        if status is None:
            return message
        head, body = parts(message)
        if status[1] == b"401":
            if self._log_in(_values(head, b"WWW-Authenticate")):
                return self._ask_again()
            self.wrong_login = self._logged_in
            # By this FFmpeg would ask once more, and that would be another wrong password, for which cameras lock.
            message = _without(head, b"WWW-Authenticate") + b"\r\n\r\n" + body
        if status[1].startswith(b"3") and (places := _values(head, b"Location")):
            self._move(places[0])
            return self._ask_again()
        if status[1] in REFUSALS and self._request.startswith((b"DESCRIBE ", b"SETUP ", b"PLAY ")):
            what = b"%s (%s %s)" % (self._request.partition(b" ")[0], *status.groups())
            self.refusal = what.decode("ascii", "replace")
        if b"application/sdp" in head.lower():
            self.codecs = codecs_of(body.decode("latin-1"))
        return _numbered(message, -self._more)

    def _log_in(self, challenges: list[str]) -> bool:
        """Tell whether there is an answer to one of the challenges that was not given yet."""
        chosen = choice([parse_challenge(each) for each in challenges])
        if self._logged_in or chosen is None or self.settings.username is None:
            return False
        if self._challenge is None or chosen.parameters.get("nonce") != self._challenge.parameters.get("nonce"):
            self._count = 0
        self._challenge, self._logged_in = chosen, True
        return True

    def _move(self, place: str) -> None:
        self._redirects += 1
        if not self._request.startswith((b"OPTIONS ", b"DESCRIBE ")) or self._redirects > REDIRECTS:
            raise ValueError("the camera sends us on and on")
        self.settings = moved(self.settings, place)
        self._challenge, self._logged_in = None, False

    def _ask_again(self) -> bytes:
        self._more += 1
        self.again = self._written()
        return b""

    def _written(self) -> bytes:
        """Return FFmpeg's last request as the camera gets it."""
        source = self.settings.source.encode("utf-8", "surrogateescape")
        # FFmpeg puts a slash between an address and a track's name, unless the address ends with one: the camera's may.
        request = self._request.replace(self._address + b"/", source.removesuffix(b"/") + b"/")
        request = _numbered(request.replace(self._address, source), self._more)
        if self._challenge is None:
            return request
        method, uri, _ = request.decode("utf-8", "surrogateescape").split(" ", 2)
        password = self.settings.password.get_secret_value() if self.settings.password else ""
        self._count += 1
        login = answer(self._challenge, self.settings.username or "", password, method, uri, count=self._count)
        head, body = parts(request)
        return head + f"\r\nAuthorization: {login}\r\n\r\n".encode("utf-8", "surrogateescape") + body


def _values(head: bytes, name: bytes) -> list[str]:
    """Return what the headers of a message with that name hold."""
    values = re.findall(rb"(?im)^%s:(.*)$" % name, head)
    return [value.decode("utf-8", "surrogateescape").strip() for value in values]


def _without(head: bytes, name: bytes) -> bytes:
    """Return a message's head without the headers of that name."""
    return b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(name.lower() + b":"))


def _numbered(message: bytes, more: int) -> bytes:
    """Return a message with another number."""
    return _NUMBER.sub(lambda found: found[1] + b"%d" % max(0, int(found[2]) + more), message, count=1)
