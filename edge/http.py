"""The HTTP server: `/metrics`, `/healthz`, `/readyz`, and the preview if there is one."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from waitress import wasyncore
from waitress.server import BaseWSGIServer, create_server
from waitress.trigger import trigger

from edge.connections import LIMITS, Connection, tidy
from edge.guard import Guard
from edge.settings import MetricsSettings
from edge.web import Answer, Request, said

log = logging.getLogger(__name__)

THREADS = 4
#: Seconds for the thread to end in, which takes it no time unless a socket keeps it.
STOP = 1.0
#: Seconds between looks at connections on which nothing happens.
TIDY = 2.0


class HttpError(OSError):
    """The address cannot be listened on; the message says which and why."""


class Pages(Protocol):
    """More pages; the preview is some."""

    def answer(self, request: Request, guard: Guard) -> Answer | None:
        """Answer a request; none for a path that is not of these pages."""


class HttpServer:
    """Serves the daemon's figures.

    Args:
        settings: where to listen.
        metrics: gives the text of `/metrics`.
        alive: tells whether every thread makes progress.
        ready: tells whether events can be made and delivered.
        preview: answers what lies below `/preview`, if anything does.
    """

    def __init__(
        self,
        settings: MetricsSettings,
        metrics: Callable[[], bytes],
        alive: Callable[[], bool],
        ready: Callable[[], bool],
        preview: Pages | None = None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._alive = alive
        self._ready = ready
        self._preview = preview
        self._guard = Guard(settings)
        # All that the thread listens to, by file number: ours to close, with the connections that readers keep open.
        self._sockets: dict[int, Any] = {}
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

    def start(self) -> None:
        """Listen. Raises `HttpError`."""
        where = f"{self._settings.host}:{self._settings.port}"
        if self._settings.open and not self._settings.local:
            log.warning("metrics: whoever reaches %s can read them; metrics.token would ask for a token", where)
        # Requests may wait for a thread; that is no news.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._wake = trigger(self._sockets)
        try:
            create_server(
                self._respond,
                map=self._sockets,
                host=self._settings.host,
                port=self._settings.port,
                threads=THREADS,
                ident=None,
                **LIMITS,
            )
        except ValueError:  # so waitress says it
            self._close()
            raise HttpError(f"metrics.host: {self._settings.host}: no such address; name one of this machine") from None
        except OSError as error:
            self._close()
            if error.errno == errno.EADDRNOTAVAIL:
                raise HttpError(f"metrics.host: {self._settings.host}: {error.strerror}; choose another host") from None
            raise HttpError(f"metrics.port: {where}: {error.strerror}; choose another port") from None
        for server in self._servers():
            server.channel_class = Connection
        if self._preview:
            log.info("preview: %s/preview", self._settings.address)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and end every connection; the port is free, and nothing of this server left, on return."""
        if self._thread.is_alive():
            # In its own thread, which must not find a socket closed, or given out anew, while it waits for it.
            self._wake.pull_trigger(self._close)
            self._thread.join(STOP)

    def _serve(self) -> None:
        while self._sockets:  # until the last is closed
            wasyncore.poll2(TIDY, self._sockets)
            tidy(list(self._sockets.values()), time.monotonic())

    def _servers(self) -> list[Any]:
        return [each for each in self._sockets.values() if isinstance(each, BaseWSGIServer)]

    def _close(self) -> None:
        """End the threads that make answers, and close all sockets, of a server that could not be started too."""
        for server in self._servers():
            server.task_dispatcher.shutdown(timeout=STOP / 2)
        wasyncore.close_all(self._sockets, ignore_all=True)

    def _respond(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Request.of(environ)
        answer = self._answer(request)
        start_response(answer.line, answer.header_lines())
        return [] if request.method == "HEAD" else [answer.body]

    def _answer(self, request: Request) -> Answer:
        answer = self._preview.answer(request, self._guard) if self._preview else None
        if answer is not None:
            return answer
        if request.method not in ("GET", "HEAD"):
            return said(405, "only GET", ("Allow", "GET, HEAD"))
        if request.path == "/metrics":
            return self._figures(request)
        if request.path == "/healthz":
            return said(200, "ok") if self._alive() else said(503, "no progress")
        if request.path == "/readyz":
            return said(200, "ready") if self._ready() else said(503, "not ready")
        return said(404, f"see /metrics, /healthz, /readyz{', /preview' if self._preview else ''}")

    def _figures(self, request: Request) -> Answer:
        if self._guard.from_another_site(request):
            return said(403, "another site's page cannot ask for this")
        if not self._guard.has_token(request):
            return said(401, "wants the token of the settings", ("WWW-Authenticate", "Bearer"))
        if self._settings.token is None and not self._guard.called_by_own_name(request):
            return said(403, "by another name than localhost or 127.0.0.1 this wants metrics.token in the settings")
        return Answer(200, self._metrics(), CONTENT_TYPE_PLAIN_0_0_4)
