"""Connections to the HTTP server, none of which can keep the others from being answered.

A thread makes one answer at a time and never waits for who reads it: the loop sends what is left of it. So a slow
client costs a connection only, and of those there is a bounded number: the one that has been longest at what it is at
makes room.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError

#: Connections at once.
MOST = 64
#: Seconds that a client may take to send a request, or its first one; to take in an answer; and from then to the next
#: request, which is long enough for a Prometheus that scrapes once a minute to keep its connection.
ASKING, READING, RESTING = 10.0, 30.0, 120.0
#: What `waitress.create_server` is told. No body of ours is large: only a login has one. Answers stay in memory until
#: they are read and never go to a temporary file, because they can be pictures.
LIMITS = {
    "connection_limit": 2 * MOST,  # never reached: we make room first
    "max_request_header_size": 16_384,
    "max_request_body_size": 4096,
    "outbuf_overflow": 1 << 26,
    "log_socket_errors": False,
}


class Parser(HTTPRequestParser):  # type: ignore[misc]
    """Waitress' parser, which lets exceptions through: for `GET http://[::1`, or a length of five thousand digits."""

    def parse_header(self, header_plus: bytes) -> None:
        """Take in a request's first line and headers. Raises `ParsingError`, which is answered with 400."""
        try:
            super().parse_header(header_plus)
        except ValueError:
            raise ParsingError("Bad request") from None


class Connection(HTTPChannel):  # type: ignore[misc]
    """A connection that knows since when it has been at what it is at, and answers one request at a time.

    Attributes:
        since: monotonic seconds: of its beginning, the first byte of a request, or its answer.
    """

    parser_class = Parser
    requests: list[Any]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.since = time.monotonic()
        self._limit = ASKING

    def received(self, data: bytes) -> bool:
        """Take in bytes from the client."""
        if self.request is None:
            self.since, self._limit = time.monotonic(), ASKING
        return bool(super().received(data))

    def service(self) -> None:
        """Answer the first request; who sends more before he has read the answer has the connection closed after it.

        Otherwise many answers could wait, of which waitress lets its threads wait for a reader that may never read.
        """
        with self.requests_lock:
            if len(self.requests) > 1:
                self.requests[0].headers["CONNECTION"] = "close"
        super().service()
        self.since, self._limit = time.monotonic(), RESTING

    def overdue(self, now: float) -> bool:
        """Tell whether the client takes too long, at a moment of the monotonic clock."""
        limit = READING if self.total_outbufs_len else self._limit
        return not self.requests and now - self.since > limit


def tidy(sockets: Iterable[object], now: float) -> None:
    """Close connections that take too long, then those that have taken longest, until there are at most `MOST`.

    In the thread of the loop that serves them.
    """
    kept = []
    for connection in [each for each in sockets if isinstance(each, Connection)]:
        if connection.overdue(now):
            connection.handle_close()
        else:
            kept.append(connection)
    if len(kept) > MOST:
        idle = sorted((each for each in kept if not each.requests), key=lambda each: each.since)
        for connection in idle[: len(kept) - MOST]:
            connection.handle_close()
