"""`/metrics`, `/healthz` and `/readyz`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from waitress.server import create_server

from edge.settings import MetricsSettings

THREADS = 4


class HttpError(OSError):
    """The address cannot be listened on; the message says which and why."""


class HttpServer:
    """Serves the daemon's figures on the loopback interface.

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
        self._server: Any = None
        self._stopped = False

    def start(self) -> None:
        """Listen. Raises `HttpError`."""
        where = f"{self._settings.host}:{self._settings.port}"
        try:
            self._server = create_server(
                self._answer, host=self._settings.host, port=self._settings.port, threads=THREADS, ident=None
            )
        except OSError as error:
            raise HttpError(f"{where}: {error.strerror}; choose another metrics.port") from None
        threading.Thread(target=self._serve, name="http", daemon=True).start()

    def stop(self) -> None:
        """Stop listening."""
        self._stopped = True
        if self._server is not None:
            self._server.close()

    def _serve(self) -> None:
        try:
            self._server.run()
        except OSError:  # select() finds its sockets closed by `stop`
            if not self._stopped:
                raise

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        status, kind, body = self._page(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
        start_response(status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def _page(self, method: str, path: str) -> tuple[str, str, bytes]:
        plain = "text/plain; charset=utf-8"
        if method not in ("GET", "HEAD"):
            return "405 Method Not Allowed", plain, b"only GET\n"
        if path == "/metrics":
            return "200 OK", CONTENT_TYPE_PLAIN_0_0_4, self._metrics()
        if path == "/healthz":
            alive = self._alive()
            return ("200 OK" if alive else "503 Service Unavailable"), plain, b"ok\n" if alive else b"no progress\n"
        if path == "/readyz":
            ready = self._ready()
            return ("200 OK" if ready else "503 Service Unavailable"), plain, b"ready\n" if ready else b"not ready\n"
        return "404 Not Found", plain, b"see /metrics, /healthz, /readyz\n"
