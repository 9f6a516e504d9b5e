"""Connections that are slow, idle, large or many, with real sockets: the others are answered all the same."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from edge import connections
from edge.connections import MOST
from edge.http import HttpServer
from edge.settings import MetricsSettings
from tests.parts import HOST, free_port

#: Larger than what the system takes in for a reader that does not read.
TEXT = b"x" * 4_000_000


@pytest.fixture
def port() -> Iterator[int]:
    """A server, and where it listens."""
    settings = MetricsSettings(port=free_port())
    server = HttpServer(settings, lambda: TEXT, lambda: True, lambda: True)
    server.start()
    yield settings.port
    server.stop()


@pytest.fixture
def connect(port: int) -> Iterator[Callable[..., socket.socket]]:
    """Connect; what is sent at once may be given."""
    with ExitStack() as stack:

        def opened(data: bytes = b"", receive: int = 0) -> socket.socket:
            line = stack.enter_context(socket.socket())
            line.settimeout(20)
            if receive:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
            line.connect((HOST, port))
            line.sendall(data)
            return line

        yield opened


@pytest.fixture
def asked(connect: Callable[..., socket.socket]) -> Callable[..., bytes]:
    """Send bytes and return everything that comes until the connection ends."""
    return lambda data: _rest(connect(data))


def _rest(line: socket.socket) -> bytes:
    chunks = []
    try:
        while chunk := line.recv(65536):
            chunks.append(chunk)
    except ConnectionResetError:  # closed while we were still sending
        pass
    return b"".join(chunks)


def _answers(port: int) -> None:
    """Check that both pages that others depend on are answered."""
    for page, start in ((b"/healthz", b"HTTP/1.0 200 OK"), (b"/metrics", b"HTTP/1.0 200 OK")):
        with socket.create_connection((HOST, port), 10) as line:
            line.sendall(b"GET " + page + b" HTTP/1.0\r\n\r\n")
            assert _rest(line).startswith(start)


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n"], ids=["silent", "unfinished"])
def test_hundreds_of_idle_connections_keep_nobody_from_an_answer(
    port: int, connect: Callable[..., socket.socket], sent: bytes
) -> None:
    idle = [connect(sent) for _ in range(5 * MOST)]
    _answers(port)
    # Those that came first made room, at once.
    idle[0].settimeout(6)  # less than what each may take
    assert idle[0].recv(1) == b""
    idle[-1].settimeout(0.1)
    with pytest.raises(TimeoutError):
        idle[-1].recv(1)


def test_connections_that_drip_keep_nobody_from_an_answer(port: int, connect: Callable[..., socket.socket]) -> None:
    lines = [connect(b"GET /metrics HTTP/1.1\r\n") for _ in range(MOST + 20)]
    for _ in range(5):
        for line in lines:
            try:
                line.sendall(b"a: b\r\n")
            except OSError:  # it was closed
                continue
        _answers(port)


def test_readers_that_do_not_read_keep_nobody_from_an_answer(port: int, connect: Callable[..., socket.socket]) -> None:
    """More of them than there are threads, each with many answers asked for at once."""
    for _ in range(20):
        connect(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200, receive=4096)
    _answers(port)


def test_answers_wait_in_memory_for_their_reader(
    port: int, connect: Callable[..., socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not in temporary files: they can be pictures."""
    files = []
    make = tempfile.TemporaryFile

    def made(*arguments: Any, **named: Any) -> Any:
        files.append(arguments)
        return make(*arguments, **named)

    monkeypatch.setattr(tempfile, "TemporaryFile", made)
    line = connect(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", receive=4096)
    _answers(port)
    assert _rest(line).endswith(TEXT)
    assert files == []


def test_who_asks_before_he_has_the_answer_gets_one_and_the_end(asked: Callable[..., bytes]) -> None:
    answer = asked(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3)
    assert answer.count(b"HTTP/1.1 200 OK") == 1
    assert b"connection: close" in answer.lower()
    assert answer.endswith(TEXT)


def test_who_asks_again_after_the_answer_keeps_the_connection(connect: Callable[..., socket.socket]) -> None:
    line = connect()
    for _ in range(3):
        line.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"ok\n"):
            answer += line.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("limit", "sent", "receive"),
    [
        ("ASKING", b"", 0),
        ("ASKING", b"GET /metrics HTTP/1.1\r\nHost:", 0),
        ("ASKING", b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc", 0),
        ("READING", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 4096),
        ("RESTING", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 0),
    ],
    ids=["says nothing", "does not end its request", "does not send its body", "does not read", "asks no more"],
)
def test_who_takes_too_long_is_cut_off(
    connect: Callable[..., socket.socket], monkeypatch: pytest.MonkeyPatch, limit: str, sent: bytes, receive: int
) -> None:
    monkeypatch.setattr(connections, limit, 0.5)
    line = connect(sent, receive)
    if limit == "READING":
        time.sleep(5)  # longer than the limit and the time between two looks at connections
    closed = time.monotonic() + 9  # sooner than without the patch
    rest = _rest(line)
    assert limit != "READING" or len(rest) < len(TEXT)
    assert time.monotonic() < closed


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"431"),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 4000 + b"\r\n", b"431"),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n" + b"a" * 100_000, b"431"),
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4097\r\n\r\n", b"413"),
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n", b"413"),
        (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + b"fff\r\n" + b"a" * 5000,
            b"413",
        ),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 50_000, b"413"),
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", b"400"),
        (b"GET http://[::1 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", b"501"),
    ],
    ids=[
        "path",
        "headers",
        "a header",
        "body",
        "body beyond numbers",
        "chunk",
        "chunk's length",
        "less",
        "length",
        "address",
        "encoding",
    ],
)
def test_what_is_too_large_or_makes_no_sense_is_refused_and_ended(
    asked: Callable[..., bytes], sent: bytes, status: bytes
) -> None:
    assert asked(sent).startswith(b"HTTP/1.1 " + status) or asked(sent).startswith(b"HTTP/1.0 " + status)


@pytest.mark.parametrize(
    "path",
    [
        *("/../etc/passwd", "/metrics/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2fetc%2fpasswd"),
        *("/%252e%252e/etc/passwd", "/..\\..\\etc\\passwd", "//etc/passwd", "/./metrics", "/metrics/.", "/metrics%00"),
        *("/metrics%00.html", "/%00", "metrics", "*", "/metrics;x", "/%c0%ae%c0%ae/etc/passwd", "file:///etc/passwd"),
        *("http://evil.example/etc/passwd", "/proc/self/environ", "/%ff%fe", "/metrics%0d%0aSet-Cookie:x"),
    ],
)
def test_paths_that_play_tricks_are_no_pages(asked: Callable[..., bytes], path: str) -> None:
    answer = asked(b"GET " + path.encode() + b" HTTP/1.0\r\n\r\n")
    assert answer.startswith((b"HTTP/1.0 404 Not Found", b"HTTP/1.0 400 Bad Request"))
    assert b"root:" not in answer
    assert b"Set-Cookie" not in answer


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "BREW"]
)
def test_only_get_and_head(asked: Callable[..., bytes], method: str) -> None:
    answer = asked(f"{method} /metrics HTTP/1.0\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.0 405 ")
    assert b"allow: get, head" in answer.lower()


def test_another_name_needs_a_token(port: int, asked: Callable[..., bytes]) -> None:
    """A page of another site can let its name lead to this machine, and read what it gets; it cannot hide the name."""
    evil = b"GET /metrics HTTP/1.0\r\nHost: evil.example:%d\r\n\r\n"
    assert asked(evil % port).startswith(b"HTTP/1.0 403")
    assert asked(evil.replace(b"evil.example", b"localhost") % port).startswith(b"HTTP/1.0 200")
    assert asked(evil.replace(b"/metrics", b"/healthz") % port).startswith(b"HTTP/1.0 200"), "which tells nothing"
