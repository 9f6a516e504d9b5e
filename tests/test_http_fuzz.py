"""Requests that nobody would send, thousands of them: none makes an error of ours, none gets what it may not.

`HTTP_FUZZ=10000 python -m pytest tests/test_http_fuzz.py` sends ten thousand; `HTTP_FUZZ_SEED` chooses which.
"""

from __future__ import annotations

import logging
import os
import random
import re
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import pytest

from edge.frames import Frame
from edge.http import HttpServer
from edge.metrics import Figures, Metrics
from edge.preview.pages import Preview
from edge.settings import MetricsSettings
from tests.parts import HOST, eventually, free_port
from tests.parts.samples import LABELS

COUNT = int(os.environ.get("HTTP_FUZZ", "1600"))
SEED = int(os.environ.get("HTTP_FUZZ_SEED", "7"))
TOKEN = "a long random text"
#: At once, and seconds that they are given for their answers: requests that have no end get none.
BATCH, PATIENCE = 40, 0.15
#: What a request may be answered with.
STATUSES = {200, 303, 308, 400, 401, 403, 404, 405, 413, 417, 429, 431, 501, 503}

#: Of each part what is usual, then what is not.
METHODS = (
    [b"GET", b"GET", b"HEAD", b"POST"],
    [b"PUT", b"get", b"", b"G\x00T", b"A" * 300, b"OPTIONS", b"CONNECT", b"PRI", b"GET GET"],
)
PATHS = (
    [
        *(b"/metrics", b"/healthz", b"/readyz", b"/preview", b"/preview/", b"/preview/state", b"/preview/login", b"/"),
        *(b"/preview/camera/door.jpg", b"/preview/page.js", b"/preview/state?viewer=a", b"/preview/camera/door.jpg?1"),
    ],
    [
        *(b"/../../etc/passwd", b"/%2e%2e/%00", b"*", b"http://x/metrics", b"//", b"/preview/camera/../state", b""),
        *(b"/%ff%fe%c0%ae", b"/" + b"a" * 9000, b"?", b"/metrics#x", b"http://[::1", b"/metrics%0d%0aX:%20y"),
        *(b"/preview/state?viewer=" + b"%f0" * 50, b"/preview/state?" + b"&" * 3000, b"/preview/camera/%64oor.jpg"),
        *(b"/\xc3\xa4", b"/metrics%00", b"/preview/login?token=x", b"/preview/camera/\xff.jpg", b"/ /"),
    ],
)
VERSIONS = (
    [b" HTTP/1.1", b" HTTP/1.0"],
    [b"", b" HTTP/9.9", b" HTTP/1.", b" HTTP/2.0", b" FTP/1.1", b" HTTP/1.1 x", b" HTTP/\xb2.0"],
)
HEADERS = (
    [
        *(b"Host: localhost", b"Host: 127.0.0.1:80", b"Connection: close", b"Connection: keep-alive", b"Accept: */*"),
        *(b"Content-Length: 0", b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Expect: 100-continue"),
        *(b"Origin: http://localhost", b"Cookie: a=b", b"Authorization: Bearer x", b"Sec-Fetch-Site: same-origin"),
    ],
    [
        *(b"Host: evil.example", b"Host:", b"Host: a\x00b", b"Host: [", b": x", b"x", b" folded", b"a_b: c"),
        *(b"Content-Length: -1", b"Content-Length: 99999999999999999999999", b"Content-Length: " + b"9" * 5000),
        *(b"Content-Length: 5, 6", b"Content-Length: \xb2", b"Content-Length: 0x5", b"Content-Length:"),
        *(b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: \x0bchunked", b"Expect: tea", b"Expect:"),
        *(b"Connection: upgrade", b"Upgrade: websocket", b"Authorization: Bearer", b"Authorization: \xff\xfe"),
        *(b"Authorization: Basic eDp5", b"Cookie: emotion-edge-1=" + b"x" * 43, b'Cookie: "', b"Cookie: =;;=\x01"),
        *(b"Cookie: a=b; a=c", b"Cookie: \xc3\xa4=1", b"Cookie: $Version=1", b"Origin: null", b"Origin: :// :"),
        *(b"Sec-Fetch-Site: cross-site", b"X-Forwarded-For: ::1", b"Range: bytes=0-", b"Accept-Encoding: \x00"),
        *(b"X" * 5000 + b": y", b"a: " + b"y" * 17_000, b"If-None-Match: *", b"\xff: \xff"),
    ],
)
BODIES = (
    [b"", b"", b"", b"token=", b"hello", b"5\r\nhello\r\n0\r\n\r\n"],
    [
        *(
            b"token=%ff%fe",
            b"token=a&token=b",
            b"&&&==;",
            b"ffffffffffffffff\r\n",
            b"-1\r\n",
            b"0\r\n\r\n",
            b"5\r\nhel",
        ),
        *(b"5;" + b"x" * 900 + b"\r\nhello\r\n0\r\n\r\n", b"\r\n\r\n\r\n", b"x" * 5000, b"5\r\nhelloxx0\r\n\r\n"),
    ],
)
ENDS = ([b"\r\n"], [b"\n", b"\r", b"\n\r", b"\r\n "])


class Target:
    """A server with a preview that somebody looks at.

    Args:
        stack: ends it.
        token: that it wants.
    """

    def __init__(self, stack: ExitStack, token: str | None) -> None:
        metrics = Metrics("fuzzed", "1")
        self.preview = Preview("fuzzed", LABELS, aggregate=False, metrics=metrics)
        self.settings = MetricsSettings.model_validate({"port": free_port(), "token": token})
        server = HttpServer(self.settings, metrics.text, lambda: True, lambda: True, self.preview)
        server.start()
        stack.callback(server.stop)
        self._view = self.preview.add("door", (), (), lambda: Figures(1, 1, {}))
        self._view.status("online", "", paused=False)

    def film(self) -> None:
        """Let the camera see something, and be looked at."""
        now = time.monotonic()
        self._view.describe(LABELS)
        self._view.see(Frame(np.full((48, 64, 3), 90, np.uint8), now, 0.0, now), (), LABELS)


def request(chance: random.Random) -> bytes:
    """Return a request: put together from parts of which some are unusual, and then damaged now and then."""

    def part(parts: tuple[list[bytes], list[bytes]]) -> bytes:
        return chance.choice(parts[chance.random() < 0.15])

    end = chance.choice(ENDS[chance.random() < 0.03])
    first = part(METHODS) + b" " + part(PATHS) + part(VERSIONS)
    lines = [first, *(part(HEADERS) for _ in range(chance.choice([0, 1, 1, 2, 3, 8])))]
    made = end.join(lines) + end * 2 + part(BODIES)
    kind = chance.random()
    if kind < 0.05:
        return chance.randbytes(chance.choice([1, 10, 300, 5000]))
    if kind < 0.15:
        return made[: chance.randrange(len(made) + 1)]
    if kind < 0.35:
        damaged = bytearray(made)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        return bytes(damaged)
    return made * chance.choice([1, 1, 1, 2, 20])


def send(port: int, requests: list[bytes], patience: float = PATIENCE) -> list[bytes]:
    """Send requests, each on a connection of its own, and return what they are answered within some seconds."""
    answers = [b""] * len(requests)
    with selectors.DefaultSelector() as selector, ExitStack() as stack:
        for place, data in enumerate(requests):
            line = stack.enter_context(socket.create_connection((HOST, port), 10))
            line.setblocking(False)
            try:
                line.send(data)
            except OSError:  # closed already, or full
                continue
            selector.register(line, selectors.EVENT_READ, place)
        end = time.monotonic() + patience
        while selector.get_map() and time.monotonic() < end:
            for key, _ in selector.select(0.02):
                try:
                    chunk = key.fileobj.recv(1 << 20)  # type: ignore[union-attr]
                except OSError:
                    chunk = b""
                if not chunk:
                    selector.unregister(key.fileobj)
                answers[key.data] += chunk
    return answers


def statuses(answer: bytes) -> list[int]:
    """Return the statuses of all answers on a connection but those that only ask to go on."""
    found = re.findall(rb"(?:\A|(?<=\n))HTTP/1\.[01] (\d{3}) ", answer)
    return [int(status) for status in found if status != b"100"]


@pytest.mark.parametrize("token", [None, TOKEN], ids=["open", "with a token"])
def test_requests_that_nobody_would_send(
    token: str | None, caplog: pytest.LogCaptureFixture, figure: Callable[[str], None]
) -> None:
    caplog.set_level(logging.INFO)
    threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
    with ExitStack() as stack:
        target = Target(stack, token)
        chance = random.Random(f"{SEED} {token}")
        seen: Counter[int] = Counter()
        for begun in range(0, COUNT // 2, BATCH):
            target.film()
            requests = [request(chance) for _ in range(BATCH)]
            for sent, answer in zip(requests, send(target.settings.port, requests), strict=True):
                found = statuses(answer)
                seen.update(found)
                assert set(found) <= STATUSES, (SEED, begun, sent, answer)
                assert not answer or found or answer.startswith(b"HTTP/1.1 100"), (SEED, begun, sent, answer)
                if token:
                    assert b"emotion_edge_" not in answer, (SEED, begun, sent)
                    assert b"\xff\xd8\xff" not in answer, (SEED, begun, sent)
                    assert token.encode() not in answer, (SEED, begun, sent)
            (health,) = send(target.settings.port, [b"GET /healthz HTTP/1.0\r\n\r\n"], patience=20)
            assert statuses(health) == [200], (SEED, begun)
        errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        wrong_tokens = [line for line in errors if line.startswith("http: 127.0.0.1 ")]
        assert len(wrong_tokens) <= 2, SEED
        assert errors == wrong_tokens, SEED
        assert {200, 400, 404} <= set(seen)
        assert (401 in seen) is bool(token)
    # Fewer than before if what tests before this one left has ended meanwhile.
    eventually(lambda: threading.active_count() <= threads, 30, "end of the threads", threading.enumerate)
    assert len(os.listdir("/proc/self/fd")) <= files
    figure(
        f"fuzzed requests{' with a token set' if token else ''}: {COUNT // 2}, answered {dict(sorted(seen.items()))}"
    )
