"""Who may read what the HTTP server has to tell."""

from __future__ import annotations

import hmac
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from edge.seldom_log import SeldomLog
from edge.settings import MetricsSettings
from edge.web import Request

log = logging.getLogger(__name__)

#: Seconds that a login holds, and how many hold at once; they are lost with the process.
SESSION, MOST_SESSIONS = 12 * 3600.0, 32
#: Names by which this machine calls itself.
OWN_NAMES = ("localhost", "127.0.0.1", "[::1]")
#: What a browser says of a request that another site's page has made (Fetch Metadata).
FOREIGN = ("cross-site", "same-site")


class Guard:
    """Tells who may read.

    Args:
        settings: with the token, if any.
        clock: monotonic seconds.

    Attributes:
        cookie: name of the cookie of a login; another for each port, because browsers do not tell ports apart.
    """

    def __init__(self, settings: MetricsSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, float] = OrderedDict()
        self._warn = SeldomLog(log)
        self.cookie = f"emotion-edge-{settings.port}"

    @property
    def asks(self) -> bool:
        """Tell whether a token is wanted."""
        return not self._settings.open

    def has_token(self, request: Request) -> bool:
        """Tell whether a request brings the token, or none is wanted."""
        kind, _, token = request.header("Authorization").partition(" ")
        if not self.asks:
            return True
        # WSGI hands the bytes of a header over as Latin-1.
        good = kind.lower() == "bearer" and self._is_token(token.strip().encode("latin-1"))
        if kind and not good:
            self._complain(request, "sent another token than metrics.token")
        return good

    def has_session(self, request: Request) -> bool:
        """Tell whether a request brings the cookie of a login."""
        # Not by http.cookies, which takes seconds for some (CVE-2024-7592); what ours holds is never quoted.
        pairs = (part.strip().partition("=") for part in request.header("Cookie").split(";"))
        session = next((value for name, _, value in pairs if name == self.cookie), "")
        with self._lock:
            return self._sessions.get(session, float("-inf")) > self._clock()

    def log_in(self, request: Request, token: str) -> str | None:
        """Begin a session for who knows the token; returns what its cookie holds, none for a wrong token."""
        if not self.asks:
            return None
        if not self._is_token(token.encode("utf-8", "replace")):
            self._complain(request, "tried to log in with another token than metrics.token")
            return None
        session = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[session] = self._clock() + SESSION
            while len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)
        return session

    def called_by_own_name(self, request: Request) -> bool:
        """Tell whether who needs no token calls this machine by a name of its own.

        A page of another site can let its own name lead to 127.0.0.1 and then read, in a browser of this machine, what
        is meant for this machine alone; but the browser sends that name. Where a token is wanted no such page has it.
        """
        if self.asks or not self._settings.local:
            return True
        host = request.header("Host")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        return not host or name.lower() in OWN_NAMES

    @staticmethod
    def from_another_site(request: Request) -> bool:
        """Tell whether a browser says that the page of another site has made the request, other than by a link."""
        origin = request.header("Origin")
        if origin and origin.partition("://")[2].lower() != request.header("Host").lower():
            return True
        link = request.header("Sec-Fetch-Mode") == "navigate" and request.method in ("GET", "HEAD")
        return request.header("Sec-Fetch-Site") in FOREIGN and not link

    def _complain(self, request: Request, what: str) -> None:
        """Warn of who brings a wrong token; once in a while only, from wherever others come meanwhile."""
        self._warn(f"http: {request.peer or 'somebody'} {what}; refused, as are others meanwhile", cause=what)

    def _is_token(self, token: bytes) -> bool:
        expected = self._settings.token
        return expected is not None and hmac.compare_digest(token, expected.get_secret_value().encode())
