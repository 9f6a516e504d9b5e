"""A request and an answer, as pages see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Request:
    """What was asked.

    Attributes:
        method: such as `GET`.
        path: decoded, without the query; begins with a slash unless somebody plays tricks.
        query: as it came.
        headers: by WSGI's names, such as `HTTP_HOST`; bytes beyond ASCII are as Latin-1 has them.
        body: of a POST.
        peer: address of who asks, or of the proxy in between.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    peer: str = ""

    @classmethod
    def of(cls, environ: Mapping[str, Any]) -> Request:
        """Return the request of a WSGI environment."""
        headers = {name: value for name, value in environ.items() if name.startswith("HTTP_") or name == "CONTENT_TYPE"}
        method = environ["REQUEST_METHOD"]
        body = environ["wsgi.input"].read() if method == "POST" else b""
        peer = environ.get("REMOTE_ADDR", "")
        return cls(method, environ["PATH_INFO"], environ["QUERY_STRING"], headers, body, peer)

    def header(self, name: str) -> str:
        """Return a header by its usual name, such as `Host`; empty if it did not come."""
        return self.headers.get(f"HTTP_{name.upper().replace('-', '_')}", "")


@dataclass(frozen=True)
class Answer:
    """What is answered.

    Attributes:
        status: such as 200.
        body: of the answer.
        kind: its content type.
        headers: beside those that every answer has.
    """

    status: int
    body: bytes
    kind: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def line(self) -> str:
        """The status with its words."""
        return f"{self.status} {HTTPStatus(self.status).phrase}"

    def header_lines(self) -> list[tuple[str, str]]:
        """Return all headers. Nothing is kept by a browser or proxy, and nothing taken for what it is not."""
        return [
            ("Content-Type", self.kind),
            ("Content-Length", str(len(self.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *self.headers,
        ]


def said(status: int, text: str, *headers: tuple[str, str]) -> Answer:
    """Answer with a line of text."""
    return Answer(status, f"{text}\n".encode(), headers=headers)
