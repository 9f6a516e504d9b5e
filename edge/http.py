"""`/metrics`, `/healthz` and `/readyz`."""

from __future__ import annotations

import hmac
import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from waitress import wasyncore
from waitress.server import BaseWSGIServer, create_server
from waitress.trigger import trigger

from edge.settings import MetricsSettings

log = logging.getLogger(__name__)

THREADS = 4
#: Seconds for the thread to end in, which takes it no time unless a socket keeps it.
STOP = 1.0


class HttpError(OSError):
    """The address cannot be listened on; the message says which and why."""


class HttpServer:
    """Serves the daemon's figures.

    Args:
        settings: where to listen.
        metrics: gives the text of `/metrics`.
        alive: tells whether every thread makes progress.
        ready: tells whether events can be made and delivered.
    """

    def __init__(
        self,
        settings: MetricsSettings,
        metrics: Callable[[], bytes],
        alive: Callable[[], bool],
        ready: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._alive = alive
        self._ready = ready
        # All that the thread listens to, by file number: ours to close, with the connections that readers keep open.
        self._sockets: dict[int, Any] = {}
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

    def start(self) -> None:
        """Listen. Raises `HttpError`."""
        where = f"{self._settings.host}:{self._settings.port}"
        if self._settings.open and not self._settings.local:
            log.warning("metrics: whoever reaches %s can read them; metrics.token would ask for a token", where)
        self._wake = trigger(self._sockets)
        try:
            create_server(
                self._answer,
                map=self._sockets,
                host=self._settings.host,
                port=self._settings.port,
                threads=THREADS,
                ident=None,
            )
        except OSError as error:
            self._close()
            raise HttpError(f"{where}: {error.strerror}; choose another metrics.port") from None
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and end every connection; the port is free, and nothing of this server left, on return."""
        if self._thread.is_alive():
            # In its own thread, which must not find a socket closed, or given out anew, while it waits for it.
            self._wake.pull_trigger(self._close)
            self._thread.join(STOP)

    def _serve(self) -> None:
        wasyncore.loop(map=self._sockets)  # ends with the last socket

    def _close(self) -> None:
        """End the threads that make answers, and close all sockets, of a server that could not be started too."""
        for server in list(self._sockets.values()):
            if isinstance(server, BaseWSGIServer):
                server.task_dispatcher.shutdown(timeout=STOP / 2)
        wasyncore.close_all(self._sockets, ignore_all=True)

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        status, kind, body = self._page(
            environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("HTTP_AUTHORIZATION", "")
        )
        headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
        if status.startswith("401"):
            headers.append(("WWW-Authenticate", "Bearer"))
        start_response(status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _page(self, method: str, path: str, authorization: str) -> tuple[str, str, bytes]:
        plain = "text/plain; charset=utf-8"
        if method not in ("GET", "HEAD"):
            return "405 Method Not Allowed", plain, b"only GET\n"
        if path == "/metrics":
            if not self._may_read(authorization):
                return "401 Unauthorized", plain, b"wants the token of the settings\n"
            return "200 OK", CONTENT_TYPE_PLAIN_0_0_4, self._metrics()
        if path == "/healthz":
            alive = self._alive()
            return ("200 OK" if alive else "503 Service Unavailable"), plain, b"ok\n" if alive else b"no progress\n"
        if path == "/readyz":
            ready = self._ready()
            return ("200 OK" if ready else "503 Service Unavailable"), plain, b"ready\n" if ready else b"not ready\n"
        return "404 Not Found", plain, b"see /metrics, /healthz, /readyz\n"

    def _may_read(self, authorization: str) -> bool:
        if self._settings.open or self._settings.token is None:
            return True
        kind, _, token = authorization.partition(" ")
        expected = self._settings.token.get_secret_value().encode()
        # WSGI hands the bytes of a header over as Latin-1.
        return kind.lower() == "bearer" and hmac.compare_digest(token.strip().encode("latin-1"), expected)
